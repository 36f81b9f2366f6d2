"""Finds out who asks a service that keeps no accounts: the intake, which does, is asked whose token it is."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256

import httpx
from fastapi import Request
from pydantic import BaseModel, ValidationError

from shared.errors import TransientError
from shared.http.problems import ProblemError
from shared.http.rate_limit import RateLimiter

ME = "/api/v1/me"
TIMEOUT_S = 5.0
CACHE_S = 5.0
# So long a token that was revoked still opens this door.
MAX_KNOWN = 10_000
MAX_TOKEN_CHARACTERS = 200
UNKNOWN_PER_S, UNKNOWN_AT_ONCE = 1.0, 50
# Tokens of one address that are asked about: the intake, which counts guesses, sees all of them come from us.


@dataclass(frozen=True)
class Identity:
    """Who asks."""

    name: str
    roles: frozenset[str]


class _Me(BaseModel):
    name: str
    roles: list[str]


class Identities:
    """Verifies tokens at the intake, and remembers its answers for a moment.

    Parameters
    ----------
    accounts_url
        Where the intake listens.
    """

    def __init__(
        self,
        http: httpx.AsyncClient,
        accounts_url: str,
        *,
        cache_s: float = CACHE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._http = http
        self._url = accounts_url.rstrip("/") + ME
        self._cache_s = cache_s
        self._clock = clock
        self._known: OrderedDict[bytes, tuple[Identity, float]] = OrderedDict()
        self._unknown = RateLimiter(rate_per_s=UNKNOWN_PER_S, burst=UNKNOWN_AT_ONCE)

    async def require(self, request: Request, *roles: str) -> Identity:
        """Return who sends a request, who has one of these roles.

        Raises
        ------
        ProblemError
            No token is shown (401), nobody's (401), or of somebody who may not (403); too many are tried (429).
        TransientError
            The intake does not answer.
        """
        identity = await self._identity(request)
        if not identity.roles & {*roles}:
            raise ProblemError(403, "Forbidden", f"{identity.name} has not the role {roles[0]}")
        return identity

    async def _identity(self, request: Request) -> Identity:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not 0 < len(token) <= MAX_TOKEN_CHARACTERS or not token.isascii():
            raise _unauthorized("a token is needed")
        key = sha256(token.encode()).digest()
        found = self._known.get(key)
        if found is not None and found[1] > self._clock():
            return found[0]
        wait_s = self._unknown.check(request.client.host if request.client else "") if found is None else 0.0
        if wait_s > 0:
            headers = {"Retry-After": str(math.ceil(wait_s))}
            raise ProblemError(429, "Too many requests", f"wait {math.ceil(wait_s)} s", headers=headers)
        identity = await self._ask(token, key)
        self._known[key] = identity, self._clock() + self._cache_s
        self._known.move_to_end(key)
        while len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)
        return identity

    async def _ask(self, token: str, key: bytes) -> Identity:
        try:
            answer = await self._http.get(self._url, headers={"Authorization": f"Bearer {token}"}, timeout=TIMEOUT_S)
        except httpx.HTTPError as error:
            reason = str(error) or type(error).__name__
            raise TransientError(f"the intake, which keeps the accounts, does not answer: {reason}") from error
        if answer.status_code == httpx.codes.UNAUTHORIZED:
            self._known.pop(key, None)
            raise _unauthorized("nobody has this token, or not any more")
        try:
            me = _Me.model_validate_json(answer.raise_for_status().content)
        except (httpx.HTTPStatusError, ValidationError) as error:
            raise TransientError(f"the intake, which keeps the accounts, answers {answer.status_code}") from error
        return Identity(me.name, frozenset(me.roles))


def _unauthorized(detail: str) -> ProblemError:
    return ProblemError(401, "Unauthorized", detail, headers={"WWW-Authenticate": "Bearer"})
