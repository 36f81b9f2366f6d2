"""One superevent: its alerts and maps in their order, and what changed from each map to the next."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from math import degrees, radians
from typing import Generic, TypeVar
from uuid import UUID

import asyncpg
import structlog
from astropy.coordinates import angular_separation

from services.console.map_work import Agreement, compare
from shared.blobs.store import BlobStore
from shared.compute import ComputePool
from shared.db.errors import translated_errors
from shared.db.pool import borrowed
from shared.events.blob import BlobRef
from shared.events.gw import ExternalCoinc, GwAlert, GwEvent, MapKind, Skymap, SupereventState

KEPT_RESULTS = 500
PATIENCE_S = 2.0
# So long a page waits for what is computed; then it comes without, and asks again.

_SUPEREVENT = "SELECT * FROM gw_listener.superevent_lines WHERE superevent_id = $1"
_ALERTS = """
SELECT event_id, sources, record FROM gw_listener.alert_lines WHERE superevent_id = $1
ORDER BY alert_type = 'RETRACTION', time_created, stage, event_id
"""
_MAPS = """
SELECT event_id, alert_event_id, map_kind, state, is_current, processed_at, skymap, picture
FROM skymap_parser.map_lines WHERE superevent_id = $1
"""

log = structlog.get_logger(__name__)

R = TypeVar("R")


@dataclass(frozen=True)
class MapLine:
    """A sky map, withdrawn or not."""

    event_id: UUID
    alert_event_id: UUID
    map_kind: MapKind
    state: str
    is_current: bool
    processed_at: datetime
    skymap: Skymap
    picture: BlobRef | None

    @property
    def name(self) -> str:
        """What it is beside the other map of its alert."""
        return "with the other observatory's" if self.map_kind is MapKind.COMBINED else "of the wave"


@dataclass(frozen=True)
class AlertLine:
    """An alert with its maps, that of the wave first."""

    record: GwAlert
    sources: Sequence[str]
    is_current: bool
    maps: Sequence[MapLine]


@dataclass(frozen=True)
class Superevent:
    """Everything that is known of a superevent; the alert of the highest rank is the last."""

    superevent_id: str
    kind: str
    state: str
    alert_type: str
    updated_at: datetime
    alerts: Sequence[AlertLine]

    @property
    def is_retracted(self) -> bool:
        """Whether it was taken back, for good."""
        return self.state == SupereventState.RETRACTED

    @cached_property
    def event(self) -> GwEvent | None:
        """What the newest alert that tells something of the wave tells of it."""
        return next((alert.record.event for alert in reversed(self.alerts) if alert.record.event), None)

    @cached_property
    def external(self) -> ExternalCoinc | None:
        """The newest coincidence with another observatory's event that the IGWN told."""
        return next(
            (alert.record.external_coinc for alert in reversed(self.alerts) if alert.record.external_coinc), None
        )

    @cached_property
    def maps(self) -> Sequence[MapLine]:
        """All maps, those of the newest alert last."""
        return [line for alert in self.alerts for line in alert.maps]

    @cached_property
    def newest_maps(self) -> Sequence[MapLine]:
        """The maps of the newest alert that has any."""
        return next((alert.maps for alert in reversed(self.alerts) if alert.maps), ())

    def map(self, event_id: UUID) -> MapLine | None:
        """Return one of its maps."""
        return next((line for line in self.maps if line.event_id == event_id), None)

    def alert(self, event_id: UUID) -> AlertLine | None:
        """Return one of its alerts."""
        return next((alert for alert in self.alerts if alert.record.event_id == event_id), None)

    def changes(self) -> Mapping[UUID, Change]:
        """Return for each map what changed from the one before; before a combined one is the wave's of its alert."""
        found: dict[UUID, Change] = {}
        before: MapLine | None = None
        for line in self.maps:
            if before is not None:
                found[line.event_id] = Change(before, line)
            if line.map_kind is not MapKind.COMBINED:
                before = line
        return found


@dataclass(frozen=True)
class Change:
    """From a map to the next."""

    old: MapLine
    new: MapLine

    @property
    def is_none(self) -> bool:
        """Whether both are the same map."""
        return self.old.skymap.canonical.sha256 == self.new.skymap.canonical.sha256

    @property
    def shift_deg(self) -> float:
        """How far the most probable position moved."""
        old, new = self.old.skymap, self.new.skymap
        places = (radians(angle) for angle in (old.ra_deg, old.dec_deg, new.ra_deg, new.dec_deg))
        return degrees(float(angular_separation(*places)))

    @property
    def area_90_factor(self) -> float | None:
        """The 90 % area over that before."""
        old = self.old.skymap.area_90_deg2
        return self.new.skymap.area_90_deg2 / old if old > 0 else None


async def read_superevent(pool: asyncpg.Pool, superevent_id: str) -> Superevent | None:
    """Return a superevent, None for one that nobody told of."""
    async with borrowed(pool) as connection:
        with translated_errors():
            line = await connection.fetchrow(_SUPEREVENT, superevent_id)
            if line is None:
                return None
            alerts = await connection.fetch(_ALERTS, superevent_id)
            maps = [_map_line(row) for row in await connection.fetch(_MAPS, superevent_id)]
    return Superevent(
        superevent_id=line["superevent_id"],
        kind=line["kind"],
        state=line["state"],
        alert_type=line["alert_type"],
        updated_at=line["updated_at"],
        alerts=[
            AlertLine(
                record=GwAlert.model_validate_json(row["record"]),
                sources=row["sources"],
                is_current=row["event_id"] == line["current_event_id"],
                maps=sorted(
                    (each for each in maps if each.alert_event_id == row["event_id"]),
                    key=lambda each: each.map_kind is MapKind.COMBINED,
                ),
            )
            for row in alerts
        ],
    )


def _map_line(row: asyncpg.Record) -> MapLine:
    return MapLine(
        event_id=row["event_id"],
        alert_event_id=row["alert_event_id"],
        map_kind=MapKind(row["map_kind"]),
        state=row["state"],
        is_current=row["is_current"],
        processed_at=row["processed_at"],
        skymap=Skymap.model_validate_json(row["skymap"]),
        picture=None if row["picture"] is None else BlobRef.model_validate_json(row["picture"]),
    )


@dataclass(frozen=True)
class Answer(Generic[R]):
    """What was computed, None while that is coming, or where it cannot be."""

    value: R | None
    is_coming: bool


class MapComparisons:
    """Compares maps in other processes, each pair once: a map is known by its content."""

    def __init__(self, compute: ComputePool, blobs: BlobStore) -> None:
        self._compute = compute
        self._blobs = blobs
        self._tasks: OrderedDict[tuple[str, str], asyncio.Task[Agreement]] = OrderedDict()

    async def agreements(self, changes: Mapping[UUID, Change]) -> Mapping[UUID, Answer[Agreement]]:
        """Return how much maps agree with those before, but for those that are the same."""
        tasks = {event_id: self._task(change) for event_id, change in changes.items() if not change.is_none}
        waiting = [task for task in tasks.values() if not task.done()]
        if waiting:
            await asyncio.wait(waiting, timeout=PATIENCE_S)
        return {event_id: _answer(task) for event_id, task in tasks.items()}

    def _task(self, change: Change) -> asyncio.Task[Agreement]:
        old, new = change.old.skymap.canonical, change.new.skymap.canonical
        key = old.sha256, new.sha256
        task = self._tasks.get(key)
        if task is None:
            task = self._tasks[key] = asyncio.create_task(self._compute.run(compare, self._blobs, old, new))
            task.add_done_callback(lambda done: self._forget_failed(key, done))
            while len(self._tasks) > KEPT_RESULTS:
                self._tasks.popitem(last=False)
        self._tasks.move_to_end(key)
        return task

    def _forget_failed(self, key: tuple[str, str], task: asyncio.Task[Agreement]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            # Asked again, it is tried again: a map that is not in the store today may be there tomorrow.
            log.warning("superevent.map_not_read", reason=str(error))
        if task.cancelled() or error is not None:
            self._tasks.pop(key, None)


async def soon(computing: Awaitable[R]) -> Answer[R]:
    """Return what is computed if it comes soon; it goes on being computed if not."""
    try:
        return Answer(await asyncio.wait_for(computing, PATIENCE_S), is_coming=False)
    except TimeoutError:
        return Answer(None, is_coming=True)


def _answer(task: asyncio.Task[R]) -> Answer[R]:
    if not task.done():
        return Answer(None, is_coming=True)
    return Answer(None if task.cancelled() or task.exception() else task.result(), is_coming=False)
