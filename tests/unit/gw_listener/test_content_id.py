"""One alert has one identity, whichever way it comes; two alerts have two."""

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gw_listener.alerts import content_id, read_alert
from tests.support.alerts import (
    EVENT_FIELDS,
    EVENT_TIME,
    a_burst,
    a_coincidence,
    a_json_alert,
    a_skymap,
    alert_content,
    alert_schema,
    an_alert,
    an_event,
    as_avro,
    as_json,
)
from tests.support.data import SAMPLES, SHARED_DATA, needs_shared_data

STAGES = ["earlywarning", "preliminary", "initial", "update", "ext-update", "retraction"]


def id_of(data: bytes) -> str:
    return str(content_id(read_alert(data)))


def official(stage: str) -> bytes:
    return (SAMPLES / f"igwn/MS181101ab-{stage}.avro").read_bytes()


@needs_shared_data
@pytest.mark.parametrize("stage", STAGES)
def test_the_official_avro_and_json_samples_have_one_identity(stage: str) -> None:
    assert SHARED_DATA is not None
    assert id_of(official(stage)) == id_of((SHARED_DATA / f"igwn_json/MS181101ab-{stage}.json").read_bytes())


def test_the_official_samples_have_six_identities() -> None:
    assert len({id_of(official(stage)) for stage in STAGES}) == 6


def test_identities_never_change() -> None:
    """Pinned: another value would make every alert that was ever stored a new one."""
    assert id_of(official("preliminary")) == "65068feb-8563-5f17-916a-40343f25a59b"
    assert id_of(official("ext-update")) == "39ac1db4-c1a7-5b6e-87b0-f1484721ac41"
    assert id_of(official("retraction")) == "874143b7-48a4-563d-b866-433f94783f42"


def test_every_revision_of_the_sample_retraction_has_one_identity() -> None:
    old = [path.read_bytes() for path in (SAMPLES / "igwn").glob("2*-retraction.avro")]

    assert len(old) == 2
    assert {id_of(data) for data in old} == {id_of(official("retraction"))}


def test_a_field_of_a_later_schema_does_not_part_the_two_transports() -> None:
    """GCN may be on schema 1.2 while SCiMMA still writes 1.0."""
    later = an_event(mchirp_source={"bin_edges": [1.0, 2.0], "probabilities": [1.0]}, eccentricity=0.1)

    assert id_of(a_json_alert(event=later)) == id_of(an_alert())


@pytest.mark.parametrize(
    "same",
    [
        an_event(instruments=["V1", "H1", "L1"]),
        an_event(time=f"{EVENT_TIME:%Y-%m-%d %H:%M:%S}.678"),
        {name: value for name, value in an_event().items() if value is not None},
        dict(reversed(an_event().items())),
    ],
    ids=["instruments in another order", "time in the old spelling", "nulls left out", "keys in another order"],
)
def test_the_way_of_writing_does_not_matter(same: dict[str, Any]) -> None:
    assert id_of(a_json_alert(event=same)) == id_of(an_alert())


def test_an_empty_map_and_no_map_are_the_same() -> None:
    bare = {name: value for name, value in a_burst().items() if name not in ("classification", "properties")}

    assert id_of(a_json_alert(event=bare)) == id_of(an_alert(event=a_burst()))


def test_urls_and_early_warning_spellings_do_not_matter() -> None:
    content = alert_content(alert_type="EARLYWARNING")

    same = content | {"alert_type": "EARLY_WARNING", "urls": {}}

    assert id_of(as_json(same)) == id_of(as_json(content))


def test_whole_numbers_in_json_equal_doubles_in_avro() -> None:
    event = an_event(far=1, classification={"BNS": 1, "NSBH": 0})

    assert id_of(a_json_alert(event=event)) == id_of(an_alert(event=event))


@pytest.mark.parametrize(
    ("name", "value"),
    {
        "superevent_id": "MS261121ac",
        "alert_type": "INITIAL",
        "time_created": EVENT_TIME + timedelta(seconds=305),
        "skymap": a_skymap(peak=1),
        "external_coinc": a_coincidence(),
    }.items(),
)
def test_any_difference_is_another_alert(name: str, value: object) -> None:
    changed: dict[str, Any] = {name: value}

    assert id_of(an_alert(**changed)) != id_of(an_alert())


@pytest.mark.parametrize(
    ("field", "value"),
    {
        "time": "2026-11-21T03:04:05.679Z",
        "far": 9.11069936487e-14,
        "significant": False,
        "instruments": ["H1"],
        "group": "Burst",
        "pipeline": "MBTA",
        "search": "BBH",
        "classification": {"BNS": 0.96},
        "properties": {},
        "duration": 1.0,
        "central_frequency": 1.0,
        "skymap": b"SIMPLE",
    }.items(),
)
def test_any_difference_in_the_event_is_another_alert(field: str, value: object) -> None:
    assert id_of(an_alert(event=an_event(**{field: value}))) != id_of(an_alert())


@pytest.mark.parametrize("field", [*a_coincidence()])
def test_any_difference_in_the_coincidence_is_another_alert(field: str) -> None:
    other = {"combined_skymap": b"x"}.get(field, "other" if isinstance(a_coincidence()[field], str) else 7)

    changed = a_coincidence(**{field: other})

    assert id_of(an_alert(external_coinc=changed)) != id_of(an_alert(external_coinc=a_coincidence()))


def test_two_genuine_preliminaries_minutes_apart_are_two() -> None:
    """S230522a had two, 275 s apart, with the same event and sky map."""
    first = alert_content(superevent_id="S230522a", skymap=a_skymap())
    second = alert_content(
        superevent_id="S230522a", skymap=a_skymap(), time_created=EVENT_TIME + timedelta(seconds=304)
    )

    assert id_of(as_json(first)) != id_of(as_json(second))


def test_two_words_that_are_new_to_us_are_two() -> None:
    assert id_of(a_json_alert(alert_type="POSTMORTEM")) != id_of(a_json_alert(alert_type="OBITUARY"))


def test_the_two_sky_maps_are_not_confused() -> None:
    one, other = a_skymap(peak=1), a_skymap(peak=2)
    alert = read_alert(an_alert(skymap=one, external_coinc=a_coincidence(combined_skymap=other)))

    swapped = replace(alert, skymap=other, combined_skymap=one)

    assert content_id(swapped) != content_id(alert)


def shuffled(value: Any, data: st.DataObject) -> Any:
    if isinstance(value, dict):
        return {key: shuffled(value[key], data) for key in data.draw(st.permutations(list(value)))}
    return value


@given(st.data())
def test_the_order_of_keys_never_matters(data: st.DataObject) -> None:
    content = json.loads(as_json(alert_content(skymap=b"SIMPLE", external_coinc=a_coincidence())))

    assert id_of(as_json(shuffled(content, data))) == id_of(as_json(content))


@given(st.permutations(list(EVENT_FIELDS)))
def test_the_order_of_fields_in_the_schema_never_matters(names: list[str]) -> None:
    schema = alert_schema(event={name: EVENT_FIELDS[name] for name in names})

    assert id_of(as_avro(alert_content(), schema)) == id_of(an_alert())


@given(
    far=st.floats(0, 1),
    probability=st.floats(0, 1),
    duration=st.none() | st.floats(allow_nan=False, allow_infinity=False),
)
def test_every_number_survives_both_transports(far: float, probability: float, duration: float | None) -> None:
    event = an_event(far=far, classification={"BNS": probability}, duration=duration)

    assert id_of(an_alert(event=event)) == id_of(a_json_alert(event=event))
