"""Lines of the feed say what happened, whichever way it is heard of, and never what is not known."""

import math
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from services.console.happenings import (
    TOPICS,
    Line,
    alert_line,
    burst_line,
    coincidence_line,
    delivery_line,
    line_of,
    skymap_line,
)
from shared.events.gw import AlertType
from shared.events.notices import ChannelMode, Delivery, DeliveryAction, DeliveryState
from shared.schema.topics import load_topics
from tests.support.coincidence import a_burst_record, an_alert

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def a_delivery(state: DeliveryState = DeliveryState.SENT, **changes: object) -> Delivery:
    fields = {
        "event_id": uuid4(), "delivery_id": 5, "channel": "slack", "channel_kind": "slack", "subject": "frb/7",
        "mode": ChannelMode.PRODUCTION, "revision": 1, "source_topic": "frb.events", "source_event_id": uuid4(),
        "action": DeliveryAction.NEW, "state": state, "attempts": 1, "is_test": False, "decided_at": NOW,
        "changed_at": NOW,
    }  # fmt: skip
    return Delivery.model_validate(fields | changes)


def told(record: object) -> Line:
    line = line_of(record)  # type: ignore[arg-type]
    assert line is not None
    return line


def test_what_a_topic_tells_is_the_line_that_a_table_gives() -> None:
    alert = an_alert()
    assert alert.event is not None
    from_table = alert_line(
        superevent_id=alert.superevent_id, alert_type="PRELIMINARY", group="CBC", pipeline="gstlal",
        at=alert.received_at, is_test=False,
    )  # fmt: skip
    assert told(alert).key == from_table.key
    assert from_table == Line("alert", ("gw/S261121ab",), "preliminary", "CBC gstlal", alert.received_at, False)


def test_two_changes_of_a_burst_are_two_lines() -> None:
    first, second = (
        burst_line(frb_id=7, change="RATED", status="CANDIDATE", dm_pc_cm3=500.0, snr=10.0, at=at, is_test=False)
        for at in (NOW, NOW.replace(microsecond=1))
    )
    assert first.key != second.key


def test_a_retraction_and_a_withdrawal_take_something_back() -> None:
    assert told(an_alert(AlertType.RETRACTION)).is_over
    assert skymap_line(superevent_id="S1", state="WITHDRAWN", area_90_deg2=None, at=NOW, is_test=False).is_over
    assert burst_line(
        frb_id=7, change="STATUS_CHANGED", status="WITHDRAWN", dm_pc_cm3=None, snr=None, at=NOW, is_test=False
    ).is_over
    assert not told(an_alert()).is_over


def test_a_coincidence_changes_its_page_and_those_of_its_wave_and_burst() -> None:
    line = coincidence_line(superevent_id="S1", frb_id=7, coincidence_type="INITIAL", at=NOW, is_test=True)
    assert line.subjects == ("mma/S1-7", "gw/S1", "frb/7")
    assert (line.subject, line.name, line.is_test) == ("mma/S1-7", "S1-7", True)


@pytest.mark.parametrize("unknown", [None, math.nan, math.inf])
def test_what_is_not_known_is_not_said(unknown: float | None) -> None:
    burst = burst_line(
        frb_id=7, change="CREATED", status="CANDIDATE", dm_pc_cm3=unknown, snr=unknown, at=NOW, is_test=False
    )
    assert (burst.name, burst.what, burst.detail) == ("burst 7", "created", "candidate")
    area = skymap_line(superevent_id="S1", state="AVAILABLE", area_90_deg2=unknown, at=NOW, is_test=False)
    assert area.detail == ""


def test_numbers_have_their_units_and_no_exponents_where_people_have_none() -> None:
    line = burst_line(
        frb_id=7, change="CREATED", status="CANDIDATE", dm_pc_cm3=21543.2, snr=9.512, at=NOW, is_test=False
    )
    assert line.detail == "candidate, DM 21543 pc cm⁻³, S/N 9.512"


@pytest.mark.parametrize(
    ("state", "attempts", "is_quiet", "is_bad"),
    [
        (DeliveryState.PENDING, 0, True, False),
        (DeliveryState.PENDING, 2, False, False),
        (DeliveryState.SENDING, 1, True, False),
        (DeliveryState.SUPPRESSED, 0, True, False),
        (DeliveryState.SENT, 1, False, False),
        (DeliveryState.CONFIRMED, 1, False, False),
        (DeliveryState.FAILED, 9, False, True),
        (DeliveryState.UNKNOWN, 1, False, True),
    ],
)
def test_a_notice_is_news_when_it_went_out_or_could_not(
    state: DeliveryState, attempts: int, is_quiet: bool, is_bad: bool
) -> None:
    line = told(a_delivery(state, attempts=attempts))
    assert (line.is_quiet, line.is_bad) == (is_quiet, is_bad)


def test_a_notice_that_did_not_go_to_the_world_says_so() -> None:
    assert told(a_delivery()).detail == "new on slack"
    assert told(a_delivery(mode=ChannelMode.DRY_RUN)).detail == "new on slack (dry run)"
    line = delivery_line(
        subject="gw/S1", channel="tns", mode="SANDBOX", action="RETRACTION", state="SENT", attempts=1, at=NOW,
        is_test=False,
    )  # fmt: skip
    assert line.detail == "retraction on tns (sandbox)"


def test_bursts_of_the_topic_are_told() -> None:
    line = told(a_burst_record(frb_id=7))
    assert line.subjects == ("frb/7",)
    assert line.what in ("created", "measured")


def test_every_topic_that_is_followed_is_in_the_catalogue() -> None:
    assert set(TOPICS) <= {topic.name for topic in load_topics()}
