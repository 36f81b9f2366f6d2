"""Carries a batch of messages through decode, claim, handle and commit, and decides about every failure.

A batch shares one transaction. When anything in it fails the batch is undone and its messages are taken
one by one, so that a single bad one costs the others nothing. Then: permanent errors are dead-lettered at
once, transient ones are waited out for as long as it takes, anything else is a bug and gets a few tries.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Generic, TypeVar

import asyncpg
import structlog

from shared.db.unit_of_work import unit_of_work
from shared.errors import PermanentError, TransientError
from shared.inbox.dead_letters import DeadLetterOffice
from shared.inbox.state import ConsumerState
from shared.inbox.subscription import Event, Received, Subscription
from shared.kafka.message import TRACE_HEADER, Message
from shared.observability import metrics
from shared.observability.tracing import continue_trace
from shared.settings import ConsumerSettings

BUG_RETRY_S = 0.2
# A bug rarely heals; the short wait only lets a race pass.

Result = TypeVar("Result")
log = structlog.get_logger(__name__)


class _HopelessError(Exception):
    """No further try of a message makes sense; `__cause__` says why."""


@dataclass(frozen=True)
class _Item(Generic[Event]):
    message: Message
    received: Received[Event]


class Processor(Generic[Event]):
    """Handles the messages of one subscription; what `ConsumerLoop` calls."""

    def __init__(
        self,
        subscription: Subscription[Event],
        *,
        pool: asyncpg.Pool,
        dead_letters: DeadLetterOffice,
        committed: Callable[[], None],
        state: ConsumerState,
        settings: ConsumerSettings,
    ) -> None:
        self._subscription = subscription
        self._pool = pool
        self._dead_letters = dead_letters
        self._committed = committed
        self._state = state
        self._settings = settings
        self._random = random.Random()  # noqa: S311
        self._log = log.bind(consumer=subscription.name)

    async def __call__(self, messages: Sequence[Message], done: Callable[[Message], None]) -> None:
        """Handle `messages` in order; call `done` with each whose effects are durable.

        Raises
        ------
        ConsumerHaltedError
            Nothing more may be taken.
        """
        started = time.perf_counter()
        items: list[_Item[Event]] = []
        try:
            for message in messages:
                self._state.took_event()
                try:
                    received = await self._insistently(message, partial(self._subscription.receive, message))
                except _HopelessError as verdict:
                    # Those before it first: what is done is done in order, and a good one breaks a row of bad ones.
                    await self._carry_out(items, done)
                    items = []
                    await self._bury(message, verdict, done)
                    continue
                if received is None:
                    done(message)
                    metrics.MESSAGES.labels(self._subscription.name, message.topic, "skipped").inc()
                else:
                    items.append(_Item(message, received))
            await self._carry_out(items, done)
        finally:
            # Also when the batch was taken away in the middle of an outage.
            self._state.paused(None)
        metrics.HANDLING.labels(self._subscription.name).observe(time.perf_counter() - started)

    async def _carry_out(self, items: Sequence[_Item[Event]], done: Callable[[Message], None]) -> None:
        if len(items) > 1 and await self._together(items, done):
            return
        for item in items:
            try:
                await self._insistently(item.message, partial(self._handle, [item], done))
            except _HopelessError as verdict:
                await self._bury(item.message, verdict, done)

    async def _together(self, items: Sequence[_Item[Event]], done: Callable[[Message], None]) -> bool:
        try:
            await self._handle(items, done)
        except Exception as error:  # noqa: BLE001
            # Which of them it was, and what to do about it, is found out one by one.
            self._log.info("consumer.batch.undone", messages=len(items), error=str(error), kind=type(error).__name__)
            return False
        return True

    async def _handle(self, items: Sequence[_Item[Event]], done: Callable[[Message], None]) -> None:
        outcomes: list[dict[str, str]] = []
        async with unit_of_work(self._pool, self._committed) as work:
            fresh = await work.claim(self._subscription.name, (item.received.event_id for item in items))
            for item in items:
                if item.received.event_id in fresh:
                    fresh.remove(item.received.event_id)
                    trace_id = continue_trace(item.message.header(TRACE_HEADER))
                    await self._subscription.handle(item.received.event, work)
                    outcomes.append({"outcome": "handled", "trace_id": trace_id})
                else:
                    outcomes.append({"outcome": "duplicate"})
        for item, outcome in zip(items, outcomes, strict=True):
            done(item.message)
            self._record(item.message, **outcome, event_id=str(item.received.event_id))
        self._dead_letters.handled_one()

    async def _insistently(self, message: Message, action: Callable[[], Awaitable[Result]]) -> Result:
        """Return what `action` returns; raise `_HopelessError` when `message` is to be dead-lettered."""
        pause_s, failures = self._settings.backoff_initial_s, 0
        while True:
            try:
                result = await action()
            except PermanentError as error:
                raise _HopelessError from error
            except TransientError as error:
                await self._wait_out(error, pause_s)
                pause_s = min(2 * pause_s, self._settings.backoff_max_s)
            except Exception as error:
                failures += 1
                self._log.exception(
                    "consumer.message.failed", topic=message.topic, partition=message.partition, offset=message.offset,
                    failure=failures,
                )  # fmt: skip
                if failures >= self._settings.tries:
                    raise _HopelessError from error
                await asyncio.sleep(BUG_RETRY_S)
            else:
                self._state.paused(None)
                return result

    async def _wait_out(self, error: TransientError, pause_s: float) -> None:
        self._state.paused(str(error))
        metrics.TRANSIENT_FAILURES.labels(self._subscription.name, type(error).__name__).inc()
        self._log.warning("consumer.paused", reason=str(error), pause_s=round(pause_s, 2))
        # Jitter: after an outage not every consumer should knock at the same instant.
        await asyncio.sleep(pause_s * self._random.uniform(0.5, 1.0))

    async def _bury(self, message: Message, verdict: _HopelessError, done: Callable[[Message], None]) -> None:
        error = verdict.__cause__
        assert error is not None
        await self._dead_letters.bury(message, error)
        done(message)
        self._state.dead_letters += 1
        self._record(message, "dead_lettered", error=str(error), kind=type(error).__name__)
        self._dead_letters.check()

    def _record(self, message: Message, outcome: str, **facts: str) -> None:
        """Write the one canonical line of a message, and count it."""
        name = self._subscription.name
        metrics.MESSAGES.labels(name, message.topic, outcome).inc()
        age_s = None
        if message.timestamp is not None:
            age_s = (datetime.now(UTC) - message.timestamp).total_seconds()
            metrics.EVENT_AGE.labels(name).observe(max(age_s, 0))
        self._log.info(
            "message", topic=message.topic, partition=message.partition, offset=message.offset, outcome=outcome,
            age_s=age_s, **facts,
        )  # fmt: skip
