"""Notices from a VOEvent broker, a Kafka and a folder reach the handler, whatever becomes of the connection."""

import asyncio
import json
import shutil
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.schema import CreateSchema

from cli.replay import Pace, publish
from cli.stack.kafka import KafkaBroker
from services.frb_intake.feeds import vtp
from services.frb_intake.feeds.notice import NoticeKind, ReceivedNotice
from services.frb_intake.feeds.sources import FrbSource, KafkaSource, VoeventSource
from services.frb_intake.feeds.subscriptions import subscriptions
from shared.blobs.store import FolderBlobs
from shared.db.tables import service_metadata
from shared.db.unit_of_work import UnitOfWork
from shared.errors import TransientError
from shared.events.frb import FrbEvent, FrbStatus
from shared.inbox import feed as feed_module
from shared.inbox.dead_letters import DeadLetterOffice
from shared.inbox.feed import FeedLoop
from shared.inbox.files import files_table
from shared.inbox.heartbeats import Heartbeats
from shared.inbox.processor import Processor
from shared.inbox.sources import FilesSource
from shared.inbox.state import ConsumerState
from shared.kafka.consumer import ConsumerLoop, consumer_config
from shared.kafka.message import Message
from shared.kafka.producer import EventProducer
from shared.schema.codec import decode
from shared.settings import ConsumerSettings, DatabaseSettings, KafkaSettings
from shared.testing.vtp import VtpBroker, standing_broker
from shared.voevent.packet import MAX_PACKET_BYTES
from tests.support.data import SAMPLES
from tests.support.database import SCHEMA, open_pool
from tests.support.frb_intake import EVENTS, IntakeUnderTest, running_intake
from tests.support.runtime import a_topic, eventually, records, send, soon
from tests.support.voevents import STANDARD_IVORN, a_packet

GCN = SAMPLES / "gcn"
TWO_MINUTES_S = 120.0


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_module, "RETRY_S", 0.05)


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[asyncpg.Pool]:
    metadata = service_metadata(SCHEMA)
    files_table(metadata)
    engine = create_async_engine(database_url.replace("postgresql://", "postgresql+asyncpg://"))
    async with engine.begin() as connection:
        await connection.execute(CreateSchema(SCHEMA))
        await connection.run_sync(metadata.create_all)
    await engine.dispose()
    async with open_pool(DatabaseSettings.model_validate({"url": database_url})) as opened:
        yield opened


@pytest.fixture
async def broker() -> AsyncIterator[VtpBroker]:
    async with standing_broker() as standing:
        yield standing


@dataclass
class Recorder:
    """Writes down what comes; may be told that the database is away."""

    notices: list[ReceivedNotice] = field(default_factory=list)
    outage: TransientError | None = None
    tries: int = 0

    async def __call__(self, received: ReceivedNotice, work: UnitOfWork) -> None:
        self.tries += 1
        if self.outage is not None:
            raise self.outage
        self.notices.append(received)

    @property
    def origin_ids(self) -> list[str]:
        return [received.notice.origin_id for received in self.notices]


@dataclass
class Reading:
    """A source that is read as the runner reads it."""

    recorder: Recorder
    state: ConsumerState
    dead_letters: str
    heartbeats: Heartbeats
    blobs: FolderBlobs


Read = Callable[..., Any]


@pytest.fixture
def read(kafka_broker: KafkaBroker, pool: asyncpg.Pool, tmp_path: Path) -> Read:
    """Read a source while the block runs; dead letters go to a topic of the test's own."""
    kafka = KafkaSettings(bootstrap_servers=kafka_broker.address)
    blobs = FolderBlobs(tmp_path / "blobs", max_bytes=10**8)

    @asynccontextmanager
    async def reading(source: FrbSource) -> AsyncIterator[Reading]:
        settings = ConsumerSettings(backoff_initial_s=0.05, backoff_max_s=0.1, shutdown_grace_s=5)
        recorder, heartbeats = Recorder(), Heartbeats("trial")
        (subscription,) = subscriptions(
            [source], own=None, pool=pool, blobs=blobs, heartbeats=heartbeats, handle=recorder
        )
        dead = await asyncio.to_thread(a_topic, kafka.bootstrap_servers)
        state = ConsumerState(subscription.name, tuple(subscription.topics))
        async with EventProducer(kafka) as producer:
            office = DeadLetterOffice(
                producer,
                topic_of=dict.fromkeys(subscription.dead_letter_topics, dead),
                service="trial",
                version="0",
                max_consecutive=50,
            )
            processor = Processor(
                subscription, pool=pool, dead_letters=office, committed=lambda: None, state=state, settings=settings
            )
            loop: FeedLoop | ConsumerLoop
            if subscription.feed is not None:
                loop = FeedLoop(subscription.feed, process=processor, state=state)
            else:
                assert subscription.client is not None
                config = consumer_config(
                    dict(subscription.client),
                    group=subscription.group,
                    start_at=subscription.start_at,
                    group_protocol=subscription.group_protocol or "classic",
                    settings=settings,
                )
                loop = ConsumerLoop(
                    name=subscription.name,
                    topics=subscription.topics,
                    config=config,
                    process=processor,
                    observer=state,
                    settings=settings,
                )
            task = asyncio.create_task(loop.run())
            try:
                yield Reading(recorder, state, dead, heartbeats, blobs)
            finally:
                loop.stop()
                await asyncio.wait_for(task, TWO_MINUTES_S)

    return reading


def a_source(broker: VtpBroker, **fields: Any) -> VoeventSource:
    return VoeventSource(host="127.0.0.1", port=broker.port, ivorn="ivo://trial/reader", **fields)


async def connected(broker: VtpBroker, times: int = 1) -> None:
    await soon(lambda: broker.connections >= times)


async def letters(kafka_broker: KafkaBroker, topic: str, count: int) -> list[Message]:
    async def look() -> list[Message]:
        return await asyncio.to_thread(records, kafka_broker.address, topic)

    async with asyncio.timeout(30):
        while len(found := await look()) < count:
            await asyncio.sleep(0.1)
    return found


# --- a VOEvent broker


async def test_a_packet_reaches_the_handler_and_its_bytes_are_kept(read: Read, broker: VtpBroker) -> None:
    async with read(a_source(broker)) as reading:
        await connected(broker)
        await broker.send(a_packet())
        await soon(lambda: reading.recorder.notices)

    (received,) = reading.recorder.notices
    assert received.source == "voevent"
    assert reading.blobs.get(received.raw) == a_packet()


async def test_a_packet_is_acknowledged_when_its_effects_are_durable_and_not_before(
    read: Read, broker: VtpBroker
) -> None:
    async with read(a_source(broker)) as reading:
        reading.recorder.outage = TransientError("the database is away")
        await connected(broker)
        await broker.send(a_packet())
        await soon(lambda: reading.recorder.tries > 1)
        assert broker.acknowledged == []
        reading.recorder.outage = None
        await soon(lambda: broker.acknowledged)

    (answer,) = broker.answers
    assert (answer.role, answer.origin, answer.response) == ("ack", STANDARD_IVORN, "ivo://trial/reader")


async def test_signs_of_life_are_answered_also_while_a_packet_waits_for_an_outage(
    read: Read, broker: VtpBroker
) -> None:
    async with read(a_source(broker)) as reading:
        reading.recorder.outage = TransientError("the database is away")
        await connected(broker)
        await broker.send(a_packet())
        await soon(lambda: reading.recorder.tries)
        await broker.send_transport("iamalive", "ivo://broker.test/stand-in")
        await soon(lambda: broker.answers)
        (status,) = reading.heartbeats.as_json({"trial.voevent": reading.state})

    assert [(one.role, one.origin) for one in broker.answers] == [("iamalive", "ivo://broker.test/stand-in")]
    assert status["last_heartbeat_age_s"] < 60


async def test_other_messages_of_the_protocol_are_left_unanswered(read: Read, broker: VtpBroker) -> None:
    async with read(a_source(broker)) as reading:
        await connected(broker)
        await broker.send_transport("authenticate")
        await broker.send_transport("nak")
        await broker.send(a_packet())
        await soon(lambda: broker.answers)

    assert len(reading.recorder.notices) == len(broker.answers) == 1


async def test_what_is_not_about_a_burst_is_acknowledged_and_passed_over(read: Read, broker: VtpBroker) -> None:
    wave = a_packet(ivorn="ivo://gwnet/LVC#MS181101ab-2-Preliminary", params={"GraceID": "MS181101ab"})
    async with read(a_source(broker)) as reading:
        await connected(broker)
        await broker.send(wave)
        await soon(lambda: broker.acknowledged)

    assert (reading.recorder.notices, reading.state.dead_letters) == ([], 0)


async def test_packets_that_wait_outlive_the_connection_that_brought_them(read: Read, broker: VtpBroker) -> None:
    """A broker does not send again what it has sent."""
    ivorns = [f"ivo://org.example/dish#FRB22032010{minute:02}/59658.41" for minute in range(5)]
    async with read(a_source(broker)) as reading:
        reading.recorder.outage = TransientError("the database is away")
        await connected(broker)
        for ivorn in ivorns:
            await broker.send(a_packet(ivorn=ivorn))
        # Answered: whatever came before it has been read.
        await broker.send_transport("iamalive")
        await soon(lambda: broker.answers)
        broker.hang_up()
        reading.recorder.outage = None
        await soon(lambda: len(reading.recorder.notices) == len(ivorns))
        await connected(broker, 2)
        await broker.send(a_packet(ivorn="ivo://org.example/dish#FRB2203201059/59658.46"))
        await soon(lambda: len(reading.recorder.notices) == len(ivorns) + 1)

    assert [received.notice.names[1] for received in reading.recorder.notices[:-1]] == ivorns


async def test_a_broker_that_is_away_is_waited_for(read: Read) -> None:
    async with standing_broker() as first:
        port = first.port
    async with read(VoeventSource(host="127.0.0.1", port=port)) as reading:
        await soon(lambda: reading.state.paused_reason)
        assert f"127.0.0.1:{port}" in str(reading.state.paused_reason)
        async with standing_broker(port) as second:
            await soon(lambda: reading.state.is_ready)
            await second.send(a_packet())
            await soon(lambda: reading.recorder.notices)


async def test_a_broker_that_has_fallen_silent_is_left_for_a_new_connection(read: Read, broker: VtpBroker) -> None:
    async with read(a_source(broker, silence_s=0.3)) as reading:
        await connected(broker, 2)
        await broker.send(a_packet())
        await soon(lambda: reading.recorder.notices)


async def test_a_connection_lost_within_a_packet_leaves_nothing_behind(read: Read, broker: VtpBroker) -> None:
    packet = a_packet()
    async with read(a_source(broker)) as reading:
        await connected(broker)
        await broker.send_raw(len(packet).to_bytes(4, "big") + packet[:-100])
        broker.hang_up()
        await connected(broker, 2)
        await broker.send(packet)
        await soon(lambda: broker.acknowledged)

    assert (len(reading.recorder.notices), reading.state.dead_letters) == (1, 0)


@pytest.mark.parametrize("length", [MAX_PACKET_BYTES + 1, 2**32 - 1])
async def test_a_packet_of_absurd_size_is_not_waited_for(read: Read, broker: VtpBroker, length: int) -> None:
    async with read(a_source(broker)) as reading:
        await connected(broker)
        await broker.send_raw(length.to_bytes(4, "big") + b"<")
        await connected(broker, 2)
        await broker.send(a_packet())
        await soon(lambda: reading.recorder.notices)


async def test_what_cannot_be_read_is_dead_lettered_and_the_next_packet_goes_through(
    read: Read, broker: VtpBroker, kafka_broker: KafkaBroker
) -> None:
    broken = a_packet(ivorn="ivo://org.example/dish#FRB2203201001/1", time=None)
    async with read(a_source(broker)) as reading:
        await connected(broker)
        for data in (b"dear observatory", broken, a_packet()):
            await broker.send(data)
        await soon(lambda: reading.recorder.notices)
        found = await letters(kafka_broker, reading.dead_letters, 2)
        await soon(lambda: len(broker.acknowledged) == 2)

    assert [letter.value for letter in found] == [b"dear observatory", broken]
    assert b"ISOTime is missing" in (found[1].header("dlq-error") or b"")
    # What names itself is not to be sent again; what does not cannot be answered.
    assert broker.acknowledged == ["ivo://org.example/dish#FRB2203201001/1", STANDARD_IVORN]


async def test_more_packets_than_wait_here_are_left_to_the_broker_and_none_is_lost(
    read: Read, broker: VtpBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vtp, "MAX_WAITING", 2)
    ivorns = [f"ivo://org.example/dish#FRB22032010{minute:02}/59658.41" for minute in range(20)]
    async with read(a_source(broker)) as reading:
        reading.recorder.outage = TransientError("the database is away")
        await connected(broker)
        for ivorn in ivorns:
            await broker.send(a_packet(ivorn=ivorn))
        await soon(lambda: reading.recorder.tries > 2)
        reading.recorder.outage = None
        await soon(lambda: len(broker.acknowledged) == len(ivorns))

    assert broker.acknowledged == ivorns


# --- a Kafka


async def test_notices_of_a_topic_reach_the_handler_in_order(read: Read, kafka_broker: KafkaBroker) -> None:
    topic, beats = a_topic(kafka_broker.address), a_topic(kafka_broker.address)
    stages = [NoticeKind.DETECTION, NoticeKind.SUBSEQUENT, NoticeKind.UPDATE, NoticeKind.RETRACTION]
    data = [(GCN / f"dsa110-frb-{stage.lower()}.json").read_bytes() for stage in stages]
    send(kafka_broker.address, beats, b'{"alert_datetime": "2026-01-01T00:00:00Z"}')
    send(kafka_broker.address, topic, *data, b"dear observatory", data[0], (None, data[0], [("_test", b"true")]))
    source = KafkaSource(
        broker=KafkaSettings(bootstrap_servers=kafka_broker.address),
        topics=(topic,),
        heartbeat_topics=(beats,),
        group_id=topic,
    )

    async with read(source) as reading:
        await soon(lambda: len(reading.recorder.notices) == 5)
        (letter,) = await letters(kafka_broker, reading.dead_letters, 1)

    notices = [received.notice for received in reading.recorder.notices]
    assert [notice.kind for notice in notices[:4]] == stages
    assert {notice.origin_id for notice in notices} == {"240918aaaa"}
    # The same again is known; a drill with the same content is another.
    assert [notice.is_test for notice in notices] == [False] * 4 + [True]
    assert [reading.blobs.get(received.raw) for received in reading.recorder.notices] == [*data, data[0]]
    assert letter.value == b"dear observatory"


# --- a folder


async def test_files_of_either_format_reach_the_handler_once(read: Read, tmp_path: Path) -> None:
    folder = tmp_path / "notices"
    folder.mkdir()
    shutil.copy(GCN / "chime-frb-detection.json", folder)
    shutil.copy(SAMPLES / "voevent" / "FRB20180916B-detection.xml", folder)
    (folder / "notes.txt").write_text("not a notice")
    source = FilesSource(paths=(str(folder),), poll_interval_s=0.05, settle_s=0)

    async with read(source) as reading:
        await soon(lambda: len(reading.recorder.notices) == 2)
    assert {received.notice.origin for received in reading.recorder.notices} == {"CHIME", "samples.tocsin"}
    async with read(source) as again:
        shutil.copy(GCN / "chime-frb-retraction.json", folder)
        await soon(lambda: again.recorder.notices)
    assert [received.notice.kind for received in again.recorder.notices] == [NoticeKind.RETRACTION]


# --- what `tocsin replay` sends


async def test_a_replayed_catalogue_is_read_as_test_traffic_in_the_order_of_arrival(
    read: Read, kafka_broker: KafkaBroker
) -> None:
    topic = a_topic(kafka_broker.address)
    kafka = KafkaSettings(bootstrap_servers=kafka_broker.address)
    catalogue = SAMPLES / "frb" / "catalogue" / "chimefrbcat1.csv"

    # 30 days of bursts in the time of a test.
    await publish([catalogue], kafka=kafka, topic=topic, limit=25, pace=Pace(speed_up=1e7))
    async with read(KafkaSource(broker=kafka, topics=(topic,), group_id=topic)) as reading:
        await soon(lambda: len(reading.recorder.notices) == 25)

    notices = [received.notice for received in reading.recorder.notices]
    assert [notice.tns_name for notice in notices[:2]] == ["FRB 20180725A", "FRB 20180727A"]
    assert all(notice.is_test for notice in notices)
    times = [notice.time_of_arrival for notice in notices]
    assert times == sorted(time for time in times if time)
    assert {dict(message.headers)["_test"] for message in records(kafka_broker.address, topic)} == {b"true"}


# --- the service, from end to end


@pytest.fixture(scope="module")
def intake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IntakeUnderTest]:
    with running_intake(tmp_path_factory.mktemp("intake")) as running:
        yield running


def a_history(mission: str, name: str) -> list[bytes]:
    """The official examples of all four types, about a burst that no other test has."""
    files = (GCN / f"{mission}-frb-{stage}.json" for stage in ("detection", "subsequent", "update", "retraction"))
    return [json.dumps(json.loads(file.read_text()) | {"id": name}).encode() for file in files]


def bursts_called(intake: IntakeUnderTest, *names: str) -> list[FrbEvent]:
    """What is stored of the bursts that their origins call so."""
    rows = intake.system.rows(
        "SELECT record::text FROM frb_intake.bursts WHERE origin_id = ANY($1) ORDER BY id", list(names)
    )
    return [FrbEvent.model_validate_json(row["record"]) for row in rows]


def told_of(intake: IntakeUnderTest, burst: FrbEvent) -> list[FrbEvent]:
    """What went out about a burst, in order, up to its present revision."""

    def look() -> list[FrbEvent]:
        found = [decode(message.value, FrbEvent) for message, _ in intake.system.records("frb.events")]
        told = [record for record in found if record.frb_id == burst.frb_id]
        return told if len(told) >= burst.revision else []

    return eventually(look)


def raw_bytes(intake: IntakeUnderTest, record: FrbEvent) -> bytes:
    assert record.raw is not None
    return FolderBlobs(Path(intake.system.environment["TOCSIN_BLOBS__URL"]), max_bytes=10**8).get(record.raw)


def is_withdrawn(intake: IntakeUnderTest, *names: str) -> bool:
    return any(burst.status is FrbStatus.WITHDRAWN for burst in bursts_called(intake, *names))


def test_a_burst_from_detection_to_retraction_is_one_however_often_it_is_told(intake: IntakeUnderTest) -> None:
    name = uuid.uuid4().hex
    history = a_history("dsa110", name)
    doubled = [notice for notice in history for _ in range(2)]
    send(intake.system.broker.address, "gcn.notices.dsa110.frb", *doubled, history[0])

    eventually(lambda: is_withdrawn(intake, name))
    (burst,) = bursts_called(intake, name)
    told = told_of(intake, burst)
    assert [record.revision for record in told] == [1, 2, 3, 4]
    assert [record.status for record in told] == [*[FrbStatus.CANDIDATE] * 3, FrbStatus.WITHDRAWN]
    assert [raw_bytes(intake, record) for record in told] == history
    assert (burst.origin, burst.repeater, burst.repeater_of) == ("DSA-110", True, "FRB 20231013B")
    assert burst.latest is not None
    assert (burst.latest.dm_pc_cm3, burst.latest.width_ms) == (279.422607421875, 1)
    answer = intake.client(None).get(f"{EVENTS}/{burst.frb_id}")
    assert answer.json()["status"].lower() == "withdrawn"


def test_another_burst_of_a_known_source_is_a_burst_of_its_own(intake: IntakeUnderTest) -> None:
    name, other = uuid.uuid4().hex, uuid.uuid4().hex
    first, _, update, retraction = a_history("chime", name)
    second = a_history("chime", other)[1]
    send(intake.system.broker.address, "gcn.notices.chime.frb", first, second, update, retraction)

    eventually(lambda: is_withdrawn(intake, name))
    taken_back, standing = bursts_called(intake, name, other)
    assert (taken_back.status, standing.status) == (FrbStatus.WITHDRAWN, FrbStatus.CANDIDATE)
    assert (taken_back.repeater, standing.repeater) == (False, True)
    assert standing.reference_frequency_mhz == 400
    assert standing.latest is not None
    assert standing.latest.time_of_arrival_inf == datetime(2024, 9, 18, 7, 19, 3, 518831, UTC)
    assert standing.latest.localisation is not None
    assert standing.latest.localisation.confidence_level == 0.9


def test_a_drill_does_not_touch_the_burst_that_it_is_about(intake: IntakeUnderTest) -> None:
    name = uuid.uuid4().hex
    detection, *_, retraction = a_history("dsa110", name)
    marked = [("_test", b"true")]
    # The drill begins before the burst: its detection must not make the real one known.
    send(
        intake.system.broker.address,
        "gcn.notices.dsa110.frb",
        (None, detection, marked),
        detection,
        (None, retraction, marked),
    )

    eventually(lambda: is_withdrawn(intake, name))
    drill, real = bursts_called(intake, name)
    assert (drill.is_test, drill.status) == (True, FrbStatus.WITHDRAWN)
    assert (real.is_test, real.status) == (False, FrbStatus.CANDIDATE)


async def test_packets_of_a_broker_become_bursts_and_are_acknowledged(intake: IntakeUnderTest) -> None:
    names = ["FRB20180916B-detection", "FRB20181019A-subsequent", "FRB20180916B-update", "FRB20180916B-retraction"]
    packets = [(SAMPLES / "voevent" / f"{name}.xml").read_bytes() for name in names]
    async with standing_broker() as broker:
        source = {"type": "voevent", "host": "127.0.0.1", "port": broker.port}
        service = intake.system.start("frb_intake", TOCSIN_FRB_INTAKE__SOURCES=json.dumps([source]))
        await connected(broker)
        for packet in (*packets, packets[0]):
            await broker.send(packet)
        await soon(lambda: len(broker.acknowledged) == 5)
        await asyncio.to_thread(service.stop)

    ivorn = "ivo://samples.tocsin/chime#FRB"
    taken_back, standing = await asyncio.to_thread(bursts_called, intake, f"{ivorn}1809161015", f"{ivorn}1810190813")
    assert (taken_back.status, standing.status) == (FrbStatus.WITHDRAWN, FrbStatus.CANDIDATE)
    assert (taken_back.is_test, standing.is_test, standing.repeater) == (True, True, True)
    assert taken_back.latest is not None
    assert (taken_back.latest.number, taken_back.latest.redshift) == (2, 0.0337)
    assert taken_back.latest.time_of_arrival_inf is not None
    # The catalogue's own time at infinite frequency, MJD 58377.4272080846, to the last digit that a packet holds.
    expected = datetime(2018, 9, 16, 10, 15, 10, 778509, UTC)
    assert abs(taken_back.latest.time_of_arrival_inf - expected) < timedelta(milliseconds=1)


async def test_a_packet_that_two_brokers_relay_is_one_burst_and_both_hear_that_it_arrived(
    intake: IntakeUnderTest,
) -> None:
    ivorn = f"ivo://net.relayed/dish#FRB-{uuid.uuid4().hex}"
    async with standing_broker() as one, standing_broker() as other:
        sources = [
            {"type": "voevent", "name": f"broker-{broker.port}", "host": "127.0.0.1", "port": broker.port}
            for broker in (one, other)
        ]
        service = intake.system.start("frb_intake", TOCSIN_FRB_INTAKE__SOURCES=json.dumps(sources))
        for broker in (one, other):
            await connected(broker)
            await broker.send(a_packet(ivorn=ivorn))
        await soon(lambda: one.acknowledged and other.acknowledged)
        await asyncio.to_thread(service.stop)

    assert len(await asyncio.to_thread(bursts_called, intake, ivorn)) == 1
