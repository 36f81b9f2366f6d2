"""Records to bytes and back, and what happens to bytes that are no records."""

import io
import json
import time
import tracemalloc
import zlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import uuid4

import fastavro
import pytest
from fastavro.utils import generate_one
from hop.models import AvroBlob
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from shared.errors import InvalidInputError
from shared.events.blob import BlobRef
from shared.events.gw import AlertType, GwAlert, GwSkymap, RawFormat, SupereventKind, SupereventState
from shared.events.registry import RECORDS
from shared.schema.codec import (
    MAX_CONTAINER_BYTES,
    MAX_ENCODED_BYTES,
    UndecodableRecordError,
    decode,
    decode_all,
    decode_any,
    encode,
    read_container,
)
from shared.schema.records import newest_schema

NOON = datetime(2023, 5, 18, 12, 59, 8, 123456, tzinfo=UTC)


def an_alert(**changes: Any) -> GwAlert:
    values: dict[str, Any] = {
        "event_id": uuid4(),
        "superevent_id": "S230518h",
        "kind": SupereventKind.REAL,
        "is_test": False,
        "alert_type": AlertType.RETRACTION,
        "time_created": NOON,
        "received_at": NOON + timedelta(microseconds=1),
        "source": "scimma",
        "sequence": 3,
        "is_current": True,
        "superevent_state": SupereventState.RETRACTED,
        "urls": {"gracedb": "https://example.org/S230518h"},
        "raw": BlobRef(uri="file:///blobs/ab", sha256="ab" * 32, size=3869, media_type="application/vnd.apache.avro"),
        "raw_format": RawFormat.AVRO,
        "upstream_schema": "igwn.alerts.v1_0.Alert",
    }
    return GwAlert(**(values | changes))


def a_container(*records: Any, schema: Any = None, codec: str = "null") -> bytes:
    """As any other Avro library would write it."""
    out = io.BytesIO()
    fastavro.writer(out, schema or newest_schema("gw_alert"), records, codec=codec)
    return out.getvalue()


def a_raw_container(
    schema: Any, body: bytes, *, count: int = 1, length: int | None = None, codec: bytes = b"null"
) -> bytes:
    """Framing in our hands, so that it can lie; the numbers are written as Avro longs."""
    metadata = {
        b"avro.schema": schema if isinstance(schema, bytes) else json.dumps(schema).encode(),
        b"avro.codec": codec,
    }
    header = b"".join(a_long(len(part)) + part for pair in metadata.items() for part in pair)
    sync = bytes(range(16))
    block = a_long(count) + a_long(len(body) if length is None else length) + body
    return b"Obj\x01" + a_long(len(metadata)) + header + a_long(0) + sync + block + sync


def a_long(value: int) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, "long", value)
    return out.getvalue()


# --- round trips


@pytest.mark.parametrize("record", RECORDS)
@pytest.mark.parametrize("attempt", range(20))
def test_random_record_survives_the_model_and_the_codec(record: str, attempt: int) -> None:
    schema = fastavro.parse_schema(newest_schema(record))
    written = a_container(generate_one(schema), schema=schema)
    event = decode(written, RECORDS[record])
    ours = encode(event)
    assert decode(ours, RECORDS[record]) == event
    assert list(fastavro.reader(io.BytesIO(ours))) == list(fastavro.reader(io.BytesIO(written)))


def test_any_avro_library_finds_the_schema_with_its_units_inside() -> None:
    reader = fastavro.reader(io.BytesIO(encode(an_alert())))
    schema = reader.writer_schema
    assert isinstance(schema, dict)
    assert schema["name"] == "tocsin.gw.GwAlert"
    assert "(UTC, microseconds)" in json.dumps(schema)
    assert [record["superevent_id"] for record in reader if isinstance(record, dict)] == ["S230518h"]


def test_hop_reads_our_messages_as_one_dict() -> None:
    alert = an_alert()
    blob = AvroBlob.deserialize(encode(alert))
    assert isinstance(blob.content, dict)
    assert blob.content["event_id"] == alert.event_id
    assert blob.content["time_created"] == alert.time_created
    assert AvroBlob.deserialize(bytes(blob)).content == blob.content, "hop subscribe prints bytes(message)"


def test_the_same_event_gives_the_same_bytes() -> None:
    alert = an_alert()
    assert encode(alert) == encode(alert.model_copy())


@given(st.datetimes(min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30)), st.integers(-720, 720))
def test_times_come_out_in_utc_to_the_microsecond(local: datetime, minutes: int) -> None:
    moment = local.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    back = decode(encode(an_alert(time_created=moment)), GwAlert).time_created
    assert back == moment
    assert back.tzinfo is UTC


def test_a_time_in_another_zone_is_converted() -> None:
    elsewhere = NOON.astimezone(timezone(timedelta(hours=9)))
    assert an_alert(time_created=elsewhere).time_created.tzinfo is UTC


def test_a_time_without_zone_is_refused() -> None:
    with pytest.raises(ValidationError, match="timezone"):
        an_alert(time_created=datetime(2023, 5, 18))


@given(st.dictionaries(st.text(), st.text()), st.text(), st.integers(-(2**31), 2**31 - 1))
def test_any_text_and_number_survives(urls: dict[str, str], source: str, sequence: int) -> None:
    alert = an_alert(urls=urls, source=source, sequence=sequence)
    assert decode(encode(alert), GwAlert) == alert


@pytest.mark.parametrize("sequence", [-(2**31) - 1, 2**31])
def test_a_number_that_avro_cannot_hold_is_refused_by_the_model(sequence: int) -> None:
    with pytest.raises(ValidationError):
        an_alert(sequence=sequence)


@pytest.mark.parametrize("codec", ["null", "deflate"])
def test_many_records_in_a_container_come_out_in_order(codec: str) -> None:
    alerts = [an_alert(sequence=number) for number in range(1, 500)]
    data = a_container(*(alert.model_dump() for alert in alerts), codec=codec)
    assert decode_all(data, GwAlert) == alerts
    with pytest.raises(UndecodableRecordError, match="499; expected exactly 1"):
        decode(data, GwAlert)


# --- other versions


def test_a_field_that_a_newer_writer_added_is_dropped() -> None:
    newer = json.loads(json.dumps(newest_schema("gw_alert")))
    newer["fields"].append({"name": "added_later", "type": ["null", "string"], "default": None})
    alert = an_alert()
    assert decode(a_container(alert.model_dump() | {"added_later": "x"}, schema=newer), GwAlert) == alert


def test_a_symbol_that_a_newer_writer_added_reads_as_unknown() -> None:
    newer = json.loads(json.dumps(newest_schema("gw_alert")))
    kinds = next(field["type"] for field in newer["fields"] if field["name"] == "alert_type")
    kinds["symbols"].append("FORECAST")
    data = a_container(an_alert().model_dump() | {"alert_type": "FORECAST"}, schema=newer)
    assert decode(data, GwAlert).alert_type is AlertType.UNKNOWN


def test_a_field_that_an_older_writer_lacked_takes_its_default() -> None:
    older = json.loads(json.dumps(newest_schema("gw_alert")))
    older["fields"] = [field for field in older["fields"] if field["name"] != "unknown_fields"]
    alert = an_alert()
    values = alert.model_dump()
    del values["unknown_fields"]
    assert decode(a_container(values, schema=older), GwAlert) == alert


def test_a_record_of_another_kind_is_named_in_the_complaint() -> None:
    with pytest.raises(UndecodableRecordError, match=r"tocsin\.gw\.GwAlert; expected tocsin\.gw\.GwSkymap"):
        decode(encode(an_alert()), GwSkymap)


# --- hostile bytes


def every_reading(data: bytes) -> list[Callable[[], object]]:
    return [lambda: decode(data, GwAlert), lambda: decode_all(data, GwSkymap), lambda: decode_any(data)]


def assert_decodes_or_complains(data: bytes) -> None:
    for read in every_reading(data):
        complaint = ""
        try:
            read()
        except UndecodableRecordError as error:
            complaint = str(error)
        assert len(complaint) < 2000


@given(st.binary(max_size=500))
def test_random_bytes_never_do_more_than_complain(data: bytes) -> None:
    assert_decodes_or_complains(data)
    assert_decodes_or_complains(b"Obj\x01" + data)


@given(st.binary(max_size=300), st.integers(0, 300))
def test_random_records_under_a_good_header_never_do_more_than_complain(body: bytes, count: int) -> None:
    assert_decodes_or_complains(a_raw_container(newest_schema("gw_alert"), body, count=count))


GOOD = encode(an_alert(event_id="89f3068a-91ae-55f8-ab51-071cc5586541"))


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), max_size=4),
    st.lists(st.tuples(st.integers(1, 400), st.integers(0, 255)), max_size=4),
    st.integers(0, len(GOOD)),
)
def test_mutated_bytes_never_do_more_than_complain(
    anywhere: list[tuple[int, int]], near_the_end: list[tuple[int, int]], cut: int
) -> None:
    data = bytearray(GOOD)
    for position, byte in near_the_end:  # most of a small container is header; the record is at its end
        data[-position] = byte
    assert_decodes_or_complains(bytes(data))
    for position, byte in anywhere:
        data[position] = byte
    assert_decodes_or_complains(bytes(data))
    assert_decodes_or_complains(bytes(data[:cut]))
    assert_decodes_or_complains(bytes(data[:cut] + data[cut + 1 :]))


SCHEMAS_OF_ANY_KIND = st.recursive(
    st.sampled_from(["null", "int", "string", "double", "Known", {"type": "bytes", "logicalType": "decimal"}, 7, None]),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.fixed_dictionaries({"type": st.just("array"), "items": inner}),
        st.fixed_dictionaries({"type": st.just("map"), "values": inner}),
        st.fixed_dictionaries({"type": st.just("fixed"), "name": st.just("Fixed"), "size": st.integers(-2, 2**40)}),
        st.fixed_dictionaries({"type": st.just("enum"), "name": st.just("Kind"), "symbols": st.just(["A", "B"])}),
        st.lists(inner, max_size=3).map(
            lambda kinds: {
                "type": "record",
                "name": "Known",
                "fields": [{"name": f"f{index}", "type": kind} for index, kind in enumerate(kinds)],
            }
        ),
    ),
    max_leaves=12,
)


@settings(max_examples=300)
@given(SCHEMAS_OF_ANY_KIND, st.binary(max_size=60), st.integers(-1, 2**62))
def test_strange_schemas_never_do_more_than_complain(schema: Any, body: bytes, count: int) -> None:
    assert_decodes_or_complains(a_raw_container(schema, body, count=count))
    assert_decodes_or_complains(a_raw_container(schema, body))


HUGE = 2**62
ARRAY_OF = {"type": "array", "items": "string"}
RECURSIVE = {"type": "record", "name": "Self", "fields": [{"name": "again", "type": ["null", "Self"]}]}
DOUBLING = {
    "type": "record",
    "name": "Root",
    "fields": [{"name": "leaf", "type": {"type": "record", "name": "R0", "fields": [{"name": "n", "type": "null"}]}}]
    + [
        {
            "name": f"f{level}",
            "type": {
                "type": "record",
                "name": f"R{level}",
                "fields": [{"name": "a", "type": f"R{level - 1}"}, {"name": "b", "type": f"R{level - 1}"}],
            },
        }
        for level in range(1, 60)
    ],
}
INFLATES_TO_A_GIGABYTE = zlib.compressobj(9, zlib.DEFLATED, -15)
BOMB = b"".join(INFLATES_TO_A_GIGABYTE.compress(bytes(2**20)) for _ in range(64)) + INFLATES_TO_A_GIGABYTE.flush()

HOSTILE = {
    "empty": b"",
    "50 MB of zeros": bytes(50 * 2**20),
    "more than a message may be": GOOD + bytes(MAX_CONTAINER_BYTES),
    "header cut": GOOD[:100],
    "record cut": GOOD[:-40],
    "sync marker cut": GOOD[:-1],
    "not the container's sync marker": GOOD[:-16] + bytes(16),
    "no schema": b"Obj\x01" + a_long(0) + bytes(16),
    "endless header": b"Obj\x01" + a_long(HUGE) + bytes(2**22),
    "endless number": b"Obj\x01" + b"\x80" * 2**20,
    "header entry of 2^62 bytes": b"Obj\x01" + a_long(1) + a_long(HUGE),
    "header entry of less than nothing": b"Obj\x01" + a_long(1) + a_long(-5) + bytes(100),
    "block of 2^62 bytes": a_raw_container("string", b"\x02a", length=HUGE),
    "block of less than nothing": a_raw_container("string", b"\x02a", length=-3),
    "2^62 records": a_raw_container("string", b"\x02a", count=HUGE),
    "2^62 records of nothing": a_raw_container("null", b"", count=HUGE),
    "2^62 empty records": a_raw_container({"type": "record", "name": "E", "fields": []}, b"", count=HUGE),
    "fewer records than nothing": a_raw_container("string", b"", count=-1),
    "fewer records than bytes": a_raw_container("string", b"\x02a\x02b", count=1),
    "string of 2^62 bytes": a_raw_container("string", a_long(HUGE) + b"a"),
    "string of less than nothing": a_raw_container("string", a_long(-2) + b"a"),
    "array of 2^62 strings": a_raw_container(ARRAY_OF, a_long(HUGE)),
    "array of 2^62 nulls": a_raw_container({"type": "array", "items": "null"}, a_long(HUGE) + a_long(0)),
    "array of 2^62 empty records": a_raw_container(
        {"type": "array", "items": {"type": "record", "name": "E", "fields": [{"name": "n", "type": "null"}]}},
        a_long(HUGE) + a_long(0),
    ),
    "array of seven million records of a byte each": a_raw_container(
        {"type": "array", "items": {"type": "record", "name": "R", "fields": [{"name": "n", "type": "int"}]}},
        a_long(7_000_000) + bytes(7_000_001),
    ),
    "seven million arrays of nothing": a_raw_container(
        {"type": "map", "values": {"type": "array", "items": "int"}}, a_long(3_500_000) + bytes(7_000_001)
    ),
    "seven million records in a block": a_raw_container(
        {"type": "record", "name": "R", "fields": [{"name": "n", "type": "int"}]}, bytes(7_000_000), count=7_000_000
    ),
    "fixed of 2^40 bytes": a_raw_container({"type": "fixed", "name": "F", "size": 2**40}, b"a"),
    "record within itself": a_raw_container(RECURSIVE, b"\x02" * 4_000_000 + b"\x00"),
    "record within itself, said to be parsed": a_raw_container(
        {
            "type": "record",
            "name": "Root",
            "fields": [{"name": "again", "type": "Self"}],
            "__fastavro_parsed": True,
            "__named_schemas": {"Self": RECURSIVE},
        },
        b"\x02" * 4_000_000 + b"\x00",
    ),
    "2^59 records from 60": a_raw_container(DOUBLING, b"\x00"),
    "decimal of a million digits": a_raw_container(
        {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}, a_long(10**6) + b"\x7f" * 10**6
    ),
    "schema nested without end": a_raw_container(b'{"type":"array","items":' * 4000 + b'"int"' + b"}" * 4000, b"\x00"),
    "schema nested within JSON's patience": a_raw_container(
        b'{"type":"array","items":' * 450 + b'"int"' + b"}" * 450, b"\x02" * 450
    ),
    "schema that is no JSON": a_raw_container(b"{", b""),
    "schema that is no text": a_raw_container(b"\xff\xfe\x00", b""),
    "schema that is no schema": a_raw_container({"type": "record"}, b""),
    "schema of a megabyte": a_raw_container({"type": "string", "doc": "x" * 2**20}, b"\x02a"),
    "unknown codec": a_raw_container("string", b"\x02a", codec=b"snappy"),
    "not deflated": a_raw_container("string", b"\x02a", codec=b"deflate"),
    "deflate bomb": a_raw_container("string", BOMB, codec=b"deflate"),
    "year 300000": a_raw_container({"type": "long", "logicalType": "timestamp-micros"}, a_long(HUGE)),
    "text that is no UTF-8": a_raw_container("string", b"\x04\xff\xfe"),
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_hostile_bytes_are_refused_at_once_and_in_little_memory(data: bytes) -> None:
    started = time.monotonic()
    tracemalloc.start()
    try:
        for read in every_reading(data):
            with pytest.raises(UndecodableRecordError) as error:
                read()
            assert len(str(error.value)) < 2000
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # Twice the greatest container for the block and its stream, and as much again for what was inflated.
    assert peak < 4 * MAX_CONTAINER_BYTES
    # Typically milliseconds; what is guarded against would take hours.
    assert time.monotonic() - started < 10


def test_a_good_record_is_read_after_any_hostile_one() -> None:
    for data in HOSTILE.values():
        with pytest.raises(UndecodableRecordError):
            decode(data, GwAlert)
    assert decode(GOOD, GwAlert).superevent_id == "S230518h"


def test_plain_nulls_of_ad_hoc_schemas_are_read() -> None:
    schema = {
        "type": "record",
        "name": "auto",
        "fields": [{"name": "event", "type": "null"}, {"name": "id", "type": "string"}],
    }
    container = read_container(a_container({"event": None, "id": "MS181101ab"}, schema=schema))
    assert (container.writer_name, container.records) == ("auto", [{"event": None, "id": "MS181101ab"}])


def test_an_event_too_large_for_a_message_is_not_encoded() -> None:
    with pytest.raises(InvalidInputError, match=f"at most {MAX_ENCODED_BYTES} bytes"):
        encode(an_alert(unknown_fields="x" * MAX_ENCODED_BYTES))


def test_a_misspelt_field_is_an_error() -> None:
    with pytest.raises(ValidationError, match="Extra inputs"):
        an_alert(superevent_identity="S230518h")
