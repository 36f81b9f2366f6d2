"""VOEvent brokers: one that sends what it is told to and remembers what subscribers answer, one that receives packets.

`python -m shared.testing.vtp --port 8098` runs the one that receives, for trying a channel without anyone else.

Source: IVOA Note VOEvent Transport Protocol 2.0; Comet 3.1.
"""

import argparse
import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from xml.etree import ElementTree

from lxml import etree

from shared.errors import InvalidInputError
from shared.schema.records import SCHEMAS
from shared.voevent.packet import parse_xml
from shared.voevent.transport import TransportMessage, receive, send

_TRANSPORT = "http://www.telescope-networks.org/xml/Transport/v1.1"
_LENGTH_BYTES = 4


@dataclass(frozen=True)
class Answer:
    """What a subscriber sent: `role` is ack or iamalive, `origin` what it answers, `response` who answers."""

    role: str
    origin: str
    response: str
    time: str


@dataclass
class VtpBroker:
    """The broker's side of the protocol, for any number of subscribers; `standing_broker` starts one.

    Attributes
    ----------
    answers
        Everything that subscribers sent, in the order of arrival.
    connections
        How many subscribers have come, those that went included.
    """

    port: int = 0
    answers: list[Answer] = field(default_factory=list)
    connections: int = 0
    _subscribers: list[asyncio.StreamWriter] = field(default_factory=list)

    @property
    def acknowledged(self) -> list[str]:
        """The ivorns that subscribers acknowledged."""
        return [answer.origin for answer in self.answers if answer.role == "ack"]

    async def send(self, data: bytes) -> None:
        """Send a packet to whoever is connected."""
        await self.send_raw(len(data).to_bytes(_LENGTH_BYTES, "big") + data)

    async def send_raw(self, data: bytes) -> None:
        """Send bytes as they are, the length not put before them."""
        for subscriber in self._subscribers:
            subscriber.write(data)
            await subscriber.drain()

    async def send_transport(self, role: str, origin: str = "ivo://broker.test/stand-in") -> None:
        """Send a message of the protocol itself, such as iamalive."""
        await self.send(
            f'<?xml version="1.0" encoding="UTF-8"?><trn:Transport xmlns:trn="{_TRANSPORT}" version="1.0"'
            f' role="{role}"><Origin>{origin}</Origin><TimeStamp>2026-01-01T00:00:00Z</TimeStamp>'
            "</trn:Transport>".encode()
        )

    def hang_up(self) -> None:
        """Close every connection."""
        for subscriber in self._subscribers:
            subscriber.close()
        self._subscribers.clear()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Attend to one subscriber until it goes."""
        self.connections += 1
        self._subscribers.append(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                length = int.from_bytes(await reader.readexactly(_LENGTH_BYTES), "big")
                # From our own subscriber: a document type here would be a bug of it, not an attack.
                root = ElementTree.fromstring(await reader.readexactly(length))  # noqa: S314
                if root.tag != f"{{{_TRANSPORT}}}Transport":
                    raise ValueError(f"a subscriber sent {root.tag}")
                self.answers.append(
                    Answer(
                        role=root.attrib["role"],
                        origin=root.findtext("Origin", ""),
                        response=root.findtext("Response", ""),
                        time=root.findtext("TimeStamp", ""),
                    )
                )
        if writer in self._subscribers:
            self._subscribers.remove(writer)
        writer.close()


@contextlib.asynccontextmanager
async def standing_broker(port: int = 0) -> AsyncIterator[VtpBroker]:
    """Return a broker on the loopback address, at a free port unless one is given, while the block runs."""
    broker = VtpBroker()
    server = await asyncio.start_server(broker.serve, "127.0.0.1", port)
    broker.port = server.sockets[0].getsockname()[1]
    try:
        yield broker
    finally:
        broker.hang_up()
        server.close()
        await server.wait_closed()


class Behaviour(StrEnum):
    """How a receiving broker answers a packet.

    ACK_LOST: it accepts, and hangs up before it says so. SLOW: it accepts after `slow_s`.
    """

    ACK = "ack"
    NAK = "nak"
    SILENCE = "silence"
    GARBAGE = "garbage"
    ABSURD_LENGTH = "absurd-length"
    SLOW = "slow"
    DISCONNECT = "disconnect"
    ACK_LOST = "ack-lost"


@dataclass
class ReceivingBroker:
    """The broker's side of the protocol towards authors: one packet for each connection.

    Packets that break the schema are refused, and packets that it has had, as Comet does.

    Attributes
    ----------
    behaviours
        What it does with the next packets, in turn; with none left, what it `usually` does.
    accepted
        The packets that it took, as they came.
    connections
        How many authors have come.
    """

    port: int = 0
    behaviours: list[Behaviour] = field(default_factory=list)
    usually: Behaviour = Behaviour.ACK
    slow_s: float = 0.2
    accepted: list[bytes] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    connections: int = 0
    heard: Callable[[str, str], None] | None = None

    @property
    def ivorns(self) -> list[str]:
        """The ivorns of the packets that it took."""
        return [parse_xml(data).get("ivorn", "") for data in self.accepted]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take one packet and answer it."""
        self.connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await self._answer(await receive(reader), reader, writer)
        writer.close()

    async def _answer(self, data: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behaviour = self.behaviours.pop(0) if self.behaviours else self.usually
        match behaviour:
            case Behaviour.SILENCE:
                await reader.read()
            case Behaviour.GARBAGE:
                await send(writer, b"<html>502 Bad Gateway</html>")
            case Behaviour.ABSURD_LENGTH:
                writer.write(b"\xff" * 64)
                await writer.drain()
            case Behaviour.NAK:
                await self._refuse(writer, data, "It is not wanted here")
            case Behaviour.SLOW:
                await asyncio.sleep(self.slow_s)
                await self._take(writer, data)
            case Behaviour.ACK:
                await self._take(writer, data)
            case Behaviour.ACK_LOST:
                self.accepted.append(data)
            case Behaviour.DISCONNECT:
                pass

    async def _take(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        try:
            root = parse_xml(data)
            _schema().assertValid(root)
        except (InvalidInputError, etree.DocumentInvalid) as error:
            await self._refuse(writer, data, f"Event rejected: {error}")
        else:
            if data in self.accepted:
                await self._refuse(writer, data, "Event rejected: Previously seen by this broker")
            else:
                self.accepted.append(data)
                await self._say(writer, "ack", root.get("ivorn", ""))

    async def _refuse(self, writer: asyncio.StreamWriter, data: bytes, reason: str) -> None:
        self.refused.append(reason)
        with contextlib.suppress(InvalidInputError):
            await self._say(writer, "nak", parse_xml(data).get("ivorn", ""), reason)

    async def _say(self, writer: asyncio.StreamWriter, role: str, ivorn: str, result: str = "") -> None:
        if self.heard is not None:
            self.heard(ivorn, result or role)
        await send(writer, TransportMessage(role, ivorn, "ivo://broker.test/stand-in", result).encoded())


def _schema() -> etree.XMLSchema:
    return etree.XMLSchema(etree.parse(SCHEMAS / "external/voevent/VOEvent-v2.0.xsd"))


@contextlib.asynccontextmanager
async def receiving_broker(*behaviours: Behaviour, port: int = 0) -> AsyncIterator[ReceivingBroker]:
    """Return a broker for authors on the loopback address, at a free port unless one is given, while the block runs."""
    broker = ReceivingBroker(behaviours=list(behaviours))
    serving = set[asyncio.Task[None]]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.add(task)
        try:
            await broker.serve(reader, writer)
        finally:
            serving.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", port)
    broker.port = server.sockets[0].getsockname()[1]
    try:
        yield broker
    finally:
        server.close()
        for task in list(serving):
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
        await server.wait_closed()


async def _receive_for_ever(port: int, behaviour: Behaviour) -> None:
    async with receiving_broker(port=port) as broker:
        broker.usually = behaviour
        broker.heard = lambda ivorn, verdict: print(f"{ivorn}: {verdict}", flush=True)  # noqa: T201
        print(f"receiving VOEvents on 127.0.0.1:{broker.port}", flush=True)  # noqa: T201
        await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A VOEvent broker that receives packets and says so.")
    parser.add_argument("--port", type=int, default=8098)
    parser.add_argument("--behaviour", type=Behaviour, choices=list(Behaviour), default=Behaviour.ACK)
    arguments = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_receive_for_ever(arguments.port, arguments.behaviour))
