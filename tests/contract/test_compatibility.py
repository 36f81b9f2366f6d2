"""FULL_TRANSITIVE: every version of a record reads what every other version wrote."""

import copy
from itertools import permutations
from typing import Any

import pytest

from shared.events.registry import RECORDS
from shared.schema.records import schema_versions
from tests.contract.compatibility import breaks


def a_schema(**changes: Any) -> dict[str, Any]:
    fields = {
        "name": {"name": "name", "type": "string"},
        "time": {"name": "time", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        "state": {
            "name": "state",
            "type": {"type": "enum", "name": "State", "symbols": ["ON", "UNKNOWN"], "default": "UNKNOWN"},
        },
        "note": {"name": "note", "type": ["null", "string"], "default": None},
    }
    fields.update(changes)
    return {"type": "record", "name": "Sample", "fields": [field for field in fields.values() if field]}


def either_way(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    return breaks(reader=one, writer=other) + breaks(reader=other, writer=one)


@pytest.mark.parametrize("record", RECORDS)
def test_every_version_reads_what_every_other_version_wrote(record: str) -> None:
    versions = schema_versions(record)
    found = {
        f"v{reader} reading v{writer}": breaks(reader=versions[reader], writer=versions[writer])
        for reader, writer in [*permutations(versions, 2), *((version, version) for version in versions)]
    }
    assert not any(found.values()), found


@pytest.mark.parametrize("record", RECORDS)
def test_versions_are_numbered_from_one_without_gaps(record: str) -> None:
    assert list(schema_versions(record)) == list(range(1, len(schema_versions(record)) + 1))


def test_checker_accepts_a_new_field_with_a_default() -> None:
    added = {"name": "extra", "type": ["null", "double"], "default": None}
    assert either_way(a_schema(), a_schema(extra=added)) == []


def test_checker_accepts_a_new_symbol_of_an_enum_with_a_default() -> None:
    grown = copy.deepcopy(a_schema())
    grown["fields"][2]["type"]["symbols"].append("OFF")
    assert either_way(a_schema(), grown) == []


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"extra": {"name": "extra", "type": "double"}}, id="new field without default"),
        pytest.param({"name": None}, id="required field removed"),
        pytest.param({"name": {"name": "name", "type": "long"}}, id="type changed"),
        pytest.param({"note": {"name": "note", "type": "string", "default": ""}}, id="null no longer allowed"),
        pytest.param(
            {"time": {"name": "time", "type": {"type": "long", "logicalType": "timestamp-millis"}}},
            id="micros to millis",
        ),
        pytest.param(
            {"state": {"name": "state", "type": {"type": "enum", "name": "State", "symbols": ["ON"]}}},
            id="symbol removed from an enum without default",
        ),
    ],
)
def test_checker_finds_a_break(change: dict[str, Any]) -> None:
    assert either_way(a_schema(), a_schema(**change))
