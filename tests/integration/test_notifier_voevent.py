"""Packets reach brokers however these behave, subscribers of our own, and the genuine Comet."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from services.frb_intake.feeds.notice import NoticeKind
from services.frb_intake.feeds.voevent import read_voevent
from services.notifier import dispatcher
from services.notifier.channels import voevent, vtp
from services.notifier.channels.channel import Answer, Prepared
from services.notifier.channels.voevent import VoeventBroker, VoeventChannel
from services.notifier.channels.vtp import VtpPublisher
from shared.errors import PermanentError, TransientError
from shared.events.frb import FrbChange, FrbEvent, FrbStatus
from shared.events.ids import event_id
from shared.events.notices import ChannelMode
from shared.settings import DatabaseSettings
from shared.testing.vtp import Behaviour, receiving_broker
from shared.voevent.packet import parse_xml
from shared.voevent.transport import TransportMessage, receive, send
from tests.support import notifier_schema
from tests.support.jobs import a_job, an_example
from tests.support.notifier import NotifierUnderTest
from tests.support.runtime import soon
from tests.support.voevent_channel import a_channel, valid

database, pool = notifier_schema.database, notifier_schema.pool

SANDBOX = ChannelMode.SANDBOX


def a_sandbox(*ports: int, **fields: Any) -> VoeventChannel:
    brokers = tuple(VoeventBroker(host="127.0.0.1", port=port) for port in ports)
    return a_channel(mode=SANDBOX, sandbox_brokers=brokers, **({"timeout_s": 2.0} | fields))


def prepared_by(channel: VoeventChannel, record: FrbEvent | None = None) -> Prepared:
    prepared = channel.prepare(a_job(record or a_burst(), mode=SANDBOX))
    assert prepared is not None
    return prepared


def a_burst(*, frb_id: int = 7, revision: int = 1, change: FrbChange = FrbChange.CREATED, **changes: Any) -> FrbEvent:
    record: FrbEvent = an_example(
        "frb_event/upload-measured-twice",
        event_id=event_id("test burst", str(frb_id), str(revision)),
        frb_id=frb_id,
        revision=revision,
        change=change,
        **({"repeater": False, "repeater_of": None} | changes),
    )
    return record


def a_free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def verdicts(answer: Answer) -> list[str]:
    return [each["answer"] for each in answer.answer["brokers"].values()]


# Brokers


async def test_a_packet_goes_to_all_brokers_and_their_acknowledgements_are_recorded() -> None:
    async with receiving_broker() as one, receiving_broker(Behaviour.SLOW) as two:
        channel = a_sandbox(one.port, two.port)

        answer = await channel.send(prepared_by(channel), mode=SANDBOX)

    assert one.ivorns == two.ivorns == [answer.reference]
    assert answer.is_confirmed
    assert answer.answer["brokers"] == {
        f"127.0.0.1:{one.port}": {"answer": "ack"}, f"127.0.0.1:{two.port}": {"answer": "ack"},
    }  # fmt: skip
    valid(one.accepted[0].decode())


async def test_a_broker_that_is_down_is_tried_again_without_the_others() -> None:
    port = a_free_port()
    async with receiving_broker() as up:
        channel = a_sandbox(up.port, port)
        prepared = prepared_by(channel)
        first = await channel.send(prepared, mode=SANDBOX)
        second = await channel.confirm(prepared, first, mode=SANDBOX)
        async with receiving_broker(port=port) as back:
            third = await channel.confirm(prepared, second, mode=SANDBOX)

    assert [verdicts(answer) for answer in (first, second, third)] == [["ack", "none"], ["ack", "none"], ["ack", "ack"]]
    assert [answer.is_confirmed for answer in (first, second, third)] == [False, False, True]
    assert [answer.ask_again_s for answer in (first, second, third)] == [10.0, 20.0, None]
    assert (up.connections, back.ivorns) == (1, [first.reference])


async def test_with_no_broker_up_nothing_was_sent() -> None:
    channel = a_sandbox(a_free_port(), a_free_port())

    with pytest.raises(TransientError, match=r"127\.0\.0\.1:\d+: .*127\.0\.0\.1:\d+: "):
        await channel.send(prepared_by(channel), mode=SANDBOX)


@pytest.mark.parametrize(
    "behaviour",
    [
        Behaviour.SILENCE,
        Behaviour.GARBAGE,
        Behaviour.ABSURD_LENGTH,
        Behaviour.DISCONNECT,
        Behaviour.ACK_LOST,
    ],
)
async def test_after_no_answer_the_same_bytes_are_sent_and_taken_once(behaviour: Behaviour) -> None:
    async with receiving_broker(behaviour) as broker:
        channel = a_sandbox(broker.port, timeout_s=0.5)
        prepared = prepared_by(channel)
        with pytest.raises(TransientError):
            await channel.send(prepared, mode=SANDBOX)
        assert await channel.check(prepared, mode=SANDBOX) is None

        answer = await channel.send(prepared, mode=SANDBOX)

    assert verdicts(answer) == ["ack"]
    assert broker.ivorns == [answer.reference]


async def test_a_refusal_is_for_good_when_all_refuse() -> None:
    async with receiving_broker(Behaviour.NAK) as broker:
        channel = a_sandbox(broker.port)

        with pytest.raises(PermanentError, match="It is not wanted here"):
            await channel.send(prepared_by(channel), mode=SANDBOX)


async def test_a_refusal_is_recorded_beside_the_others_acknowledgements() -> None:
    async with receiving_broker(Behaviour.NAK) as one, receiving_broker() as two:
        channel = a_sandbox(one.port, two.port)

        answer = await channel.send(prepared_by(channel), mode=SANDBOX)

    assert verdicts(answer) == ["nak", "ack"]
    assert answer.is_confirmed


async def test_a_broker_that_was_down_never_hears_the_older_packet_after_the_newer_one() -> None:
    port = a_free_port()
    async with receiving_broker() as up:
        channel = a_sandbox(up.port, port)
        old = prepared_by(channel)
        first = await channel.send(old, mode=SANDBOX)
        new = channel.prepare(a_job(a_burst(change=FrbChange.MEASURED, revision=2), mode=SANDBOX, delivery_id=8))
        assert new is not None
        async with receiving_broker(port=port) as back:
            await channel.send(new, mode=SANDBOX)
            late = await channel.confirm(old, first, mode=SANDBOX)

    assert back.ivorns == [new.request["ivorn"]]
    assert late.ask_again_s is None
    assert late.answer["brokers"][f"127.0.0.1:{port}"]["reason"] == "something newer was told instead"


async def test_a_broker_that_never_comes_back_is_given_up() -> None:
    async with receiving_broker() as up:
        channel = a_sandbox(up.port, a_free_port(), max_attempts=2)
        prepared = prepared_by(channel)
        first = await channel.send(prepared, mode=SANDBOX)

        second = await channel.confirm(prepared, first, mode=SANDBOX)

    assert (first.ask_again_s, second.ask_again_s, second.is_confirmed) == (10.0, None, False)


# Through the notifier


async def test_a_burst_is_told_corrected_and_taken_back(
    pool: asyncpg.Pool, database: DatabaseSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher, "BACKOFF_S", 0.05)
    async with receiving_broker(Behaviour.ACK_LOST, Behaviour.DISCONNECT) as broker:
        notifier = NotifierUnderTest(pool, database, a_sandbox(broker.port))  # type: ignore[arg-type]
        async with notifier.sending():
            steps = [
                a_burst(),
                a_burst(revision=2, change=FrbChange.RATED),
                a_burst(revision=3, change=FrbChange.MEASURED),
                a_burst(revision=4, change=FrbChange.STATUS_CHANGED, status=FrbStatus.REJECTED),
                a_burst(revision=5, change=FrbChange.STATUS_CHANGED, status=FrbStatus.WITHDRAWN),
            ]
            expected: list[str] = []
            for step in steps:
                await notifier.take("frb.events", step)
                if step.change is not FrbChange.RATED:
                    expected.append("SUPPRESSED" if step.status is FrbStatus.WITHDRAWN else "CONFIRMED")
                await notifier.until(*expected, channel="voevent")

    notices = [read_voevent(data) for data in broker.accepted]
    assert [notice.kind for notice in notices if notice] == [
        NoticeKind.DETECTION, NoticeKind.UPDATE, NoticeKind.RETRACTION,
    ]  # fmt: skip
    assert notices[2] is not None
    assert notices[2].cites == tuple(broker.ivorns[:2])
    assert len({notice.origin_id for notice in notices if notice}) == 1


async def test_a_broker_that_is_down_holds_up_neither_the_others_nor_what_comes_after(
    pool: asyncpg.Pool, database: DatabaseSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(voevent, "RETRY_S", 0.05)
    port = a_free_port()
    async with receiving_broker() as up:
        notifier = NotifierUnderTest(pool, database, a_sandbox(up.port, port))  # type: ignore[arg-type]
        async with notifier.sending():
            for number in range(1, 9):
                await notifier.take("frb.events", a_burst(frb_id=number))
            await soon(lambda: len(up.accepted) == 8)
            async with receiving_broker(port=port) as back:
                await notifier.until(*["CONFIRMED"] * 8, channel="voevent")

    assert sorted(back.ivorns) == sorted(up.ivorns)
    assert len(set(up.ivorns)) == 8, "bursts of the same minute have packets of their own"


# Subscribers


@asynccontextmanager
async def publishing(**fields: Any) -> AsyncIterator[VtpPublisher]:
    given: dict[str, Any] = {"name": "voevent", "host": "127.0.0.1", "port": 0, "ivorn": "ivo://org.example/dish"}
    publisher = VtpPublisher(**(given | fields))
    task = asyncio.create_task(publisher.run())
    await soon(lambda: publisher.port != 0 or task.done())
    try:
        yield publisher
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await soon(lambda: publisher.n_subscribers == 0)


class Subscriber:
    """Answers what it is sent, as far as it is told to."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.packets: list[str] = []
        self.heartbeats = 0

    async def answer(self, *, role: str | None = "ack", alive: bool = True) -> None:
        """Read until the publisher hangs up."""
        try:
            while True:
                data = await receive(self.reader)
                message = TransportMessage.read(data)
                if message is None:
                    ivorn = parse_xml(data).get("ivorn", "")
                    self.packets.append(ivorn)
                    if role is not None:
                        await send(self.writer, TransportMessage(role, ivorn, "ivo://test/subscriber").encoded())
                elif message.role == "iamalive":
                    self.heartbeats += 1
                    if alive:
                        reply = TransportMessage("iamalive", message.origin, "ivo://test/subscriber")
                        await send(self.writer, reply.encoded())
        except (asyncio.IncompleteReadError, ConnectionError):
            self.writer.close()


@asynccontextmanager
async def subscribed(publisher: VtpPublisher, **how: Any) -> AsyncIterator[Subscriber]:
    before = publisher.n_subscribers
    subscriber = Subscriber(*await asyncio.open_connection("127.0.0.1", publisher.port))
    answering = asyncio.create_task(subscriber.answer(**how))
    try:
        await soon(lambda: publisher.n_subscribers > before or answering.done())
        yield subscriber
    finally:
        subscriber.writer.close()
        answering.cancel()
        await asyncio.gather(answering, return_exceptions=True)


def packets(count: int) -> list[tuple[str, bytes]]:
    channel = a_sandbox()
    made = [channel.prepare(a_job(a_burst(), mode=SANDBOX, delivery_id=number)) for number in range(count)]
    return [(each.request["ivorn"], each.request["xml"].encode()) for each in made if each is not None]


async def test_all_subscribers_get_what_is_published_while_they_are_there() -> None:
    (early, first), (ivorn, second) = packets(2)
    async with publishing() as publisher:
        publisher.publish(early, first)
        async with subscribed(publisher) as one, subscribed(publisher) as two:
            publisher.publish(ivorn, second)
            publisher.publish(ivorn, second)
            await soon(lambda: one.packets and two.packets and one.heartbeats)

    assert one.packets == two.packets == [ivorn]


async def test_who_comes_later_gets_the_newest_packets_if_so_set() -> None:
    made = packets(40)
    async with publishing(replay=32) as publisher:
        for ivorn, data in made:
            publisher.publish(ivorn, data)
        async with subscribed(publisher) as late:
            await soon(lambda: len(late.packets) == 32)

    assert late.packets == [ivorn for ivorn, _ in made[8:]]


async def test_who_answers_heartbeats_stays_and_who_does_not_is_dropped() -> None:
    async with (
        publishing(heartbeat_s=0.1) as publisher,
        subscribed(publisher) as living,
        subscribed(publisher, alive=False) as dead,
    ):
        await soon(lambda: publisher.n_subscribers == 1)
        await soon(lambda: living.heartbeats >= 3)

    assert dead.heartbeats == 1


async def test_who_refuses_a_packet_is_dropped() -> None:
    ((ivorn, data),) = packets(1)
    async with publishing() as publisher, subscribed(publisher, role="nak"):
        publisher.publish(ivorn, data)
        await soon(lambda: publisher.n_subscribers == 0)


async def test_who_acknowledges_nothing_is_dropped() -> None:
    async with publishing(heartbeat_s=0.2) as publisher, subscribed(publisher, role=None) as silent:
        for ivorn, data in packets(vtp.MAX_UNANSWERED + 1):
            publisher.publish(ivorn, data)
        await soon(lambda: publisher.n_subscribers == 0)

    assert len(silent.packets) == vtp.MAX_UNANSWERED + 1


async def test_who_does_not_read_is_dropped_and_holds_up_nobody() -> None:
    big = packets(1)[0][1] + b" " * 900_000
    async with publishing() as publisher, subscribed(publisher) as quick:
        _, slow = await asyncio.open_connection("127.0.0.1", publisher.port, limit=1)
        await soon(lambda: publisher.n_subscribers == 2)
        for number in range(200):
            publisher.publish(f"ivo://test/{number}", big)
            await soon(lambda count=number: len(quick.packets) > count)
            if publisher.n_subscribers == 1:
                break
        assert publisher.n_subscribers == 1
        slow.close()


@pytest.mark.parametrize("garbage", [b"\xff" * 8, (5).to_bytes(4, "big") + b"hello", b"\x00\x00"])
async def test_garbage_of_one_subscriber_harms_no_other(garbage: bytes) -> None:
    ((ivorn, data),) = packets(1)
    async with publishing() as publisher, subscribed(publisher) as well:
        _, odd = await asyncio.open_connection("127.0.0.1", publisher.port)
        odd.write(garbage)
        await odd.drain()
        publisher.publish(ivorn, data)
        await soon(lambda: well.packets == [ivorn])
        odd.close()
        await soon(lambda: publisher.n_subscribers == 1)


async def test_no_more_are_served_than_set() -> None:
    async with publishing(max_subscribers=1) as publisher, subscribed(publisher):
        reader, writer = await asyncio.open_connection("127.0.0.1", publisher.port)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await receive(reader)
        writer.close()


async def test_a_channel_serves_what_it_sends() -> None:
    channel = a_sandbox(serve_port=0)
    assert channel.publisher is not None
    serving = asyncio.create_task(channel.run())
    await soon(lambda: channel.publisher and channel.publisher.port)
    async with subscribed(channel.publisher) as subscriber:
        answer = await channel.send(prepared_by(channel), mode=SANDBOX)
        await soon(lambda: subscriber.packets == [answer.reference])
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)

    assert answer.is_confirmed


# The genuine broker


@asynccontextmanager
async def comet(folder: Path, *options: str) -> AsyncIterator[None]:
    """Comet 3.1, a process of its own."""
    command = [
        sys.executable, "-c", "from twisted.scripts.twistd import run; run()", "--nodaemon", "--pidfile=",
        "comet", "--local-ivo=ivo://org.example/comet", f"--eventdb={folder}", "--broadcast-test-interval=0", *options,
    ]  # fmt: skip
    with (folder / "log").open("wb") as output:
        process = await asyncio.create_subprocess_exec(*command, stdout=output, stderr=output, cwd=folder)
        try:
            yield
        finally:
            process.terminate()
            await process.wait()


async def connected(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    async with asyncio.timeout(30):
        while True:
            try:
                return await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.1)


async def next_packet(reader: asyncio.StreamReader) -> bytes:
    """The next VOEvent that a broker sends; what else it says is passed over."""
    async with asyncio.timeout(30):
        while True:
            data = await receive(reader)
            if TransportMessage.read(data) is None:
                return data


async def test_comet_accepts_and_rebroadcasts_our_packets_bit_by_bit(tmp_path: Path) -> None:
    receiving, broadcasting = a_free_port(), a_free_port()
    options = ("--receive", f"--receive-port={receiving}", "--broadcast", f"--broadcast-port={broadcasting}")
    async with comet(tmp_path, *options):
        reader, writer = await connected(broadcasting)
        channel = a_sandbox(receiving, timeout_s=20)
        told = a_job(a_burst(), mode=SANDBOX)
        for job in (told, a_job("coincidence/initial", mode=SANDBOX, delivery_id=8)):
            prepared = channel.prepare(job)
            assert prepared is not None

            answer = await channel.send(prepared, mode=SANDBOX)

            assert verdicts(answer) == ["ack"]
            assert await next_packet(reader) == prepared.request["xml"].encode()
            again = await channel.send(prepared, mode=SANDBOX)
            assert again.answer["brokers"][f"127.0.0.1:{receiving}"] == {
                "answer": "ack", "reason": "Event rejected: Previously seen by this broker",
            }  # fmt: skip
        writer.close()


async def test_comet_subscribes_to_us_and_passes_our_packets_on(tmp_path: Path) -> None:
    ((ivorn, data),) = packets(1)
    broadcasting = a_free_port()
    async with publishing(heartbeat_s=0.5) as publisher:
        options = (f"--remote=127.0.0.1:{publisher.port}", "--broadcast", f"--broadcast-port={broadcasting}")
        async with comet(tmp_path, *options):
            reader, writer = await connected(broadcasting)
            await soon(lambda: publisher.n_subscribers == 1)
            publisher.publish(ivorn, data)

            passed_on = await next_packet(reader)

            assert parse_xml(passed_on).get("ivorn") == ivorn
            assert publisher.n_subscribers == 1
            writer.close()
