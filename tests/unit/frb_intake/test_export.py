"""Lists as files that other programs read."""

import csv
import io
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from astropy.io.votable import parse_single_table

from services.frb_intake import domain
from services.frb_intake.api.answers import BurstSummary
from services.frb_intake.api.export import COLUMNS, FORMATS, exported
from services.frb_intake.domain import Measured, NewBurst
from shared.sky.localisation import Ellipse

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
NAMES = [column.name for column in COLUMNS]


def a_line(frb_id: int, **known: Any) -> str:
    measured = Measured("MB", "v1", dm_pc_cm3=411.0, ellipse=Ellipse(77, 26, 0.05, 0.05, 0, 0.68)) if known else None
    new = NewBurst(submitted_by="ada", origin="upload", **known)
    burst = domain.create(new, frb_id=frb_id, observatory='A & "B", <C>', now=NOW, measured=measured)
    return json.dumps(domain.summary(burst))


LINES = [a_line(1), a_line(2, repeater=True), a_line(3, is_test=True)]


async def written(file_format: str, batches: list[list[str]]) -> str:
    async def coming() -> AsyncIterator[list[str]]:
        for lines in batches:
            yield lines

    return b"".join([chunk async for chunk in exported(coming(), file_format)]).decode()


def test_every_field_of_a_list_is_a_column() -> None:
    fields = set(BurstSummary.model_fields) - {"votes"} | {f"votes_{r}" for r in ("confirm", "reject", "unsure")}
    assert set(NAMES) == fields


@pytest.mark.parametrize("batches", [[LINES], [LINES[:1], [], LINES[1:]]])
async def test_json_is_the_list_however_it_came(batches: list[list[str]]) -> None:
    assert json.loads(await written("json", batches)) == [json.loads(line) for line in LINES]


async def test_csv_has_a_row_for_each_burst_and_nothing_where_nothing_is_known() -> None:
    rows = list(csv.DictReader(io.StringIO(await written("csv", [LINES[:1], LINES[1:]]))))
    assert list(rows[0]) == NAMES
    assert [(row["id"], row["dm"], row["internal_name"]) for row in rows] == [
        (str(n), dm, f'A & "B", <C>-FRB-{n}') for n, dm in ((1, ""), (2, "411.0"), (3, "411.0"))
    ]


async def test_a_votable_is_read_by_astropy_with_its_units() -> None:
    table = parse_single_table(io.BytesIO((await written("votable", [LINES])).encode())).to_table()
    assert table.colnames == NAMES
    assert [str(table[name].unit) for name in ("ra", "width", "fluence")] == ["deg", "ms", "Jy ms"]
    assert list(table["id"]) == [1, 2, 3]
    assert [bool(value) for value in table["is_test"]] == [False, False, True]
    assert table["internal_name"][1] == 'A & "B", <C>-FRB-2'
    assert table["dm"][2] == 411.0


@pytest.mark.parametrize("file_format", FORMATS)
async def test_no_bursts_are_a_whole_file_too(file_format: str) -> None:
    text = await written(file_format, [[]])
    match file_format:
        case "json":
            assert json.loads(text) == []
        case "csv":
            assert text == ",".join(NAMES) + "\r\n"
        case "votable":
            assert len(parse_single_table(io.BytesIO(text.encode())).array) == 0
