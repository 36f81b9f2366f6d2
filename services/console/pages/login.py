"""Logging in and out."""

from __future__ import annotations

import math
from contextlib import suppress
from typing import Annotated

import structlog
from fastapi import APIRouter, Form, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from services.console.access import (
    LOGIN_COOKIE,
    OIDC_COOKIE,
    address_of,
    csrf_code,
    new_secret,
    require_same_origin,
    same_code,
)
from services.console.oidc import CALLBACK, LoginFailedError, Provider, nonce_of
from services.console.site import Site
from shared.errors import TransientError
from shared.http.oidc import ProviderError
from shared.http.problems import ProblemError
from shared.http.rate_limit import RateLimiter, network_of

TRIES_PER_S, TRIES_AT_ONCE = 1 / 30, 10
# Wrong ones, of one address: whoever forgot goes through what it might have been, guessing leads nowhere.
MAX_NEXT_CHARACTERS = 1000
OWN_PATHS = ("/login", "/logout")
REFUSED = {400, 401}
# By the intake: told beside the form.
TOO_OLD = "the form was too old; try again"
NO_COOKIE = "your browser sent no cookie back: the form was too old, or this line is not HTTPS; try again there"
SILENT = "the provider does not answer; try again, or log in with a password"

log = structlog.get_logger(__name__)


def routes(site: Site) -> APIRouter:
    """Return the routes."""
    router = APIRouter(include_in_schema=False)
    oidc = site.settings.oidc
    provider = None if oidc is None else Provider(site.http, oidc)
    tries = RateLimiter(rate_per_s=TRIES_PER_S, burst=TRIES_AT_ONCE)

    async def form(
        request: Request, next_path: str, *, error: str | None = None, status_code: int = 200
    ) -> HTMLResponse:
        with suppress(TransientError):
            await site.sessions.visitor(request)
        page = site.pages.page(
            request,
            site.sessions.seen(request),
            "login.html",
            status_code=status_code,
            next_path=next_path,
            error=error,
            login_code=csrf_code(site.sessions.login_secret(request)),
        )
        site.sessions.keep_login_secret(request, page)
        return page

    async def too_many(request: Request, target: str, wait_s: float) -> HTMLResponse:
        told = f"too many tries from where you are; wait {math.ceil(wait_s)} s"
        answer = await form(request, target, error=told, status_code=429)
        answer.headers["Retry-After"] = str(math.ceil(wait_s))
        return answer

    async def begin(request: Request, token: str, target: str) -> Response:
        """Log somebody in with a new session; the one before it ends."""
        before = site.sessions.token(request)
        if before is not None:
            with suppress(TransientError, ProblemError):
                await site.intake.log_out(before)
        answer = RedirectResponse(target, status_code=303)
        site.sessions.begin(request, answer, token)
        return answer

    @router.get("/login")
    async def show(request: Request, next_path: Annotated[str, Query(alias="next")] = "/") -> HTMLResponse:
        return await form(request, local_path(next_path))

    @router.post("/login")
    async def log_in(
        request: Request,
        name: Annotated[str, Form(max_length=64)] = "",
        password: Annotated[str, Form(max_length=1024)] = "",
        csrf: Annotated[str, Form()] = "",
        next_path: Annotated[str, Form(alias="next")] = "/",
    ) -> Response:
        require_same_origin(request)
        target = local_path(next_path)
        if not same_code(csrf, csrf_code(site.sessions.login_secret(request))):
            kept = site.sessions.secret(request, LOGIN_COOKIE) is not None
            return await form(request, target, error=TOO_OLD if kept else NO_COOKIE, status_code=403)
        address = network_of(address_of(request))
        if (wait_s := tries.check(address)) > 0:
            return await too_many(request, target, wait_s)
        try:
            token = await site.intake.log_in(name, password, hours=site.settings.session_hours)
        except ProblemError as error:
            if error.status == 429:
                return await form(request, target, error=f"too many tries from where you are; {error}", status_code=429)
            if error.status not in REFUSED:
                raise
            return await form(request, target, error="name or password is wrong", status_code=401)
        tries.give_back(address)
        return await begin(request, token, target)

    @router.post("/logout")
    async def log_out(request: Request, everywhere: Annotated[bool, Form()] = False) -> Response:
        visitor = await site.sessions.actor(request)
        assert visitor.token is not None
        assert visitor.name is not None
        answer = RedirectResponse("/", status_code=303)
        if everywhere:
            await site.intake.log_out_everywhere(visitor.token)
            site.sessions.end_all(request, answer, visitor.name)
        else:
            await site.intake.log_out(visitor.token)
            site.sessions.end(request, answer)
        return answer

    async def leave(request: Request, next_path: Annotated[str, Query(alias="next")] = "/") -> Response:
        assert provider is not None
        target, secret = local_path(next_path), new_secret()
        try:
            answer = RedirectResponse(await provider.address(request, secret, target), status_code=303)
        except ProviderError as error:
            log.warning("login.provider_silent", reason=str(error))
            return await form(request, target, error=SILENT, status_code=503)
        site.sessions.keep_secret(request, answer, OIDC_COOKIE, secret)
        return answer

    async def come_back(request: Request) -> Response:
        assert provider is not None
        secret, target = site.sessions.secret(request, OIDC_COOKIE), "/"
        address = network_of(address_of(request))
        if (wait_s := tries.check(address)) > 0:
            return await too_many(request, target, wait_s)
        try:
            target = local_path(provider.next_path(request, secret))
            assert secret is not None
            token = await site.intake.log_in_by_identity(
                await provider.id_token(request, secret), nonce=nonce_of(secret), hours=site.settings.session_hours
            )
        except LoginFailedError as error:
            return await form(request, target, error=f"not logged in: {error}", status_code=400)
        except ProviderError as error:
            log.warning("login.provider_silent", reason=str(error))
            return await form(request, target, error=SILENT, status_code=503)
        except ProblemError as error:
            if error.status not in {*REFUSED, 403, 429}:
                raise
            log.warning("login.refused", reason=str(error))
            return await form(request, target, error=f"not logged in: {error}", status_code=error.status)
        tries.give_back(address)
        return await begin(request, token, target)

    if provider is not None:
        router.get("/login/oidc")(leave)
        router.get(CALLBACK)(come_back)
    return router


def local_path(path: str) -> str:
    """Return the address of a page of ours; anything else, which would lead to another site, is the first page."""
    is_local = (
        path.startswith("/")
        and not path.startswith("//")
        and "\\" not in path
        and path.isascii()
        and path.isprintable()
        and len(path) <= MAX_NEXT_CHARACTERS
    )
    return path if is_local and path.partition("?")[0] not in OWN_PATHS else "/"
