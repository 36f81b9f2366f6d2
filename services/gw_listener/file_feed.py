"""A source of files as a feed of messages; what was read is remembered in the table `files`."""

import asyncio
from collections.abc import AsyncIterator, Callable

import asyncpg

from services.gw_listener.files import FileAlert, FolderWatch
from services.gw_listener.sources import ALERT_TOPIC, FilesSource
from shared.db.errors import translated_errors
from shared.kafka.message import Message


class FileFeed:
    """Messages made of files. Their key is the path, their offset the time of modification.

    `looked` is called after each look at the places: the source's heartbeat.
    """

    def __init__(self, source: FilesSource, pool: asyncpg.Pool, *, looked: Callable[[], None]) -> None:
        self._looked = looked
        self._source = source
        self._pool = pool
        self._watch = FolderWatch(source)
        self._in_hand: FileAlert | None = None

    async def messages(self) -> AsyncIterator[Message | None]:
        seen = await self._seen()
        while True:
            for file in await asyncio.to_thread(self._watch.scan, seen):
                self._in_hand = file
                yield Message(
                    topic=ALERT_TOPIC,
                    partition=-1,
                    offset=file.mtime_ns,
                    key=file.path.encode(),
                    value=await asyncio.to_thread(file.read),
                )
                seen.add(file)
            yield None
            self._looked()
            await asyncio.sleep(self._source.poll_interval_s)

    async def done(self, message: Message) -> None:  # noqa: ARG002 - the file in hand says more than its message
        file = self._in_hand
        assert file is not None
        with translated_errors():
            await self._pool.execute(
                "INSERT INTO files (source, path, size_bytes, modified_ns) VALUES ($1, $2, $3, $4)"
                " ON CONFLICT (source, path) DO UPDATE SET size_bytes = $3, modified_ns = $4",
                self._source.name,
                file.path,
                file.size,
                file.mtime_ns,
            )

    async def _seen(self) -> set[FileAlert]:
        with translated_errors():
            rows = await self._pool.fetch(
                "SELECT path, size_bytes, modified_ns FROM files WHERE source = $1", self._source.name
            )
        return {FileAlert(row["modified_ns"], row["path"], row["size_bytes"]) for row in rows}
