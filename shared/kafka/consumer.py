"""The thread that owns a consumer: polls for ever, hands batches to the event loop, stores what is done.

While a batch is in hand the thread goes on polling with its partitions paused, so that the group never
gives the member up, however long a handler computes or an outage lasts (invariants 4, 7). Offsets are
stored only after the batch's transaction and committed by librdkafka within a second, on revocation and
on close (invariant 1).
"""

import asyncio
import contextvars
import json
import logging
import math
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import accumulate
from typing import Any, Protocol

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from shared.errors import TocsinError
from shared.kafka.message import Message
from shared.settings import MAX_MESSAGE_BYTES, ConsumerSettings

POLL_S = 0.2
# Longest wait inside librdkafka; bounds how late the thread sees a stop.
PAUSE_AFTER_S = 0.5
# A batch that takes longer is awaited with paused partitions. Pausing drops what was prefetched, so ordinary
# batches should finish before it.
REVOKE_GRACE_S = 5.0
# How long a revocation waits for the batch in hand before it is rolled back and left to the next owner.
CLOSE_GRACE_S = 5.0
# How long a stop waits for the farewell to the group. While the broker is away librdkafka would take 45 s; the group
# finds out by itself that the member is gone.
STATISTICS_INTERVAL_MS = 1000
COMPLAINT_INTERVAL_S = 60.0
# librdkafka repeats each complaint with every attempt to reconnect, several times a second for as long as a broker is
# away.

log = structlog.get_logger(__name__)


class ConsumerFailedError(TocsinError):
    """The consumer cannot go on; its service must be restarted."""


class ConsumerHaltedError(TocsinError):
    """The consumer must stop taking messages until an operator has looked (invariant 4)."""


class Observer(Protocol):
    """What a consumer tells about itself."""

    def polled(self) -> None:
        """Note that the loop has turned."""

    def assigned(self, partitions: int) -> None:
        """Note how many partitions the member holds."""

    def lag(self, messages: int) -> None:
        """Note how many messages wait in the held partitions."""

    def connected(self, up: bool) -> None:
        """Note whether any broker is connected."""

    def halted(self, reason: str) -> None:
        """Note that no message will be taken any more."""


def consumer_config(
    client: dict[str, Any], *, group: str, start_at: str, group_protocol: str, settings: ConsumerSettings
) -> dict[str, Any]:
    """Return librdkafka settings for a member of `group` that commits only what it was told is done.

    Parameters
    ----------
    client
        How to reach the broker (`KafkaSettings.client_config`, or a source's own).
    start_at
        `earliest` or `latest`: where a group without offsets begins.
    group_protocol
        `consumer` (KIP-848) or `classic`.
    """
    common: dict[str, Any] = {
        "group.id": group,
        "auto.offset.reset": start_at,
        "enable.auto.offset.store": False,
        "enable.auto.commit": True,
        "auto.commit.interval.ms": 1000,
        "max.poll.interval.ms": settings.max_poll_interval_s * 1000,
        "fetch.message.max.bytes": MAX_MESSAGE_BYTES,
        "queued.max.messages.kbytes": max(1024, 2 * settings.batch_bytes // 1024),
        "fetch.error.backoff.ms": 100,
        "reconnect.backoff.max.ms": 2000,
        "statistics.interval.ms": STATISTICS_INTERVAL_MS,
        "group.protocol": group_protocol,
    }
    if group_protocol == "classic":
        common |= {
            "partition.assignment.strategy": "cooperative-sticky",
            "session.timeout.ms": settings.session_timeout_s * 1000,
        }
    return client | common


@dataclass
class _Batch:
    """Messages in hand, and which of them are done."""

    messages: Sequence[Message]
    done: set[tuple[str, int, int]] = field(default_factory=set)
    ended: threading.Event = field(default_factory=threading.Event)
    error: BaseException | None = None
    abandoned: bool = False
    cancel: Callable[[], object] = lambda: None

    async def run(self, process: "Process") -> None:
        try:
            await process(self.messages, self.mark_done)
        except Exception as error:  # noqa: BLE001  (raised again in the thread)
            self.error = error
        finally:
            self.ended.set()

    def mark_done(self, message: Message) -> None:
        self.done.add((message.topic, message.partition, message.offset))

    def touches(self, partitions: set[tuple[str, int]]) -> bool:
        return any((message.topic, message.partition) in partitions for message in self.messages)

    def split(self) -> tuple[dict[tuple[str, int], int], dict[tuple[str, int], int]]:
        """Return per partition the next offset to store, and the first offset that is not done."""
        store: dict[tuple[str, int], int] = {}
        undone: dict[tuple[str, int], int] = {}
        for message in self.messages:
            partition = message.topic, message.partition
            if partition in undone:
                continue
            if (*partition, message.offset) in self.done:
                store[partition] = message.offset + 1
            else:
                undone[partition] = message.offset
        return store, undone


Process = Callable[[Sequence[Message], Callable[[Message], None]], Awaitable[None]]
"""Handles a batch in order and calls its second argument with each message whose effects are durable."""


class ConsumerLoop:
    """Reads topics as a member of a group and has `process` handle what comes.

    Parameters
    ----------
    name
        Of the subscription, for logs.
    config
        From `consumer_config`.
    process
        Runs on the event loop; must keep trying through outages, and raises `ConsumerHaltedError` to stop for good.
    """

    def __init__(
        self,
        *,
        name: str,
        topics: Sequence[str],
        config: dict[str, Any],
        process: Process,
        observer: Observer,
        settings: ConsumerSettings,
    ) -> None:
        self._name = name
        self._topics = list(topics)
        self._config = config
        self._process = process
        self._observer = observer
        self._settings = settings
        self._stopping = threading.Event()
        self._stop_by = math.inf
        self._close_by = math.inf
        self._assigned: set[tuple[str, int]] = set()
        self._batch: _Batch | None = None
        self._paused = False
        self._halted = False
        self._complained_at: dict[int, float] = {}
        self._log = log.bind(consumer=name)

    def stop(self) -> None:
        """Ask the thread to finish the batch in hand, within the grace of the settings, and leave the group."""
        if not self._stopping.is_set():
            self._stop_by = time.monotonic() + self._settings.shutdown_grace_s
            self._stopping.set()

    async def run(self) -> None:
        """Consume until `stop`; raise `ConsumerFailedError` when that is no longer possible."""
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()

        def body() -> None:
            try:
                self._consume(loop)
            except BaseException as error:  # noqa: BLE001  (raised again in `run`)
                failure = ConsumerFailedError(f"{self._name}: {error}")
                failure.__cause__ = error
                report: Callable[[], None] = partial(ended.set_exception, failure)
            else:
                report = partial(ended.set_result, None)
            # The loop may be gone when nobody waited for the end.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(report)

        # With the context, in which the service's name for the logs is.
        target = contextvars.copy_context().run
        thread = threading.Thread(target=target, args=(body,), name=f"consumer-{self._name}", daemon=True)
        thread.start()
        try:
            await self._until_ended(ended)
        except asyncio.CancelledError:
            self.stop()
            await self._until_ended(ended)
            raise

    async def _until_ended(self, ended: "asyncio.Future[None]") -> None:
        while not ended.done():
            await asyncio.wait([ended], timeout=POLL_S)
            if time.monotonic() > self._close_by:
                self._log.warning("consumer.left_behind", reason="the broker does not answer the farewell")
                if self._stopping.is_set():
                    return
                raise ConsumerFailedError(f"{self._name}: ended, and the broker does not answer the farewell")
        ended.result()

    # Everything below runs in the consumer's own thread.

    def _consume(self, loop: asyncio.AbstractEventLoop) -> None:
        consumer = Consumer(
            self._config | {"stats_cb": self._observe, "error_cb": self._client_error},
            logger=logging.getLogger("librdkafka.consumer"),
        )
        consumer.subscribe(self._topics, on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost)
        try:
            while not self._stopping.is_set():
                self._observer.polled()
                self._work_off(consumer, loop, self._poll(consumer))
        finally:
            self._close_by = time.monotonic() + CLOSE_GRACE_S
            consumer.close()

    def _poll(self, consumer: Consumer) -> list[Message]:
        # poll() returns with the first message, consume() would wait for a full batch or its time-out.
        first = consumer.poll(POLL_S)
        if first is None:
            return []
        raw = [first, *consumer.consume(self._settings.batch_size - 1, timeout=0)]
        messages = []
        for message in raw:
            error = message.error()
            if error is None:
                messages.append(Message.from_client(message))
            else:
                self._client_error(error)
        # A rebalance may have run inside consume(): what belongs to somebody else now is theirs to handle.
        return self._held(messages)

    def _work_off(self, consumer: Consumer, loop: asyncio.AbstractEventLoop, messages: list[Message]) -> None:
        """Hand messages over, batch after batch, and store what is done."""
        while messages and not self._stopping.is_set():
            size = self._batch_length(messages)
            batch, messages = _Batch(messages[:size]), messages[size:]
            self._hand_over(consumer, loop, batch)
            store, undone = batch.split()
            self._store(consumer, store)
            if undone:
                # What follows waits its turn too: all of it is fetched again, in order.
                self._rewind(consumer, undone, messages)
                messages = []
            if self._halted:
                self._idle(consumer)
            self._resume(consumer)
            messages = self._held(messages)

    def _batch_length(self, messages: Sequence[Message]) -> int:
        """Return how many of `messages` fit a transaction; at least one does."""
        sizes = accumulate(len(message.value) for message in messages)
        return max(1, sum(size <= self._settings.batch_bytes for size in sizes))

    def _held(self, messages: Sequence[Message]) -> list[Message]:
        return [message for message in messages if (message.topic, message.partition) in self._assigned]

    def _hand_over(self, consumer: Consumer, loop: asyncio.AbstractEventLoop, batch: _Batch) -> None:
        self._batch = batch
        batch.cancel = asyncio.run_coroutine_threadsafe(batch.run(self._process), loop).cancel
        try:
            self._await(consumer, batch)
        except BaseException:
            self._abandon(batch, "the consumer failed")
            raise
        finally:
            self._batch = None
        if isinstance(batch.error, ConsumerHaltedError):
            self._halted = True
            self._observer.halted(str(batch.error))
            self._log.critical("consumer.halted", reason=str(batch.error))
        elif batch.error is not None and not batch.abandoned:
            raise batch.error

    def _await(self, consumer: Consumer, batch: _Batch) -> None:
        while not batch.ended.wait(POLL_S if self._paused else PAUSE_AFTER_S) and not batch.abandoned:
            if time.monotonic() > self._stop_by:
                self._abandon(batch, "the service stops")
            self._pause(consumer)
            self._poll_paused(consumer)

    def _abandon(self, batch: _Batch, reason: str) -> None:
        self._log.warning("consumer.batch.abandoned", reason=reason, messages=len(batch.messages))
        batch.abandoned = True
        batch.cancel()
        # The coroutine rolls its transaction back before the partition goes to somebody else.
        batch.ended.wait(REVOKE_GRACE_S)

    def _poll_paused(self, consumer: Consumer) -> None:
        self._observer.polled()
        message = consumer.poll(0)
        if message is None:
            return
        error = message.error()
        if error is not None:
            self._client_error(error)
        else:
            # Fetched just before the pause took hold: put it back.
            self._rewind(consumer, {}, [Message.from_client(message)])

    def _idle(self, consumer: Consumer) -> None:
        """Hold the partitions, take nothing, until the service is stopped."""
        self._pause(consumer)
        while not self._stopping.wait(POLL_S):
            self._poll_paused(consumer)

    def _pause(self, consumer: Consumer) -> None:
        if not self._paused:
            consumer.pause([TopicPartition(*partition) for partition in self._assigned])
            self._paused = True

    def _resume(self, consumer: Consumer) -> None:
        if self._paused:
            consumer.resume([TopicPartition(*partition) for partition in self._assigned])
            self._paused = False

    def _store(self, consumer: Consumer, offsets: dict[tuple[str, int], int]) -> None:
        held = [
            TopicPartition(*partition, offset) for partition, offset in offsets.items() if partition in self._assigned
        ]
        if held:
            consumer.store_offsets(offsets=held)

    def _rewind(self, consumer: Consumer, offsets: dict[tuple[str, int], int], following: Iterable[Message]) -> None:
        """Fetch again from `offsets`, and the partitions of the messages that follow from there."""
        first = dict(offsets)
        for message in following:
            first.setdefault((message.topic, message.partition), message.offset)
        for partition, offset in first.items():
            if partition in self._assigned:
                consumer.seek(TopicPartition(*partition, offset))

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._assigned |= {(partition.topic, partition.partition) for partition in partitions}
        self._observer.assigned(len(self._assigned))
        consumer.incremental_assign(partitions)
        # Whether a pause survives a rebalance is not promised.
        if self._paused:
            consumer.pause(partitions)
        else:
            consumer.resume(partitions)
        self._log.info("consumer.assigned", partitions=[f"{p.topic}[{p.partition}]" for p in partitions])

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        leaving = {(partition.topic, partition.partition) for partition in partitions}
        batch = self._batch
        if batch is not None and batch.touches(leaving):
            if not batch.ended.wait(REVOKE_GRACE_S):
                self._abandon(batch, "its partition was revoked")
            self._store(consumer, batch.split()[0])
        self._leave(leaving, "revoked")
        # Commits the stored offsets of what leaves.
        consumer.incremental_unassign(partitions)

    def _on_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        leaving = {(partition.topic, partition.partition) for partition in partitions}
        self._leave(leaving, "lost")
        batch = self._batch
        if batch is not None and batch.touches(leaving):
            self._abandon(batch, "its partition was lost")
        consumer.incremental_unassign(partitions)

    def _leave(self, partitions: set[tuple[str, int]], how: str) -> None:
        self._assigned -= partitions
        self._observer.assigned(len(self._assigned))
        self._log.info(f"consumer.{how}", partitions=[f"{topic}[{number}]" for topic, number in sorted(partitions)])

    def _client_error(self, error: KafkaError) -> None:
        if error.fatal() or error.code() == KafkaError._FATAL:
            # Such a consumer would sit there for ever, alive to look at, without a partition.
            raise KafkaException(error)
        # librdkafka reconnects and refetches by itself; what it says is worth a line now and then, not a stop.
        now = time.monotonic()
        if now - self._complained_at.get(error.code(), -math.inf) >= COMPLAINT_INTERVAL_S:
            self._complained_at[error.code()] = now
            self._log.warning("consumer.client_error", code=error.name(), error=error.str())

    def _observe(self, statistics: str) -> None:
        report = json.loads(statistics)
        partitions = [
            partition
            for topic in report["topics"].values()
            for number, partition in topic["partitions"].items()
            if (topic["topic"], int(number)) in self._assigned
        ]
        self._observer.lag(sum(max(partition["consumer_lag_stored"], 0) for partition in partitions))
        self._observer.connected(any(broker["state"] == "UP" for broker in report["brokers"].values()))
