"""Reads the one record of an Avro object container whose sender is not trusted.

A container brings its own schema, and a general decoder does what that schema says: an array of 2^60 nulls is twelve
bytes long, a record that holds itself exhausts the stack of the process, a deflated block may be a thousand times
larger than the message. An alert is a few dozen values beside its sky maps, so they are decoded here, each counted,
with every length held against the bytes that are there. Names in the schema are resolved by fastavro.

Source: Apache Avro 1.12 specification, "Object Container Files" and "Binary Encoding".
"""

import json
import struct
import zlib
from functools import lru_cache
from typing import Any

import fastavro
from fastavro.schema import SchemaParseException, UnknownType

from shared.errors import InvalidInputError

MAGIC = b"Obj\x01"

MAX_VALUES = 100_000
# An alert of today has about sixty values; a histogram with thousands of bins still passes.

MAX_DEPTH = 64
# An alert of today nests six deep (record, union, record, union, map, double).

MAX_SCHEMA_BYTES = 256 * 1024
# The schema of IGWN is 4 kB; with it, at most sixteen of this size are remembered.

_SYNC_BYTES = 16
_LONG_BYTES = 10  # 64 bits in groups of seven

_METADATA = {"type": "map", "values": "bytes"}


def read_container(data: bytes, *, max_bytes: int) -> tuple[str, object]:
    """Return the name of the writer's schema ("" when it has none) and the only record of a container.

    Parameters
    ----------
    data
        The whole container.
    max_bytes
        What a compressed block may grow to.

    Raises
    ------
    InvalidInputError
        When the container is damaged or hostile, or does not hold exactly one record.
    """
    header = _Decoder(data, start=len(MAGIC))
    metadata = header.value(_METADATA, "avro")
    schema, names = _writer_schema(_required(metadata, "avro.schema"))
    codec = metadata.get("avro.codec", b"null")
    sync = header.take(_SYNC_BYTES)

    records: list[object] = []
    position = header.position
    while position < len(data):
        block = _Decoder(data, start=position)
        count, size = block.long(), block.long()
        if len(records) + count != 1:
            raise InvalidInputError("avro", f"{len(records) + count} records", "exactly one record")
        end = block.position + size
        content = _Decoder(_decompressed(block.take(size), codec, max_bytes), names=names)
        try:
            records.append(content.value(schema, ""))
        except (TypeError, KeyError) as exc:  # fastavro does not look at the size of a fixed, nor at symbols
            raise InvalidInputError("avro.schema", str(exc), "an Avro schema") from exc
        if content.remaining:
            raise InvalidInputError("avro", f"{content.remaining} bytes after the record", "a block that ends with it")
        if data[end : end + _SYNC_BYTES] != sync:
            raise InvalidInputError("avro", "a block without the sync marker of its file", "an undamaged container")
        position = end + _SYNC_BYTES
    if not records:
        raise InvalidInputError("avro", "no record", "exactly one record")
    return _name(schema), records[0]


class _Decoder:
    """Decodes values from `data`; `path` tells in complaints which value it was."""

    def __init__(self, data: bytes, *, start: int = 0, names: dict[str, Any] | None = None) -> None:
        self.data = data
        self.position = start
        self._names = names or {}
        self._values_left = MAX_VALUES

    @property
    def remaining(self) -> int:
        return len(self.data) - self.position

    def take(self, size: int, path: str = "avro") -> bytes:
        if not 0 <= size <= self.remaining:
            raise InvalidInputError(path, f"{size} bytes long", f"at most the {self.remaining} bytes that follow")
        self.position += size
        return self.data[self.position - size : self.position]

    def long(self, path: str = "avro") -> int:
        number = 0
        for shift in range(0, 7 * _LONG_BYTES, 7):
            (byte,) = self.take(1, path)
            number |= (byte & 0x7F) << shift
            if byte < 0x80:  # zigzag: the lowest bit is the sign
                return (number >> 1) ^ -(number & 1)
        raise InvalidInputError(path, "a number longer than ten bytes", "a 64-bit number")

    def value(self, schema: Any, path: str, depth: int = 0) -> Any:
        self._values_left -= 1
        if self._values_left < 0:
            raise InvalidInputError(path or "avro", f"more than {MAX_VALUES} values", "the size of an alert")
        if depth > MAX_DEPTH:
            raise InvalidInputError(path or "avro", f"nested more than {MAX_DEPTH} deep", "the depth of an alert")
        if isinstance(schema, list):
            return self.value(self._one_of(schema, path), path, depth + 1)
        kind = schema["type"] if isinstance(schema, dict) else schema
        match kind:
            case "null":
                return None
            case "boolean":
                return self.take(1, path) != b"\x00"
            case "int" | "long":
                return self.long(path)
            case "float":
                return struct.unpack("<f", self.take(4, path))[0]
            case "double":
                return struct.unpack("<d", self.take(8, path))[0]
            case "bytes":
                return self.take(self.long(path), path)
            case "string":
                return self._text(path)
            case "fixed":
                return self.take(schema["size"], path)
            case "enum":
                return self._one_of(schema["symbols"], path)
            case "record" | "error":
                return {
                    field["name"]: self.value(field["type"], _inside(path, field["name"]), depth + 1)
                    for field in schema["fields"]
                }
            case "array":
                return [self.value(schema["items"], path, depth + 1) for _ in self._items(path)]
            case "map":
                pairs: dict[str, Any] = {}
                for _ in self._items(path):
                    key = self._text(path)
                    pairs[key] = self.value(schema["values"], _inside(path, key), depth + 1)
                return pairs
            case _:
                return self.value(self._names[kind] if isinstance(kind, str) else kind, path, depth + 1)

    def _items(self, path: str) -> Any:
        """Count through the blocks of an array or a map; the budget of values ends it when the counts do not."""
        while count := self.long(path):
            if count < 0:  # then the block's size in bytes follows, for readers that skip it
                self.long(path)
            yield from range(abs(count))

    def _one_of(self, choices: list[Any], path: str) -> Any:
        index = self.long(path)
        if not 0 <= index < len(choices):
            raise InvalidInputError(path or "avro", f"choice {index}", f"one of {len(choices)} choices")
        return choices[index]

    def _text(self, path: str) -> str:
        encoded = self.take(self.long(path), path)
        try:
            return encoded.decode()
        except UnicodeDecodeError as exc:
            raise InvalidInputError(path, encoded[:64], "UTF-8 text") from exc


@lru_cache(maxsize=16)
def _writer_schema(text: bytes) -> tuple[Any, dict[str, Any]]:
    """The schema with all names resolved, and what each name stands for."""
    names: dict[str, Any] = {}
    if len(text) > MAX_SCHEMA_BYTES:
        raise InvalidInputError("avro.schema", f"{len(text)} bytes", f"at most {MAX_SCHEMA_BYTES} bytes")
    try:
        # As fastavro's own reader calls it: parse again what claims to be parsed, and mind no default that reading
        # does not use.
        return fastavro.parse_schema(
            json.loads(text), names, _write_hint=False, _force=True, _ignore_default_error=True
        ), names
    except (
        SchemaParseException,
        UnknownType,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RecursionError,
    ) as exc:
        raise InvalidInputError("avro.schema", text[:64], f"an Avro schema ({type(exc).__name__})") from exc


def _decompressed(block: bytes, codec: bytes, max_bytes: int) -> bytes:
    """Undo the two codecs that every Avro reader must know; IGWN uses the first."""
    match codec:
        case b"null":
            return block
        case b"deflate":
            inflate = zlib.decompressobj(wbits=-zlib.MAX_WBITS)
            try:
                content = inflate.decompress(block, max_bytes)
            except zlib.error as exc:
                raise InvalidInputError("avro block", block[:64], "a deflated block") from exc
            if not inflate.eof:
                raise InvalidInputError(
                    "avro block", "cut or too long", f"a block of at most {max_bytes} bytes inflated"
                )
            return content
        case _:
            raise InvalidInputError("avro.codec", codec[:64], "null or deflate")


def _required(metadata: dict[str, bytes], key: str) -> bytes:
    if key not in metadata:
        raise InvalidInputError(key, "missing", "the schema of the writer")
    return metadata[key]


def _name(schema: Any) -> str:
    return str(schema.get("name", "")) if isinstance(schema, dict) else ""


def _inside(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
