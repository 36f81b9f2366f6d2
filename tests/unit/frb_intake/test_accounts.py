"""Credentials are verified once, trusted for a while and no longer, and guesses are slow."""

import asyncio
import base64
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from argon2 import PasswordHasher
from fastapi import Request

from services.frb_intake.accounts import Accounts, Caller, Role, add_user
from services.frb_intake.api.auth import (
    Doorkeeper,
    NoCredentialsError,
    RoleMissingError,
    TooManyRequestsError,
    WrongCredentialsError,
)
from shared.errors import InvalidInputError
from shared.http.rate_limit import RateLimiter

PASSWORD, TOKEN = "a long password", "tocsin_token"
HASH = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)
TRUST_S = 30.0


class FakeDatabase:
    """A pool and its one connection, with the users and tokens that the two queries of accounts ask for."""

    def __init__(self) -> None:
        self.users: dict[str, dict[str, Any]] = {"ada": {"password_hash": HASH, "roles": ["submit"]}}
        self.tokens = {hashlib.sha256(TOKEN.encode()).digest(): {"name": "ada", "roles": ["submit"], "left_s": 1e9}}
        self.queries = 0

    async def acquire(self) -> "FakeDatabase":
        return self

    async def release(self, connection: object) -> None:
        pass

    async def fetchrow(self, query: str, key: Any) -> Mapping[str, Any] | None:
        self.queries += 1
        await asyncio.sleep(0)
        return self.users.get(key) if "password_hash" in query else self.tokens.get(key)


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def database() -> FakeDatabase:
    return FakeDatabase()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def accounts(database: Any, clock: Clock) -> Accounts:
    return Accounts(database, trust_s=TRUST_S, clock=clock)


ADA = Caller("ada", frozenset({Role.SUBMIT}))


async def test_a_right_credential_is_somebody_and_a_wrong_one_nobody(accounts: Accounts) -> None:
    assert await accounts.by_password("ada", PASSWORD) == ADA
    assert await accounts.by_token(TOKEN) == ADA
    assert await accounts.by_password("ada", "another password") is None
    assert await accounts.by_password("bob", PASSWORD) is None
    assert await accounts.by_password("a\x00da", PASSWORD) is None
    assert await accounts.by_token("tocsin_other") is None


async def test_a_verified_credential_is_trusted_for_a_while_even_of_a_user_who_is_gone(
    accounts: Accounts, database: FakeDatabase, clock: Clock
) -> None:
    await accounts.by_password("ada", PASSWORD)
    del database.users["ada"]

    clock.now_s = TRUST_S - 1
    assert await accounts.by_password("ada", PASSWORD) == ADA
    clock.now_s = TRUST_S
    assert accounts.trusted("ada", PASSWORD) is None
    assert await accounts.by_password("ada", PASSWORD) is None


async def test_a_wrong_credential_is_never_trusted(accounts: Accounts, database: FakeDatabase) -> None:
    assert await accounts.by_token("tocsin_new") is None
    database.tokens[hashlib.sha256(b"tocsin_new").digest()] = {"name": "ada", "roles": ["submit"], "left_s": 1e9}
    assert await accounts.by_token("tocsin_new") == ADA


async def test_what_many_show_at_once_is_verified_once(accounts: Accounts, database: FakeDatabase) -> None:
    assert await asyncio.gather(*[accounts.by_password("ada", PASSWORD) for _ in range(20)]) == [ADA] * 20
    assert database.queries == 1


@pytest.mark.parametrize(
    ("name", "roles", "password", "field"),
    [
        ("a b", ["read"], PASSWORD, "NAME"),
        ("-a", ["read"], PASSWORD, "NAME"),
        ("a" * 65, ["read"], PASSWORD, "NAME"),
        ("a\u202eb", ["read"], PASSWORD, "NAME"),
        ("ada", ["root"], PASSWORD, "--role"),
        ("ada", [], PASSWORD, "--role"),
        ("ada", ["read"], "short", "password"),
    ],
)
async def test_no_user_is_made_of_a_wrong_name_role_or_password(
    database: Any, name: str, roles: Sequence[str], password: str, field: str
) -> None:
    with pytest.raises(InvalidInputError) as refused:
        await add_user(database, name=name, roles=roles, password=password)
    assert refused.value.field == field
    assert "short" not in str(refused.value.value)
    assert database.queries == 0


# ---- the door


def a_door(accounts: Accounts, *, public_reading: bool = True, requests: int = 100, guesses: int = 3) -> Doorkeeper:
    return Doorkeeper(
        accounts,
        requests=RateLimiter(rate_per_s=0.001, burst=requests),
        verifications=RateLimiter(rate_per_s=0.001, burst=guesses),
        public_reading=public_reading,
    )


def a_request(authorization: str | None = None) -> Request:
    headers = [] if authorization is None else [(b"authorization", authorization.encode())]
    return Request({"type": "http", "headers": headers, "client": ("192.0.2.1", 1)})


def basic(name: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


@pytest.mark.parametrize("shown", [None, "", "Basic", "Basic ???", "Basic YWRh", "Bearer ", "Bearer " + 1025 * "x"])
async def test_what_is_no_credential_is_told_apart_from_a_wrong_one(accounts: Accounts, shown: str | None) -> None:
    with pytest.raises(NoCredentialsError):
        await a_door(accounts).identify(a_request(shown))
    with pytest.raises(WrongCredentialsError):
        await a_door(accounts).identify(a_request("Bearer tocsin_other"))


async def test_a_caller_needs_one_of_the_roles(accounts: Accounts) -> None:
    door, ada = a_door(accounts), a_request(f"Bearer {TOKEN}")
    assert (await door.admit(ada, Role.OPERATE, Role.SUBMIT)).caller == ADA
    with pytest.raises(RoleMissingError):
        await door.admit(ada, Role.OPERATE)


async def test_everybody_reads_unless_reading_is_closed(accounts: Accounts) -> None:
    await a_door(accounts).admit_reader(a_request())
    await a_door(accounts).admit_reader(a_request(f"Bearer {TOKEN}"))
    with pytest.raises(NoCredentialsError):
        await a_door(accounts, public_reading=False).admit_reader(a_request())
    with pytest.raises(RoleMissingError):
        await a_door(accounts, public_reading=False).admit_reader(a_request(f"Bearer {TOKEN}"))


async def test_an_address_may_guess_a_few_times_and_known_callers_go_on(accounts: Accounts) -> None:
    door, ada = a_door(accounts), a_request(basic("ada", PASSWORD))
    await door.identify(ada)
    for _ in range(2):
        with pytest.raises(WrongCredentialsError):
            await door.identify(a_request(basic("ada", "a guess")))

    with pytest.raises(TooManyRequestsError) as refused:
        await door.identify(a_request(basic("ada", "a guess")))
    assert int(refused.value.retry_after) >= 1
    assert await door.identify(ada) == ADA


async def test_an_account_may_ask_so_often(accounts: Accounts) -> None:
    door, ada = a_door(accounts, requests=2), a_request(f"Bearer {TOKEN}")
    await door.identify(ada)
    await door.identify(ada)
    with pytest.raises(TooManyRequestsError):
        await door.identify(ada)
