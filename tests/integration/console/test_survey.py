"""A look at everything, when nothing answers as it should."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from services.console import system
from services.console.system import State, Surveyor
from shared.db.pool import create_pool
from shared.settings import DatabaseSettings, KafkaSettings

NOBODY = "127.0.0.1:1"
WELL: dict[str, Any] = {
    "service": "well",
    "version": "1",
    "ready": True,
    "outbox_depth": 3,
    "outbox_waiting": None,
    "consumers": [
        {"name": "well.local", "topic": "gw.alerts,gw.skymaps", "connected": True, "partitions": 2, "lag": 7},
        {"name": "well.halted", "topic": "gw.alerts", "connected": True, "partitions": 2, "halted": "50 in a row"},
        {"name": "well.paused", "topic": "", "connected": True, "partitions": 2, "paused": True},
        {"name": "well.lost", "topic": "x", "connected": False, "last_event_age_s": 12.5},
        {"name": "well.idle", "topic": "x", "connected": True},
    ],
    "sources": [{"name": "local", "connected": True, "last_message_age_s": None, "last_heartbeat_age_s": 2.0}],
}


class Services:
    """Services that misbehave, each in its way."""

    def __init__(self) -> None:
        self.asked = 0

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked += 1
        match request.url.host:
            case "well":
                return httpx.Response(200, json=WELL if request.url.path == "/status" else {"waiting_for": {}})
            case "waiting":
                if request.url.path == "/status":
                    return httpx.Response(200, json=WELL | {"consumers": [], "sources": []})
                reasons = {"database": "does not answer", "outbox": "<b>no</b> broker"}
                return httpx.Response(503, json={"waiting_for": reasons})
            case "hangs":
                await asyncio.sleep(60)
            case "garbage":
                return httpx.Response(200, text="<html>")
            case "failing":
                return httpx.Response(500, json={})
            case "large":
                return httpx.Response(200, content=b" " * (system.MAX_REPORT_BYTES + 1))
            case "strange":
                return httpx.Response(200, json=WELL | {"consumers": "many"})
        raise httpx.ConnectError("nobody listens")


@pytest.fixture
def services() -> Services:
    return Services()


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def surveyor(services: Services, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Surveyor]:
    monkeypatch.setattr(system, "ANSWER_S", 0.5)
    monkeypatch.setattr(system, "BROKER_ANSWER_S", 0.5)
    names = ("well", "waiting", "hangs", "garbage", "failing", "large", "strange", "gone")
    pool = await create_pool(DatabaseSettings.model_validate({"url": f"postgresql://nobody@{NOBODY}/x"}), "console")
    async with httpx.AsyncClient(transport=httpx.MockTransport(services)) as http:
        yield Surveyor(
            services={name: f"http://{name}/" for name in names} | {"nonsense": "no address"},
            http=http,
            pool=pool,
            kafka=KafkaSettings(bootstrap_servers=NOBODY),
            influx_url=f"http://{NOBODY}",
            clock=clock,
        )
    pool.terminate()


async def test_everything_that_is_away_is_told_and_nothing_else_is_lost(surveyor: Surveyor) -> None:
    began = time.monotonic()
    survey = await surveyor.look()
    assert time.monotonic() - began < 5
    states = {each.name: each.state for each in survey.components} | {each.name: each.state for each in survey.services}
    assert states.pop("well") is State.UP
    assert states.pop("waiting") is State.WAITING
    assert set(states.values()) == {State.DOWN}
    details = {each.name: each.detail for each in survey.services}
    assert details["waiting"] == "database: does not answer; outbox: <b>no</b> broker"
    assert "0.5 s" in details["hangs"]
    assert details["garbage"] == details["strange"] == "answers as none of our services does"
    assert (survey.dead_letters, survey.deliveries) == (None, None)
    assert [trouble.is_grave for trouble in survey.troubles].count(True) == 3 + 8
    assert survey.waiting_letters == []


async def test_a_consumer_is_reading_or_it_is_told_why_not(surveyor: Surveyor) -> None:
    consumers = {each.name: each for each in (await surveyor.look()).consumers}
    words = {name: (each.word, each.trouble) for name, each in consumers.items()}
    assert words == {
        "well.local": ("reading", None),
        "well.halted": ("halted", "50 in a row"),
        "well.paused": ("paused", "an outage"),
        "well.lost": ("waiting", "not connected"),
        "well.idle": ("waiting", "no partitions assigned"),
    }
    assert consumers["well.local"].is_outside
    assert consumers["well.local"].topics == ("gw.alerts", "gw.skymaps")
    assert consumers["well.local"].last_event_at is None
    assert consumers["well.lost"].last_event_at is not None
    assert consumers["well.local"].dead_letters is None


async def test_many_who_look_at_once_are_served_by_one_look(
    surveyor: Surveyor, services: Services, clock: Clock
) -> None:
    surveys = await asyncio.gather(*(surveyor.look() for _ in range(50)))
    asked = services.asked
    assert len({id(survey) for survey in surveys}) == 1
    assert asked == 2 * 9 + 1  # every service twice, and InfluxDB
    clock.now = 1.0
    assert await surveyor.look() is surveys[0]
    assert services.asked == asked
    # A little old: shown at once, and looked at anew behind it.
    clock.now = 5.0
    began = time.monotonic()
    assert await surveyor.look() is surveys[0]
    assert time.monotonic() - began < 0.2
    async with asyncio.timeout(10):
        while (await surveyor.look()) is surveys[0]:
            await asyncio.sleep(0.05)
    # Too old: waited for.
    before = await surveyor.look()
    clock.now = 100.0
    assert (await surveyor.look()).at > before.at


async def test_who_goes_away_while_looking_takes_the_look_from_nobody(surveyor: Surveyor) -> None:
    first, second = asyncio.create_task(surveyor.look()), asyncio.create_task(surveyor.look())
    await asyncio.sleep(0.05)
    first.cancel()
    assert (await second).services
