"""What a service says of itself: alive, ready, in numbers and in full."""

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from fastapi import APIRouter
from prometheus_client.parser import text_string_to_metric_families

from shared.http.app import UNHEALTHY_AFTER_S, create_app
from shared.inbox.state import ConsumerState

NAME = "trial.consumer"


@dataclass
class FakeStatus:
    consumers: list[ConsumerState] = field(default_factory=list)
    depth: int | None = 0
    relay_waiting: str | None = None
    service: str = "trial"
    version: str = "1.2"

    async def outbox_depth(self) -> int | None:
        return self.depth

    def sources(self) -> list[dict[str, Any]]:
        return [{"name": "scimma", "connected": True}]


@pytest.fixture
def consumer() -> ConsumerState:
    state = ConsumerState(NAME, ("one", "two"))
    state.connected(True)
    state.assigned(3)
    return state


@pytest.fixture
def status(consumer: ConsumerState) -> Iterator[FakeStatus]:
    return FakeStatus([consumer])


@asynccontextmanager
async def client_of(status: FakeStatus, *routers: APIRouter) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(create_app(status, routers))
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        yield client


async def asked(status: FakeStatus, path: str) -> httpx.Response:
    async with client_of(status) as client:
        return await client.get(path)


async def test_a_service_whose_messages_flow_is_alive_and_ready(status: FakeStatus) -> None:
    for path, body in (("/healthz", {"stuck": []}), ("/readyz", {"waiting_for": {}})):
        answer = await asked(status, path)
        assert (answer.status_code, answer.json()) == (200, body)


async def test_a_loop_that_does_not_turn_is_unhealthy(status: FakeStatus, consumer: ConsumerState) -> None:
    consumer.polled_at = time.monotonic() - UNHEALTHY_AFTER_S - 1
    answer = await asked(status, "/healthz")
    assert (answer.status_code, answer.json()) == (503, {"stuck": [NAME]})

    consumer.polled()
    assert (await asked(status, "/healthz")).status_code == 200


async def test_no_outage_elsewhere_makes_a_service_unhealthy(status: FakeStatus, consumer: ConsumerState) -> None:
    status.depth, status.relay_waiting = None, "broker away"
    consumer.connected(False)
    consumer.assigned(0)
    consumer.paused("database away")
    consumer.halted("too many dead letters")
    assert (await asked(status, "/healthz")).status_code == 200
    assert (await asked(status, "/readyz")).status_code == 503


async def test_what_is_waited_for_is_said(status: FakeStatus, consumer: ConsumerState) -> None:
    async def waiting_for() -> dict[str, str]:
        answer = await asked(status, "/readyz")
        waiting: dict[str, str] = answer.json()["waiting_for"]
        assert answer.status_code == (503 if waiting else 200)
        assert (await asked(status, "/status")).json()["ready"] is not bool(waiting)
        return waiting

    consumer.assigned(0)
    assert await waiting_for() == {NAME: "no partitions assigned"}
    consumer.connected(False)
    assert await waiting_for() == {NAME: "no broker is connected"}
    consumer.paused("database away")
    assert await waiting_for() == {NAME: "database away"}
    consumer.halted("too many dead letters")
    assert await waiting_for() == {NAME: "too many dead letters"}

    status.consumers = []
    status.relay_waiting = "topic missing"
    assert await waiting_for() == {"outbox": "topic missing"}
    status.relay_waiting, status.depth = None, None
    assert await waiting_for() == {"database": "does not answer"}
    status.depth = 12  # work in hand is no reason to be taken out of service
    assert await waiting_for() == {}


async def test_status_tells_everything(status: FakeStatus, consumer: ConsumerState) -> None:
    consumer.lag(7)
    consumer.took_event()
    consumer.dead_letters += 2
    status.depth = 5

    told = (await asked(status, "/status")).json()

    [line] = told.pop("consumers")
    assert 0 <= line.pop("last_event_age_s") < 10
    assert line == {
        "name": NAME, "topic": "one,two", "connected": True, "partitions": 3, "lag": 7,
        "paused": False, "paused_reason": None, "halted": None, "dead_letters": 2,
    }  # fmt: skip
    assert told == {
        "service": "trial", "version": "1.2", "ready": True, "outbox_depth": 5, "outbox_waiting": None,
        "sources": [{"name": "scimma", "connected": True}],
    }  # fmt: skip


async def test_metrics_follow_the_consumer(status: FakeStatus, consumer: ConsumerState) -> None:
    async def sample(metric: str) -> float:
        text = (await asked(status, "/metrics")).text
        [value] = [
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == metric and sample.labels.get("consumer", NAME) == NAME
        ]
        return float(value)

    consumer.lag(7)
    assert await sample("tocsin_consumer_lag_messages") == 7
    assert await sample("tocsin_consumer_partitions") == 3
    assert await sample("tocsin_consumer_connected") == 1
    assert await sample("tocsin_consumer_paused") == 0
    consumer.paused("database away")
    assert await sample("tocsin_consumer_paused") == 1
    consumer.paused(None)
    assert await sample("tocsin_consumer_paused") == 0
    assert await sample("tocsin_consumer_halted") == 0
    consumer.halted("too many dead letters")
    assert await sample("tocsin_consumer_halted") == 1
    status.depth = 5
    assert await sample("tocsin_outbox_depth") == 5
    status.depth = None  # the last number known stays
    assert await sample("tocsin_outbox_depth") == 5


async def test_a_services_own_routes_are_served_beside(status: FakeStatus) -> None:
    router = APIRouter()

    @router.get("/own")
    async def own() -> dict[str, int]:
        return {"own": 1}

    async with client_of(status, router) as client:
        assert (await client.get("/own")).json() == {"own": 1}
        assert (await client.get("/healthz")).status_code == 200
