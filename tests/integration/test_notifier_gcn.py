"""Notices on a real broker: received back and compared, and after a lost acknowledgement found or certainly absent."""

import json
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import psutil
import pytest

from cli.stack.kafka import KafkaBroker as LocalKafka
from services.notifier.channels.channel import Job, Prepared, UncertainError
from services.notifier.channels.gcn import GcnChannel, GcnSettings, KafkaBroker, Place
from shared.blobs.store import FolderBlobs
from shared.errors import PermanentError, TransientError
from shared.events.blob import BlobRef
from shared.events.notices import ChannelMode
from shared.kafka.errors import BrokerRefusedError
from shared.kafka.message import OutgoingMessage
from shared.settings import MAX_MESSAGE_BYTES
from tests.support.jobs import a_job, an_example
from tests.support.runtime import a_topic, eventually, records, send

PRODUCTION = ChannelMode.PRODUCTION
BURST = "frb_event/chime-notice"


def now_decided(record: str = BURST, revision: int = 1) -> Job:
    return replace(a_job(record, revision=revision), decided_at=datetime.now(UTC))


class Fixture:
    """A channel whose notices go to one topic of a broker."""

    def __init__(self, address: str, topic: str, folder: Path, *, timeout_s: float = 10.0) -> None:
        self.address = address
        self.topic = topic
        self.blobs = FolderBlobs(folder, max_bytes=MAX_MESSAGE_BYTES)
        self.broker = KafkaBroker({"bootstrap.servers": address, "log_level": 0}, timeout_s=timeout_s)
        settings = GcnSettings(name="gcn", burst_topic=topic, coincidence_topic=topic)
        self.channel = GcnChannel(settings, own=self.broker, gcn=None, blobs=self.blobs, observatory="TOCSIN")

    def prepare(self, job: Job) -> Prepared:
        prepared = self.channel.prepare(job)
        assert prepared is not None
        return Prepared(json.loads(json.dumps(prepared.request)))

    def ids(self) -> list[bytes | None]:
        """The ids of what is on the topic."""
        return [message.header("_id") for message in records(self.address, self.topic)]


@pytest.fixture
def on(kafka_broker: LocalKafka, tmp_path: Path) -> Fixture:
    return Fixture(kafka_broker.address, a_topic(kafka_broker.address), tmp_path)


async def test_a_burst_is_told_and_confirmed(on: Fixture) -> None:
    told = on.prepare(now_decided())
    answer = await on.channel.send(told, mode=PRODUCTION)
    confirmed = await on.channel.confirm(told, answer, mode=PRODUCTION)
    assert confirmed.is_confirmed
    (message,) = records(on.address, on.topic)
    assert message.value == told.request["notice"].encode()
    assert message.key == b"TOCSIN-FRB-18"
    assert message.header("_format") == b"json"
    assert message.header("_id") == UUID(told.request["id"]).bytes
    assert not message.is_test


async def test_notices_of_four_megabytes_come_back_whole(on: Fixture) -> None:
    ready = json.dumps({"id": "S190425z-42", "healpix_file": "A" * 4_000_000}).encode()
    notice: BlobRef = on.blobs.put(ready, "application/json")
    job = replace(a_job(an_example("coincidence/initial", gcn_notice=notice)), decided_at=datetime.now(UTC))
    told = on.prepare(job)
    answer = await on.channel.send(told, mode=PRODUCTION)
    assert (await on.channel.confirm(told, answer, mode=PRODUCTION)).is_confirmed


async def test_notices_are_told_in_order(on: Fixture) -> None:
    told = [on.prepare(now_decided(revision=revision)) for revision in range(1, 6)]
    for each in told:
        await on.channel.send(each, mode=PRODUCTION)
    assert on.ids() == [UUID(each.request["id"]).bytes for each in told]


async def test_a_notice_whose_acknowledgement_was_lost_is_found_and_confirmed(on: Fixture) -> None:
    told, other = on.prepare(now_decided()), on.prepare(now_decided(revision=2))
    send(on.address, on.topic, b"something of somebody else")
    await on.channel.send(told, mode=PRODUCTION)
    await on.channel.send(other, mode=PRODUCTION)
    found = await on.channel.check(told, mode=PRODUCTION)
    assert found is not None
    assert found.answer["offset"] == 1
    assert (await on.channel.confirm(told, found, mode=PRODUCTION)).is_confirmed


async def test_what_is_not_there_is_known_not_to_be(on: Fixture) -> None:
    assert await on.channel.check(on.prepare(now_decided()), mode=PRODUCTION) is None
    send(on.address, on.topic, b"something of somebody else")
    assert await on.channel.check(on.prepare(now_decided()), mode=PRODUCTION) is None


async def test_only_what_came_since_the_decision_is_looked_through(on: Fixture) -> None:
    told = on.prepare(now_decided())
    await on.channel.send(told, mode=PRODUCTION)
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    assert await on.channel.check(Prepared(told.request | {"since": later}), mode=PRODUCTION) is None


async def test_something_else_at_its_place_is_a_failure(on: Fixture) -> None:
    told, other = on.prepare(now_decided()), on.prepare(now_decided(revision=2))
    await on.channel.send(told, mode=PRODUCTION)
    answer = await on.channel.send(other, mode=PRODUCTION)
    with pytest.raises(PermanentError, match="not what was sent"):
        await on.channel.confirm(told, answer, mode=PRODUCTION)


async def test_an_offset_that_the_broker_does_not_hold_is_nothing(on: Fixture) -> None:
    assert on.broker.at(on.topic, Place(0, 5)) is None


def test_a_notice_that_the_broker_will_never_take_is_refused(on: Fixture) -> None:
    with pytest.raises(BrokerRefusedError):
        on.broker.produce(OutgoingMessage(on.topic, None, b"x" * (MAX_MESSAGE_BYTES + 1)))


async def test_a_topic_that_does_not_exist_takes_nothing(on: Fixture, tmp_path: Path) -> None:
    nowhere = Fixture(on.address, "gcn.notices.nowhere", tmp_path, timeout_s=3)
    with pytest.raises(TransientError):
        await nowhere.channel.send(nowhere.prepare(now_decided()), mode=PRODUCTION)


async def test_a_broker_that_is_down_is_waited_for_no_longer_than_told(tmp_path: Path) -> None:
    down = Fixture("127.0.0.1:1", "gcn.notices.tocsin.frb", tmp_path, timeout_s=3)
    began = time.monotonic()
    with pytest.raises(TransientError):
        await down.channel.send(down.prepare(now_decided()), mode=PRODUCTION)
    assert time.monotonic() - began < 3


@pytest.fixture
def frozen(tmp_path: Path) -> Iterator[tuple[Fixture, LocalKafka]]:
    """A channel that has spoken to its broker once, and the broker, which the test stops and continues."""
    kafka = LocalKafka(tmp_path / "kafka")
    kafka.start()
    try:
        yield Fixture(kafka.address, a_topic(kafka.address), tmp_path / "blobs", timeout_s=3), kafka
    finally:
        kafka.process.send_signal(signal.SIGCONT)
        kafka.stop()


async def test_a_broker_that_freezes_in_the_middle_gets_a_notice_once(frozen: tuple[Fixture, LocalKafka]) -> None:
    on, kafka = frozen
    await on.channel.send(on.prepare(now_decided()), mode=PRODUCTION)
    told = on.prepare(now_decided(revision=2))
    kafka.process.send_signal(signal.SIGSTOP)
    pid = kafka.process.pid
    assert pid is not None
    eventually(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED, "the broker stands still")
    with pytest.raises(UncertainError):
        await on.channel.send(told, mode=PRODUCTION)
    kafka.process.send_signal(signal.SIGCONT)
    if await on.channel.check(told, mode=PRODUCTION) is None:
        await on.channel.send(told, mode=PRODUCTION)
    assert on.ids().count(UUID(told.request["id"]).bytes) == 1
