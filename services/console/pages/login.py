"""Logging in and out."""

from __future__ import annotations

import hmac
from typing import Annotated

from fastapi import APIRouter, Form, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from services.console.access import NOBODY, csrf_code, require_same_origin, secret_of
from services.console.site import Site
from shared.http.problems import ProblemError

REFUSED = {400, 401, 429}
# By the intake: told beside the form.


def routes(site: Site) -> APIRouter:
    """Return the routes."""
    router = APIRouter(include_in_schema=False)

    def form(request: Request, next_path: str, *, error: str | None = None, status_code: int = 200) -> HTMLResponse:
        page = site.pages.page(
            request,
            NOBODY,
            "login.html",
            status_code=status_code,
            next_path=next_path,
            error=error,
            csrf=csrf_code(secret_of(request)),
        )
        site.sessions.login_code(request, page)
        return page

    @router.get("/login")
    async def show(request: Request, next_path: Annotated[str, Query(alias="next")] = "/") -> HTMLResponse:
        return form(request, local_path(next_path))

    @router.post("/login")
    async def log_in(
        request: Request,
        name: Annotated[str, Form(max_length=64)],
        password: Annotated[str, Form(max_length=1024)],
        csrf: Annotated[str, Form()] = "",
        next_path: Annotated[str, Form(alias="next")] = "/",
    ) -> Response:
        require_same_origin(request)
        target = local_path(next_path)
        if not hmac.compare_digest(csrf.encode(), csrf_code(secret_of(request)).encode()):
            return form(request, target, error="the form was too old; try again", status_code=403)
        try:
            token = await site.intake.log_in(name, password, hours=site.settings.session_hours)
        except ProblemError as error:
            if error.status not in REFUSED:
                raise
            wrong = "name or password is wrong" if error.status != 429 else error.detail
            return form(request, target, error=wrong, status_code=error.status)
        answer = RedirectResponse(target, status_code=303)
        site.sessions.begin(request, answer, token)
        return answer

    @router.post("/logout")
    async def log_out(request: Request) -> Response:
        visitor = await site.sessions.actor(request)
        assert visitor.token is not None
        await site.intake.log_out(visitor.token)
        answer = RedirectResponse("/", status_code=303)
        site.sessions.end(request, answer)
        return answer

    return router


def local_path(path: str) -> str:
    """Return a path of ours; anything else, which would lead to another site, is the first page."""
    is_local = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable() and "\\" not in path
    return path if is_local and path.isascii() else "/"
