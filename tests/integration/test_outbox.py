"""What a transaction announced reaches its topic in order and once, whatever becomes of the relay."""

import asyncio
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from cli.stack.kafka import KafkaBroker
from shared.db.unit_of_work import OutgoingEvent, unit_of_work
from shared.kafka.errors import BrokerRefusedError
from shared.kafka.message import ID_HEADER, OutgoingMessage, event_headers
from shared.kafka.producer import EventProducer
from shared.outbox import relay as relay_module
from shared.outbox import tail
from shared.outbox.relay import OutboxRelay
from shared.outbox.tail import find_published
from shared.settings import DatabaseSettings, KafkaSettings
from tests.support.database import SCHEMA, make_tables, open_pool
from tests.support.runtime import a_topic, records, send, soon

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
async def settings(database_url: str) -> DatabaseSettings:
    return await make_tables(database_url)


@pytest.fixture
async def pool(settings: DatabaseSettings) -> AsyncIterator[asyncpg.Pool]:
    async with open_pool(settings) as opened:
        yield opened


@pytest.fixture
def kafka(kafka_broker: KafkaBroker) -> KafkaSettings:
    return KafkaSettings(bootstrap_servers=kafka_broker.address)


@pytest.fixture
async def producer(kafka: KafkaSettings) -> AsyncIterator[EventProducer]:
    async with EventProducer(kafka) as opened:
        yield opened


@pytest.fixture
def topic(kafka_broker: KafkaBroker) -> str:
    return a_topic(kafka_broker.address, partitions=2)


def events(topic: str, count: int, *, key: str = "S1", start: int = 0) -> list[OutgoingEvent]:
    ids = [uuid.uuid4() for _ in range(count)]
    return [
        OutgoingEvent(
            topic=topic,
            key=key,
            event_id=event_id,
            value=str(start + number).encode(),
            headers=event_headers(event_id=event_id, sender="trial", is_test=True, traceparent=None),
        )
        for number, event_id in enumerate(ids)
    ]


async def announce(pool: asyncpg.Pool, announced: Collection[OutgoingEvent], committed: Callable[[], None]) -> None:
    async with unit_of_work(pool, committed) as work:
        for event in announced:
            work.emit(event)


def a_relay(settings: DatabaseSettings, producer: EventProducer, kafka: KafkaSettings) -> OutboxRelay:
    client = kafka.client_config()
    return OutboxRelay(
        SCHEMA,
        database=settings,
        producer=producer,
        find_published=lambda topics, ids: find_published(client, topics, ids),
    )


@asynccontextmanager
async def running(*relays: OutboxRelay) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(relay.run()) for relay in relays]
    try:
        yield
    finally:
        for relay in relays:
            relay.stop()
        await asyncio.wait_for(asyncio.gather(*tasks), 10)


async def outbox_is_empty(pool: asyncpg.Pool) -> None:
    empty = False

    async def ask() -> None:
        nonlocal empty
        while not empty:
            empty = not await pool.fetchval("SELECT EXISTS (SELECT FROM outbox)")
            await asyncio.sleep(0.01)

    asking = asyncio.create_task(ask())
    try:
        await soon(lambda: empty)
    finally:
        asking.cancel()


async def published(kafka: KafkaSettings, topic: str) -> list[bytes]:
    """Values in the order of the topic; all of one key."""
    return [message.value for message in await asyncio.to_thread(records, kafka.bootstrap_servers, topic)]


async def test_events_are_published_in_order_and_leave_the_outbox(
    pool: asyncpg.Pool, settings: DatabaseSettings, kafka: KafkaSettings, producer: EventProducer, topic: str
) -> None:
    relay = a_relay(settings, producer, kafka)
    sent = events(topic, 1200)  # more than the relay takes at once
    async with running(relay):
        for start in range(0, 1200, 100):
            await announce(pool, sent[start : start + 100], relay.wake)
        await outbox_is_empty(pool)
    messages = await asyncio.to_thread(records, kafka.bootstrap_servers, topic)
    assert [message.value for message in messages] == [event.value for event in sent]
    assert [message.header(ID_HEADER) for message in messages] == [event.event_id.bytes for event in sent]
    assert messages[0].key == b"S1"
    assert messages[0].is_test


async def test_large_events_are_published_a_few_at_a_time(
    pool: asyncpg.Pool, settings: DatabaseSettings, kafka: KafkaSettings, producer: EventProducer, topic: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(relay_module, "BATCH_BYTES", 4)
    relay = a_relay(settings, producer, kafka)
    sent = events(topic, 10, start=100)  # three bytes each, so that one at a time fits
    async with running(relay):
        await announce(pool, sent, relay.wake)
        await outbox_is_empty(pool)
    assert await published(kafka, topic) == [event.value for event in sent]


async def test_a_stop_publishes_what_is_committed(
    pool: asyncpg.Pool, settings: DatabaseSettings, kafka: KafkaSettings, producer: EventProducer, topic: str
) -> None:
    relay = a_relay(settings, producer, kafka)
    async with running(relay):
        await announce(pool, events(topic, 50), lambda: None)
    assert len(await published(kafka, topic)) == 50


async def test_a_second_relay_takes_over_when_the_connection_of_the_first_dies(
    pool: asyncpg.Pool, settings: DatabaseSettings, kafka: KafkaSettings, producer: EventProducer, topic: str
) -> None:
    relays = [a_relay(settings, producer, kafka) for _ in range(2)]
    async with running(*relays):
        await announce(pool, events(topic, 10), lambda: None)
        await outbox_is_empty(pool)
        holders = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted"
        [first] = [row["pid"] for row in await pool.fetch(holders)]  # one at a time
        await pool.execute("SELECT pg_terminate_backend($1, 5000)", first)
        for round_ in range(1, 6):
            await announce(pool, events(topic, 10, start=10 * round_), lambda: None)
        await outbox_is_empty(pool)
        [second] = [row["pid"] for row in await pool.fetch(holders)]
    assert second != first
    assert await published(kafka, topic) == [str(number).encode() for number in range(60)]


async def test_rows_that_a_crash_left_on_both_sides_are_not_published_twice(
    pool: asyncpg.Pool, settings: DatabaseSettings, kafka: KafkaSettings, producer: EventProducer, topic: str
) -> None:
    sent = events(topic, 600)
    await announce(pool, sent, lambda: None)

    class Killed(BaseException):
        pass

    class DyingProducer:
        async def send(self, messages: object) -> None:
            await producer.send(messages)  # type: ignore[arg-type]
            raise Killed  # the broker has acknowledged; nothing is deleted

    dying = a_relay(settings, DyingProducer(), kafka)  # type: ignore[arg-type]
    with pytest.raises(Killed):
        await dying.run()
    on_the_topic = len(await published(kafka, topic))
    assert 0 < on_the_topic < 600
    assert await pool.fetchval("SELECT count(*) FROM outbox") == 600
    # While nobody looked, a transaction that was slow to commit brought rows that sort before those in question.
    late = events(topic, 300, key="S2", start=10_000)
    await pool.execute("ALTER TABLE outbox ALTER COLUMN id SET GENERATED BY DEFAULT")
    await pool.executemany(
        "INSERT INTO outbox (id, topic, key, event_id, value, headers) VALUES ($1, $2, $3, $4, $5, '{}')",
        [(number - 300, event.topic, event.key, event.event_id, event.value) for number, event in enumerate(late)],
    )

    relay = a_relay(settings, producer, kafka)
    async with running(relay):
        await outbox_is_empty(pool)
    values = await published(kafka, topic)
    assert [value for value in values if int(value) < 10_000] == [event.value for event in sent]
    assert [value for value in values if int(value) >= 10_000] == [event.value for event in late]


async def test_a_connection_lost_after_publishing_doubles_nothing(
    pool: asyncpg.Pool, settings: DatabaseSettings, kafka: KafkaSettings, producer: EventProducer, topic: str
) -> None:
    cut = False

    class CuttingProducer:
        async def send(self, messages: object) -> None:
            nonlocal cut
            await producer.send(messages)  # type: ignore[arg-type]
            if not cut:
                cut = True
                await pool.execute(
                    "SELECT pg_terminate_backend(pid, 5000) FROM pg_locks WHERE locktype = 'advisory' AND granted"
                )

    relay = a_relay(settings, CuttingProducer(), kafka)  # type: ignore[arg-type]
    async with running(relay):
        await announce(pool, events(topic, 20), relay.wake)
        await outbox_is_empty(pool)
    assert cut
    assert await published(kafka, topic) == [str(number).encode() for number in range(20)]


async def test_a_refusal_of_the_broker_is_waited_out_and_told(
    pool: asyncpg.Pool, settings: DatabaseSettings, kafka: KafkaSettings, producer: EventProducer, topic: str
) -> None:
    allowed = False

    class RefusedProducer:
        async def send(self, messages: object) -> None:
            if not allowed:
                raise BrokerRefusedError("sending: TOPIC_AUTHORIZATION_FAILED")
            await producer.send(messages)  # type: ignore[arg-type]

    relay = a_relay(settings, RefusedProducer(), kafka)  # type: ignore[arg-type]
    async with running(relay):
        await announce(pool, events(topic, 5), relay.wake)
        await soon(lambda: relay.waiting_reason)
        assert "TOPIC_AUTHORIZATION_FAILED" in (relay.waiting_reason or "")
        allowed = True
        await outbox_is_empty(pool)
        await soon(lambda: relay.waiting_reason is None)
    assert len(await published(kafka, topic)) == 5


async def test_a_commit_in_another_process_wakes_the_relay(
    pool: asyncpg.Pool, settings: DatabaseSettings, kafka: KafkaSettings, producer: EventProducer, topic: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    # Without the notification the relay would look again in a minute only.
    monkeypatch.setattr(relay_module, "POLL_S", 60.0)
    relay = a_relay(settings, producer, kafka)
    async with running(relay):
        # It has looked once, found nothing and waits.
        await _until_listening(pool)
        command = [sys.executable, "-c", _ANNOUNCE, settings.url.get_secret_value(), topic]
        process = await asyncio.create_subprocess_exec(*command, cwd=REPOSITORY, stderr=subprocess.PIPE)
        _, complaint = await process.communicate()
        assert process.returncode == 0, complaint.decode()
        await outbox_is_empty(pool)
    assert await published(kafka, topic) == [b"0", b"1", b"2"]


_ANNOUNCE = """
import asyncio, sys
from pydantic import SecretStr
from shared.settings import DatabaseSettings
from tests.integration.test_outbox import announce, events
from tests.support.database import open_pool

async def main(url, topic):
    async with open_pool(DatabaseSettings(url=SecretStr(url))) as pool:
        await announce(pool, events(topic, 3), lambda: None)

asyncio.run(main(*sys.argv[1:]))
"""


async def _until_listening(pool: asyncpg.Pool) -> None:
    listening = False

    async def ask() -> None:
        nonlocal listening
        while not listening:
            # An idle session whose last statement read the empty outbox.
            listening = await pool.fetchval(
                "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'tocsin trial' AND state = 'idle'"
                " AND query LIKE '%octet_length%')"
            )
            await asyncio.sleep(0.01)

    asking = asyncio.create_task(ask())
    try:
        await soon(lambda: listening)
    finally:
        asking.cancel()


async def test_only_the_last_records_of_a_topic_are_looked_at(kafka: KafkaSettings, topic: str) -> None:
    old, new = uuid.uuid4(), uuid.uuid4()
    send(kafka.bootstrap_servers, topic, (b"k", b"old", [(ID_HEADER, old.bytes)]), partition=0)
    send(kafka.bootstrap_servers, topic, *[(b"k", b"between")] * tail.LOOK_BACK, partition=0)
    send(kafka.bootstrap_servers, topic, (b"k", b"new", [(ID_HEADER, new.bytes)]), partition=0)
    send(kafka.bootstrap_servers, topic, (b"k", b"elsewhere", [(ID_HEADER, uuid.uuid4().bytes)]), partition=1)
    found = await asyncio.to_thread(find_published, kafka.client_config(), {topic}, {old, new, uuid.uuid4()})
    assert found == {new}


async def test_nothing_is_on_its_way_any_more_when_a_refusal_is_told(
    kafka: KafkaSettings, producer: EventProducer, topic: str
) -> None:
    good = [OutgoingMessage(topic=topic, key=b"k", value=b"good")] * 3
    monstrous = OutgoingMessage(topic=topic, key=b"k", value=bytes(9 * 2**20))
    with pytest.raises(BrokerRefusedError, match="MSG_SIZE_TOO_LARGE"):
        await producer.send([*good, monstrous, *good])
    assert await published(kafka, topic) == [b"good"] * 3
