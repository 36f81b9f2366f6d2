"""A consumer of the runtime in the test's own event loop, on a real broker and database."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from shared.db.unit_of_work import UnitOfWork
from shared.errors import InvalidInputError
from shared.events.ids import event_id
from shared.inbox.dead_letters import DeadLetterOffice
from shared.inbox.processor import Processor
from shared.inbox.state import ConsumerState
from shared.inbox.subscription import Received, Subscription
from shared.kafka.consumer import ConsumerLoop, consumer_config
from shared.kafka.message import Message
from shared.kafka.producer import EventProducer
from shared.settings import ConsumerSettings, KafkaSettings


@dataclass(frozen=True)
class Fact:
    """What the messages of these tests say: a number, and where it came from."""

    number: int
    partition: int


async def receive(message: Message) -> Received[Fact]:
    """Decode a number."""
    try:
        fact = Fact(int(message.value), message.partition)
    except ValueError as error:
        raise InvalidInputError("number", message.value[:20], "digits") from error
    return Received(event_id("trial", str(fact.partition), str(fact.number)), fact)


Handle = Callable[[Fact, UnitOfWork], Awaitable[None]]


async def remember(fact: Fact, work: UnitOfWork) -> None:
    """Write the number down, with its partition."""
    work.write("INSERT INTO facts (number, word) VALUES ($1, $2)", fact.number, str(fact.partition))


@dataclass
class Member:
    """A running consumer."""

    loop: ConsumerLoop
    state: ConsumerState
    task: "asyncio.Task[None]"
    assignments: list[int] = field(default_factory=list)

    async def stop(self) -> None:
        """End it as a service that is told to stop does."""
        self.loop.stop()
        await self.task


class _Observed(ConsumerState):
    """A state that remembers how many partitions were held after each change."""

    def __init__(self, name: str, topics: tuple[str, ...]) -> None:
        super().__init__(name, topics)
        self.history: list[int] = []

    def assigned(self, partitions: int) -> None:
        super().assigned(partitions)
        self.history.append(partitions)


@dataclass
class Trial:
    """A topic, its dead-letter topic and a group, and how to start members of it."""

    pool: asyncpg.Pool
    kafka: KafkaSettings
    producer: EventProducer
    topic: str
    dead_letter_topic: str
    name: str = field(default_factory=lambda: f"trial_{uuid.uuid4().hex}")

    @asynccontextmanager
    async def member(
        self,
        handle: Handle = remember,
        *,
        protocol: str = "consumer",
        client: dict[str, Any] | None = None,
        **settings: Any,
    ) -> AsyncIterator[Member]:
        """A member of the group; it is stopped at the end unless it has ended."""
        consumer = ConsumerSettings(
            **{"backoff_initial_s": 0.05, "backoff_max_s": 0.2, "shutdown_grace_s": 5} | settings
        )
        state = _Observed(self.name, (self.topic,))
        subscription = Subscription(
            name=self.name,
            topics=[self.topic],
            receive=receive,
            handle=handle,
            dead_letter_topics={self.topic: self.dead_letter_topic},
            group=self.name,
        )
        office = DeadLetterOffice(
            self.producer,
            topic_of=subscription.dead_letter_topics,
            service="trial",
            version="0",
            max_consecutive=consumer.max_consecutive_dead_letters,
        )
        processor = Processor(
            subscription, pool=self.pool, dead_letters=office, committed=lambda: None, state=state, settings=consumer
        )
        config = consumer_config(
            self.kafka.client_config(),
            group=self.name,
            start_at="earliest",
            group_protocol=protocol,
            settings=consumer,
        )
        loop = ConsumerLoop(
            name=self.name,
            topics=[self.topic],
            config=config | (client or {}),
            process=processor,
            observer=state,
            settings=consumer,
        )
        member = Member(loop, state, asyncio.create_task(loop.run()), state.history)
        try:
            yield member
        finally:
            loop.stop()
            await asyncio.gather(member.task, return_exceptions=True)

    async def numbers(self) -> list[int]:
        """The numbers written down, in order."""
        return [row["number"] for row in await self.pool.fetch("SELECT number FROM facts ORDER BY id")]

    async def numbers_of(self, partition: int) -> list[int]:
        """Those that came from one partition."""
        rows = await self.pool.fetch("SELECT number FROM facts WHERE word = $1 ORDER BY id", str(partition))
        return [row["number"] for row in rows]

    async def until_numbers(self, count: int, *, deadline_s: float = 60.0) -> None:
        """Return when so many numbers are written down."""
        async with asyncio.timeout(deadline_s):
            while len(await self.numbers()) < count:
                await asyncio.sleep(0.02)
