"""All lines of a table as a file: CSV or JSON."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from fastapi.responses import StreamingResponse

from shared.http.exports import begun, csv_text, json_text

MEDIA_TYPES = {"csv": "text/csv; charset=utf-8", "json": "application/json"}

Lines = Sequence[Mapping[str, Any]]


async def as_file(
    batches: AsyncIterator[Lines], columns: Sequence[str], *, name: str, file_format: str
) -> StreamingResponse:
    """Return the answer that holds these columns of all lines; what fails, fails before it begins."""
    lines = await begun(batches)
    return StreamingResponse(
        _csv(lines, columns) if file_format == "csv" else _json(lines, columns),
        media_type=MEDIA_TYPES[file_format],
        headers={"Content-Disposition": f'attachment; filename="{name}.{file_format}"'},
    )


def _csv(batches: AsyncIterator[Lines], columns: Sequence[str]) -> AsyncIterator[str]:
    return csv_text(columns, ([[_plain(line[name]) for name in columns] for line in lines] async for lines in batches))


def _json(batches: AsyncIterator[Lines], columns: Sequence[str]) -> AsyncIterator[str]:
    return json_text(
        [json.dumps({name: _plain(line[name]) for name in columns}) for line in lines] async for lines in batches
    )


def _plain(value: Any) -> Any:
    """Return a value as files hold it; what is no number is not known."""
    if isinstance(value, datetime):
        return value.isoformat()
    return None if isinstance(value, float) and not math.isfinite(value) else value
