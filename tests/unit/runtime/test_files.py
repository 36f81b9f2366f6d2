"""A folder gives its alerts once each, complete and in order."""

import os
from pathlib import Path
from typing import Any

import pytest

from services.gw_listener.alerts import MAX_ALERT_BYTES, read_alert
from services.gw_listener.service import ALERT_SUFFIXES
from shared.errors import InvalidInputError, TransientError
from shared.inbox.files import FolderWatch, FoundFile
from shared.inbox.sources import FilesSource

NOW = 1_800_000_000.0


def write(path: Path, *, content: bytes = b"alert", age_s: float = 60) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (NOW - age_s, NOW - age_s))
    return path


def watch(*places: Path | str, **settings: Any) -> FolderWatch:
    return FolderWatch(FilesSource(paths=tuple(map(str, places)), **settings), ALERT_SUFFIXES, clock=lambda: NOW)


def names(files: list[FoundFile]) -> list[str]:
    return [Path(file.path).name for file in files]


def test_the_oldest_comes_first_then_the_name_decides(tmp_path: Path) -> None:
    write(tmp_path / "c.avro", age_s=90)
    write(tmp_path / "b.json", age_s=10)
    write(tmp_path / "a.avro", age_s=10)

    assert names(watch(tmp_path).scan(set())) == ["c.avro", "a.avro", "b.json"]


def test_places_come_in_the_order_of_the_settings(tmp_path: Path) -> None:
    second, first = write(tmp_path / "old.avro", age_s=90), write(tmp_path / "new.avro", age_s=10)

    assert names(watch(first, second, tmp_path).scan(set())) == ["new.avro", "old.avro"]


def test_what_was_seen_does_not_come_again_until_it_changes(tmp_path: Path) -> None:
    path = write(tmp_path / "a.avro")
    folder = watch(tmp_path)
    seen = set(folder.scan(set()))

    assert folder.scan(seen) == []
    write(path, content=b"another alert", age_s=5)
    assert names(folder.scan(seen)) == ["a.avro"]


def test_only_alert_files_of_a_folder_are_taken(tmp_path: Path) -> None:
    for name in ("a.avro", "notes.txt", ".hidden.avro", "b.avro.part", "c.json.tmp", "~d.json", "e.json~"):
        write(tmp_path / name)
    (tmp_path / "folder.avro").mkdir()

    assert names(watch(tmp_path).scan(set())) == ["a.avro"]


def test_a_named_file_may_have_any_name(tmp_path: Path) -> None:
    assert names(watch(write(tmp_path / "alert.bin")).scan(set())) == ["alert.bin"]


def test_folders_inside_are_looked_into_when_asked(tmp_path: Path) -> None:
    write(tmp_path / "O4" / "May" / "a.avro")

    assert names(watch(tmp_path).scan(set())) == []
    assert names(watch(tmp_path, recursive=True).scan(set())) == ["a.avro"]


def test_patterns_are_understood(tmp_path: Path) -> None:
    write(tmp_path / "MS181101ab-initial.avro", age_s=3)
    write(tmp_path / "S230518h-Initial.json", age_s=2)
    write(tmp_path / "deep" / "MS181101ab-update.avro", age_s=1)

    assert names(watch(tmp_path / "MS*.avro").scan(set())) == ["MS181101ab-initial.avro"]
    assert names(watch(tmp_path / "**/MS*.avro").scan(set())) == ["MS181101ab-initial.avro", "MS181101ab-update.avro"]
    assert names(watch(tmp_path / "GW*.avro").scan(set())) == []


def test_a_file_that_has_just_changed_waits_until_it_rests(tmp_path: Path) -> None:
    path = write(tmp_path / "a.avro", content=b"half", age_s=0.1)
    folder = watch(tmp_path)

    assert folder.scan(set()) == []
    write(path, content=b"half and half", age_s=0.0)
    assert folder.scan(set()) == []
    assert names(folder.scan(set())) == ["a.avro"]


def test_a_file_from_the_future_is_taken_once_it_rests(tmp_path: Path) -> None:
    write(tmp_path / "a.avro", age_s=-3600)
    folder = watch(tmp_path)

    assert folder.scan(set()) == []
    assert names(folder.scan(set())) == ["a.avro"]


def test_a_place_that_is_not_there_is_an_outage(tmp_path: Path) -> None:
    """An unmounted disk must not look like a quiet sky."""
    with pytest.raises(TransientError, match="is not there"):
        watch(tmp_path / "archive").scan(set())


def test_a_file_is_read_as_it_was_found(tmp_path: Path) -> None:
    path = write(tmp_path / "a.avro", content=b"the alert")
    (file,) = watch(tmp_path).scan(set())

    assert file.read(MAX_ALERT_BYTES) == b"the alert"
    path.write_bytes(b"the alert and more")
    with pytest.raises(TransientError, match="changed"):
        file.read(MAX_ALERT_BYTES)
    path.unlink()
    with pytest.raises(TransientError, match="No such file"):
        file.read(MAX_ALERT_BYTES)


def test_of_a_file_larger_than_any_alert_only_so_much_is_read_as_tells_it(tmp_path: Path) -> None:
    path = write(tmp_path / "a.avro")
    os.truncate(path, 2 * MAX_ALERT_BYTES)
    os.utime(path, (NOW - 60, NOW - 60))
    (file,) = watch(tmp_path).scan(set())

    with pytest.raises(InvalidInputError, match=f"alert is {MAX_ALERT_BYTES + 1} bytes"):
        read_alert(file.read(MAX_ALERT_BYTES))
