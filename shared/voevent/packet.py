"""XML of VOEvent packets and of the messages that carry them."""

from lxml import etree

from shared.errors import InvalidInputError

MAX_PACKET_BYTES = 1024 * 1024
# A packet of today has 7 kB.


def parse_xml(data: bytes) -> etree._Element:
    """Return the root of an XML document from a stranger: without entities, documents elsewhere, or great depth.

    Raises
    ------
    InvalidInputError
        It is none, is too large, or brings a document type of its own.
    """
    if len(data) > MAX_PACKET_BYTES:
        raise InvalidInputError("packet", f"{len(data)} bytes", f"at most {MAX_PACKET_BYTES} bytes")
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False, remove_comments=True, remove_pis=True
    )
    try:
        root = etree.fromstring(data.lstrip(), parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise InvalidInputError("packet", data[:64].decode(errors="replace") or "empty", f"XML ({error})") from None
    if root.getroottree().docinfo.internalDTD is not None:
        raise InvalidInputError("packet", "a document type", "XML without one")
    return root
