"""Tables of the console as files."""

import csv
import io
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime

from services.console.export import Lines, as_file

LINES = (
    {"name": "=1+1", "time": datetime(2026, 1, 2, tzinfo=UTC), "value": -0.5, "more": 1},
    {"name": None, "time": None, "value": float("nan"), "more": 2},
    {"name": 'a, "b"\nc', "time": None, "value": float("-inf"), "more": 3},
)


async def written(file_format: str, *batches: Lines) -> str:
    async def coming() -> AsyncIterator[Lines]:
        for lines in batches:
            yield lines

    answer = await as_file(coming(), ("name", "time", "value"), name="things", file_format=file_format)
    assert answer.headers["content-disposition"] == f'attachment; filename="things.{file_format}"'
    return "".join([str(chunk) async for chunk in answer.body_iterator])


async def test_json_has_the_values_and_null_for_what_is_no_number() -> None:
    assert json.loads(await written("json", LINES[:1], LINES[1:])) == [
        {"name": "=1+1", "time": "2026-01-02T00:00:00+00:00", "value": -0.5},
        {"name": None, "time": None, "value": None},
        {"name": 'a, "b"\nc', "time": None, "value": None},
    ]


async def test_csv_has_the_same_in_columns_and_runs_nothing() -> None:
    assert list(csv.reader(io.StringIO(await written("csv", LINES)))) == [
        ["name", "time", "value"],
        ["'=1+1", "2026-01-02T00:00:00+00:00", "-0.5"],
        ["", "", ""],
        ['a, "b"\nc', "", ""],
    ]


async def test_no_lines_are_a_whole_file_too() -> None:
    assert json.loads(await written("json", [])) == []
    assert await written("csv", []) == "name,time,value\r\n"
