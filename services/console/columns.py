"""Columns of tables, and their heads, which sort."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes
    ----------
    title
        What it means, in a few words.
    sort
        What addresses call the order by it; None where there is none.
    largest_first
        The order that a first click gives.
    is_number
        Numbers stand at the right.
    """

    name: str
    title: str
    sort: str | None = None
    largest_first: bool = True
    is_number: bool = False


@dataclass(frozen=True)
class Head:
    """The head of a column: where it leads, and how the table is sorted by it."""

    column: Column
    address: str | None = None
    direction: str | None = None


def heads(columns: Sequence[Column], *, sort: str, way: str, address: Callable[[str, str], str]) -> list[Head]:
    """Return the heads of a table; the one that it is sorted by turns the order round.

    Parameters
    ----------
    way
        asc or desc.
    address
        Returns where the table is when it is sorted by a column, that way.
    """
    found = []
    for column in columns:
        if column.sort is None:
            found.append(Head(column))
            continue
        is_sorted = column.sort == sort
        largest_first = way == "asc" if is_sorted else column.largest_first
        direction = {"asc": "ascending", "desc": "descending"}.get(way) if is_sorted else None
        found.append(Head(column, address(column.sort, "desc" if largest_first else "asc"), direction))
    return found
