"""Alert files as a source: what is new in the configured places, complete, in order."""

import glob
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from services.gw_listener.alerts import MAX_ALERT_BYTES
from services.gw_listener.sources import FilesSource
from shared.errors import TransientError

ALERT_SUFFIXES = (".avro", ".json")
# What is looked for inside a folder; a file named in the settings may be called anything.

_UNFINISHED_PREFIXES = (".", "~")
_UNFINISHED_SUFFIXES = (".tmp", ".temp", ".part", ".partial", ".filepart", ".crdownload", ".swp", "~")
# rsync, scp clients, browsers and editors write under such names and rename at the end.


@dataclass(frozen=True, order=True)
class FileAlert:
    """A file as it was found; a file that changes is another one. Store these to know what was read."""

    mtime_ns: int
    path: str
    size: int

    def read(self) -> bytes:
        """The bytes of the file; of one larger than any alert only so many as tell that it is.

        Raises
        ------
        TransientError
            When it cannot be read, or has changed since it was found.
        """
        try:
            with Path(self.path).open("rb") as file:
                data = file.read(min(self.size, MAX_ALERT_BYTES) + 1)
        except OSError as exc:
            raise TransientError(f"Alert file {self.path}: {exc.strerror}") from exc
        if len(data) != min(self.size, MAX_ALERT_BYTES + 1):
            raise TransientError(f"Alert file {self.path} changed while it was read")
        return data


@dataclass
class FolderWatch:
    """Looks again and again at the places of a source."""

    source: FilesSource
    clock: Callable[[], float] = time.time
    _last_look: frozenset[FileAlert] = field(default=frozenset(), init=False)

    def scan(self, seen: Collection[FileAlert]) -> list[FileAlert]:
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

    def _files_at(self, place: str) -> Iterator[FileAlert]:
        for path in self._paths_at(Path(place).expanduser()):
            if path.name.startswith(_UNFINISHED_PREFIXES) or path.name.endswith(_UNFINISHED_SUFFIXES):
                continue
            try:
                status = path.stat()
            except FileNotFoundError:  # renamed between the listing and now; its new name comes with the next look
                continue
            if path.is_file():
                yield FileAlert(status.st_mtime_ns, str(path), status.st_size)

    def _paths_at(self, place: Path) -> Iterator[Path]:
        if place.is_dir():
            for suffix in ALERT_SUFFIXES:
                yield from place.glob(f"**/*{suffix}" if self.source.recursive else f"*{suffix}")
        elif place.exists():
            yield place
        elif glob.has_magic(str(place)):
            # Path.glob takes no absolute patterns.
            yield from map(Path, glob.iglob(str(place), recursive=True))  # noqa: PTH207
        else:
            raise TransientError(f"Alert files: {place} is not there")
