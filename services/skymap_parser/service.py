"""Puts skymap_parser together: one consumer that announces maps, one that makes them searchable."""

from services.skymap_parser.handlers import TOPIC, IndexHandler, SkymapHandler
from services.skymap_parser.settings import NAME, SkymapParserSettings
from services.skymap_parser.worker import SearchableMap, make_product, make_searchable
from shared.events.blob import BlobRef
from shared.events.gw import Skymap
from shared.inbox.subscription import Subscription
from shared.runner import Runtime, Service, ServiceDefinition
from shared.schema.topics import dead_letter_topic

ALERTS = "gw.alerts"
INDEX = f"{NAME}.index"


def define(settings: SkymapParserSettings) -> ServiceDefinition:
    """Return the service for these settings."""
    return ServiceDefinition(
        name=NAME,
        build=lambda runtime: _build(settings, runtime),
        preload=("services.skymap_parser.worker",),
    )


def _build(settings: SkymapParserSettings, runtime: Runtime) -> Service:
    async def product(source: BlobRef) -> Skymap:
        return await runtime.compute.run(make_product, settings.blobs, source)

    async def searchable(canonical: BlobRef, title: str) -> SearchableMap:
        wanted = title if settings.skymap_parser.pictures else None
        return await runtime.background.run(make_searchable, settings.blobs, canonical, wanted)

    maps = SkymapHandler(make_product=product, sender=f"tocsin.{NAME}")
    index = IndexHandler(make_searchable=searchable)
    return Service(
        subscriptions=[
            Subscription(
                name=NAME,
                topics=[ALERTS],
                receive=maps.receive,
                handle=maps.on_alert,
                dead_letter_topics={ALERTS: dead_letter_topic(ALERTS, NAME)},
                group=NAME,
                batch_size=1,
            ),
            Subscription(
                name=INDEX,
                topics=[TOPIC],
                receive=index.receive,
                handle=index.on_map,
                dead_letter_topics={TOPIC: dead_letter_topic(TOPIC, NAME)},
                group=NAME,
                batch_size=1,
            ),
        ]
    )
