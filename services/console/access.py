"""Who looks, and who may change something: the intake's accounts, kept in a cookie and nowhere else.

The cookie holds a token of the intake, so a session ends when it expires or is revoked, or when its account is
disabled. Whatever changes something carries a code made from that token, which other sites cannot know.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

from fastapi import Request, Response

from services.console.intake import IntakeClient, NotLoggedInError
from shared.http.problems import ProblemError

COOKIE, LOGIN_COOKIE = "tocsin_session", "tocsin_login"
CSRF_FIELD, CSRF_HEADER = "csrf", "x-csrf-token"
LOGIN_MINUTES = 30
MAX_COOKIE_CHARACTERS = 200
MAX_KNOWN = 10_000


@dataclass(frozen=True)
class Visitor:
    """Somebody who looks at a page.

    Attributes
    ----------
    name
        None: nobody logged in.
    token
        What the services' own APIs are asked with.
    csrf
        What a form of theirs carries.
    """

    name: str | None = None
    roles: frozenset[str] = frozenset()
    token: str | None = None
    csrf: str = ""

    def may(self, *roles: str) -> bool:
        """Whether one of these roles is theirs."""
        return bool(self.roles & {*roles})


class LoginNeededError(Exception):
    """The page is for people who logged in; they are sent to do so."""


NOBODY = Visitor()


class Sessions:
    """Tells who sends a request."""

    def __init__(
        self,
        intake: IntakeClient,
        *,
        public_reading: bool,
        secure: bool,
        hours: float,
        cache_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._intake = intake
        self._public_reading = public_reading
        self._secure = secure
        self._hours = hours
        self._cache_s = cache_s
        self._clock = clock
        self._known: OrderedDict[str, tuple[Visitor, float]] = OrderedDict()

    async def visitor(self, request: Request) -> Visitor:
        """Return who sends a request; `NOBODY` without a session that holds."""
        visitor = await self._visitor(request)
        request.state.visitor = visitor
        return visitor

    async def _visitor(self, request: Request) -> Visitor:
        token = request.cookies.get(COOKIE, "")
        if not 0 < len(token) <= MAX_COOKIE_CHARACTERS or not token.isascii():
            return NOBODY
        found = self._known.get(token)
        if found is not None and found[1] > self._clock():
            return found[0]
        try:
            who = await self._intake.who(token)
        except NotLoggedInError:
            self._known.pop(token, None)
            return NOBODY
        visitor = Visitor(who.name, frozenset(who.roles), token, csrf_code(token))
        self._known[token] = visitor, self._clock() + self._cache_s
        while len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)
        return visitor

    async def reader(self, request: Request) -> Visitor:
        """Return who reads a page.

        Raises
        ------
        LoginNeededError
            Pages are not public, and nobody who may read is logged in.
        """
        visitor = await self.visitor(request)
        if not self._public_reading and visitor.name is None:
            raise LoginNeededError
        if not self._public_reading and not visitor.may("read"):
            raise ProblemError(403, "Forbidden", f"{visitor.name} has not the role read")
        return visitor

    async def actor(self, request: Request, *roles: str) -> Visitor:
        """Return who wants to change something, and may: the request comes from a page of ours.

        Raises
        ------
        LoginNeededError
            Nobody is logged in.
        ProblemError
            Another site sent it, the code is missing, or the role.
        """
        require_same_origin(request)
        visitor = await self.visitor(request)
        if visitor.name is None:
            raise LoginNeededError
        sent = request.headers.get(CSRF_HEADER) or str((await request.form()).get(CSRF_FIELD, ""))
        if not hmac.compare_digest(sent.encode(), visitor.csrf.encode()):
            raise ProblemError(403, "Forbidden", "this form is not from a page of yours; load the page again")
        if roles and not visitor.may(*roles):
            raise ProblemError(403, "Forbidden", f"{visitor.name} has not the role {roles[0]}")
        return visitor

    def begin(self, request: Request, response: Response, token: str) -> None:
        """Log somebody in."""
        self._set(request, response, COOKIE, token, max_age_s=int(self._hours * 3600))
        response.delete_cookie(LOGIN_COOKIE, path="/")

    def end(self, request: Request, response: Response) -> None:
        """Forget who it was."""
        self._known.pop(request.cookies.get(COOKIE, ""), None)
        response.delete_cookie(COOKIE, path="/")

    def login_code(self, request: Request, response: Response) -> None:
        """Have a form for logging in carry a code, as those of sessions do."""
        self._set(request, response, LOGIN_COOKIE, secret_of(request), max_age_s=LOGIN_MINUTES * 60)

    def _set(self, request: Request, response: Response, name: str, value: str, *, max_age_s: int) -> None:
        secure = self._secure and not (request.url.scheme == "http" and _is_loopback(request.url.hostname or ""))
        response.set_cookie(name, value, max_age=max_age_s, path="/", httponly=True, samesite="lax", secure=secure)


def csrf_code(secret: str) -> str:
    """Return the code that forms carry: known to who knows the cookie, and to nobody else."""
    return hmac.new(secret.encode(), b"tocsin console form", hashlib.sha256).hexdigest()


def secret_of(request: Request) -> str:
    """Return the secret of a browser that is about to log in, a new one at first; the same within a request."""
    if not hasattr(request.state, "login_secret"):
        sent = request.cookies.get(LOGIN_COOKIE, "")
        request.state.login_secret = sent if 20 <= len(sent) <= MAX_COOKIE_CHARACTERS else secrets.token_urlsafe(32)
    return str(request.state.login_secret)


def require_same_origin(request: Request) -> None:
    """Refuse what another site has a browser send.

    Raises
    ------
    ProblemError
        It comes from elsewhere.
    """
    origin = request.headers.get("origin")
    same = origin is None or urlsplit(origin).netloc == request.headers.get("host")
    if not same or request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise ProblemError(403, "Forbidden", "this was sent by another site")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
