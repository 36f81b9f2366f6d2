"""What tests of the event runtime need of a real broker and database, and of services that run as processes."""

import asyncio
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import asyncpg
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from cli.migrate import migrate
from cli.stack.services import Service, ServiceProcess
from cli.topics import apply
from shared.kafka import reading
from shared.kafka.message import Message
from shared.settings import MAX_MESSAGE_BYTES

DEADLINE_S = 90.0
POLL_S = 0.05

T = TypeVar("T")


def eventually(look: Callable[[], T], what: str = "", *, deadline_s: float = DEADLINE_S) -> T:
    """What `look` returns once that is true; fail, saying `what` was waited for, when it is not in time."""
    end = time.monotonic() + deadline_s
    while not (seen := look()):
        assert time.monotonic() < end, f"not within {deadline_s:.0f} s: {what or 'true'}, but {seen!r}"
        time.sleep(POLL_S)
    return seen


async def soon(look: Callable[[], T], *, deadline_s: float = DEADLINE_S) -> T:
    """As `eventually`, where an event loop runs what is waited for."""
    end = time.monotonic() + deadline_s
    while not (seen := look()):
        assert time.monotonic() < end, f"not within {deadline_s:.0f} s: {seen!r}"
        await asyncio.sleep(POLL_S)
    return seen


def a_topic(address: str, *, partitions: int = 1) -> str:
    """The name of a new topic that takes messages as large as any of ours."""
    name = f"test_{uuid.uuid4().hex}"
    topic = NewTopic(name, partitions, 1, config={"max.message.bytes": str(MAX_MESSAGE_BYTES + 65536)})
    client = AdminClient({"bootstrap.servers": address})  # named: what it was asked for dies with it
    client.create_topics([topic])[name].result(DEADLINE_S)
    return name


Sendable = bytes | tuple[bytes | None, bytes] | tuple[bytes | None, bytes, Sequence[tuple[str, bytes]]]
"""A value; a key and a value; a key, a value and headers."""


def send(address: str, topic: str, *messages: Sendable, partition: int = -1) -> list[tuple[int, int]]:
    """Put messages on a topic, in order; return when the broker has them, with their partitions and offsets."""
    producer = Producer({"bootstrap.servers": address, "message.max.bytes": MAX_MESSAGE_BYTES + 65536, "acks": "all"})
    reports: list[tuple[object, tuple[int, int]]] = []
    for message in messages:
        key, value, headers = (*((None, message) if isinstance(message, bytes) else message), ())[:3]
        producer.produce(
            topic, value, key, partition, headers=list(headers),
            on_delivery=lambda error, sent: reports.append((error, (sent.partition(), sent.offset()))),
        )  # fmt: skip
    assert producer.flush(DEADLINE_S) == 0
    assert not any(error for error, _ in reports), reports
    return [position for _, position in reports]


def records(address: str, topic: str) -> list[Message]:
    """Everything that is on a topic now, in the order of each partition."""
    return list(reading.read({"bootstrap.servers": address}, topic))


def query(url: str, statement: str, *arguments: object) -> list[asyncpg.Record]:
    """The rows of one statement."""

    async def ask() -> list[asyncpg.Record]:
        connection = await asyncpg.connect(url)
        try:
            return list(await connection.fetch(statement, *arguments))
        finally:
            await connection.close()

    return asyncio.run(ask())


def prepared(broker: str, database: str, folder: Path) -> dict[str, str]:
    """Make topics and tables; return the environment in which services find them and the blob store in `folder`."""
    environment = {
        "TOCSIN_KAFKA__BOOTSTRAP_SERVERS": broker,
        "TOCSIN_DATABASE__URL": database,
        "TOCSIN_BLOBS__URL": str(folder / "blobs"),
        "TOCSIN_LOG__FORMAT": "json",
    }
    apply(environment)
    migrate(environment)
    return environment


@contextmanager
def service(name: str, environment: dict[str, str], folder: Path) -> Iterator[ServiceProcess]:
    """`python -m services.NAME` while the block runs, ready at its beginning."""
    process = ServiceProcess(Service(name, 0, "is tested"), folder)
    try:
        process.start(environment)
        yield process
    finally:
        process.stop()
