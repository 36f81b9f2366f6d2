"""The live feed: nothing is missed and nothing told twice, whatever comes and goes meanwhile."""

import asyncio
import contextlib
import re
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import httpx
import pytest
import uvicorn
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from fastapi import FastAPI, Request

from cli.stack.kafka import KafkaBroker
from services.console.happenings import TOPICS, Line
from services.console.live import KEPT, FeedState, Live
from services.console.pages import files
from services.console.site import Site
from shared.http.problems import ProblemError, install_problem_handlers
from shared.kafka.message import wire_headers
from shared.outbox.event import outgoing
from tests.support.coincidence import a_burst_record
from tests.support.console import ConsoleUnderTest
from tests.support.runtime import eventually, send, soon

NOWHERE = {"bootstrap.servers": "127.0.0.1:1"}
UNTIL_S = 60.0


def a_line(number: int = 1, *, is_quiet: bool = False) -> Line:
    at = datetime(2026, 11, 21, tzinfo=UTC)
    return Line("burst", (f"frb/{number}",), "Burst: created", "", at, is_test=False, is_quiet=is_quiet)


def a_feed(*, max_streams: int = 2, capacity: int = 500) -> Live:
    return Live(NOWHERE, lambda line: f"<li>{line.name}</li>", max_streams=max_streams, capacity=capacity)


@contextlib.asynccontextmanager
async def followed(live: Live, after: str | None = None) -> AsyncIterator[AsyncIterator[str]]:
    """What a browser gets, chunk by chunk."""
    chunks = live.response(after).body_iterator
    try:
        yield (bytes(chunk).decode() async for chunk in chunks)  # type: ignore[arg-type]
    finally:
        await chunks.aclose()  # type: ignore[attr-defined]


async def first(live: Live, after: str | None = None) -> str:
    async with followed(live, after) as chunks:
        return await anext(chunks)


def names(text: str) -> list[str]:
    return re.findall(r"<li>burst (\d+)</li>", text)


async def test_a_line_is_told_with_the_pages_that_it_changes() -> None:
    live = a_feed()
    async with followed(live) as chunks:
        assert "event: state\ndata: feed waits\n" in await anext(chunks)
        live.publish(a_line(7))
        told = await anext(chunks)
    assert "event: feed\ndata: <li>burst 7</li>\n" in told
    assert "event: changed-frb-7\n" in told


async def test_what_is_no_news_changes_its_page_alone() -> None:
    live = a_feed()
    async with followed(live) as chunks:
        await anext(chunks)
        live.publish(a_line(7, is_quiet=True))
        told = await anext(chunks)
    assert "event: changed-frb-7\n" in told
    assert "event: feed" not in told


async def test_who_comes_back_gets_what_was_missed_and_no_more() -> None:
    live = a_feed()
    live.publish(a_line(1))
    place = live.place
    live.publish(a_line(2))
    live.publish(a_line(3))
    assert names(await first(live, place)) == ["2", "3"]
    assert names(await first(live, live.place)) == []
    assert names(await first(live)) == []


async def test_the_place_of_who_comes_is_told_with_the_first_words() -> None:
    live = a_feed()
    live.publish(a_line(1))
    assert f"id: {live.place}\n" in await first(live)


@pytest.mark.parametrize("place", ["0", "7", "deadbeef-0", "x" * 64, "-", "\N{DEVANAGARI DIGIT ONE}"])
async def test_a_place_of_another_process_has_the_page_load_anew(place: str) -> None:
    live = a_feed()
    live.publish(a_line(1))
    told = await first(live, place)
    assert "event: gap\ndata: load anew\n" in told
    assert names(told) == []


async def test_who_missed_too_much_loads_the_page_anew() -> None:
    live = a_feed()
    begin = live.place
    for number in range(KEPT + 1):
        live.publish(a_line(number))
    assert "event: gap\n" in await first(live, begin)
    epoch = begin.partition("-")[0]
    told = await first(live, f"{epoch}-1")
    assert "event: gap\n" not in told
    assert len(names(told)) == KEPT


async def test_a_browser_that_is_too_slow_is_let_go_and_misses_nothing() -> None:
    live = a_feed(capacity=3)
    seen, place = [], ""
    async with followed(live) as chunks:
        await anext(chunks)
        for number in range(10):
            live.publish(a_line(number))
        async for chunk in chunks:
            seen += names(chunk)
            place = re.findall(r"id: (\S+)", chunk)[-1]
    seen += names(await first(live, place))
    assert seen == [str(number) for number in range(10)]


def test_places_are_held_while_a_stream_lasts() -> None:
    live = a_feed(max_streams=1)
    with live.viewing():
        with pytest.raises(ProblemError) as refused, live.viewing():
            pass
        assert refused.value.status == 503
        assert int(refused.value.headers["Retry-After"]) > 0
    with live.viewing():
        pass


async def test_streams_end_with_the_feed_though_no_broker_is_there() -> None:
    live = a_feed()
    running = asyncio.create_task(live.run())
    await asyncio.sleep(0)  # until it runs
    async with followed(live) as chunks:
        await anext(chunks)
        running.cancel()
        assert [chunk async for chunk in chunks] == []
        with contextlib.suppress(asyncio.CancelledError):
            await running
    with pytest.raises(ProblemError), live.viewing():
        pass


@contextlib.asynccontextmanager
async def following(address: str) -> AsyncIterator[tuple[Live, list[Line]]]:
    live = Live({"bootstrap.servers": address}, lambda _: "", max_streams=1)
    heard: list[Line] = []
    live.on_line(heard.append)
    running = asyncio.create_task(live.run())
    try:
        yield live, heard
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


def tell_burst(address: str, frb_id: int) -> None:
    event = outgoing("frb.events", a_burst_record(frb_id=frb_id), is_test=False, sender="test")
    send(address, "frb.events", (event.key.encode(), event.value, wire_headers(event.headers)))


def make_topics(address: str, *names: str) -> None:
    client = AdminClient({"bootstrap.servers": address})
    for made in client.create_topics([NewTopic(name, 2, 1) for name in names]).values():
        made.result(30)


async def test_topics_that_come_late_and_a_broker_that_goes_lose_nothing(tmp_path: Path) -> None:
    broker = KafkaBroker(tmp_path / "kafka")
    try:
        await asyncio.to_thread(broker.start)
        make_topics(broker.address, "gw.alerts")
        async with following(broker.address) as (live, heard):
            await soon(lambda: live.state is FeedState.LIVE)
            make_topics(broker.address, *(set(TOPICS) - {"gw.alerts"}))
            # At once: before anybody has looked for the topic.
            await asyncio.to_thread(tell_burst, broker.address, 1)
            await soon(lambda: [line.name for line in heard] == ["burst 1"])
            await asyncio.to_thread(broker.stop)
            await soon(lambda: live.state is FeedState.WAITS)
            await asyncio.to_thread(broker.start)
            await asyncio.to_thread(tell_burst, broker.address, 2)
            await soon(lambda: [line.name for line in heard] == ["burst 1", "burst 2"])
            await soon(lambda: live.state is FeedState.LIVE)
    finally:
        await asyncio.to_thread(broker.stop)


async def test_a_thread_that_dies_takes_the_service_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> bool:
        raise ZeroDivisionError

    monkeypatch.setattr("services.console.live._take_up", fail)
    with pytest.raises(ZeroDivisionError):
        await asyncio.wait_for(a_feed().run(), 30)


def until(lines: Iterator[str], wanted: str) -> str:
    """What a stream brings up to the first line with this in it."""
    seen = []
    end = time.monotonic() + UNTIL_S
    for line in lines:
        seen.append(line)
        if wanted in line:
            return "\n".join(seen)
        assert time.monotonic() < end, f"not within {UNTIL_S:.0f} s: {wanted}, but {seen}"
    raise AssertionError(f"the stream ended without {wanted}: {seen}")


def test_a_burst_is_told_to_who_follows_as_it_comes(console: ConsoleUnderTest) -> None:
    with console.browser().stream("GET", "/live") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = answer.iter_lines()
        until(lines, "data: live")
        burst_id = console.submit()
        told = until(lines, f"event: changed-frb-{burst_id}")
    assert f'<a href="/frb/{burst_id}">' in told


def test_what_happened_while_a_page_was_made_is_told_to_it(console: ConsoleUnderTest) -> None:
    browser = console.browser()
    address = re.search(r'sse-connect="(/live\?after=[0-9a-f]{8}-\d+)"', browser.get("/help").text)
    assert address is not None
    burst_id = console.submit()
    with browser.stream("GET", address[1]) as answer:
        until(answer.iter_lines(), f"event: changed-frb-{burst_id}")


@contextlib.contextmanager
def served(live: Live) -> Iterator[str]:
    """The address of a server that has the feed and nothing else."""

    async def anybody(_: Request) -> None:
        """Let everybody read."""

    app = FastAPI()
    app.include_router(files.routes(cast(Site, SimpleNamespace(live=live, sessions=SimpleNamespace(reader=anybody)))))
    install_problem_handlers(app)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}/live"
        finally:
            server.should_exit = True
            thread.join(30)


def test_a_full_house_is_told_until_somebody_leaves() -> None:
    with served(a_feed(max_streams=1)) as address:
        with httpx.stream("GET", address, timeout=30) as answer:
            assert answer.status_code == 200
            lines = answer.iter_lines()
            next(lines)
            refused = httpx.get(address, timeout=30)
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "30")

        def is_let_in() -> bool:
            with httpx.stream("GET", address, timeout=30) as again:
                return again.status_code == 200

        eventually(is_let_in, "the place free again", deadline_s=30)


@pytest.mark.parametrize("place", ["?after=", "?after=zz", "", "?after=" + "0" * 64])
def test_any_place_is_answered(place: str) -> None:
    with served(a_feed()) as address, httpx.stream("GET", address + place, timeout=30) as answer:
        assert answer.status_code == 200
        until(answer.iter_lines(), "data: feed waits")


def test_a_stream_ends_whole_when_its_process_stops(console: ConsoleUnderTest) -> None:
    small = console.system.start("console")
    small.wait_ready()
    with httpx.stream("GET", f"http://127.0.0.1:{small.port}/live", timeout=60) as answer:
        lines = answer.iter_lines()
        next(lines)
        small.process.terminate()
        # One that the server has to cut off after its grace would end in the middle, and raise.
        assert all(line == "" or line.partition(":")[0] in ("event", "data", "id", "retry", "") for line in lines)
    assert small.process.wait(40) == 0
    assert "Traceback" not in small.log.read_text()
