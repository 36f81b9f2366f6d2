"""From what stands in a Kafka message to the bytes of the alert, wherever they are.

SCiMMA moves messages that its broker would refuse to an HTTP service and sends their address instead
(`_format=external`). What comes back is a BSON document that holds the original message; the one element of interest
is picked out here, because the decoder inside hop-client believes every length, also a negative one.
"""

import re
import struct
from collections.abc import Collection, Iterable

import httpx
from hop.models import ExternalMessage

from services.gw_listener.alerts import MAX_ALERT_BYTES
from shared.errors import InvalidInputError, PermanentError, TransientError

MAX_BSON_BYTES = MAX_ALERT_BYTES + 64 * 1024
# The message and its headers.

_HOST = re.compile(r"[a-z0-9.-]+")
# Resolvers disagree on what a backslash in a name means.

_ALERT_FORMATS = {"avro", "json", "blob"}
# `blob` is what hop-client calls bytes without a model; the bytes themselves tell what they are.

_FIXED_BSON_BYTES = {0x01: 8, 0x07: 12, 0x08: 1, 0x09: 8, 0x0A: 0, 0x10: 4, 0x11: 8, 0x12: 8}
_BSON_DOCUMENTS = {0x03, 0x04}
_BSON_STRING, _BSON_BINARY = 0x02, 0x05


class OffloadStore:
    """Fetches offloaded messages, without any credential and only from the hosts it was told.

    Parameters
    ----------
    client
        Supplies connections and time-outs; its authentication is not used.
    hosts
        Domains (HTTPS, with what is below them), or whole origins such as `http://127.0.0.1:8080`.
    """

    def __init__(self, client: httpx.AsyncClient, *, hosts: Collection[str]) -> None:
        self._client = client
        self._hosts = hosts

    async def fetch(self, url: str) -> bytes:
        """The original message.

        Raises
        ------
        TransientError
            The host does not answer, or not now (5xx, 408, 429).
        PermanentError
            The host is not ours to ask, refuses, or sends something else than one message.
        """
        address = self._allowed(url)
        # Identity, so that the limit counts what is held in memory.
        headers = {"Accept-Encoding": "identity"}
        try:
            async with self._client.stream(
                "GET", address, headers=headers, auth=None, follow_redirects=False
            ) as response:
                _check_status(response)
                body = await _at_most(response, MAX_BSON_BYTES)
        except httpx.TransportError as exc:
            raise TransientError(f"Offloaded message at {url}: {exc!r}") from exc
        return bson_binary(body, "message")

    def _allowed(self, url: str) -> httpx.URL:
        expected = f"an address at {', '.join(self._hosts) or 'no host: none is allowed'}"
        try:
            address = httpx.URL(url)
        except httpx.InvalidURL as exc:
            raise InvalidInputError("url", url, expected) from exc
        origin = f"{address.scheme}://{address.netloc.decode()}"
        allowed = not address.userinfo and any(
            origin == place
            if "://" in place
            else address.scheme == "https"
            and _HOST.fullmatch(address.host) is not None
            and f".{address.host}".endswith(f".{place}")
            for place in self._hosts
        )
        if not allowed:
            raise InvalidInputError("url", url, expected)
        return address


async def unwrap(value: bytes, headers: Iterable[tuple[str, bytes]], *, offload: OffloadStore | None = None) -> bytes:
    """The bytes of the alert that a message carries or points to.

    Parameters
    ----------
    headers
        Those of the Kafka message; `_format` is hop-client's, a message without it is taken as it is.
    offload
        Where to fetch what was offloaded; None refuses it.

    Raises
    ------
    PermanentError, TransientError
        As `OffloadStore.fetch`; `InvalidInputError` when the message is of another format.
    """
    message_format = next((content for name, content in headers if name == "_format"), b"").decode(errors="replace")
    match message_format.lower():
        case "external" if offload is not None:
            return await offload.fetch(_address(value))
        case "external":
            raise InvalidInputError("_format", "external", "a message from a source with offload_hosts")
        case "":
            return value
        case known if known in _ALERT_FORMATS:
            return value
        case _:
            raise InvalidInputError("_format", message_format, "avro, json or external")


def bson_binary(document: bytes, name: str) -> bytes:
    """The binary element `name` of a BSON document (bsonspec.org, version 1.1), nothing else of it decoded.

    Raises
    ------
    InvalidInputError
        When the document is damaged or has no such element.
    """
    wanted = name.encode()
    position = 4  # the length of the document
    try:
        while (kind := document[position]) != 0:
            end_of_name = document.index(0, position + 1)
            start = end_of_name + 1
            if kind == _BSON_BINARY:
                size = 5 + _length(document, start, at_least=0)
            elif kind == _BSON_STRING:
                size = 4 + _length(document, start, at_least=1)
            elif kind in _BSON_DOCUMENTS:
                size = _length(document, start, at_least=5)
            else:
                size = _FIXED_BSON_BYTES[kind]
            if kind == _BSON_BINARY and document[position + 1 : end_of_name] == wanted:
                content = document[start + 5 : start + size]
                if len(content) != size - 5:
                    raise InvalidInputError(name, f"cut after {len(content)} bytes", f"{size - 5} bytes")
                return content
            position = start + size
    except (IndexError, KeyError, ValueError, struct.error) as exc:
        raise InvalidInputError("offloaded message", document[:16], "a BSON document") from exc
    raise InvalidInputError(name, "missing", "the original message in the BSON document")


def _length(document: bytes, position: int, *, at_least: int) -> int:
    (length,) = struct.unpack_from("<i", document, position)
    if length < at_least:
        raise ValueError(f"length {length}")
    return int(length)


def _address(placeholder: bytes) -> str:
    try:
        url = ExternalMessage.load(placeholder).url
    except (ValueError, KeyError, TypeError, RecursionError) as exc:
        raise InvalidInputError("external message", placeholder[:64], 'JSON such as {"url": "https://…"}') from exc
    if not isinstance(url, str):
        raise InvalidInputError("url", url, "the address of an offloaded message")
    return url


def _check_status(response: httpx.Response) -> None:
    if response.status_code == httpx.codes.OK:
        return
    answer = f"Offloaded message at {response.url}: HTTP {response.status_code}"
    if response.is_server_error or response.status_code in (
        httpx.codes.REQUEST_TIMEOUT,
        httpx.codes.TOO_MANY_REQUESTS,
    ):
        raise TransientError(answer)
    raise PermanentError(answer)


async def _at_most(response: httpx.Response, limit: int) -> bytes:
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > limit:
            raise InvalidInputError("offloaded message", f"more than {limit} bytes", f"at most {limit} bytes")
    return bytes(body)
