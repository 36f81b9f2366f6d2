"""Server-sent events (WHATWG HTML, section 9.2): a text stream that browsers follow and resume by themselves."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Generic, TypeVar

from fastapi.responses import StreamingResponse
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event

HEARTBEAT = KEEPALIVE_COMMENT
HEADERS: Mapping[str, str] = {
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # proxies that collect answers would hold events back
}

Item = TypeVar("Item")


def encode_event(*, event_id: str, event: str, data: str) -> bytes:
    """Return one event as it goes over the wire; line breaks in `data` survive as line feeds."""
    return format_sse_event(id=_one_line(event_id), event=_one_line(event), data_str=data)


def encode_place(event_id: str) -> bytes:
    """Return what tells a follower its place before anything happens."""
    return format_sse_event(id=_one_line(event_id))


def _one_line(text: str) -> str:
    # A NUL in an id makes browsers forget it; a line break would begin another field.
    return text.replace("\x00", "").replace("\n", " ").replace("\r", " ")


def event_stream(chunks: AsyncIterator[bytes]) -> StreamingResponse:
    """Return the answer that sends `chunks` as they come."""
    return StreamingResponse(chunks, media_type="text/event-stream", headers=HEADERS)


class Broadcast(Generic[Item]):
    """Hands every item to every subscriber that is there at the time.

    Parameters
    ----------
    capacity
        Items that wait for one subscriber. Who is slower is let go, and comes back for what was missed.
    """

    def __init__(self, *, capacity: int = 1000) -> None:
        self._capacity = capacity
        self._queues: set[asyncio.Queue[Item | None]] = set()

    def publish(self, item: Item) -> None:
        """Hand out an item."""
        for queue in list(self._queues):
            if queue.qsize() < self._capacity:
                queue.put_nowait(item)
            else:
                self._let_go(queue)

    def subscribe(self) -> asyncio.Queue[Item | None]:
        """Return a queue that gets every item from now on, and None at the end."""
        queue: asyncio.Queue[Item | None] = asyncio.Queue()
        self._queues.add(queue)
        return queue

    def leave(self, queue: asyncio.Queue[Item | None]) -> None:
        """Hand nothing more to a queue."""
        self._queues.discard(queue)

    def end(self) -> None:
        """Let everybody go: whoever is here comes back to the next process."""
        for queue in list(self._queues):
            self._let_go(queue)

    def _let_go(self, queue: asyncio.Queue[Item | None]) -> None:
        self._queues.discard(queue)
        queue.put_nowait(None)
