"""What is not an alert is refused, with the field named, and without much memory."""

import json
import tracemalloc
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gw_listener.alerts import MAX_ALERT_BYTES, read_alert
from shared.errors import InvalidInputError
from tests.support.alerts import (
    COINCIDENCE_FIELDS,
    EVENT_FIELDS,
    a_coincidence,
    a_json_alert,
    a_skymap,
    alert_content,
    alert_schema,
    an_alert,
    an_event,
    as_avro,
    as_json,
)

MIB = 2**20


def without(content: dict[str, Any], *path: str) -> dict[str, Any]:
    """`content` less the field at `path`."""
    first, *rest = path
    if rest:
        return content | {first: without(content[first], *rest)}
    return {name: value for name, value in content.items() if name != first}


EVENT_CASES: dict[str, list[Any]] = {
    "time": ["yesterday", "2026-11-21", 1795230245, None, "2026-13-01T00:00:00Z", "0001-01-01T00:00:00+14:00"],
    "far": [float("nan"), float("inf"), -1e-9, "1e-9", True, None, 10**400],
    "significant": ["yes", 1],
    "instruments": ["H1", [1], {"H1": 1}],
    "group": [None, 1, "x" * 5000, "C\x00BC", "\ud800"],
    "pipeline": [None, ["gstlal"]],
    "search": [1.5],
    "classification": [[], {"BNS": "0.9"}, {"BNS": float("nan")}, {"BNS": True}],
    "properties": ["HasNS"],
    "duration": ["short", float("inf")],
    "central_frequency": [[1.0]],
    "mchirp_source": [[], {"bin_edges": [1.0]}, {"bin_edges": ["a"], "probabilities": []}],
    "skymap": ["no base64 at all!", "QUJ", "QUJD=QUJD", 17, [0, 1]],
}
COINCIDENCE_CASES: dict[str, list[Any]] = {
    "gcn_notice_id": [1.5, True, ["x"]],
    "observatory": [None, 1],
    "time_difference": [float("nan"), "2 s"],
    "time_coincidence_far": [-1.0],
    "time_sky_position_coincidence_far": [float("inf")],
    "combined_skymap": ["?"],
}
ALERT_CASES: dict[str, list[Any]] = {
    "superevent_id": [None, 5, "", "GW170817", "s230518h", "X230518h", "S", "S" * 33, "S230518h ", "S２30518h",
                      "S230518h\n", "S/../h"],
    "alert_type": [None, 1, ["UPDATE"]],
    "time_created": [None, "", "soon", 0],
    "urls": ["https://example.org", {"gracedb": 1}, []],
    "event": [[], "none", 0],
    "external_coinc": [[1]],
}  # fmt: skip

BAD_VALUES = [
    *[((name,), value) for name, values in ALERT_CASES.items() for value in values],
    *[(("event", name), value) for name, values in EVENT_CASES.items() for value in values],
    *[(("external_coinc", name), value) for name, values in COINCIDENCE_CASES.items() for value in values],
]


@pytest.mark.parametrize(("path", "value"), BAD_VALUES, ids=lambda case: repr(case)[:40])
def test_a_wrong_value_is_refused_with_its_field_named(path: tuple[str, ...], value: object) -> None:
    content = alert_content(external_coinc=a_coincidence())
    if len(path) == 1:
        content[path[0]] = value
    else:
        content[path[0]][path[1]] = value

    with pytest.raises(InvalidInputError) as refusal:
        read_alert(as_json(content))

    assert refusal.value.field.startswith(".".join(path))
    assert len(str(refusal.value)) < 400


@pytest.mark.parametrize(
    "path",
    [
        ("superevent_id",),
        ("alert_type",),
        ("time_created",),
        ("event", "time"),
        ("event", "far"),
        ("event", "group"),
        ("event", "pipeline"),
        ("external_coinc", "observatory"),
    ],
    ids=".".join,
)
def test_a_missing_field_is_told(path: tuple[str, ...]) -> None:
    content = without(alert_content(external_coinc=a_coincidence()), *path)

    with pytest.raises(InvalidInputError, match=rf"^{'.'.join(path)} is missing"):
        read_alert(as_json(content))


def test_the_complaint_says_field_value_and_expectation() -> None:
    with pytest.raises(InvalidInputError) as refusal:
        read_alert(a_json_alert(event=an_event(far=float("nan"))))

    assert str(refusal.value) == "event.far is nan; expected a finite number"


def test_nan_in_avro_is_refused_as_in_json() -> None:
    with pytest.raises(InvalidInputError, match=r"^event\.far is nan"):
        read_alert(an_alert(event=an_event(far=float("nan"))))


def test_a_wrong_type_in_avro_is_refused_as_in_json() -> None:
    schema = alert_schema(event={**EVENT_FIELDS, "far": "string"})

    with pytest.raises(InvalidInputError, match=r"^event\.far is 1e-9; expected a valid number"):
        read_alert(as_avro(alert_content(event=an_event(far="1e-9")), schema))


@pytest.mark.parametrize(
    ("data", "field"),
    [
        (b"", "alert"),
        (b"Obj", "alert"),
        (b"SIMPLE  =                    T", "alert"),
        (bytes(50 * 1000), "alert"),
        (b"\x00" + an_alert(), "alert"),
        (b"{", "alert"),
        (b"[]", "alert"),
        (b'["S230518h"]', "alert"),
        (b"[{}, {}]", "alert"),
        (b"{}", "superevent_id"),
        (b'{"superevent_id": "\xff"}', "alert"),
        (b"[" * 5000, "alert"),
        (b'{"event": ' * 5000, "alert"),
        (b'{"n": ' + b"9" * 5000 + b"}", "alert"),
    ],
    ids=lambda case: repr(case)[:30],
)
def test_what_is_no_alert_at_all_is_refused(data: bytes, field: str) -> None:
    with pytest.raises(InvalidInputError) as refusal:
        read_alert(data)

    assert refusal.value.field == field


def test_unknown_fields_too_deep_to_keep_are_refused() -> None:
    content = json.dumps(alert_content())[:-1] + ', "deep": ' + "[" * 200 + "]" * 200 + "}"

    with pytest.raises(InvalidInputError, match="too deep"):
        read_alert(content.encode())


@pytest.mark.parametrize("size", [*range(0, 1990, 83), 1966])
def test_a_truncated_avro_alert_is_refused_wherever_it_is_cut(size: int) -> None:
    whole = an_alert()
    assert size < len(whole)

    with pytest.raises(InvalidInputError):
        read_alert(whole[:size])


def test_a_truncated_alert_is_told_by_how_much_is_missing() -> None:
    whole = an_alert(event=an_event(skymap=a_skymap()))

    # Behind the block's content only the sync marker, 16 bytes, follows.
    with pytest.raises(
        InvalidInputError, match=r"^container is (\d+) bytes announced at byte \d+, \d+ there"
    ) as refusal:
        read_alert(whole[: -16 - 500])
    announced, there = (int(refusal.value.value.split()[index]) for index in (0, -2))
    assert announced - there == 500


@pytest.mark.parametrize("schema", ["string", "long", {"type": "array", "items": "int"}])
def test_an_avro_container_of_something_else_is_refused(schema: Any) -> None:
    content: Any = {"string": "hello", "long": 5}.get(schema if isinstance(schema, str) else "", [1, 2])

    with pytest.raises(InvalidInputError, match="^alert is"):
        read_alert(as_avro(content, schema))


def test_another_projects_record_is_refused_by_its_missing_fields() -> None:
    schema = {"type": "record", "name": "Notice", "fields": [{"name": "id", "type": "string"}]}

    with pytest.raises(InvalidInputError, match="^superevent_id is missing"):
        read_alert(as_avro({"id": "1"}, schema))


# --- hostile containers


def long(number: int) -> bytes:
    zigzag = number << 1 if number >= 0 else ((-number) << 1) - 1
    encoded = bytearray()
    while zigzag > 0x7F:
        encoded.append(zigzag & 0x7F | 0x80)
        zigzag >>= 7
    return bytes([*encoded, zigzag])


def container(schema: Any, body: bytes, *, count: int = 1, size: int | None = None, codec: bytes = b"null") -> bytes:
    """An object container made by hand, so that it may lie."""
    text = schema if isinstance(schema, bytes) else json.dumps(schema).encode()
    pairs = [(b"avro.schema", text), (b"avro.codec", codec)]
    metadata = b"".join(long(len(part)) + part for pair in pairs for part in pair)
    sync = bytes(16)
    block = long(count) + long(len(body) if size is None else size) + body + sync
    return b"Obj\x01" + long(len(pairs)) + metadata + long(0) + sync + block


def body_of(**changes: Any) -> bytes:
    """The record of an alert without its container."""
    data = an_alert(**changes)
    block = data[data.index(data[-16:]) + 16 : -16]
    for _ in range(2):  # the count and the size
        end = next(index for index, byte in enumerate(block) if byte < 0x80) + 1
        block = block[end:]
    return block


def record(**fields: Any) -> dict[str, Any]:
    return {"type": "record", "name": "R", "fields": [{"name": name, "type": kind} for name, kind in fields.items()]}


def array(items: Any) -> dict[str, Any]:
    return {"type": "array", "items": items}


def pyramid(levels: int) -> dict[str, Any]:
    """Records that each hold the one below twice: 2^levels nulls in no byte at all."""
    inner: Any = "null"
    for level in range(levels):
        name = f"R{level}"
        fields = [{"name": "a", "type": inner}, {"name": "b", "type": inner if level == 0 else f"R{level - 1}"}]
        inner = {"type": "record", "name": name, "fields": fields}
    return inner  # type: ignore[no-any-return]


HOSTILE: dict[str, Callable[[], bytes]] = {
    "fifty megabytes of zeros": lambda: bytes(50 * MIB),
    "zeros up to the limit": lambda: bytes(MAX_ALERT_BYTES),
    "an array of 2^60 nulls": lambda: container(record(a=array("null")), long(2**60) + long(0)),
    "a map that claims 2^60 entries": lambda: container({"type": "map", "values": "null"}, long(2**60)),
    "an array with a negative count": lambda: container(record(a=array("null")), long(-(2**60)) + long(1) + long(0)),
    "millions of small records": lambda: container(array(record(a="int")), long(4 * MIB) + bytes(4 * MIB) + long(0)),
    "millions of blocks of one": lambda: container(array("null"), (long(1) * 2 * MIB)),
    "a text of 2^62 bytes": lambda: container(record(a="string"), long(2**62)),
    "bytes of a negative length": lambda: container(record(a="bytes"), long(-5)),
    "a fixed of 2^62 bytes": lambda: container({"type": "fixed", "name": "F", "size": 2**62}, b""),
    "a fixed whose size is a text": lambda: container({"type": "fixed", "name": "F", "size": "9"}, b""),
    "a record within itself": lambda: container(record(next=["null", "R"]), b"\x02" * MIB),
    "a record that is itself": lambda: container(record(next="R"), b""),
    "records that double": lambda: container(pyramid(40), b""),
    "a deflate bomb": lambda: container("bytes", deflated(long(512 * MIB), bytes(64 * MIB)), codec=b"deflate"),
    "a deflated block cut short": lambda: container("bytes", deflated(bytes(1000))[:-4], codec=b"deflate"),
    "a deflated block that is none": lambda: container("bytes", b"\xff" * 100, codec=b"deflate"),
    "an unknown codec": lambda: container("bytes", b"", codec=b"xz"),
    "a block longer than the file": lambda: container("null", b"", size=2**60),
    "a block of negative length": lambda: container("null", b"", size=-1),
    "two records": lambda: container("null", b"", count=2),
    "2^60 records": lambda: container("null", b"", count=2**60),
    "no record": lambda: container("null", b"", count=0),
    "more bytes than the record": lambda: container("null", b"\x00"),
    "no schema": lambda: b"Obj\x01" + long(0) + bytes(16),
    "a schema that is no JSON": lambda: container(b"{", b""),
    "a schema of JSON that is none": lambda: container(b'{"type": "recipe"}', b""),
    "a schema without a type": lambda: container(b'{"name": "x"}', b""),
    "a schema that is deep": lambda: container(b'{"type":"array","items":' * 3000 + b'"int"' + b"}" * 3000, b""),
    "a schema that claims to be parsed": lambda: container(b'{"__fastavro_parsed__": true, "type": "x"}', b""),
    "a schema of a megabyte": lambda: container(record(**{f"f{n}": "null" for n in range(40000)}), b""),
    "a number of twenty bytes": lambda: b"Obj\x01" + b"\xff" * 20,
    "ten million JSON lists": lambda: b"[" + b"[]," * (10 * MIB) + b"[]]",
    "thirty megabytes of JSON text": lambda: b'"' + b"x" * (30 * MIB) + b'"',
}


def deflated(*parts: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-15)
    return b"".join([*(compressor.compress(part) for part in parts), compressor.flush()])


@pytest.mark.parametrize("build", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_bytes_are_refused_in_bounded_memory(build: Callable[[], bytes]) -> None:
    data = build()

    tracemalloc.start()
    try:
        with pytest.raises(InvalidInputError):
            read_alert(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    # One copy for the inflated or decoded text, one while it grows; 100,000 counted values take 20 MiB.
    assert peak < 2 * MAX_ALERT_BYTES + 24 * MIB


def test_an_alert_at_the_size_limit_still_passes() -> None:
    room = MAX_ALERT_BYTES - len(an_alert()) - 64

    alert = read_alert(an_alert(skymap=bytes(room)))

    assert alert.skymap is not None
    assert len(alert.skymap) == room


# --- anything at all

VALID = [
    an_alert(skymap=b"SIMPLE", external_coinc=a_coincidence(combined_skymap=b"SIMPLE")),
    a_json_alert(skymap=b"SIMPLE", external_coinc=a_coincidence(combined_skymap=b"SIMPLE")),
    as_avro(alert_content(), codec="deflate"),
    an_alert(alert_type="RETRACTION"),
]


def read_or_refuse(data: bytes) -> None:
    try:
        read_alert(data)
    except InvalidInputError as refusal:
        assert refusal.field
        assert refusal.expected


@given(st.sampled_from([b"", b"Obj\x01", b"{", b"["]), st.binary(max_size=300))
def test_random_bytes_are_read_or_refused(start: bytes, rest: bytes) -> None:
    read_or_refuse(start + rest)


@given(st.data())
def test_mutated_alerts_are_read_or_refused(data: st.DataObject) -> None:
    alert = bytearray(data.draw(st.sampled_from(VALID)))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(alert) - 1))
        alert[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
        if not alert:
            break
    read_or_refuse(bytes(alert))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["S230518h"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.sampled_from([None, "event", "external_coinc"]),
    st.sampled_from([*alert_content(), *EVENT_FIELDS, *COINCIDENCE_FIELDS]),
    JSON,
)
def test_any_value_in_any_field_is_read_or_refused(part: str | None, field: str, value: object) -> None:
    content = alert_content(external_coinc=a_coincidence())
    target = content if part is None else content[part]
    target[field] = value
    read_or_refuse(as_json(content))


@given(st.binary(max_size=40))
def test_any_record_bytes_are_read_or_refused(body: bytes) -> None:
    read_or_refuse(container(alert_schema(), body))


def test_the_hand_made_container_is_otherwise_sound() -> None:
    assert read_alert(container(alert_schema(), body_of())) == read_alert(an_alert())
