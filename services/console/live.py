"""Follows the topics, outside any group, and tells all browsers that are there what happens, as it happens."""

from __future__ import annotations

import asyncio
import contextvars
import json
import logging
import random
import re
import secrets
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from functools import partial
from typing import Any

import structlog
from confluent_kafka import Consumer, KafkaException, TopicPartition
from fastapi.responses import StreamingResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from services.console.happenings import TOPICS, Line, line_of
from shared.errors import TocsinError
from shared.http.events import HEARTBEAT, Broadcast, encode_event, event_stream
from shared.http.problems import ProblemError
from shared.kafka.errors import ClientFailedError
from shared.kafka.message import Message
from shared.schema.codec import decode

POLL_S = 0.2
STATISTICS_INTERVAL_MS = 1000
METADATA_S = 5.0
LOOK_S, LOOK_MISSING_S = 60.0, 3.0
# How often partitions are looked for: while a topic is missing, and otherwise (a topic may get more of them).
CLOSE_S = 2.0
HEARTBEAT_S = 15.0
KEPT = 200
# Lines that a browser is told which comes back after its connection broke; who missed more loads its page anew.
STREAM_S, CLOSED_STREAM_S = 3600.0, 60.0
# Of everybody; of people who have to be logged in, and may be no longer.
RETRY_MS = (1000, 4000)
# Browsers that lost their stream together come back spread over this.
FULL_RETRY_AFTER_S = 30
PLACE = "place"
# In the state of a request.
_NO_WORD = re.compile(r"[^A-Za-z0-9]+")

log = structlog.get_logger(__name__)


class FeedState(StrEnum):
    """What browsers are told of the feed itself."""

    LIVE = "live"
    WAITS = "feed waits"


class Live:
    """The feed: every line is made into bytes once, and handed to everybody.

    Parameters
    ----------
    render
        Makes the HTML of a line.
    max_streams
        Browsers at once.
    capacity
        Chunks that wait for one browser. Who is slower is let go, and comes back for what was missed.
    stream_s
        How long a stream goes on; then its browser comes back, and who it belongs to is looked at again.
    """

    def __init__(
        self,
        client: dict[str, Any],
        render: Callable[[Line], str],
        *,
        max_streams: int,
        capacity: int = 500,
        stream_s: float = STREAM_S,
    ) -> None:
        self._client = client
        self._render = render
        self._max_streams = max_streams
        self._stream_s = stream_s
        self._streams = 0
        self._epoch = secrets.token_hex(4)
        self._number = 0
        self._state = FeedState.WAITS
        self._is_ending = False
        self._kept: deque[tuple[int, bytes]] = deque(maxlen=KEPT)
        self._broadcast: Broadcast[bytes] = Broadcast(capacity=capacity)
        self._heard: list[Callable[[Line], None]] = []

    def on_line(self, heard: Callable[[Line], None]) -> None:
        """Have `heard` called with every line."""
        self._heard.append(heard)

    @property
    def place(self) -> str:
        """The id of the newest event. The numbers of another process begin with something else."""
        return f"{self._epoch}-{self._number}"

    @property
    def state(self) -> FeedState:
        """Whether what happens is heard of."""
        return self._state

    async def run(self) -> None:
        """Follow until cancelled; an outage of the broker is waited out.

        Raises
        ------
        ClientFailedError
            Kafka's client cannot go on.
        """
        loop = asyncio.get_running_loop()
        stopping = threading.Event()
        ended: asyncio.Future[None] = loop.create_future()

        def body() -> None:
            try:
                self._follow(loop, stopping)
            except Exception as error:  # noqa: BLE001  (raised again in `run`)
                report: Callable[[], object] = partial(ended.set_exception, error)
            else:
                report = partial(ended.set_result, None)
            with suppress(RuntimeError):  # the loop is gone
                loop.call_soon_threadsafe(report)

        # With the context, in which the service's name for the logs is.
        thread = threading.Thread(target=contextvars.copy_context().run, args=(body,), name="live", daemon=True)
        thread.start()
        try:
            await asyncio.shield(ended)
        finally:
            # Streams that are open would hold up the end of the server.
            self._is_ending = True
            self._broadcast.end()
            stopping.set()
            await asyncio.wait([ended], timeout=CLOSE_S)

    def publish(self, line: Line) -> None:
        """Tell everybody a line, and every page that it changes that it did."""
        self._number += 1
        chunk = b"" if line.is_quiet else encode_event(event_id=self.place, event="feed", data=self._render(line))
        for subject in line.subjects:
            chunk += encode_event(event_id=self.place, event=event_name(subject), data=line.kind)
        self._kept.append((self._number, chunk))
        self._broadcast.publish(chunk)
        for heard in self._heard:
            heard(line)

    def tell(self, state: FeedState) -> None:
        """Tell everybody whether what happens is heard of."""
        if state is not self._state:
            log.info("live.state", state=state)
            self._state = state
            self._broadcast.publish(self._state_event())

    @contextmanager
    def viewing(self) -> Iterator[None]:
        """Hold one of the places for browsers, as long as its stream lasts.

        Raises
        ------
        ProblemError
            All are taken.
        """
        if self._streams >= self._max_streams or self._is_ending:
            detail = "the console is stopping" if self._is_ending else f"{self._streams} browsers follow already"
            headers = {"Retry-After": str(FULL_RETRY_AFTER_S)}
            raise ProblemError(503, "Too many followers", f"{detail}; come again later", headers=headers)
        self._streams += 1
        try:
            yield
        finally:
            self._streams -= 1

    def response(self, after: str | None) -> StreamingResponse:
        """Return the stream of what happens from now on, or behind the place that a page or browser has."""
        return event_stream(self._events(after))

    async def _events(self, after: str | None) -> AsyncIterator[bytes]:
        queue = self._broadcast.subscribe()
        begin = self._begin(after)
        end_at = time.monotonic() + self._stream_s * random.uniform(0.9, 1.1)  # noqa: S311
        try:
            yield begin
            while time.monotonic() < end_at:
                try:
                    chunk = await asyncio.wait_for(queue.get(), HEARTBEAT_S)
                except TimeoutError:
                    yield HEARTBEAT
                    continue
                if chunk is None:
                    return
                yield chunk
        finally:
            self._broadcast.leave(queue)

    def _begin(self, after: str | None) -> bytes:
        """Return what was missed, or that too much was; how the feed is, with the place from which it goes on."""
        retry = f"retry: {random.randint(*RETRY_MS)}\n\n".encode()  # noqa: S311
        missed = [] if after is None else self._missed(after)
        if missed is None:
            # An event without data is none to a browser.
            missed = [encode_event(event_id=self.place, event="gap", data="load anew")]
        return b"".join([retry, *missed, self._state_event()])

    def _missed(self, after: str) -> list[bytes] | None:
        epoch, _, number = after.partition("-")
        if epoch != self._epoch or not number.isascii() or not number.isdecimal():
            return None
        place = int(number[:18])
        oldest = self._kept[0][0] if self._kept else self._number + 1
        if not oldest - 1 <= place <= self._number:
            return None
        return [chunk for kept, chunk in self._kept if kept > place]

    def _state_event(self) -> bytes:
        return encode_event(event_id=self.place, event="state", data=self._state)

    # Below runs in the thread.

    def _follow(self, loop: asyncio.AbstractEventLoop, stopping: threading.Event) -> None:
        since_ms = int(time.time() * 1000)
        seen = _Connection()
        # The group is never joined: every process hears everything.
        consumer = Consumer(
            self._client
            | {
                "group.id": "tocsin.console.live",
                "enable.auto.commit": False,
                "reconnect.backoff.max.ms": 2000,
                "statistics.interval.ms": STATISTICS_INTERVAL_MS,
                "stats_cb": seen.observe,
            },
            logger=logging.getLogger("librdkafka.live"),
        )
        followed: set[tuple[str, int]] = set()
        look_at = 0.0
        try:
            while not stopping.is_set():
                if time.monotonic() >= look_at:
                    is_whole = _take_up(consumer, followed, since_ms)
                    look_at = time.monotonic() + (LOOK_S if is_whole else LOOK_MISSING_S)
                line = _line(consumer.poll(POLL_S))
                state = FeedState.LIVE if followed and seen.is_up else FeedState.WAITS
                with suppress(RuntimeError):  # the loop is gone
                    if state is not self._state:
                        loop.call_soon_threadsafe(self.tell, state)
                    if line is not None:
                        loop.call_soon_threadsafe(self.publish, line)
        finally:
            consumer.close()


class MarkPlace:
    """ASGI middleware that remembers with each request what the newest event was when it came."""

    def __init__(self, app: ASGIApp, *, live: Live) -> None:
        self._app = app
        self._live = live

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope.setdefault("state", {})[PLACE] = self._live.place
        await self._app(scope, receive, send)


class _Connection:
    """Whether any broker is connected, from librdkafka's statistics."""

    is_up = False

    def observe(self, statistics: str) -> None:
        self.is_up = any(broker["state"] == "UP" for broker in json.loads(statistics)["brokers"].values())


def event_name(subject: str) -> str:
    """Return what the event is called that says that something about a subject changed.

    Of letters, digits and dashes alone, whatever the subject: attributes of pages that name it have words of their own.
    """
    return "changed-" + _NO_WORD.sub("-", subject)


def _take_up(consumer: Consumer, followed: set[tuple[str, int]], since_ms: int) -> bool:
    """Follow partitions that are new, from when following began; return whether every topic has some.

    A topic may be made after us, and a broker may be away: the next look finds them, and nothing is lost meanwhile.
    """
    try:
        found = consumer.list_topics(timeout=METADATA_S).topics
        present = {(name, number) for name in TOPICS if name in found for number in found[name].partitions}
        new = sorted(present - followed)
        if new:
            ends = [consumer.get_watermark_offsets(TopicPartition(*each), timeout=METADATA_S)[1] for each in new]
            asked = [TopicPartition(*each, since_ms) for each in new]
            starts = consumer.offsets_for_times(asked, timeout=METADATA_S)
            for start, end in zip(starts, ends, strict=True):
                # The client says -1 where no record is so young.
                start.offset = start.offset if start.offset >= 0 else end
            consumer.incremental_assign(starts)
            followed |= set(new)
            log.info("live.following", partitions=[f"{topic}[{number}]" for topic, number in new])
    except KafkaException as error:
        log.warning("live.waiting", reason=str(error.args[0]))
        return False
    return {topic for topic, _ in followed} == set(TOPICS)


def _line(raw: Any) -> Line | None:
    """Return the line that tells what came, if anything came that tells something."""
    if raw is None:
        return None
    if raw.error() is not None:
        if raw.error().fatal():
            raise ClientFailedError(f"live: {raw.error().str()}")
        return None  # librdkafka goes on by itself
    message = Message.from_client(raw)
    try:
        return line_of(decode(message.value, TOPICS[message.topic]))
    except TocsinError as error:
        # Whoever works with it dead-letters it; a feed passes it over.
        log.warning("live.unreadable", topic=message.topic, offset=message.offset, reason=str(error))
        return None
