"""Streams that are not Kafka's (files, a socket), handled by the same processor under the same rules."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Protocol

import structlog

from shared.errors import TransientError
from shared.inbox.state import ConsumerState
from shared.kafka.consumer import ConsumerHaltedError
from shared.kafka.message import Message

RETRY_S = 2.0
TURN_S = 1.0

log = structlog.get_logger(__name__)


class Feed(Protocol):
    """Something that yields messages and remembers which were done."""

    def messages(self) -> AsyncIterator[Message | None]:
        """Yield what is not done yet, for ever; None after each look that found nothing more.

        Raises `TransientError` when it cannot look at the moment; it is called again then.
        """
        ...

    async def done(self, message: Message) -> None:
        """Remember that the effects of `message` are durable."""
        ...


class FeedLoop:
    """What `ConsumerLoop` is to a topic, for a feed."""

    def __init__(
        self,
        feed: Feed,
        *,
        process: Callable[[Sequence[Message], Callable[[Message], None]], Awaitable[None]],
        state: ConsumerState,
    ) -> None:
        self._feed = feed
        self._process = process
        self._state = state
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Ask the loop to end; a message in hand is undone and comes again."""
        self._stopping.set()

    async def run(self) -> None:
        """Process messages until `stop`."""
        self._state.assigned(1)
        self._state.connected(True)
        work = asyncio.ensure_future(self._work())
        stop = asyncio.ensure_future(self._stopping.wait())
        try:
            while not (work.done() or stop.done()):
                # Alive is who turns, however long a message waits for an outage to pass.
                self._state.polled()
                await asyncio.wait([work, stop], timeout=TURN_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            work.cancel()
            stop.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work

    async def _work(self) -> None:
        while True:
            try:
                async for message in self._feed.messages():
                    self._state.paused(None)
                    if message is None:
                        continue
                    done: list[Message] = []
                    await self._process([message], done.append)
                    for finished in done:
                        await self._feed.done(finished)
            except TransientError as error:
                self._state.paused(str(error))
                log.warning("feed.waiting", consumer=self._state.name, reason=str(error))
                await asyncio.sleep(RETRY_S)
            except ConsumerHaltedError as error:
                self._state.halted(str(error))
                log.critical("consumer.halted", consumer=self._state.name, reason=str(error))
                await self._stopping.wait()
                return
