"""Schemas and examples as people read them."""

import json
from pathlib import Path
from typing import Any

from shared.schema.records import SCHEMAS, schema_versions

MAX_EXAMPLE_CHARACTERS = 160
# Coverage maps in ASCII run to kilobytes; a page shows how they begin, the example file has them whole.


def kind_text(schema: Any) -> str:
    """Return a field's type in a few words."""
    match schema:
        case ["null", other]:
            return f"{kind_text(other)} or null"
        case {"logicalType": "timestamp-micros"}:
            return "time"
        case {"logicalType": logical}:
            return str(logical)
        case {"type": "array", "items": items}:
            return f"array of {kind_text(items)}"
        case {"type": "map", "values": values}:
            return f"map of {kind_text(values)}"
        case {"type": "enum", "symbols": symbols}:
            return "one of " + ", ".join(symbols)
        case {"name": name}:
            return str(name)
    return str(schema)


def example_files(record: str) -> list[Path]:
    """Return the examples of a record's newest version, the first of which stands for all."""
    version = list(schema_versions(record))[-1]
    return sorted((SCHEMAS / "examples" / record / f"v{version}").glob("*.json"))


def example_text(file: Path) -> str:
    """Return an example as indented JSON, long texts cut."""
    return json.dumps(_cut(json.loads(file.read_text("utf-8"))), indent=2, ensure_ascii=False)


def _cut(value: Any) -> Any:
    match value:
        case str() if len(value) > MAX_EXAMPLE_CHARACTERS:
            return value[:MAX_EXAMPLE_CHARACTERS] + "…"
        case list():
            return [_cut(item) for item in value]
        case dict():
            return {key: _cut(item) for key, item in value.items()}
    return value
