"""The consumer: what becomes of messages when they, the handler, the group or the broker misbehave."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress

import asyncpg
import pytest

from cli.stack.kafka import KafkaBroker
from shared.db.unit_of_work import UnitOfWork
from shared.errors import PermanentError, TransientError
from shared.kafka import consumer as consumer_module
from shared.kafka.consumer import ConsumerFailedError
from shared.kafka.errors import BrokerUnavailableError
from shared.kafka.message import Message
from shared.kafka.producer import EventProducer
from shared.kafka.reading import committed
from shared.observability.tracing import current_traceparent
from shared.settings import MAX_MESSAGE_BYTES, KafkaSettings
from tests.support.consuming import Fact, Trial, remember
from tests.support.database import make_tables, open_pool
from tests.support.runtime import Sendable, a_topic, records, send, soon


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[asyncpg.Pool]:
    async with open_pool(await make_tables(database_url)) as opened:
        yield opened


@pytest.fixture
async def producer(kafka_broker: KafkaBroker) -> AsyncIterator[EventProducer]:
    async with EventProducer(KafkaSettings(bootstrap_servers=kafka_broker.address)) as opened:
        yield opened


@pytest.fixture
def trial(kafka_broker: KafkaBroker, pool: asyncpg.Pool, producer: EventProducer) -> Trial:
    address = kafka_broker.address
    return Trial(
        pool, KafkaSettings(bootstrap_servers=address), producer, a_topic(address, partitions=2), a_topic(address)
    )


async def put(trial: Trial, *messages: Sendable, partition: int = 0) -> None:
    await asyncio.to_thread(send, trial.kafka.bootstrap_servers, trial.topic, *messages, partition=partition)


async def put_numbers(trial: Trial, numbers: Sequence[int], *, partition: int = 0) -> None:
    await put(trial, *(str(number).encode() for number in numbers), partition=partition)


async def dead_letters(trial: Trial) -> list[Message]:
    return await asyncio.to_thread(records, trial.kafka.bootstrap_servers, trial.dead_letter_topic)


async def offsets(trial: Trial) -> dict[int, int]:
    async with asyncio.timeout(20):
        while True:
            # A young broker is still finding out who coordinates the group.
            with suppress(BrokerUnavailableError):
                return await asyncio.to_thread(committed, trial.kafka.client_config(), trial.name, trial.topic)


async def until_offset(trial: Trial, offset: int, *, partition: int = 0) -> None:
    async with asyncio.timeout(20):
        while (await offsets(trial))[partition] != offset:
            await asyncio.sleep(0.1)


class Handler:
    """Remembers how often each number was tried, and does what the test says to some of them."""

    def __init__(self, **failures: Exception) -> None:
        self.tries: Counter[int] = Counter()
        self.failures = {int(name.removeprefix("on_")): error for name, error in failures.items()}

    async def __call__(self, fact: Fact, work: UnitOfWork) -> None:
        self.tries[fact.number] += 1
        await remember(fact, work)
        await work.flush()
        if fact.number in self.failures:
            raise self.failures[fact.number]


# --- what a bad message costs


async def test_bad_messages_in_a_batch_cost_the_others_nothing(trial: Trial) -> None:
    handler = Handler(on_30=PermanentError("thirty is out of the question"), on_40=ZeroDivisionError("a bug"))
    await put_numbers(trial, range(20))
    await put(trial, (b"a key", b"no number", [("sender", b"somebody")]))
    await put_numbers(trial, range(20, 50))

    async with trial.member(handler):
        await trial.until_numbers(48)
        await until_offset(trial, 51)
        letters = await dead_letters(trial)

    assert await trial.numbers() == [number for number in range(50) if number not in (30, 40)]
    assert [letter.value for letter in letters] == [b"no number", b"30", b"40"]
    first = letters[0]
    assert (first.key, first.headers[0]) == (b"a key", ("sender", b"somebody"))
    reasons = [letter.header("dlq-error") or b"" for letter in letters]
    assert reasons[0].startswith(b"number is b'no number'")
    assert reasons[1:] == [b"thirty is out of the question", b"a bug"]
    places = {(letter.header("dlq-topic"), letter.header("dlq-offset")) for letter in letters}
    assert places == {(trial.topic.encode(), offset) for offset in (b"20", b"31", b"41")}


async def test_a_bug_gets_three_tries_and_a_permanent_error_one(trial: Trial) -> None:
    handler = Handler(on_1=ZeroDivisionError("a bug"), on_2=PermanentError("never"))
    await put_numbers(trial, range(4))
    async with trial.member(handler, batch_size=1):
        await trial.until_numbers(2)
        await until_offset(trial, 4)
    assert handler.tries == {0: 1, 1: 3, 2: 1, 3: 1}
    assert [letter.header("dlq-error-class") for letter in await dead_letters(trial)] == [
        b"ZeroDivisionError",
        b"PermanentError",
    ]


async def test_an_event_that_comes_again_is_handled_once(trial: Trial) -> None:
    handler = Handler()
    await put_numbers(trial, [1, 2, 1])  # in one transaction
    async with trial.member(handler):
        await until_offset(trial, 3)
        await put_numbers(trial, [2, 3])  # and in a later one
        await until_offset(trial, 5)
    assert await trial.numbers() == [1, 2, 3]
    assert handler.tries == {1: 1, 2: 1, 3: 1}
    assert await dead_letters(trial) == []


async def test_an_outage_is_waited_out_in_order_and_told(trial: Trial) -> None:
    outage = {1: TransientError("the archive is closed")}
    handler = Handler()
    handler.failures.update(outage)
    await put_numbers(trial, range(4))
    async with trial.member(handler) as member:
        await soon(lambda: handler.tries[1] > 4)
        assert member.state.paused_reason == "the archive is closed"
        assert not member.state.is_ready
        assert await trial.numbers() == [0]
        assert (await offsets(trial))[0] == 0
        handler.failures.clear()
        await trial.until_numbers(4)
        await soon(lambda: member.state.paused_reason is None)
    assert await trial.numbers() == [0, 1, 2, 3]
    assert await dead_letters(trial) == []


async def test_a_message_of_the_greatest_size_is_dead_lettered_whole(trial: Trial) -> None:
    value = bytes(MAX_MESSAGE_BYTES - 200)
    await put(trial, value, b"7")
    async with trial.member():
        await trial.until_numbers(1)
    [letter] = await dead_letters(trial)
    assert letter.value == value


async def test_too_many_dead_letters_in_a_row_halt_the_consumer(trial: Trial) -> None:
    await put(trial, b"1", b"bad", b"2", b"bad", b"bad", b"bad", b"3")
    async with trial.member(max_consecutive_dead_letters=3) as member:
        await soon(lambda: member.state.halted_reason)
        assert "3 messages in a row" in (member.state.halted_reason or "")
        assert not member.state.is_ready
        # It goes on polling, takes nothing, and keeps what it did.
        polled_at = member.state.polled_at
        await soon(lambda: member.state.polled_at > polled_at)
        await until_offset(trial, 6)
        assert not member.task.done()
        assert await trial.numbers() == [1, 2]
    assert len(await dead_letters(trial)) == 4


async def test_bad_messages_among_good_ones_are_not_in_a_row(trial: Trial) -> None:
    await put(trial, *[b"bad", b"bad", b"1", b"bad", b"bad", b"2", b"bad"])
    async with trial.member(max_consecutive_dead_letters=3) as member:
        await trial.until_numbers(2)
        await until_offset(trial, 7)
        assert member.state.halted_reason is None
    assert len(await dead_letters(trial)) == 5


async def test_a_dead_letter_that_cannot_be_written_halts_the_consumer(trial: Trial) -> None:
    class RefusingProducer:
        async def send(self, messages: object) -> None:
            raise PermanentError("the broker refuses")

    trial.producer = RefusingProducer()  # type: ignore[assignment]
    await put(trial, b"1", b"bad", b"2")
    async with trial.member() as member:
        await soon(lambda: member.state.halted_reason)
        assert "the broker refuses" in (member.state.halted_reason or "")
        assert not member.task.done()
    # What came before is done, the bad one and what follows come again after a restart.
    assert await trial.numbers() == [1]
    assert (await offsets(trial))[0] == 1


# --- offsets, time, stopping


async def test_offsets_are_committed_after_the_transaction_only(trial: Trial) -> None:
    release = asyncio.Event()

    async def handle(fact: Fact, work: UnitOfWork) -> None:
        await remember(fact, work)
        await release.wait()

    await put_numbers(trial, range(5))
    async with trial.member(handle) as member:
        await soon(lambda: member.state.last_event_at)
        # Twice as long as librdkafka takes to commit what it is told.
        begin = time.monotonic()
        await soon(lambda: time.monotonic() > begin + 2)
        assert (await offsets(trial))[0] == 0
        release.set()
        await until_offset(trial, 5)
    assert await trial.numbers() == list(range(5))


async def test_a_handler_may_take_longer_than_the_poll_interval(trial: Trial) -> None:
    release = asyncio.Event()
    tries: Counter[int] = Counter()

    async def handle(fact: Fact, work: UnitOfWork) -> None:
        tries[fact.number] += 1
        await remember(fact, work)
        await release.wait()

    await put_numbers(trial, [0])
    async with trial.member(handle, client={"max.poll.interval.ms": 1500}) as member:
        await soon(lambda: tries)
        # What comes meanwhile waits, on both partitions.
        await put_numbers(trial, [1, 2])
        await put_numbers(trial, [3, 4], partition=1)
        begin = time.monotonic()
        await soon(lambda: time.monotonic() > begin + 5)
        assert tries == {0: 1}
        release.set()
        await trial.until_numbers(5)
        assert member.assignments == [2]
    assert tries == dict.fromkeys(range(5), 1)
    assert await trial.numbers_of(0) == [0, 1, 2]
    assert await trial.numbers_of(1) == [3, 4]


async def test_a_stop_waits_for_the_message_in_hand(trial: Trial) -> None:
    release = asyncio.Event()
    taken = asyncio.Event()

    async def handle(fact: Fact, work: UnitOfWork) -> None:
        await remember(fact, work)
        taken.set()
        await release.wait()

    await put_numbers(trial, range(3))
    async with trial.member(handle, batch_size=1) as member:
        await asyncio.wait_for(taken.wait(), 20)
        member.loop.stop()
        begin = time.monotonic()
        await soon(lambda: time.monotonic() > begin + 1)
        assert not member.task.done()
        release.set()
        await asyncio.wait_for(member.task, 10)
    assert await trial.numbers() == [0]
    assert (await offsets(trial))[0] == 1


async def test_a_stop_gives_up_on_a_message_that_takes_too_long(trial: Trial) -> None:
    taken = asyncio.Event()

    async def handle(fact: Fact, work: UnitOfWork) -> None:
        await remember(fact, work)
        taken.set()
        await asyncio.Event().wait()

    await put_numbers(trial, range(3))
    async with trial.member(handle, shutdown_grace_s=0.5) as member:
        await asyncio.wait_for(taken.wait(), 20)
        member.loop.stop()
        await asyncio.wait_for(member.task, 10)
    assert await trial.numbers() == []
    assert (await offsets(trial))[0] == 0
    async with trial.member():
        await trial.until_numbers(3)


async def test_a_stop_ends_while_the_broker_is_away(
    pool: asyncpg.Pool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    broker = KafkaBroker(tmp_path_factory.mktemp("kafka"))
    broker.start()
    try:
        kafka = KafkaSettings(bootstrap_servers=broker.address)
        async with EventProducer(kafka) as producer:
            trial = Trial(pool, kafka, producer, a_topic(broker.address), a_topic(broker.address))
            await put_numbers(trial, range(3))
            async with trial.member() as member:
                await trial.until_numbers(3)
                await soon(lambda: member.state.is_connected)
                broker.process.kill()
                await soon(lambda: not member.state.is_connected)
                assert not member.state.is_ready
                begin = time.monotonic()
                await member.stop()
                # Kubernetes waits for 40 s.
                assert time.monotonic() - begin < 20
    finally:
        broker.stop()


async def test_a_consumer_that_cannot_go_on_says_so(trial: Trial) -> None:
    await put_numbers(trial, [1])
    async with trial.member() as member:

        async def broken(*_: object) -> None:
            raise RuntimeError("a fault of the runtime itself")

        member.loop._process = broken
        with pytest.raises(ConsumerFailedError, match="a fault of the runtime itself"):
            await asyncio.wait_for(asyncio.shield(member.task), 30)


async def test_the_trace_of_a_message_is_continued(trial: Trial) -> None:
    seen: list[str | None] = []

    async def handle(fact: Fact, work: UnitOfWork) -> None:
        await remember(fact, work)
        seen.append(current_traceparent())

    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    await put(trial, (None, b"1", [("traceparent", f"00-{trace}-00f067aa0ba902b7-01".encode())]), b"2")
    async with trial.member(handle):
        await trial.until_numbers(2)
    first, second = (traceparent or "" for traceparent in seen)
    assert first.startswith(f"00-{trace}-")
    assert "00f067aa0ba902b7" not in first  # a span of its own
    assert trace not in second


# --- the group


@pytest.mark.parametrize("protocol", ["consumer", "classic"])
async def test_members_may_come_and_go_in_mid_flow(trial: Trial, protocol: str) -> None:
    sent, enough = 0, asyncio.Event()

    async def flow() -> None:
        nonlocal sent
        while not enough.is_set():
            for partition in (0, 1):
                await put_numbers(trial, range(sent, sent + 10), partition=partition)
            sent += 10
            await trial.until_numbers(2 * sent - 60)  # keeps some under way

    flowing = asyncio.create_task(flow())
    async with trial.member(protocol=protocol, batch_size=7) as first:
        await trial.until_numbers(40)
        async with trial.member(protocol=protocol, batch_size=7) as second:
            await soon(lambda: (first.state.partitions, second.state.partitions) == (1, 1))
            await soon(lambda: second.state.last_event_at)
        await soon(lambda: first.state.partitions == 2)
        enough.set()
        await flowing
        await trial.until_numbers(2 * sent)
    assert await trial.numbers_of(0) == await trial.numbers_of(1) == list(range(sent))
    assert await dead_letters(trial) == []


@pytest.mark.parametrize("protocol", ["consumer", "classic"])
@pytest.mark.parametrize("batch_bytes", [1, 1_000_000], ids=["one-by-one", "all-in-one"])
async def test_a_batch_whose_partition_leaves_is_undone_and_nothing_behind_it_is_lost(
    trial: Trial, protocol: str, batch_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer_module, "REVOKE_GRACE_S", 0.5)
    held, release = asyncio.Event(), asyncio.Event()
    cancelled: list[int] = []

    async def handle(fact: Fact, work: UnitOfWork) -> None:
        await remember(fact, work)
        await work.flush()
        held.set()
        try:
            await release.wait()
        except asyncio.CancelledError:
            cancelled.append(fact.number)
            release.set()
            raise

    # Whichever partition leaves, the batch in hand has to do with it or blocks what follows on the other.
    await put_numbers(trial, range(20), partition=0)
    await put_numbers(trial, range(100, 120), partition=1)
    async with trial.member(handle, protocol=protocol, batch_bytes=batch_bytes) as first:
        await asyncio.wait_for(held.wait(), 20)
        async with trial.member(protocol=protocol) as second:
            await soon(lambda: (first.state.partitions, second.state.partitions) == (1, 1))
            release.set()
            await trial.until_numbers(40)
    assert await trial.numbers_of(0) == list(range(20))
    assert await trial.numbers_of(1) == list(range(100, 120))
    if batch_bytes > 1:
        assert len(cancelled) <= 1
