"""What the page Now shows: the newest lines, how much happened, how long it took."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import asyncpg

from services.console.happenings import (
    Line,
    alert_line,
    burst_line,
    coincidence_line,
    delivery_line,
    skymap_line,
)

LINES = 50
FRESH_S = 5.0
# Figures that were asked for so lately serve everybody who asks.

Fetch = Callable[..., Awaitable[Sequence[asyncpg.Record]]]
T = TypeVar("T")


@dataclass(frozen=True)
class Count:
    """How often something happened lately; test traffic is counted apart.

    Attributes
    ----------
    anchor
        Where the page Help explains it.
    """

    name: str
    anchor: str
    address: str
    hour: int = 0
    day: int = 0
    week: int = 0
    test_hour: int = 0
    test_day: int = 0
    test_week: int = 0

    def periods(self) -> list[tuple[str, int, int]]:
        """Return each period with what happened in it, and with how much of tests."""
        return [
            ("last hour", self.hour, self.test_hour),
            ("last day", self.day, self.test_day),
            ("last week", self.week, self.test_week),
        ]


@dataclass(frozen=True)
class Stage:
    """How long a step took within the last day; None while nothing went that way."""

    name: str
    anchor: str
    number: int
    median_s: float | None
    p95_s: float | None


@dataclass(frozen=True)
class Figures:
    """Everything counted and timed."""

    counts: Sequence[Count]
    stages: Sequence[Stage]
    notices: Mapping[str, int] = field(default_factory=dict)


# Each is asked twice, with and without test traffic, for which there are indexes; columns are what a line is made of.
_FEEDS: tuple[tuple[str, Callable[..., Line]], ...] = (
    (
        "SELECT superevent_id, alert_type, record->'event'->>'group' AS group,"
        " record->'event'->>'pipeline' AS pipeline, received_at AS at, is_test"
        " FROM gw_listener.alert_lines WHERE is_test = {is_test} ORDER BY received_at DESC LIMIT {limit}",
        alert_line,
    ),
    (
        "SELECT superevent_id, state, area_90_deg2, processed_at AS at, is_test"
        " FROM skymap_parser.map_lines WHERE is_test = {is_test} ORDER BY processed_at DESC LIMIT {limit}",
        skymap_line,
    ),
    (
        "SELECT burst_id AS frb_id, change, status, dm_pc_cm3, snr, changed_at AS at, is_test"
        " FROM frb_intake.change_lines WHERE is_test = {is_test} ORDER BY changed_at DESC LIMIT {limit}",
        burst_line,
    ),
    (
        "SELECT superevent_id, frb_id, coincidence_type, decided_at AS at, is_test"
        " FROM coincidence.history_lines WHERE is_test = {is_test} ORDER BY decided_at DESC LIMIT {limit}",
        coincidence_line,
    ),
    (
        # Of the newest deliveries those that are news; not all that ever were, should none be.
        "SELECT subject, channel, mode, action, state, attempts, changed_at AS at, is_test FROM ("
        " SELECT * FROM notifier.delivery_lines WHERE is_test = {is_test} ORDER BY changed_at DESC LIMIT 20 * {limit}"
        ") AS newest WHERE state IN ('SENT', 'CONFIRMED', 'FAILED', 'UNKNOWN') OR state = 'PENDING' AND attempts > 0"
        " ORDER BY changed_at DESC LIMIT {limit}",
        delivery_line,
    ),
)

_COUNTED: tuple[tuple[Count, str, str], ...] = (
    (Count("Alerts", "count-alerts", "/gw"), "received_at", "gw_listener.alert_lines WHERE true"),
    (Count("Bursts", "count-bursts", "/frb"), "changed_at", "frb_intake.change_lines WHERE change = 'CREATED'"),
    (
        Count("Coincidences", "count-coincidences", "/mma"),
        "decided_at",
        "coincidence.history_lines WHERE coincidence_type = 'INITIAL'",
    ),
    (
        Count("Notices", "count-notices", "/system/deliveries"),
        "changed_at",
        "notifier.delivery_lines WHERE state IN ('SENT', 'CONFIRMED')",
    ),
)
# With when each happened and where it is written.

_NUMBERS = """
SELECT count(*) FILTER (WHERE {at} > now() - interval '1 hour') AS hour,
       count(*) FILTER (WHERE {at} > now() - interval '1 day') AS day, count(*) AS week
FROM {source} AND is_test = {is_test} AND {at} > now() - interval '7 days'
"""

_STAGES: tuple[tuple[str, str, str], ...] = (
    (
        "Alert sent to received",
        "stage-received",
        "SELECT received_at - time_created FROM gw_listener.alert_lines WHERE received_at {of_a_day} AND is_test {any}",
    ),
    (
        "Received to sky map parsed",
        "stage-parsed",
        "SELECT map.processed_at - alert.received_at FROM skymap_parser.map_lines AS map"
        " JOIN gw_listener.alert_lines AS alert ON alert.event_id = map.alert_event_id"
        " WHERE map.processed_at {of_a_day} AND map.is_test {any} AND map.state = 'AVAILABLE'",
    ),
    (
        "Both known to coincidence told",
        "stage-decided",
        "SELECT pair.decided_at - greatest(alert.received_at, map.processed_at, burst.changed_at)"
        " FROM coincidence.history_lines AS pair"
        " JOIN gw_listener.alert_lines AS alert ON alert.event_id = pair.alert_event_id"
        " JOIN frb_intake.change_lines AS burst"
        " ON burst.burst_id = pair.frb_id AND burst.revision = pair.burst_revision"
        " LEFT JOIN skymap_parser.map_lines AS map ON map.event_id = pair.map_id"
        " WHERE pair.decided_at {of_a_day} AND pair.is_test {any}",
    ),
    (
        "Notice due to out",
        "stage-sent",
        "SELECT changed_at - decided_at FROM notifier.delivery_lines"
        " WHERE changed_at {of_a_day} AND is_test {any} AND state IN ('SENT', 'CONFIRMED')",
    ),
)
# With the place on the page Help, and the time that each took.
_OF_A_DAY, _ANY = "> now() - interval '1 day'", "IN (false, true)"
# Test traffic or not: with it the indexes serve.

_TAKEN = """
SELECT count(*) AS number, percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY taken_s) AS quantiles
FROM (SELECT extract(epoch FROM taken)::float8 AS taken_s FROM ({step}) AS step (taken)) AS steps
WHERE taken_s BETWEEN 0 AND 86400
"""
# What took longer than a day was replayed, or waited for an outage to end: no measure of a step.

_UNFINISHED = """
SELECT state, count(*) AS number FROM notifier.delivery_lines
WHERE state IN ('PENDING', 'SENDING', 'FAILED', 'UNKNOWN') GROUP BY state
"""


async def newest(fetch: Fetch, *, with_tests: bool, limit: int = LINES) -> list[Line]:
    """Return the newest lines of the feed, as the topics would tell them."""
    found = []
    for query, line in _FEEDS:
        for is_test in (False, True) if with_tests else (False,):
            found += [line(**row) for row in await fetch(query.format(is_test=is_test, limit=limit))]
    return sorted(found, key=lambda each: each.at, reverse=True)[:limit]


async def figures(fetch: Fetch) -> Figures:
    """Count and time what happened lately."""
    counts = []
    for count, at, source in _COUNTED:
        numbers: dict[str, int] = {}
        for is_test in (False, True):
            (row,) = await fetch(_NUMBERS.format(at=at, source=source, is_test=is_test))
            numbers |= {f"test_{name}" if is_test else name: value for name, value in row.items()}
        counts.append(Count(count.name, count.anchor, count.address, **numbers))
    stages = []
    for name, anchor, step in _STAGES:
        (row,) = await fetch(_TAKEN.format(step=step.format(of_a_day=_OF_A_DAY, any=_ANY)))
        median_s, p95_s = row["quantiles"] or (None, None)
        stages.append(Stage(name, anchor, row["number"], median_s, p95_s))
    return Figures(counts, stages, {row["state"]: row["number"] for row in await fetch(_UNFINISHED)})


class Fresh(Generic[T]):
    """Something that is found out anew only when it is older than some seconds, once for all who ask meanwhile."""

    def __init__(
        self, find: Callable[[], Awaitable[T]], *, fresh_s: float = FRESH_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._find = find
        self._fresh_s = fresh_s
        self._clock = clock
        self._lock = asyncio.Lock()
        self._found: tuple[float, T] | None = None

    async def get(self) -> T:
        """Return it; what finding out raises goes to whoever asked."""
        async with self._lock:
            if self._found is None or self._clock() - self._found[0] > self._fresh_s:
                self._found = self._clock(), await self._find()
            return self._found[1]
