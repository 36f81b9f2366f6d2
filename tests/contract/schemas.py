"""Ways into the schemas that several contract tests share."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from shared.events.registry import RECORDS
from shared.schema.records import SCHEMAS, named_types, schema_versions

ALL_VERSIONS = [(record, version) for record in RECORDS for version in schema_versions(record)]


def example_files(record: str, version: int) -> list[Path]:
    return sorted((SCHEMAS / "examples" / record / f"v{version}").glob("*.json"))


ALL_EXAMPLES = [(record, version, path) for record, version in ALL_VERSIONS for path in example_files(record, version)]


def records_in(schema: Any) -> list[dict[str, Any]]:
    return [named for named in named_types(schema) if named["type"] == "record"]


def enums_in(schema: Any) -> list[dict[str, Any]]:
    return [named for named in named_types(schema) if named["type"] == "enum"]


def avro_values(example: Path, schema: dict[str, Any]) -> Any:
    """The JSON of an example as fastavro writes it with `schema`: times and UUIDs are strings in JSON."""
    known = {named["name"]: named for named in named_types(schema)}

    def convert(value: Any, kind: Any) -> Any:
        if isinstance(kind, list):
            return None if value is None else convert(value, next(branch for branch in kind if branch != "null"))
        kind = known.get(kind, kind) if isinstance(kind, str) else kind
        if isinstance(kind, str):
            return value
        if kind.get("logicalType") == "timestamp-micros":
            return datetime.fromisoformat(value)
        if kind.get("logicalType") == "uuid":
            return UUID(value)
        if kind["type"] == "record":
            assert value.keys() <= {field["name"] for field in kind["fields"]}, "a field that the schema lacks"
            return {
                field["name"]: convert(value.get(field["name"], field.get("default")), field["type"])
                for field in kind["fields"]
            }
        if kind["type"] == "array":
            return [convert(item, kind["items"]) for item in value]
        if kind["type"] == "map":
            return {key: convert(item, kind["values"]) for key, item in value.items()}
        return value

    return convert(json.loads(example.read_text("utf-8")), schema)
