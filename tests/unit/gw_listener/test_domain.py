"""Which alerts pass the filter, and what a superevent becomes whatever the order of its alerts."""

import json
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from services.gw_listener.alerts import UpstreamAlert, content_id, read_alert
from services.gw_listener.domain import (
    AlertFilter,
    AlertKey,
    Placement,
    StoredFiles,
    SupereventHistory,
    place,
    to_record,
)
from shared.events.blob import BlobRef
from shared.events.gw import AlertType, RawFormat, SupereventKind, SupereventState
from tests.support.alerts import (
    EVENT_TIME,
    a_burst,
    a_coincidence,
    a_json_alert,
    a_skymap,
    alert_content,
    an_alert,
    an_event,
    as_json,
)


def alert(**changes: Any) -> UpstreamAlert:
    return read_alert(an_alert(**changes))


# --- the filter


@pytest.mark.parametrize(
    "wanted",
    [
        {},
        {"kinds": ["MOCK"]},
        {"groups": ["CBC"]},
        {"groups": ["burst", "cbc"]},
        {"searches": ["allsky"]},
        {"pipelines": ["GstLAL", "MBTA"]},
        {"significant_only": True},
        {"max_far_hz": 9.2e-14},
    ],
    ids=str,
)
def test_wanted_alerts_pass(wanted: dict[str, Any]) -> None:
    assert AlertFilter(**wanted).why_passed_over(alert()) is None


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        ({"kinds": ["REAL"]}, "kind MOCK is not wanted"),
        ({"groups": ["Burst"]}, "group CBC is not wanted"),
        ({"searches": ["SSM"]}, "search AllSky is not wanted"),
        ({"pipelines": ["MBTA"]}, "pipeline gstlal is not wanted"),
        ({"max_far_hz": 1e-15}, "false-alarm rate 9.11e-14 Hz is above 1e-15 Hz"),
    ],
    ids=str,
)
def test_unwanted_alerts_are_passed_over_with_a_reason(wanted: dict[str, Any], reason: str) -> None:
    assert AlertFilter(**wanted).why_passed_over(alert()) == reason


def test_alerts_that_are_not_significant_can_be_passed_over() -> None:
    subthreshold = alert(event=an_event(significant=False))

    assert AlertFilter().why_passed_over(subthreshold) is None
    assert AlertFilter(significant_only=True).why_passed_over(subthreshold) == "not significant"


def test_alerts_from_before_the_mark_count_as_significant() -> None:
    unmarked = {name: value for name, value in an_event().items() if name != "significant"}

    assert AlertFilter(significant_only=True).why_passed_over(read_alert(a_json_alert(event=unmarked))) is None


def test_an_alert_without_a_search_fails_a_filter_of_searches() -> None:
    nameless = read_alert(a_json_alert(event=an_event(search=None)))

    assert AlertFilter(searches=frozenset({"AllSky"})).why_passed_over(nameless) == "search not given is not wanted"


STRICT = AlertFilter(groups=frozenset({"Burst"}), searches=frozenset({"BBH"}), significant_only=True, max_far_hz=1e-30)


def test_retractions_pass_every_filter_but_that_of_kinds() -> None:
    retraction = alert(alert_type="RETRACTION")

    assert STRICT.why_passed_over(retraction) is None
    assert AlertFilter(kinds=frozenset({SupereventKind.REAL})).why_passed_over(retraction) is not None


def test_a_real_superevent_in_test_traffic_never_enters() -> None:
    """A drill that replays S230518h with the header `_test` must not retract it."""
    drill = alert(superevent_id="S230518h", alert_type="RETRACTION")

    assert AlertFilter().why_passed_over(drill, marked_test=True) is not None
    assert AlertFilter().why_passed_over(alert(), marked_test=True) is None


@pytest.mark.parametrize("mistake", [{"kind": ["REAL"]}, {"kinds": ["real?"]}, {"max_far_hz": 0}])
def test_a_misspelt_filter_is_an_error(mistake: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        AlertFilter(**mistake)


# --- the history


def key(alert_type: AlertType = AlertType.PRELIMINARY, *, minute: int = 0, number: int = 0) -> AlertKey:
    return AlertKey(UUID(int=number), alert_type, EVENT_TIME + timedelta(minutes=minute))


def placed(*alerts: AlertKey) -> list[Placement]:
    placements = []
    history = SupereventHistory()
    for one in alerts:
        placements.append(place(one, history))
        history = placements[-1].history
    return placements


def test_alerts_in_order_are_numbered_and_each_is_current() -> None:
    story = placed(key(AlertType.EARLYWARNING), key(minute=1), key(AlertType.INITIAL, minute=2))

    assert [(step.sequence, step.is_current) for step in story] == [(1, True), (2, True), (3, True)]
    assert story[-1].history.state is SupereventState.OPEN


def test_a_late_older_alert_is_counted_but_not_current() -> None:
    newer, older = key(AlertType.UPDATE, minute=9), key(minute=1)

    *_, late = placed(newer, older)

    assert (late.sequence, late.is_current) == (2, False)
    assert late.history.newest == newer


def test_a_retraction_closes_the_superevent() -> None:
    *_, last = placed(key(), key(AlertType.RETRACTION, minute=5))

    assert (last.is_current, last.history.state) == (True, SupereventState.RETRACTED)


def test_a_retraction_may_be_the_first_that_is_heard() -> None:
    first, later = placed(key(AlertType.RETRACTION, minute=5), key())

    assert (first.sequence, first.is_current, first.history.state) == (1, True, SupereventState.RETRACTED)
    assert (later.is_current, later.history.state) == (False, SupereventState.RETRACTED)


def test_nothing_opens_a_retracted_superevent_again() -> None:
    *_, last = placed(key(AlertType.RETRACTION, minute=5), key(AlertType.UPDATE, minute=60))

    assert (last.sequence, last.is_current, last.history.state) == (2, False, SupereventState.RETRACTED)


def test_a_retraction_older_than_an_update_closes_all_the_same() -> None:
    *_, last = placed(key(AlertType.UPDATE, minute=60), key(AlertType.RETRACTION, minute=5))

    assert (last.is_current, last.history.state) == (True, SupereventState.RETRACTED)


def test_of_two_retractions_the_newer_is_current() -> None:
    *_, late = placed(key(AlertType.RETRACTION, minute=5), key(AlertType.RETRACTION, minute=4))

    assert not late.is_current


def test_at_equal_times_the_later_stage_is_current() -> None:
    """The official initial and update samples were created in the same second."""
    initial, update = key(AlertType.INITIAL, number=9), key(AlertType.UPDATE, number=1)

    assert placed(initial, update)[-1].history.newest == update
    assert placed(update, initial)[-1].history.newest == update


KEYS = st.builds(
    AlertKey,
    event_id=st.uuids(),
    alert_type=st.sampled_from(AlertType),
    time_created=st.sampled_from([EVENT_TIME, EVENT_TIME + timedelta(minutes=1), EVENT_TIME + timedelta(minutes=2)]),
)


@given(st.lists(KEYS, min_size=1, max_size=6, unique_by=lambda one: one.event_id), st.randoms())
def test_the_end_of_the_story_does_not_depend_on_the_order_of_arrival(alerts: list[AlertKey], random: Any) -> None:
    reordered = list(alerts)
    random.shuffle(reordered)

    one, other = placed(*alerts)[-1].history, placed(*reordered)[-1].history

    assert one == other
    retracted = any(one.alert_type is AlertType.RETRACTION for one in alerts)
    assert (one.state is SupereventState.RETRACTED) == retracted


# --- the record

RECEIVED_AT = EVENT_TIME + timedelta(seconds=31)


def blob(name: str) -> BlobRef:
    return BlobRef(uri=f"file:///{name}", sha256=name * 64, size=1, media_type="application/fits")


def record_of(data: bytes, files: StoredFiles, received_at: datetime = RECEIVED_AT) -> Any:
    upstream = read_alert(data)
    event_id = content_id(upstream)
    placement = place(AlertKey(event_id, upstream.alert_type, upstream.time_created), SupereventHistory())
    return to_record(
        upstream, event_id=event_id, placement=placement, files=files, received_at=received_at, source="scimma"
    )


def test_the_record_says_what_the_alert_said() -> None:
    data = an_alert(skymap=a_skymap(), external_coinc=a_coincidence(combined_skymap=a_skymap(peak=3)))
    upstream = read_alert(data)

    record = record_of(data, StoredFiles(raw=blob("a"), skymap=blob("b"), combined_skymap=blob("c")))

    assert (record.event_id, record.superevent_id) == (content_id(upstream), "MS261121ab")
    assert (record.kind, record.is_test, record.alert_type) == (SupereventKind.MOCK, True, AlertType.PRELIMINARY)
    assert (record.sequence, record.is_current, record.superevent_state) == (1, True, SupereventState.OPEN)
    assert (record.received_at, record.source) == (RECEIVED_AT, "scimma")
    assert (record.raw, record.skymap, record.external_coinc.combined_skymap) == (blob("a"), blob("b"), blob("c"))
    assert (record.raw_format, record.upstream_schema) == (RawFormat.AVRO, "igwn.alerts.v1_0.Alert")
    assert record.event == upstream.event
    assert record.external_coinc.observatory == "Fermi"
    assert record.unknown_fields is None


@pytest.mark.parametrize(("superevent_id", "is_test"), [("S261121a", False), ("MS261121a", True), ("TS261121a", True)])
def test_mock_and_test_superevents_are_test_traffic(superevent_id: str, is_test: bool) -> None:
    assert record_of(an_alert(superevent_id=superevent_id), StoredFiles(raw=blob("a"))).is_test is is_test


def test_the_record_of_a_retraction_is_bare_and_closed() -> None:
    record = record_of(an_alert(alert_type="RETRACTION"), StoredFiles(raw=blob("a")))

    assert (record.event, record.external_coinc, record.skymap) == (None, None, None)
    assert record.superevent_state is SupereventState.RETRACTED


def test_the_record_carries_unknown_fields_as_json() -> None:
    content = alert_content(event=a_burst(chirp=1)) | {"$schema": "v9"}

    record = record_of(as_json(content), StoredFiles(raw=blob("a")))

    assert json.loads(record.unknown_fields) == {"$schema": "v9", "event": {"chirp": 1}}
