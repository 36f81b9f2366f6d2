"""Files of any length for answers, written some lines at a time: CSV and JSON."""

import csv
import io
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import TypeVar

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
# How a text begins that a spreadsheet would take for something to run.

Batch = TypeVar("Batch")


async def begun(batches: AsyncIterator[Batch]) -> AsyncIterator[Batch]:
    """Return the same batches once the first is there: what fails, fails before an answer begins."""
    first = await anext(batches, None)

    async def all_of_them() -> AsyncIterator[Batch]:
        if first is not None:
            yield first
        async for batch in batches:
            yield batch

    return all_of_them()


async def csv_text(columns: Sequence[str], batches: AsyncIterator[Iterable[Sequence[object]]]) -> AsyncIterator[str]:
    """Yield a CSV file (RFC 4180) with a head; texts that a spreadsheet would run have an apostrophe before them."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(columns)
    async for rows in batches:
        writer.writerows([_harmless(value) for value in row] for row in rows)
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()


async def json_text(batches: AsyncIterator[Sequence[str]]) -> AsyncIterator[str]:
    """Yield a JSON array of texts that are JSON themselves."""
    opening = "["
    async for texts in batches:
        if texts:
            yield opening + ",\n".join(texts)
            opening = ",\n"
    yield "[]" if opening == "[" else "]"


def _harmless(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value
