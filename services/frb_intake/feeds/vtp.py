"""A VOEvent broker as a feed: the subscriber's side of the VOEvent Transport Protocol.

The broker sends VOEvents, which are acknowledged, and now and then `iamalive`, which is answered alike. It never sends
again what it has sent: packets that wait here outlive a lost connection, and an acknowledgement says that the packet's
effects are durable.

Source: IVOA Note VOEvent Transport Protocol 2.0; Comet 3.1.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import NoReturn

import structlog

from services.frb_intake.feeds.sources import VoeventSource
from services.frb_intake.feeds.voevent import VOEVENT_TOPIC
from shared.errors import InvalidInputError, TransientError
from shared.kafka.message import Message
from shared.voevent.packet import parse_xml
from shared.voevent.transport import TransportMessage, receive, send

CONNECT_TIMEOUT_S = 10.0
MAX_WAITING = 64
# Packets here, not handled yet; a broker that has more keeps them until there is room.

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class _Packet:
    number: int
    data: bytes
    ivorn: str | None
    connection: asyncio.StreamWriter


class VtpFeed:
    """Messages made of a broker's packets.

    Parameters
    ----------
    heard
        Called with whatever the broker sends: the source's heartbeat.
    """

    def __init__(self, source: VoeventSource, *, heard: Callable[[], None]) -> None:
        self._source = source
        self._heard = heard
        self._waiting: asyncio.Queue[_Packet] = asyncio.Queue(MAX_WAITING)
        self._in_hand: _Packet | None = None
        self._count = 0

    async def messages(self) -> AsyncIterator[Message | None]:
        reader, writer = await self._connected()
        listening = asyncio.create_task(self._listen(reader, writer))
        try:
            yield None
            while True:
                packet = self._in_hand = self._in_hand or await self._next(listening)
                yield Message(topic=VOEVENT_TOPIC, partition=-1, offset=packet.number, key=None, value=packet.data)
        finally:
            listening.cancel()
            writer.close()

    async def done(self, message: Message) -> None:  # noqa: ARG002 - the packet in hand says more than its message
        packet = self._in_hand
        assert packet is not None
        self._in_hand = None
        if packet.ivorn is None:
            return
        # What is done is done, whether or not the broker still listens.
        with contextlib.suppress(OSError):
            await send(packet.connection, self._answer("ack", packet.ivorn))

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        address = f"{self._source.host}:{self._source.port}"
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                connection = await asyncio.open_connection(self._source.host, self._source.port)
        except OSError as error:  # a timeout is one
            raise TransientError(f"VOEvent broker {address}: {error or 'no answer'}") from error
        log.info("voevent.connected", source=self._source.name, broker=address)
        return connection

    async def _next(self, listening: asyncio.Task[NoReturn]) -> _Packet:
        """Return the next packet that waits; those of a lost connection come before its end is told."""
        taking = asyncio.create_task(self._waiting.get())
        try:
            await asyncio.wait((taking, listening), return_when=asyncio.FIRST_COMPLETED)
            return taking.result() if taking.done() else listening.result()
        finally:
            taking.cancel()

    async def _listen(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> NoReturn:
        """Take what the broker sends: put packets in line, answer signs of life.

        Raises
        ------
        TransientError
            The connection is lost, silent, or carries something else than the protocol.
        """
        try:
            while True:
                async with asyncio.timeout(self._source.silence_s):
                    data = await receive(reader)
                self._heard()
                await self._take(data, writer)
        except TimeoutError as error:
            raise TransientError(f"VOEvent broker: silent for {self._source.silence_s:g} s") from error
        except (OSError, asyncio.IncompleteReadError) as error:
            raise TransientError("VOEvent broker: the connection is lost") from error

    async def _take(self, data: bytes, writer: asyncio.StreamWriter) -> None:
        try:
            root = parse_xml(data)
        except InvalidInputError:
            # Who handles the message will refuse it with the reason; no acknowledgement can name it.
            root = None
        message = None if root is None else TransportMessage.of(root)
        if message is not None:
            if message.role == "iamalive":
                await send(writer, self._answer("iamalive", message.origin))
            return
        self._count += 1
        await self._waiting.put(_Packet(self._count, data, root.get("ivorn") if root is not None else None, writer))

    def _answer(self, role: str, origin: str) -> bytes:
        return TransportMessage(role, origin, response=self._source.ivorn).encoded()
