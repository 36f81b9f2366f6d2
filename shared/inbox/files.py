"""Files as a source of messages: what is new in the configured places, complete, in order, each once."""

import asyncio
import glob
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
import sqlalchemy as sa

from shared.db.errors import translated_errors
from shared.errors import TransientError
from shared.inbox.sources import FilesSource
from shared.kafka.message import Message

_UNFINISHED_PREFIXES = (".", "~")
_UNFINISHED_SUFFIXES = (".tmp", ".temp", ".part", ".partial", ".filepart", ".crdownload", ".swp", "~")
# rsync, scp clients, browsers and editors write under such names and rename at the end.


def files_table(metadata: sa.MetaData) -> sa.Table:
    """Return the table in which a service with sources of files remembers what it has read."""
    return sa.Table(
        "files",
        metadata,
        sa.Column("source", sa.Text, primary_key=True),
        sa.Column("path", sa.Text, primary_key=True),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("modified_ns", sa.BigInteger, nullable=False, comment="Modification time, nanoseconds since 1970."),
        comment="The offset of a source of files: what it has read.",
    )


@dataclass(frozen=True, order=True)
class FoundFile:
    """A file as it was found; a file that changes is another one. Store these to know what was read."""

    mtime_ns: int
    path: str
    size: int

    def read(self, max_bytes: int) -> bytes:
        """The bytes of the file; of one larger than `max_bytes` only so many as tell that it is.

        Raises
        ------
        TransientError
            When it cannot be read, or has changed since it was found.
        """
        try:
            with Path(self.path).open("rb") as file:
                data = file.read(min(self.size, max_bytes) + 1)
        except OSError as exc:
            raise TransientError(f"File {self.path}: {exc.strerror}") from exc
        if len(data) != min(self.size, max_bytes + 1):
            raise TransientError(f"File {self.path} changed while it was read")
        return data


@dataclass
class FolderWatch:
    """Looks again and again at the places of a source.

    Attributes
    ----------
    suffixes
        What is looked for inside a folder; a file named in the settings may be called anything.
    """

    source: FilesSource
    suffixes: tuple[str, ...]
    clock: Callable[[], float] = time.time
    _last_look: frozenset[FoundFile] = field(default=frozenset(), init=False)

    def scan(self, seen: Collection[FoundFile]) -> list[FoundFile]:
        """The complete files that are not in `seen`: places as configured, in each the oldest first, then by name.

        A file is complete when it has not changed for `settle_s`, or was the same at the last look (which also takes
        in files dated in the future).

        Raises
        ------
        TransientError
            When a configured file or folder is not there.
        """
        found = list(dict.fromkeys(file for place in self.source.paths for file in sorted(self._files_at(place))))
        settled_ns = (self.clock() - self.source.settle_s) * 1e9
        complete = [file for file in found if file.mtime_ns <= settled_ns or file in self._last_look]
        self._last_look = frozenset(found)
        return [file for file in complete if file not in seen]

    def _files_at(self, place: str) -> Iterator[FoundFile]:
        for path in self._paths_at(Path(place).expanduser()):
            if path.name.startswith(_UNFINISHED_PREFIXES) or path.name.endswith(_UNFINISHED_SUFFIXES):
                continue
            try:
                status = path.stat()
            except FileNotFoundError:  # renamed between the listing and now; its new name comes with the next look
                continue
            if path.is_file():
                yield FoundFile(status.st_mtime_ns, str(path), status.st_size)

    def _paths_at(self, place: Path) -> Iterator[Path]:
        if place.is_dir():
            for suffix in self.suffixes:
                yield from place.glob(f"**/*{suffix}" if self.source.recursive else f"*{suffix}")
        elif place.exists():
            yield place
        elif glob.has_magic(str(place)):
            # Path.glob takes no absolute patterns.
            yield from map(Path, glob.iglob(str(place), recursive=True))  # noqa: PTH207
        else:
            raise TransientError(f"Files: {place} is not there")


class FileFeed:
    """Messages made of files. Their key is the path, their offset the time of modification.

    What was read is remembered in the service's table `files` (`files_table`).

    Parameters
    ----------
    topic_of
        Says from the bytes which topic such a message would be on: where its dead letter belongs.
    max_bytes
        No message is larger; of a larger file so much is read that its receiver refuses it.
    looked
        Called after each look at the places: the source's heartbeat.
    """

    def __init__(
        self,
        source: FilesSource,
        pool: asyncpg.Pool,
        *,
        suffixes: tuple[str, ...],
        topic_of: Callable[[bytes], str],
        max_bytes: int,
        looked: Callable[[], None],
    ) -> None:
        self._looked = looked
        self._source = source
        self._pool = pool
        self._topic_of = topic_of
        self._max_bytes = max_bytes
        self._watch = FolderWatch(source, suffixes)
        self._in_hand: FoundFile | None = None

    async def messages(self) -> AsyncIterator[Message | None]:
        seen = await self._seen()
        while True:
            for file in await asyncio.to_thread(self._watch.scan, seen):
                self._in_hand = file
                data = await asyncio.to_thread(file.read, self._max_bytes)
                yield Message(
                    topic=self._topic_of(data),
                    partition=-1,
                    offset=file.mtime_ns,
                    key=file.path.encode(),
                    value=data,
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

    async def _seen(self) -> set[FoundFile]:
        with translated_errors():
            rows = await self._pool.fetch(
                "SELECT path, size_bytes, modified_ns FROM files WHERE source = $1", self._source.name
            )
        return {FoundFile(row["modified_ns"], row["path"], row["size_bytes"]) for row in rows}
