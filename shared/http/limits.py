"""Limits what a request may bring and how long it may take, before anything reads it; marks answers as plain data."""

import asyncio
import contextlib
from collections.abc import Callable

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.http.problems import problem_response

Refusal = Callable[[int, str, str, str], Response]
"""Given status, title, detail and path, returns the answer."""


class _RefusedError(Exception):
    """Ends whatever reads the body."""


class RequestLimits:
    """ASGI middleware: 413 for a body that is too large, 408 for one that does not arrive.

    A body is counted as it comes, whatever its Content-Length says, and never collected here.

    Parameters
    ----------
    body_timeout_s
        From the first look at a body to its end, however it trickles.
    refuse
        Makes the answer; a problem by default.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        max_body_bytes: int,
        body_timeout_s: float,
        refuse: Refusal = problem_response,
    ) -> None:
        self._app = app
        self._max_body_bytes = max_body_bytes
        self._body_timeout_s = body_timeout_s
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        length = Headers(scope=scope).get("content-length", "")
        if length.isdecimal() and int(length) > self._max_body_bytes:
            await self._answer(413, scope, receive, send)
            return
        seen, deadline, refusal, begun = 0, 0.0, 0, False
        clock = asyncio.get_running_loop().time

        async def limited() -> Message:
            nonlocal seen, deadline, refusal
            deadline = deadline or clock() + self._body_timeout_s
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                refusal = 408
                raise _RefusedError from None
            seen += len(message.get("body", b""))
            if seen > self._max_body_bytes:
                refusal = 413
                raise _RefusedError
            if message["type"] == "http.request" and not message.get("more_body", False):
                deadline = float("inf")  # what is awaited now is the client's leaving
            return message

        async def watched(message: Message) -> None:
            nonlocal begun
            if refusal and not begun:
                return  # the framework's own words for an error that it does not know
            begun = True
            await send(message)

        with contextlib.suppress(_RefusedError):
            await self._app(scope, limited, watched)
        if refusal and not begun:
            await self._answer(refusal, scope, receive, send)

    async def _answer(self, status: int, scope: Scope, receive: Receive, send: Send) -> None:
        title, detail = {
            413: ("Content Too Large", f"at most {self._max_body_bytes} bytes are taken"),
            408: ("Request Timeout", f"the body took more than {self._body_timeout_s:g} s"),
        }[status]
        answer = self._refuse(status, title, detail, scope["path"])
        # What is still on its way is not read.
        answer.headers["Connection"] = "close"
        await answer(scope, receive, send)


class SecurityHeaders:
    """ASGI middleware: says that an answer is what its media type says, and no page that runs anything."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["X-Content-Type-Options"] = "nosniff"
                headers.setdefault("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
                headers.setdefault("Cache-Control", "no-store")
                headers.setdefault("Referrer-Policy", "no-referrer")
            await send(message)

        await self._app(scope, receive, marked)
