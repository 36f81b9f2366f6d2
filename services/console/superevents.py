"""Superevents, one line each: gathered from what other services publish, searched, sorted and told page by page."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

import asyncpg
import structlog

from services.console import listing
from services.console.listing import Unknown
from services.console.settings import NAME
from shared.db.errors import translated_errors
from shared.db.pool import borrowed
from shared.db.unit_of_work import UnitOfWork
from shared.errors import TransientError
from shared.events.gw import GwAlert, GwSkymap
from shared.inbox.subscription import Received, Subscription
from shared.kafka.message import Message
from shared.schema.codec import decode
from shared.schema.topics import dead_letter_topic

ALERTS, SKYMAPS = "gw.alerts", "gw.skymaps"
COUNTED_AT_MOST = 20_000
GATHERED_AT_ONCE = 500
SECONDS_PER_YEAR = 365.25 * 86_400
RETRY_S = 5.0
NEVER_HZ = 1e-300
# One over less is more than floats hold.
LAST_CHARACTER = "\U0010ffff"
# Whatever goes on behind a text, comes before the text and this.

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
    id = "folded_id"
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


@dataclass(frozen=True)
class Order(listing.Order):
    """The order of a table: by a column, what is equal by time, then by id."""

    by: Sort = Sort.time
    ties = ("event_time", "superevent_id")


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

    def conditions(self) -> Sequence[listing.Condition]:
        """Return what lines must fulfil."""
        conditions = listing.given(
            ("event_time >= {}", self.since),
            ("event_time < {}", self.until),
            ("kind = {}", self.kind),
            ("alert_type = {}", self.alert_type),
            ("search_group = {}", self.search_group),
            ("source_class = {}", self.source_class),
            ("far_hz <= {}", None if self.far_max_per_year is None else self.far_max_per_year / SECONDS_PER_YEAR),
            ("area_90_deg2 <= {}", self.area_90_max_deg2),
            ("distance_mean_mpc <= {}", self.distance_max_mpc),
            ("significant = {}", self.significant),
            ("state = {}", self.state),
        )
        if self.prefix is not None:
            prefix = self.prefix.lower()
            conditions.append(("folded_id >= {} AND folded_id < {}", prefix, prefix + LAST_CHARACTER))
        return conditions


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


EXPORTED = ("superevent_id", "kind", "is_test", "state", "alert_type", "alert_count", "event_time", "updated_at",
            "far_hz", "significant", "search_group", "pipeline", "source_class", "source_probability", "area_50_deg2",
            "area_90_deg2", "distance_mean_mpc", "distance_std_mpc")  # fmt: skip
LISTING = listing.Listing(
    source="superevents",
    columns=(*EXPORTED, "folded_id"),
    keys={
        **dict.fromkeys(("superevent_id", "folded_id", "kind", "alert_type", "state"), listing.Key(listing.TEXT)),
        **dict.fromkeys(("search_group", "source_class"), listing.Key(listing.TEXT, Unknown.LAST)),
        **dict.fromkeys(
            ("far_hz", "area_50_deg2", "area_90_deg2", "distance_mean_mpc"), listing.Key(listing.NUMBER, Unknown.LAST)
        ),
        "event_time": listing.Key(listing.MOMENT),
        "significant": listing.Key(listing.FLAG, Unknown.LAST),
        "alert_count": listing.Key(listing.COUNT),
    },
    counted_at_most=COUNTED_AT_MOST,
)


class SupereventTable(listing.Table):
    """Reads lines through a pool."""

    listing = LISTING

    async def values(self) -> dict[Sort, list[str]]:
        """Return the groups and classes that there are."""
        sorts = (Sort.group, Sort.classification)
        found = await asyncio.gather(*(self._fetch(_VALUES.format(column=sort.value)) for sort in sorts))
        return {sort: [row["value"] for row in rows] for sort, rows in zip(sorts, found, strict=True)}


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
