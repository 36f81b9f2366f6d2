"""Sessions and codes without any service: what a browser's cookies are taken for, and where it is led."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest
from fastapi import FastAPI, Request
from hypothesis import given
from hypothesis import strategies as st

from services.console.access import (
    COOKIE,
    GRACE_S,
    HOST_ONLY,
    NOBODY,
    NOBODYS_S,
    Sessions,
    csrf_code,
    require_same_origin,
)
from services.console.headers import HEADERS
from services.console.intake import IntakeClient, NotLoggedInError, Who
from services.console.oidc import LoginFailedError, Provider, nonce_of
from services.console.pages.login import local_path
from services.console.service import define
from services.console.settings import ConsoleSettings, OidcSettings
from shared.errors import TransientError
from shared.http.problems import ProblemError

TOKEN = "tocsin_" + "A" * 43
SECRET = "A" * 43
CACHE_S = 10.0


class FakeIntake:
    """Knows one token, and can be away."""

    def __init__(self) -> None:
        self.roles: dict[str, list[str]] = {TOKEN: ["read"]}
        self.is_away = False
        self.asked = 0

    async def who(self, token: str) -> Who:
        self.asked += 1
        if self.is_away:
            raise TransientError("away")
        if token not in self.roles:
            raise NotLoggedInError
        return Who(name="ada", roles=self.roles[token])


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def intake() -> FakeIntake:
    return FakeIntake()


@pytest.fixture
def clock() -> Clock:
    return Clock()


def sessions(intake: FakeIntake, clock: Clock, *, public_reading: bool = True, secure: bool = True) -> Sessions:
    known = cast("IntakeClient", intake)
    return Sessions(known, public_reading=public_reading, secure=secure, hours=12, cache_s=CACHE_S, clock=clock)


def request(cookie: str | None = f"{COOKIE}={TOKEN}", *, host: str = "127.0.0.1", **headers: str) -> Request:
    sent = {"host": host, **headers} | ({} if cookie is None else {"cookie": cookie})
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/",
        "scheme": "http",
        "query_string": b"",
        "headers": [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in sent.items()],
        "server": (host, 80),
    }
    return Request(scope)


async def test_somebody_is_asked_about_now_and_then(intake: FakeIntake, clock: Clock) -> None:
    known = sessions(intake, clock)
    for _ in range(3):
        assert (await known.visitor(request())).name == "ada"
    assert intake.asked == 1

    intake.roles[TOKEN] = ["read", "rate"]
    clock.now_s += CACHE_S
    assert (await known.visitor(request())).may("rate")
    del intake.roles[TOKEN]
    clock.now_s += CACHE_S
    assert await known.visitor(request()) == NOBODY


async def test_nobodys_token_is_seldom_asked_about(intake: FakeIntake, clock: Clock) -> None:
    known, cookie = sessions(intake, clock), f"{COOKIE}={TOKEN[:-1]}B"
    for _ in range(5):
        assert await known.visitor(request(cookie)) == NOBODY
    assert intake.asked == 1
    clock.now_s += NOBODYS_S
    await known.visitor(request(cookie))
    assert intake.asked == 2


@given(st.text(st.characters(min_codepoint=0, max_codepoint=255), max_size=300))
async def test_no_other_cookie_is_asked_about(value: str) -> None:
    intake = FakeIntake()
    visitor = await sessions(intake, Clock()).visitor(request(f"{COOKIE}={value}"))
    assert (visitor == NOBODY) or visitor.token == TOKEN
    assert intake.asked in (0, 1)


async def test_while_the_intake_is_away_pages_are_shown_and_nothing_is_changed(
    intake: FakeIntake, clock: Clock
) -> None:
    known, closed = sessions(intake, clock), sessions(intake, clock, public_reading=False)
    for each in (known, closed):
        await each.visitor(request())
    intake.is_away = True
    clock.now_s += CACHE_S + 1

    assert (await known.reader(request())).name == "ada"
    with pytest.raises(TransientError):
        await known.actor(request())
    clock.now_s += GRACE_S
    assert await known.reader(request()) == NOBODY
    with pytest.raises(TransientError):
        await closed.reader(request())


async def test_a_session_that_ends_while_it_is_asked_about_is_not_remembered(intake: FakeIntake, clock: Clock) -> None:
    known = sessions(intake, clock)
    asked = intake.who

    async def ended_meanwhile(token: str) -> Who:
        who = await asked(token)
        known.end(request(), cast("Any", TestResponse()))
        return who

    intake.who = ended_meanwhile  # type: ignore[method-assign]
    await known.visitor(request())
    intake.who = asked  # type: ignore[method-assign]
    del intake.roles[TOKEN]
    assert await known.visitor(request()) == NOBODY


class TestResponse:
    """Takes the end of a cookie."""

    __test__ = False

    def delete_cookie(self, name: str, **_: object) -> None:
        assert name == COOKIE


async def test_behind_https_only_the_cookie_of_this_very_host_counts(intake: FakeIntake, clock: Clock) -> None:
    known, plain, prefixed = sessions(intake, clock), f"{COOKIE}={TOKEN}", f"{HOST_ONLY}{COOKIE}={TOKEN}"
    for host, cookie, name in (
        ("console.example", plain, None),
        ("console.example", prefixed, "ada"),
        ("127.0.0.1", prefixed, None),
        ("[::1]:8105", plain, "ada"),
        ("localhost:8105", plain, "ada"),
        ("localhost.example", plain, None),
    ):
        assert (await known.visitor(request(cookie, host=host))).name == name, host
    lax = sessions(intake, clock, secure=False)
    assert (await lax.visitor(request(plain, host="console.example"))).name == "ada"


def test_codes_differ_by_token_and_say_nothing_of_it() -> None:
    codes = {csrf_code(TOKEN), csrf_code(TOKEN + "A"), csrf_code("")}
    assert len(codes) == 3
    assert all(len(code) == 64 and TOKEN not in code for code in codes)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"origin": "http://console.example"},
        {"origin": "https://console.example", "sec_fetch_site": "same-origin"},
        {"sec_fetch_site": "none"},
    ],
)
def test_what_comes_from_here_is_let_in(headers: dict[str, str]) -> None:
    require_same_origin(request(host="console.example", **headers))


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "null"},
        {"origin": ""},
        {"origin": "http://console.example:8080"},
        {"origin": "http://console.example@evil.example"},
        {"origin": "http://evil.example"},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
        {"origin": "http://console.example", "sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "SAME-ORIGIN, cross-site"},
    ],
)
def test_what_comes_from_elsewhere_is_not(headers: dict[str, str]) -> None:
    with pytest.raises(ProblemError):
        require_same_origin(request(host="console.example", **headers))


@given(st.text(max_size=60) | st.text("/\\.:@%?#a\t\n\r evil", max_size=30))
def test_nobody_is_led_to_another_site(path: str) -> None:
    led = local_path(path)
    assert led == path or led == "/"
    assert led.startswith("/")
    assert led[1:2] not in ("/", "\\")
    assert led.isprintable()


# ---- the provider


async def test_what_comes_back_from_the_provider_fits_what_left() -> None:
    settings = OidcSettings(issuer="https://provider.example", client_id="console")

    def answer(asked: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"issuer": settings.issuer, "authorization_endpoint": f"{settings.issuer}/a"})

    provider = Provider(httpx.AsyncClient(transport=httpx.MockTransport(answer)), settings)
    for next_path in ("/", "/frb?status=confirmed&dm_min=300", "/gw/S1#\u00e9"):
        left = httpx.URL(await provider.address(request(), SECRET, next_path)).params
        state = left["state"]
        assert left["code_challenge_method"] == "S256"
        assert SECRET not in str(left)
        back = request_back(state=state)
        assert provider.next_path(back, SECRET) == next_path
        for wrong, secret in ((state, "B" * 43), (state, None), (state + "A", SECRET), ("", SECRET), (".", SECRET)):
            with pytest.raises(LoginFailedError):
                provider.next_path(request_back(state=wrong), secret)
    assert len({nonce_of(SECRET), nonce_of("B" * 43)}) == 2


def request_back(*, state: str) -> Request:
    made = request()
    made.scope["query_string"] = str(httpx.QueryParams({"code": "1", "state": state})).encode()
    return made


# ---- failures


async def test_a_failure_is_a_page_that_keeps_safe_and_says_nothing_of_its_reason() -> None:
    runtime = cast("Any", SimpleNamespace(pool=None, blobs=None, compute=None, background=None))
    app = FastAPI()

    @app.get("/fails")
    async def fail() -> None:
        raise RuntimeError("a secret of ours")

    define(ConsoleSettings()).build(runtime).configure(app)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://console.example") as client:
        answer = await client.get("/fails")

    assert answer.status_code == 500
    assert answer.headers["content-type"].startswith("text/html")
    assert '<a href="/">Now</a>' in answer.text
    assert "secret of ours" not in answer.text
    assert {name: answer.headers[name] for name in HEADERS} == HEADERS
