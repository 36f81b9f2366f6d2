"""A coincidence as a notice of GCN: it follows the published schemas and ours, and says what the record says."""

import base64
import gzip
import io
import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import jsonschema
import pytest
from astropy.io import fits
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import AwareDatetime

from services.coincidence.notice import MAX_NOTICE_BYTES, NOTICE_SCHEMA, gcn_notice
from shared.errors import InvalidInputError
from shared.events.blob import BlobRef
from shared.events.frb import FrbLocalisation
from shared.events.gw import AlertType
from shared.events.mma import (
    BackgroundRate,
    Coincidence,
    CoincidenceScores,
    CoincidenceType,
    CoincidenceWindow,
    CoincidentBurst,
    CoincidentWave,
)
from shared.schema.records import SCHEMAS
from tests.support.data import needs_shared_data
from tests.support.gcn import DESCRIBED, published_part, validate
from tests.support.skymaps import a_flat_map

ANNOTATIONS = {"title", "description", "$id", "$schema"}


def read_record(name: str) -> Coincidence:
    path = SCHEMAS / "examples" / "coincidence" / "v1" / f"{name}.json"
    return Coincidence.model_validate_json(path.read_text("utf-8"))


def a_record(name: str = "initial", **changes: Any) -> Coincidence:
    """An example with other parts: `wave`, `burst` and `scores` take changes of theirs."""
    record = read_record(name)
    for part in ("wave", "burst", "scores"):
        if isinstance(changes.get(part), dict):
            changes[part] = getattr(record, part).model_copy(update=changes[part])
    return record.model_copy(update=changes)


def notice(record: Coincidence, combined: bytes | None = None, **kwargs: Any) -> dict[str, Any]:
    """The notice, read back after both sets of schemas have had their say."""
    content = gcn_notice(record, combined, mission="TOCSIN", **kwargs)
    decoded: dict[str, Any] = json.loads(content, parse_constant=pytest.fail)
    validate("coincidence", decoded)
    return decoded


def without_words(schema: Any, *, names: bool = False) -> Any:
    """A schema without what is said for people; `names`: its keys are names of properties."""
    if isinstance(schema, dict):
        return {
            key: without_words(value, names=key == "properties")
            for key, value in schema.items()
            if names or key not in ANNOTATIONS
        }
    return [without_words(item) for item in schema] if isinstance(schema, list) else schema


@needs_shared_data
@pytest.mark.parametrize("name", sorted(DESCRIBED))
def test_our_description_of_a_core_schema_says_what_the_published_one_says(name: str) -> None:
    assert DESCRIBED[name] == without_words(published_part(name))


# What each kind of record becomes.


@pytest.mark.parametrize("kind", ["initial", "update", "retraction"])
def test_every_type_of_record_is_a_valid_notice(kind: str) -> None:
    told = notice(read_record(kind), a_flat_map())
    assert told["$schema"] == NOTICE_SCHEMA
    assert (told["alert_type"], told["alert_tense"], told["mission"]) == (kind, "current", "TOCSIN")
    assert told["record_number"] == read_record(kind).revision


def test_a_test_is_called_one() -> None:
    assert notice(a_record(is_test=True))["alert_tense"] == "test"


def test_a_record_of_unknown_type_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="coincidence_type is UNKNOWN"):
        gcn_notice(a_record(coincidence_type=CoincidenceType.UNKNOWN), None, mission="TOCSIN")


def test_both_parents_are_referenced() -> None:
    told = notice(read_record("initial"))
    assert (told["ref_type"], told["ref_instrument"], told["ref_ID"]) == ("GW", "LVK", "S190425z")
    assert told["reference"] == {"igwn.gwalert": "S190425z-initial", "gcn.notices.chime.frb": "FRB20190425A"}
    assert told["event_name"] == ["S190425z", "FRB 20190425A"]
    burst = told["inputs"]["burst"]
    assert (burst["ref_type"], burst["ref_instrument"], burst["ref_ID"]) == ("FRB", "CHIME", "FRB20190425A")


def test_an_uploaded_burst_is_referenced_by_our_own_number() -> None:
    told = notice(a_record(burst={"origin": "upload", "origin_id": None, "tns_name": None}))
    assert told["reference"] == {"igwn.gwalert": "S190425z-initial", "frb.events": "42"}
    assert told["inputs"]["burst"]["ref_instrument"] == "TOCSIN"
    assert told["event_name"] == ["S190425z", "TOCSIN-FRB-42"]


def test_times_are_utc_in_iso_8601_with_microseconds() -> None:
    record = a_record(decided_at=datetime(2019, 4, 25, 10, 48, tzinfo=UTC))
    told = notice(record)
    assert told["alert_datetime"] == "2019-04-25T10:48:00.000000Z"
    assert datetime.fromisoformat(told["trigger_time"]) == record.burst.time
    assert told["trigger_time_error"] == record.burst.time_err_s
    assert told["inputs"]["wave"]["trigger_time"] == "2019-04-25T08:18:05.017553Z"


def test_the_gold_case_says_how_well_the_two_go_together() -> None:
    record = read_record("initial")
    assert record.scores is not None
    told = notice(record)
    assert (told["ra"], told["dec"], told["ra_dec_error"]) == (255.72, 21.52, [0.18, 0.14, 0.0])
    assert told["containment_probability"] == 0.68
    assert (told["dm"], told["dm_error"]) == (128.15774, 0.00016)
    assert (told["far"], told["p_astro"]) == (record.scores.far_space_time_hz, 0.9994)
    assert told["luminosity_distance"] == record.scores.wave_distance_mean_mpc
    assert told["time_offset"] / 3600 == pytest.approx(2.496, abs=5e-4)
    assert (told["overlap_sky"], told["credible_level"], told["n_trials"]) == (7.5, 0.25, 7)
    assert told["far_time"] / told["overlap_sky"] == pytest.approx(told["far"], rel=1e-3)  # rounded in the example


def test_the_window_is_counted_like_the_offset_that_it_holds() -> None:
    told = notice(read_record("initial"))
    earliest, latest = told["window_range"]
    assert (told["window"], earliest, latest) == ("wide", -7200, 86400)
    assert earliest <= told["time_offset"] <= latest


def test_the_inputs_are_told_with_their_hashes() -> None:
    record = read_record("update")
    assert record.scores is not None
    assert record.scores.combined_skymap is not None
    assert record.wave.skymap is not None
    told = notice(record)
    assert told["method_version"] == record.method_version
    assert told["inputs"]["wave"]["alert_event_id"] == str(record.wave.alert_event_id)
    assert told["inputs"]["wave"]["skymap_sha256"] == record.wave.skymap.sha256
    assert told["inputs"]["burst"]["revision"] == record.burst.revision
    assert told["healpix_sha256"] == record.scores.combined_skymap.sha256
    assert told["background"]["rate_per_year"] == 0.0412


def test_a_circle_has_one_radius() -> None:
    circle = FrbLocalisation(
        ra_deg=1, dec_deg=2, semi_major_deg=0.2, semi_minor_deg=0.2, position_angle_deg=0, confidence_level=0.9
    )
    assert notice(a_record(burst={"localisation": circle}))["ra_dec_error"] == 0.2


def test_the_distance_over_the_whole_map_stands_in_for_that_in_the_bursts_direction() -> None:
    told = notice(a_record(scores={"wave_distance_mean_mpc": None, "wave_distance_std_mpc": None}))
    assert (told["luminosity_distance"], told["luminosity_distance_error"]) == (154.62, 44.62)


def test_a_retraction_tells_only_what_is_taken_back_and_why() -> None:
    record = read_record("retraction")
    told = notice(record, a_flat_map())
    assert told["id"] == read_record("initial").coincidence_id
    assert told["additional_info"] == record.reason
    assert told.keys().isdisjoint({"ra", "dec", "dm", "far", "p_astro", "healpix_file", "healpix_url", "overlap_sky"})


def test_what_is_not_known_is_left_out() -> None:
    scores = dict.fromkeys(
        [
            "overlap_sky",
            "overlap_3d",
            "distance_factor",
            "far_space_time_hz",
            "odds",
            "credible_level",
            "combined_skymap",
            "wave_distance_mean_mpc",
            "wave_distance_std_mpc",
        ]
    )
    wave = {
        "distance_mean_mpc": None,
        "distance_std_mpc": None,
        "skymap": None,
        "skymap_event_id": None,
        "search": None,
    }
    told = notice(a_record(burst={"localisation": None, "redshift_low": None}, wave=wave, scores=scores))
    absent = {"ra", "dec", "ra_dec_error", "containment_probability", "redshift", "redshift_range", "far", "odds"}
    absent |= {"luminosity_distance", "luminosity_distance_error", "healpix_file", "healpix_url", "healpix_sha256"}
    assert told.keys().isdisjoint(absent)
    assert told["far_time"] == 6.528e-13


def test_infinite_numbers_are_left_out() -> None:
    told = notice(a_record(scores={"far_space_time_hz": float("inf"), "time_offset_err_s": float("nan")}))
    assert told.keys().isdisjoint({"far", "time_offset_error"})


def test_half_a_position_is_none() -> None:
    halved = FrbLocalisation(
        ra_deg=1, dec_deg=float("nan"), semi_major_deg=1, semi_minor_deg=1, position_angle_deg=0, confidence_level=0.9
    )
    assert "ra" not in notice(a_record(burst={"localisation": halved}))


# The combined map.


def test_the_map_travels_inside_and_opens_as_it_is() -> None:
    combined = a_flat_map()
    told = notice(read_record("initial"), combined)
    content = base64.b64decode(told["healpix_file"], validate=True)
    assert content == combined
    assert "healpix_url" not in told
    with fits.open(io.BytesIO(content)) as opened:
        assert opened[1].header["PIXTYPE"] == "HEALPIX"


def test_a_map_that_makes_the_notice_too_long_is_gzipped() -> None:
    record, combined = read_record("initial"), a_flat_map()
    whole = len(gcn_notice(record, combined, mission="TOCSIN"))
    packed = base64.b64decode(notice(record, combined, max_bytes=whole - 1)["healpix_file"], validate=True)
    assert len(packed) < len(combined)
    assert gzip.decompress(packed) == combined


def test_the_same_record_is_the_same_notice() -> None:
    once, again = (gcn_notice(read_record("initial"), a_flat_map(), mission="TOCSIN") for _ in range(2))
    assert once == again


def test_a_map_that_is_too_long_even_gzipped_is_named_by_its_address() -> None:
    record, combined = read_record("initial"), a_flat_map()
    assert record.scores is not None
    assert record.scores.combined_skymap is not None
    told = notice(record, combined, max_bytes=len(gzip.compress(combined)))
    assert "healpix_file" not in told
    assert told["healpix_url"] == record.scores.combined_skymap.uri


def test_a_map_without_bytes_is_named_by_its_address() -> None:
    assert notice(read_record("initial"))["healpix_url"].startswith("s3://")


def test_a_notice_that_is_too_long_without_any_map_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="without its sky map"):
        gcn_notice(read_record("initial"), None, mission="TOCSIN", max_bytes=100)


def test_a_notice_fits_through_gcns_broker() -> None:
    assert MAX_NOTICE_BYTES < 4 * 2**20


@pytest.mark.parametrize(
    ("key", "value"),
    [("surprise", 1), ("trigger_time", "2019-04-25 10:47:50+00:00"), ("ra", None), ("messenger", "GW")],
)
def test_our_schema_refuses_what_it_does_not_describe(key: str, value: object) -> None:
    told = notice(read_record("initial")) | {key: value}
    with pytest.raises(jsonschema.ValidationError):
        validate("coincidence", told)


# Any record at all.

text = st.text(max_size=12)
KINDS: dict[Any, Any] = {
    bool: st.booleans(),
    int: st.integers(min_value=1, max_value=2**31 - 1),
    float: st.floats(),
    str: text,
    UUID: st.uuids(),
    AwareDatetime: st.datetimes(timezones=st.just(UTC)),
    BlobRef: st.builds(
        BlobRef, uri=text, sha256=st.from_regex(r"[0-9a-f]{64}", fullmatch=True), size=st.just(1), media_type=text
    ),
}
for enum in (AlertType, CoincidenceType, CoincidenceWindow):
    KINDS[enum] = st.sampled_from(enum)


def any_of(model: Any) -> Any:
    """Any value of a model, any optional part there or not."""
    fields = {}
    for name, field in model.model_fields.items():
        kind = KINDS[getattr(field.annotation, "__args__", (field.annotation,))[0]]
        fields[name] = kind if field.is_required() else st.none() | kind
    return st.builds(model, **fields)


for model in (FrbLocalisation, BackgroundRate, CoincidenceScores, CoincidentWave, CoincidentBurst):
    KINDS[model] = any_of(model)
records = any_of(Coincidence).filter(lambda record: record.coincidence_type is not CoincidenceType.UNKNOWN)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(record=records, combined=st.none() | st.binary(max_size=64), max_bytes=st.just(MAX_NOTICE_BYTES) | st.just(4000))
def test_any_record_is_a_valid_notice(record: Coincidence, combined: bytes | None, max_bytes: int) -> None:
    try:
        told = notice(record, combined, max_bytes=max_bytes)
    except InvalidInputError as error:
        assert error.field == "max_bytes"
        return
    assert len(told["reference"]) == 2
    assert "healpix_file" not in told or combined is not None
