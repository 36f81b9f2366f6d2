"""Bodies that are too large or do not come are refused, whatever reads them; answers are marked as plain data."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from hypothesis import given
from hypothesis import strategies as st
from starlette.responses import Response, StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.http import limits
from shared.http.limits import RequestLimits, SecurityHeaders

MAX_BODY = 100
Headers = dict[str, str]


@pytest.fixture(autouse=True)
def _short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LINGER_S", 0.02)


@dataclass
class Exchange:
    """One request as a server would bring it: the pieces of its body, then silence."""

    pieces: Sequence[bytes] = ()
    headers: Headers = field(default_factory=dict)
    ends: bool = True
    leaves: bool = False
    sent: list[Message] = field(default_factory=list)
    taken: int = 0

    async def receive(self) -> Message:
        if self.taken < len(self.pieces):
            self.taken += 1
            more = self.taken < len(self.pieces) or not self.ends
            return {"type": "http.request", "body": self.pieces[self.taken - 1], "more_body": more}
        if self.leaves:
            return {"type": "http.disconnect"}
        await asyncio.Event().wait()
        raise AssertionError

    async def send(self, message: Message) -> None:
        self.sent.append(message)

    async def through(self, app: ASGIApp) -> "Exchange":
        raw = [(name.lower().encode(), value.encode()) for name, value in self.headers.items()]
        scope = {"type": "http", "method": "POST", "path": "/body", "query_string": b"", "headers": raw}
        await app(scope, self.receive, self.send)
        return self

    @property
    def status(self) -> int:
        starts = [message["status"] for message in self.sent if message["type"] == "http.response.start"]
        (status,) = starts
        return int(status)

    @property
    def body(self) -> bytes:
        assert not self.sent[-1].get("more_body", False)
        return b"".join(message.get("body", b"") for message in self.sent)

    @property
    def said(self) -> Headers:
        return {name.decode(): value.decode() for name, value in self.sent[0]["headers"]}


def limited(app: ASGIApp, **changes: Any) -> RequestLimits:
    settings: dict[str, Any] = {"max_body_bytes": MAX_BODY, "body_timeout_s": 0.05, "grace_s": 0.02}
    return RequestLimits(app, **settings | changes)


async def reader(scope: Scope, receive: Receive, send: Send) -> None:
    body = await Request(scope, receive).body()
    await Response(str(len(body)))(scope, receive, send)


async def refuser(scope: Scope, receive: Receive, send: Send) -> None:
    await Response("no", status_code=401)(scope, receive, send)


def announced(length: int) -> Headers:
    return {"Content-Length": str(length)}


CHUNKED = {"Transfer-Encoding": "chunked"}


@given(st.lists(st.binary(max_size=60), max_size=6), st.sampled_from(["true", "none", "lie", "chunked"]))
def test_a_body_is_read_up_to_the_limit_and_not_beyond(pieces: list[bytes], announcement: str) -> None:
    length = sum(map(len, pieces))
    headers = {"true": announced(length), "none": {}, "lie": announced(1), "chunked": CHUNKED}[announcement]
    exchange = asyncio.run(Exchange(pieces or [b""], headers).through(limited(reader)))
    if length > MAX_BODY:
        assert (exchange.status, exchange.said["connection"]) == (413, "close")
    else:
        assert (exchange.status, exchange.body) == (200, str(length).encode())


async def test_a_length_over_the_limit_is_refused_before_anything_reads() -> None:
    async def unreachable(*_: Any) -> None:
        pytest.fail("read")

    exchange = await Exchange([b"x"], announced(MAX_BODY + 1)).through(limited(unreachable))
    assert exchange.status == 413
    assert json.loads(exchange.body)["instance"] == "/body"


@pytest.mark.parametrize("length", ["9" * 100_000, "²", "-1", "", "1e9", "0x10"])
async def test_a_length_that_is_none_harms_nobody(length: str) -> None:
    exchange = await Exchange([b"x"], {"Content-Length": length}).through(limited(reader))
    assert exchange.status == (413 if length.startswith("9") else 200)


@pytest.mark.parametrize("pieces", [[], [b"x"] * 3])
async def test_a_body_that_does_not_come_is_refused(pieces: list[bytes]) -> None:
    exchange = await Exchange(pieces, announced(10), ends=False).through(limited(reader))
    assert (exchange.status, exchange.said["connection"]) == (408, "close")


async def test_time_that_the_application_takes_does_not_count() -> None:
    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive())["more_body"]:
            await asyncio.sleep(0.02)
        await Response("done")(scope, receive, send)

    exchange = await Exchange([b"x"] * 5, announced(5)).through(limited(slow))
    assert exchange.body == b"done"


async def test_the_wait_for_a_client_to_leave_has_no_limit() -> None:
    async def patient(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(receive(), 0.1)
        await Response("done")(scope, receive, send)

    exchange = await Exchange([b"x"], announced(1)).through(limited(patient))
    assert exchange.body == b"done"


@pytest.mark.parametrize(
    "kind", ["application/json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"]
)
@pytest.mark.parametrize(("pieces", "status"), [([b"{" * 60] * 3, 413), ([b"x"], 408)])
async def test_no_framework_answers_in_other_words(kind: str, pieces: list[bytes], status: int) -> None:
    app = FastAPI()

    @app.post("/body")
    async def model(body: dict[str, Any], request: Request) -> None:
        await request.form()

    app.add_middleware(RequestLimits, max_body_bytes=MAX_BODY, body_timeout_s=0.05)
    exchange = await Exchange(pieces, CHUNKED | {"Content-Type": kind}, ends=False).through(app)
    assert exchange.status == status
    assert exchange.said["content-type"] == "application/problem+json"


async def test_refusals_take_the_shape_of_the_door() -> None:
    def refuse(status: int, title: str, detail: str, path: str) -> Response:
        return JSONResponse({"detail": detail, "path": path}, status)

    exchange = await Exchange([], announced(MAX_BODY + 1)).through(limited(reader, refuse=refuse))
    assert json.loads(exchange.body) == {"detail": "at most 100 bytes are taken", "path": "/body"}


async def test_an_early_answer_is_sent_at_once_and_ended_behind_the_body() -> None:
    exchange = Exchange([b"x"] * 3, announced(3))
    whole = []

    async def send(message: Message) -> None:
        whole.append((message.get("body"), exchange.taken))

    exchange.send = send  # type: ignore[method-assign]
    await exchange.through(limited(refuser))
    assert whole == [(None, 0), (b"no", 0), (None, 3)]


async def test_the_rest_of_a_body_is_not_awaited_for_ever() -> None:
    exchange = await Exchange([b"x"], announced(9), ends=False).through(limited(refuser))
    assert (exchange.status, exchange.body) == (401, b"no")


@pytest.mark.parametrize("headers", [{}, announced(0)])
async def test_without_a_body_nothing_is_awaited(headers: Headers) -> None:
    exchange = await Exchange([], headers, ends=False).through(limited(refuser))
    assert [message["type"] for message in exchange.sent] == ["http.response.start", "http.response.body"]


async def test_a_client_that_leaves_is_no_error() -> None:
    exchange = await Exchange([b"x"], announced(9), ends=False, leaves=True).through(limited(reader))
    assert exchange.sent == []


async def test_an_error_of_the_application_stays_one() -> None:
    async def broken(*_: Any) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await Exchange().through(limited(broken))


@pytest.mark.parametrize("kind", ["lifespan", "websocket"])
@pytest.mark.parametrize("wrap", [limited, SecurityHeaders])
async def test_what_is_no_request_passes(kind: str, wrap: Callable[[ASGIApp], ASGIApp]) -> None:
    seen = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append((scope, receive, send))

    exchange = Exchange()
    scope = {"type": kind}
    await wrap(app)(scope, exchange.receive, exchange.send)
    assert seen == [(scope, exchange.receive, exchange.send)]


async def marked(answer: Callable[[Scope, Receive, Send], Awaitable[None]]) -> Headers:
    return (await Exchange().through(SecurityHeaders(answer))).said


async def test_answers_are_marked_as_plain_data() -> None:
    async def chunks() -> Any:
        yield b"x"

    for answer in (Response("x"), StreamingResponse(chunks()), Response(status_code=304)):
        said = await marked(answer)
        assert said["x-content-type-options"] == "nosniff"
        assert said["referrer-policy"] == "no-referrer"
        assert said["cache-control"] == "no-store"
        assert "default-src 'none'" in said["content-security-policy"]


async def test_what_an_answer_says_of_itself_is_kept() -> None:
    said = await marked(Response("x", headers={"Cache-Control": "public", "Content-Security-Policy": "sandbox"}))
    assert (said["cache-control"], said["content-security-policy"]) == ("public", "sandbox")
