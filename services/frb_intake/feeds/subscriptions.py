"""One subscription per source of notices, all with one handler."""

import asyncio
import codecs
from collections.abc import Awaitable, Callable, Sequence

import asyncpg

from services.frb_intake.feeds.gcn import CHIME_TOPIC, MAX_NOTICE_BYTES, read_gcn, topic_of_notice
from services.frb_intake.feeds.notice import FrbNotice, ReceivedNotice
from services.frb_intake.feeds.sources import (
    OWN_SOURCE,
    OWN_TOPICS,
    FrbSource,
    GcnSource,
    KafkaSource,
    VoeventSource,
)
from services.frb_intake.feeds.voevent import VOEVENT_TOPIC, read_voevent
from services.frb_intake.feeds.vtp import VtpFeed
from services.frb_intake.settings import NAME
from shared.blobs.store import BlobStore
from shared.db.unit_of_work import UnitOfWork
from shared.inbox.files import FileFeed
from shared.inbox.heartbeats import Heartbeats
from shared.inbox.sources import FilesSource
from shared.inbox.subscription import Received, Subscription
from shared.kafka.message import Message
from shared.schema.topics import dead_letter_topic
from shared.settings import KafkaSettings

FILE_SUFFIXES = (".json", ".xml")

_XML = "application/voevent+xml"
_JSON = "application/json"

Handle = Callable[[ReceivedNotice, UnitOfWork], Awaitable[None]]


def subscriptions(
    sources: Sequence[FrbSource],
    *,
    own: KafkaSettings | None,
    pool: asyncpg.Pool,
    blobs: BlobStore,
    heartbeats: Heartbeats,
    handle: Handle,
) -> list[Subscription[ReceivedNotice]]:
    """Return what the service reads.

    Parameters
    ----------
    own
        The project's own broker, whose topics of notices are read as well; None to leave them.
    handle
        Carries out one notice. The same notice may come to it from each source that brings it.
    """
    build = _Builder(pool, blobs, heartbeats, handle)
    found = [build.subscription(source) for source in sources]
    if own is not None:
        local = KafkaSource(name=OWN_SOURCE, broker=own, group_id=NAME, group_protocol=own.group_protocol)
        found.append(build.subscription(local))
    return found


def read_notice(data: bytes, *, topic: str | None = None, marked_test: bool = False) -> FrbNotice | None:
    """Read a notice, VOEvent or GCN's JSON by its bytes; None when it is not about a burst.

    Raises
    ------
    InvalidInputError
        As `read_voevent` and `read_gcn`.
    """
    if is_xml(data):
        return read_voevent(data, marked_test=marked_test)
    return read_gcn(data, topic=topic, marked_test=marked_test)


def is_xml(data: bytes) -> bool:
    """Whether a notice is XML by how it begins."""
    return data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or _beginning(data) == b"<"


def topic_of(data: bytes) -> str:
    """Return the topic of our own broker on which such a notice belongs; CHIME's when there is no telling."""
    return VOEVENT_TOPIC if is_xml(data) else topic_of_notice(data) or CHIME_TOPIC


def _beginning(data: bytes) -> bytes:
    return data[:64].removeprefix(codecs.BOM_UTF8).lstrip()[:1]


class NoticeReceiver:
    """Turns a source's messages into notices; the bytes are kept before they are read."""

    def __init__(
        self, source: str, *, blobs: BlobStore, heartbeats: Heartbeats, heartbeat_topics: Sequence[str] = ()
    ) -> None:
        self._source = source
        self._blobs = blobs
        self._heartbeats = heartbeats
        self._heartbeat_topics = heartbeat_topics

    async def __call__(self, message: Message) -> Received[ReceivedNotice] | None:
        if message.topic in self._heartbeat_topics:
            self._heartbeats.beat(self._source)
            return None
        self._heartbeats.message(self._source)
        media_type = _XML if is_xml(message.value) else _JSON
        # Before reading: what cannot be read today can be read again tomorrow, from the same bytes.
        raw = await asyncio.to_thread(self._blobs.put, message.value, media_type)
        notice = read_notice(message.value, topic=message.topic, marked_test=message.is_test)
        if notice is None:
            return None
        return Received(notice.notice_id, ReceivedNotice(notice, raw, self._source, message.topic))


class _Builder:
    def __init__(self, pool: asyncpg.Pool, blobs: BlobStore, heartbeats: Heartbeats, handle: Handle) -> None:
        self._pool = pool
        self._blobs = blobs
        self._heartbeats = heartbeats
        self._handle = handle

    def subscription(self, source: FrbSource) -> Subscription[ReceivedNotice]:
        name, heartbeats = source.name, self._heartbeats
        heartbeats.expect(name)

        def alive() -> None:
            heartbeats.beat(name)

        consumer = heartbeats.consumer_name(name)
        match source:
            case GcnSource() | KafkaSource():
                receiver = NoticeReceiver(
                    name, blobs=self._blobs, heartbeats=heartbeats, heartbeat_topics=source.heartbeat_topics
                )
                topics = [*source.topics, *source.heartbeat_topics]
                return Subscription(
                    name=consumer,
                    topics=topics,
                    receive=receiver,
                    handle=self._handle,
                    dead_letter_topics=_dead_letters(topics),
                    group=source.group_id,
                    client=source.client_config(),
                    start_at=source.start_at,
                    group_protocol=source.group_protocol,
                    is_outside=name != OWN_SOURCE,
                )
            case FilesSource():
                feed: FileFeed | VtpFeed = FileFeed(
                    source,
                    self._pool,
                    suffixes=FILE_SUFFIXES,
                    topic_of=topic_of,
                    max_bytes=MAX_NOTICE_BYTES,
                    looked=alive,
                )
            case VoeventSource():
                feed = VtpFeed(source, heard=alive)
        return Subscription(
            name=consumer,
            topics=OWN_TOPICS if isinstance(source, FilesSource) else (VOEVENT_TOPIC,),
            receive=NoticeReceiver(name, blobs=self._blobs, heartbeats=heartbeats),
            handle=self._handle,
            dead_letter_topics=_dead_letters(OWN_TOPICS),
            group=NAME,
            feed=feed,
            is_outside=True,
        )


def _dead_letters(topics: Sequence[str]) -> dict[str, str]:
    """Say where dead letters go: on our own broker, whatever a source calls its topics."""
    return {topic: dead_letter_topic(topic if topic in OWN_TOPICS else CHIME_TOPIC, NAME) for topic in topics}
