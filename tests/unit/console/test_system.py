"""What a person is told to look at, how a page of deliveries is asked for, and what a dead letter looks like."""

from typing import Any

import pytest
from pydantic import ValidationError

from services.console.dead_letters import SHOWN_CHARACTERS, Letter, content_of
from services.console.pages.deliveries import DeliveryQuery, select
from services.console.system import Component, Consumer, DeadLetters, ServiceHealth, State, troubles
from shared.events.notices import DeliveryState
from shared.inbox.dead_letter_desk import Bounds
from shared.kafka.message import Message

UP = [Component("PostgreSQL", State.UP, ""), Component("InfluxDB", State.ABSENT, "")]


def a_service(state: State = State.UP, **consumer: Any) -> ServiceHealth:
    facts: dict[str, Any] = {
        "service": "notifier",
        "name": "notifier.frb.events",
        "topics": ("frb.events",),
        "word": "reading",
        "trouble": None,
        "is_outside": False,
        "partitions": 4,
        "lag": 0,
        "last_event_at": None,
        "dead_letters": 0,
    }
    return ServiceHealth("notifier", state, "why", consumers=[Consumer(**facts | consumer)])


def letters(begin: int, end: int) -> list[DeadLetters]:
    return [DeadLetters("frb.events.dlq.notifier", "frb.events", "notifier", Bounds(begin, end))]


def test_nothing_is_told_while_all_is_well() -> None:
    assert troubles(UP, [a_service()], letters(5, 5), {}) == []
    # What was never installed is no trouble, and what was handled yesterday is none either.
    assert troubles(UP, [a_service()], None, {"FAILED": 0, "PENDING": 12}) == []


def test_what_is_down_comes_first() -> None:
    found = troubles(
        [*UP, Component("Kafka", State.DOWN, "nobody listens")],
        [a_service(State.WAITING, lag=5000)],
        letters(0, 2),
        {"FAILED": 3, "UNKNOWN": 1},
    )
    assert [(trouble.what, trouble.is_grave) for trouble in found] == [
        ("Kafka is down", True),
        ("notifier is waiting", True),
        ("notifier.frb.events is 5000 messages behind", False),
        ("3 notices failed, within a day", False),
        ("1 notice may or may not have arrived, within a day", False),
        ("2 dead letters wait", False),
    ]
    assert found[-1].address == "/system/dead-letters/frb.events.dlq.notifier"


def test_a_lag_behind_another_broker_is_not_ours() -> None:
    assert troubles(UP, [a_service(lag=10**6, is_outside=True)], [], {}) == []


def test_a_question_has_only_what_was_asked_for_and_its_values_beside_it() -> None:
    everything = select(DeliveryQuery(), 50)
    assert everything.sql == "SELECT * FROM notifier.delivery_lines ORDER BY id DESC LIMIT 51"
    assert list(everything.arguments) == []
    query = DeliveryQuery(
        state=DeliveryState.FAILED, channel="x'; DROP", subject=" /frb/7 ", test="without", order="oldest", cursor=9
    )
    asked = select(query, 10)
    assert asked.sql == (
        "SELECT * FROM notifier.delivery_lines WHERE state = $1 AND channel = $2 AND subject = $3 AND is_test = $4"
        " AND id > $5 ORDER BY id ASC LIMIT 11"
    )
    assert list(asked.arguments) == ["FAILED", "x'; DROP", "frb/7", False, 9]


def test_fields_that_nothing_was_chosen_in_ask_for_nothing() -> None:
    fields = {"state": "", "channel": "", "subject": "", "test": "", "cursor": ""}
    assert DeliveryQuery.model_validate(fields) == DeliveryQuery()
    with pytest.raises(ValidationError):
        DeliveryQuery.model_validate({"subject": "x\x00"})


def test_an_address_keeps_the_filters_of_its_page() -> None:
    query = DeliveryQuery(state=DeliveryState.FAILED, subject="frb/7", cursor=9)
    assert query.address(cursor=3) == "/system/deliveries?state=FAILED&subject=frb%2F7&cursor=3"
    assert query.address(cursor=None, state=None, subject=None) == "/system/deliveries"


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        (b'{"dm": 1}', "text", '{"dm": 1}'),
        (b"", "text", ""),
        ("größer\n\tals".encode(), "text", "größer\n\tals"),
        (b"\x00\x01ab\xff", "bytes", "0000  00 01 61 62 ff                                   ..ab."),
        (b"a\x1b[2J", "bytes", "0000  61 1b 5b 32 4a                                   a.[2J"),
    ],
)
def test_a_message_is_shown_as_what_it_seems_to_be(value: bytes, kind: str, text: str) -> None:
    content = content_of(value)
    assert (content.kind, content.text, content.is_cut) == (kind, text, False)


def test_a_long_message_is_cut_and_says_so() -> None:
    content = content_of(b"x" * (SHOWN_CHARACTERS + 1))
    assert (len(content.text), content.is_cut) == (SHOWN_CHARACTERS, True)
    assert content_of(b"\x00" * 10**6).is_cut


def test_a_container_that_lies_is_shown_as_bytes_with_the_reason() -> None:
    content = content_of(b"Obj\x01\xff and no more")
    assert (content.kind, content.trouble is not None) == ("bytes", True)


def test_a_time_of_failure_that_is_none_is_not_known() -> None:
    letter = Message("t.dlq.s", 0, 3, None, b"", (("dlq-failed-at", b"yesterday"),))
    assert Letter.of(letter).failed_at is None
    assert Letter.of(letter).facts["error"] is None
