"""Small events through the runtime, against a bare consume loop that inserts a row per message, in equal batches."""

import asyncio
import os
import time
import uuid
from collections.abc import Sequence
from contextlib import redirect_stderr
from pathlib import Path
from statistics import median

import psycopg
import sqlalchemy as sa
from confluent_kafka import Consumer
from sqlalchemy.ext.asyncio import create_async_engine

from benchmarks.report import Row
from benchmarks.system import System, running
from shared.db.pool import create_pool
from shared.db.tables import service_metadata
from shared.db.unit_of_work import UnitOfWork
from shared.events.gw import GwAlert
from shared.inbox.dead_letters import DeadLetterOffice
from shared.inbox.processor import Processor
from shared.inbox.state import ConsumerState
from shared.inbox.subscription import Received, Subscription
from shared.kafka.consumer import ConsumerLoop, consumer_config
from shared.kafka.message import Message
from shared.kafka.producer import EventProducer
from shared.observability.logging import configure_logging
from shared.schema.codec import decode, encode
from shared.schema.records import SCHEMAS
from shared.settings import ConsumerSettings, DatabaseSettings, LogSettings

MESSAGES, BATCH, ROUNDS = 10_000, 200, 3
TOPIC = "bench.small"
INSERT = "INSERT INTO small (event_id, superevent_id) VALUES"


def measure() -> list[Row]:
    """Return the comparison."""
    with running() as system:
        asyncio.run(_prepare(system))
        # The runtime's log lines are part of its work; they are written as JSON, to nowhere.
        with Path(os.devnull).open("w") as nowhere:
            with redirect_stderr(nowhere):
                configure_logging(LogSettings(format="json"), "bench")
            rates = [(_bare_rate(system, number), _runtime_rate(system, number)) for number in range(ROUNDS)]
    bare, ours = (median(rate) for rate in zip(*rates, strict=True))
    return [
        Row(
            what=f"small events, batches of {BATCH}, one row each",
            peer=f"bare confluent-kafka + psycopg loop {bare:,.0f} /s",
            ours=f"{ours:,.0f} /s (decoded, validated, deduplicated, logged)",
            ratio=ours / bare,
            aim="at least 0.60",
        )
    ]


async def _prepare(system: System) -> None:
    metadata = service_metadata("bench")
    sa.Table("small", metadata, sa.Column("event_id", sa.UUID), sa.Column("superevent_id", sa.Text))
    engine = create_async_engine(system.environment["TOCSIN_DATABASE__URL"].replace("://", "+asyncpg://", 1))
    async with engine.begin() as connection:
        await connection.execute(sa.schema.CreateSchema("bench"))
        await connection.run_sync(metadata.create_all)
    await engine.dispose()
    system.create_topic(TOPIC)
    example = next((SCHEMAS / "examples" / "gw_alert" / "v1").glob("*.json"))
    event = GwAlert.model_validate_json(example.read_text("utf-8"))
    producer = system.producer()
    for _ in range(MESSAGES):
        producer.produce(TOPIC, encode(event.model_copy(update={"event_id": uuid.uuid4()})))
        producer.poll(0)
    producer.flush()


def _bare_rate(system: System, number: int) -> float:
    consumer = Consumer(
        system.kafka.client_config()
        | {
            "group.id": f"bare.{number}",
            "group.protocol": "consumer",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    consumer.subscribe([TOPIC])
    done, began = 0, 0.0
    with psycopg.connect(system.environment["TOCSIN_DATABASE__URL"]) as connection, connection.cursor() as cursor:
        while done < MESSAGES:
            messages = consumer.consume(min(BATCH, MESSAGES - done), timeout=10)
            began = began or time.perf_counter()
            for message in messages:
                cursor.execute(
                    f"{INSERT.replace('small', 'bench.small')} (%s, %s)", (uuid.uuid4(), str(message.offset()))
                )
            connection.commit()
            consumer.commit(asynchronous=False)
            done += len(messages)
        taken = time.perf_counter() - began
    consumer.close()
    return MESSAGES / taken


def _runtime_rate(system: System, number: int) -> float:
    return asyncio.run(_through_the_runtime(system, f"runtime.{number}"))


async def _through_the_runtime(system: System, name: str) -> float:
    handled, began, finished = 0, 0.0, asyncio.Event()

    async def receive(message: Message) -> Received[GwAlert]:
        nonlocal began
        began = began or time.perf_counter()
        event = decode(message.value, GwAlert)
        return Received(event.event_id, event)

    async def handle(event: GwAlert, work: UnitOfWork) -> None:
        work.write(f"{INSERT} ($1, $2)", event.event_id, event.superevent_id)

    settings = ConsumerSettings(batch_size=BATCH)
    subscription = Subscription(
        name=name, topics=[TOPIC], receive=receive, handle=handle, dead_letter_topics={}, group=name
    )
    state = ConsumerState(name, (TOPIC,))
    async with EventProducer(system.kafka) as producer:
        pool = await create_pool(DatabaseSettings(url=system.environment["TOCSIN_DATABASE__URL"]), "bench")
        office = DeadLetterOffice(producer, topic_of={}, service=name, version="0", max_consecutive=1)
        processor = Processor(
            subscription, pool=pool, dead_letters=office, committed=lambda: None, state=state, settings=settings
        )

        async def counted(messages: Sequence[Message], done: object) -> None:
            nonlocal handled
            await processor(messages, done)
            handled += len(messages)
            if handled >= MESSAGES:
                finished.set()

        config = consumer_config(
            system.kafka.client_config(), group=name, start_at="earliest", group_protocol="consumer", settings=settings
        )
        loop = ConsumerLoop(
            name=name, topics=[TOPIC], config=config, process=counted, observer=state, settings=settings
        )
        running_loop = asyncio.create_task(loop.run())
        await asyncio.wait([running_loop, asyncio.ensure_future(finished.wait())], return_when=asyncio.FIRST_COMPLETED)
        taken = time.perf_counter() - began
        loop.stop()
        await running_loop
        await pool.close()
    return MESSAGES / taken
