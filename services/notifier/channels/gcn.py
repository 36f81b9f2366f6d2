"""Notices in NASA GCN's unified schema, on our own topics or at GCN, read back before they count as told."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal, Protocol, Self
from uuid import UUID

import structlog
from confluent_kafka import KafkaError, KafkaException, Producer
from pydantic import Field, SecretStr, model_validator

from services.notifier.channels.channel import Answer, Job, Prepared, UncertainError
from services.notifier.channels.common import CommonSettings
from services.notifier.channels.gcn_notice import burst_notice, coincidence_notice
from services.notifier.channels.records import is_news
from services.notifier.channels.tools import Tools
from services.notifier.happenings import Happening
from shared.blobs.store import BlobStore
from shared.errors import InvalidInputError, PermanentError
from shared.events.blob import BlobRef
from shared.events.frb import FrbEvent
from shared.events.ids import event_id
from shared.events.mma import Coincidence
from shared.events.notices import ChannelMode
from shared.kafka.errors import BrokerRefusedError, ClientFailedError, broker_error
from shared.kafka.gcn import gcn_client_config
from shared.kafka.message import FORMAT_HEADER, ID_HEADER, SENDER_HEADER, TEST_HEADER, Message, OutgoingMessage
from shared.kafka.reading import offsets_since, read, read_one
from shared.settings import MAX_MESSAGE_BYTES

SENDER = "tocsin.notifier"
CLOCK_SLACK = timedelta(minutes=10)
# Records are stamped by the sender's clock, decisions by the database's.
PURGE_S = 1.0
# How long the client may take to say what became of a message that is given up.

_NOT_TAKEN = frozenset(
    {KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION, KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._QUEUE_FULL}
)


log = structlog.get_logger(__name__)


class GcnSettings(CommonSettings):
    """Notices in GCN's unified schema.

    In mode SANDBOX they go to the project's own broker and say that they are tests. In mode PRODUCTION they go to
    GCN when a credential is given, and to the project's own broker otherwise; for both, have two channels.
    """

    kind: Literal["gcn"] = "gcn"
    client_id: str | None = Field(None, description="Of a credential of GCN that may produce to the topics.")
    client_secret: SecretStr | None = Field(None, description="Its secret.")
    domain: str = Field("gcn.nasa.gov", description="Also test.gcn.nasa.gov and dev.gcn.nasa.gov.")
    ssl_ca_location: Path | None = Field(None, description="PEM file of the authorities; default: certifi's.")
    burst_topic: str = Field("gcn.notices.tocsin.frb", description="Where bursts go.")
    coincidence_topic: str = Field("gcn.notices.tocsin.coincidence", description="Where coincidences go.")
    mission: str | None = Field(None, description="Who reports; default: notifier.observatory.")
    public_blobs_url: str | None = Field(
        None, description="Where the blob store is served to everybody; without it no notice names a sky map there."
    )

    @model_validator(mode="after")
    def _credential_is_complete(self) -> Self:
        if (self.client_id is None) != (self.client_secret is None):
            raise InvalidInputError("client_id", "alone", "client_id and client_secret, or neither")
        return self


@dataclass(frozen=True)
class Place:
    """Where a broker keeps a message."""

    partition: int
    offset: int


class Broker(Protocol):
    """A Kafka as this channel sees it. Calls block."""

    def connect(self) -> None:
        """Get ready for the first message, if the broker is there."""
        ...

    def produce(self, message: OutgoingMessage) -> Place:
        """Send a message; return where the broker put it."""
        ...

    def at(self, topic: str, place: Place) -> Message | None:
        """Return what is at a place; None when there is nothing, or not any more."""
        ...

    def find(self, topic: str, message_id: bytes, *, since: datetime) -> Message | None:
        """Return the message with that id among those since a time."""
        ...


class KafkaBroker:
    """A broker, by librdkafka settings that reach it."""

    def __init__(self, client: dict[str, Any], *, timeout_s: float) -> None:
        self._client = client
        # The caller gives up after timeout_s; by then it must be certain that nothing leaves any more.
        self._patience_s = max(timeout_s - 2 * PURGE_S, timeout_s / 2)
        self._producer: Producer | None = None

    def connect(self) -> None:
        """Get ready for the first message, which would otherwise wait a second for it."""
        producer = self._open()
        try:
            producer.list_topics(timeout=self._patience_s)
        except KafkaException as exception:
            log.warning("gcn.broker.away", reason=str(broker_error(exception.args[0], "connecting")))
        else:
            self._producer = producer

    def produce(self, message: OutgoingMessage) -> Place:
        """Send a message; return where the broker put it.

        Raises
        ------
        UncertainError
            No acknowledgement came; the broker may have it or not, but will not get it later.
        BrokerUnavailableError, BrokerRefusedError
            The broker does not have it.
        """
        producer, self._producer = self._producer or self._open(), None
        reports: list[tuple[KafkaError | None, Any]] = []
        try:
            producer.produce(
                message.topic,
                value=message.value,
                key=message.key,
                headers=list(message.headers),
                on_delivery=lambda error, sent: reports.append((error, sent)),
            )
        except KafkaException as exception:
            raise broker_error(exception.args[0], f"sending to {message.topic}") from exception
        producer.flush(self._patience_s)
        if not reports:
            producer.purge()
            producer.flush(PURGE_S)
        error, sent = reports[0] if reports else (None, None)
        if sent is None or error is not None:
            # The client goes with its connections: what it still held is never sent.
            raise _failure(error, message.topic)
        self._producer = producer
        return Place(sent.partition(), sent.offset())

    def at(self, topic: str, place: Place) -> Message | None:
        return read_one(self._client, topic, place.partition, offset=place.offset)

    def find(self, topic: str, message_id: bytes, *, since: datetime) -> Message | None:
        begin = offsets_since(self._client, topic, since)
        return next(
            (found for found in read(self._client, topic, start=begin) if found.header(ID_HEADER) == message_id), None
        )

    def _open(self) -> Producer:
        config = self._client | {
            "enable.idempotence": True,
            "acks": "all",
            "linger.ms": 0,
            "message.max.bytes": MAX_MESSAGE_BYTES,
            "message.timeout.ms": 0,  # given up by us, at a time that we know
        }
        return Producer(config, logger=logging.getLogger("librdkafka.producer"))


def _failure(error: KafkaError | None, topic: str) -> Exception:
    if error is None:
        return UncertainError(f"{topic}: no acknowledgement came")
    failure = broker_error(error, f"sending to {topic}")
    is_certain = isinstance(failure, BrokerRefusedError) or error.code() in _NOT_TAKEN
    return failure if is_certain and not isinstance(failure, ClientFailedError) else UncertainError(str(failure))


class GcnChannel:
    """Tells bursts and coincidences as GCN does, one after the other: its topics are a log."""

    kind = "gcn"
    replaces = False
    gathers = False

    def __init__(
        self, settings: GcnSettings, *, own: Broker, gcn: Broker | None, blobs: BlobStore, observatory: str
    ) -> None:
        self.name = settings.name
        self._settings = settings
        self._own = own
        self._gcn = gcn
        self._blobs = blobs
        self._mission = settings.mission or observatory

    def wants(self, happening: Happening, *, told_before: bool) -> bool:  # noqa: ARG002
        record = happening.record
        return is_news(record) if isinstance(record, FrbEvent) else isinstance(record, Coincidence)

    def prepare(self, job: Job) -> Prepared | None:
        record = job.happening.record
        is_test = job.happening.is_test or job.mode is ChannelMode.SANDBOX
        common = {
            "id": event_id("gcn", self.name, job.happening.subject, str(job.revision), str(record.event_id)).hex,
            "since": (job.decided_at - CLOCK_SLACK).isoformat(),
            "is_test": is_test,
        }
        if isinstance(record, FrbEvent):
            notice = burst_notice(
                record, action=job.action, number=job.revision, mission=self._mission, is_test=is_test
            )
            # As text: a database that keeps JSON may write numbers in another way.
            told: dict[str, Any] = {
                "topic": self._settings.burst_topic,
                "key": record.internal_name,
                "notice": notice.decode(),
            }
        elif isinstance(record, Coincidence) and record.gcn_notice is not None:
            told = {
                "topic": self._settings.coincidence_topic,
                "key": record.coincidence_id,
                "blob": record.gcn_notice.model_dump(),
                "blobs_url": self._settings.public_blobs_url,
            }
        else:
            return None
        return Prepared(common | told)

    async def send(self, prepared: Prepared, *, mode: ChannelMode) -> Answer:
        request = prepared.request
        content = await asyncio.to_thread(self._content, request)
        headers = [
            (FORMAT_HEADER, b"json"),
            (ID_HEADER, UUID(request["id"]).bytes),
            (SENDER_HEADER, SENDER.encode()),
            *([(TEST_HEADER, b"true")] if request["is_test"] else []),
        ]
        message = OutgoingMessage(request["topic"], request["key"].encode(), content, headers)
        place = await asyncio.to_thread(self._broker(mode).produce, message)
        return _answer(request, place, content)

    async def confirm(self, prepared: Prepared, answer: Answer, *, mode: ChannelMode) -> Answer:
        """Read the notice back and compare it, byte by byte, with what it was made from.

        Raises
        ------
        PermanentError
            The broker holds something else there.
        """
        request = prepared.request
        place = Place(answer.answer["partition"], answer.answer["offset"])
        found = await asyncio.to_thread(self._broker(mode).at, request["topic"], place)
        if found is None:
            return Answer(answer.reference, answer.answer | {"compared": "the broker does not hold it any more"})
        content = await asyncio.to_thread(self._content, request)
        if found.value != content or found.header(ID_HEADER) != UUID(request["id"]).bytes:
            digest = hashlib.sha256(found.value).hexdigest()
            raise PermanentError(
                f"{answer.reference} holds {len(found.value)} bytes with sha256 {digest}, not what was sent"
            )
        told = {"compared": "equal", "broker_time": found.timestamp.isoformat() if found.timestamp else ""}
        return Answer(answer.reference, answer.answer | told, is_confirmed=True)

    async def check(self, prepared: Prepared, *, mode: ChannelMode) -> Answer | None:
        request = prepared.request
        since = datetime.fromisoformat(request["since"])
        found = await asyncio.to_thread(
            self._broker(mode).find, request["topic"], UUID(request["id"]).bytes, since=since
        )
        return None if found is None else _answer(request, Place(found.partition, found.offset), found.value)

    async def run(self) -> None:
        """Connect before the first notice is due."""
        if self._settings.mode in (ChannelMode.SANDBOX, ChannelMode.PRODUCTION):
            await asyncio.to_thread(self._broker(self._settings.mode).connect)

    def _broker(self, mode: ChannelMode) -> Broker:
        return self._gcn if self._gcn is not None and mode is ChannelMode.PRODUCTION else self._own

    def _content(self, request: dict[str, Any]) -> bytes:
        if "notice" in request:
            return str(request["notice"]).encode()
        content = self._blobs.get(BlobRef.model_validate(request["blob"]))
        return coincidence_notice(content, is_test=request["is_test"], blobs_url=request["blobs_url"])


def open_gcn(settings: GcnSettings, tools: Tools) -> GcnChannel:
    """Return the channel."""
    gcn = None
    if settings.client_id is not None and settings.client_secret is not None:
        client = gcn_client_config(
            settings.client_id, settings.client_secret, domain=settings.domain, ssl_ca_location=settings.ssl_ca_location
        )
        gcn = KafkaBroker(client, timeout_s=settings.timeout_s)
    own = KafkaBroker(tools.kafka.client_config(), timeout_s=settings.timeout_s)
    return GcnChannel(settings, own=own, gcn=gcn, blobs=tools.blobs, observatory=tools.observatory)


def _answer(request: dict[str, Any], place: Place, content: bytes) -> Answer:
    return Answer(
        f"{request['topic']}/{place.partition}/{place.offset}",
        {
            "partition": place.partition,
            "offset": place.offset,
            "size": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
        },
        ask_again_s=0.0,
    )
