"""A feed is handled under the same rules as a topic."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

import pytest

from shared.errors import TransientError
from shared.inbox import feed as feed_module
from shared.inbox.feed import FeedLoop
from shared.inbox.state import ConsumerState
from shared.kafka.consumer import ConsumerHaltedError
from shared.kafka.message import Message

DEADLINE_S = 5.0


def a_message(number: int) -> Message:
    return Message(topic="trial", partition=-1, offset=number, key=None, value=b"x")


class FakeFeed:
    """Numbers, each until it is done; may be told that it cannot look."""

    def __init__(self, count: int) -> None:
        self.left = list(range(count))
        self.outage: TransientError | None = None
        self.looks = 0

    async def messages(self) -> AsyncIterator[Message | None]:
        while True:
            self.looks += 1
            if self.outage is not None:
                raise self.outage
            for number in list(self.left):
                yield a_message(number)
            yield None
            await asyncio.sleep(0.01)

    async def done(self, message: Message) -> None:
        self.left.remove(message.offset)


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_module, "RETRY_S", 0.01)
    monkeypatch.setattr(feed_module, "TURN_S", 0.02)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.005)


class Trial:
    def __init__(self, feed: FakeFeed) -> None:
        self.feed = feed
        self.state = ConsumerState("trial.feed", ("trial",))
        self.handled: list[int] = []
        self.release = asyncio.Event()
        self.release.set()
        self.failure: Exception | None = None
        self.loop = FeedLoop(feed, process=self.process, state=self.state)

    async def process(self, messages: Sequence[Message], done: Callable[[Message], None]) -> None:
        await self.release.wait()
        if self.failure is not None:
            raise self.failure
        for message in messages:
            self.handled.append(message.offset)
            done(message)

    async def __aenter__(self) -> "Trial":
        self.task = asyncio.create_task(self.loop.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.loop.stop()
        await asyncio.wait_for(self.task, DEADLINE_S)


async def test_messages_are_handled_in_order_and_remembered() -> None:
    async with Trial(FakeFeed(3)) as trial:
        await until(lambda: not trial.feed.left)
        assert trial.handled == [0, 1, 2]
        assert trial.state.is_ready


async def test_a_message_that_waits_for_an_outage_does_not_make_the_service_look_dead() -> None:
    trial = Trial(FakeFeed(1))
    trial.release.clear()
    async with trial:
        await until(lambda: trial.feed.looks)
        seen = trial.state.polled_at
        await until(lambda: trial.state.polled_at > seen)


async def test_a_feed_that_cannot_look_is_paused_until_it_can_even_when_there_is_nothing_new() -> None:
    feed = FakeFeed(0)
    feed.outage = TransientError("the folder is not there")
    async with Trial(feed) as trial:
        await until(lambda: trial.state.paused_reason)
        assert trial.state.why_waiting == "the folder is not there"
        feed.outage = None
        await until(lambda: trial.state.is_ready)


async def test_a_halted_feed_takes_nothing_more_and_says_why() -> None:
    trial = Trial(FakeFeed(2))
    trial.failure = ConsumerHaltedError("too many dead letters")
    async with trial:
        await until(lambda: trial.state.halted_reason)
        looks = trial.feed.looks
        seen = trial.state.polled_at
        await until(lambda: trial.state.polled_at > seen)
        assert trial.feed.looks == looks
        assert not trial.task.done()
    assert trial.feed.left == [0, 1]


async def test_a_stop_leaves_the_message_in_hand_for_the_next_start() -> None:
    trial = Trial(FakeFeed(1))
    trial.release.clear()
    async with trial:
        await until(lambda: trial.feed.looks)
    assert trial.handled == []
    assert trial.feed.left == [0]


async def test_a_fault_of_the_runtime_ends_the_loop_loudly() -> None:
    trial = Trial(FakeFeed(1))
    trial.failure = RuntimeError("a fault")
    with pytest.raises(RuntimeError, match="a fault"):
        await asyncio.wait_for(trial.loop.run(), DEADLINE_S)
