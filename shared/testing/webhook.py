"""A receiver of signed webhooks: it verifies what it is sent, remembers it, and misbehaves when told to.

`python -m shared.testing.webhook --port 8090` runs one that prints what it gets. Its own reading of Standard Webhooks
1.0.0 (https://www.standardwebhooks.com), not the notifier's.
"""

import argparse
import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import time
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from shared.testing.connections import serving

SECRET = "whsec_" + base64.b64encode(b"a secret for trials, not for use").decode()
TOLERANCE_S = 300.0
SLOW_S = 0.2
_HEADER_LINES = 100


class Fault(StrEnum):
    """What a receiver can do wrong with the next message."""

    TOO_MANY = "too many"
    UNAVAILABLE = "unavailable"
    BROKEN = "broken"
    GONE = "gone"
    MOVED = "moved"
    LOST_ANSWER = "lost answer"
    ACCEPTED_BUT_504 = "accepted but 504"
    SILENT = "silent"
    GARBAGE = "garbage"
    SLOW = "slow"


# Status, reason and headers; what the others do is in `WebhookReceiver.serve`.
_ANSWERS = {
    Fault.TOO_MANY: ("429 Too Many Requests", "Retry-After: 7\r\n"),
    Fault.UNAVAILABLE: ("503 Service Unavailable", ""),
    Fault.BROKEN: ("500 Internal Server Error", ""),
    Fault.GONE: ("410 Gone", ""),
    Fault.MOVED: ("307 Temporary Redirect", "Location: http://127.0.0.1:1/elsewhere\r\n"),
    Fault.ACCEPTED_BUT_504: ("504 Gateway Timeout", ""),
}
_TAKEN = (Fault.LOST_ANSWER, Fault.ACCEPTED_BUT_504, Fault.SLOW)


@dataclass(frozen=True)
class Received:
    """One message that was taken."""

    id: str
    body: dict[str, Any]


@dataclass
class WebhookReceiver:
    """The receiving end; `standing_receiver` starts one.

    Attributes
    ----------
    taken
        What was taken, once for each id.
    duplicates
        Ids that came again.
    refused
        Why messages were answered with 400.
    faults
        What goes wrong with the next messages, one each.
    """

    port: int = 0
    secret: str = SECRET
    taken: list[Received] = field(default_factory=list)
    duplicates: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    faults: deque[Fault] = field(default_factory=deque)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}/hook"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection's requests."""
        while True:
            headers, body = await _read_request(reader)
            fault = self.faults.popleft() if self.faults else None
            if fault is Fault.SILENT:
                await reader.read()  # until the sender goes
                break
            if fault is None or fault in _TAKEN:
                problem = self._take(headers, body)
                if problem is not None:
                    self.refused.append(problem)
                    writer.write(_response("400 Bad Request", text=problem))
                    continue
            if fault is Fault.LOST_ANSWER:
                break
            if fault is Fault.SLOW:
                await asyncio.sleep(SLOW_S)
            if fault is Fault.GARBAGE:
                writer.write(b"\x00\xff not HTTP at all\r\n\r\n")
                await writer.drain()
                break
            status, extra = ("204 No Content", "") if fault in (None, Fault.SLOW) else _ANSWERS[fault]
            writer.write(_response(status, extra=extra))
            await writer.drain()

    def _take(self, headers: dict[str, str], body: bytes) -> str | None:
        """Verify and remember a message; return what is wrong with it."""
        message_id, sent_at = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
        if not message_id or not sent_at.isdecimal():
            return "webhook-id or webhook-timestamp is missing"
        if abs(time.time() - int(sent_at)) > TOLERANCE_S:
            return "webhook-timestamp is too far from now"
        key = base64.b64decode(self.secret.removeprefix("whsec_"))
        signed = f"{message_id}.{sent_at}.".encode() + body
        expected = base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
        versions = (part.partition(",") for part in headers.get("webhook-signature", "").split())
        if not any(version == "v1" and hmac.compare_digest(expected, found) for version, _, found in versions):
            return "no signature in webhook-signature fits"
        if headers.get("content-type") != "application/json":
            return "content-type is not application/json"
        if any(message_id == taken.id for taken in self.taken):
            self.duplicates.append(message_id)
            return None
        try:
            self.taken.append(Received(message_id, json.loads(body)))
        except ValueError as error:
            return f"the body is not JSON: {error}"
        return None


async def _read_request(reader: asyncio.StreamReader) -> tuple[dict[str, str], bytes]:
    """Read one request with a Content-Length."""
    method, *_ = (await reader.readuntil(b"\r\n")).split(b" ")
    headers: dict[str, str] = {}
    for _ in range(_HEADER_LINES):
        line = (await reader.readuntil(b"\r\n")).decode("latin-1").strip()
        if not line:
            break
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    if method != b"POST":
        raise ConnectionError(f"a sender asked with {method.decode('latin-1')}")
    return headers, body


def _response(status: str, *, extra: str = "", text: str = "") -> bytes:
    length = "" if status.startswith("204") else f"Content-Length: {len(text.encode())}\r\n"
    return f"HTTP/1.1 {status}\r\n{extra}{length}\r\n{text}".encode()


@contextlib.asynccontextmanager
async def standing_receiver(port: int = 0, *, secret: str = SECRET) -> AsyncIterator[WebhookReceiver]:
    """Return a receiver on the loopback address, at a free port unless one is given, while the block runs."""
    receiver = WebhookReceiver(secret=secret)
    async with serving(receiver.serve, port) as receiver.port:
        yield receiver


async def _run(port: int, secret: str) -> None:
    async with standing_receiver(port, secret=secret) as receiver:
        print(f"listening at {receiver.url}, secret {secret}", flush=True)  # noqa: T201  (a tool for the terminal)
        shown = 0
        while True:
            await asyncio.sleep(0.2)
            for message in receiver.taken[shown:]:
                print(json.dumps({"id": message.id} | message.body), flush=True)  # noqa: T201
            shown = len(receiver.taken)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8090, help="where to listen")
    parser.add_argument("--secret", default=SECRET, help="what messages are signed with")
    options = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_run(options.port, options.secret))
