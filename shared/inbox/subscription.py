"""What a service says about a stream it reads: where it comes from, how to decode it, what to do with it."""

import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from shared.db.unit_of_work import UnitOfWork
from shared.inbox.feed import Feed
from shared.kafka.message import Message

Event = TypeVar("Event")


@dataclass(frozen=True)
class Received(Generic[Event]):
    """A decoded message."""

    event_id: uuid.UUID
    event: Event


@dataclass(frozen=True)
class Subscription(Generic[Event]):
    """A stream and its handler.

    Attributes
    ----------
    name
        Consumer name in the inbox, the metrics and the logs.
    topics
        What to read.
    receive
        Decodes a message and gives the event's deterministic id; may keep the raw bytes first. Returns None
        for a message that carries no event (a heartbeat). Raises `PermanentError` for what cannot be decoded.
    handle
        Carries out one event inside a transaction; everything it does goes through the unit of work.
    dead_letter_topics
        For each topic, where its undecodable or unhandleable messages go.
    client
        librdkafka settings that reach the broker; None for the project's own.
    group
        Consumer group; the service's name unless the broker demands another.
    batch_size
        Messages in one transaction at most; None for the setting. 1 where each message is work enough.
    feed
        Where the messages come from when it is not Kafka; `group` and what follows mean nothing then.
    start_at
        `earliest` or `latest`, for a group that has no offsets yet.
    group_protocol
        `consumer` or `classic`; None for the project's own setting.
    is_outside
        Somebody else's stream, without which the service is still ready for everybody else.
    """

    name: str
    topics: Sequence[str]
    receive: Callable[[Message], Awaitable[Received[Event] | None]]
    handle: Callable[[Event, UnitOfWork], Awaitable[None]]
    dead_letter_topics: Mapping[str, str]
    group: str
    batch_size: int | None = None
    feed: Feed | None = None
    client: Mapping[str, Any] | None = None
    start_at: str = "earliest"
    group_protocol: str | None = None
    is_outside: bool = False
