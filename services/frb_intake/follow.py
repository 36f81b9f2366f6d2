"""Tells browsers and scripts of changes, as server-sent events, in the order in which they were committed."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import structlog
from fastapi.responses import StreamingResponse

from services.frb_intake.reading import BurstReader, Change, read_place
from shared.errors import TransientError
from shared.http.events import HEARTBEAT, Broadcast, encode_event, encode_place, event_stream
from shared.http.problems import ProblemError

LOOK_S = 0.2
RETRY_S = 2.0
HEARTBEAT_S = 15.0
FULL_RETRY_AFTER_S = 60

log = structlog.get_logger(__name__)


class Follower:
    """Looks for changes, and hands each to everybody who follows.

    It looks also while nobody does: a follower that joins must find no gap between what it read and what it is handed.

    Parameters
    ----------
    max_anonymous
        Streams at once of people without an account; nothing else limits those.
    """

    def __init__(self, reader: BurstReader, *, max_anonymous: int) -> None:
        self._reader = reader
        self._max_anonymous = max_anonymous
        self._anonymous = 0
        self._broadcast: Broadcast[Change] = Broadcast()

    async def run(self) -> None:
        """Follow the database, for ever; outages are waited out."""
        place: str | None = None
        while True:
            try:
                place = await self._look(place)
            except TransientError as error:
                log.warning("follow.waiting", reason=str(error))
                await asyncio.sleep(RETRY_S)
            else:
                await asyncio.sleep(LOOK_S)

    async def _look(self, place: str | None) -> str:
        if place is None:
            place = await self._reader.last_place()
        while changes := await self._reader.changes_after(place):
            for change in changes:
                self._broadcast.publish(change)
            place = changes[-1].place
        return place

    @contextmanager
    def anonymous(self) -> Iterator[None]:
        """Hold one of the places for followers without an account.

        Raises
        ------
        ProblemError
            All are taken.
        """
        if self._anonymous >= self._max_anonymous:
            detail = f"{self._anonymous} follow without an account; come again later, or with one"
            raise ProblemError(503, "Too many followers", detail, headers={"Retry-After": str(FULL_RETRY_AFTER_S)})
        self._anonymous += 1
        try:
            yield
        finally:
            self._anonymous -= 1

    async def response(self, last_place: str | None) -> StreamingResponse:
        """Return the stream of changes behind a place; without one, of those from now on.

        Raises
        ------
        InvalidInputError
            The place is none that an event has.
        """
        start = await self._reader.last_place() if last_place is None else last_place
        read_place(start)
        return event_stream(self._events(start))

    async def _events(self, place: str) -> AsyncIterator[bytes]:
        queue = self._broadcast.subscribe()
        try:
            yield encode_place(place)
            # What happened before the subscription is read; what the queue has twice is passed over.
            while changes := await self._reader.changes_after(place):
                for change in changes:
                    yield _encoded(change)
                place = changes[-1].place
            while True:
                try:
                    change_or_end = await asyncio.wait_for(queue.get(), HEARTBEAT_S)
                except TimeoutError:
                    yield HEARTBEAT
                    continue
                if change_or_end is None:
                    return
                if read_place(change_or_end.place) > read_place(place):
                    place = change_or_end.place
                    yield _encoded(change_or_end)
        finally:
            self._broadcast.leave(queue)


def _encoded(change: Change) -> bytes:
    return encode_event(event_id=change.place, event=change.change.lower(), data=change.record)
