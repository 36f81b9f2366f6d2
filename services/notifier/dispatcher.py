"""Sends what is due on one channel, one request after the other, and never twice what may have arrived.

A delivery is SENDING, committed, before it leaves, and what came of it is committed after. Whoever finds it SENDING
knows that a process died in between, and asks the other side first. When nothing else waits, the transaction that
decides a delivery makes it SENDING too, and it leaves as soon as that is committed.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import asyncpg
import structlog
from prometheus_client import Counter, Gauge, Histogram

from services.notifier.channels.channel import (
    Answer,
    BulkChannel,
    Channel,
    Prepared,
    TooManyRequestsError,
    UncertainError,
)
from services.notifier.channels.common import CommonSettings
from services.notifier.happenings import Happening
from services.notifier.store import WAKE, Due, NotifierStore, as_due
from shared.db.errors import translated_errors
from shared.db.pool import connect
from shared.db.unit_of_work import UnitOfWork, unit_of_work
from shared.errors import PermanentError, TransientError
from shared.events.notices import ChannelMode, DeliveryState
from shared.http.rate_limit import RateLimiter
from shared.settings import DatabaseSettings

BACKOFF_S, MAX_BACKOFF_S = 1.0, 300.0
# How long a channel rests after a failure: doubled with each in a row, with jitter.
FAILURES_TO_OPEN = 5
# So many in a row are told to operators as an open circuit.
GIVES_WAY_EVERY = 5
# Tries of a delivery after which the next one is tried before it.
IDLE_S = 30.0
# Safety net: decisions notify, and what waits has its time.
OUTAGE_S = 1.0

DELIVERIES = Counter("tocsin_deliveries_total", "What became of deliveries.", ["channel", "state"])
OPEN_CIRCUIT = Gauge("tocsin_channel_circuit_open", "1 while a channel rests after failures.", ["channel"])
SENDING = Histogram("tocsin_delivery_send_seconds", "Time of one request outward (s).", ["channel"])

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class _Step:
    """What becomes of a delivery that waited."""

    due: Due
    state: DeliveryState
    reason: str | None = None
    prepared: Prepared | None = None

    @property
    def is_to_leave(self) -> bool:
        return self.state is DeliveryState.SENDING

    @property
    def mode(self) -> ChannelMode:
        return self.due.job.mode


class Dispatcher:
    """The sender of one channel. Of several replicas one sends: it holds the channel's lock."""

    def __init__(
        self,
        channel: Channel,
        settings: CommonSettings,
        *,
        pool: asyncpg.Pool,
        database: DatabaseSettings,
        schema: str,
        committed: Callable[[], None] = lambda: None,
    ) -> None:
        self._committed = committed
        self._channel = channel
        self._settings = settings
        self._pool = pool
        self._database = database
        self._schema = schema
        self._sender = f"tocsin.{schema}"
        self._wake = asyncio.Event()
        self._limit = RateLimiter(rate_per_s=settings.per_minute / 60, burst=settings.at_once)
        self._batch = self._together = channel.batch if isinstance(channel, BulkChannel) else 1
        self._failures = 0
        self._open_until = 0.0
        self._is_waiting = False
        self._is_promised = False
        self._is_unsettled = False
        self._decided: tuple[Due, Prepared] | None = None
        self._random = random.Random()  # noqa: S311
        self._log = log.bind(channel=channel.name)

    async def run(self) -> None:
        """Send for ever; outages of the database are waited out."""
        while True:
            try:
                async with connect(self._database, self._schema) as connection:
                    await self._while_connected(connection)
            except TransientError as error:
                self._log.warning("deliveries.waiting", reason=str(error))
                await asyncio.sleep(OUTAGE_S)

    async def _while_connected(self, connection: asyncpg.Connection) -> None:
        with translated_errors():
            await connection.add_listener(WAKE, self._notified)
        # No notification comes over a lost connection, so its end is one.
        connection.add_termination_listener(lambda _: self._wake.set())
        while not await self._become_the_only_one(connection):  # noqa: ASYNC110  (another process's lock)
            await asyncio.sleep(OUTAGE_S)
        # What was promised, and is in the database by now or not, is found there.
        await self._kept_promise()
        self._decided = None
        await self._settle()
        try:
            while not connection.is_closed():
                self._wake.clear()
                # It comes first, as soon as its transaction ended.
                await self._kept_promise()
                await self._send_decided()
                wait_s = await self._send_next()
                if wait_s > 0 and not await self._woken_within(min(wait_s, IDLE_S)):
                    # What wakes comes over the connection, and proves that it lives; a lost one has lost the lock.
                    with translated_errors():
                        await connection.execute("SELECT 1")
                self._is_waiting = False
        finally:
            self._is_waiting = False

    async def take(self, row: asyncpg.Record, happening: Happening, work: UnitOfWork, store: NotifierStore) -> bool:
        """Have the transaction that decides a delivery say that it is being sent, and send it after the commit.

        False: it is not taken, and has its turn when it is due.
        """
        if not self.is_idle:
            return False
        step = self._step(as_due(row, happening))
        if not step.is_to_leave or step.prepared is None or self._limit.check(self._channel.name) > 0:
            return False
        self._is_promised = True
        work.at_end(partial(self._after, step.due, step.prepared))
        await store.put(step.due, step.state, prepared=step.prepared, tried=True)
        return True

    @property
    def is_idle(self) -> bool:
        """It waits for something to do, and may take it at once."""
        return self._is_waiting and not self._is_promised and self._failures == 0 and not self._wake.is_set()

    def _after(self, due: Due, prepared: Prepared, is_committed: bool) -> None:
        self._is_promised = False
        if is_committed:
            self._decided = due, prepared
        else:
            # Or it is, and nobody heard of it.
            self._is_unsettled = True
        self._wake.set()

    async def _kept_promise(self) -> None:
        while self._is_promised:
            await self._wake.wait()
            self._wake.clear()

    async def _send_decided(self) -> None:
        if self._is_unsettled:
            self._is_unsettled = False
            await self._settle()
        if self._decided is not None:
            decided, self._decided = self._decided, None
            await self._send([decided])

    async def _woken_within(self, wait_s: float) -> bool:
        with contextlib.suppress(TimeoutError):
            return await asyncio.wait_for(self._wake.wait(), wait_s)
        return False

    def _notified(self, *arguments: object) -> None:
        if arguments[-1] == self._channel.name:
            self._wake.set()

    async def _become_the_only_one(self, connection: asyncpg.Connection) -> bool:
        with translated_errors():
            return bool(
                await connection.fetchval(
                    "SELECT pg_try_advisory_lock(hashtextextended($1, 3))", f"{self._schema} {self._channel.name}"
                )
            )

    async def _settle(self) -> None:
        """Find out what became of what was being sent when a process died."""
        async with unit_of_work(self._pool) as work:
            interrupted = await self._store(work).interrupted(self._channel.name)
        for due in interrupted:
            self._log.info("delivery.interrupted", delivery=due.job.delivery_id)
        await self._find_out_each([(due, due.prepared) for due in interrupted], "a process died while it was sent")

    async def _send_next(self) -> float:
        """Take the next step of what is due; return how long nothing is to be done (s)."""
        rest_s = self._open_until - time.monotonic()
        if rest_s > 0:
            return rest_s
        steps: Sequence[_Step] = ()
        wait_s = 0.0
        async with unit_of_work(self._pool, self._committed) as work:
            store = self._store(work)
            due = await store.due(self._channel.name, at_most=self._together)
            if not due:
                self._is_waiting = True
                next_s = await store.wait_s(self._channel.name)
                # A hundredth more than nothing: clocks differ by their last digit.
                return IDLE_S if next_s is None else max(next_s, 0.01)
            state = due[0].state
            if state is DeliveryState.PENDING:
                steps, wait_s = self._steps(due)
                for step in steps:
                    await store.put(
                        step.due, step.state, reason=step.reason, prepared=step.prepared, tried=step.is_to_leave
                    )
        for step in steps:
            self._note(step.due, step.state, step.reason)
        leaving = [(step.due, step.prepared) for step in steps if step.is_to_leave and step.prepared is not None]
        if leaving:
            await self._send(leaving)
        elif state is DeliveryState.SENDING:
            await self._find_out_each([(each, each.prepared) for each in due])
        elif state is DeliveryState.SENT:
            for each in due:
                if self._open_until <= time.monotonic():
                    await self._confirm(each)
        return wait_s

    def _steps(self, due: Sequence[Due]) -> tuple[list[_Step], float]:
        """Return what becomes of deliveries that wait, and how long those that are to leave must wait on (s).

        All that leave together are of one mode.
        """
        steps = [self._step(each) for each in due]
        leaving = [step for step in steps if step.is_to_leave]
        wait_s = self._limit.check(self._channel.name) if leaving else 0.0
        staying = leaving if wait_s > 0 else [each for each in leaving if each.mode is not leaving[0].mode]
        return [step for step in steps if step not in staying], wait_s

    def _step(self, due: Due) -> _Step:
        if due.job.mode is ChannelMode.UNKNOWN:
            # Tried again by hand: as the channel is today.
            due = replace(due, job=replace(due.job, mode=self._settings.mode))
        job = due.job
        if job.mode is ChannelMode.OFF:
            return _Step(due, DeliveryState.SUPPRESSED, "the channel is off")
        if job.mode is ChannelMode.PRODUCTION and job.happening.is_test:
            return _Step(due, DeliveryState.SUPPRESSED, "test traffic never goes to production")
        try:
            prepared = self._channel.prepare(job)
        except Exception as error:  # noqa: BLE001  (a record that cannot be told must not stop the others)
            self._log.exception("delivery.unprepared", delivery=job.delivery_id)
            return _Step(due, DeliveryState.FAILED, f"it could not be written: {error}")
        if prepared is None:
            return _Step(due, DeliveryState.SUPPRESSED, "there is nothing to say")
        if job.mode is ChannelMode.DRY_RUN:
            return _Step(due, DeliveryState.SUPPRESSED, "dry run", prepared)
        return _Step(due, DeliveryState.SENDING, prepared=prepared)

    async def _send(self, batch: Sequence[tuple[Due, Prepared]]) -> None:
        """Send what is being sent, in one request."""
        began = time.monotonic()
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                answers = await self._request(batch)
        except (UncertainError, TimeoutError) as error:
            self._failed()
            await self._find_out_each(batch, str(error) or "no answer came in time")
        except TransientError as error:
            self._failed()
            rest_s = self._rest(error)
            for due, _ in batch:
                await self._try_again(due, error, rest_s=rest_s)
        except PermanentError as error:
            # The other side is there, and says no.
            self._succeeded()
            if len(batch) > 1:
                # To which of them, is found out with fewer at once.
                self._together = len(batch) // 2
                for due, _ in batch:
                    await self._put(due, DeliveryState.PENDING, reason=f"refused with others: {error}", retry_s=0.0)
            else:
                await self._put(batch[0][0], DeliveryState.FAILED, reason=str(error))
        except Exception as error:  # noqa: BLE001  (nor must a bug in a channel; what it did is found out)
            self._log.exception("delivery.failed", deliveries=[due.job.delivery_id for due, _ in batch])
            self._failed()
            await self._find_out_each(batch, f"a bug: {error!r}")
        else:
            self._succeeded()
            self._together = min(2 * self._together, self._batch)
            SENDING.labels(self._channel.name).observe(time.monotonic() - began)
            for (due, _), answer in zip(batch, answers, strict=True):
                await self._answered(due, answer)

    async def _request(self, batch: Sequence[tuple[Due, Prepared]]) -> Sequence[Answer | PermanentError]:
        mode = batch[0][0].job.mode
        if isinstance(self._channel, BulkChannel):
            return await self._channel.send_together([prepared for _, prepared in batch], mode=mode)
        return [await self._channel.send(prepared, mode=mode) for _, prepared in batch]

    async def _answered(self, due: Due, answer: Answer | PermanentError) -> None:
        if isinstance(answer, PermanentError):
            await self._put(due, DeliveryState.FAILED, reason=str(answer))
        elif answer.is_confirmed:
            await self._put(due, DeliveryState.CONFIRMED, answer=answer)
        else:
            await self._put(due, DeliveryState.SENT, answer=answer, retry_s=answer.ask_again_s)

    async def _confirm(self, due: Due) -> None:
        """Ask what became of what was accepted."""
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                answer = await self._channel.confirm(due.prepared, due.answer, mode=due.job.mode)
        except PermanentError as error:
            self._succeeded()
            await self._put(due, DeliveryState.FAILED, reason=str(error))
        except (TransientError, TimeoutError) as error:
            self._failed()
            reason = f"whether it arrived is not known yet: {error}"
            await self._put(due, DeliveryState.SENT, reason=reason, retry_s=self._rest(error))
        except Exception as error:  # noqa: BLE001  (a bug in a channel must not end the others' work)
            self._log.exception("delivery.unconfirmed", delivery=due.job.delivery_id)
            await self._put(due, DeliveryState.UNKNOWN, reason=f"it was accepted; asking more met a bug: {error!r}")
        else:
            self._succeeded()
            await self._answered(due, answer)

    async def _find_out_each(self, batch: Sequence[tuple[Due, Prepared]], reason: str | None = None) -> None:
        """Ask what arrived whose answer never came; once it cannot be asked, what is left waits with it."""
        rest_s = None
        for due, prepared in batch:
            why = reason or due.row["reason"] or "it was interrupted"
            if rest_s is None:
                rest_s = await self._find_out(due, prepared, why)
            else:
                await self._put(due, DeliveryState.SENDING, reason=why, retry_s=rest_s)

    async def _find_out(self, due: Due, prepared: Prepared, reason: str) -> float | None:
        """Ask whether something arrived whose answer never came, and send it again only if it did not.

        Returns how long the channel rests (s) when it cannot be asked.
        """
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                answer = await self._channel.check(prepared, mode=due.job.mode)
        except UncertainError as error:
            await self._put(due, DeliveryState.UNKNOWN, reason=f"{reason}; checked: {error}")
        except PermanentError as error:
            await self._put(due, DeliveryState.FAILED, reason=f"{reason}; checked: {error}")
        except (TransientError, TimeoutError) as error:
            self._failed()
            rest_s = self._rest(error)
            await self._put(due, DeliveryState.SENDING, reason=reason, retry_s=rest_s)
            return rest_s
        except Exception as error:  # noqa: BLE001  (as above, and what may have arrived is not sent again)
            self._log.exception("delivery.unchecked", delivery=due.job.delivery_id)
            await self._put(due, DeliveryState.UNKNOWN, reason=f"{reason}; checking met a bug: {error!r}")
        else:
            if answer is None:
                lost = TransientError(f"{reason}; it did not arrive")
                await self._try_again(due, lost, rest_s=self._rest(lost))
            else:
                self._succeeded()
                await self._answered(due, answer)
        return None

    async def _try_again(self, due: Due, error: TransientError, *, rest_s: float) -> None:
        attempts = due.job.attempts + 1
        if attempts >= self._settings.max_attempts:
            await self._put(due, DeliveryState.FAILED, reason=f"tried {attempts} times: {error}")
            return
        # The channel rests as long as the delivery waits, so that it comes first again: after an outage all goes out in
        # order. Now and then it waits longer, for it may be the one that the other side cannot take.
        pause_s = 3 * rest_s if attempts % GIVES_WAY_EVERY == 0 else rest_s
        # Those that gave way did so for nothing if the next one fails as well.
        align_s = rest_s if attempts % GIVES_WAY_EVERY else None
        await self._put(due, DeliveryState.PENDING, reason=str(error), retry_s=pause_s, align_s=align_s)

    def _rest(self, error: Exception) -> float:
        """Let the channel rest after a failure, longer each time; return how long (s)."""
        if isinstance(error, TooManyRequestsError):
            rest_s = error.retry_after_s
        else:
            doubled = BACKOFF_S * 2.0 ** min(self._failures - 1, 20)
            rest_s = min(doubled, MAX_BACKOFF_S) * self._random.uniform(0.5, 1.0)
        self._open_until = time.monotonic() + rest_s
        return rest_s

    def _failed(self) -> None:
        self._failures += 1
        if self._failures % GIVES_WAY_EVERY == 0:
            # It may be one of them that the other side cannot take.
            self._together = max(self._together // 2, 1)
        if self._failures == FAILURES_TO_OPEN:
            self._log.warning("channel.rests", failures=self._failures)
            OPEN_CIRCUIT.labels(self._channel.name).set(1)

    def _succeeded(self) -> None:
        self._failures = 0
        OPEN_CIRCUIT.labels(self._channel.name).set(0)

    async def _put(self, due: Due, state: DeliveryState, *, align_s: float | None = None, **facts: Any) -> None:
        async with unit_of_work(self._pool, self._committed) as work:
            store = self._store(work)
            await store.put(due, state, **facts)
            if align_s is not None:
                # In one transaction, so at the very same time: then the oldest is the first.
                store.align(self._channel.name, align_s)
        self._note(due, state, facts.get("reason"))

    def _note(self, due: Due, state: DeliveryState, reason: str | None) -> None:
        DELIVERIES.labels(self._channel.name, state).inc()
        self._log.info(
            "delivery",
            delivery=due.job.delivery_id,
            subject=due.job.happening.subject,
            state=state,
            reason=reason,
        )

    def _store(self, work: UnitOfWork) -> NotifierStore:
        return NotifierStore(work, sender=self._sender)
