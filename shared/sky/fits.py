"""The little of FITS that sky maps need: read one binary table from bytes, write one.

A general reader spends 3 ms on what is a header scan and one `numpy.frombuffer`. This one trusts no header:
every size is checked against the bytes that are there, or that gzip could at most make of them, before
memory is taken.

References
----------
FITS Standard 4.0, sections 3 (blocks), 4.2 (values), 7.3 (BINTABLE).
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.errors import InvalidInputError

BLOCK = 2880
CARD = 80
GIB = 1024**3
GZIP_MAX_RATIO = 1032
# Deflate codes at most 258 bytes in 2 bits, so no honest header can promise more than this.
GZIP_MAGIC = b"\x1f\x8b"
MAX_HEADER_BLOCKS = 200
# 7,200 cards. The longest header seen in a sky map has 300 (HISTORY of the sampler's command line).
MAX_HDUS = 64

Value = str | bool | int | float | None
Header = dict[str, Value]


class InvalidSkyMapError(InvalidInputError):
    """Bytes that are not the sky map they should be."""


_TFORM = re.compile(r"\s*(\d*)([LXBIJKAEDCMPQ])")
_ITEM_BYTES = {"L": 1, "B": 1, "I": 2, "J": 4, "K": 8, "A": 1, "E": 4, "D": 8, "C": 8, "M": 16, "P": 8, "Q": 16}
_DTYPES = {"B": "u1", "I": ">i2", "J": ">i4", "K": ">i8", "E": ">f4", "D": ">f8"}


@dataclass(frozen=True)
class Column:
    """One column of numbers: `repeat` of them per row, stored as `dtype` at byte `offset` of the row."""

    name: str
    dtype: np.dtype[Any] | None
    repeat: int
    offset: int
    unit: str
    scale: float
    zero: int | float

    def values(self, rows: NDArray[np.void]) -> NDArray[Any]:
        """The physical values (TSCAL, TZERO applied) in file order, flat; integers stay integers."""
        if self.dtype is None:
            raise InvalidSkyMapError(f"TFORM of {self.name}", "not a number", "one of B, I, J, K, E, D")
        raw = rows[self.name].reshape(-1)
        if raw.dtype.kind == "f":
            return raw if (self.scale, self.zero) == (1, 0) else raw.astype(np.float64) * self.scale + float(self.zero)
        if self.scale != 1 or not float(self.zero).is_integer():
            return raw.astype(np.float64) * self.scale + float(self.zero)
        whole = raw.astype(np.int64)
        if self.zero == 2**63:
            # FITS has no unsigned 64-bit integers: they are stored with the top bit flipped. Seen again as
            # signed, numbers above 2**63 are negative, which no index is.
            return whole ^ np.int64(-(2**63))
        if abs(self.zero) > 2**62:
            raise InvalidSkyMapError(f"TZERO of {self.name}", self.zero, "0 or 9223372036854775808")
        return whole + int(self.zero) if self.zero else whole


@dataclass(frozen=True)
class Table:
    """A binary table whose rows have not been read yet."""

    header: Header
    columns: dict[str, Column]
    n_rows: int
    row_bytes: int
    _take: Callable[[int], bytes | bytearray | memoryview]

    def column(self, *names: str) -> Column | None:
        """The first of `names` (upper case) that the table has."""
        return next((self.columns[name] for name in names if name in self.columns), None)

    def blocks(self, rows_per_block: int) -> Iterator[NDArray[np.void]]:
        """The rows as structured arrays, `rows_per_block` at a time; can be walked once."""
        numbers = [column for column in self.columns.values() if column.dtype is not None]
        dtype = np.dtype(
            {
                "names": [column.name for column in numbers],
                "formats": [(column.dtype, (column.repeat,)) for column in numbers],
                "offsets": [column.offset for column in numbers],
                "itemsize": self.row_bytes,
            }
        )
        for done in range(0, self.n_rows, rows_per_block):
            n_rows = min(rows_per_block, self.n_rows - done)
            yield np.frombuffer(self._take(n_rows * self.row_bytes), dtype=dtype, count=n_rows)


class _Plain:
    """Bytes taken from a buffer without copying."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._at = 0

    def most_left(self) -> int:
        return len(self._data) - self._at

    def take(self, size: int) -> memoryview:
        piece = self._data[self._at : self._at + size]
        self._at += len(piece)
        return piece


class _Gzip:
    """Bytes taken from a gzip stream, decompressed no further than asked."""

    PIECE = 1 << 16
    # Fed in pieces: zlib hands back what it has not consumed, which for one large feed is quadratic.

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._at = 0
        self._inflate = zlib.decompressobj(wbits=31)
        self._most_left = GZIP_MAX_RATIO * len(data)

    def most_left(self) -> int:
        return self._most_left

    def take(self, size: int) -> bytearray:
        taken = bytearray()
        while len(taken) < size:
            piece = self._data[self._at : self._at + self.PIECE]
            try:
                more = self._inflate.decompress(piece, size - len(taken))
            except zlib.error as error:
                raise InvalidSkyMapError("gzip stream", f"corrupt ({error})", "an intact gzip file") from error
            taken += more
            # At the end of a member zlib may report what follows it as both unused and unconsumed.
            left = self._inflate.unused_data if self._inflate.eof else self._inflate.unconsumed_tail
            self._at += len(piece) - len(left)
            if self._inflate.eof:
                if bytes(self._data[self._at : self._at + 2]) != GZIP_MAGIC:
                    break
                self._inflate = zlib.decompressobj(wbits=31)
            elif not more and not piece:
                break
        self._most_left -= len(taken)
        return taken


def open_table(data: bytes, *, wanted: Callable[[Header], bool], max_bytes: int) -> Table:
    """Find the first binary table whose header is `wanted`, in FITS bytes, gzipped or not.

    Raises
    ------
    InvalidSkyMapError
        The bytes are no FITS file, hold no such table, are truncated, or the table is larger than `max_bytes`
        or than what the bytes can hold. Nothing of the table's size has been allocated by then.
    """
    view = memoryview(data)
    stream: _Plain | _Gzip = _Gzip(view) if data.startswith(GZIP_MAGIC) else _Plain(view)
    for number in range(MAX_HDUS):
        header = _read_header(stream, first=number == 0)
        if header is None:
            break
        size = _data_bytes(header)
        if str(header.get("XTENSION", "")).strip() == "BINTABLE" and wanted(header):
            return _table(header, stream, max_bytes)
        padded = -(-size // BLOCK) * BLOCK
        if padded > stream.most_left() or padded > max_bytes:
            # A last HDU without its padding is forgiven; nothing follows it.
            break
        while padded > 0:
            skipped = len(stream.take(min(padded, 1 << 20)))
            if skipped == 0:
                break
            padded -= skipped
    raise InvalidSkyMapError("FITS extension", "missing", "a BINTABLE with HEALPix columns (UNIQ, PROB, PROBDENSITY)")


def _table(header: Header, stream: _Plain | _Gzip, max_bytes: int) -> Table:
    row_bytes, n_rows = _count(header, "NAXIS1"), _count(header, "NAXIS2")
    size = row_bytes * n_rows
    if size > max_bytes:
        raise InvalidSkyMapError("NAXIS1 x NAXIS2", f"{row_bytes} x {n_rows} bytes", f"at most {max_bytes} bytes")
    if size > stream.most_left():
        there = f"{'at most ' if isinstance(stream, _Gzip) else ''}{stream.most_left()} bytes that are there"
        raise InvalidSkyMapError("NAXIS1 x NAXIS2", f"{row_bytes} x {n_rows} bytes", f"the {there}")
    if size == 0:
        raise InvalidSkyMapError("NAXIS1 x NAXIS2", f"{row_bytes} x {n_rows} bytes", "a table with rows")

    def take(wanted: int) -> bytes | bytearray | memoryview:
        piece = stream.take(wanted)
        if len(piece) < wanted:
            raise InvalidSkyMapError("table data", "truncated", f"{n_rows} rows of {row_bytes} bytes")
        return piece

    return Table(header, _columns(header, row_bytes), n_rows, row_bytes, take)


def _columns(header: Header, row_bytes: int) -> dict[str, Column]:
    columns = {}
    offset = 0
    for number in range(1, _count(header, "TFIELDS") + 1):
        form = str(header.get(f"TFORM{number}", ""))
        match = _TFORM.match(form)
        if match is None:
            raise InvalidSkyMapError(f"TFORM{number}", form, "a binary table format such as K, D or 1024E")
        repeat = int(match[1] or 1)
        if repeat > row_bytes * 8:
            raise InvalidSkyMapError(f"TFORM{number}", form, f"a column inside rows of {row_bytes} bytes")
        code = match[2]
        name = str(header.get(f"TTYPE{number}", f"COL{number}")).strip().upper()
        scale, zero = header.get(f"TSCAL{number}", 1), header.get(f"TZERO{number}", 0)
        if not isinstance(scale, int | float) or not isinstance(zero, int | float):
            raise InvalidSkyMapError(f"TSCAL{number}, TZERO{number}", (scale, zero), "numbers")
        dtype = np.dtype(_DTYPES[code]) if code in _DTYPES and repeat > 0 else None
        if name not in columns:
            unit = str(header.get(f"TUNIT{number}", ""))
            columns[name] = Column(name, dtype, repeat, offset, unit, scale, zero)
        offset += (repeat + 7) // 8 if code == "X" else repeat * _ITEM_BYTES[code]
    if offset > row_bytes:
        raise InvalidSkyMapError("NAXIS1", row_bytes, f"at least the {offset} bytes of the columns")
    return columns


def _read_header(stream: _Plain | _Gzip, *, first: bool) -> Header | None:
    header: Header = {}
    for block_number in range(MAX_HEADER_BLOCKS):
        block = bytes(stream.take(BLOCK))
        if first and block_number == 0 and not block.startswith(b"SIMPLE  ="):
            raise InvalidSkyMapError("file", _opening(block), "a FITS file (SIMPLE = T), gzipped or not")
        if not first and block_number == 0 and not block.startswith(b"XTENSION="):
            return None
        for at in range(0, len(block) - CARD + 1, CARD):
            card = block[at : at + CARD]
            if card[8:10] == b"= ":
                header.setdefault(card[:8].rstrip().decode("latin-1"), _parse_value(card[10:].decode("latin-1")))
            elif card.rstrip() == b"END":
                return header
        if len(block) < BLOCK:
            raise InvalidSkyMapError("FITS header", "truncated", "an END card")
    raise InvalidSkyMapError("FITS header", f"longer than {MAX_HEADER_BLOCKS * BLOCK} bytes", "an END card")


def _opening(block: bytes) -> str:
    return f"{block[:16]!r}…" if block else "empty"


def _parse_value(text: str) -> Value:
    text = text.lstrip()
    if text.startswith("'"):
        end = 1
        while (end := text.find("'", end)) >= 0 and text[end + 1 : end + 2] == "'":
            end += 2
        return text[1 : end if end > 0 else None].replace("''", "'").rstrip()
    text = text.split("/", 1)[0].strip()
    if text in ("T", "F"):
        return text == "T"
    for number in (int, float):
        try:
            return number(text.replace("D", "E"))
        except ValueError:
            continue
    return text or None


def _count(header: Header, name: str) -> int:
    value = header.get(name, 0)
    if not isinstance(value, int) or value < 0:
        raise InvalidSkyMapError(name, value, "a number of 0 or more")
    return int(value)


def _data_bytes(header: Header) -> int:
    n_axes = _count(header, "NAXIS")
    if n_axes == 0:
        return 0
    if n_axes > 999:
        raise InvalidSkyMapError("NAXIS", n_axes, "at most 999")
    bitpix = header.get("BITPIX")
    if not isinstance(bitpix, int) or abs(bitpix) not in (8, 16, 32, 64):
        raise InvalidSkyMapError("BITPIX", bitpix, "8, 16, 32, 64, -32 or -64")
    elements = prod(_count(header, f"NAXIS{axis}") for axis in range(1, n_axes + 1))
    groups = _count(header, "GCOUNT") if "GCOUNT" in header else 1
    return abs(bitpix) // 8 * groups * (_count(header, "PCOUNT") + elements)


def write_table(header: list[tuple[str, Value]], columns: list[tuple[str, str, NDArray[Any]]]) -> bytes:
    """A FITS file with one binary table; the same input gives the same bytes.

    Parameters
    ----------
    header
        Keyword and value of the cards beyond the structural ones; None is left out.
    columns
        Name, unit ("" for none) and values (int64 or float64, equal lengths).
    """
    forms = [(name, unit, values.astype(values.dtype.newbyteorder(">"), copy=False)) for name, unit, values in columns]
    rows = np.empty(len(forms[0][2]), dtype=[(name, values.dtype) for name, _, values in forms])
    cards: list[tuple[str, Value]] = [
        ("XTENSION", "BINTABLE"),
        ("BITPIX", 8),
        ("NAXIS", 2),
        ("NAXIS1", rows.dtype.itemsize),
        ("NAXIS2", len(rows)),
        ("PCOUNT", 0),
        ("GCOUNT", 1),
        ("TFIELDS", len(forms)),
    ]
    for number, (name, unit, values) in enumerate(forms, start=1):
        rows[name] = values
        cards += [(f"TTYPE{number}", name), (f"TFORM{number}", {"i": "K", "f": "D"}[values.dtype.kind])]
        cards += [(f"TUNIT{number}", unit or None)]
    primary = _header_bytes([("SIMPLE", True), ("BITPIX", 8), ("NAXIS", 0), ("EXTEND", True)])
    body = rows.tobytes()
    return b"".join((primary, _header_bytes(cards + header), body, bytes(-len(body) % BLOCK)))


def _header_bytes(cards: list[tuple[str, Value]]) -> bytes:
    lines = [f"{name:<8}= {_format_value(value)}"[:CARD].ljust(CARD) for name, value in cards if value is not None]
    text = "".join([*lines, "END".ljust(CARD)]).encode("ascii", errors="replace")
    return text + b" " * (-len(text) % BLOCK)


def _format_value(value: Value) -> str:
    match value:
        case bool():
            return f"{'T' if value else 'F':>20}"
        case str():
            quoted = value.replace("'", "''")
            # FITS wants eight characters at least, and 68 are all that fit on a card.
            while len(quoted) > 68:
                value = value[:-1]
                quoted = value.replace("'", "''")
            return f"'{quoted:<8}'"
        case float():
            return f"{value!r:>20}".replace("e", "E")
        case _:
            return f"{value:>20}"
