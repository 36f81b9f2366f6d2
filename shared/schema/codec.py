"""Records to bytes and back: one Avro object container file per message.

The writer's schema travels in every container (Avro 1.12 specification, "Object Container Files"), so any
Avro library reads a message alone. That makes the container's header far longer than most records, and
parsing it anew for each message far slower than the record itself. The framing is therefore done here,
where each header is written and each writer's schema parsed once; fastavro does the records.

Bytes come from outside, so nothing in them is believed: lengths are checked against what is there before
anything is read, and writer's schemas that could turn few bytes into endless work are refused
(see `_refuse_runaway`).
"""

import io
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
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

_MAGIC = b"Obj\x01"
_SYNC_LENGTH = 16
_MAX_SCHEMA_BYTES = 128 * 2**10
# Ours take 8 kB and the IGWN's 4 kB; every cached one stays in memory.
_MAX_HEADER_BYTES = _MAX_SCHEMA_BYTES + 4 * 2**10
_MAX_EMPTY_FIELDS = 100
_MAX_RECORDS = 2**16
# A record of one byte costs a hundred and more in Python; this many fill a container with 128 bytes each.

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
    for values in _records(data, start, source.schema, reader, codec, sync):
        try:
            events.append(model.model_validate(values))
        except ValidationError as exc:
            first = exc.errors(include_url=False)[0]
            field = ".".join(str(part) for part in first["loc"])
            raise UndecodableRecordError(f"{model.schema_name}.{field}", first.get("input"), first["msg"]) from exc
    return events


def read_container(data: bytes) -> Container:
    """Whatever the container holds, by its writer's schema alone.

    Raises
    ------
    UndecodableRecordError
        When `data` is not a sound container of at most 8 MiB.
    """
    source, codec, sync, start = _open(data)
    return Container(source.name, list(_records(data, start, source.schema, None, codec, sync)))


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
    return _Writer(_parsed(text).schema, _MAGIC + _long(2) + metadata + _long(0) + sync, sync)


@dataclass(frozen=True)
class _Source:
    schema: Any
    name: str


@lru_cache(maxsize=32)
def _parsed(text: bytes) -> _Source:
    try:
        schema = parse_schema(json.loads(text))
        _refuse_runaway(schema)
    except UndecodableRecordError:
        raise
    # fastavro answers a senseless schema with whatever exception its code runs into first.
    except Exception as exc:
        raise UndecodableRecordError("writer's schema", text[:200], f"an Avro schema ({_reason(exc)})") from exc
    return _Source(schema, schema.get("name", "") if isinstance(schema, dict) else "")


def _open(data: bytes) -> tuple[_Source, bytes, bytes, int]:
    """Writer's schema, codec, sync marker and the position of the first block."""
    if len(data) > MAX_CONTAINER_BYTES:
        raise UndecodableRecordError("container", f"{len(data)} bytes", f"at most {MAX_CONTAINER_BYTES} bytes")
    if not data.startswith(_MAGIC):
        raise UndecodableRecordError("container", data[:16], f"an Avro object container, which begins with {_MAGIC!r}")
    position = len(_MAGIC)
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
    data: bytes, position: int, schema: Any, reader: AvroSchema | None, codec: bytes, sync: bytes
) -> Iterator[Any]:
    resolved_to = None if reader is schema else reader
    left = _MAX_RECORDS
    while position < len(data):
        count, position = _read_long(data, position)
        block, position = _read_bytes(data, position)
        if data[position : position + _SYNC_LENGTH] != sync or len(sync) != _SYNC_LENGTH:
            raise UndecodableRecordError("sync marker", data[position : position + _SYNC_LENGTH], repr(sync))
        position += _SYNC_LENGTH
        if not 0 < count <= left:
            raise UndecodableRecordError("records in block", count, f"1 to {left}")
        left -= count
        stream = io.BytesIO(_decompressed(block, codec))
        for _ in range(count):
            try:
                record = schemaless_reader(stream, schema, resolved_to)
            # Bytes that do not fit their schema make fastavro fail in any way it happens to.
            except Exception as exc:
                raise UndecodableRecordError("record", _reason(exc), "data that fit their writer's schema") from exc
            yield record
        if stream.read(1):
            raise UndecodableRecordError("block", f"{count} records and more bytes", "records to its end")


def _decompressed(block: bytes, codec: bytes) -> bytes:
    if codec == b"null":
        return block
    if codec != b"deflate":
        raise UndecodableRecordError("avro.codec", codec, "null or deflate")
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        plain = inflater.decompress(block, MAX_CONTAINER_BYTES)
    except zlib.error as exc:
        raise UndecodableRecordError("block", str(exc), "deflated data") from exc
    if not inflater.eof:
        raise UndecodableRecordError("block", "cut or too long", f"at most {MAX_CONTAINER_BYTES} bytes inflated")
    return plain


def _refuse_runaway(schema: Any) -> None:
    """Raise when values of this (parsed) schema may cost more than their bytes account for.

    Nothing for a schema to be read is as long as the data say, except what takes no bytes: an array of 10^18
    nulls is written in ten. A record within itself costs a stack frame per byte (fastavro then ends the
    process), and a decimal time in the square of its length.
    """
    if _empty_fields(schema, {}) > _MAX_EMPTY_FIELDS:
        raise UndecodableRecordError("writer's schema", "too many empty fields", f"at most {_MAX_EMPTY_FIELDS}")


def _empty_fields(schema: Any, named: dict[str, int | None]) -> int:
    """How many values of no bytes one value of `schema` may hold."""
    if isinstance(schema, str):
        within = named.get(schema, int(schema == "null"))
        if within is None:
            raise UndecodableRecordError("writer's schema", f"{schema} within itself", "no recursive record")
        return within
    if isinstance(schema, list):  # the choice itself takes a byte
        return max((0 if branch == "null" else _empty_fields(branch, named) for branch in schema), default=0)
    if schema.get("logicalType") == "decimal":
        raise UndecodableRecordError("writer's schema", "a decimal", "no decimal")
    kind = schema["type"]
    if kind in ("record", "error"):
        named[schema["name"]] = None
        within = sum(_empty_fields(field["type"], named) for field in schema["fields"]) + (not schema["fields"])
        named[schema["name"]] = within
        return within
    if kind in ("array", "map"):
        if _empty_fields(schema["items" if kind == "array" else "values"], named):
            raise UndecodableRecordError("writer's schema", f"a {kind} of empty values", f"no such {kind}")
        return 0
    if kind == "fixed":
        named[schema["name"]] = int(schema["size"] <= 0)
        return int(schema["size"] <= 0)
    if kind == "enum":
        named[schema["name"]] = 0
        return 0
    return _empty_fields(kind, named)


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
        raise UndecodableRecordError("container", f"{length} bytes at byte {position}", "a length within the data")
    return data[position:end], end
