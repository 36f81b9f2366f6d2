"""The VOEvent Transport Protocol from the author's side: packets go to brokers, and to subscribers of our own.

Source: IVOA Note VOEvent Transport Protocol 2.0; Comet 3.1.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Coroutine
from dataclasses import dataclass, field
from enum import StrEnum

import structlog
from prometheus_client import Gauge

from shared.errors import TransientError
from shared.voevent.transport import TransportMessage, receive, send

HEARTBEAT_S = 60.0
# As Comet does; subscribers take a publisher that is silent for some minutes for dead.
MAX_WAITING = 64
# Packets and heartbeats for one subscriber, the connection's own buffer full: who has more waiting is too slow.
MAX_UNANSWERED = 10
# Packets that a subscriber has neither accepted nor refused.
MAX_MESSAGE_BYTES = 16 * 1024
# Of subscribers, who send messages of the protocol alone.
REMEMBERED = 1_000
# Packets that are known to have been published.

SUBSCRIBERS = Gauge(
    "tocsin_voevent_subscribers", "Subscribers that are connected to a channel's publisher.", ["channel"]
)

log = structlog.get_logger(__name__)


class Verdict(StrEnum):
    """What a broker said of a packet."""

    ACK = "ack"
    NAK = "nak"
    NONE = "none"


@dataclass(frozen=True)
class BrokerAnswer:
    """What came of submitting a packet; `reason` is the broker's for a refusal, ours for no answer."""

    verdict: Verdict
    reason: str | None = None


async def submit(data: bytes, *, host: str, port: int, timeout_s: float) -> BrokerAnswer:
    """Give a packet to a broker and return what it says.

    No answer may mean that the packet arrived. To submit the same bytes again is harmless: brokers drop them, and the
    refusal of a packet that the broker has had already counts as acceptance.
    """
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection(host, port)
            await send(writer, data)
            while True:
                message = TransportMessage.read(await receive(reader))
                if message is None:
                    return BrokerAnswer(Verdict.NONE, "it answered with something else than the protocol")
                match message.role:
                    case "ack":
                        return BrokerAnswer(Verdict.ACK)
                    case "nak" if "previously seen" in message.result.lower():
                        return BrokerAnswer(Verdict.ACK, message.result)
                    case "nak":
                        return BrokerAnswer(Verdict.NAK, message.result or "no reason given")
    except TimeoutError:
        return BrokerAnswer(Verdict.NONE, f"no answer within {timeout_s:g} s")
    except asyncio.IncompleteReadError:
        return BrokerAnswer(Verdict.NONE, "it hung up without an answer")
    except (OSError, TransientError) as error:
        return BrokerAnswer(Verdict.NONE, str(error))
    finally:
        if writer is not None:
            writer.close()


@dataclass(eq=False)
class _Subscriber:
    name: str
    writer: asyncio.StreamWriter
    waiting: asyncio.Queue[bytes] = field(default_factory=lambda: asyncio.Queue(MAX_WAITING))
    unanswered: int = 0
    is_asked: bool = False
    dropped: str | None = None

    def put(self, data: bytes) -> None:
        """Have something sent, or drop a subscriber that is too slow to take it."""
        try:
            self.waiting.put_nowait(data)
        except asyncio.QueueFull:
            self.drop("too slow")

    def drop(self, reason: str) -> None:
        """End the connection; whoever waits on it wakes with an error."""
        self.dropped = self.dropped or reason
        self.writer.transport.abort()


class VtpPublisher:
    """Sends packets to whoever connects. Nobody is asked who they are: the network says who may connect.

    Parameters
    ----------
    ivorn
        How it names itself in heartbeats.
    replay
        So many of the newest packets are sent to who connects; less than may wait for one subscriber.
    """

    def __init__(
        self,
        *,
        name: str,
        host: str,
        port: int,
        ivorn: str,
        replay: int = 0,
        max_subscribers: int = 100,
        heartbeat_s: float = HEARTBEAT_S,
    ) -> None:
        self._name = name
        self._host = host
        self._ivorn = ivorn
        self._max_subscribers = max_subscribers
        self._heartbeat_s = heartbeat_s
        self._subscribers: set[_Subscriber] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self._replay: deque[bytes] = deque(maxlen=replay)
        self._published: deque[str] = deque(maxlen=REMEMBERED)
        self._log = log.bind(channel=name)
        self.port = port

    @property
    def n_subscribers(self) -> int:
        """How many are connected."""
        return len(self._subscribers)

    def publish(self, ivorn: str, data: bytes) -> None:
        """Send a packet to all subscribers, unless it was sent before. Does not wait for them."""
        if ivorn in self._published:
            return
        self._published.append(ivorn)
        self._replay.append(data)
        for subscriber in list(self._subscribers):
            subscriber.unanswered += 1
            subscriber.put(data)

    async def run(self) -> None:
        """Serve until cancelled.

        Raises
        ------
        OSError
            The port is taken.
        """
        server = await asyncio.start_server(self._serve, self._host, self.port)
        self.port = server.sockets[0].getsockname()[1]
        self._log.info("voevent.serving", host=self._host, port=self.port)
        try:
            await server.serve_forever()
        finally:
            for subscriber in list(self._subscribers):
                subscriber.drop("the publisher ends")
            await asyncio.gather(*self._serving, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        subscriber = _Subscriber(str(writer.get_extra_info("peername")), writer)
        if len(self._subscribers) >= self._max_subscribers:
            self._log.warning("voevent.too_many_subscribers", subscriber=subscriber.name)
            subscriber.drop("too many subscribers")
            return
        self._log.info("voevent.subscribed", subscriber=subscriber.name)
        subscriber.unanswered = len(self._replay)
        for data in self._replay:
            subscriber.put(data)
        self._subscribers.add(subscriber)
        SUBSCRIBERS.labels(self._name).set(len(self._subscribers))
        try:
            await _first_to_end(self._listen(reader, subscriber), self._tell(subscriber), self._beat(subscriber))
        finally:
            self._subscribers.discard(subscriber)
            SUBSCRIBERS.labels(self._name).set(len(self._subscribers))
            self._log.info("voevent.unsubscribed", subscriber=subscriber.name, reason=subscriber.dropped or "it left")
            writer.transport.abort()

    async def _listen(self, reader: asyncio.StreamReader, subscriber: _Subscriber) -> None:
        while True:
            try:
                message = TransportMessage.read(await receive(reader, max_bytes=MAX_MESSAGE_BYTES))
            except TransientError:
                return subscriber.drop("a message longer than any of the protocol")
            match message.role if message else None:
                case "iamalive":
                    subscriber.is_asked = False
                case "ack":
                    subscriber.unanswered = max(subscriber.unanswered - 1, 0)
                case "nak":
                    # The protocol has it so: who refuses a packet is taken off the list.
                    return subscriber.drop("it refused a packet")

    async def _tell(self, subscriber: _Subscriber) -> None:
        while True:
            await send(subscriber.writer, await subscriber.waiting.get())

    async def _beat(self, subscriber: _Subscriber) -> None:
        while True:
            subscriber.is_asked = True
            subscriber.put(TransportMessage("iamalive", self._ivorn).encoded())
            await asyncio.sleep(self._heartbeat_s)
            if subscriber.is_asked:
                return subscriber.drop("it does not answer")
            if subscriber.unanswered > MAX_UNANSWERED:
                return subscriber.drop("it does not acknowledge packets")


async def _first_to_end(*steps: Coroutine[None, None, None]) -> None:
    """Run steps side by side until one ends, by a lost connection or of itself."""
    tasks = [asyncio.create_task(step) for step in steps]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
