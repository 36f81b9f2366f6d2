"""Records to bytes and back: one Avro object container file per message.

The writer's schema travels in every container (Avro 1.12 specification, "Object Container Files"), so any
Avro library reads a message alone. That makes the container's header far longer than most records, and
parsing it anew for each message far slower than the record itself. The framing is therefore done here,
where each header is written and each writer's schema parsed once; fastavro does the records.

Bytes come from outside, so nothing in them is believed: lengths are checked against what is there before
anything is read, and writer's schemas that could turn few bytes into endless work are refused
(see `_cost`).
"""

import io
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, lru_cache
from hashlib import md5
from typing import Any, TypeVar

from fastavro import parse_schema, schemaless_reader, schemaless_writer
from pydantic import ValidationError

from shared.errors import InvalidInputError
from shared.events.record import Event
from shared.schema.records import AvroSchema, newest_schema

MAX_CONTAINER_BYTES = 8 * 2**20
# What every topic accepts: the largest real IGWN alert is 2 MB, larger things go to the blob store.
MAX_ENCODED_BYTES = MAX_CONTAINER_BYTES - 64 * 2**10
# The broker counts key, headers and batch framing too; a message it refuses would block the outbox.

MAGIC = b"Obj\x01"
_SYNC_LENGTH = 16
_MAX_SCHEMA_BYTES = 128 * 2**10
# Ours take 8 kB and the IGWN's 4 kB; every cached one stays in memory.
_MAX_HEADER_BYTES = _MAX_SCHEMA_BYTES + 4 * 2**10
_MAX_OBJECTS = 2**21
# Records, arrays and maps take one byte at least, and two hundred in Python: these many are 400 MB. The largest
# real alerts have fewer bytes than this, so that none is refused whatever its schema will be.

E = TypeVar("E", bound=Event)


class UndecodableRecordError(InvalidInputError):
    """Bytes that are not a container of the records expected."""


@dataclass(frozen=True)
class Container:
    """What a container holds, as the writer wrote it.

    `writer_name` is the full name of the writer's schema, empty when it has none (a map or a union);
    `records` are plain Python values, times as aware UTC datetimes.
    """

    writer_name: str
    records: list[Any]


def encode(event: Event) -> bytes:
    """Container with `event` alone, written with the newest schema of its record.

    The same event gives the same bytes.

    Raises
    ------
    InvalidInputError
        When the event does not fit a message.
    """
    writer = _writer(event.schema_name)
    out = io.BytesIO()
    schemaless_writer(out, writer.schema, event.model_dump())
    body = out.getvalue()
    data = b"".join((writer.header, b"\x02", _long(len(body)), body, writer.sync))  # 2 is the count 1 in zigzag
    if len(data) > MAX_ENCODED_BYTES:
        raise InvalidInputError(event.schema_name, f"{len(data)} bytes", f"at most {MAX_ENCODED_BYTES} bytes encoded")
    return data


def decode(data: bytes, model: type[E]) -> E:
    """The one record in the container, resolved from its writer's schema to our newest.

    Raises
    ------
    UndecodableRecordError
        When `data` is anything else than a container of exactly one such record.
    """
    events = decode_all(data, model)
    if len(events) != 1:
        raise UndecodableRecordError("records in container", len(events), "exactly 1")
    return events[0]


def decode_all(data: bytes, model: type[E]) -> list[E]:
    """Every record in the container, in order; otherwise as `decode`."""
    source, codec, sync, start = _open(data)
    reader = _writer(model.schema_name).schema
    if source.name != reader["name"]:
        raise UndecodableRecordError("writer's schema", source.name, reader["name"])
    events = []
    for values in _records(data, start, source, reader, codec, sync):
        try:
            events.append(model.model_validate(values))
        except ValidationError as exc:
            first = exc.errors(include_url=False)[0]
            field = ".".join(str(part) for part in first["loc"])
            raise UndecodableRecordError(f"{model.schema_name}.{field}", first.get("input"), first["msg"]) from exc
    return events


def read_container(data: bytes, *, max_bytes: int = MAX_CONTAINER_BYTES) -> Container:
    """Whatever the container holds, by its writer's schema alone.

    Raises
    ------
    UndecodableRecordError
        When `data` is not a sound container of at most `max_bytes`, deflated blocks counted as they unfold.
    """
    source, codec, sync, start = _open(data, max_bytes)
    return Container(source.name, list(_records(data, start, source, None, codec, sync, max_bytes)))


def decode_any(data: bytes) -> list[Any]:
    """The records of `read_container`."""
    return read_container(data).records


# --- the framing


@dataclass(frozen=True)
class _Writer:
    schema: AvroSchema
    header: bytes
    sync: bytes


@cache
def _writer(record: str) -> _Writer:
    text = json.dumps(newest_schema(record), separators=(",", ":"), ensure_ascii=False).encode()
    # The specification wants a random marker so that a split file can be resynchronised; a message is never
    # split, and a marker made from the schema lets the same event give the same bytes.
    sync = md5(text, usedforsecurity=False).digest()
    metadata = b"".join(_bytes(part) for part in (b"avro.codec", b"null", b"avro.schema", text))
    return _Writer(_parsed(text).schema, MAGIC + _long(2) + metadata + _long(0) + sync, sync)


@dataclass(frozen=True)
class _Cost:
    """How much a value may hold beyond what its bytes pay for.

    A value of `n` bytes, `n >= least`, makes at most `fixed + per_byte * n` containers (records, arrays, maps) and
    values that take no bytes. Numbers and strings are paid for by their own bytes.
    """

    least: int
    fixed: int
    per_byte: Fraction = Fraction(0)


@dataclass(frozen=True)
class _Source:
    schema: Any
    name: str
    cost: _Cost


@lru_cache(maxsize=32)
def _parsed(text: bytes) -> _Source:
    try:
        # Leniently, as fastavro's own reader: a default that does not fit its field matters to no one who reads.
        schema = parse_schema(json.loads(text, object_hook=_without_hints), _ignore_default_error=True)
        cost = _cost(schema, dict(_PRIMITIVES))
    except UndecodableRecordError:
        raise
    # fastavro answers a senseless schema with whatever exception its code runs into first.
    except Exception as exc:
        raise UndecodableRecordError("writer's schema", text[:200], f"an Avro schema ({_reason(exc)})") from exc
    return _Source(schema, schema.get("name", "") if isinstance(schema, dict) else "", cost)


def _open(data: bytes, max_bytes: int = MAX_CONTAINER_BYTES) -> tuple[_Source, bytes, bytes, int]:
    """Writer's schema, codec, sync marker and the position of the first block."""
    if len(data) > max_bytes:
        raise UndecodableRecordError("container", f"{len(data)} bytes", f"at most {max_bytes} bytes")
    if not data.startswith(MAGIC):
        raise UndecodableRecordError("container", data[:16], f"an Avro object container, which begins with {MAGIC!r}")
    position = len(MAGIC)
    metadata = {}
    while True:
        count, position = _read_long(data, position)
        if count == 0:
            break
        if count < 0:  # the negative form is followed by the block's length, which is of no use here
            count = -count
            _, position = _read_long(data, position)
        for _ in range(count):
            key, position = _read_bytes(data, position)
            metadata[key], position = _read_bytes(data, position)
            if position > _MAX_HEADER_BYTES:
                raise UndecodableRecordError("container header", f"{position} bytes", f"at most {_MAX_HEADER_BYTES}")
    sync = data[position : position + _SYNC_LENGTH]
    text = metadata.get(b"avro.schema", b"")
    if not 0 < len(text) <= _MAX_SCHEMA_BYTES:
        raise UndecodableRecordError("avro.schema", f"{len(text)} bytes", f"1 to {_MAX_SCHEMA_BYTES} bytes")
    return _parsed(text), metadata.get(b"avro.codec", b"null"), sync, position + _SYNC_LENGTH


def _records(
    data: bytes,
    position: int,
    source: _Source,
    reader: AvroSchema | None,
    codec: bytes,
    sync: bytes,
    max_bytes: int = MAX_CONTAINER_BYTES,
) -> Iterator[Any]:
    schema, cost = source.schema, source.cost
    resolved_to = None if reader is schema else reader
    left = _MAX_OBJECTS
    while position < len(data):
        count, position = _read_long(data, position)
        block, position = _read_bytes(data, position)
        if data[position : position + _SYNC_LENGTH] != sync or len(sync) != _SYNC_LENGTH:
            raise UndecodableRecordError("sync marker", data[position : position + _SYNC_LENGTH], repr(sync))
        position += _SYNC_LENGTH
        plain = _decompressed(block, codec, max_bytes)
        if not 0 < count <= max(len(plain), 1):
            raise UndecodableRecordError("records in block", count, f"1 to {len(plain)} in its {len(plain)} bytes")
        left -= count * max(cost.fixed, 1) + int(cost.per_byte * len(plain))
        if left < 0:
            raise UndecodableRecordError("records in block", count, f"at most {_MAX_OBJECTS} objects in all")
        stream = io.BytesIO(plain)
        for _ in range(count):
            try:
                record = schemaless_reader(stream, schema, resolved_to)
            # Bytes that do not fit their schema make fastavro fail in any way it happens to.
            except Exception as exc:
                raise UndecodableRecordError("record", _reason(exc), "data that fit their writer's schema") from exc
            yield record
        if stream.read(1):
            raise UndecodableRecordError("block", f"{count} records and more bytes", "records to its end")


def _decompressed(block: bytes, codec: bytes, max_bytes: int) -> bytes:
    if codec == b"null":
        return block
    if codec != b"deflate":
        raise UndecodableRecordError("avro.codec", codec, "null or deflate")
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        plain = inflater.decompress(block, max_bytes)
    except zlib.error as exc:
        raise UndecodableRecordError("block", str(exc), "deflated data") from exc
    if not inflater.eof:
        raise UndecodableRecordError("block", "cut or too long", f"at most {max_bytes} bytes inflated")
    return plain


_PRIMITIVES = {name: _Cost(1, 0) for name in ("boolean", "int", "long", "float", "double", "bytes", "string")} | {
    "null": _Cost(0, 1)
}


def _without_hints(values: dict[str, Any]) -> dict[str, Any]:
    """A JSON object less the keys by which fastavro knows its own parsed schemas, and then trusts them."""
    return {key: value for key, value in values.items() if not key.startswith("__")}


def _cost(schema: Any, named: dict[str, _Cost | None]) -> _Cost:
    """What a value of `schema` (parsed) may cost, before any is read.

    Raises
    ------
    UndecodableRecordError
        When that has no bound: an array of 10^18 nulls is written in ten bytes, a record within itself costs a
        stack frame per byte (fastavro then ends the process), a decimal time in the square of its length.
    """
    if isinstance(schema, str):
        known = named[schema]
        if known is None:
            raise UndecodableRecordError("writer's schema", f"{schema} within itself", "no recursive record")
        return known
    if isinstance(schema, list):  # the number of the branch takes a byte, which pays for a null
        branches = [_cost(branch, named) for branch in schema if branch != "null"]
        least = 1 + min((branch.least for branch in branches), default=0) * ("null" not in schema)
        fixed = max((branch.fixed for branch in branches), default=0)
        return _Cost(least, fixed, max((branch.per_byte for branch in branches), default=Fraction(0)))
    if schema.get("logicalType") == "decimal":
        raise UndecodableRecordError("writer's schema", "a decimal", "no decimal")
    kind = schema["type"]
    if kind in ("array", "map"):
        item = _cost(schema["items" if kind == "array" else "values"], named)
        least = item.least + (kind == "map")  # the key's length takes a byte
        if least == 0:
            raise UndecodableRecordError("writer's schema", "an array of empty values", "no such array")
        return _Cost(1, 1, item.per_byte + Fraction(item.fixed, least))
    if kind in ("record", "error"):
        named[schema["name"]] = None
        fields = [_cost(field["type"], named) for field in schema["fields"]]
        least, fixed = sum(field.least for field in fields), 1 + sum(field.fixed for field in fields)
        cost = _Cost(least, fixed, max((field.per_byte for field in fields), default=Fraction(0)))
    elif kind == "fixed":
        cost = _Cost(max(schema["size"], 0), int(schema["size"] <= 0))
    elif kind == "enum":
        cost = _Cost(1, 0)
    else:
        return _cost(kind, named)
    named[schema["name"]] = cost
    return cost


def _reason(error: Exception) -> str:
    # Cut: some of these errors quote the whole input.
    return f"{type(error).__name__}: {error}"[:200]


def _long(value: int) -> bytes:
    """`value`, not negative, as Avro writes a long: zigzag, then seven bits a byte, lowest first."""
    rest = value << 1
    out = bytearray()
    while rest > 0x7F:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    out.append(rest)
    return bytes(out)


def _bytes(value: bytes) -> bytes:
    return _long(len(value)) + value


def _read_long(data: bytes, position: int) -> tuple[int, int]:
    value = 0
    for index, byte in enumerate(data[position : position + 10]):  # 64 bits take ten bytes at most
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return (value >> 1) ^ -(value & 1), position + index + 1
    raise UndecodableRecordError("container", f"cut at byte {position}", "a number")


def _read_bytes(data: bytes, position: int) -> tuple[bytes, int]:
    length, position = _read_long(data, position)
    end = position + length
    if not position <= end <= len(data):
        raise UndecodableRecordError(
            "container",
            f"{length} bytes announced at byte {position}, {len(data) - position} there",
            "a whole container",
        )
    return data[position:end], end
