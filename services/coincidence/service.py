"""Puts coincidence together: three streams, one after the other into one state."""

from collections.abc import Sequence

from services.coincidence import worker
from services.coincidence.cells import CellPart, Comparison
from services.coincidence.domain import SkyScores
from services.coincidence.handlers import CoincidenceHandler, Compute
from services.coincidence.settings import NAME, CoincidenceSettings
from services.coincidence.store import put_rules
from shared.events.blob import BlobRef
from shared.events.mma import Coincidence
from shared.inbox.subscription import Subscription
from shared.runner import Runtime, Service, ServiceDefinition
from shared.schema.topics import dead_letter_topic

ALERTS, SKYMAPS, BURSTS = "gw.alerts", "gw.skymaps", "frb.events"


def define(settings: CoincidenceSettings) -> ServiceDefinition:
    """Return the service for these settings."""
    return ServiceDefinition(
        name=NAME,
        build=lambda runtime: _build(settings, runtime),
        preload=("services.coincidence.worker",),
    )


def _build(settings: CoincidenceSettings, runtime: Runtime) -> Service:
    async def read_cells(canonical: BlobRef) -> list[CellPart]:
        return await runtime.compute.run(worker.read_cells, settings.blobs, canonical)

    async def compare_all(comparisons: Sequence[Comparison]) -> list[list[SkyScores]]:
        return await runtime.compute.run(worker.compare_all, comparisons)

    async def with_files(record: Coincidence, packed: Sequence[bytes]) -> Coincidence:
        mission = settings.coincidence.mission
        return await runtime.compute.run(worker.with_files, settings.blobs, record, packed, mission=mission)

    compute = Compute(read_cells=read_cells, compare_all=compare_all, with_files=with_files)
    handler = CoincidenceHandler(compute=compute, settings=settings.coincidence, sender=f"tocsin.{NAME}")
    streams = (
        (ALERTS, handler.receive_alert, handler.on_alert, None),
        (SKYMAPS, handler.receive_skymap, handler.on_skymap, 1),
        (BURSTS, handler.receive_burst, handler.on_burst, None),
    )
    return Service(
        subscriptions=[
            Subscription(
                name=f"{NAME}.{topic}",
                topics=[topic],
                receive=receive,
                handle=handle,
                dead_letter_topics={topic: dead_letter_topic(topic, NAME)},
                group=NAME,
                batch_size=batch_size,
            )
            for topic, receive, handle, batch_size in streams
        ],
        background=[
            lambda: runtime.compute.run(worker.warm_up),
            lambda: put_rules(runtime.pool, settings.coincidence),
        ],
    )
