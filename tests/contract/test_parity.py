"""The hand-written schema and the hand-written model say the same, and the schema says it well."""

import re
from enum import StrEnum
from types import NoneType, UnionType
from typing import Any, ClassVar, Union, get_args, get_origin, get_type_hints
from uuid import UUID

import pytest
from pydantic import BaseModel

from shared.events.record import Int32, Int64, Timestamp
from shared.events.registry import RECORDS
from shared.schema.records import SCHEMAS, named_types, newest_schema, schema_versions
from tests.contract.schemas import ALL_VERSIONS, enums_in, records_in

SCALARS: list[tuple[Any, str]] = [
    (Timestamp, "timestamp-micros"),
    (UUID, "uuid"),
    (Int32, "int"),
    (Int64, "long"),
    (bool, "boolean"),
    (float, "double"),
    (str, "string"),
]


def shape_of_hint(hint: Any) -> Any:
    """A Python annotation in the same plain form as `shape_of_schema`."""
    for known, name in SCALARS:
        if hint == known:
            return name
    arguments = get_args(hint)
    if get_origin(hint) in (Union, UnionType):
        (inner,) = (argument for argument in arguments if argument is not NoneType)
        return ("nullable", shape_of_hint(inner))
    if get_origin(hint) is tuple:
        assert arguments[1:] == (Ellipsis,)
        return ("array", shape_of_hint(arguments[0]))
    if get_origin(hint) is dict:
        assert arguments[0] is str
        return ("map", shape_of_hint(arguments[1]))
    if issubclass(hint, StrEnum):
        assert [member.name for member in hint] == [member.value for member in hint]
        return ("enum", hint.__name__, [member.value for member in hint])
    assert issubclass(hint, BaseModel), hint
    hints = get_type_hints(hint, include_extras=True)
    return (
        "record",
        hint.__name__,
        {
            name: (shape_of_hint(hints[name]), "required" if field.is_required() else field.get_default())
            for name, field in hint.model_fields.items()
        },
    )


def shape_of_schema(schema: Any, known: dict[str, Any]) -> Any:
    if isinstance(schema, list):
        assert schema[0] == "null", "unions are null first"
        (inner,) = schema[1:]
        return ("nullable", shape_of_schema(inner, known))
    if isinstance(schema, str):
        return shape_of_schema(known[schema], known) if schema in known else schema
    if "logicalType" in schema:
        return schema["logicalType"]
    match schema["type"]:
        case "array":
            return ("array", shape_of_schema(schema["items"], known))
        case "map":
            return ("map", shape_of_schema(schema["values"], known))
        case "enum":
            return ("enum", schema["name"], schema["symbols"])
    return (
        "record",
        schema["name"],
        {
            field["name"]: (shape_of_schema(field["type"], known), field.get("default", "required"))
            for field in schema["fields"]
        },
    )


@pytest.mark.parametrize("record", RECORDS)
def test_model_and_newest_schema_agree_field_by_field(record: str) -> None:
    schema = newest_schema(record)
    known = {named["name"]: named for named in named_types(schema)}
    assert shape_of_hint(RECORDS[record]) == shape_of_schema(schema, known)


def test_parity_sees_a_difference_in_nullability() -> None:
    class Sample(BaseModel):
        label: ClassVar[str] = "not a field"
        note: str | None = None

    agreeing = {
        "type": "record",
        "name": "Sample",
        "fields": [{"name": "note", "type": ["null", "string"], "default": None}],
    }
    differing = {"type": "record", "name": "Sample", "fields": [{"name": "note", "type": "string"}]}
    assert shape_of_hint(Sample) == shape_of_schema(agreeing, {})
    assert shape_of_hint(Sample) != shape_of_schema(differing, {})


def test_every_schema_folder_has_a_model() -> None:
    assert {path.name for path in (SCHEMAS / "avro").iterdir()} == set(RECORDS)


@pytest.mark.parametrize(("record", "version"), ALL_VERSIONS)
def test_every_record_field_and_enum_has_a_doc(record: str, version: int) -> None:
    schema = schema_versions(record)[version]
    undocumented = [named["name"] for named in named_types(schema) if not named.get("doc")]
    undocumented += [
        f"{part['name']}.{field['name']}"
        for part in records_in(schema)
        for field in part["fields"]
        if not field.get("doc")
    ]
    assert undocumented == []


@pytest.mark.parametrize(("record", "version"), ALL_VERSIONS)
def test_every_number_says_its_unit(record: str, version: int) -> None:
    """In brackets, as in `(Hz)` or `(0 to 1)`; whole numbers may say what they count instead."""
    silent = []
    for part in records_in(schema_versions(record)[version]):
        for field in part["fields"]:
            kinds = field["type"] if isinstance(field["type"], list) else [field["type"]]
            if "double" in kinds and not re.search(r"\(.+\)", field["doc"]):
                silent.append(field["name"])
            if {"int", "long"} & {kind for kind in kinds if isinstance(kind, str)} and not re.search(
                r"\(.+\)|Number of|counted", field["doc"]
            ):
                silent.append(field["name"])
    assert silent == []


@pytest.mark.parametrize(("record", "version"), ALL_VERSIONS)
def test_every_time_is_in_microseconds_and_says_so(record: str, version: int) -> None:
    wrong = []
    for part in records_in(schema_versions(record)[version]):
        for field in part["fields"]:
            kinds = field["type"] if isinstance(field["type"], list) else [field["type"]]
            logical = {kind["logicalType"] for kind in kinds if isinstance(kind, dict) and "logicalType" in kind}
            looks_like_time = re.search(r"(^|_)(time|at|date)(_|$)", field["name"]) and "double" not in kinds
            is_right = logical == {"timestamp-micros"} and "(UTC, microseconds" in field["doc"]
            if (looks_like_time or logical - {"uuid"}) and not is_right:
                wrong.append(field["name"])
    assert wrong == []


def test_enums_are_found() -> None:
    found = {record: enums_in(schema_versions(record)[version]) for record, version in ALL_VERSIONS}
    # A heartbeat is the one record that has none.
    assert [record for record, enums in found.items() if not enums] == ["heartbeat"]


@pytest.mark.parametrize(("record", "version"), ALL_VERSIONS)
def test_every_enum_falls_back_to_unknown(record: str, version: int) -> None:
    for enum in enums_in(schema_versions(record)[version]):
        assert enum["default"] == "UNKNOWN" in enum["symbols"], enum["name"]


@pytest.mark.parametrize(("record", "version"), ALL_VERSIONS)
def test_every_nullable_field_defaults_to_null(record: str, version: int) -> None:
    for part in records_in(schema_versions(record)[version]):
        for field in part["fields"]:
            if isinstance(field["type"], list):
                assert (field["type"][0], field["default"]) == ("null", None), field["name"]
