"""The shipped samples are those that their manifest says."""

import csv
import hashlib

import pytest

from tests.support.data import SAMPLES

ROWS = list(csv.DictReader((SAMPLES / "MANIFEST.tsv").read_text().splitlines(), delimiter="\t"))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["file"])
def test_every_listed_file_is_there_unchanged_and_with_its_origin(row: dict[str, str]) -> None:
    data = (SAMPLES / row["file"]).read_bytes()

    assert (len(data), hashlib.sha256(data).hexdigest()) == (int(row["bytes"]), row["sha256"])
    assert row["source"]
    assert row["licence"]


@pytest.mark.parametrize("folder", ["igwn", "gcn", "voevent", "skymaps", "frb/catalogue"])
def test_every_shipped_file_is_listed(folder: str) -> None:
    shipped = {f"{folder}/{path.name}" for path in (SAMPLES / folder).iterdir() if path.name != "LICENSE"}

    assert shipped == {row["file"] for row in ROWS if row["file"].startswith(f"{folder}/")}
