"""Who may see and change what, attacked: sessions, their cookies and codes, roles, and where one comes from.

The doors are an intake and two consoles, one of which shows its pages to readers alone. They are asked about every
route that there is.
"""

from __future__ import annotations

import http.client
import re
import uuid
from collections.abc import Iterator
from http.cookies import SimpleCookie
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest
from fastapi.routing import APIRoute

from services.console.headers import HEADERS
from services.console.pages.login import TRIES_AT_ONCE
from services.console.service import MAX_BODY_BYTES, define
from services.console.settings import ConsoleSettings
from services.frb_intake.accounts import create_token, set_disabled
from shared.testing.oidc import CLIENT_ID, Lie
from tests.support.console import csrf_of
from tests.support.doors import Doors, standing_doors
from tests.support.frb_intake import ALL_ROLES, EVENTS, PASSWORD, a_burst
from tests.support.runtime import eventually

WHO_CACHE_S = 1
SESSION, SECURE_SESSION = "tocsin_session", "__Host-tocsin_session"
ANYBODYS = {"/login", "/login/oidc", "/login/oidc/callback", "/static/{name}"}
PARTS = {"event_id": str(uuid.UUID(int=0)), "product": "moc50"}
# Of addresses; others are 1.
PROXIED = {"X-Forwarded-Proto": "https"}


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    with standing_doors(tmp_path_factory.mktemp("doors"), who_cache_s=WHO_CACHE_S) as standing:
        answer = standing.client("intake").post(EVENTS, json=a_burst(), auth=(standing.user(), PASSWORD))
        assert answer.json()["id"] == 1
        yield standing


def browser(doors: Doors, console: str, user: str | None = None, **headers: str) -> httpx.Client:
    """A client with cookies, logged in as somebody or as nobody."""
    client = doors.client(console, **headers)
    if user is not None:
        answer = log_in(client, user)
        assert answer.status_code == 303, answer.text
    return client


def counts(doors: Doors) -> dict[str, int]:
    """How much there is of all that people change."""
    tables = (
        *(f"frb_intake.{name}" for name in ("audit_log", "bursts", "changes", "ratings", "tokens", "users")),
        "console.audit",
    )
    return {table: doors.rows(f"SELECT count(*) AS n FROM {table}")[0]["n"] for table in tables}


def log_in(client: httpx.Client, user: str, password: str = PASSWORD, next_path: str = "/") -> httpx.Response:
    code = re.findall(r'name="csrf" value="([0-9a-f]{64})"', client.get("/login").text)[-1]
    return client.post("/login", data={"name": user, "password": password, "csrf": code, "next": next_path})


def code_of(client: httpx.Client) -> str:
    """The code of somebody's session."""
    return csrf_of(client.get("/login").text)


def is_sent_to_log_in(answer: httpx.Response) -> bool:
    return answer.status_code == 303 and answer.headers["location"].startswith("/login?next=")


def routes(*methods: str) -> list[APIRoute]:
    """All routes of the console's pages with one of these methods."""
    runtime = cast("Any", SimpleNamespace(pool=None, blobs=None, compute=None, background=None))
    known = {"issuer": "http://127.0.0.1:1", "client_id": CLIENT_ID}
    service = define(ConsoleSettings.model_validate({"console": {"oidc": known}})).build(runtime)
    found = [route for router in service.routers for route in router.routes if isinstance(route, APIRoute)]
    return [route for route in found if {*methods} & (route.methods or set())]


def address_of(route: APIRoute) -> str:
    return re.sub(r"\{([^}]+)\}", lambda part: PARTS.get(part[1], "1"), route.path)


def form_of(route: APIRoute) -> dict[str, str]:
    """What the route wants to be sent, so that nothing else is wrong with it."""
    fields = {parameter.alias for parameter in route.dependant.body_params} - {"csrf"}
    return dict.fromkeys(fields, "1")


READING = [route for route in routes("GET") if route.path not in ANYBODYS]
CHANGING = [route for route in routes("POST", "PUT", "PATCH", "DELETE") if route.path not in ANYBODYS]
NEVER_PUBLIC = [route for route in READING if route.path.startswith(("/system/audit", "/system/dead-letters"))]
BY_ROLE = [route for route in CHANGING if route.path != "/logout"]


def named(route: object) -> str:
    return route.path if isinstance(route, APIRoute) else str(route)


def test_there_are_routes_to_attack() -> None:
    assert len(READING) > 10
    assert {"/logout", "/frb/{number}/rating"} <= {route.path for route in CHANGING}
    assert all(route.methods == {"POST"} for route in CHANGING)


# ---- who may see


def test_without_a_session_a_closed_console_shows_nothing(doors: Doors) -> None:
    nobody = browser(doors, "closed")
    shown = [route.path for route in READING if not is_sent_to_log_in(nobody.get(address_of(route)))]
    assert shown == []


def test_without_the_role_read_a_closed_console_shows_nothing(doors: Doors) -> None:
    rater = browser(doors, "closed", doors.user("rate"))
    shown = [route.path for route in READING if rater.get(address_of(route)).status_code != 403]
    assert shown == []


def test_a_closed_console_opens_to_readers_and_leads_back(doors: Doors) -> None:
    client = browser(doors, "closed")
    sent = client.get("/frb?status=confirmed&dm_min=300")
    login = client.get(sent.headers["location"])
    code = csrf_of(login.text)
    next_path = re.search(r'name="next" value="([^"]+)"', login.text)
    assert next_path is not None
    answer = client.post(
        "/login",
        data={
            "name": doors.user("read"),
            "password": PASSWORD,
            "csrf": code,
            "next": next_path[1].replace("&amp;", "&"),
        },
    )
    assert answer.headers["location"] == "/frb?status=confirmed&dm_min=300"
    assert client.get(answer.headers["location"]).status_code == 200


def test_what_went_wrong_and_who_did_what_is_for_readers_wherever_pages_are_public(doors: Doors) -> None:
    nobody, submitter = browser(doors, "open"), browser(doors, "open", doors.user("submit", "rate"))
    assert len(NEVER_PUBLIC) == 4
    for route in NEVER_PUBLIC:
        assert is_sent_to_log_in(nobody.get(address_of(route))), route.path
        assert submitter.get(address_of(route)).status_code == 403, route.path
    reader, operator = (browser(doors, "open", doors.user(role)) for role in ("read", "operate"))
    for somebody, shown in ((nobody, False), (submitter, False), (reader, True), (operator, True)):
        assert ("Who did what</h2>" in somebody.get("/system").text) is shown
        assert somebody.get("/system/audit").is_success is shown


# ---- who may change


@pytest.mark.parametrize("route", CHANGING, ids=named)
def test_nobody_changes_anything_without_a_session(doors: Doors, route: APIRoute) -> None:
    for service in ("open", "closed"):
        nobody = browser(doors, service)
        assert is_sent_to_log_in(nobody.post(address_of(route), data=form_of(route)))
        by_htmx = nobody.post(address_of(route), data=form_of(route), headers={"HX-Request": "true"})
        assert by_htmx.headers["hx-redirect"].startswith("/login")


@pytest.mark.parametrize("route", BY_ROLE, ids=named)
def test_reading_is_no_right_to_change(doors: Doors, route: APIRoute) -> None:
    reader = browser(doors, "open", doors.user("read"))
    before = counts(doors)

    answer = reader.post(address_of(route), data={**form_of(route), "csrf": code_of(reader)})

    assert answer.status_code == 403
    assert "has not the role" in answer.text
    assert counts(doors) == before


@pytest.mark.parametrize("route", CHANGING, ids=named)
def test_what_another_site_sends_changes_nothing(doors: Doors, route: APIRoute) -> None:
    everybody = browser(doors, "open", doors.user(*ALL_ROLES))
    code, other = code_of(everybody), code_of(browser(doors, "open", doors.user(*ALL_ROLES)))
    here = f"127.0.0.1:{doors.ports['open']}"
    before = counts(doors)

    def refused(form: dict[str, str], **headers: str) -> bool:
        answer = everybody.post(address_of(route), data=form_of(route) | form, headers=headers)
        return answer.status_code == 403

    for wrong in ("", "0" * 64, other, code[:-1], code.upper() + "\x00", "\u00e9" * 64):
        assert refused({"csrf": wrong}), wrong
    assert refused({})
    for name, value in (
        ("Origin", "https://evil.example"),
        ("Origin", "null"),
        ("Origin", f"http://{here}.evil.example"),
        ("Origin", f"http://evil.example/{here}"),
        ("Origin", f"http://localhost:{doors.ports['open']}"),
        ("Sec-Fetch-Site", "cross-site"),
        ("Sec-Fetch-Site", "same-site"),
        ("X-CSRF-Token", other),
    ):
        assert refused({"csrf": code}, **{name: value}), value
    assert counts(doors) == before
    assert everybody.get("/login").text.count("You are")


def test_no_address_that_is_only_opened_changes_anything(doors: Doors) -> None:
    everybody = browser(doors, "open", doors.user(*ALL_ROLES))
    code = code_of(everybody)
    before = counts(doors)

    for route in CHANGING:
        for method in ("GET", "HEAD"):
            params = {**form_of(route), "csrf": code}
            answer = everybody.request(method, address_of(route), params=params, headers={"X-CSRF-Token": code})
            assert answer.status_code == 405, route.path
    for route in READING:
        if route.path != "/live":
            assert everybody.get(address_of(route), params={"csrf": code}).status_code != 500, route.path

    assert counts(doors) == before


def test_a_change_is_in_the_audit_log_with_who_made_it_and_from_where(doors: Doors) -> None:
    user, there = doors.user("submit", "rate", "operate"), {"X-Forwarded-For": "198.51.100.23"}
    number = doors.client("intake").post(EVENTS, json=a_burst(), auth=(user, PASSWORD)).json()["id"]
    client = browser(doors, "open", user, **there)
    code = code_of(client)
    for path, form in (
        ("rating", {"rating": "confirm", "note": "Dispersed."}),
        ("status", {"status": "confirmed", "reason": "Seen twice."}),
        ("withdrawal", {"reason": "A trial.", "confirmed": "yes"}),
    ):
        answer = client.post(f"/frb/{number}/{path}", data={**form, "csrf": code})
        assert answer.status_code < 400, answer.text
    client.post("/logout", data={"csrf": code})

    rows = doors.rows(
        "SELECT action, address FROM frb_intake.audit_log WHERE actor = $1 AND action <> 'CREATED' ORDER BY id", user
    )
    assert {row["address"] for row in rows} == {"198.51.100.23"}
    actions = [row["action"] for row in rows]
    assert (actions[0], actions[-1], len(actions)) == ("LOGGED_IN", "LOGGED_OUT", 5)


# ---- cookies

HUGE = b"x" * 20_000
COOKIES = [
    b"",
    b"tocsin",
    b"tocsin_",
    b"tocsin_" + b"A" * 43,
    b"tocsin_" + b"A" * 101,
    b"tocsin_" + HUGE,
    b"tocsin_\xff\xfe\xfd" + b"A" * 40,
    b"tocsin_\x01\x02\x7f" + b"A" * 40,
    b"tocsin_" + b"A" * 43 + b"\tInjected",
    b'"tocsin_' + b"A" * 43 + b'"',
    b"tocsin_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA, Basic YTpi",
    b"%00%0d%0aSet-Cookie: a=b",
    b"' OR 1=1 --",
    b"; ; =; ===",
]


@pytest.mark.parametrize("value", COOKIES, ids=range(len(COOKIES)))
def test_a_cookie_of_rubbish_is_nobodys(doors: Doors, value: bytes) -> None:
    for service, statuses in (("closed", (303,)), ("open", (200,))):
        for path in ("/frb", "/login"):
            connection = http.client.HTTPConnection("127.0.0.1", doors.ports[service], timeout=30)
            connection.putrequest("GET", path)
            names = (b"tocsin_session", b"tocsin_login", b"tocsin_oidc")
            connection.putheader("Cookie", b"; ".join(name + b"=" + value for name in names))
            connection.endheaders()
            answer = connection.getresponse()
            # The server itself refuses what is no header, or too much of one.
            assert answer.status in (*statuses, 400, 431) if path == "/frb" else answer.status in (200, 400, 431)
            assert b"You are" not in answer.read()
            connection.close()


def test_the_cookie_is_kept_from_scripts_other_sites_and_plain_lines(doors: Doors) -> None:
    user = doors.user("read")
    for headers, name, is_secure in (({}, SESSION, False), (PROXIED, SECURE_SESSION, True)):
        client = browser(doors, "open", **headers)
        login = client.get("/login")
        # httpx keeps no secure cookies for a plain line, as it should; the proxy before us would.
        kept = SimpleCookie(login.headers["set-cookie"])
        cookies = "; ".join(f"{morsel.key}={morsel.value}" for morsel in kept.values())
        answer = client.post(
            "/login",
            data={"name": user, "password": PASSWORD, "csrf": csrf_of(login.text)},
            headers={"Cookie": cookies},
        )
        assert answer.status_code == 303, answer.text
        morsels = [SimpleCookie(line) for line in (login.headers["set-cookie"], *answer.headers.get_list("set-cookie"))]
        for morsel in (morsel for cookie in morsels for morsel in cookie.values()):
            assert morsel["httponly"]
            assert (morsel["samesite"], morsel["path"], morsel["domain"]) == ("lax", "/", "")
            assert bool(morsel["secure"]) is is_secure
            assert morsel.key.startswith("__Host-") is is_secure
        session = next(cookie[name] for cookie in morsels if name in cookie)
        assert int(session["max-age"]) == 12 * 3600


def test_over_a_safe_line_a_cookie_of_a_plain_one_is_nobodys(doors: Doors) -> None:
    client = browser(doors, "open", doors.user("read"))
    assert "You are" in client.get("/login").text
    assert "You are" not in client.get("/login", headers=PROXIED).text


# ---- sessions


def test_logging_in_makes_a_new_session_whatever_the_browser_had(doors: Doors) -> None:
    attacker = browser(doors, "open", doors.user("read"))
    planted = attacker.cookies[SESSION]
    victim = browser(doors, "open")
    victim.cookies.set(SESSION, planted, domain="127.0.0.1")
    user = doors.user("read")

    assert log_in(victim, user).status_code == 303

    assert victim.cookies.get(SESSION, domain="127.0.0.1") != planted
    assert f"You are {user}" in victim.get("/login").text
    eventually(lambda: "You are" not in attacker.get("/login").text, "the session before it ended", deadline_s=10)


def test_the_code_of_a_form_for_logging_in_is_this_browsers(doors: Doors) -> None:
    user, here, there = doors.user("read"), browser(doors, "open"), browser(doors, "open")
    code = csrf_of(there.get("/login").text)
    here.get("/login")

    for sent in (code, "", "0" * 64):
        answer = here.post("/login", data={"name": user, "password": PASSWORD, "csrf": sent})
        assert (answer.status_code, SESSION in here.cookies) == (403, False)
    assert "not HTTPS" in browser(doors, "open").post("/login", data={"name": user}).text
    for name, value in (("Origin", "https://evil.example"), ("Sec-Fetch-Site", "cross-site")):
        form = {"name": user, "password": PASSWORD, "csrf": csrf_of(here.get("/login").text)}
        assert here.post("/login", data=form, headers={name: value}).status_code == 403
        assert SESSION not in here.cookies


def test_who_logs_out_is_out_at_once_even_with_the_cookie(doors: Doors) -> None:
    client = browser(doors, "open", doors.user("read"))
    token = client.cookies[SESSION]

    answer = client.post("/logout", data={"csrf": code_of(client)})

    assert (answer.status_code, answer.headers["location"], SESSION in client.cookies) == (303, "/", False)
    client.cookies.set(SESSION, token)
    assert "You are" not in client.get("/login").text


def test_who_logs_out_everywhere_is_out_everywhere(doors: Doors) -> None:
    user = doors.user("read")
    here, there, elsewhere = (browser(doors, service, user) for service in ("open", "open", "closed"))
    assert elsewhere.get("/frb").status_code == 200

    here.post("/logout", data={"csrf": code_of(here), "everywhere": "true"})

    assert "You are" not in there.get("/login").text
    eventually(lambda: is_sent_to_log_in(elsewhere.get("/frb")), "the other console noticed", deadline_s=10)


def test_the_session_of_an_account_that_is_disabled_ends(doors: Doors) -> None:
    user = doors.user("read")
    client = browser(doors, "closed", user)
    assert client.get("/frb").status_code == 200

    doors.on_accounts(lambda connection: set_disabled(connection, name=user, disabled=True))

    eventually(lambda: is_sent_to_log_in(client.get("/frb")), "it was noticed", deadline_s=WHO_CACHE_S + 9)
    assert log_in(client, user).status_code == 401


def test_a_session_that_expired_is_nobodys(doors: Doors) -> None:
    user = doors.user("read")
    client = browser(doors, "closed", user)
    doors.rows(
        "UPDATE frb_intake.tokens SET expires_at = now() FROM frb_intake.users"
        " WHERE users.id = user_id AND users.name = $1",
        user,
    )
    eventually(lambda: is_sent_to_log_in(client.get("/frb")), "it was noticed", deadline_s=WHO_CACHE_S + 9)


def test_roles_that_were_taken_away_are_gone(doors: Doors) -> None:
    user = doors.user("read", "rate")
    client = browser(doors, "open", user)
    code = code_of(client)
    doors.rows("UPDATE frb_intake.users SET roles = '{read}' WHERE name = $1", user)

    def refusal() -> str:
        return client.post("/frb/1/rating", data={"rating": "confirm", "csrf": code}).text

    eventually(lambda: "has not the role" in refusal(), "it was noticed", deadline_s=WHO_CACHE_S + 9)


# ---- logging in


def test_whoever_guesses_has_to_wait_and_nobody_else(doors: Doors) -> None:
    user = doors.user("read")
    guesser = browser(doors, "open", **{"X-Forwarded-For": "2001:db8:1:2::1"})
    for number in range(TRIES_AT_ONCE):
        assert log_in(guesser, user, password=f"guess {number}").status_code == 401

    answer = log_in(guesser, user)
    assert (answer.status_code, SESSION in guesser.cookies) == (429, False)
    assert int(answer.headers["retry-after"]) >= 1
    assert "wait" in answer.text

    neighbour = browser(doors, "open", **{"X-Forwarded-For": "2001:db8:1:2:ffff::9"})
    assert log_in(neighbour, user).status_code == 429
    for elsewhere in ("2001:db8:1:3::1", "203.0.113.99"):
        assert log_in(browser(doors, "open", **{"X-Forwarded-For": elsewhere}), user).status_code == 303


def test_nobody_says_for_themselves_where_they_come_from(doors: Doors) -> None:
    """Limits and the audit log have who asks: neither what was made up, nor the console, through which it goes."""
    user = doors.user("read")
    for address in ("127.0.0.2", "127.0.0.3"):
        visitor = doors.client("open", local_address=address, **{"X-Forwarded-For": "203.0.113.80"})
        assert log_in(visitor, user).status_code == 303
    rows = doors.rows("SELECT address FROM frb_intake.audit_log WHERE actor = $1 AND action = 'LOGGED_IN'", user)
    assert [row["address"] for row in rows] == ["127.0.0.2", "127.0.0.3"]


def test_right_passwords_are_not_counted(doors: Doors) -> None:
    user = doors.user("read")
    for _ in range(TRIES_AT_ONCE + 3):
        browser(doors, "open", user, **{"X-Forwarded-For": "203.0.113.50"})


@pytest.mark.parametrize(
    ("name", "password"),
    [("nobody", PASSWORD), ("", ""), ("a\x00b", "x"), ("\u202eada", "x"), ("<script>alert(1)</script>", "x")],
)
def test_a_wrong_login_is_told_on_the_form_and_tells_nothing_else(doors: Doors, name: str, password: str) -> None:
    client = browser(doors, "open", **{"X-Forwarded-For": f"2001:db8:{uuid.uuid4().hex[:4]}::1"})
    answer = log_in(client, name, password)
    assert answer.status_code == 401
    assert "name or password is wrong" in answer.text
    assert "<script>alert" not in answer.text


@pytest.mark.parametrize(
    "next_path",
    [
        "https://evil.example",
        "//evil.example",
        "///evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "/\t/evil.example",
        "/\n/evil.example",
        "/\r\nLocation: https://evil.example",
        " //evil.example",
        "javascript:alert(1)",
        "evil.example",
        "/\u2028",
        "/" + "a" * 5000,
        "/logout",
        "/login?next=//evil.example",
        "",
    ],
)
def test_nobody_is_sent_elsewhere_after_logging_in(doors: Doors, next_path: str) -> None:
    client = browser(doors, "open")
    assert log_in(client, doors.user("read"), next_path=next_path).headers["location"] == "/"
    shown = re.search(r'name="next" value="([^"]*)"', client.get("/login", params={"next": next_path}).text)
    assert shown is not None
    assert shown[1] == "/"


def test_a_program_uses_its_token_and_no_cookie_ends_it(doors: Doors) -> None:
    user = doors.user("read")
    token = doors.on_accounts(lambda connection: create_token(connection, name=user, expires_at=None))
    client = browser(doors, "open")
    client.cookies.set(SESSION, token)
    assert client.post("/logout", data={"csrf": code_of(client)}).status_code == 403
    me = doors.client("intake").get("/api/v1/me", headers={"Authorization": f"Bearer {token}"})
    assert me.json()["name"] == user


# ---- the provider


def left(browser: httpx.Client, next_path: str = "/") -> str:
    """Go to the provider, and return where it sends the browser back to."""
    away = browser.get("/login/oidc", params={"next": next_path})
    assert away.status_code == 303, away.text
    back = httpx.get(away.headers["location"])
    assert back.status_code == 302, back.text
    return str(back.headers["location"])


def test_who_logs_in_at_the_provider_is_who_has_the_account_of_that_name(doors: Doors) -> None:
    doors.provider.user = doors.user("read", name="ada@observatory.example", password=None)
    client = browser(doors, "closed", **{"X-Forwarded-For": "198.51.100.77"})
    assert 'href="/login/oidc?next=' in client.get("/login").text

    answer = client.get(left(client, "/frb?status=confirmed"))

    assert (answer.status_code, answer.headers["location"]) == (303, "/frb?status=confirmed")
    assert client.get(answer.headers["location"]).status_code == 200
    assert f"You are {doors.provider.user}" in client.get("/login").text
    assert doors.provider.problems == []
    rows = doors.rows("SELECT action, address FROM frb_intake.audit_log WHERE actor = $1", doors.provider.user)
    assert [tuple(row) for row in rows] == [("LOGGED_IN", "198.51.100.77")]
    assert log_in(client, doors.provider.user, password="").status_code == 401


def test_who_has_no_account_here_is_told_so(doors: Doors) -> None:
    doors.provider.user = "somebody-else"
    client = browser(doors, "open")
    answer = client.get(left(client))
    assert (answer.status_code, SESSION in client.cookies) == (403, False)
    assert "somebody-else has no account here" in answer.text

    doors.provider.user = doors.user("read")
    doors.on_accounts(lambda connection: set_disabled(connection, name=doors.provider.user, disabled=True))
    assert client.get(left(client)).status_code == 403


@pytest.mark.parametrize("lie", Lie)
def test_a_provider_that_errs_logs_nobody_in(doors: Doors, lie: Lie) -> None:
    doors.provider.user = doors.user(*ALL_ROLES)
    client = browser(doors, "open", **{"X-Forwarded-For": f"203.0.113.{100 + [*Lie].index(lie)}"})
    doors.provider.lies.append(lie)

    answer = client.get(left(client))

    assert answer.status_code in (400, 401, 403, 503)
    assert 'role="alert"' in answer.text
    assert SESSION not in client.cookies
    assert client.get(left(client)).status_code == 303  # and the next time it goes well


def test_what_comes_back_counts_once_and_in_the_browser_that_left(doors: Doors) -> None:
    doors.provider.user = doors.user("read")
    from_somewhere = {"X-Forwarded-For": "203.0.113.60"}
    attacker, victim = browser(doors, "open", **from_somewhere), browser(doors, "open", **from_somewhere)
    back = left(attacker)
    state = httpx.URL(back).params["state"]
    left(victim)
    for address in (
        back,
        "/login/oidc/callback",
        "/login/oidc/callback?code=1&state=" + "A" * 3000,
        "/login/oidc/callback?code=1&state=%FF.%00",
        f"/login/oidc/callback?code=1&state=x{state}",
    ):
        assert (victim.get(address).status_code, SESSION in victim.cookies) == (400, False), address

    assert attacker.get(back + "&iss=https%3A%2F%2Fevil.example").status_code == 400
    assert attacker.get(back).status_code == 303
    cookies = dict(attacker.cookies)
    assert attacker.get(back).status_code == 400
    assert dict(attacker.cookies)[SESSION] == cookies[SESSION]


def test_an_identity_token_begins_one_session(doors: Doors) -> None:
    doors.provider.user = doors.user("read")
    nonce = uuid.uuid4().hex
    sent = {"id_token": doors.provider.id_token(nonce), "nonce": nonce}
    client = doors.client("intake")
    statuses = [client.post("/api/v1/session/identity", json=sent).status_code for _ in range(2)]
    assert statuses == [201, 401]


def test_nobody_is_sent_elsewhere_after_the_provider(doors: Doors) -> None:
    doors.provider.user = doors.user("read")
    client = browser(doors, "open")
    assert client.get(left(client, "//evil.example")).headers["location"] == "/"


# ---- headers and errors


def test_every_answer_tells_browsers_how_to_keep_safe(doors: Doors) -> None:
    everybody = browser(doors, "open", doors.user(*ALL_ROLES))
    stylesheet = re.search(r'href="(/static/console\.css[^"]*)"', everybody.get("/help").text)
    assert stylesheet is not None
    answers = {
        **{route.path: everybody.get(address_of(route)) for route in READING if route.path != "/live"},
        "file": everybody.get(stylesheet[1]),
        "login": everybody.get("/login"),
        "away": everybody.get("/login/oidc"),
        "unknown": everybody.get("/nothing/here"),
        "wrong method": everybody.put("/frb"),
        "no code": everybody.post("/frb/1/rating"),
        "too much": everybody.post("/login", content=b"a=" + b"b" * MAX_BODY_BYTES),
        "malformed": everybody.post(
            "/login", content=b"--x\r\nrubbish", headers={"Content-Type": "multipart/form-data; boundary=x"}
        ),
        "to log in": browser(doors, "closed").get("/frb"),
        "health": everybody.get("/healthz"),
        "status": everybody.get("/status"),
    }
    for what, answer in answers.items():
        assert answer.status_code < 500 or answer.status_code == 503, what
        for name, value in HEADERS.items():
            assert answer.headers.get(name) == value, (what, name)
        assert "cache-control" in answer.headers, what
        assert "server" not in answer.headers or "/" not in answer.headers["server"], what
    policy = HEADERS["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert "*" not in policy


def test_whatever_is_refused_is_a_page_with_a_way_on(doors: Doors) -> None:
    everybody, lonely = browser(doors, "open", doors.user(*ALL_ROLES)), doors.client("lonely")
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    parts = {"Content-Type": "multipart/form-data"}
    refused = [
        (400, everybody.get("/gw?since=yesterday")),
        (400, everybody.post("/login", content=b"rubbish", headers=parts)),
        (403, everybody.post("/frb/1/rating")),
        (404, everybody.get("/nothing/here")),
        (404, everybody.get("/frb/999")),
        (405, everybody.put("/frb")),
        (405, everybody.post("/status")),
        (413, everybody.post("/login", content=b"a=" + b"b" * MAX_BODY_BYTES, headers=form)),
        (413, everybody.post("/frb/1/rating", content=iter([b"a=", b"b" * MAX_BODY_BYTES]), headers=form)),
        (503, lonely.get("/frb")),
    ]
    for status, answer in refused:
        assert answer.status_code == status, answer.text[:500]
        assert answer.headers["content-type"].startswith("text/html"), answer.request.url
        assert '<a href="/">Now</a>' in answer.text, answer.request.url


def test_while_the_intake_is_away_public_pages_are_there_and_logging_in_waits(doors: Doors) -> None:
    somebody = browser(doors, "lonely")
    somebody.cookies.set(SESSION, browser(doors, "open", doors.user("read")).cookies[SESSION])

    assert somebody.get("/help").status_code == 200
    answer = log_in(somebody, doors.user("read"))
    assert answer.status_code == 503
    assert answer.headers["content-type"].startswith("text/html")
    assert somebody.post("/frb/1/rating").status_code == 503
