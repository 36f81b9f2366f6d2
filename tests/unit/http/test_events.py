"""What is sent is what a browser makes of it; who is too slow is let go and knows it."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator

from hypothesis import given
from hypothesis import strategies as st

from shared.http.events import HEARTBEAT, Broadcast, encode_event, encode_place, event_stream

TEXT = st.text(st.characters(exclude_categories=["Cs"]))


def understood(stream: bytes) -> Iterator[tuple[str, str, str]]:
    """Id, name and data of each event, read as section 9.2.6 of the standard says."""
    last_id, name, data = "", "", ""
    for line in re.split("\r\n|\n|\r", stream.decode()):
        if not line:
            if data:
                yield last_id, name or "message", data.removesuffix("\n")
            name, data = "", ""
            continue
        key, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if key == "id" and "\0" not in value:
            last_id = value
        elif key == "event":
            name = value
        elif key == "data":
            data += value + "\n"


@given(TEXT, TEXT.filter(bool), TEXT)
def test_a_browser_understands_what_was_meant(event_id: str, event: str, data: str) -> None:
    stream = HEARTBEAT + encode_event(event_id=event_id, event=event, data=data) + HEARTBEAT
    ((seen_id, seen_event, seen_data),) = understood(stream)
    assert seen_data == data.replace("\r\n", "\n").replace("\r", "\n")
    for seen, meant in ((seen_id, event_id), (seen_event, event)):
        assert seen == meant.translate({0: None, ord("\n"): " ", ord("\r"): " "}) or seen == "message"


def test_nobody_can_slip_in_an_event() -> None:
    stream = encode_event(event_id="7\n\ndata: forged", event="created\ndata: forged", data="a\n\nevent: forged\n\nb")
    ((_, event, data),) = understood(stream)
    assert (event, data) == ("created data: forged", "a\n\nevent: forged\n\nb")


def test_a_place_is_known_before_anything_happens() -> None:
    ((event_id, _, _),) = understood(encode_place("9-2") + b"data: x\n\n")
    assert event_id == "9-2"
    assert not list(understood(encode_place("9-2")))


def test_a_stream_is_neither_kept_nor_held_back() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield HEARTBEAT

    answer = event_stream(chunks())
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert (answer.headers["cache-control"], answer.headers["x-accel-buffering"]) == ("no-store", "no")


def drained(queue: asyncio.Queue[int | None]) -> list[int | None]:
    return [queue.get_nowait() for _ in range(queue.qsize())]


async def test_everybody_gets_everything_from_then_on_in_order() -> None:
    broadcast: Broadcast[int] = Broadcast()
    early = broadcast.subscribe()
    broadcast.publish(1)
    late = broadcast.subscribe()
    broadcast.publish(2)
    broadcast.publish(3)
    assert (drained(early), drained(late)) == ([1, 2, 3], [2, 3])


async def test_who_is_too_slow_gets_what_waits_and_then_the_end() -> None:
    broadcast: Broadcast[int] = Broadcast(capacity=2)
    slow, quick = broadcast.subscribe(), broadcast.subscribe()
    seen = []
    for item in range(5):
        broadcast.publish(item)
        seen += drained(quick)
    assert drained(slow) == [0, 1, None]
    assert seen == [0, 1, 2, 3, 4]


async def test_who_left_gets_nothing_more() -> None:
    broadcast: Broadcast[int] = Broadcast()
    queue = broadcast.subscribe()
    broadcast.leave(queue)
    broadcast.leave(queue)
    broadcast.publish(1)
    assert drained(queue) == []


async def test_at_the_end_everybody_gets_what_waits_and_then_the_end() -> None:
    broadcast: Broadcast[int] = Broadcast()
    one, other = broadcast.subscribe(), broadcast.subscribe()
    broadcast.publish(1)
    broadcast.end()
    broadcast.publish(2)
    assert drained(one) == drained(other) == [1, None]
