"""What the consumer's thread stores, fetches again and hands over when the group takes partitions away in between."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from shared.inbox.state import ConsumerState
from shared.kafka import consumer as consumer_module
from shared.kafka.consumer import ConsumerHaltedError, ConsumerLoop
from shared.kafka.message import Message
from shared.settings import ConsumerSettings

TOPIC = "trial"


def a_message(partition: int, offset: int) -> Message:
    return Message(topic=TOPIC, partition=partition, offset=offset, key=None, value=b"x")


class FakeConsumer:
    """Notes what it is told; what the group does happens inside `poll`, as with the real one."""

    def __init__(self) -> None:
        self.happenings: list[Callable[[], None]] = []
        self.sought: dict[int, int] = {}
        self.stored: dict[int, int] = {}
        self.paused: set[int] = set()

    def poll(self, timeout_s: float) -> None:
        if self.happenings:
            self.happenings.pop(0)()

    def seek(self, place: TopicPartition) -> None:
        self.sought[place.partition] = place.offset

    def store_offsets(self, *, offsets: list[TopicPartition]) -> None:
        self.stored |= {place.partition: place.offset for place in offsets}

    def pause(self, partitions: list[TopicPartition]) -> None:
        self.paused |= {partition.partition for partition in partitions}

    def resume(self, partitions: list[TopicPartition]) -> None:
        self.paused -= {partition.partition for partition in partitions}

    def incremental_assign(self, partitions: list[TopicPartition]) -> None:
        """A pause from an earlier assignment may have outlived it."""

    def incremental_unassign(self, partitions: list[TopicPartition]) -> None:
        """As above."""


Process = Callable[[Sequence[Message], Callable[[Message], None]], Awaitable[None]]


class Trial:
    def __init__(self, process: Process, **settings: Any) -> None:
        self.consumer = cast(Any, FakeConsumer())
        self.state = ConsumerState("trial", (TOPIC,))
        self.loop = ConsumerLoop(
            name="trial",
            topics=[TOPIC],
            config={},
            process=process,
            observer=self.state,
            settings=ConsumerSettings(**settings),
        )
        self.loop._on_assign(self.consumer, [TopicPartition(TOPIC, number) for number in (0, 1)])

    def revoke(self, partition: int) -> None:
        self.loop._on_revoke(self.consumer, [TopicPartition(TOPIC, partition)])

    def assign(self, partition: int) -> None:
        self.loop._on_assign(self.consumer, [TopicPartition(TOPIC, partition)])

    async def work_off(self, *messages: Message) -> None:
        running = asyncio.get_running_loop()
        await asyncio.to_thread(self.loop._work_off, self.consumer, running, list(messages))


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumer_module, "PAUSE_AFTER_S", 0.02)
    monkeypatch.setattr(consumer_module, "POLL_S", 0.02)
    monkeypatch.setattr(consumer_module, "REVOKE_GRACE_S", 0.1)


class Handled:
    """Marks everything as done, after waiting for leave where the test says so."""

    def __init__(self) -> None:
        self.messages: list[tuple[int, int]] = []
        self.waits: dict[tuple[int, int], threading.Event] = {}
        self.ends_badly = False

    async def __call__(self, messages: Sequence[Message], done: Callable[[Message], None]) -> None:
        for message in messages:
            place = message.partition, message.offset
            try:
                while place in self.waits and not self.waits[place].is_set():
                    await asyncio.sleep(0.005)
            except asyncio.CancelledError:
                if self.ends_badly:
                    raise RuntimeError("the connection broke while rolling back") from None
                raise
            self.messages.append(place)
            done(message)


async def test_batches_are_stored_as_they_are_done() -> None:
    handled = Handled()
    trial = Trial(handled, batch_bytes=2)
    await trial.work_off(*(a_message(0, offset) for offset in range(5)), a_message(1, 7))
    assert handled.messages == [(0, 0), (0, 1), (0, 2), (0, 3), (0, 4), (1, 7)]
    assert trial.consumer.stored == {0: 5, 1: 8}
    assert not trial.consumer.sought


async def test_what_came_behind_an_undone_batch_is_fetched_again() -> None:
    handled = Handled()
    handled.waits[0, 0] = threading.Event()  # for ever
    trial = Trial(handled, batch_bytes=1)
    trial.consumer.happenings.append(lambda: trial.revoke(0))
    await trial.work_off(a_message(0, 0), a_message(0, 1), a_message(1, 5), a_message(1, 6))
    # Partition 0 is somebody else's; of partition 1 nothing was handled, though librdkafka has given it out.
    assert handled.messages == []
    assert trial.consumer.sought == {1: 5}
    assert not trial.consumer.stored
    # It was paused when it left; should it come back, it flows.
    trial.assign(0)
    assert not trial.consumer.paused


async def test_an_undone_batch_of_both_partitions_is_fetched_again_where_it_is_still_held() -> None:
    handled = Handled()
    handled.waits[1, 5] = threading.Event()
    trial = Trial(handled)
    trial.consumer.happenings.append(lambda: trial.revoke(0))
    await trial.work_off(a_message(0, 0), a_message(1, 4), a_message(1, 5), a_message(0, 1))
    # What was done in time is stored for the next owner, too.
    assert trial.consumer.stored == {0: 1, 1: 5}
    assert trial.consumer.sought == {1: 5}


async def test_a_batch_that_ends_in_time_is_stored_before_its_partition_leaves() -> None:
    handled = Handled()
    released = handled.waits[0, 0] = threading.Event()
    trial = Trial(handled)

    def leave() -> None:
        released.set()
        trial.revoke(0)
        assert trial.consumer.stored == {0: 1}

    trial.consumer.happenings.append(leave)
    await trial.work_off(a_message(0, 0))
    assert handled.messages == [(0, 0)]


async def test_messages_of_a_partition_that_left_meanwhile_are_not_handed_over() -> None:
    handled = Handled()
    released = handled.waits[0, 0] = threading.Event()
    trial = Trial(handled, batch_bytes=1)

    def leave() -> None:
        trial.revoke(1)
        released.set()

    trial.consumer.happenings.append(leave)
    await trial.work_off(a_message(0, 0), a_message(1, 5), a_message(0, 1))
    assert handled.messages == [(0, 0), (0, 1)]
    assert trial.consumer.stored == {0: 2}


async def test_a_partition_that_comes_while_the_others_are_paused_is_paused() -> None:
    handled = Handled()
    released = handled.waits[0, 0] = threading.Event()
    trial = Trial(handled)
    seen: list[set[int]] = []

    def come() -> None:
        trial.assign(2)
        seen.append(set(trial.consumer.paused))
        released.set()

    trial.consumer.happenings.append(come)
    await trial.work_off(a_message(0, 0))
    assert seen == [{0, 1, 2}]
    assert not trial.consumer.paused


async def test_a_lost_partition_stores_nothing() -> None:
    handled = Handled()
    handled.waits[0, 1] = threading.Event()
    trial = Trial(handled)
    trial.consumer.happenings.append(
        lambda: trial.loop._on_lost(trial.consumer, [TopicPartition(TOPIC, number) for number in (0, 1)])
    )
    await trial.work_off(a_message(0, 0), a_message(0, 1))
    assert not trial.consumer.stored
    assert not trial.consumer.sought
    assert trial.state.partitions == 0


async def test_an_abandoned_batch_that_ends_badly_does_not_end_the_consumer() -> None:
    handled = Handled()
    handled.waits[0, 0] = threading.Event()
    handled.ends_badly = True
    trial = Trial(handled)
    trial.consumer.happenings.append(lambda: trial.revoke(0))
    await trial.work_off(a_message(0, 0), a_message(1, 3))
    assert trial.consumer.sought == {1: 3}


async def test_a_batch_that_fails_by_itself_ends_the_consumer() -> None:
    async def fail(messages: Sequence[Message], done: Callable[[Message], None]) -> None:
        raise RuntimeError("a fault of the runtime")

    with pytest.raises(RuntimeError, match="a fault of the runtime"):
        await Trial(fail).work_off(a_message(0, 0))


async def test_a_batch_is_undone_when_the_client_fails_for_good() -> None:
    handled = Handled()
    handled.waits[0, 0] = threading.Event()
    trial = Trial(handled)

    def fail() -> None:
        raise OSError("librdkafka has given up")

    trial.consumer.happenings.append(fail)
    with pytest.raises(OSError, match="given up"):
        await trial.work_off(a_message(0, 0))
    assert handled.messages == []
    assert not trial.consumer.stored


async def test_a_halted_consumer_keeps_what_was_done_and_takes_nothing_until_it_is_stopped() -> None:
    async def halt(messages: Sequence[Message], done: Callable[[Message], None]) -> None:
        done(messages[0])
        raise ConsumerHaltedError("too many dead letters")

    trial = Trial(halt)
    polls = 0

    def stop_after_a_while() -> None:
        nonlocal polls
        polls += 1
        assert trial.consumer.paused == {0, 1}
        if polls == 3:
            trial.loop.stop()

    trial.consumer.happenings += [stop_after_a_while] * 3
    await trial.work_off(a_message(0, 0), a_message(0, 1), a_message(1, 4))
    assert trial.state.halted_reason == "too many dead letters"
    assert trial.consumer.stored == {0: 1}
    assert trial.consumer.sought == {0: 1, 1: 4}


def test_a_fatal_complaint_of_the_client_ends_the_consumer() -> None:
    # What error_cb is given: the code says fatal, `fatal()` does not.
    error = KafkaError(KafkaError._FATAL, "Fatal error: Broker: The group id does not exist")
    with pytest.raises(KafkaException, match="does not exist"):
        Trial(Handled()).loop._client_error(error)


def test_complaints_of_the_client_are_told_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    clock = [1000.0]
    trial = Trial(Handled())
    monkeypatch.setattr("shared.kafka.consumer.time.monotonic", lambda: clock[0])
    monkeypatch.setattr(
        trial.loop, "_log", type("Log", (), {"warning": lambda _, __, code, **___: told.append(code)})()
    )
    for _ in range(100):
        trial.loop._client_error(KafkaError(KafkaError._TRANSPORT))
        trial.loop._client_error(KafkaError(KafkaError._ALL_BROKERS_DOWN))
    clock[0] += 61
    trial.loop._client_error(KafkaError(KafkaError._TRANSPORT))
    assert told == ["_TRANSPORT", "_ALL_BROKERS_DOWN", "_TRANSPORT"]
