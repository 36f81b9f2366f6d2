"""uvicorn's HTTP/1.1 with an end to all waiting for a client."""

import asyncio
import logging
from collections.abc import Callable
from http import HTTPStatus
from typing import ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from shared.http.problems import LOGGED

_log = logging.getLogger("uvicorn.error.requests")
_log.setLevel(logging.ERROR)
# What a client did wrong it is told itself; a line for each would let anybody fill the disk.


def _is_news(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    return LOGGED not in getattr(error, "__notes__", ())


_log.addFilter(_is_news)


class PatientProtocol(HttpToolsProtocol):
    """Gives a client time, but not for ever; for `uvicorn.Config(http=...)`.

    A connection is closed when a request's head does not arrive in time or is too large, when a client does not take
    its answer, and when an answer was given while the request still goes on. What uvicorn has already is a limit for
    idle connections between requests; bodies are watched by `RequestLimits`.
    """

    head_timeout_s: ClassVar[float] = 10.0
    """From the connection, or the first byte of a further request, to the end of the head."""

    write_timeout_s: ClassVar[float] = 30.0
    """In which a client takes at least some of what waits for it."""

    max_head_bytes: ClassVar[int] = 32 * 1024
    """Of anything that is no body: heads, trailers, sizes of chunks."""

    _receiving = False
    _idle_bytes = 0
    _untaken_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self.logger = _log
        self._head = _Timer(self.loop, self.head_timeout_s, self._on_head_overdue)
        self._taking = _Timer(self.loop, self.write_timeout_s, self._on_nothing_taken)
        self._head.start()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head.stop()
        self._taking.stop()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._idle_bytes += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._idle_bytes > self.max_head_bytes:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        elif self._idle_bytes and not self._receiving:
            # Without this a single byte between two requests would end the limit for idle connections.
            self._head.start()

    def on_headers_complete(self) -> None:
        head_bytes = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if head_bytes > self.max_head_bytes:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
            raise ValueError("head too large")
        self._head.stop()
        self._receiving = True
        self._idle_bytes = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._idle_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._receiving = False
        self._idle_bytes = 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.cycle.response_complete and self.cycle.more_body:
            # Nobody reads what still comes, and nothing else would limit it.
            self.transport.close()
        if self.transport.is_closing():
            self._await_taking()

    def send_400_response(self, msg: str) -> None:
        if not self.transport.is_closing():
            super().send_400_response(msg)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._await_taking()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._taking.stop()

    def _on_head_overdue(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._head.start()  # not before it has its answer to the request before
        elif self._idle_bytes:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT)
        else:
            self.transport.close()

    def _await_taking(self) -> None:
        """Watch over what was written; a closed transport, too, still waits for its client to take the rest."""
        self._untaken_bytes = self.transport.get_write_buffer_size()
        if self._untaken_bytes:
            self._taking.start()

    def _on_nothing_taken(self) -> None:
        if self.transport.get_write_buffer_size() < self._untaken_bytes:
            self._await_taking()
        else:
            self.transport.abort()

    def _refuse(self, status: HTTPStatus) -> None:
        head = f"HTTP/1.1 {status} {status.phrase}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        if self.cycle is None or self.cycle.response_complete:
            self.transport.write(head.encode())
        self.transport.close()
        self._await_taking()


class _Timer:
    """Calls back once after some time, when it was started and not stopped."""

    def __init__(self, loop: asyncio.AbstractEventLoop, delay_s: float, callback: Callable[[], None]) -> None:
        self._loop = loop
        self._delay_s = delay_s
        self._callback = callback
        self._handle: asyncio.TimerHandle | None = None

    def start(self) -> None:
        if self._handle is None:
            self._handle = self._loop.call_later(self._delay_s, self._fire)

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _fire(self) -> None:
        self._handle = None
        self._callback()
