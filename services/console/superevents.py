"""Superevents, one line each: gathered from what other services publish, searched, sorted and told page by page."""

from __future__ import annotations

import asyncio
import base64
import math
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Annotated, Any

import asyncpg
import structlog
from pydantic import AwareDatetime, Field, TypeAdapter

from services.console.settings import NAME
from shared.db.errors import translated_errors
from shared.db.pool import borrowed
from shared.db.unit_of_work import UnitOfWork
from shared.errors import InvalidInputError, TransientError
from shared.events.gw import GwAlert, GwSkymap
from shared.inbox.subscription import Received, Subscription
from shared.kafka.message import Message
from shared.schema.codec import decode
from shared.schema.topics import dead_letter_topic

ALERTS, SKYMAPS = "gw.alerts", "gw.skymaps"
COUNTED_AT_MOST = 20_000
EXPORT_ROWS_AT_ONCE = 1000
GATHERED_AT_ONCE = 500
SECONDS_PER_YEAR = 365.25 * 86_400
RETRY_S = 5.0
NEVER_HZ = 1e-300
# One over less is more than floats hold.

log = structlog.get_logger(__name__)

# A retraction tells nothing of the wave: its last other alert does. Texts are cut to what an index holds.
_GATHER = """
INSERT INTO superevents AS known (
    superevent_id, kind, is_test, state, alert_type, alert_count, event_time, updated_at, far_hz, significant,
    search_group, pipeline, source_class, source_probability, area_50_deg2, area_90_deg2, distance_mean_mpc,
    distance_std_mpc
)
SELECT superevent.superevent_id, superevent.kind, superevent.kind <> 'REAL', superevent.state, superevent.alert_type,
       superevent.alert_count,
       coalesce((told.event->>'time')::timestamptz, (
           SELECT min(alert.time_created) FROM gw_listener.alert_lines AS alert
           WHERE alert.superevent_id = superevent.superevent_id
       )),
       greatest(superevent.updated_at, map.processed_at),
       (told.event->>'far_hz')::float8, (told.event->>'significant')::boolean, left(told.event->>'group', 200),
       left(told.event->>'pipeline', 200), left(class.name, 200), class.probability,
       map.area_50_deg2, map.area_90_deg2, map.distance_mean_mpc, map.distance_std_mpc
FROM gw_listener.superevent_lines AS superevent
LEFT JOIN LATERAL (
    SELECT alert.record->'event' AS event FROM gw_listener.alert_lines AS alert
    WHERE alert.superevent_id = superevent.superevent_id AND alert.record->>'event' IS NOT NULL
    ORDER BY alert.time_created DESC, alert.stage DESC, alert.event_id DESC LIMIT 1
) AS told ON true
LEFT JOIN LATERAL (
    SELECT key AS name, value::float8 AS probability FROM jsonb_each_text(told.event->'classification')
    ORDER BY value::float8 DESC, key LIMIT 1
) AS class ON true
LEFT JOIN LATERAL (
    SELECT map.* FROM skymap_parser.map_lines AS map
    JOIN gw_listener.alert_lines AS alert ON alert.event_id = map.alert_event_id
    WHERE map.superevent_id = superevent.superevent_id
    ORDER BY alert.time_created DESC, alert.stage DESC, alert.event_id DESC, map.map_kind = 'GW' DESC LIMIT 1
) AS map ON true
WHERE {wanted}
ON CONFLICT (superevent_id) DO UPDATE SET
    kind = excluded.kind, is_test = excluded.is_test, state = excluded.state, alert_type = excluded.alert_type,
    alert_count = excluded.alert_count, event_time = excluded.event_time, updated_at = excluded.updated_at,
    far_hz = excluded.far_hz, significant = excluded.significant, search_group = excluded.search_group,
    pipeline = excluded.pipeline, source_class = excluded.source_class,
    source_probability = excluded.source_probability, area_50_deg2 = excluded.area_50_deg2,
    area_90_deg2 = excluded.area_90_deg2, distance_mean_mpc = excluded.distance_mean_mpc,
    distance_std_mpc = excluded.distance_std_mpc
WHERE (known.*) IS DISTINCT FROM (excluded.*)
"""
GATHER_SOME = _GATHER.format(wanted="superevent.superevent_id > $1 AND superevent.superevent_id <= $2")
GATHER_ONE = _GATHER.format(wanted="superevent.superevent_id = $1")
_FOLLOWING = f"""
SELECT max(superevent_id) FROM (
    SELECT superevent_id FROM gw_listener.superevent_lines WHERE superevent_id > $1
    ORDER BY superevent_id LIMIT {GATHERED_AT_ONCE}
) AS following
"""  # noqa: S608  (a constant)
TAKE_TURNS = "SELECT pg_advisory_xact_lock(hashtextextended('console.superevents', 0))"
# A statement of its own, before: who waited for it then reads what is newest, and never puts something older back.


async def gather_all(pool: asyncpg.Pool) -> None:
    """Bring every line up to date; what is right already is left alone. Some at a time: nobody else waits long."""
    last = ""
    while True:
        async with borrowed(pool) as connection:
            with translated_errors():
                async with connection.transaction():
                    await connection.execute(TAKE_TURNS)
                    following = await connection.fetchval(_FOLLOWING, last)
                    if following is None:
                        return
                    await connection.execute(GATHER_SOME, last, following)
        last = following


async def gather_at_start(pool: asyncpg.Pool) -> None:
    """Bring every line up to date once, however long it takes for the others' tables to be there."""
    while True:
        try:
            await gather_all(pool)
        except (TransientError, asyncpg.PostgresError) as error:
            log.warning("superevents.waiting", reason=str(error))
            await asyncio.sleep(RETRY_S)
        else:
            log.info("superevents.gathered")
            return


async def gather_one(superevent_id: str, work: UnitOfWork) -> None:
    """Bring the line of a superevent up to date."""
    work.write(TAKE_TURNS)
    work.write(GATHER_ONE, superevent_id)


async def _receive_alert(message: Message) -> Received[str]:
    record = decode(message.value, GwAlert)
    return Received(record.event_id, record.superevent_id)


async def _receive_skymap(message: Message) -> Received[str]:
    record = decode(message.value, GwSkymap)
    return Received(record.event_id, record.superevent_id)


def subscriptions() -> list[Subscription[str]]:
    """Return the streams that say which superevent has changed."""
    return [
        Subscription(
            name=f"{NAME}.{topic}",
            topics=[topic],
            receive=receive,
            handle=gather_one,
            dead_letter_topics={topic: dead_letter_topic(topic, NAME)},
            group=NAME,
        )
        for topic, receive in ((ALERTS, _receive_alert), (SKYMAPS, _receive_skymap))
    ]


class Sort(Enum):
    """What a table can be sorted by: its name in addresses is the member's, its column the value."""

    time = "event_time"
    id = "superevent_id"
    kind = "kind"
    type = "alert_type"
    group = "search_group"
    classification = "source_class"
    far = "far_hz"
    area_50 = "area_50_deg2"
    area_90 = "area_90_deg2"
    distance = "distance_mean_mpc"
    significance = "significant"
    state = "state"
    alerts = "alert_count"

    @property
    def is_always_known(self) -> bool:
        """Whether the column is never null; where it is, those lines come last whatever the order."""
        return self in (Sort.time, Sort.id, Sort.kind, Sort.type, Sort.state, Sort.alerts)


@dataclass(frozen=True)
class Order:
    """The order of a table: by a column, what is equal by time, then by id."""

    by: Sort = Sort.time
    descending: bool = True

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns, the first counting most, up to the id: no two are equal in that."""
        if self.by is Sort.id:
            return (Sort.id.value,)
        return tuple(dict.fromkeys((self.by.value, Sort.time.value, Sort.id.value)))


@dataclass(frozen=True)
class Filters:
    """Which superevents are wanted; None means any.

    Attributes
    ----------
    since, until
        Of the time of the wave; `until` is excluded.
    far_max_per_year, area_90_max_deg2, distance_max_mpc
        What is not known is above any limit.
    prefix
        How the id begins, in any case of letters.
    """

    since: datetime | None = None
    until: datetime | None = None
    kind: str | None = None
    alert_type: str | None = None
    search_group: str | None = None
    source_class: str | None = None
    far_max_per_year: float | None = None
    area_90_max_deg2: float | None = None
    distance_max_mpc: float | None = None
    significant: bool | None = None
    state: str | None = None
    prefix: str | None = None


@dataclass(frozen=True)
class Page:
    """Lines of a table; `cursor` leads to the next."""

    lines: Sequence[Mapping[str, Any]]
    cursor: str | None


class _Clauses:
    """Conditions of a WHERE clause with their arguments."""

    def __init__(self) -> None:
        self.arguments: list[Any] = []
        self._clauses: list[str] = []

    def add(self, clause: str, *values: Any) -> None:
        places = [f"${len(self.arguments) + n}" for n in range(1, len(values) + 1)]
        self.arguments.extend(values)
        self._clauses.append(clause.format(*places))

    def __str__(self) -> str:
        return " AND ".join(self._clauses) or "true"


def _conditions(filters: Filters) -> _Clauses:
    far_hz = None if filters.far_max_per_year is None else filters.far_max_per_year / SECONDS_PER_YEAR
    clauses = _Clauses()
    for clause, value in (
        ("event_time >= {}", filters.since),
        ("event_time < {}", filters.until),
        ("kind = {}", filters.kind),
        ("alert_type = {}", filters.alert_type),
        ("search_group = {}", filters.search_group),
        ("source_class = {}", filters.source_class),
        ("far_hz <= {}", far_hz),
        ("area_90_deg2 <= {}", filters.area_90_max_deg2),
        ("distance_mean_mpc <= {}", filters.distance_max_mpc),
        ("significant = {}", filters.significant),
        ("state = {}", filters.state),
        ("lower(superevent_id) LIKE lower({}) || '%'", None if filters.prefix is None else _literal(filters.prefix)),
    ):
        if value is not None:
            clauses.add(clause, value)
    return clauses


def _literal(text: str) -> str:
    return text.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_")


Place = Sequence[Any]
"""The values of a line in the columns of the order."""


def select(filters: Filters, order: Order, place: Place | None, *, unknown: bool, limit: int) -> tuple[str, list[Any]]:
    """Return the query of the lines behind `place`, and its arguments.

    Lines whose first column is null are asked for by themselves (`unknown`): each question is one walk along an index.
    """
    clauses = _conditions(filters)
    columns = order.columns[1:] if unknown else order.columns
    if not order.by.is_always_known:
        clauses.add(f"{order.by.value} IS {'' if unknown else 'NOT '}NULL")
    if place is not None:
        places = ", ".join(["{}"] * len(columns))
        clauses.add(f"({', '.join(columns)}) {'<' if order.descending else '>'} ({places})", *place[-len(columns) :])
    direction = "DESC" if order.descending else "ASC"
    by = ", ".join(f"{column} {direction}" for column in columns)
    query = f"SELECT * FROM superevents WHERE {clauses} ORDER BY {by} LIMIT {limit}"  # noqa: S608  (our own columns)
    return query, clauses.arguments


_VALUES = """
WITH RECURSIVE found (value) AS (
    (SELECT {column} FROM superevents WHERE {column} IS NOT NULL ORDER BY {column} LIMIT 1)
    UNION ALL
    SELECT (SELECT {column} FROM superevents WHERE {column} > found.value ORDER BY {column} LIMIT 1)
    FROM found WHERE found.value IS NOT NULL
)
SELECT value FROM found WHERE value IS NOT NULL LIMIT 50
"""
# One step along the index for each, however many lines there are.


class SupereventTable:
    """Reads lines through a pool."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def page(self, filters: Filters, order: Order, *, limit: int, cursor: str | None = None) -> Page:
        """Return at most `limit` lines, beginning behind `cursor`.

        Raises
        ------
        InvalidInputError
            The cursor is none that a page of this order gave.
        """
        place = None if cursor is None else _read_cursor(cursor, order)
        rows: list[asyncpg.Record] = []
        if place is None or place[0] is not None:
            rows = await self._fetch(*select(filters, order, place, unknown=False, limit=limit + 1))
            place = None
        if len(rows) <= limit and not order.by.is_always_known:
            rows += await self._fetch(*select(filters, order, place, unknown=True, limit=limit + 1 - len(rows)))
        more, rows = len(rows) > limit, rows[:limit]
        return Page([dict(row) for row in rows], _cursor(dict(rows[-1]), order) if more else None)

    async def count(self, filters: Filters) -> int:
        """Return how many lines there are; `COUNTED_AT_MOST` means so many or more."""
        clauses = _conditions(filters)
        some = f"SELECT FROM superevents WHERE {clauses} LIMIT {COUNTED_AT_MOST}"
        rows = await self._fetch(f"SELECT count(*) AS n FROM ({some}) AS counted", clauses.arguments)  # noqa: S608
        return int(rows[0]["n"])

    async def all_lines(self, filters: Filters, order: Order) -> AsyncIterator[Sequence[Mapping[str, Any]]]:
        """Yield all lines, some at once; no connection is held while the reader of them is slow."""
        cursor: str | None = None
        while True:
            page = await self.page(filters, order, limit=EXPORT_ROWS_AT_ONCE, cursor=cursor)
            yield page.lines
            cursor = page.cursor
            if cursor is None:
                return

    async def values(self) -> dict[Sort, list[str]]:
        """Return the groups and classes that there are."""
        return {
            sort: [row["value"] for row in await self._fetch(_VALUES.format(column=sort.value))]
            for sort in (Sort.group, Sort.classification)
        }

    async def _fetch(self, query: str, arguments: Sequence[Any] = ()) -> list[asyncpg.Record]:
        async with borrowed(self._pool) as connection:
            with translated_errors():
                return list(await connection.fetch(query, *arguments))


def _cursor(line: Mapping[str, Any], order: Order) -> str:
    text = _PLACE.dump_json([line[column] for column in order.columns])
    return base64.urlsafe_b64encode(text).decode().rstrip("=")


def _read_cursor(cursor: str, order: Order) -> Place:
    try:
        values = _PLACE.validate_json(base64.urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4)))
        return [
            _TYPES[Sort(column)].validate_python(value) for column, value in zip(order.columns, values, strict=True)
        ]
    except ValueError:  # of base64, of the characters, of pydantic
        raise InvalidInputError("after", cursor, "what a page of this order links to") from None


Moment = Annotated[AwareDatetime, Field(ge=datetime(2, 1, 1, tzinfo=UTC), le=datetime(9998, 1, 1, tzinfo=UTC))]
# Python's years end a little farther out, and a moment there may have no equal in UTC.
_PLACE = TypeAdapter(list[Any])
_TEXT: TypeAdapter[Any] = TypeAdapter(Annotated[str, Field(pattern=r"^[^\x00]*$")])
_TEXT_OR_NONE: TypeAdapter[Any] = TypeAdapter(Annotated[str, Field(pattern=r"^[^\x00]*$")] | None)
_NUMBER: TypeAdapter[Any] = TypeAdapter(Annotated[float, Field(allow_inf_nan=False)] | None)
_TYPES: Mapping[Sort, TypeAdapter[Any]] = {
    **dict.fromkeys((Sort.id, Sort.kind, Sort.type, Sort.state), _TEXT),
    **dict.fromkeys((Sort.group, Sort.classification), _TEXT_OR_NONE),
    **dict.fromkeys((Sort.far, Sort.area_50, Sort.area_90, Sort.distance), _NUMBER),
    Sort.time: TypeAdapter(Moment),
    Sort.significance: TypeAdapter(bool | None),
    Sort.alerts: TypeAdapter(Annotated[int, Field(ge=0, lt=2**31)]),
}


def far_text(far_hz: float | None) -> str | None:
    """Return a false-alarm rate as people say it: one in how long; None for what is not known."""
    if far_hz is None or not math.isfinite(far_hz) or far_hz < 0:
        return None
    if far_hz < NEVER_HZ:
        return "0"
    period_s = 1 / far_hz
    for unit, length_s in (("yr", SECONDS_PER_YEAR), ("d", 86_400), ("h", 3600), ("min", 60)):
        if period_s >= length_s:
            return f"1 per {short(period_s / length_s)} {unit}"
    return f"{short(far_hz)} per s"


_EXPONENTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def short(value: float) -> str:
    """Return a number to three digits, with powers of ten as one writes them."""
    if value and not 1e-3 <= abs(value) < 1e5:
        digits, _, exponent = f"{value:.2e}".partition("e")
        return f"{digits} \N{MULTIPLICATION SIGN} 10{str(int(exponent)).translate(_EXPONENTS)}"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
