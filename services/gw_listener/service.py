"""Puts gw_listener together: one subscription per source, one handler for all."""

from collections.abc import Callable
from typing import Any

import httpx

from services.gw_listener.alerts import MAX_ALERT_BYTES
from services.gw_listener.handlers import AlertHandler, AlertReceiver, Reception
from services.gw_listener.offload import OffloadStore, unwrap
from services.gw_listener.settings import NAME, OWN_SOURCE, GwListenerSettings
from services.gw_listener.sources import ALERT_TOPIC, GcnSource, KafkaSource, ScimmaSource, Source
from shared.inbox.files import FileFeed
from shared.inbox.heartbeats import Heartbeats
from shared.inbox.sources import FilesSource
from shared.inbox.subscription import Subscription
from shared.kafka.message import Message
from shared.runner import Runtime, Service, ServiceDefinition
from shared.schema.topics import dead_letter_topic

OFFLOAD_TIMEOUT_S = 30.0
ALERT_SUFFIXES = (".avro", ".json")


def define(settings: GwListenerSettings) -> ServiceDefinition:
    """Return the service for these settings."""
    return ServiceDefinition(name=NAME, build=lambda runtime: _build(settings, runtime))


def _build(settings: GwListenerSettings, runtime: Runtime) -> Service:
    handler = AlertHandler(wanted=settings.gw_listener.filter, sender=f"tocsin.{NAME}")
    own = KafkaSource(
        name=OWN_SOURCE, broker=settings.kafka, group_id=NAME, group_protocol=settings.kafka.group_protocol
    )
    heartbeats = Heartbeats(NAME)
    subscriptions = [
        _subscription(source, runtime=runtime, handler=handler, heartbeats=heartbeats)
        for source in (*settings.gw_listener.sources, *((own,) if settings.gw_listener.own_topic else ()))
    ]
    return Service(subscriptions=subscriptions, sources=heartbeats.as_json)


def _subscription(
    source: Source, *, runtime: Runtime, handler: AlertHandler, heartbeats: Heartbeats
) -> Subscription[Reception]:
    def common(unwrapper: Callable[[Message], Any], topics: list[str]) -> dict[str, Any]:
        heartbeats.expect(source.name)
        return {
            "name": heartbeats.consumer_name(source.name),
            "receive": AlertReceiver(source=source.name, blobs=runtime.blobs, unwrap=unwrapper),
            "handle": handler.on_alert,
            # Dead letters go to our own broker, whatever the source calls its topics.
            "dead_letter_topics": {topic: dead_letter_topic(ALERT_TOPIC, NAME) for topic in topics},
        }

    if isinstance(source, FilesSource):

        async def whole_file(message: Message) -> bytes:
            heartbeats.message(source.name)
            return message.value

        return Subscription(
            **common(whole_file, [ALERT_TOPIC]),
            topics=[ALERT_TOPIC],
            group=NAME,
            feed=FileFeed(
                source,
                runtime.pool,
                suffixes=ALERT_SUFFIXES,
                topic_of=lambda _: ALERT_TOPIC,
                max_bytes=MAX_ALERT_BYTES,
                looked=lambda: heartbeats.beat(source.name),
            ),
        )

    offload = None
    if isinstance(source, ScimmaSource | KafkaSource) and source.offload_hosts:
        offload = OffloadStore(httpx.AsyncClient(timeout=OFFLOAD_TIMEOUT_S), hosts=source.offload_hosts)

    async def from_kafka(message: Message) -> bytes | None:
        if message.topic in source.heartbeat_topics:
            heartbeats.beat(source.name)
            return None
        heartbeats.message(source.name)
        return await unwrap(message.value, message.headers, offload=offload)

    topics = [*source.topics, *source.heartbeat_topics]
    group, client = _membership(source)
    return Subscription(
        **common(from_kafka, topics),
        topics=topics,
        group=group,
        client=client,
        start_at=source.start_at,
        group_protocol=source.group_protocol,
    )


def _membership(source: ScimmaSource | GcnSource | KafkaSource) -> tuple[str, dict[str, Any]]:
    if isinstance(source, ScimmaSource):
        credential = source.credential()
        return source.group(credential), source.client_config(credential)
    return source.group_id, source.client_config()
