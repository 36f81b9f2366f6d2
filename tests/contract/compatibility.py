"""Can one schema read what another wrote? Apache Avro's own answer, with two things that it leaves out."""

import copy
import json
from typing import Any

import avro.schema
from avro.compatibility import ReaderWriterCompatibilityChecker

from tests.contract.schemas import enums_in


def breaks(*, reader: dict[str, Any], writer: dict[str, Any]) -> list[str]:
    """Why `reader` cannot read what `writer` wrote; empty when it can."""
    checker = ReaderWriterCompatibilityChecker()  # type: ignore[no-untyped-call]
    result = checker.get_compatibility(
        avro.schema.parse(json.dumps(_with_symbols_it_defaults(reader, writer))), avro.schema.parse(json.dumps(writer))
    )
    found = sorted(f"{' '.join(result.locations)}: {message}" for message in result.messages)
    read, written = _logical_types(reader), _logical_types(writer)
    found += [
        f"{path}: {written[path]} read as {read[path]}"
        for path in read.keys() & written.keys()
        if read[path] != written[path]
    ]
    return found


def _with_symbols_it_defaults(reader: dict[str, Any], writer: dict[str, Any]) -> dict[str, Any]:
    """`reader` with the writer's symbols where it has a default for unknown ones.

    Avro resolves those to the default since 1.9, and so do fastavro and Java; avro.compatibility still complains.
    """
    written = {enum["name"]: enum["symbols"] for enum in enums_in(writer)}
    extended = copy.deepcopy(reader)
    for enum in enums_in(extended):
        if "default" in enum:
            enum["symbols"] += [symbol for symbol in written.get(enum["name"], []) if symbol not in enum["symbols"]]
    return extended


def _logical_types(schema: Any, path: str = "") -> dict[str, str]:
    """Logical type by path; Avro's resolution looks at the bare types, and would read millis as micros."""
    if isinstance(schema, list):
        return {
            key: value for branch in schema if branch != "null" for key, value in _logical_types(branch, path).items()
        }
    if isinstance(schema, str):
        return {path: ""}
    if schema["type"] == "record":
        fields = schema["fields"]
        return {
            key: value
            for field in fields
            for key, value in _logical_types(field["type"], f"{path}/{field['name']}").items()
        }
    if schema["type"] in ("array", "map"):
        return _logical_types(schema.get("items", schema.get("values")), f"{path}/*")
    return {path: schema.get("logicalType", "")}
