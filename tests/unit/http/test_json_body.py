"""What strangers send as JSON and YAML is read strictly, quickly, and refused by name."""

import json
import math
import time
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import InvalidInputError
from shared.http.json_body import MAX_DEPTH, parse_json, parse_yaml
from tests.support.data import SAMPLES

TEXT = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)
LIMIT_S = 1.0
# Hostile texts take milliseconds; what they aim at takes minutes. A busy machine stays below this.


def refused(parse: Callable[[bytes], Any], data: bytes) -> InvalidInputError:
    started = time.perf_counter()
    with pytest.raises(InvalidInputError) as error:
        parse(data)
    assert time.perf_counter() - started < LIMIT_S
    assert len(str(error.value)) < 2000
    return error.value


@given(VALUES)
def test_every_json_value_is_read_as_it_was_written(value: Any) -> None:
    assert parse_json(json.dumps(value).encode()) == value
    assert parse_json(json.dumps(value, ensure_ascii=False).encode()) == value


@given(st.dictionaries(TEXT, VALUES, max_size=5))
def test_every_yaml_mapping_is_read_as_it_was_written(value: dict[str, Any]) -> None:
    # PyYAML writes some control characters so that no YAML reader takes them back.
    text = yaml.safe_dump(value)
    if yaml.safe_load(text) == value:
        assert parse_yaml(text.encode()) == value


@given(st.binary(max_size=200) | st.text("{}[]:,-?&*!|>'\"%@`#\\ \n\ta1.0~=<_", max_size=60).map(str.encode))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for parse in (parse_json, parse_yaml):
        try:
            json.dumps(parse(data), allow_nan=False).encode()
        except InvalidInputError as error:
            assert error.field


@pytest.mark.parametrize(
    ("data", "field", "value"),
    [
        (b'{"measurement": {"dm": NaN}}', "measurement.dm", "nan"),
        (b'{"a": [1, Infinity]}', "a.1", "inf"),
        (b"-Infinity", "body", "-inf"),
        (b'{"a": 1e999}', "a", "inf"),
        (b'{"a": ' + b"9" * 100_000 + b"}", "a", "inf"),
        (b'{"a": 1' + b"0" * 309 + b"}", "a", "an integer of 1027 bits"),
        (b'{"a": "x\\u0000"}', "a", "x\x00"),
        (b'{"a": "\\ud800"}', "a", "\ud800"),
        (b'{"a": {"\\ud800": 1}}', "a.\ud800", "\ud800"),
    ],
)
def test_what_json_should_not_hold_is_named_by_its_place(data: bytes, field: str, value: str) -> None:
    error = refused(parse_json, data)
    assert (error.field, error.value) == (field, value)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"{'a': 1}",
        b'{"a": 1,}',
        b"01",
        b"\xff",
        b'"\xed\xa0\x80"',
        b"\xef\xbb\xbf{}",
        '{"a": 1}'.encode("utf-16"),
        '{"a": 1}'.encode("utf-32-le"),
        b'{"a": 1, "a": 2}',
        b'{"x": {"a": 1, "\\u0061": 2}}',
    ],
)
def test_what_is_no_strict_json_is_refused(data: bytes) -> None:
    assert refused(parse_json, data).field == "body"


@pytest.mark.parametrize(
    "data",
    [
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"[" * 900 + b"]" * 900,
        b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1),
        b'"' + b'\\"' * 500_000,
        b'{"a": "' + b"\\u0000" * 100_000,
        b"{" + b",".join(b'"%d":0' % n for n in range(90_000)) + b',"89999":0}',
        b"-" * 1_000_000,
        b"1" * 1_000_000,
    ],
    ids=lambda data: f"{data[:6]!r}",
)
def test_hostile_json_is_refused_at_once(data: bytes) -> None:
    refused(partial(parse_json, max_bytes=2_000_000), data)


def test_a_text_over_the_limit_is_not_read() -> None:
    assert refused(parse_json, b" " * 300_000).value == "300000 bytes"
    assert refused(parse_yaml, b" " * 70_000).value == "70000 bytes"


def test_depth_up_to_the_limit_is_read() -> None:
    assert parse_json(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH)
    assert parse_yaml(b"{a: " + b"[" * (MAX_DEPTH - 1) + b"]" * (MAX_DEPTH - 1) + b"}")


def test_brackets_in_texts_are_no_depth() -> None:
    assert parse_json(json.dumps("[" * 1000).encode()) == "[" * 1000


def test_the_published_yaml_is_read_as_the_old_script_reads_it() -> None:
    for name in ("observation_example.yaml", "radio_example.yaml"):
        text = (SAMPLES / "frb" / "upload" / name).read_bytes()
        old = yaml.safe_load(text)
        if isinstance(old.get("time_of_arrival"), datetime):
            old["time_of_arrival"] = old["time_of_arrival"].isoformat()
        assert parse_yaml(text) == old


@pytest.mark.parametrize(
    ("text", "iso"),
    [
        ("2017-11-17T12:21:38.87", "2017-11-17T12:21:38.87"),
        ("2017-11-17 12:21:38.870000123", "2017-11-17T12:21:38.870000123"),
        ("2017-11-17t12:21:38Z", "2017-11-17T12:21:38Z"),
        ("2017-1-7 2:21:38.5 -5", "2017-01-07T02:21:38.5-05:00"),
        ("2017-11-17 12:21:38 +05:30", "2017-11-17T12:21:38+05:30"),
        ("2017-11-17", "2017-11-17"),
        ("2017-13-45", "2017-13-45"),
        ("'2017-11-17 12:21:38'", "2017-11-17 12:21:38"),
    ],
)
def test_yaml_times_become_iso_texts_with_all_their_digits(text: str, iso: str) -> None:
    assert parse_yaml(f"time_of_arrival: {text}\n".encode()) == {"time_of_arrival": iso}


@given(st.datetimes(datetime(1000, 1, 1)))
def test_any_yaml_time_is_the_same_time(moment: datetime) -> None:
    read = parse_yaml(yaml.safe_dump({"t": moment}).encode())
    assert datetime.fromisoformat(read["t"]) == moment


@pytest.mark.parametrize(
    ("data", "field", "value"),
    [
        (b"a: .nan", "a", "nan"),
        (b"a: {b: [0, -.inf]}", "a.b.1", "-inf"),
        (b"a: 0x" + b"f" * 300, "a", "an integer of 1200 bits"),
        (b"a: 0x" + b"f" * 60_000, "a", "inf"),
        (b"a: 9" + b"9" * 60_000, "a", "inf"),
        (b'a: "\\0"', "a", "\x00"),
        (b"on: 1", "True", "a key that is no text but bool"),
        (b"a: {1: 2}", "a.1", "a key that is no text but int"),
        (b"2: 3", "2", "a key that is no text but int"),
        (b"a: 1\nb: [", "body", "line 3, column 1"),
        (b"a: 1\n b: 2", "body", "line 2, column 3"),
        (b"a: 1\na: 2", "body", "line 1, column 1"),
        (b"{x: {a: 1, a: 2}}", "body", "line 1, column 5"),
        (b"a: &x 1\nb: *x", "body", "&x or *x"),
        (b"a: !!python/object/apply:os.system [ls]", "body", "tag:yaml.org,2002:python/object/apply:os.system"),
    ],
)
def test_what_yaml_should_not_hold_is_named_by_its_place(data: bytes, field: str, value: str) -> None:
    error = refused(parse_yaml, data)
    assert (error.field, error.value) == (field, value)


@pytest.mark.parametrize(
    "data",
    [
        *(
            f"a: !!{tag} {text}".encode()
            for tag in ("int", "float", "bool", "timestamp", "binary")
            for text in ("x", '""')
        ),
        b"a: !!set {b, c}",
        b"a: ! 1",
        b"",
        b"just text",
        b"- 1",
        b"a: 1\n---\nb: 2",
        b"a: 0x_",
        b"a: =",
        b"{[1]: 2}",
        b"? {a: 1}\n: 2",
        b"\xff\xfe",
        b"a: \x01",
        b'a: "\\ud800"',
        b'a: "\\uZZZZ"',
        b"%YAML 9.9\n---\na: 1",
        b"{<<: {a: 1}, a: 2}",
        b"<<: 1",
    ],
    ids=lambda data: f"{data[:20]!r}",
)
def test_what_is_no_plain_yaml_mapping_is_refused(data: bytes) -> None:
    refused(parse_yaml, data)


@pytest.mark.parametrize(
    "data",
    [
        b"[" * 65_000,
        b"{a: " * 16_000,
        b"? " * 32_000,
        b"- " * 32_000,
        b"a: [*x" + b",*x" * 20_000,
        b":" * 65_000,
        b"'" * 65_001,
        b"a: " + b"1:" * 30_000 + b"1",
        b"{" + b",".join(b"%d" % (n * (2**61 - 1)) for n in range(3000)) + b"}",
    ],
    ids=lambda data: f"{data[:8]!r}",
)
def test_hostile_yaml_is_refused_at_once(data: bytes) -> None:
    refused(parse_yaml, data)


def test_a_complaint_names_the_part_that_was_read() -> None:
    with pytest.raises(InvalidInputError) as error:
        parse_yaml(b"dm: .nan", field="radio_measurement")
    assert error.value.field == "radio_measurement.dm"
    with pytest.raises(InvalidInputError) as error:
        parse_json(b"x", field="notice")
    assert error.value.field == "notice"


def test_numbers_keep_their_kind() -> None:
    read = parse_json(b'{"a": 3, "b": 3.0, "c": 18446744073709551616, "d": -0.0}')
    assert [type(read[key]) for key in "abcd"] == [int, float, int, float]
    assert math.copysign(1, read["d"]) == -1
