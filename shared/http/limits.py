"""Limits what a request may bring and how long it may take, before anything reads it; marks answers as plain data."""

import asyncio
import contextlib
from collections.abc import Callable

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.http.problems import PLAIN_DATA_HEADERS, problem_response

GRACE_S = 10.0
# A bad line may lose its first packets; only then does the rate count.
MIN_BYTES_PER_S = 1000
LINGER_S = 5.0
# Closing while a client still sends makes its system throw our answer away.

Refusal = Callable[[int, str, str, str], Response]
"""Given status, title, detail and path, returns the answer."""


class _RefusedError(Exception):
    """Ends whatever reads the body."""


class RequestLimits:
    """ASGI middleware: 413 for a body that is too large, 408 for one that does not arrive.

    A body is counted as it comes, whatever its Content-Length says, and never collected here. An answer that is given
    before the body was read is sent at once; the rest of the body is then thrown away, for a while.

    Parameters
    ----------
    max_text_bytes
        Of a body that is no multipart/form-data, and so is collected before it is read; as any other by default.
    body_timeout_s
        Time spent on waiting for the body, all in all; what the application does with it meanwhile does not count.
    grace_s, min_bytes_per_s
        After the grace a body must have come at this rate.
    refuse
        Makes the answer; a problem by default.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        max_body_bytes: int,
        max_text_bytes: int | None = None,
        body_timeout_s: float,
        grace_s: float = GRACE_S,
        min_bytes_per_s: float = MIN_BYTES_PER_S,
        refuse: Refusal = problem_response,
    ) -> None:
        self._app = app
        self._max_body_bytes = max_body_bytes
        self._max_text_bytes = max_text_bytes or max_body_bytes
        self._body_timeout_s = body_timeout_s
        self._grace_s = grace_s
        self._min_bytes_per_s = min_bytes_per_s
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced_bytes = _announced_bytes(scope)
        max_bytes = self._max_body_bytes if _is_multipart(scope) else self._max_text_bytes
        body = _Body(receive, is_announced=announced_bytes != 0)
        refusal, begun = 0, False

        async def limited() -> Message:
            nonlocal refusal
            allowed_s = min(self._body_timeout_s, self._grace_s + body.seen_bytes / self._min_bytes_per_s)
            try:
                message = await body.receive(allowed_s)
            except TimeoutError:
                refusal = 408
                raise _RefusedError from None
            if body.seen_bytes > max_bytes:
                refusal = 413
                raise _RefusedError
            return message

        async def watched(message: Message) -> None:
            nonlocal begun
            if refusal and not begun:
                return  # the framework's own words for an error that it does not know
            begun = True
            await body.answer(message, send)

        if announced_bytes is not None and announced_bytes > max_bytes:
            refusal = 413
        else:
            # That a client left is no error of ours.
            with contextlib.suppress(_RefusedError, ClientDisconnect):
                await self._app(scope, limited, watched)
        if refusal and not begun:
            title, detail = {
                413: ("Content Too Large", f"at most {max_bytes} bytes are taken"),
                408: ("Request Timeout", "the body did not arrive in time"),
            }[refusal]
            answer = self._refuse(refusal, title, detail, scope["path"])
            answer.headers["Connection"] = "close"
            await answer(scope, receive, lambda message: body.answer(message, send, linger=refusal == 413))


class _Body:
    """What has come of a body, and how long it was waited for."""

    def __init__(self, receive: Receive, *, is_announced: bool) -> None:
        self.seen_bytes = 0
        self._receive = receive
        self._is_announced = is_announced
        self._waited_s = 0.0
        self._ended = False

    async def receive(self, allowed_s: float) -> Message:
        """Return the next message, or raise TimeoutError when all waits together took longer than allowed."""
        if self._ended:
            return await self._receive()  # it is the client's leaving that is awaited now
        clock = asyncio.get_running_loop().time
        begun = clock()
        async with asyncio.timeout_at(begun + allowed_s - self._waited_s):
            message = await self._receive()
        self._waited_s += clock() - begun
        self.seen_bytes += len(message.get("body", b""))
        self._ended = not message.get("more_body", False)
        return message

    async def answer(self, message: Message, send: Send, *, linger: bool = True) -> None:
        """Send a part of the answer; let the body come to its end before the end of the answer."""
        is_last = message["type"] == "http.response.body" and not message.get("more_body", False)
        if linger and is_last and self._is_announced and not self._ended:
            await send({**message, "more_body": True})
            self._waited_s = 0.0
            with contextlib.suppress(TimeoutError):
                while not self._ended:
                    await self.receive(LINGER_S)
            message = {"type": "http.response.body"}
        await send(message)


def _announced_bytes(scope: Scope) -> float | None:
    """Return the length of the body as the client has it; None when it comes in chunks."""
    for name, value in scope["headers"]:
        if name == b"transfer-encoding":
            return None
        if name == b"content-length" and value.isdigit():
            return float(value)
    return 0


def _is_multipart(scope: Scope) -> bool:
    return any(
        name == b"content-type" and value.lower().startswith(b"multipart/form-data") for name, value in scope["headers"]
    )


class SecurityHeaders:
    """ASGI middleware: says that an answer is what its media type says, and no page that runs anything."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._headers = [(name.lower().encode(), value.encode()) for name, value in PLAIN_DATA_HEADERS.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = list(message.get("headers", ()))
                present = {name for name, _ in headers}
                message["headers"] = headers + [header for header in self._headers if header[0] not in present]
            await send(message)

        await self._app(scope, receive, marked)
