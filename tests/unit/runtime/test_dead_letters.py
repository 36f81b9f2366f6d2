"""What goes to a dead-letter topic, and when too much of it does."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import cast

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shared.errors import InvalidInputError, PermanentError, TransientError
from shared.inbox.dead_letters import KEPT_BYTES, MAX_REASON_CHARACTERS, DeadLetterOffice, dead_letter
from shared.kafka.consumer import ConsumerHaltedError
from shared.kafka.message import Message, OutgoingMessage
from shared.kafka.producer import EventProducer
from shared.schema.topics import DEAD_LETTER_HEADROOM_BYTES
from shared.settings import MAX_MESSAGE_BYTES

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


def a_message(value: bytes = b"value", headers: Sequence[tuple[str, bytes]] = ()) -> Message:
    return Message("igwn.gwalert", 3, 42, b"key", value, tuple(headers))


def buried(message: Message, error: Exception) -> OutgoingMessage:
    return dead_letter(message, topic="t.dlq.s", error=error, service="gw_listener", version="1.2", failed_at=NOON)


def test_a_dead_letter_keeps_bytes_key_and_headers_and_adds_the_reason() -> None:
    own = [("_test", b"true"), ("twice", b"1"), ("twice", b"2")]

    letter = buried(a_message(b"Obj\x01\xff", own), InvalidInputError("event.far", -1, "a rate"))

    assert (letter.topic, letter.key, letter.value) == ("t.dlq.s", b"key", b"Obj\x01\xff")
    assert list(letter.headers[:3]) == own
    assert dict(letter.headers[3:]) == {
        "dlq-topic": b"igwn.gwalert",
        "dlq-partition": b"3",
        "dlq-offset": b"42",
        "dlq-error-class": b"InvalidInputError",
        "dlq-error": b"event.far is -1; expected a rate",
        "dlq-service": b"gw_listener",
        "dlq-version": b"1.2",
        "dlq-failed-at": b"2026-11-21T12:00:00+00:00",
    }


@pytest.mark.parametrize(
    ("size", "kept"), [(MAX_MESSAGE_BYTES, MAX_MESSAGE_BYTES), (MAX_MESSAGE_BYTES + 1, KEPT_BYTES)]
)
def test_only_what_no_topic_takes_is_cut_and_said_to_be(size: int, kept: int) -> None:
    letter = buried(a_message(bytes(size)), PermanentError("too large"))

    assert len(letter.value) == kept
    assert dict(letter.headers).get("dlq-cut-from-bytes") == (None if kept == size else str(size).encode())


@example("\ud800 \U0001f4a5")
@given(st.text(st.characters(), max_size=3 * MAX_REASON_CHARACTERS))
def test_a_reason_that_quotes_anything_fits_the_headers(reason: str) -> None:
    # Characters of every plane and lone surrogates, which UTF-8 cannot say.
    letter = buried(a_message(), ValueError(reason))

    assert sum(len(name) + len(value) for name, value in letter.headers) < DEAD_LETTER_HEADROOM_BYTES
    said = dict(letter.headers)["dlq-error"].decode()
    if "\\" not in said:
        assert said == reason[:MAX_REASON_CHARACTERS]


class FakeProducer:
    """Keeps what is sent, or fails."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.sent: list[OutgoingMessage] = []
        self._failure = failure

    async def send(self, messages: Sequence[OutgoingMessage]) -> None:
        if self._failure is not None:
            raise self._failure
        self.sent += messages


def an_office(producer: FakeProducer, max_consecutive: int = 2) -> DeadLetterOffice:
    return DeadLetterOffice(
        cast(EventProducer, producer),
        topic_of={"igwn.gwalert": "igwn.gwalert.dlq.gw_listener"},
        service="gw_listener",
        version="1.2",
        max_consecutive=max_consecutive,
    )


async def test_the_office_writes_to_the_topic_that_belongs_to_the_messages() -> None:
    producer = FakeProducer()
    await an_office(producer).bury(a_message(), PermanentError("no"))
    assert [letter.topic for letter in producer.sent] == ["igwn.gwalert.dlq.gw_listener"]


async def test_so_many_dead_letters_in_a_row_halt_the_consumer() -> None:
    office = an_office(FakeProducer())
    await office.bury(a_message(), PermanentError("no"))
    office.check()
    await office.bury(a_message(), PermanentError("no"))
    with pytest.raises(ConsumerHaltedError, match="2 messages in a row"):
        office.check()


async def test_a_message_that_did_well_breaks_the_row() -> None:
    office = an_office(FakeProducer())
    for _ in range(3):
        await office.bury(a_message(), PermanentError("no"))
        office.check()
        office.handled_one()


@pytest.mark.parametrize("failure", [PermanentError("refused"), TransientError("away")])
async def test_a_dead_letter_that_cannot_be_written_halts_the_consumer(failure: Exception) -> None:
    with pytest.raises(ConsumerHaltedError, match=str(failure)):
        await an_office(FakeProducer(failure)).bury(a_message(), PermanentError("no"))
