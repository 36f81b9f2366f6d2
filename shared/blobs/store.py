"""Content-addressed storage: a blob is named by its sha256, so writing it twice is writing it once.

References are verified when read: the content must have the size and hash that the event promised. Only this
store's own root is ever read, whatever `uri` an event carries; the `uri` is for readers outside.
"""

import contextlib
import hashlib
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import fsspec

from shared.errors import PermanentError, TransientError
from shared.events.blob import BlobRef
from shared.settings import BlobSettings

_SHA256 = re.compile("[0-9a-f]{64}")


class BlobUnavailableError(TransientError):
    """The store did not answer, or is full."""


class BlobMissingError(TransientError):
    """The store has no such blob (yet: a replica or a restored backup may be behind)."""


class BlobCorruptError(PermanentError):
    """What is stored is not what was promised."""


class BlobStore(Protocol):
    """Where large contents are kept. Calls block; use `asyncio.to_thread`."""

    def put(self, data: bytes, media_type: str) -> BlobRef:
        """Keep `data` durably and return its reference."""
        ...

    def put_all(self, contents: Sequence[tuple[bytes, str]]) -> list[BlobRef]:
        """Keep several contents, each with its media type; in a folder cheaper than one after the other."""
        ...

    def get(self, reference: BlobRef) -> bytes:
        """Return the content of `reference`, verified."""
        ...


def open_store(settings: BlobSettings) -> BlobStore:
    """Return the store that the settings name."""
    if "://" in settings.url and not settings.url.startswith("file://"):
        return RemoteBlobs(settings.url, max_bytes=settings.max_bytes)
    return FolderBlobs(Path(settings.url.removeprefix("file://")), max_bytes=settings.max_bytes)


class FolderBlobs:
    """Blobs in a local folder, two levels of subfolders by the first digits of the hash."""

    def __init__(self, root: Path, *, max_bytes: int) -> None:
        self._root = root.absolute()
        self._max_bytes = max_bytes

    def put(self, data: bytes, media_type: str) -> BlobRef:
        return self.put_all([(data, media_type)])[0]

    def put_all(self, contents: Sequence[tuple[bytes, str]]) -> list[BlobRef]:
        digests = [_digest(data, self._max_bytes) for data, _ in contents]
        paths = [self._path(digest) for digest in digests]
        try:
            _write_durably(
                {
                    path: data
                    for path, (data, _) in zip(paths, contents, strict=True)
                    # One of another length is what a crash of the machine left; it is written anew.
                    if not (path.exists() and path.stat().st_size == len(data))
                }
            )
        except OSError as error:
            raise BlobUnavailableError(f"cannot write below {self._root}: {error}") from error
        return [
            BlobRef(uri=path.as_uri(), sha256=digest, size=len(data), media_type=media_type)
            for path, digest, (data, media_type) in zip(paths, digests, contents, strict=True)
        ]

    def get(self, reference: BlobRef) -> bytes:
        _check(reference, self._max_bytes)
        path = self._path(reference.sha256)
        try:
            data = path.read_bytes()
        except FileNotFoundError as error:
            raise BlobMissingError(f"no blob {path}") from error
        except OSError as error:
            raise BlobUnavailableError(f"cannot read {path}: {error}") from error
        return _verified(data, reference)

    def _path(self, digest: str) -> Path:
        return self._root / digest[:2] / digest[2:4] / digest


class RemoteBlobs:
    """Blobs in anything that fsspec reaches, S3 above all; credentials are the environment's."""

    def __init__(self, url: str, *, max_bytes: int) -> None:
        self._url = url.rstrip("/")
        self._filesystem, self._root = fsspec.core.url_to_fs(self._url)
        self._max_bytes = max_bytes

    def put(self, data: bytes, media_type: str) -> BlobRef:
        digest = _digest(data, self._max_bytes)
        try:
            if not self._filesystem.exists(self._path(digest)):
                # An object store shows an object only when it is complete.
                self._filesystem.pipe_file(self._path(digest), data)
        except OSError as error:
            raise BlobUnavailableError(f"cannot write {self._url}: {error}") from error
        return BlobRef(uri=f"{self._url}/{_relative(digest)}", sha256=digest, size=len(data), media_type=media_type)

    def put_all(self, contents: Sequence[tuple[bytes, str]]) -> list[BlobRef]:
        return [self.put(data, media_type) for data, media_type in contents]

    def get(self, reference: BlobRef) -> bytes:
        _check(reference, self._max_bytes)
        try:
            data = self._filesystem.cat_file(self._path(reference.sha256))
        except FileNotFoundError as error:
            raise BlobMissingError(f"no blob {self._url}/{_relative(reference.sha256)}") from error
        except OSError as error:
            raise BlobUnavailableError(f"cannot read {self._url}: {error}") from error
        return _verified(data, reference)

    def _path(self, digest: str) -> str:
        return f"{self._root}/{_relative(digest)}"


def _relative(digest: str) -> str:
    return f"{digest[:2]}/{digest[2:4]}/{digest}"


def _write_durably(contents: Mapping[Path, bytes]) -> None:
    """Write files, each named only when complete and on disk: a reader or a crash never sees half a blob.

    All are written before the first is synchronised, so that they share commits of the file system's journal.
    """
    written: list[tuple[Path, Path]] = []
    with contextlib.ExitStack() as files:
        try:
            descriptors = []
            for path, data in contents.items():
                path.parent.mkdir(parents=True, exist_ok=True)
                file = files.enter_context(tempfile.NamedTemporaryFile(dir=path.parent, prefix=".", delete=False))
                written.append((Path(file.name), path))
                file.write(data)
                file.flush()
                descriptors.append(file.fileno())
            for descriptor in descriptors:
                os.fsync(descriptor)
        except OSError:
            for temporary, _ in written:
                temporary.unlink()
            raise
    for temporary, path in written:
        temporary.replace(path)
    # The names too must outlive a loss of power: an event will promise them.
    for folder in {path.parent for path in contents}:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _digest(data: bytes, max_bytes: int) -> str:
    if len(data) > max_bytes:
        raise PermanentError(f"a blob of {len(data)} bytes; at most {max_bytes} are kept")
    return hashlib.sha256(data).hexdigest()


def _check(reference: BlobRef, max_bytes: int) -> None:
    if not _SHA256.fullmatch(reference.sha256):
        # It becomes part of a path.
        raise BlobCorruptError(f"{reference.sha256[:80]!r} is no sha256")
    if reference.size > max_bytes:
        raise PermanentError(f"a blob of {reference.size} bytes; at most {max_bytes} are read")


def _verified(data: bytes, reference: BlobRef) -> bytes:
    found = hashlib.sha256(data).hexdigest()
    if len(data) != reference.size or found != reference.sha256:
        raise BlobCorruptError(
            f"blob {reference.sha256} holds {len(data)} bytes with sha256 {found}; {reference.size} were promised"
        )
    return data
