"""Our reader of containers agrees with fastavro on everything that is sound."""

import io
from typing import Any

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gw_listener.alerts import MAX_ALERT_BYTES
from services.gw_listener.container import read_container
from shared.errors import InvalidInputError
from tests.support.alerts import an_alert, as_avro
from tests.support.data import SAMPLES

PRIMITIVES: dict[str, st.SearchStrategy[Any]] = {
    "null": st.none(),
    "boolean": st.booleans(),
    "int": st.integers(-(2**31), 2**31 - 1),
    "long": st.integers(-(2**63), 2**63 - 1),
    "float": st.floats(width=32, allow_nan=False),
    "double": st.floats(allow_nan=False),
    "bytes": st.binary(max_size=200),
    "string": st.text(max_size=100),
}


@st.composite
def schemas_and_values(draw: st.DrawFn, name: str = "N", depth: int = 3) -> tuple[Any, Any]:
    """A schema, in which every type has another name, and a value of it."""
    kind = draw(
        st.sampled_from([*PRIMITIVES, "array", "map", "record", "enum", "fixed", "union"][: 99 if depth else 8])
    )
    match kind:
        case "array":
            schema, value = draw(schemas_and_values(f"{name}_items", depth - 1))
            return {"type": "array", "items": schema}, [value] * draw(st.integers(0, 3))
        case "map":
            schema, value = draw(schemas_and_values(f"{name}_values", depth - 1))
            keys = draw(st.lists(st.text(max_size=5), max_size=3))
            return {"type": "map", "values": schema}, dict.fromkeys(keys, value)
        case "record":
            inside = [
                draw(schemas_and_values(f"{name}_{index}", depth - 1)) for index in range(draw(st.integers(0, 3)))
            ]
            fields = [{"name": f"f{index}", "type": schema} for index, (schema, _) in enumerate(inside)]
            return (
                {"type": "record", "name": name, "namespace": "a.b", "fields": fields},
                {f"f{index}": value for index, (_, value) in enumerate(inside)},
            )
        case "enum":
            return {"type": "enum", "name": name, "symbols": ["A", "B", "C"]}, draw(st.sampled_from("ABC"))
        case "fixed":
            size = draw(st.integers(1, 20))
            return {"type": "fixed", "name": name, "size": size}, draw(st.binary(min_size=size, max_size=size))
        case "union":
            schema = draw(st.sampled_from(sorted(PRIMITIVES.keys() - {"null"})))
            return ["null", schema], draw(st.none() | PRIMITIVES[schema])
        case _:
            return kind, draw(PRIMITIVES[kind])


@given(schemas_and_values(), st.sampled_from(["null", "deflate"]))
def test_whatever_fastavro_writes_is_read_as_fastavro_reads_it(case: tuple[Any, Any], codec: str) -> None:
    schema, value = case
    data = as_avro(value, schema, codec)

    _, record = read_container(data, max_bytes=MAX_ALERT_BYTES)

    assert record == next(iter(fastavro.reader(io.BytesIO(data))))


@pytest.mark.parametrize("path", sorted((SAMPLES / "igwn").glob("*.avro")), ids=lambda path: path.name)
def test_the_samples_are_read_as_fastavro_reads_them(path: Any) -> None:
    reader = fastavro.reader(io.BytesIO(path.read_bytes()))
    writer_schema: Any = reader.writer_schema

    name, record = read_container(path.read_bytes(), max_bytes=MAX_ALERT_BYTES)

    assert (name, [record]) == (writer_schema.get("name", ""), list(reader))


def test_a_named_type_may_be_used_twice() -> None:
    probability = {"type": "record", "name": "x.P", "fields": [{"name": "p", "type": "double"}]}
    schema = {
        "type": "record",
        "name": "Pair",
        "namespace": "x",
        "fields": [{"name": "one", "type": probability}, {"name": "other", "type": ["null", "P"]}],
    }
    pair = {"one": {"p": 0.25}, "other": {"p": 0.75}}

    assert read_container(as_avro(pair, schema), max_bytes=1000) == ("x.Pair", pair)


def test_the_limit_on_inflated_blocks_is_the_callers() -> None:
    data = as_avro("x" * 1000, "string", "deflate")

    assert read_container(data, max_bytes=1002)[1] == "x" * 1000
    with pytest.raises(InvalidInputError, match="avro block"):
        read_container(data, max_bytes=1001)


def test_a_damaged_sync_marker_is_noticed() -> None:
    data = an_alert()

    with pytest.raises(InvalidInputError, match="sync marker"):
        read_container(data[:-1] + bytes([data[-1] ^ 1]), max_bytes=MAX_ALERT_BYTES)
