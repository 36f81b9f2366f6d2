"""Every blob store keeps the same promises."""

import hashlib
import os
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import pytest

from shared.blobs.store import (
    BlobCorruptError,
    BlobMissingError,
    BlobStore,
    BlobUnavailableError,
    FolderBlobs,
    RemoteBlobs,
    open_store,
)
from shared.errors import PermanentError
from shared.events.blob import BlobRef
from shared.settings import BlobSettings

MAX_BYTES = 1000
FITS = "application/fits"


@pytest.fixture(params=["folder", "remote"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BlobStore]:
    if request.param == "folder":
        yield FolderBlobs(tmp_path / "blobs", max_bytes=MAX_BYTES)
    else:
        root = f"memory://{uuid.uuid4().hex}"
        yield RemoteBlobs(root, max_bytes=MAX_BYTES)
        memory = fsspec.filesystem("memory")
        if memory.exists(root):
            memory.rm(root, recursive=True)


def tampered(store: BlobStore, reference: BlobRef, data: bytes) -> None:
    """Replace what is stored behind the store's back."""
    if reference.uri.startswith("file:"):
        Path(reference.uri.removeprefix("file://")).write_bytes(data)
    else:
        fsspec.filesystem("memory").pipe_file(reference.uri, data)


@pytest.mark.parametrize("data", [b"", b"x", bytes(range(256)), b"m" * MAX_BYTES])
def test_what_was_put_is_what_one_gets(store: BlobStore, data: bytes) -> None:
    reference = store.put(data, FITS)
    assert store.get(reference) == data
    assert (reference.sha256, reference.size, reference.media_type) == (
        hashlib.sha256(data).hexdigest(),
        len(data),
        FITS,
    )


def test_the_uri_leads_any_reader_to_the_content(store: BlobStore) -> None:
    reference = store.put(b"a map", FITS)
    with fsspec.open(reference.uri) as file:
        assert file.read() == b"a map"


def test_the_same_content_is_stored_once_under_the_same_name(store: BlobStore) -> None:
    assert store.put(b"same", FITS) == store.put(b"same", FITS)
    assert store.put(b"same", "image/png").uri == store.put(b"same", FITS).uri
    assert store.put(b"other", FITS).uri != store.put(b"same", FITS).uri


def test_a_blob_that_is_not_there_may_still_come(store: BlobStore) -> None:
    reference = store.put(b"a map", FITS)
    absent = reference.model_copy(update={"sha256": "0" * 64})
    with pytest.raises(BlobMissingError, match="0000"):
        store.get(absent)


@pytest.mark.parametrize("data", [b"b map", b"a ma", b"a map and more", b""])
def test_content_that_is_not_what_was_promised_is_refused(store: BlobStore, data: bytes) -> None:
    reference = store.put(b"a map", FITS)
    tampered(store, reference, data)
    with pytest.raises(BlobCorruptError, match=reference.sha256):
        store.get(reference)


def test_a_reference_with_the_wrong_size_is_refused(store: BlobStore) -> None:
    reference = store.put(b"a map", FITS)
    with pytest.raises(BlobCorruptError):
        store.get(reference.model_copy(update={"size": 4}))


def test_what_is_too_large_is_neither_kept_nor_read(store: BlobStore) -> None:
    with pytest.raises(PermanentError, match="at most 1000"):
        store.put(b"m" * (MAX_BYTES + 1), FITS)
    reference = store.put(b"m", FITS)
    with pytest.raises(PermanentError, match="at most 1000"):
        store.get(reference.model_copy(update={"size": MAX_BYTES + 1}))


def test_only_the_stores_own_root_is_read_whatever_the_uri_says(store: BlobStore, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    forged = BlobRef(uri=secret.as_uri(), sha256=hashlib.sha256(b"secret").hexdigest(), size=6, media_type=FITS)
    with pytest.raises(BlobMissingError):
        store.get(forged)


@pytest.mark.parametrize("sha256", ["../../../../secret", "/etc/passwd", "", "A" * 64, "0" * 63, "0" * 64 + "/../x"])
def test_what_is_no_hash_is_refused_before_anything_is_looked_up(store: BlobStore, sha256: str) -> None:
    with pytest.raises(PermanentError, match="sha256"):
        store.get(BlobRef(uri="file:///x", sha256=sha256, size=6, media_type=FITS))


def test_many_writers_of_one_content_do_not_disturb_each_other(store: BlobStore) -> None:
    with ThreadPoolExecutor(8) as pool:
        references = list(pool.map(lambda _: store.put(b"m" * MAX_BYTES, FITS), range(40)))
    assert len(set(references)) == 1
    assert store.get(references[0]) == b"m" * MAX_BYTES


def test_a_folder_holds_nothing_but_whole_blobs(tmp_path: Path) -> None:
    store = FolderBlobs(tmp_path, max_bytes=MAX_BYTES)
    store.put(b"one", FITS)
    store.put(b"two", FITS)
    names = [Path(folder, name).relative_to(tmp_path) for folder, _, files in os.walk(tmp_path) for name in files]
    digests = [hashlib.sha256(data).hexdigest() for data in (b"one", b"two")]
    assert sorted(map(str, names)) == sorted(f"{digest[:2]}/{digest[2:4]}/{digest}" for digest in digests)


def test_a_disk_that_fails_is_an_outage_and_leaves_no_half_blob(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    store = FolderBlobs(tmp_path, max_bytes=MAX_BYTES)
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(BlobUnavailableError, match="No space left"):
        store.put(b"a map", FITS)
    assert [name for _, _, names in os.walk(tmp_path) for name in names] == []

    monkeypatch.undo()
    assert store.get(store.put(b"a map", FITS)) == b"a map"


def test_a_folder_that_cannot_be_made_is_an_outage(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(BlobUnavailableError):
        FolderBlobs(tmp_path / "file", max_bytes=MAX_BYTES).put(b"a map", FITS)


@pytest.mark.parametrize(
    ("url", "kind"), [("blobs", FolderBlobs), ("file://{folder}", FolderBlobs), ("memory://blobs", RemoteBlobs)]
)
def test_the_settings_choose_the_store(url: str, kind: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = open_store(BlobSettings(url=url.format(folder=tmp_path)))
    assert isinstance(store, kind)
    assert store.get(store.put(b"a map", FITS)) == b"a map"
