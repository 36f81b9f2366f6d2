"""People log in for a while: a token that ends when it should, for everybody who asks."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import asyncpg
import pytest

from services.frb_intake.accounts import add_user, create_token, list_tokens, set_disabled
from shared.db.pool import connect
from shared.settings import DatabaseSettings
from tests.support.frb_intake import PASSWORD, IntakeUnderTest, running_intake
from tests.support.runtime import eventually

SESSION, ME = "/api/v1/session", "/api/v1/me"
PROBLEM = "application/problem+json"
Result = TypeVar("Result")


@pytest.fixture(scope="module")
def intake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IntakeUnderTest]:
    with running_intake(tmp_path_factory.mktemp("session"), TOCSIN_HTTP__TRUSTED_PROXIES="127.0.0.1") as running:
        yield running


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def on_accounts(intake: IntakeUnderTest, work: Callable[[asyncpg.Connection], Awaitable[Result]]) -> Result:
    async def connected() -> Result:
        settings = DatabaseSettings(url=intake.system.environment["TOCSIN_DATABASE__URL"])
        async with connect(settings, "frb_intake") as connection:
            return await work(connection)

    return asyncio.run(connected())


def log_in(intake: IntakeUnderTest, user: str, **more: Any) -> dict[str, Any]:
    answer = intake.client(None).post(SESSION, json={"name": user, "password": PASSWORD, **more})
    assert answer.status_code == 201, answer.text
    told: dict[str, Any] = answer.json()
    return told


def test_who_has_the_password_gets_a_token_that_ends(intake: IntakeUnderTest) -> None:
    user = intake.add_user("rate", "read")
    told = log_in(intake, user, hours=2)

    left = datetime.fromisoformat(told["expires_at"]) - datetime.now(UTC)
    assert timedelta(hours=1.9) < left <= timedelta(hours=2)
    me = intake.client(None).get(ME, headers=bearer(told["token"])).json()
    assert me == {"name": told["name"], "roles": told["roles"]} == {"name": user, "roles": ["rate", "read"]}


def test_a_session_that_ended_is_nobodys_at_once(intake: IntakeUnderTest) -> None:
    user, client = intake.add_user(), intake.client(None)
    token, other = (log_in(intake, user)["token"] for _ in range(2))
    assert client.get("/api/v1/events", headers=bearer(token)).status_code == 200  # it is trusted now

    assert client.delete(SESSION, headers=bearer(token)).status_code == 204

    for path in (ME, "/api/v1/events"):
        assert client.get(path, headers=bearer(token)).status_code == 401
    assert client.delete(SESSION, headers=bearer(token)).status_code == 401
    assert client.get(ME, headers=bearer(other)).status_code == 200


@pytest.mark.parametrize(
    "sent",
    [
        {"name": "nobody", "password": PASSWORD},
        {"name": "a\x00b", "password": PASSWORD},
        {"name": "x' OR '1'='1", "password": PASSWORD},
    ],
)
def test_nobody_else_gets_one(intake: IntakeUnderTest, sent: dict[str, Any]) -> None:
    answer = intake.client(None).post(SESSION, json=sent)

    assert answer.status_code == 401
    assert answer.headers["content-type"] == PROBLEM


@pytest.mark.parametrize(
    "changes", [{"hours": 0}, {"hours": 1e9}, {"name": ""}, {"name": 7}, {"password": 1025 * "x"}, {"admin": True}]
)
def test_what_makes_no_sense_is_refused(intake: IntakeUnderTest, changes: dict[str, Any]) -> None:
    answer = intake.client(None).post(SESSION, json={"name": "ada", "password": PASSWORD, **changes})

    assert answer.status_code == 400
    assert answer.json()["errors"][0]["field"] == next(iter(changes))


def test_whoever_tries_too_much_has_to_wait_and_nobody_else(intake: IntakeUnderTest) -> None:
    user, client = intake.add_user(), intake.client(None)
    there = {"X-Forwarded-For": "203.0.113.7"}
    # Wrong tokens count as wrong passwords do, and take no time.
    tries = (client.get(ME, headers={**bearer(f"tocsin_{number}"), **there}) for number in range(500))
    refused = next(answer for answer in tries if answer.status_code == 429)
    assert int(refused.headers["retry-after"]) >= 1

    answer = client.post(SESSION, json={"name": user, "password": PASSWORD}, headers=there)
    assert (answer.status_code, answer.headers["content-type"]) == (429, PROBLEM)
    assert log_in(intake, user)["name"] == user


def test_a_disabled_account_has_no_session_and_gets_none(intake: IntakeUnderTest) -> None:
    user, client = intake.add_user(), intake.client(None)
    token = log_in(intake, user)["token"]
    assert client.get(ME, headers=bearer(token)).status_code == 200

    on_accounts(intake, lambda connection: set_disabled(connection, name=user, disabled=True))

    assert client.get(ME, headers=bearer(token)).status_code == 401
    assert client.post(SESSION, json={"name": user, "password": PASSWORD}).status_code == 401


def test_sessions_of_an_account_that_was_disabled_stay_ended(intake: IntakeUnderTest) -> None:
    user, client = intake.add_user(), intake.client(None)
    token = log_in(intake, user)["token"]

    for disabled in (True, False):
        on_accounts(intake, lambda connection: set_disabled(connection, name=user, disabled=disabled))  # noqa: B023

    assert client.get(ME, headers=bearer(token)).status_code == 401
    assert log_in(intake, user)["name"] == user


def test_logging_out_everywhere_ends_all_sessions_and_no_token_of_a_program(intake: IntakeUnderTest) -> None:
    user, client = intake.add_user(), intake.client(None)
    program = on_accounts(intake, lambda connection: create_token(connection, name=user, expires_at=None))
    sessions = [log_in(intake, user)["token"] for _ in range(3)]
    somebody = log_in(intake, intake.add_user())["token"]
    for token in (program, somebody, *sessions):
        client.get("/api/v1/events", headers=bearer(token)).raise_for_status()  # all are trusted now

    assert client.delete("/api/v1/sessions", headers=bearer(sessions[0])).status_code == 204

    for token in sessions:
        assert client.get("/api/v1/events", headers=bearer(token)).status_code == 401
    for token in (program, somebody):
        assert client.get("/api/v1/events", headers=bearer(token)).status_code == 200
    assert client.delete("/api/v1/sessions").status_code == 401


def test_a_program_does_not_log_out_and_its_list_shows_no_sessions(intake: IntakeUnderTest) -> None:
    user, client = intake.add_user(), intake.client(None)
    token = on_accounts(intake, lambda connection: create_token(connection, name=user, expires_at=None))
    log_in(intake, user)

    answer = client.delete(SESSION, headers=bearer(token))

    assert (answer.status_code, answer.headers["content-type"]) == (403, PROBLEM)
    assert client.get(ME, headers=bearer(token)).status_code == 200
    assert client.delete(SESSION, headers={"Authorization": "Basic YTpi"}).status_code == 401
    assert len([line for line in on_accounts(intake, list_tokens) if line["name"] == user]) == 1


def test_an_account_without_a_password_opens_with_none(intake: IntakeUnderTest) -> None:
    user = f"{intake.add_user()}-at-the-provider"
    on_accounts(intake, lambda connection: add_user(connection, name=user, roles=["read"], password=None))

    for password in ("x", "None", "argon2id", PASSWORD):
        sent = {"name": user, "password": password}
        assert intake.client(None).post(SESSION, json=sent).status_code == 401
    assert intake.client(None).get(ME, auth=(user, "")).status_code == 401


def test_what_is_trusted_ends_with_the_token(intake: IntakeUnderTest) -> None:
    user, client = intake.add_user(), intake.client(None)
    token = log_in(intake, user, hours=1 / 3600)["token"]
    client.get("/api/v1/events", headers=bearer(token))  # trusted for 30 s, if it lasted that long

    def status() -> int:
        return client.get("/api/v1/events", headers=bearer(token)).status_code

    eventually(lambda: status() == 401, "the token ended", deadline_s=5)


def test_coming_and_going_is_in_the_audit_log(intake: IntakeUnderTest) -> None:
    user, client = intake.add_user(), intake.client(None)
    there = {"X-Forwarded-For": "198.51.100.9"}
    token = client.post(SESSION, json={"name": user, "password": PASSWORD}, headers=there).json()["token"]
    client.delete(SESSION, headers={**bearer(token), **there}).raise_for_status()

    rows = intake.system.rows("SELECT action, address FROM frb_intake.audit_log WHERE actor = $1 ORDER BY id", user)
    assert [tuple(row) for row in rows] == [("LOGGED_IN", "198.51.100.9"), ("LOGGED_OUT", "198.51.100.9")]
