"""Who may see what was sent, and what they may do about it, is the intake's to say."""

import json
from collections.abc import AsyncIterator
from http import HTTPStatus

import asyncpg
import httpx
import pytest
from fastapi import FastAPI

from services.notifier.api import router
from services.notifier.by_hand import UnknownDeliveryError, WrongStateError
from services.notifier.channels.channel import UncertainError
from shared.errors import PermanentError
from shared.http.identity import Identities
from shared.http.problems import MEDIA_TYPE, install_problem_handlers
from shared.settings import DatabaseSettings
from tests.support import notifier_schema
from tests.support.coincidence import a_burst_record
from tests.support.notifier import FakeChannel, NotifierUnderTest

database, pool, short_pauses = notifier_schema.database, notifier_schema.pool, notifier_schema.short_pauses

BURSTS = "frb.events"
ROLES = {"lena": ["operate"], "ron": ["read"], "sue": ["submit"]}


class FakeIntake:
    """Knows everybody whose token is `token-of-NAME`, until it is gone."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.is_there = True
        self.revoked: set[str] = set()

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if not self.is_there:
            raise httpx.ConnectError("nobody listens")
        assert request.url.path == "/api/v1/me"
        name = request.headers["authorization"].removeprefix("Bearer token-of-")
        self.asked.append(name)
        if name not in ROLES or name in self.revoked:
            return httpx.Response(401, json={})
        return httpx.Response(200, json={"name": name, "roles": ROLES[name]})


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def intake() -> FakeIntake:
    return FakeIntake()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def api(pool: asyncpg.Pool, intake: FakeIntake, clock: Clock) -> AsyncIterator[httpx.AsyncClient]:
    accounts = httpx.AsyncClient(transport=httpx.MockTransport(intake))
    app = FastAPI()
    app.include_router(router(pool, Identities(accounts, "http://intake/", clock=clock), sender="hand"))
    install_problem_handlers(
        app, statuses={UnknownDeliveryError: HTTPStatus.NOT_FOUND, WrongStateError: HTTPStatus.CONFLICT}
    )
    async with accounts, httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://notifier") as client:
        yield client


def of(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer token-of-{name}"}


async def a_delivery(pool: asyncpg.Pool, state: str = "PENDING") -> int:
    """The number of a delivery that nobody sends."""
    database = DatabaseSettings()
    await NotifierUnderTest(pool, database, FakeChannel()).take(BURSTS, a_burst_record())
    return int(await pool.fetchval("UPDATE deliveries SET state = $1 RETURNING id", state))


async def test_what_failed_is_sent_when_an_operator_has_it_tried_again(
    pool: asyncpg.Pool, database: DatabaseSettings, api: httpx.AsyncClient
) -> None:
    fake = FakeChannel(does=[PermanentError("no such room")])
    notifier = NotifierUnderTest(pool, database, fake)
    async with notifier.sending():
        await notifier.take(BURSTS, a_burst_record())
        await notifier.until("FAILED")
        (line,) = (await api.get("/api/v1/deliveries")).json()
        answer = await api.post(f"/api/v1/deliveries/{line['id']}/retry", headers=of("lena"))
        assert answer.status_code == 200, answer.text
        await notifier.until("CONFIRMED")
    assert len(fake.received) == 1
    told = [json.loads(row["headers"])["_sender"] for row in await pool.fetch("SELECT headers FROM outbox ORDER BY id")]
    assert told.count("hand") == 1


async def test_who_had_it_tried_again_or_suppressed_stands_beside_it(
    pool: asyncpg.Pool, api: httpx.AsyncClient
) -> None:
    number = await a_delivery(pool, "FAILED")
    again = await api.post(f"/api/v1/deliveries/{number}/retry", headers=of("lena"), json={})
    assert (again.json()["state"], again.json()["reason"]) == ("PENDING", "tried again by lena")
    body = {"reason": "a satellite"}
    suppressed = await api.post(f"/api/v1/deliveries/{number}/suppress", headers=of("lena"), json=body)
    assert suppressed.json()["state"] == "SUPPRESSED"
    assert suppressed.json()["reason"] == "suppressed by lena: a satellite"
    assert suppressed.json()["next_attempt_at"] is None


async def test_what_may_have_arrived_is_sent_again_only_on_purpose(
    pool: asyncpg.Pool, database: DatabaseSettings, api: httpx.AsyncClient
) -> None:
    fake = FakeChannel(does=[UncertainError("the line broke")], checks=[UncertainError("it cannot be asked")])
    notifier = NotifierUnderTest(pool, database, fake)
    async with notifier.sending():
        await notifier.take(BURSTS, a_burst_record())
        await notifier.until("UNKNOWN")
        (line,) = (await api.get("/api/v1/deliveries")).json()
        path = f"/api/v1/deliveries/{line['id']}/retry"
        refused = await api.post(path, headers=of("lena"))
        assert (refused.status_code, refused.headers["content-type"]) == (409, MEDIA_TYPE)
        assert await notifier.states() == ["UNKNOWN"]
        assert (await api.post(path, headers=of("lena"), json={"send_again": True})).status_code == 200
        await notifier.until("CONFIRMED")


@pytest.mark.parametrize(
    ("state", "action"),
    [
        ("CONFIRMED", "retry"),
        ("SENDING", "retry"),
        ("SENT", "retry"),
        ("CONFIRMED", "suppress"),
        ("FAILED", "suppress"),
    ],
)
async def test_a_state_that_does_not_allow_it_is_a_conflict(
    pool: asyncpg.Pool, api: httpx.AsyncClient, state: str, action: str
) -> None:
    number = await a_delivery(pool, state)
    answer = await api.post(f"/api/v1/deliveries/{number}/{action}", headers=of("lena"))
    assert (answer.status_code, answer.json()["title"]) == (409, "Conflict")
    assert await pool.fetchval("SELECT state FROM deliveries") == state


async def test_what_was_sent_is_shown_to_those_who_may_read_or_operate(
    pool: asyncpg.Pool, api: httpx.AsyncClient
) -> None:
    number = await a_delivery(pool)
    await pool.execute("""UPDATE deliveries SET request = '{"to": "maria@example.org"}'""")
    path = f"/api/v1/deliveries/{number}"
    for name in ("lena", "ron"):
        assert (await api.get(path, headers=of(name))).json()["request"] == {"to": "maria@example.org"}
    assert (await api.get(path, headers=of("sue"))).status_code == 403
    assert (await api.get(path)).status_code == 401
    assert "maria" not in (await api.get("/api/v1/deliveries")).text


@pytest.mark.parametrize("action", ["retry", "suppress"])
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": "Basic bGVuYTpzZWNyZXQ="}, 401),
        ({"Authorization": "Bearer "}, 401),
        ({"Authorization": "Bearer " + "x" * 201}, 401),
        ({"Authorization": b"Bearer \xff\xfe"}, 401),
        (of("nobody"), 401),
        (of("ron"), 403),
        (of("sue"), 403),
    ],
)
async def test_nobody_else_changes_anything(
    pool: asyncpg.Pool, api: httpx.AsyncClient, action: str, headers: dict[str, str], status: int
) -> None:
    number = await a_delivery(pool)
    answer = await api.post(f"/api/v1/deliveries/{number}/{action}", headers=headers)
    assert (answer.status_code, answer.headers["content-type"]) == (status, MEDIA_TYPE)
    assert ("www-authenticate" in answer.headers) == (status == 401)
    assert await pool.fetchval("SELECT reason FROM deliveries") is None


async def test_without_the_intake_nobody_may_but_everybody_still_reads(
    pool: asyncpg.Pool, api: httpx.AsyncClient, intake: FakeIntake
) -> None:
    number = await a_delivery(pool)
    intake.is_there = False
    answer = await api.post(f"/api/v1/deliveries/{number}/retry", headers=of("lena"))
    assert (answer.status_code, answer.headers["content-type"]) == (503, MEDIA_TYPE)
    assert "retry-after" in answer.headers
    assert (await api.get("/api/v1/deliveries")).status_code == 200


async def test_an_answer_of_the_intake_holds_for_a_moment_only(
    pool: asyncpg.Pool, api: httpx.AsyncClient, intake: FakeIntake, clock: Clock
) -> None:
    path = f"/api/v1/deliveries/{await a_delivery(pool)}"
    for _ in range(3):
        assert (await api.get(path, headers=of("lena"))).status_code == 200
    assert intake.asked == ["lena"]
    intake.revoked.add("lena")
    clock.now = 6.0
    assert (await api.get(path, headers=of("lena"))).status_code == 401


async def test_who_guesses_tokens_has_to_wait_and_the_intake_is_spared(
    pool: asyncpg.Pool, api: httpx.AsyncClient, intake: FakeIntake
) -> None:
    path = f"/api/v1/deliveries/{await a_delivery(pool)}"
    answers = [await api.get(path, headers=of(f"guess{number}")) for number in range(60)]
    assert {answer.status_code for answer in answers} == {401, 429}
    assert len(intake.asked) < 55
    assert int(answers[-1].headers["retry-after"]) >= 1


@pytest.mark.parametrize("number", ["0", "-1", "x", str(2**63), "99999"])
async def test_a_delivery_that_is_not_there_is_refused(api: httpx.AsyncClient, number: str) -> None:
    answer = await api.post(f"/api/v1/deliveries/{number}/retry", headers=of("lena"))
    assert answer.status_code == (404 if number == "99999" else 400)
    assert answer.headers["content-type"] == MEDIA_TYPE


@pytest.mark.parametrize("body", [{"reason": "a\nb"}, {"reason": "x" * 501}, {"reason": "\x00"}, {"more": 1}, [], "x"])
async def test_a_reason_is_one_line_of_text(pool: asyncpg.Pool, api: httpx.AsyncClient, body: object) -> None:
    number = await a_delivery(pool)
    answer = await api.post(f"/api/v1/deliveries/{number}/suppress", headers=of("lena"), json=body)
    assert answer.status_code == 400
    assert await pool.fetchval("SELECT state FROM deliveries") == "PENDING"
