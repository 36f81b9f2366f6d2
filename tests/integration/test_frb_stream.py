"""Server-sent events of a running intake: who follows sees every change once, in order, wherever it begins again."""

import itertools
import json
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.support.frb_intake import EVENTS, PASSWORD, IntakeUnderTest, a_burst, running_intake
from tests.support.runtime import DEADLINE_S, eventually

STREAM = "/api/v1/stream"
WRITERS, CHANGES_OF_EACH = 8, 25


@dataclass(frozen=True)
class Told:
    """An event as a browser hands it out."""

    place: str
    event: str
    record: dict[str, Any]

    @property
    def what(self) -> tuple[int, int]:
        return self.record["frb_id"], self.record["revision"]


@pytest.fixture(scope="module")
def intake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IntakeUnderTest]:
    with running_intake(tmp_path_factory.mktemp("stream")) as running:
        yield running


@pytest.fixture(scope="module")
def everybody(intake: IntakeUnderTest) -> httpx.Client:
    return intake.client(intake.add_user())


@contextmanager
def following(intake: IntakeUnderTest, place: str | None = None) -> Iterator[tuple[str, Iterator[Told]]]:
    """The place where the stream begins, and its events."""
    headers = {} if place is None else {"Last-Event-ID": place}
    with intake.client(None).stream("GET", STREAM, headers=headers) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        blocks = _blocks(answer.iter_lines())
        start = next(blocks)
        assert start.keys() == {"id"}
        yield start["id"], (Told(b["id"], b["event"], json.loads(b["data"])) for b in blocks if "data" in b)


def _blocks(lines: Iterator[str]) -> Iterator[dict[str, str]]:
    """The fields between blank lines; a line that begins with a colon is a comment."""
    block: dict[str, str] = {}
    end = time.monotonic() + DEADLINE_S
    for line in lines:
        assert time.monotonic() < end, "what was waited for did not come"
        if line == "" and block:
            yield block
            block = {}
        elif line and not line.startswith(":"):
            name, _, value = line.partition(": ")
            block[name] = block[name] + "\n" + value if name in block else value


def submitted(client: httpx.Client) -> int:
    return int(client.post(EVENTS, json=a_burst()).raise_for_status().json()["id"])


def test_every_change_is_told_as_it_happens(intake: IntakeUnderTest, everybody: httpx.Client) -> None:
    with following(intake) as (_, events):
        burst_id = submitted(everybody)
        address = f"{EVENTS}/{burst_id}"
        everybody.post(f"{address}/ratings", json={"rating": "confirm"}).raise_for_status()
        everybody.post(f"{address}/status", json={"status": "confirmed", "reason": "Seen."}).raise_for_status()
        told = list(itertools.islice(events, 3))

    assert [(event.event, event.what) for event in told] == [
        ("created", (burst_id, 1)),
        ("rated", (burst_id, 2)),
        ("status_changed", (burst_id, 3)),
    ]
    assert told[1].record["votes"] == {"confirm": 1, "reject": 0, "unsure": 0}
    assert (told[2].record["status"], told[2].record["status_reason"]) == ("CONFIRMED", "Seen.")
    burst = everybody.get(address).json()
    assert told[2].record["latest"] == burst["latest"]


def test_without_a_place_only_what_comes_is_told(intake: IntakeUnderTest, everybody: httpx.Client) -> None:
    submitted(everybody)
    with following(intake) as (_, events):
        burst_id = submitted(everybody)
        assert next(events).what == (burst_id, 1)


def test_the_place_at_the_beginning_is_enough_to_come_back(intake: IntakeUnderTest, everybody: httpx.Client) -> None:
    with following(intake) as (place, _):
        pass
    bursts = [submitted(everybody) for _ in range(3)]

    with following(intake, place) as (begun, events):
        told = list(itertools.islice(events, 3))

    assert begun == place
    assert [event.what for event in told] == [(burst_id, 1) for burst_id in bursts]
    with following(intake, told[0].place) as (_, events):
        assert [event.what for event in itertools.islice(events, 2)] == [(burst_id, 1) for burst_id in bursts[1:]]


def test_nothing_is_missed_or_told_twice_by_who_comes_and_goes_while_many_write(
    intake: IntakeUnderTest, everybody: httpx.Client
) -> None:
    """Transactions that began early commit late: a follower by the number alone would pass over them."""
    with following(intake) as (start, _):
        pass
    shared = submitted(everybody)
    writers = [intake.client(intake.add_user()) for _ in range(WRITERS)]

    def write(client: httpx.Client) -> None:
        mine = submitted(client)
        for number in range(1, CHANGES_OF_EACH):
            burst_id = mine if number % 4 == 0 else shared
            rating = ("confirm", "reject", "unsure")[number % 3]
            client.post(f"{EVENTS}/{burst_id}/ratings", json={"rating": rating}).raise_for_status()

    count = 1 + WRITERS * CHANGES_OF_EACH
    in_parts: list[Told] = []

    def stay() -> list[Told]:
        with following(intake, start) as (_, events):
            return list(itertools.islice(events, count))

    def come_and_go() -> None:
        while len(in_parts) < count:
            place = in_parts[-1].place if in_parts else start
            with following(intake, place) as (_, events):
                in_parts.extend(itertools.islice(events, min(11, count - len(in_parts))))

    with ThreadPoolExecutor(WRITERS + 2) as pool:
        staying, coming = pool.submit(stay), pool.submit(come_and_go)
        for writing in [pool.submit(write, client) for client in writers]:
            writing.result()
        coming.result()
        wholly = staying.result()

    assert [event.what for event in wholly] == [event.what for event in in_parts]
    assert [event.place for event in wholly] == [event.place for event in in_parts]
    assert len({event.what for event in in_parts}) == count
    revisions: dict[int, list[int]] = defaultdict(list)
    for event in in_parts:
        revisions[event.record["frb_id"]].append(event.record["revision"])
    assert {burst_id: list(range(1, len(seen) + 1)) for burst_id, seen in revisions.items()} == revisions
    assert len(revisions) == WRITERS + 1


@pytest.mark.parametrize("place", ["yesterday", "1", "-1-2", "1-2-3", "9" * 30 + "-1", "1 OR 1=1"])
def test_a_place_that_no_event_has_is_refused(intake: IntakeUnderTest, place: str) -> None:
    answer = intake.client(None).get(STREAM, headers={"Last-Event-ID": place})
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["field"] == "Last-Event-ID"


def test_followers_without_an_account_are_so_many_and_no_more(intake: IntakeUnderTest) -> None:
    reader = intake.add_user("read")
    other = intake.system.start("frb_intake", TOCSIN_FRB_INTAKE__MAX_ANONYMOUS_FOLLOWERS="2")
    other.wait_ready()
    address = f"http://127.0.0.1:{other.port}{STREAM}"

    @contextmanager
    def status(**how: Any) -> Iterator[httpx.Response]:
        with httpx.stream("GET", address, timeout=60, **how) as answer:
            yield answer

    def is_admitted() -> bool:
        with status() as answer:
            return answer.status_code == 200

    try:
        with status() as first:
            with status() as second:
                assert (first.status_code, second.status_code) == (200, 200)
                with status() as third:
                    assert third.status_code == 503
                    assert int(third.headers["retry-after"]) > 0
                with status(auth=(reader, PASSWORD)) as known:
                    assert known.status_code == 200
            eventually(is_admitted, "the place of who has left")
            assert next(first.iter_lines()).startswith("id: ")
    finally:
        other.stop()


def test_a_service_that_stops_ends_its_streams(intake: IntakeUnderTest) -> None:
    other = intake.system.start("frb_intake")
    other.wait_ready()
    with httpx.stream("GET", f"http://127.0.0.1:{other.port}{STREAM}", timeout=60) as answer:
        lines = answer.iter_lines()
        assert next(lines).startswith("id: ")
        other.stop()
        assert other.process.returncode == 0
