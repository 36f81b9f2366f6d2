"""Waves, maps and bursts as records, and the handler of coincidences without a broker around it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import asyncpg
import numpy as np

from services.coincidence import worker
from services.coincidence.cells import Comparison
from services.coincidence.handlers import CoincidenceHandler, Compute
from services.coincidence.settings import CoincidenceSection
from shared.blobs.store import open_store
from shared.db.unit_of_work import unit_of_work
from shared.events.blob import BlobRef
from shared.events.frb import (
    FrbChange,
    FrbDmBudget,
    FrbEvent,
    FrbLocalisation,
    FrbMeasurement,
    FrbStatus,
    FrbVotes,
)
from shared.events.gw import (
    AlertType,
    GwAlert,
    GwEvent,
    GwSkymap,
    MapKind,
    RawFormat,
    Skymap,
    SkymapState,
    SupereventKind,
    SupereventState,
)
from shared.events.ids import event_id
from shared.events.mma import Coincidence
from shared.events.record import Event
from shared.kafka.message import Message
from shared.schema.codec import encode
from shared.settings import BlobSettings
from shared.sky.gaussian import localisation_map
from shared.sky.localisation import Ellipse
from shared.sky.skymap import SkyMap, write_skymap

MERGER = datetime(2026, 11, 21, 3, 4, 5, 678000, tzinfo=UTC)
POSITION = (197.45, -23.38)
NOWHERE = BlobRef(uri="file:///nowhere", sha256="0" * 64, size=0, media_type="application/octet-stream")


def an_alert(
    stage: AlertType = AlertType.PRELIMINARY,
    *,
    superevent_id: str = "S261121ab",
    minute: int = 0,
    state: SupereventState = SupereventState.OPEN,
    **event: Any,
) -> GwAlert:
    """What gw_listener tells: a confident merger, or its retraction."""
    created = MERGER + timedelta(minutes=1 + minute)
    of_event = {
        "time": MERGER, "far_hz": 1e-10, "significant": True, "instruments": ("H1", "L1"), "group": "CBC",
        "pipeline": "gstlal", "search": "AllSky", "classification": {"BNS": 0.95, "Terrestrial": 0.05},
        "properties": {},
    } | event  # fmt: skip
    retraction = stage is AlertType.RETRACTION
    return GwAlert(
        event_id=event_id("test alert", superevent_id, stage, str(minute), repr(sorted(event.items()))),
        superevent_id=superevent_id,
        kind=SupereventKind.MOCK if superevent_id.startswith("M") else SupereventKind.REAL,
        is_test=superevent_id.startswith("M"),
        alert_type=stage,
        time_created=created,
        received_at=created,
        source="test",
        sequence=1,
        is_current=True,
        superevent_state=SupereventState.RETRACTED if retraction else state,
        urls={},
        event=None if retraction else GwEvent(**of_event),
        raw=NOWHERE,
        raw_format=RawFormat.AVRO,
        upstream_schema="1.0",
    )


@cache
def a_wave_map(
    *, ra_deg: float = POSITION[0], dec_deg: float = POSITION[1], error_deg: float = 5.0, mpc: float | None = 150.0
) -> SkyMap:
    """A round sky map, with a distance unless that is None."""
    skymap = localisation_map(Ellipse(ra_deg, dec_deg, error_deg, error_deg, 0.0, 0.3934693402873666))
    if mpc is None:
        return skymap
    column = np.ones(len(skymap.start))
    return SkyMap(
        start=skymap.start, order=skymap.order, probdensity=skymap.probdensity,
        distmu=mpc * column, distsigma=0.3 * mpc * column, distnorm=column / mpc**2,
    )  # fmt: skip


def a_skymap_record(
    alert: GwAlert, skymap: SkyMap | None, *, blobs: BlobSettings, kind: MapKind = MapKind.GW
) -> GwSkymap:
    """What skymap_parser tells of an alert's map, or, without one, that it no longer holds."""
    part = None
    if skymap is not None:
        canonical = open_store(blobs).put(write_skymap(skymap), "application/fits")
        part = Skymap(
            source=canonical, canonical=canonical, ra_deg=0, dec_deg=0, max_probdensity_per_sr=1, area_50_deg2=1,
            area_90_deg2=1, moc_50=NOWHERE, moc_90=NOWHERE, min_order=0, max_order=11, n_pixels=1, total_probability=1,
            sky_coverage=1, has_distance=skymap.distmu is not None, instruments=(), notes=(),
        )  # fmt: skip
    return GwSkymap(
        event_id=event_id("test map", str(alert.event_id), kind),
        superevent_id=alert.superevent_id,
        kind=alert.kind,
        is_test=alert.is_test,
        alert_event_id=alert.event_id,
        alert_type=alert.alert_type,
        alert_time_created=alert.time_created,
        is_current=True,
        state=SkymapState.AVAILABLE if skymap is not None else SkymapState.WITHDRAWN,
        map_kind=kind,
        processed_at=alert.time_created,
        method_version="1",
        event_time=alert.event.time if alert.event else None,
        skymap=part,
    )


def a_burst_record(
    *,
    frb_id: int = 7,
    revision: int = 1,
    offset_s: float = 3.0,
    position: tuple[float, float] | None = POSITION,
    error_deg: float = 0.16,
    status: FrbStatus = FrbStatus.CANDIDATE,
    dm_excess_pc_cm3: float | None = 60.0,
    is_test: bool = False,
    **changes: Any,
) -> FrbEvent:
    """What frb_intake tells of a burst that comes so long after the merger."""
    time = MERGER + timedelta(seconds=offset_s)
    localisation = budget = None
    if position is not None:
        localisation = FrbLocalisation(
            ra_deg=position[0], dec_deg=position[1], semi_major_deg=error_deg, semi_minor_deg=error_deg,
            position_angle_deg=0.0, confidence_level=0.3934693402873666,
        )  # fmt: skip
    if dm_excess_pc_cm3 is not None:
        budget = FrbDmBudget(
            dm_mw_ism_pc_cm3=40, dm_mw_ism_model="NE2001", dm_mw_halo_pc_cm3=50, dm_excess_pc_cm3=dm_excess_pc_cm3,
            redshift_low=0.0, redshift_mean=0.03, redshift_high=0.06, cosmology="Planck18",
        )  # fmt: skip
    measured = FrbMeasurement(
        number=1, made_at=time, made_by="test", pipeline="test", pipeline_version="1", dm_pc_cm3=150.0,
        dm_err_pc_cm3=0.1, snr=12.0, time_of_arrival_inf=time, time_of_arrival_inf_err_s=0.01,
        localisation=localisation, dm_budget=budget,
    )  # fmt: skip
    record = FrbEvent(
        event_id=event_id("test burst", str(frb_id), str(revision)),
        frb_id=frb_id,
        internal_name=f"TEST-FRB-{frb_id}",
        origin="upload",
        submitted_by="test",
        is_test=is_test,
        revision=revision,
        change=FrbChange.CREATED if revision == 1 else FrbChange.CORRECTED,
        changed_at=time,
        changed_by="test",
        received_at=time,
        status=status,
        repeater=False,
        first=measured,
        latest=measured,
        images=(),
        votes=FrbVotes(confirm=0, reject=0, unsure=0),
    )
    return record.model_copy(update=changes)


class HandlerUnderTest:
    """The handler on a database, computing in this process."""

    def __init__(self, pool: asyncpg.Pool, folder: Path, settings: CoincidenceSection | None = None) -> None:
        self.pool = pool
        self.blobs = BlobSettings(url=str(folder))
        self.settings = settings or CoincidenceSection()

        async def read_cells(canonical: BlobRef) -> Any:
            return worker.read_cells(self.blobs, canonical)

        async def compare_all(comparisons: Sequence[Comparison]) -> Any:
            return worker.compare_all(comparisons)

        async def with_files(record: Coincidence, packed: Sequence[bytes]) -> Coincidence:
            return worker.with_files(self.blobs, record, packed, mission=self.settings.mission)

        compute = Compute(read_cells=read_cells, compare_all=compare_all, with_files=with_files)
        self.handler = CoincidenceHandler(compute=compute, settings=self.settings, sender="test")

    async def take(self, *records: Event) -> None:
        """Handle records, each as a message in a transaction of its own; one seen before is skipped."""
        for record in records:
            streams: dict[type[Event], tuple[Any, Any]] = {
                GwAlert: (self.handler.receive_alert, self.handler.on_alert),
                GwSkymap: (self.handler.receive_skymap, self.handler.on_skymap),
                FrbEvent: (self.handler.receive_burst, self.handler.on_burst),
            }
            receive, handle = streams[type(record)]
            received = await receive(a_message(record))
            async with unit_of_work(self.pool) as work:
                if await work.claim("test", [received.event_id]):
                    await handle(received.event, work)

    async def told(self) -> list[Coincidence]:
        """Everything announced so far, in order."""
        rows = await self.pool.fetch("SELECT record FROM history WHERE record IS NOT NULL ORDER BY id")
        return [Coincidence.model_validate_json(row["record"]) for row in rows]

    async def pair(self, superevent_id: str = "S261121ab", frb_id: int = 7) -> dict[str, Any] | None:
        """What came of a pair."""
        row = await self.pool.fetchrow(
            "SELECT * FROM pairs WHERE superevent_id = $1 AND frb_id = $2", superevent_id, frb_id
        )
        return None if row is None else dict(row)


def a_message(record: Event) -> Message:
    """A record as it comes from its topic."""
    return Message(topic="test", partition=0, offset=0, key=None, value=encode(record), headers=(), timestamp=None)
