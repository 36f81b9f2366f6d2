"""Sources become subscriptions; messages become notices, their bytes kept first."""

import contextlib
import hashlib
from pathlib import Path
from typing import Any, cast

import asyncpg
import pytest
from pydantic import TypeAdapter, ValidationError

from services.frb_intake.feeds.gcn import CHIME_TOPIC, DSA_110_TOPIC
from services.frb_intake.feeds.notice import ReceivedNotice
from services.frb_intake.feeds.sources import (
    OWN_TOPICS,
    FrbSource,
    GcnSource,
    KafkaSource,
    VoeventSource,
)
from services.frb_intake.feeds.subscriptions import NoticeReceiver, read_notice, subscriptions, topic_of
from services.frb_intake.feeds.voevent import VOEVENT_TOPIC
from services.frb_intake.feeds.vtp import VtpFeed
from shared.blobs.store import BlobStore, FolderBlobs
from shared.db.unit_of_work import UnitOfWork
from shared.errors import InvalidInputError
from shared.inbox.files import FileFeed
from shared.inbox.heartbeats import Heartbeats
from shared.inbox.sources import FilesSource
from shared.inbox.subscription import Received, Subscription
from shared.kafka.message import Message
from shared.schema.topics import dead_letter_topics, load_topics
from shared.settings import KafkaSettings
from tests.support.data import SAMPLES
from tests.support.voevents import a_packet

SOURCES: TypeAdapter[Any] = TypeAdapter(FrbSource)
NOTICE = (SAMPLES / "gcn" / "chime-frb-detection.json").read_bytes()
OF_DSA_110 = (SAMPLES / "gcn" / "dsa110-frb-detection.json").read_bytes()


def source(**fields: Any) -> Any:
    return SOURCES.validate_python(fields)


@pytest.fixture
def blobs(tmp_path: Path) -> FolderBlobs:
    return FolderBlobs(tmp_path, max_bytes=10**9)


def kept(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in tmp_path.rglob("*") if path.is_file())


def a_message(value: bytes, topic: str = CHIME_TOPIC, headers: tuple[tuple[str, bytes], ...] = ()) -> Message:
    return Message(topic, 0, 7, None, value, headers)


async def receive(blobs: BlobStore, message: Message, **how: Any) -> Received[ReceivedNotice] | None:
    heartbeats = Heartbeats("frb_intake")
    return await NoticeReceiver("trial", blobs=blobs, heartbeats=heartbeats, **how)(message)


async def test_a_notice_comes_with_its_bytes_its_source_and_its_identity(blobs: FolderBlobs) -> None:
    received = await receive(blobs, a_message(NOTICE))

    assert received is not None
    assert (received.event.source, received.event.topic) == ("trial", CHIME_TOPIC)
    assert received.event_id == received.event.notice.notice_id
    assert blobs.get(received.event.raw) == NOTICE
    assert received.event.raw.media_type == "application/json"


async def test_a_packet_is_told_from_a_notice_by_its_bytes(blobs: FolderBlobs) -> None:
    received = await receive(blobs, a_message(a_packet()))

    assert received is not None
    assert received.event.notice.origin == "org.example"
    assert received.event.raw.media_type == "application/voevent+xml"


@pytest.mark.parametrize("data", [a_packet(params={"TrigID": "1"}), b"dear observatory", b"", NOTICE[:-9]])
async def test_what_cannot_be_read_or_is_about_something_else_is_kept_all_the_same(
    blobs: FolderBlobs, tmp_path: Path, data: bytes
) -> None:
    with contextlib.suppress(InvalidInputError):
        assert await receive(blobs, a_message(data)) is None
    assert kept(tmp_path) == [hashlib.sha256(data).hexdigest()]


async def test_a_message_marked_as_a_test_is_one(blobs: FolderBlobs) -> None:
    received = await receive(blobs, a_message(NOTICE, headers=(("_test", b"true"),)))

    assert received is not None
    assert received.event.notice.is_test


async def test_a_heartbeat_is_no_notice_and_not_kept(blobs: FolderBlobs, tmp_path: Path) -> None:
    assert await receive(blobs, a_message(b"{}", "gcn.heartbeat"), heartbeat_topics=["gcn.heartbeat"]) is None
    assert kept(tmp_path) == []


@pytest.mark.parametrize(
    ("data", "topic"),
    [
        (NOTICE, CHIME_TOPIC),
        (OF_DSA_110, DSA_110_TOPIC),
        (a_packet(), VOEVENT_TOPIC),
        (b"\xef\xbb\xbf" + a_packet(), VOEVENT_TOPIC),
        (a_packet().decode().replace("UTF-8", "UTF-16").encode("utf-16"), VOEVENT_TOPIC),
        (b"", CHIME_TOPIC),
        (b"dear observatory", CHIME_TOPIC),
    ],
    ids=["chime", "dsa110", "voevent", "voevent with a mark", "voevent in UTF-16", "nothing", "text"],
)
def test_the_bytes_tell_the_topic(data: bytes, topic: str) -> None:
    assert topic_of(data) == topic


def test_a_packet_in_utf_16_is_read() -> None:
    data = a_packet().decode().replace("UTF-8", "UTF-16").encode("utf-16")

    assert read_notice(data) is not None


# Sources


def test_the_type_tells_the_kind_of_source() -> None:
    kinds = [
        source(type="gcn", client_id="id", client_secret="secret"),
        source(type="kafka"),
        source(type="files", paths=["notices"]),
        source(type="voevent", host="broker.example.org"),
    ]

    assert [type(one) for one in kinds] == [GcnSource, KafkaSource, FilesSource, VoeventSource]
    assert kinds[0].topics == (CHIME_TOPIC, DSA_110_TOPIC)
    assert kinds[3].port == 8099


@pytest.mark.parametrize(
    "fields", [{"type": "scimma"}, {"type": "voevent"}, {"type": "voevent", "host": "b", "port": 0}, {"type": "gcn"}]
)
def test_a_source_that_lacks_something_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        source(**fields)


async def subscribed(blobs: BlobStore, *sources: Any, own: bool = False) -> dict[str, Subscription[ReceivedNotice]]:
    async def handle(received: ReceivedNotice, work: UnitOfWork) -> None: ...

    found = subscriptions(
        sources,
        own=KafkaSettings() if own else None,
        pool=cast(asyncpg.Pool, None),
        blobs=blobs,
        heartbeats=Heartbeats("frb_intake"),
        handle=handle,
    )
    return {subscription.name: subscription for subscription in found}


async def test_each_source_has_its_own_subscription(blobs: FolderBlobs) -> None:
    found = await subscribed(
        blobs,
        source(type="gcn", client_id="id", client_secret="secret"),
        source(type="files", paths=["notices"]),
        source(type="voevent", host="broker.example.org"),
        own=True,
    )

    assert list(found) == ["frb_intake.gcn", "frb_intake.files", "frb_intake.voevent", "frb_intake.local"]
    assert found["frb_intake.gcn"].topics == [CHIME_TOPIC, DSA_110_TOPIC, "gcn.heartbeat"]
    assert isinstance(found["frb_intake.files"].feed, FileFeed)
    assert isinstance(found["frb_intake.voevent"].feed, VtpFeed)
    local = found["frb_intake.local"]
    assert (local.topics, local.group, local.feed) == (list(OWN_TOPICS), "frb_intake", None)


async def test_the_own_broker_is_left_alone_when_told_so(blobs: FolderBlobs) -> None:
    assert await subscribed(blobs) == {}


async def test_every_dead_letter_has_a_topic_on_our_own_broker(blobs: FolderBlobs) -> None:
    found = await subscribed(
        blobs, source(type="kafka", topics=["bursts.of.others"]), source(type="voevent", host="b"), own=True
    )
    known = {topic.name for topic in dead_letter_topics()}

    for subscription in found.values():
        assert set(subscription.topics) <= set(subscription.dead_letter_topics)
        assert set(subscription.dead_letter_topics.values()) <= known


def test_our_own_topics_of_notices_are_those_that_we_say_we_read() -> None:
    # Notices come as they are; what has a record of ours is no notice.
    read = {topic.name for topic in load_topics() if "frb_intake" in topic.consumers and topic.record is None}
    assert set(OWN_TOPICS) == read
