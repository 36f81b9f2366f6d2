"""Who looks, and who may change something: the intake's accounts, kept in a cookie and nowhere else.

The cookie holds a token of the intake, so a session ends when it expires or is revoked, or when its account is
disabled. Whatever changes something carries a code made from that token, which other sites cannot know.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

from fastapi import Request, Response

from services.console.intake import IntakeClient, NotLoggedInError
from shared.errors import TransientError
from shared.http.problems import ProblemError

COOKIE, LOGIN_COOKIE, OIDC_COOKIE = "tocsin_session", "tocsin_login", "tocsin_oidc"
HOST_ONLY = "__Host-"
# Browsers take a cookie of this prefix from nobody but the very host, over HTTPS.
CSRF_FIELD, CSRF_HEADER = "csrf", "x-csrf-token"
LOGIN_MINUTES = 30
GRACE_S = 300.0
# So long somebody known stays known to pages that only show, when the intake cannot be asked.
NOBODYS_S = 60.0
# So long a token that is nobody's is not asked about again; none ever becomes somebody's.
MAX_KNOWN = 10_000
_TOKEN = re.compile(r"tocsin_[A-Za-z0-9_-]{20,100}")
_SECRET = re.compile(r"[A-Za-z0-9_-]{43}")


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

    @property
    def is_insider(self) -> bool:
        """Whether they read what is never public: dead letters, what was sent to others, who did what."""
        return self.may("read", "operate")


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
        self._ended = 0

    async def visitor(self, request: Request) -> Visitor:
        """Return who sends a request; `NOBODY` without a session that holds.

        While the intake does not answer, who was known a moment ago still is; it is for pages that only show.

        Raises
        ------
        TransientError
            The intake does not answer, and who it is must be known, for pages are not public.
        """
        try:
            return await self._verified(request)
        except TransientError:
            found = self._known.get(self.token(request) or "")
            if found is not None and found[1] + GRACE_S > self._clock():
                request.state.visitor = found[0]
                return found[0]
            if not self._public_reading:
                raise
            return NOBODY

    async def _verified(self, request: Request) -> Visitor:
        request.state.visitor = NOBODY
        token = self.token(request)
        if token is None:
            return NOBODY
        found = self._known.get(token)
        if found is None or found[1] <= self._clock():
            found = await self._look_up(token)
        request.state.visitor = found[0]
        return found[0]

    async def _look_up(self, token: str) -> tuple[Visitor, float]:
        ended = self._ended
        try:
            who = await self._intake.who(token)
        except NotLoggedInError:
            # A browser goes on showing it, and each time the intake is asked counts as a guess.
            found = NOBODY, self._clock() + NOBODYS_S
        else:
            visitor = Visitor(who.name, frozenset(who.roles), token, csrf_code(token))
            found = visitor, self._clock() + self._cache_s
        if ended == self._ended:
            # Else it may be this very session that ended meanwhile.
            self._known[token] = found
            self._known.move_to_end(token)
            while len(self._known) > MAX_KNOWN:
                self._known.popitem(last=False)
        return found

    def seen(self, request: Request) -> Visitor:
        """Return who sends a request, as far as it was looked at."""
        visitor: Visitor = getattr(request.state, "visitor", NOBODY)
        return visitor

    def token(self, request: Request) -> str | None:
        """Return the token that a browser shows, whether or not it is somebody's."""
        token = request.cookies.get(self._named(request, COOKIE), "")
        return token if _TOKEN.fullmatch(token) else None

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

    async def insider(self, request: Request) -> Visitor:
        """Return who reads a page that is never public; raises as `reader` does on pages that are not."""
        visitor = await self.reader(request)
        if visitor.name is None:
            raise LoginNeededError
        if not visitor.is_insider:
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
        TransientError
            The intake does not answer.
        """
        require_same_origin(request)
        visitor = await self._verified(request)
        if visitor.name is None:
            raise LoginNeededError
        sent = request.headers.get(CSRF_HEADER) or str((await request.form()).get(CSRF_FIELD, ""))
        if not same_code(sent, visitor.csrf):
            raise ProblemError(403, "Forbidden", "this form is not from a page of yours; load the page again")
        if roles and not visitor.may(*roles):
            raise ProblemError(403, "Forbidden", f"{visitor.name} has not the role {roles[0]}")
        return visitor

    def begin(self, request: Request, response: Response, token: str) -> None:
        """Log somebody in."""
        self._set(request, response, COOKIE, token, max_age_s=int(self._hours * 3600))
        self._delete(request, response, LOGIN_COOKIE)
        self._delete(request, response, OIDC_COOKIE)

    def end(self, request: Request, response: Response) -> None:
        """Forget who it was."""
        self._ended += 1
        self._known.pop(self.token(request) or "", None)
        self._delete(request, response, COOKIE)

    def end_all(self, request: Request, response: Response, name: str) -> None:
        """Forget everybody of this name."""
        self.end(request, response)
        for token in [token for token, (visitor, _) in self._known.items() if visitor.name == name]:
            del self._known[token]

    def login_secret(self, request: Request) -> str:
        """Return the secret of a browser that is about to log in, a new one at first; the same within a request."""
        if not hasattr(request.state, "login_secret"):
            request.state.login_secret = self.secret(request, LOGIN_COOKIE) or new_secret()
        return str(request.state.login_secret)

    def keep_login_secret(self, request: Request, response: Response) -> None:
        """Have a form for logging in carry a code, as those of sessions do."""
        self.keep_secret(request, response, LOGIN_COOKIE, self.login_secret(request))

    def secret(self, request: Request, cookie: str) -> str | None:
        """Return a secret that a browser was given to keep."""
        sent = request.cookies.get(self._named(request, cookie), "")
        return sent if _SECRET.fullmatch(sent) else None

    def keep_secret(self, request: Request, response: Response, cookie: str, secret: str) -> None:
        """Give a browser a secret to keep until it has logged in."""
        self._set(request, response, cookie, secret, max_age_s=LOGIN_MINUTES * 60)

    def _set(self, request: Request, response: Response, name: str, value: str, *, max_age_s: int) -> None:
        response.set_cookie(
            self._named(request, name),
            value,
            max_age=max_age_s,
            path="/",
            httponly=True,
            samesite="lax",
            secure=self._is_secure(request),
        )

    def _delete(self, request: Request, response: Response, name: str) -> None:
        # A browser believes the end of such a cookie only if it is told as safely as the cookie itself.
        response.delete_cookie(
            self._named(request, name), path="/", httponly=True, samesite="lax", secure=self._is_secure(request)
        )

    def _named(self, request: Request, name: str) -> str:
        return HOST_ONLY + name if self._is_secure(request) else name

    def _is_secure(self, request: Request) -> bool:
        return self._secure and not (request.url.scheme == "http" and _is_loopback(request.url.hostname or ""))


def new_secret() -> str:
    """Return a secret for a browser to keep."""
    return secrets.token_urlsafe(32)


def csrf_code(secret: str) -> str:
    """Return the code that forms carry: known to who knows the cookie, and to nobody else."""
    return hmac.new(secret.encode(), b"tocsin console form", hashlib.sha256).hexdigest()


def same_code(sent: str, code: str) -> bool:
    """Whether a code is right; it takes as long if it is wrong."""
    return hmac.compare_digest(sent.encode("utf-8", "surrogatepass"), code.encode())


def address_of(request: Request) -> str | None:
    """Return where a request comes from; proxies that are trusted (`http.trusted_proxies`) are looked through."""
    return request.client.host if request.client else None


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
