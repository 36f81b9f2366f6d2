"""Questions about bursts: lists, exports, one burst with everything, what changed since."""

import base64
import binascii
import json
import math
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

import asyncpg

from services.frb_intake.intake import UnknownBurstError
from shared.db.errors import translated_errors
from shared.db.pool import borrowed
from shared.errors import InvalidInputError
from shared.events.blob import BlobRef
from shared.sky.localisation import Ellipse, intervals

EXPORT_ROWS_AT_ONCE = 1000
FOLLOW_ROWS = 500
WIDEST_INDEXED_CONE_DEG = 89.0
# Also where few bursts lie outside: without its cells PostgreSQL takes any cone for a third of the sky.
CONE_RANGES = 24
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)  # noqa: UP017

_SEPARATION = (
    "sin(radians(dec_deg - {dec}) / 2) ^ 2"
    " + cos(radians(dec_deg)) * cos(radians({dec})) * sin(radians(ra_deg - {ra}) / 2) ^ 2"
    " <= sin(radians({radius}) / 2) ^ 2"
)

# What runs still may yet commit rows before those of later transactions: nobody is shown these before.
_SETTLED = "transaction_id < pg_snapshot_xmin(pg_current_snapshot())::text::bigint"
_CHANGES_AFTER = (
    "SELECT transaction_id, id, change, record FROM changes"  # noqa: S608  (constants)
    f" WHERE (transaction_id, id) > ($1, $2) AND {_SETTLED} ORDER BY transaction_id, id LIMIT $3"
)
_LAST_CHANGE = f"SELECT transaction_id, id FROM changes WHERE {_SETTLED} ORDER BY transaction_id DESC, id DESC LIMIT 1"  # noqa: S608


@dataclass(frozen=True)
class Cone:
    """A circle on the sky."""

    ra_deg: float
    dec_deg: float
    radius_deg: float


@dataclass(frozen=True)
class Filters:
    """Which bursts are wanted; None means any.

    Attributes
    ----------
    since, until
        Of the time of arrival (of the reception where that is unknown); `until` is excluded.
    rating
        At least one person's last vote is this; `none`: nobody voted.
    """

    since: datetime | None = None
    until: datetime | None = None
    dm_min: float | None = None
    dm_max: float | None = None
    sn_min: float | None = None
    sn_max: float | None = None
    cone: Cone | None = None
    repeater: bool | None = None
    status: str | None = None
    rating: str | None = None
    tns_name: str | None = None
    is_test: bool | None = None


@dataclass(frozen=True)
class SortKey:
    """What lists are sorted by: a column that an index has together with the id."""

    column: str
    kind: type = float
    is_always_known: bool = False


SORT_KEYS: Mapping[str, SortKey] = {
    "time": SortKey("event_time", datetime, is_always_known=True),
    "id": SortKey("id", int, is_always_known=True),
    "dm": SortKey("dm_pc_cm3"),
    "dm_excess": SortKey("dm_excess_pc_cm3"),
    "sn": SortKey("snr"),
    "width": SortKey("width_ms"),
    "confirm": SortKey("votes_confirm", int, is_always_known=True),
    "reject": SortKey("votes_reject", int, is_always_known=True),
}


@dataclass(frozen=True)
class Order:
    """How a list is sorted: by one key, those of equal value by their numbers, those without it at the end."""

    key: str = "time"
    is_descending: bool = True

    @property
    def by(self) -> SortKey:
        """What is compared."""
        return SORT_KEYS[self.key]


NEWEST_FIRST = Order()


@dataclass(frozen=True)
class Place:
    """A line's place in the order of a list; `value` is None where the burst has none."""

    value: Any
    burst_id: int


@dataclass(frozen=True)
class Page:
    """Lines of a list, each as JSON, in its order; `cursor` leads to the next page."""

    items: list[str]
    cursor: str | None


@dataclass(frozen=True)
class Change:
    """A record that went out on `frb.events`, with its place in the order of commits."""

    place: str
    change: str
    record: str


def conditions(filters: Filters) -> tuple[list[str], list[Any]]:
    """Return the conditions of a WHERE clause and their arguments."""
    clauses: list[str] = []
    arguments: list[Any] = []

    def add(clause: str, *values: Any) -> None:
        places = [f"${len(arguments) + n}" for n in range(1, len(values) + 1)]
        arguments.extend(values)
        clauses.append(clause.format(*places))

    for clause, value in (
        ("event_time >= {}", filters.since),
        ("event_time < {}", filters.until),
        ("dm_pc_cm3 >= {}", filters.dm_min),
        ("dm_pc_cm3 <= {}", filters.dm_max),
        ("snr >= {}", filters.sn_min),
        ("snr <= {}", filters.sn_max),
        ("repeater = {}", filters.repeater),
        ("status = {}", filters.status.upper() if filters.status else None),
        ("tns_name = {}", filters.tns_name),
        ("is_test = {}", filters.is_test),
    ):
        if value is not None:
            add(clause, value)
    if filters.rating == "none":
        add("votes_confirm = 0 AND votes_reject = 0 AND votes_unsure = 0")
    elif filters.rating is not None:
        add(f"votes_{filters.rating} > 0")
    if (cone := filters.cone) is not None:
        if cone.radius_deg <= WIDEST_INDEXED_CONE_DEG:
            around = Ellipse(cone.ra_deg, cone.dec_deg, cone.radius_deg, cone.radius_deg, 0.0, 0.5)
            cells = intervals(around, max_cells=CONE_RANGES)
            ranges = [(int(a), int(b)) for a, b in zip(cells.start, cells.stop, strict=True)]
            add(
                f"({' OR '.join(['nest29 >= {} AND nest29 < {}'] * len(ranges))})",
                *(edge for pair in ranges for edge in pair),
            )
        first = len(arguments)
        arguments.extend([cone.ra_deg, cone.dec_deg, cone.radius_deg])
        ra, dec, radius = (f"${first + n}::float8" for n in (1, 2, 3))
        clauses.append(_SEPARATION.format(ra=ra, dec=dec, radius=radius))
    return clauses, arguments


def select(
    filters: Filters,
    after: Place | None,
    limit: int,
    order: Order = NEWEST_FIRST,
    *,
    unknown: bool = False,
) -> tuple[str, list[Any]]:
    """Return the query of a page and its arguments: of the bursts that have a value to sort by, or that have none."""
    clauses, arguments = conditions(filters)
    column = order.by.column
    if not order.by.is_always_known:
        clauses.append(f"{column} IS {'' if unknown else 'NOT '}NULL")
    if after is not None:
        names, values = ("id", (after.burst_id,)) if unknown else (f"{column}, id", (after.value, after.burst_id))
        places = ", ".join(f"${len(arguments) + n}" for n in range(1, len(values) + 1))
        clauses.append(f"({names}) {'<' if order.is_descending else '>'} ({places})")
        arguments.extend(values)
    where = f" WHERE {' AND '.join(clauses)}" if clauses else ""
    way = "DESC" if order.is_descending else "ASC"
    # The null ones are asked for on their own: one index then serves both ways, with these at the end of both.
    sorted_page = f"ORDER BY {column} {way}, id {way} LIMIT {limit}"
    return f"SELECT id, {column} AS place, summary FROM bursts{where} {sorted_page}", arguments  # noqa: S608


class BurstReader:
    """Reads through a pool, without transactions of its own."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def page(
        self, filters: Filters, *, limit: int, cursor: str | None = None, order: Order = NEWEST_FIRST
    ) -> Page:
        """Return at most `limit` lines, beginning behind `cursor`.

        Raises
        ------
        InvalidInputError
            The cursor is none that a page in this order gave.
        """
        after = None if cursor is None else _read_cursor(cursor, order)
        among_unknown = after is not None and after.value is None
        rows: list[asyncpg.Record] = []
        async with self._connection() as connection:
            if not among_unknown:
                query, arguments = select(filters, after, limit + 1, order)
                rows = await connection.fetch(query, *arguments)
            if len(rows) <= limit and not order.by.is_always_known:
                rest = limit + 1 - len(rows)
                query, arguments = select(filters, after if among_unknown else None, rest, order, unknown=True)
                rows = [*rows, *await connection.fetch(query, *arguments)]
        more = len(rows) > limit
        rows = rows[:limit]
        return Page(
            [row["summary"] for row in rows],
            _cursor(order, Place(rows[-1]["place"], rows[-1]["id"])) if more else None,
        )

    async def lines(self, filters: Filters, order: Order = NEWEST_FIRST) -> AsyncIterator[list[str]]:
        """Yield all lines, some at once; no connection is held while the reader of them is slow."""
        cursor: str | None = None
        while True:
            page = await self.page(filters, limit=EXPORT_ROWS_AT_ONCE, cursor=cursor, order=order)
            yield page.items
            cursor = page.cursor
            if cursor is None:
                return

    async def burst(self, burst_id: int) -> dict[str, Any]:
        """Return everything about a burst, ready for JSON.

        Raises
        ------
        UnknownBurstError
            There is no such burst.
        """
        async with self._connection() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
            found = await connection.fetchrow(
                "SELECT bursts.record, observations.parameters FROM bursts"
                " LEFT JOIN observations ON observations.id = observation_id WHERE bursts.id = $1",
                burst_id,
            )
            if found is None:
                raise UnknownBurstError(burst_id)
            measurements = await connection.fetch(
                "SELECT id, as_submitted, record FROM measurements WHERE burst_id = $1 ORDER BY number", burst_id
            )
            images = await connection.fetch(
                "SELECT name, file_name, blob, state FROM images WHERE burst_id = $1 ORDER BY name", burst_id
            )
            ratings = await connection.fetch(
                # Who has another name now is one person all the same.
                "SELECT CASE WHEN rater_id IS NULL THEN rater"
                " ELSE first_value(rater) OVER (PARTITION BY rater_id ORDER BY id DESC) END AS rater,"
                " rating, note, rated_at FROM ratings WHERE burst_id = $1 ORDER BY id",
                burst_id,
            )
            history = await connection.fetch(
                "SELECT revision, change, changed_at, changed_by, detail FROM changes WHERE burst_id = $1"
                " ORDER BY revision",
                burst_id,
            )
            coincidences = await connection.fetch(
                "SELECT record FROM coincidences WHERE burst_id = $1 ORDER BY coincidence_id", burst_id
            )
            deliveries = await connection.fetch(
                "SELECT record FROM deliveries WHERE burst_id = $1 ORDER BY delivery_id", burst_id
            )
        record: dict[str, Any] = json.loads(found["record"])
        sizes = {image["name"]: image for image in record["images"]}
        return {
            "id": burst_id,
            **{name: value for name, value in record.items() if name not in ("images", "observation", "event_id")},
            "observation": json.loads(found["parameters"]) if found["parameters"] else record["observation"],
            "measurements": [
                {**json.loads(row["record"]), "id": row["id"], "as_submitted": json.loads(row["as_submitted"])}
                for row in measurements
            ],
            "images": [
                {
                    "name": row["name"],
                    "url": f"/api/v1/events/{burst_id}/images/{row['name']}",
                    "file_name": row["file_name"],
                    "media_type": json.loads(row["blob"])["media_type"],
                    "width_px": sizes[row["name"]]["width_px"],
                    "height_px": sizes[row["name"]]["height_px"],
                }
                for row in images
                if row["name"] in sizes
            ],
            "ratings": [{**row, "rated_at": row["rated_at"].isoformat()} for row in ratings],
            "history": [
                {**row, "changed_at": row["changed_at"].isoformat(), "detail": json.loads(row["detail"])}
                for row in history
            ],
            "notices": [json.loads(row["record"]) for row in deliveries],
            "coincidences": [json.loads(row["record"]) for row in coincidences],
        }

    async def image(self, burst_id: int, name: str) -> BlobRef | None:
        """Return where an image is; None when there is none, or it is broken."""
        async with self._connection() as connection:
            blob = await connection.fetchval(
                "SELECT blob FROM images WHERE burst_id = $1 AND name = $2 AND state <> 'BROKEN'", burst_id, name
            )
        return None if blob is None else BlobRef.model_validate_json(blob)

    async def changes_after(self, place: str) -> Sequence[Change]:
        """Return the next changes behind a place, in the order in which they were committed.

        Raises
        ------
        InvalidInputError
            The place is none that a change has.
        """
        transaction, number = read_place(place)
        async with self._connection() as connection:
            rows = await connection.fetch(_CHANGES_AFTER, transaction, number, FOLLOW_ROWS)
        return [Change(f"{row['transaction_id']}-{row['id']}", row["change"], row["record"]) for row in rows]

    async def last_place(self) -> str:
        """Return the place of the last change."""
        async with self._connection() as connection:
            row = await connection.fetchrow(_LAST_CHANGE)
        return "0-0" if row is None else f"{row['transaction_id']}-{row['id']}"

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Any]:
        async with borrowed(self._pool) as connection:
            with translated_errors():
                yield connection


def _cursor(order: Order, place: Place) -> str:
    value = place.value
    if isinstance(value, datetime):
        value = (value - _EPOCH) // timedelta(microseconds=1)
    text = f"{_named(order)} {'' if value is None else repr(value)} {place.burst_id}"
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _read_cursor(cursor: str, order: Order) -> Place:
    expected = "the `next` of a page in this order"
    try:
        text = base64.urlsafe_b64decode(cursor.encode() + b"=" * (-len(cursor) % 4)).decode()
        name, value, burst_id = text.split(" ")
        place = Place(_read_value(value, order.by), int(burst_id))
    except (binascii.Error, ValueError, OverflowError):
        raise InvalidInputError("cursor", cursor, expected) from None
    if name != _named(order) or not 0 < place.burst_id < 2**63:
        raise InvalidInputError("cursor", cursor, expected)
    return place


def _read_value(text: str, key: SortKey) -> datetime | float | None:
    if not text and not key.is_always_known:
        return None
    if key.kind is float:
        number = float(text)
        if not math.isfinite(number):
            raise ValueError(text)
        return number
    if key.kind is datetime:
        return _EPOCH + timedelta(microseconds=int(text))
    whole = int(text)
    if not 0 <= whole < (2**63 if key.column == "id" else 2**31):
        raise ValueError(text)
    return whole


def _named(order: Order) -> str:
    return f"{order.key}.{'desc' if order.is_descending else 'asc'}"


def read_place(place: str) -> tuple[int, int]:
    """Return the transaction and the number of a change; in their order, changes were committed.

    Raises
    ------
    InvalidInputError
        The place is none that a change has.
    """
    transaction, _, number = place.partition("-")
    if not (transaction.isdecimal() and number.isdecimal() and transaction.isascii() and number.isascii()):
        raise InvalidInputError("Last-Event-ID", place, "the id of a server-sent event")
    found = int(transaction[:20]), int(number[:20])
    if max(found) >= 2**63:
        raise InvalidInputError("Last-Event-ID", place, "the id of a server-sent event")
    return found
