"""The Avro schemas of our own records, as they lie under `schemas/avro`."""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

SCHEMAS = Path(__file__).resolve().parents[2] / "schemas"
"""The folder of contracts; in an installed Tocsin it lies beside `shared`, as in the source tree."""

AvroSchema = dict[str, Any]


@cache
def schema_versions(record: str) -> dict[int, AvroSchema]:
    """Every version of a record's schema, oldest first, exactly as written.

    Raises
    ------
    KeyError
        When there is no such record.
    """
    files = {int(path.stem.removeprefix("v")): path for path in (SCHEMAS / "avro" / record).glob("v*.avsc")}
    if not files:
        raise KeyError(f"no schema for record {record!r} under {SCHEMAS / 'avro'}")
    return {version: json.loads(files[version].read_text("utf-8")) for version in sorted(files)}


def newest_schema(record: str) -> AvroSchema:
    """The schema that we write, and that everything older or newer is resolved to on reading."""
    return list(schema_versions(record).values())[-1]


def named_types(schema: Any) -> Iterator[dict[str, Any]]:
    """Every record and enum that `schema` defines, outermost first."""
    if isinstance(schema, list):
        for branch in schema:
            yield from named_types(branch)
    elif isinstance(schema, dict):
        if schema["type"] in ("record", "enum"):
            yield schema
        for field in schema.get("fields", []):
            yield from named_types(field["type"])
        for inner in ("items", "values"):
            yield from named_types(schema.get(inner, []))
