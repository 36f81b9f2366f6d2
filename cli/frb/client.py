"""The HTTP client of the burst intake: who we are, what is tried again, and what an answer means."""

import json
import os
import random
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from itertools import count
from pathlib import Path
from time import sleep
from typing import Any, NoReturn

import httpx

from cli.frb.errors import (
    BrokenOffError,
    CredentialsError,
    InvalidInputsError,
    RefusedError,
    ServerUnavailableError,
    UnknownAnswerError,
)
from cli.frb.progress import tell
from shared.errors import InvalidInputError

API = "/api/v1"
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 60.0
# Doubled each time. A server that asks for a longer pause than a person would wait is not waited for.
CHUNK_BYTES = 64 * 1024

_PASSING_CODES = (httpx.codes.REQUEST_TIMEOUT, httpx.codes.TOO_MANY_REQUESTS)
_PASSING = (httpx.TimeoutException, httpx.NetworkError, httpx.RemoteProtocolError, httpx.ProxyError)


@dataclass(frozen=True)
class Body:
    """The bytes of a request and what they are."""

    content: bytes
    media_type: str
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of_json(cls, document: object) -> "Body":
        """Return a document as a body."""
        return cls(json.dumps(document).encode(), "application/json")


class FrbClient:
    """Requests to one server, each tried again while it fails for a passing reason.

    Passing are connections that fail, time-outs, 408, 429 and 5xx. A pause doubles with every try, is shortened by
    chance so that many clients do not come back in step, and is never shorter than the server's `Retry-After`.

    Parameters
    ----------
    server
        Base URL.
    auth
        What identifies the caller; None for anonymous reading.
    timeout_s
        For connecting, and for each wait for bytes.
    retries
        Further tries after the first.
    """

    def __init__(self, server: str, *, auth: httpx.Auth | None, timeout_s: float, retries: int) -> None:
        self.server = server
        self._timeout_s = timeout_s
        self._retries = retries
        self._http = httpx.Client(base_url=server, auth=auth, timeout=timeout_s, transport=_transport())

    def post(self, path: str, body: Body, *, on_bytes: Callable[[int], None] = lambda _: None) -> httpx.Response:
        """Send `body`; `on_bytes` is told how many of its bytes have gone, from zero again with every try."""

        def request() -> httpx.Request:
            headers = {
                **body.headers,
                "Content-Type": body.media_type,
                "Content-Length": str(len(body.content)),
                "Accept": "application/json",
            }
            return self._http.build_request(
                "POST", API + path, content=_chunks(body.content, on_bytes), headers=headers
            )

        return self._send(request)

    def get(self, path: str, parameters: Mapping[str, Any] | None = None) -> httpx.Response:
        """Ask; parameters that are None are left out."""
        given = {name: value for name, value in (parameters or {}).items() if value is not None}
        return self._send(lambda: self._http.build_request("GET", API + path, params=given))

    @contextmanager
    def stream(
        self, path: str, parameters: Mapping[str, Any] | None = None, headers: Mapping[str, str] | None = None
    ) -> Iterator[httpx.Response]:
        """As `get`, yielding the answer before its body has come.

        Raises
        ------
        BrokenOffError
            Inside the `with`: the connection ended before the body.
        """
        given = {name: value for name, value in (parameters or {}).items() if value is not None}
        answer = self._send(
            lambda: self._http.build_request("GET", API + path, params=given, headers=headers), stream=True
        )
        try:
            yield answer
        except _PASSING as error:
            raise BrokenOffError(f"{self.server}: broke off: {self._reason(error)}") from error
        finally:
            answer.close()

    def _send(self, request: Callable[[], httpx.Request], *, stream: bool = False) -> httpx.Response:
        for number in count(1):
            # Half to all of it: S311 fears for secrets, of which there are none here.
            pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** (number - 1)) * random.uniform(0.5, 1)  # noqa: S311
            try:
                answer = self._http.send(request(), stream=stream)
                if not answer.is_success:
                    answer.read()
            except _PASSING as error:
                reason = self._reason(error)
            except httpx.HTTPError as error:
                raise UnknownAnswerError(f"{self.server}: {self._reason(error)}") from error
            else:
                if answer.status_code not in _PASSING_CODES and not answer.is_server_error:
                    return _accepted(answer)
                reason = "; ".join(_complaints(answer))
                pause_s = max(pause_s, _retry_after_s(answer))
            if number > self._retries or pause_s > LONGEST_PAUSE_S:
                asked = f", and asked to wait {pause_s:.0f} s" if pause_s > LONGEST_PAUSE_S else ""
                raise ServerUnavailableError(f"{self.server}: {reason}{asked}; gave up after {_tries(number)}")
            tell(f"{self.server}: {reason}; again in {pause_s:.1f} s")
            sleep(pause_s)
        raise AssertionError("count() has no end")

    def _reason(self, error: httpx.HTTPError) -> str:
        if isinstance(error, httpx.TimeoutException):
            return f"no answer within {self._timeout_s:g} s"
        return str(error) or type(error).__name__


def credentials(token_file: Path | None, environment: Mapping[str, str] = os.environ) -> httpx.Auth | None:
    """Return what identifies the caller: `token_file`, else FRB_TOKEN, else FRB_USER with FRB_PASS; None without.

    Raises
    ------
    InvalidInputError
        The file cannot be read.
    CredentialsError
        It, or a variable, holds nothing that could be a token or a password.
    """
    if token_file is not None:
        try:
            return _Bearer(token_file.read_text("utf-8").strip(), origin=str(token_file))
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidInputError("--token-file", str(error), "a readable file with a token") from error
    if token := environment.get("FRB_TOKEN", "").strip():
        return _Bearer(token, origin="FRB_TOKEN")
    user, password = environment.get("FRB_USER"), environment.get("FRB_PASS")
    if user and password:
        return httpx.BasicAuth(user, password)
    if user or password:
        raise CredentialsError(f"{'FRB_PASS' if user else 'FRB_USER'} is not set; expected FRB_USER and FRB_PASS")
    return None


def required(auth: httpx.Auth | None) -> httpx.Auth:
    """Return `auth`, raise `CredentialsError` saying where credentials could come from when there is none."""
    if auth is None:
        raise CredentialsError("no credentials; expected --token-file, FRB_TOKEN, or FRB_USER and FRB_PASS")
    return auth


def document(answer: httpx.Response) -> dict[str, Any]:
    """Return the JSON object of an answer; raise `UnknownAnswerError` when it holds none."""
    try:
        found = answer.json()
    except ValueError as error:
        _no_intake(answer, error)
    if not isinstance(found, dict):
        _no_intake(answer)
    return found


class _Bearer(httpx.Auth):
    def __init__(self, token: str, *, origin: str) -> None:
        if not re.fullmatch("[!-~]+", token):
            raise CredentialsError(f"{origin} holds no token; expected one that `tocsin token create` printed")
        self._token = token

    def auth_flow(self, request: httpx.Request) -> Any:
        request.headers["Authorization"] = f"Bearer {self._token}"
        yield request


def _transport() -> httpx.BaseTransport | None:
    """How requests leave this process; None: as httpx does it. Tests put a server of theirs here."""


def _chunks(content: bytes, on_bytes: Callable[[int], None]) -> Iterator[bytes]:
    on_bytes(0)
    for start in range(0, len(content), CHUNK_BYTES):
        chunk = content[start : start + CHUNK_BYTES]
        yield chunk
        on_bytes(start + len(chunk))


def _accepted(answer: httpx.Response) -> httpx.Response:
    if answer.is_success:
        return answer
    complaints = _complaints(answer)
    match answer.status_code:
        case 401 | 403:
            raise CredentialsError("\n".join(complaints))
        case 400 | 413 | 415 | 422:
            raise InvalidInputsError(complaints)
        case status if answer.has_redirect_location:
            # Following it would turn a POST into a GET, or hand a password to somebody else.
            raise RefusedError(f"{status}: the server is at {answer.headers['Location']}; expected it in --server")
        case _:
            raise RefusedError("\n".join(complaints))


def _complaints(answer: httpx.Response) -> list[str]:
    """Return what a refusal says, one line per field where it names fields (RFC 9457 with `errors`)."""
    status = f"{answer.status_code} {answer.reason_phrase}".strip()
    try:
        problem = answer.json()
    except ValueError:
        problem = None
    if not isinstance(problem, dict):
        return [status]
    named = [error for error in problem.get("errors") or () if isinstance(error, dict) and "field" in error]
    if named:
        return [str(_invalid(error)).replace("\n", " ") for error in named]
    told = [str(problem[name]) for name in ("title", "detail") if problem.get(name)]
    return [" ".join(": ".join(told).split()) or status]


def _invalid(error: Mapping[str, Any]) -> InvalidInputError:
    value = error.get("value")
    shown = value if isinstance(value, str) else json.dumps(value)
    return InvalidInputError(str(error["field"]), shown, str(error.get("expected", "something else")))


def _retry_after_s(answer: httpx.Response) -> float:
    """Return how long the server asks to wait, in seconds: a number or a date (RFC 9110, 10.2.3); 0 without."""
    asked = answer.headers.get("Retry-After", "")
    if asked.isdecimal():
        return float(asked)
    try:
        until = parsedate_to_datetime(asked)
    except ValueError:
        return 0.0
    return max(0.0, (until.replace(tzinfo=until.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


def _no_intake(answer: httpx.Response, cause: Exception | None = None) -> NoReturn:
    raise UnknownAnswerError(
        f"{answer.request.url} answers {answer.status_code} with {answer.headers.get('Content-Type', 'nothing')};"
        " expected the JSON of a burst intake"
    ) from cause


def _tries(number: int) -> str:
    return "1 try" if number == 1 else f"{number} tries"
