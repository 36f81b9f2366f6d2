"""A VOEvent broker that sends what it is told to, and remembers what subscribers answer.

Source: IVOA Note VOEvent Transport Protocol 2.0; Comet 3.1.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from xml.etree import ElementTree

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
