"""Notices in GCN's unified schema, and every way in which they differ from it and from each other."""

import json
from datetime import UTC, datetime
from functools import cache
from typing import Any

import jsonschema
import pytest
import referencing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cli.catalogue import read_catalogue
from services.frb_intake.feeds.gcn import CHIME_TOPIC, DSA_110_TOPIC, MAX_NOTICE_BYTES, read_gcn, topic_of_notice
from services.frb_intake.feeds.notice import ErrorEllipse, FrbNotice, NoticeKind
from shared.errors import InvalidInputError
from shared.events.frb import FrbObservation
from tests.support.data import SAMPLES, SHARED_DATA, needs_shared_data

EXAMPLES = sorted((SAMPLES / "gcn").glob("*.json"))
ARRIVAL = datetime(2024, 9, 18, 7, 19, 10, 765268, UTC)


def example(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((SAMPLES / "gcn" / f"{name}.json").read_text())
    return content


def read(content: object, **how: Any) -> FrbNotice:
    return read_gcn(json.dumps(content).encode(), **how)


def a_notice(**changes: object) -> dict[str, Any]:
    """CHIME's detection with some keys changed; None takes a key out."""
    changed = example("chime-frb-detection") | changes
    return {key: value for key, value in changed.items() if value is not None}


def test_a_detection_of_chime_is_read_in_full() -> None:
    notice = read(example("chime-frb-detection"))

    assert (notice.origin, notice.origin_id, notice.kind) == ("CHIME", "427325191", NoticeKind.DETECTION)
    assert (notice.time_of_arrival, notice.time_of_arrival_err_s) == (ARRIVAL, 0.00786431)
    assert notice.reference_frequency_mhz == 400
    assert notice.importance == pytest.approx(0.98713, abs=1e-5)
    assert notice.observation == FrbObservation(
        sampling_time_ms=0.983, bandwidth_mhz=400, centre_frequency_mhz=600, npol=2, tsys_k=50
    )
    measured = notice.measurement
    assert measured is not None
    assert (measured.ra_deg, measured.dec_deg) == (346.77850859547, 12.632485229956252)
    assert (measured.dm_pc_cm3, measured.dm_err_pc_cm3) == (279.422607421875, 0.40437427163124)
    assert (measured.dm_mw_ism_pc_cm3, measured.dm_mw_ism_model) == (37.78909399600771, "NE2001")
    assert measured.snr == 12.698559761047363
    assert (notice.is_test, notice.repeater, notice.unmapped) == (False, False, {})


def test_the_time_at_infinite_frequency_is_written_otherwise_and_read_alike() -> None:
    """A blank and an offset where the other time has T and Z; the dispersion delay ties the two together.

    4.148806 ms GHz^2 (Lorimer & Kramer 2005) times DM / (0.4 GHz)^2; 2 ms is what the errors allow.
    """
    notice = read(example("chime-frb-detection"))

    assert notice.time_of_arrival_inf == datetime(2024, 9, 18, 7, 19, 3, 518831, UTC)
    delay_s = (ARRIVAL - notice.time_of_arrival_inf).total_seconds()
    assert delay_s == pytest.approx(4.148806e-3 * 279.422607 / 0.4**2, abs=2e-3)


def test_the_longer_semi_axis_comes_first_whichever_it_was() -> None:
    """CHIME sends 0.50 deg along north and 0.60 deg along east."""
    measured = read(example("chime-frb-detection")).measurement

    assert measured is not None
    assert (measured.semi_major_deg, measured.semi_minor_deg) == (0.598921231135782, 0.503806986334273)
    assert measured.position_angle_deg == 90


@pytest.mark.parametrize(
    ("error", "ellipse"),
    [
        (0.3, (0.3, 0.3, 0)),
        ([0.3], (0.3, 0.3, 0)),
        ([0.3, 0.2], (0.3, 0.2, 0)),
        ([0.016, 0.02], (0.02, 0.016, 90)),
        ([0.3, 0.2, 200], (0.3, 0.2, 20)),
        ([0.2, 0.3, 135], (0.3, 0.2, 45)),
        (0, (None, None, None)),
        ([0, 0, 0], (None, None, None)),
    ],
)
def test_an_error_of_one_to_three_numbers_is_an_ellipse(error: object, ellipse: tuple[float | None, ...]) -> None:
    measured = read(a_notice(ra_dec_error=error)).measurement

    assert measured is not None
    assert (measured.semi_major_deg, measured.semi_minor_deg, measured.position_angle_deg) == ellipse
    assert measured.confidence_level == (None if ellipse[0] is None else 0.9)


@given(first=st.floats(1e-6, 10), second=st.floats(1e-6, 10), angle=st.floats(-720, 720))
def test_an_ellipse_is_the_same_from_either_axis(first: float, second: float, angle: float) -> None:
    one, other = ErrorEllipse.from_axes(first, second, angle), ErrorEllipse.from_axes(second, first, angle + 90)

    assert one is not None
    assert other is not None
    assert (one.semi_major_deg, one.semi_minor_deg) == (other.semi_major_deg, other.semi_minor_deg)
    assert one.semi_major_deg >= one.semi_minor_deg
    if first != second:
        # An axis has no arrow: 0 and 180 deg are one direction.
        apart = abs(one.position_angle_deg - other.position_angle_deg) % 180
        assert min(apart, 180 - apart) == pytest.approx(0, abs=1e-9)


def test_the_probability_inside_is_the_core_schemas_unless_stated() -> None:
    default, stated = read(a_notice()).measurement, read(a_notice(containment_probability=0.68)).measurement

    assert default is not None
    assert stated is not None
    assert (default.confidence_level, stated.confidence_level) == (0.9, 0.68)


def test_a_position_without_an_error_has_no_ellipse() -> None:
    measured = read(a_notice(ra_dec_error=None)).measurement

    assert measured is not None
    assert measured.ra_deg is not None
    assert (measured.semi_major_deg, measured.confidence_level) == (None, None)


def test_dsa_110_states_a_width_and_no_frequency() -> None:
    notice = read(example("dsa110-frb-detection"))

    assert (notice.origin, notice.origin_id) == ("DSA-110", "240918aaaa")
    assert (notice.reference_frequency_mhz, notice.observation) == (None, None)
    assert notice.measurement is not None
    assert notice.measurement.width_ms == 1


def test_another_burst_of_a_known_source_names_it() -> None:
    notice = read(example("chime-frb-subsequent"))

    assert (notice.kind, notice.origin_id) == (NoticeKind.SUBSEQUENT, "427325192")
    assert (notice.repeater, notice.known_source) == (True, "FRB 20231013B")
    assert notice.unmapped == {"association_probability": 0.932}


@pytest.mark.parametrize("mission", ["chime", "dsa110"])
def test_a_correction_may_be_prose_alone(mission: str) -> None:
    notice = read(example(f"{mission}-frb-update"))

    assert notice.kind is NoticeKind.UPDATE
    assert notice.note is not None
    assert "updated to 221.2 +/- 0.4" in notice.note
    assert (notice.measurement, notice.observation) == (None, None)


@pytest.mark.parametrize("mission", ["chime", "dsa110"])
def test_a_retraction_carries_the_id_and_nothing_measured(mission: str) -> None:
    notice = read(example(f"{mission}-frb-retraction"))

    assert notice.kind is NoticeKind.RETRACTION
    assert notice.origin_id == read(example(f"{mission}-frb-detection")).origin_id
    assert notice.measurement is None


def test_the_unit_of_the_band_has_two_names_and_may_be_missing() -> None:
    older = read(a_notice(spectral_band_units=None, units="MHz"))
    without = read(a_notice(spectral_band_units=None))

    assert older.observation == without.observation == read(a_notice()).observation
    for key in ("units", "spectral_band_units"):
        with pytest.raises(InvalidInputError, match=f"^{key} is keV; expected MHz"):
            read(a_notice(spectral_band_units=None) | {key: "keV"})


def test_of_two_errors_the_larger_counts() -> None:
    notice = read(a_notice(dm_error=[-0.1, 0.4], trigger_time_error=[0.02, 0.01]))

    assert notice.measurement is not None
    assert (notice.measurement.dm_err_pc_cm3, notice.time_of_arrival_err_s) == (0.4, 0.02)


def test_several_ids_are_all_names_of_the_burst() -> None:
    notice = read(a_notice(id=["427325191", "frb-7"]))

    assert (notice.origin_id, notice.names) == ("427325191", ("427325191", "frb-7"))


def test_a_name_of_the_transient_name_server_is_taken_over() -> None:
    assert read(a_notice(event_name=["burst 7", "FRB20240918A"])).tns_name == "FRB 20240918A"
    assert read(a_notice(event_name="A burst")).tns_name is None


@pytest.mark.parametrize("tense", ["test", "injection"])
def test_a_test_is_known_by_its_tense(tense: str) -> None:
    assert read(a_notice(alert_tense=tense)).is_test
    assert not read(a_notice(alert_tense="current")).is_test


def test_what_the_message_was_marked_with_counts_as_well() -> None:
    assert read(a_notice(), marked_test=True).is_test


# Who sends is told by no field of its own.


def test_the_topic_tells_the_observatory_when_the_notice_names_no_schema() -> None:
    assert read(a_notice(**{"$schema": None}), topic=DSA_110_TOPIC).origin == "DSA-110"
    assert read(a_notice(), topic=DSA_110_TOPIC).origin == "CHIME"


@pytest.mark.parametrize(
    "schema", [None, 7, "https://gcn.nasa.gov/schema/main/gcn/notices/icecube/lvk_nu_track_search.schema.json"]
)
def test_a_notice_of_nobody_is_refused(schema: object) -> None:
    with pytest.raises(InvalidInputError, match=r"^\$schema is .*; expected the FRB notice schema of chime or dsa110"):
        read(a_notice(**{"$schema": schema}), topic="weather")


def test_the_schema_tells_the_topic() -> None:
    tell = {name: topic_of_notice(json.dumps(example(f"{name}-frb-update")).encode()) for name in ("chime", "dsa110")}

    assert tell == {"chime": CHIME_TOPIC, "dsa110": DSA_110_TOPIC}
    assert topic_of_notice(b"{}") is None
    assert topic_of_notice(b"[1]") is None
    assert topic_of_notice(b"dear observatory") is None


# The same notice twice is one.


def test_a_notice_has_the_same_identity_however_it_is_written_down() -> None:
    content = example("chime-frb-detection")
    back_to_front = json.dumps(dict(reversed(content.items())), indent=7).encode()

    assert read_gcn(back_to_front).notice_id == read(content).notice_id
    assert read(content | {"snr": 12.7}).notice_id != read(content).notice_id


def test_a_drill_does_not_make_the_real_notice_known() -> None:
    assert read(a_notice(), marked_test=True).notice_id != read(a_notice()).notice_id


# What is wrong is told by the notice's own name for it.


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"alert_type": None}, "alert_type is missing; expected a value"),
        ({"alert_type": "new"}, "alert_type is new; expected 'initial', 'subsequent', 'update' or 'retraction'"),
        ({"id": None}, "id is missing; expected a value"),
        ({"id": 427325191}, "id is 427325191; expected text, or a list of texts"),
        ({"id": []}, "id is "),
        ({"trigger_time": None}, "trigger_time is missing; expected the time of arrival of the burst (ISO 8601)"),
        ({"trigger_time": "yesterday"}, "trigger_time is yesterday; expected an ISO 8601 date and time"),
        ({"trigger_time": "2024-09-18"}, "trigger_time is 2024-09-18; expected an ISO 8601 date and time"),
        ({"trigger_time": 1726643950.7}, "trigger_time is 1726643950.7; expected an ISO 8601 date and time"),
        ({"trigger_time": "2024-09-18T07:19:60Z"}, "trigger_time is 2024-09-18T07:19:60Z"),
        ({"ra": 400}, "ra is 400; expected less than or equal to 360"),
        ({"ra": "346.8"}, "ra is 346.8; expected a valid number"),
        ({"dec": -91}, "dec is -91; expected greater than or equal to -90"),
        ({"dec": None}, "dec is missing; expected both coordinates or none"),
        ({"ra": None}, "ra is missing; expected both coordinates or none"),
        ({"ra_dec_error": [1, 2, 3, 4]}, "ra_dec_error is [1, 2, 3, 4]; expected one to three numbers"),
        ({"ra_dec_error": []}, "ra_dec_error is []; expected one to three numbers"),
        ({"ra_dec_error": "1 deg"}, "ra_dec_error is 1 deg; expected one to three numbers"),
        ({"ra_dec_error": [-1, 2]}, "ra_dec_error is [-1.0, 2.0]; expected semi-axes of 0 or more"),
        ({"containment_probability": 90}, "containment_probability is 90; expected less than 1"),
        ({"dm": [279, 280]}, "dm is [279, 280]; expected a valid number"),
        ({"dm": -3}, "dm is -3; expected greater than or equal to 0"),
        ({"dm": True}, "dm is True; expected a valid number"),
        ({"importance": 98.7}, "importance is 98.7; expected less than or equal to 1"),
        ({"npol": 2.5}, "npol is 2.5; expected a multiple of 1"),
        ({"spectral_band": [400]}, "spectral_band is [400]; expected the two ends of a band"),
        ({"known_source": "FRB\u0000"}, "notice.known_source is "),
    ],
)
def test_a_notice_that_breaks_its_contract_is_told_so(changes: dict[str, object], complaint: str) -> None:
    with pytest.raises(InvalidInputError) as refusal:
        read(a_notice(**changes))

    assert str(refusal.value).startswith(complaint)


@pytest.mark.parametrize("literal", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_a_number_that_is_none_is_refused(literal: str) -> None:
    text = json.dumps(a_notice(snr=12345)).replace("12345", literal)

    with pytest.raises(InvalidInputError, match=r"^notice\.snr is -?(nan|inf); expected a finite number"):
        read_gcn(text.encode())


def test_a_number_too_large_for_any_float_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"^notice\.dm is inf; expected a finite number"):
        read(a_notice(dm=10**400))


@pytest.mark.parametrize(
    "data", [b"", b"dear observatory", b"[]", b'"x"', b"null", b"[" * 100_000, b"\xff\xfe{", b'{"id": "1", "id": "2"}']
)
def test_what_is_no_notice_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidInputError, match="^notice is"):
        read_gcn(data)


def test_a_notice_larger_than_any_is_refused_unread() -> None:
    with pytest.raises(InvalidInputError, match=f"^notice is {MAX_NOTICE_BYTES + 1} bytes"):
        read_gcn(b" " * (MAX_NOTICE_BYTES + 1))


def test_what_is_not_known_is_kept_unless_it_is_long() -> None:
    notice = read(a_notice(healpix_file="A" * 1_000_000, data_archive_page="https://example.org", event={"x": [1]}))

    assert notice.unmapped == {"data_archive_page": "https://example.org", "event": {"x": [1]}}


@given(st.binary(max_size=200))
def test_any_bytes_are_a_notice_or_refused(data: bytes) -> None:
    with pytest.raises(InvalidInputError):
        read_gcn(data)


keys = st.sampled_from(sorted(a_notice(ra_dec_error=1, event_name="x", alert_datetime="2024-09-18T07:19:10Z")))
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inside: st.lists(inside, max_size=4) | st.dictionaries(st.text(max_size=3), inside, max_size=2),
    max_leaves=4,
)


# Making such values takes long on a busy machine, which says nothing of the reader.
@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(keys, values, max_size=3))
def test_any_value_of_any_key_is_read_or_refused(changes: dict[str, object]) -> None:
    try:
        notice = read(example("chime-frb-detection") | changes)
    except InvalidInputError:
        return
    assert notice.origin_id


# The samples are what their publishers' schemas say; so is what we make ourselves.


@cache
def published() -> dict[str, Any]:
    """A validator per mission."""
    assert SHARED_DATA is not None
    schemas = [json.loads(path.read_text()) for path in (SHARED_DATA / "gcn_schema").rglob("*.schema.json")]
    registry: Any = referencing.Registry().with_resources(
        (schema["$id"], referencing.Resource.from_contents(schema)) for schema in schemas
    )
    return {
        schema["$id"].split("/")[-2]: jsonschema.Draft202012Validator(schema, registry=registry)
        for schema in schemas
        if schema["$id"].endswith("/frb.schema.json")
    }


@needs_shared_data
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_samples_follow_the_published_schema(path: Any) -> None:
    published()[path.stem.split("-")[0]].validate(json.loads(path.read_text()))


@needs_shared_data
def test_a_replayed_catalogue_follows_the_published_schema() -> None:
    bursts = read_catalogue((SAMPLES / "frb" / "catalogue" / "chimefrbcat1.csv").read_bytes())

    for burst in bursts[::10]:
        published()["chime"].validate(burst.notice)
