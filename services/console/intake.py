"""What the console asks the services' own APIs, with the token of who looks, if they have one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from ipaddress import ip_address
from typing import Any

import httpx
from pydantic import BaseModel
from starlette.types import ASGIApp, Receive, Scope, Send

from shared.errors import TransientError
from shared.http.problems import FieldError, ProblemError

TIMEOUT_S = 10.0

_visitor_address: ContextVar[str | None] = ContextVar("visitor_address", default=None)


class VisitorAddress:
    """ASGI middleware: whatever a request has us ask of other services is asked in the name of where it came from.

    A service that trusts us (`http.trusted_proxies`) limits guesses by that address and writes it into its audit log.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        _visitor_address.set(_address(scope))
        await self._app(scope, receive, send)


class NotLoggedInError(Exception):
    """Nobody has these credentials, or not any more."""


class Who(BaseModel):
    """An account."""

    name: str
    roles: list[str]


class ServiceClient:
    """Asks a service's own API; what it refuses is refused here, in its words."""

    def __init__(self, http: httpx.AsyncClient, base_url: str, *, name: str) -> None:
        self._http = http
        self._base_url = base_url.rstrip("/")
        self._name = name

    async def get(self, path: str, token: str | None, params: Mapping[str, Any] | None = None) -> httpx.Response:
        """Ask for something.

        Raises
        ------
        ProblemError
            It was refused: unknown, malformed, or not for this account.
        TransientError
            The service does not answer.
        """
        return await self.send("GET", path, token, params=params)

    async def post(self, path: str, token: str | None, body: Mapping[str, Any]) -> httpx.Response:
        """Have something changed; raises as `get` does."""
        return await self.send("POST", path, token, json=body)

    async def send(self, method: str, path: str, token: str | None, **arguments: Any) -> httpx.Response:
        """Send a request; raises as `get` does."""
        try:
            answer = await self._http.request(
                method, self._base_url + path, headers=_headers(token), timeout=TIMEOUT_S, **arguments
            )
        except httpx.HTTPError as error:
            raise TransientError(f"{self._name} does not answer: {str(error) or type(error).__name__}") from error
        self._require_success(answer)
        return answer

    @asynccontextmanager
    async def stream(self, path: str, token: str | None, params: Mapping[str, Any]) -> AsyncIterator[httpx.Response]:
        """Ask for something large; raises as `get` does."""
        request = self._http.build_request(
            "GET", self._base_url + path, headers=_headers(token), params=dict(params), timeout=TIMEOUT_S
        )
        try:
            answer = await self._http.send(request, stream=True)
        except httpx.HTTPError as error:
            raise TransientError(f"{self._name} does not answer: {str(error) or type(error).__name__}") from error
        try:
            if answer.is_error:
                await answer.aread()
                self._require_success(answer)
            yield answer
        finally:
            await answer.aclose()

    def _require_success(self, answer: httpx.Response) -> None:
        if answer.is_success:
            return
        if answer.status_code in (502, 503, 504):
            raise TransientError(f"{self._name} answers {answer.status_code}")
        raise _problem(answer)


class IntakeClient(ServiceClient):
    """frb_intake."""

    def __init__(self, http: httpx.AsyncClient, base_url: str) -> None:
        super().__init__(http, base_url, name="frb_intake")

    async def log_in(self, name: str, password: str, *, hours: float) -> str:
        """Return a token for who has this password; it ends by itself.

        Raises
        ------
        ProblemError
            Nobody has it (401), or too many are tried from there (429).
        """
        answer = await self.post("/api/v1/session", None, {"name": name, "password": password, "hours": hours})
        return str(answer.json()["token"])

    async def log_in_by_identity(self, id_token: str, *, nonce: str, hours: float) -> str:
        """Return a token for who logged in at the OpenID provider.

        Raises
        ------
        ProblemError
            The provider does not say so (401), or nobody has an account of that name (403).
        """
        body = {"id_token": id_token, "nonce": nonce, "hours": hours}
        return str((await self.post("/api/v1/session/identity", None, body)).json()["token"])

    async def log_out(self, token: str) -> None:
        """End what a token stands for; one that is nobody's any more has ended."""
        await self._end("/api/v1/session", token)

    async def log_out_everywhere(self, token: str) -> None:
        """End all sessions of whose token it is."""
        await self._end("/api/v1/sessions", token)

    async def _end(self, path: str, token: str) -> None:
        try:
            await self.send("DELETE", path, token)
        except ProblemError as error:
            if error.status != httpx.codes.UNAUTHORIZED:
                raise

    async def who(self, token: str) -> Who:
        """Return whose token it is.

        Raises
        ------
        NotLoggedInError
            Nobody's, or not any more.
        TransientError
            The intake does not answer, or was asked too often from there.
        """
        try:
            return Who.model_validate((await self.get("/api/v1/me", token)).json())
        except ProblemError as error:
            if error.status == httpx.codes.UNAUTHORIZED:
                raise NotLoggedInError from error
            if error.status == httpx.codes.TOO_MANY_REQUESTS:
                raise TransientError(f"frb_intake will not say who it is: {error}") from error
            raise


def _address(scope: Scope) -> str | None:
    try:
        return str(ip_address(scope["client"][0]))
    except (KeyError, TypeError, ValueError):
        return None  # no address at all: what a proxy says that tells none


def _headers(token: str | None) -> dict[str, str]:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    address = _visitor_address.get()
    return headers if address is None else {**headers, "X-Forwarded-For": address}


def _problem(answer: httpx.Response) -> ProblemError:
    try:
        told = answer.json()
        errors = [FieldError.model_validate(each) for each in told.get("errors", [])]
        return ProblemError(answer.status_code, str(told["title"]), str(told["detail"]), errors=errors)
    except (ValueError, KeyError, AttributeError):
        return ProblemError(answer.status_code, answer.reason_phrase, answer.text[:200])
