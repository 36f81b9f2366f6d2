"""Files of any length, for spreadsheets and programs."""

import csv
import io
import json
from collections.abc import AsyncIterator
from typing import Any, TypeVar

import pytest

from shared.http.exports import begun, csv_text, json_text

T = TypeVar("T")


async def coming(*batches: T) -> AsyncIterator[T]:
    for batch in batches:
        yield batch


async def rows_of(*rows: list[Any]) -> list[list[str]]:
    text = "".join([chunk async for chunk in csv_text(["name", "value"], coming(list(rows)))])
    return list(csv.reader(io.StringIO(text, newline="")))


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "=cmd|' /C calc'!A0"])
async def test_a_text_is_no_formula_of_a_spreadsheet(text: str) -> None:
    assert await rows_of([text, 1]) == [["name", "value"], [f"'{text}", "1"]]


@pytest.mark.parametrize("text", ["", "S230518h", "a=1", " -1", 'A, "B"', "two\nlines", "a\rb\r\nc", "'", "é"])
async def test_any_other_text_is_itself(text: str) -> None:
    assert await rows_of([text, None]) == [["name", "value"], [text, ""]]


async def test_numbers_below_zero_stay_numbers() -> None:
    assert (await rows_of([-1, -2.5e-9]))[1] == ["-1", "-2.5e-09"]


@pytest.mark.parametrize("batches", [[["1", "2"]], [["1"], [], ["2"]], [[], ["1", "2"]]])
async def test_an_array_is_the_same_however_it_came(batches: list[list[str]]) -> None:
    assert json.loads("".join([text async for text in json_text(coming(*batches))])) == [1, 2]


async def test_nothing_is_a_whole_file() -> None:
    assert await rows_of() == [["name", "value"]]
    assert "".join([text async for text in json_text(coming([]))]) == "[]"


async def test_what_fails_at_once_fails_before_it_is_begun() -> None:
    async def asked(values: dict[str, int]) -> AsyncIterator[int]:
        yield values["nothing"]

    with pytest.raises(KeyError):
        await begun(asked({}))
    assert [batch async for batch in await begun(coming(1, 2, 3))] == [1, 2, 3]
    assert [batch async for batch in await begun(coming())] == []
