"""A server that nobody can keep busy by being slow, large or rude; told over real connections."""

import asyncio
import contextlib
import http.client
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest
import structlog
import uvicorn
import uvloop
from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse

from shared.http.limits import RequestLimits, SecurityHeaders
from shared.http.problems import install_problem_handlers
from shared.http.protocol import PatientProtocol
from tests.support.runtime import eventually

HEAD_S, WRITE_S, BODY_S, GRACE_S = 0.8, 0.8, 2.0, 0.6
MAX_BODY = 1_000_000
MAX_HEAD = 8_000
DEADLINE_S = 20.0
LARGE = 30_000_000
# More than the buffers of both ends hold.


class ShortTempered(PatientProtocol):
    head_timeout_s = HEAD_S
    write_timeout_s = WRITE_S
    max_head_bytes = MAX_HEAD


@dataclass
class Trial:
    """A running server."""

    port: int
    server: uvicorn.Server

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=DEADLINE_S)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def connections(self) -> int:
        return len(self.server.server_state.connections)


def an_app() -> FastAPI:
    app = FastAPI(redirect_slashes=False)
    install_problem_handlers(app)
    app.add_middleware(
        RequestLimits, max_body_bytes=MAX_BODY, body_timeout_s=BODY_S, grace_s=GRACE_S, min_bytes_per_s=1000
    )
    app.add_middleware(SecurityHeaders)

    @app.get("/ok")
    async def ok() -> str:
        return "ok"

    @app.post("/body")
    async def read(request: Request) -> int:
        return len(await request.body())

    @app.post("/form")
    async def form(request: Request) -> int:
        return len(await request.form())

    @app.post("/model")
    async def model(body: dict[str, int]) -> int:
        return len(body)

    @app.get("/bug")
    async def bug() -> None:
        raise ZeroDivisionError

    @app.post("/early")
    async def early() -> Response:
        return Response("no", status_code=401)

    @app.get("/large")
    async def large() -> Response:
        return Response(b"x" * LARGE)

    @app.get("/slow")
    async def slow() -> StreamingResponse:
        async def chunks():
            for _ in range(3):
                await asyncio.sleep(HEAD_S)
                yield b"x"

        return StreamingResponse(chunks())

    return app


@pytest.fixture(scope="module")
def trial() -> Iterator[Trial]:
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    server = uvicorn.Server(uvicorn.Config(an_app(), http=ShortTempered, log_config=None, access_log=False))

    def serve() -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(server.serve(sockets=[listener]))

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        eventually(lambda: server.started)
        yield Trial(listener.getsockname()[1], server)
    finally:
        server.should_exit = True
        thread.join(DEADLINE_S)
        listener.close()


def head(method: str, path: str, **headers: object) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: x", *(f"{n.replace('_', '-')}: {v}" for n, v in headers.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


def answer_on(connection: socket.socket) -> tuple[int, bytes]:
    response = http.client.HTTPResponse(connection)
    response.begin()
    return response.status, response.read()


def rest_of(connection: socket.socket) -> bytes:
    """Everything until the server closes."""
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while data := connection.recv(65536):
            received += data
    return received


def sent_all(connection: socket.socket, data: bytes) -> None:
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        connection.sendall(data)


def dribbled(connection: socket.socket, piece: bytes, *, every_s: float = 0.1) -> tuple[float, bytes]:
    """Send the same piece over and over; return when the server had enough (s), and what it said."""
    started = time.monotonic()
    connection.settimeout(every_s)
    received = b""
    while time.monotonic() - started < DEADLINE_S:
        try:
            connection.sendall(piece)
            data = connection.recv(65536)
        except TimeoutError:
            continue
        except ConnectionError:
            break
        if not data:
            break
        received += data
    return time.monotonic() - started, received


def test_two_hundred_dribbling_connections_stop_nobody(trial: Trial) -> None:
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(trial.connect()) for _ in range(200)]
        for connection in slow:
            connection.sendall(b"POST /body HTTP/1.1\r\nHost: x\r\nX-")
        eventually(lambda: trial.connections() >= 200)

        started = time.monotonic()
        with httpx.Client(base_url=trial.url) as client:
            assert client.get("/ok").json() == "ok"
        assert time.monotonic() - started < HEAD_S

        eventually(lambda: trial.connections() == 0)


def test_a_head_that_dribbles_is_given_up(trial: Trial) -> None:
    with trial.connect() as connection:
        connection.sendall(b"GET /")
        took_s, said = dribbled(connection, b"x")
    assert HEAD_S - 0.2 < took_s < HEAD_S + 2
    assert said.startswith(b"HTTP/1.1 408 ")


def test_a_connection_that_says_nothing_is_closed(trial: Trial) -> None:
    with trial.connect() as connection:
        assert connection.recv(1) == b""


@pytest.mark.parametrize("piece", [b"\r\n", b"G"])
def test_a_byte_between_requests_does_not_hold_the_connection(trial: Trial, piece: bytes) -> None:
    with trial.connect() as connection:
        connection.sendall(head("GET", "/ok"))
        assert answer_on(connection)[0] == 200
        connection.sendall(piece)
        started = time.monotonic()
        rest_of(connection)
    assert time.monotonic() - started < HEAD_S + 2


def test_a_byte_before_the_answer_does_not_cost_the_answer(trial: Trial) -> None:
    with trial.connect() as connection:
        connection.sendall(head("GET", "/slow"))
        connection.sendall(b"\r\n")
        connection.sendall(b"G")
        assert answer_on(connection) == (200, b"xxx")


@pytest.mark.parametrize(
    "request_",
    [
        head("GET", "/ok", x="y" * MAX_HEAD),
        head("GET", "/" + "x" * MAX_HEAD),
        head("GET", "/ok", **{f"x{n}": "y" for n in range(MAX_HEAD // 2)}),
        b"GET /ok HTTP/1.1\r\nX: " + b"y" * 5_000_000,
        b"\r\n" * 5_000_000,
        head("POST", "/body", transfer_encoding="chunked") + b"1;" + b"x" * 5_000_000,
        head("POST", "/body", transfer_encoding="chunked") + b"0\r\nx: " + b"y" * 5_000_000,
        head("POST", "/body", transfer_encoding="chunked") + b"0\r\n" + b"x: y\r\n" * 1_000_000,
    ],
    ids=["header", "url", "headers", "endless", "lines", "extension", "trailer", "trailers"],
)
def test_a_head_that_is_too_large_is_refused(trial: Trial, request_: bytes) -> None:
    with trial.connect() as connection:
        sent_all(connection, request_)
        said = rest_of(connection)
    assert said == b"" or b" 431 " in said.splitlines()[0]
    eventually(lambda: trial.connections() == 0)


def test_what_is_refused_for_its_head_is_told_so(trial: Trial) -> None:
    with trial.connect() as connection:
        connection.sendall(head("GET", "/ok", x="y" * MAX_HEAD))
        assert answer_on(connection)[0] == 431


def test_a_bug_is_logged_once(trial: Trial, caplog: pytest.LogCaptureFixture) -> None:
    with structlog.testing.capture_logs() as logs:
        assert httpx.get(f"{trial.url}/bug").status_code == 500
        # Answered in order, so what the server has to say of the first is said.
        assert httpx.get(f"{trial.url}/ok").status_code == 200
    assert [(line["event"], line["path"]) for line in logs] == [("http.failed", "/bug")]
    assert not caplog.records


def test_what_is_no_http_is_refused_and_fills_no_log(trial: Trial, caplog: pytest.LogCaptureFixture) -> None:
    for request, status in (
        (b"\x16\x03\x01\x02\x00\x01", 400),
        (head("GET", "/ok", connection="upgrade", upgrade="websocket"), 200),
    ):
        with trial.connect() as connection:
            connection.sendall(request)
            assert answer_on(connection)[0] == status
    assert not caplog.records


@pytest.mark.parametrize("path", ["/body", "/form", "/model"])
def test_a_body_that_never_comes_is_given_up(trial: Trial, path: str) -> None:
    with trial.connect() as connection:
        kind = {"/form": "application/x-www-form-urlencoded"}.get(path, "application/json")
        connection.sendall(head("POST", path, content_length=10, content_type=kind) + b'{"a":')
        started = time.monotonic()
        status, body = answer_on(connection)
        assert (status, json.loads(body)["status"]) == (408, 408)
        assert GRACE_S - 0.2 < time.monotonic() - started < BODY_S
        assert rest_of(connection) == b""


@pytest.mark.parametrize("headers", [{"content_length": 100_000}, {"transfer_encoding": "chunked"}])
def test_a_body_that_dribbles_is_given_up(trial: Trial, headers: dict[str, object]) -> None:
    with trial.connect() as connection:
        connection.sendall(head("POST", "/body", **headers))
        piece = b"x" if "content_length" in headers else b"1\r\nx\r\n"
        took_s, said = dribbled(connection, piece, every_s=0.05)
    assert took_s < BODY_S
    assert said.startswith(b"HTTP/1.1 408 ")


def test_a_body_that_comes_slowly_but_steadily_is_read(trial: Trial) -> None:
    with trial.connect() as connection:
        connection.sendall(head("POST", "/body", content_length=30_000))
        for _ in range(15):
            connection.sendall(b"x" * 2000)
            time.sleep(0.08)  # twice the grace, in all
        assert answer_on(connection) == (200, b"30000")


def test_even_a_steady_body_must_end_in_time(trial: Trial) -> None:
    with trial.connect() as connection:
        connection.sendall(head("POST", "/body", content_length=MAX_BODY))
        took_s, said = dribbled(connection, b"x" * 500, every_s=0.05)
    assert BODY_S - 0.2 < took_s < BODY_S + 2
    assert said.startswith(b"HTTP/1.1 408 ")


def test_a_body_too_large_is_refused_unread(trial: Trial) -> None:
    with trial.connect() as connection:
        connection.sendall(head("POST", "/body", content_length=MAX_BODY + 1, expect="100-continue"))
        status, body = answer_on(connection)
    assert (status, json.loads(body)["title"]) == (413, "Content Too Large")


@pytest.mark.parametrize("length", [10**30, 2**64, -1])
def test_a_length_that_is_none_is_refused(trial: Trial, length: int) -> None:
    with trial.connect() as connection:
        connection.sendall(head("POST", "/body", content_length=length))
        assert answer_on(connection)[0] == 400


@pytest.mark.parametrize("path", ["/body", "/form", "/model", "/early"])
def test_who_sends_it_all_before_reading_is_told(trial: Trial, path: str) -> None:
    """As most clients do; closing at once would destroy the answer on its way."""
    kind = {"/form": "multipart/form-data; boundary=x"}.get(path, "application/json")
    with trial.connect() as connection:
        connection.sendall(head("POST", path, content_length=LARGE, content_type=kind))
        connection.sendall(b"x" * LARGE)
        assert answer_on(connection)[0] == 413


def test_a_body_too_large_in_chunks_is_refused(trial: Trial) -> None:
    with trial.connect() as connection:
        connection.sendall(head("POST", "/body", transfer_encoding="chunked"))
        for _ in range(LARGE // 100_000):
            connection.sendall(b"%x\r\n" % 100_000 + b"x" * 100_000 + b"\r\n")
        connection.sendall(b"0\r\n\r\n")
        assert answer_on(connection)[0] == 413
        assert rest_of(connection) == b""


def test_httpx_sees_why_a_large_upload_is_refused(trial: Trial) -> None:
    with httpx.Client(base_url=trial.url, timeout=DEADLINE_S) as client:
        for _ in range(5):
            assert client.post("/body", content=b"x" * LARGE).status_code == 413
            assert client.post("/body", content=iter([b"x" * MAX_BODY] * 20)).status_code == 413


def test_an_answer_that_came_early_leaves_the_connection_in_order(trial: Trial) -> None:
    with trial.connect() as connection:
        connection.sendall(head("POST", "/early", content_length=500_000))
        status, _ = answer_on(connection)
        assert status == 401
        connection.sendall(b"x" * 500_000 + head("GET", "/ok"))
        assert answer_on(connection) == (200, b'"ok"')


def test_who_goes_on_sending_behind_the_answer_is_let_go(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.http.limits.LINGER_S", 0.5)
    with trial.connect() as connection:
        connection.sendall(head("POST", "/early", content_length=900_000))
        took_s, said = dribbled(connection, b"x")
    assert said.startswith(b"HTTP/1.1 401 ")
    assert took_s < 3


def test_who_does_not_take_the_answer_is_let_go(trial: Trial) -> None:
    with trial.connect() as connection:
        connection.sendall(head("GET", "/large"))
        eventually(lambda: trial.connections() == 1)
        eventually(lambda: trial.connections() == 0)
        assert len(rest_of(connection)) < LARGE


def test_who_takes_the_answer_slowly_gets_all_of_it(trial: Trial) -> None:
    with trial.connect() as connection:
        connection.sendall(head("GET", "/large"))
        response = http.client.HTTPResponse(connection)
        response.begin()
        received = 0
        started = time.monotonic()
        while time.monotonic() - started < 2.5 * WRITE_S:
            received += len(response.read(LARGE // 100))
            time.sleep(WRITE_S / 20)
        assert received + len(response.read()) == LARGE


def test_requests_in_a_row_are_answered_in_order(trial: Trial) -> None:
    requests = [head("POST", "/body", content_length=n) + b"x" * n for n in (3, 70_000, 0, 5)]
    with trial.connect() as connection:
        connection.sendall(b"".join(requests) + head("GET", "/ok", connection="close"))
        assert re.findall(rb"\r\n\r\n([^H]+)", rest_of(connection)) == [b"3", b"70000", b"0", b"5", b'"ok"']


def test_answers_are_plain_data(trial: Trial) -> None:
    with httpx.Client(base_url=trial.url) as client:
        for answer in (client.get("/ok"), client.get("/nowhere"), client.post("/body", content=b"x" * (MAX_BODY + 1))):
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["cache-control"] == "no-store"
            assert answer.headers["referrer-policy"] == "no-referrer"
            assert answer.headers["content-security-policy"].startswith("default-src 'none'")
