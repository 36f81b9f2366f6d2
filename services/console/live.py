"""Follows the topics, outside any group, and tells all browsers that are there what happens, as it happens."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import structlog
from confluent_kafka import Consumer, KafkaException, TopicPartition
from fastapi.responses import StreamingResponse

from services.console.happenings import TOPICS, Line, line_of
from shared.errors import TocsinError
from shared.http.events import HEARTBEAT, Broadcast, encode_event, event_stream
from shared.http.problems import ProblemError
from shared.kafka.errors import broker_error
from shared.kafka.message import Message
from shared.schema.codec import decode

POLL_S = 0.2
RETRY_S = 2.0
HEARTBEAT_S = 15.0
KEPT = 200
# Lines that a browser is told which comes back after its connection broke.
METADATA_S = 10.0
FULL_RETRY_AFTER_S = 30

log = structlog.get_logger(__name__)


class Live:
    """The feed: every line is made into bytes once, and handed to everybody.

    Parameters
    ----------
    render
        Makes the HTML of a line.
    max_streams
        Browsers at once.
    """

    def __init__(
        self, client: dict[str, Any], render: Callable[[Line], str], *, max_streams: int, capacity: int = 500
    ) -> None:
        self._client = client
        self._render = render
        self._max_streams = max_streams
        self._streams = 0
        self._number = 0
        self._kept: deque[tuple[int, bytes]] = deque(maxlen=KEPT)
        self._broadcast: Broadcast[tuple[int, bytes]] = Broadcast(capacity=capacity)
        self._heard: list[Callable[[Line], None]] = []

    def on_line(self, heard: Callable[[Line], None]) -> None:
        """Have `heard` called with every line."""
        self._heard.append(heard)

    async def run(self) -> None:
        """Follow until cancelled."""
        loop = asyncio.get_running_loop()
        stopping = threading.Event()
        ended = asyncio.Event()

        def body() -> None:
            try:
                while not stopping.is_set():
                    try:
                        self._follow(loop, stopping)
                    except (KafkaException, TocsinError) as error:
                        log.warning("live.waiting", reason=str(error))
                        stopping.wait(RETRY_S)
            finally:
                with suppress(RuntimeError):
                    loop.call_soon_threadsafe(ended.set)

        threading.Thread(target=body, name="live", daemon=True).start()
        try:
            await ended.wait()
        finally:
            stopping.set()

    def publish(self, line: Line) -> None:
        """Tell everybody a line, and every page that it changes that it did."""
        self._number += 1
        number = f"{self._number}"
        chunk = encode_event(event_id=number, event="feed", data=self._render(line))
        for subject in line.subjects:
            chunk += encode_event(event_id=number, event=event_name(subject), data=line.kind)
        self._kept.append((self._number, chunk))
        self._broadcast.publish((self._number, chunk))
        for heard in self._heard:
            heard(line)

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold one of the places for browsers.

        Raises
        ------
        ProblemError
            All are taken.
        """
        if self._streams >= self._max_streams:
            detail = f"{self._streams} browsers follow already; come again later"
            raise ProblemError(503, "Too many followers", detail, headers={"Retry-After": str(FULL_RETRY_AFTER_S)})
        self._streams += 1
        try:
            yield
        finally:
            self._streams -= 1

    def response(self, last_event_id: str | None) -> StreamingResponse:
        """Return the stream of what happens from now on, or since the last event that a browser had."""
        return event_stream(self._events(last_event_id))

    async def _events(self, last_event_id: str | None) -> AsyncIterator[bytes]:
        queue = self._broadcast.subscribe()
        try:
            # Something at once: proxies and browsers wait for the first byte.
            yield HEARTBEAT
            if last_event_id is not None and last_event_id.isascii() and last_event_id.isdecimal():
                place = int(last_event_id[:18])
                for missed in [chunk for number, chunk in self._kept if number > place]:
                    yield missed
            while True:
                try:
                    item = await asyncio.wait_for(queue.get(), HEARTBEAT_S)
                except TimeoutError:
                    yield HEARTBEAT
                    continue
                if item is None:
                    return
                yield item[1]
        finally:
            self._broadcast.leave(queue)

    # Below runs in the thread.

    def _follow(self, loop: asyncio.AbstractEventLoop, stopping: threading.Event) -> None:
        # The group is never joined: every process hears everything.
        consumer = Consumer(self._client | {"group.id": "tocsin.console.live", "enable.auto.commit": False})
        try:
            consumer.assign(_ends(consumer))
            log.info("live.following")
            while not stopping.is_set():
                raw = consumer.poll(POLL_S)
                if raw is None or raw.error() is not None:
                    continue
                line = _line(Message.from_client(raw))
                if line is not None:
                    loop.call_soon_threadsafe(self.publish, line)
        finally:
            consumer.close()


def event_name(subject: str) -> str:
    """Return what the event is called that says that something about a subject changed."""
    return "changed-" + subject.replace("/", "-")


def _line(message: Message) -> Line | None:
    try:
        return line_of(decode(message.value, TOPICS[message.topic]))
    except TocsinError as error:
        # Whoever works with it dead-letters it; a feed passes it over.
        log.warning("live.unreadable", topic=message.topic, offset=message.offset, reason=str(error))
        return None


def _ends(consumer: Consumer) -> list[TopicPartition]:
    partitions = []
    try:
        for topic in TOPICS:
            # A topic that is not there yet has no partitions, and is found at the next look.
            for number in consumer.list_topics(topic, timeout=METADATA_S).topics[topic].partitions:
                partition = TopicPartition(topic, number)
                partition.offset = consumer.get_watermark_offsets(partition, timeout=METADATA_S)[1]
                partitions.append(partition)
    except KafkaException as error:
        raise broker_error(error.args[0], "looking for the ends of topics") from error
    return partitions
