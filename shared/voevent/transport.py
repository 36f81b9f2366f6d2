"""The VOEvent Transport Protocol: every message is a length (4 bytes, big-endian) and so many bytes of XML.

Source: IVOA Note VOEvent Transport Protocol 2.0; Comet 3.1.
"""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

from lxml import etree

from shared.errors import InvalidInputError, TransientError
from shared.voevent.packet import MAX_PACKET_BYTES, parse_xml

_LENGTH_BYTES = 4
_TRANSPORT = "http://www.telescope-networks.org/xml/Transport/v1.1"


@dataclass(frozen=True)
class TransportMessage:
    """A message of the protocol itself.

    Attributes
    ----------
    role
        `ack`, `nak`, `iamalive` or `authenticate`.
    origin
        The ivorn that it is about: of a packet, or of whoever asks for a sign of life.
    response
        Who answers; empty for what is no answer.
    result
        Why something is refused; empty when not stated.
    """

    role: str
    origin: str
    response: str = ""
    result: str = ""

    def encoded(self) -> bytes:
        """Return the message with the present time in it."""
        root = etree.Element(f"{{{_TRANSPORT}}}Transport", nsmap={"trn": _TRANSPORT}, version="1.0", role=self.role)
        etree.SubElement(root, "Origin").text = self.origin
        if self.response:
            etree.SubElement(root, "Response").text = self.response
        etree.SubElement(root, "TimeStamp").text = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        if self.result:
            etree.SubElement(etree.SubElement(root, "Meta"), "Result").text = self.result
        return etree.tostring(root, xml_declaration=True, encoding="UTF-8")

    @classmethod
    def of(cls, root: etree._Element) -> Self | None:
        """Return what an XML document says; None when it is no message of the protocol."""
        if etree.QName(root).localname != "Transport":
            return None
        texts = (root.findtext(f"{{*}}{path}") for path in ("Origin", "Response", "Meta/{*}Result"))
        return cls(root.get("role", ""), *((text or "").strip() for text in texts))

    @classmethod
    def read(cls, data: bytes) -> Self | None:
        """Return what bytes say; None when they are no message of the protocol."""
        try:
            return cls.of(parse_xml(data))
        except InvalidInputError:
            return None


async def receive(reader: asyncio.StreamReader, *, max_bytes: int = MAX_PACKET_BYTES) -> bytes:
    """Return the next message.

    Raises
    ------
    TransientError
        It is longer than that.
    OSError, asyncio.IncompleteReadError
        The connection is lost.
    """
    length = int.from_bytes(await reader.readexactly(_LENGTH_BYTES), "big")
    if length > max_bytes:
        raise TransientError(f"the other side sends {length} bytes in one packet; at most {max_bytes} are read")
    return await reader.readexactly(length)


async def send(writer: asyncio.StreamWriter, data: bytes) -> None:
    """Send one message.

    Raises
    ------
    OSError
        The connection is lost.
    """
    writer.write(len(data).to_bytes(_LENGTH_BYTES, "big") + data)
    await writer.drain()
