"""Tables of the database read page by page: filters, any order, cursors that lead on exactly where a page ended."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Annotated, Any, ClassVar, Protocol

import asyncpg
from pydantic import AwareDatetime, Field, TypeAdapter

from shared.db.errors import translated_errors
from shared.db.pool import borrowed
from shared.errors import InvalidInputError

EXPORT_ROWS_AT_ONCE = 1000

Condition = tuple[Any, ...]
"""A clause with a `{}` for each value, and the values."""

Place = Sequence[Any]
"""The values of a line in the columns of the order."""


class Filters(Protocol):
    """Which lines are wanted."""

    def conditions(self) -> Sequence[Condition]:
        """Return what they must fulfil."""
        ...


def given(*conditions: tuple[str, Any]) -> list[Condition]:
    """Return the conditions that have a value; None asks for nothing."""
    return [condition for condition in conditions if condition[1] is not None]


@dataclass(frozen=True)
class Order:
    """The order of a table: by a column, what is equal by `ties`, in which no two lines are."""

    by: Enum
    descending: bool = True
    ties: ClassVar[tuple[str, ...]]

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns, the first counting most."""
        return tuple(dict.fromkeys((self.by.value, *self.ties)))


@dataclass(frozen=True)
class Page:
    """Lines of a table; `cursor` leads to the next."""

    lines: Sequence[Mapping[str, Any]]
    cursor: str | None


class Unknown(Enum):
    """Where lines are that have no value in the column which the table is sorted by."""

    NONE = "there are none"
    LAST = "at the end, whatever the order"
    LEFT_OUT = "in no page"


@dataclass(frozen=True)
class Key:
    """A column that orders are made of: what its values are, as cursors hold them."""

    values: TypeAdapter[Any]
    unknown: Unknown = Unknown.NONE


MOMENT: TypeAdapter[Any] = TypeAdapter(
    Annotated[AwareDatetime, Field(ge=datetime(2, 1, 1, tzinfo=UTC), le=datetime(9998, 1, 1, tzinfo=UTC))]
)
# Python's years end a little farther out, and a moment there may have no equal in UTC.
TEXT: TypeAdapter[Any] = TypeAdapter(Annotated[str, Field(pattern=r"^[^\x00]*$")])
NUMBER: TypeAdapter[Any] = TypeAdapter(Annotated[float, Field(allow_inf_nan=False)])
FLAG: TypeAdapter[Any] = TypeAdapter(bool)
COUNT: TypeAdapter[Any] = TypeAdapter(Annotated[int, Field(ge=0, lt=2**31)])
ID: TypeAdapter[Any] = TypeAdapter(Annotated[int, Field(ge=0, lt=2**63)])
_PLACE = TypeAdapter(list[Any])


@dataclass(frozen=True)
class Listing:
    """A table or view as pages of lines.

    Attributes
    ----------
    keys
        The columns of all orders.
    columns
        What a line has.
    counted_at_most
        So many lines are counted.
    """

    source: str
    keys: Mapping[str, Key]
    columns: Sequence[str]
    counted_at_most: int

    def select(
        self, filters: Filters, order: Order, place: Place | None = None, *, unknown: bool = False, limit: int
    ) -> tuple[str, list[Any]]:
        """Return the query of the lines behind `place`, and its arguments.

        Lines whose first column is null are asked for by themselves (`unknown`): each question is one walk along an
        index.
        """
        conditions, columns = list(filters.conditions()), order.columns
        if self.keys[columns[0]].unknown is not Unknown.NONE:
            conditions.append((f"{columns[0]} IS {'' if unknown else 'NOT '}NULL",))
        if unknown:
            columns = columns[1:]
        if place is not None:
            places = ", ".join(["{}"] * len(columns))
            step = "<" if order.descending else ">"
            conditions.append((f"({', '.join(columns)}) {step} ({places})", *place[-len(columns) :]))
        where, arguments = _where(conditions)
        by = ", ".join(f"{column} {'DESC' if order.descending else 'ASC'}" for column in columns)
        told = ", ".join(self.columns)
        return f"SELECT {told} FROM {self.source}{where} ORDER BY {by} LIMIT {limit}", arguments  # noqa: S608  (ours)

    def count(self, filters: Filters) -> tuple[str, list[Any]]:
        """Return the query of how many lines there are, and its arguments."""
        where, arguments = _where(filters.conditions())
        some = f"SELECT FROM {self.source}{where} LIMIT {self.counted_at_most}"
        return f"SELECT count(*) FROM ({some}) AS counted", arguments  # noqa: S608

    def cursor(self, line: Mapping[str, Any], order: Order) -> str:
        """Return what leads to the lines behind this one."""
        text = _PLACE.dump_json([line[column] for column in order.columns])
        return base64.urlsafe_b64encode(text).decode().rstrip("=")

    def place(self, cursor: str, order: Order) -> Place:
        """Return where a cursor leads.

        Raises
        ------
        InvalidInputError
            It is none that a page of this order gave.
        """
        try:
            values = _PLACE.validate_json(base64.urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4)))
            return [self._value(column, value) for column, value in zip(order.columns, values, strict=True)]
        except ValueError:  # of base64, of the characters, of pydantic
            raise InvalidInputError("after", cursor, "what a page of this order links to") from None

    def _value(self, column: str, value: Any) -> Any:
        key = self.keys[column]
        return None if value is None and key.unknown is Unknown.LAST else key.values.validate_python(value)


class Table:
    """Reads a listing through a pool."""

    listing: ClassVar[Listing]

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def page(self, filters: Filters, order: Order, *, limit: int, cursor: str | None = None) -> Page:
        """Return at most `limit` lines, beginning behind `cursor`.

        Raises
        ------
        InvalidInputError
            The cursor is none that a page of this order gave.
        """
        select, unknown = self.listing.select, self.listing.keys[order.by.value].unknown
        place = None if cursor is None else self.listing.place(cursor, order)
        rows: list[asyncpg.Record] = []
        if place is None or place[0] is not None:
            rows = await self._fetch(*select(filters, order, place, limit=limit + 1))
            place = None
        if len(rows) <= limit and unknown is Unknown.LAST:
            rows += await self._fetch(*select(filters, order, place, unknown=True, limit=limit + 1 - len(rows)))
        lines = [dict(row) for row in rows[:limit]]
        return Page(lines, self.listing.cursor(lines[-1], order) if len(rows) > limit else None)

    async def count(self, filters: Filters) -> int:
        """Return how many lines there are; what the listing counts at most means so many or more."""
        ((number,),) = await self._fetch(*self.listing.count(filters))
        return int(number)

    async def all_lines(self, filters: Filters, order: Order) -> AsyncIterator[Sequence[Mapping[str, Any]]]:
        """Yield all lines, some at once; no connection is held while the reader of them is slow."""
        cursor: str | None = None
        while True:
            page = await self.page(filters, order, limit=EXPORT_ROWS_AT_ONCE, cursor=cursor)
            yield page.lines
            cursor = page.cursor
            if cursor is None:
                return

    async def _fetch(self, query: str, arguments: Sequence[Any] = ()) -> list[asyncpg.Record]:
        async with borrowed(self._pool) as connection:
            with translated_errors():
                return list(await connection.fetch(query, *arguments))


def _where(conditions: Sequence[Condition]) -> tuple[str, list[Any]]:
    clauses: list[str] = []
    arguments: list[Any] = []
    for clause, *values in conditions:
        clauses.append(clause.format(*(f"${len(arguments) + n}" for n in range(1, len(values) + 1))))
        arguments.extend(values)
    return f" WHERE {' AND '.join(clauses)}" if clauses else "", arguments
