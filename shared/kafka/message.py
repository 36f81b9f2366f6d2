"""A Kafka message as the rest of the code sees it, and the headers that every topic carries."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

FORMAT_HEADER = "_format"
ID_HEADER = "_id"
SENDER_HEADER = "_sender"
TEST_HEADER = "_test"
TRACE_HEADER = "traceparent"
# The first four are hop-client's own, so that `hop subscribe` reads our topics without any of our code.


@dataclass(frozen=True)
class Message:
    """What came from a topic, undecoded."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes
    headers: tuple[tuple[str, bytes], ...] = ()
    timestamp: datetime | None = None

    @classmethod
    def from_client(cls, message: Any) -> "Message":
        """Take over what `confluent_kafka` delivered."""
        timestamp_ms = message.timestamp()[1]
        return cls(
            topic=message.topic(),
            partition=message.partition(),
            offset=message.offset(),
            key=message.key(),
            value=message.value() or b"",
            headers=tuple((name, value or b"") for name, value in message.headers() or ()),
            timestamp=datetime.fromtimestamp(timestamp_ms / 1000, UTC) if timestamp_ms > 0 else None,
        )

    def header(self, name: str) -> bytes | None:
        """Return the last header of that name, as Kafka's own clients do."""
        return next((value for key, value in reversed(self.headers) if key == name), None)

    @property
    def is_test(self) -> bool:
        """Whether the sender marked the message as test traffic: the header's presence counts, as for hop-client."""
        return self.header(TEST_HEADER) is not None


@dataclass(frozen=True)
class OutgoingMessage:
    """What goes to a topic."""

    topic: str
    key: bytes | None
    value: bytes
    headers: Sequence[tuple[str, bytes]] = ()


def event_headers(*, event_id: uuid.UUID, sender: str, is_test: bool, traceparent: str | None) -> dict[str, str]:
    """Return the headers of one of our own events, as text (`_id` in hexadecimal; see `wire_headers`)."""
    headers = {FORMAT_HEADER: "avro", ID_HEADER: event_id.hex, SENDER_HEADER: sender}
    if is_test:
        headers[TEST_HEADER] = "true"
    if traceparent is not None:
        headers[TRACE_HEADER] = traceparent
    return headers


def wire_headers(headers: Mapping[str, str]) -> list[tuple[str, bytes]]:
    """Return headers as bytes; `_id` becomes the 16 bytes that hop-client expects."""
    return [(name, uuid.UUID(value).bytes if name == ID_HEADER else value.encode()) for name, value in headers.items()]
