"""Now: what happens, how much of it, how fast, and what is unhealthy."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from services.console.now import Figures, Fresh, figures, newest
from services.console.site import Site
from shared.errors import TransientError

HIDE = "hide"


def routes(site: Site) -> APIRouter:
    """Return the routes."""
    router = APIRouter(include_in_schema=False)
    fresh: Fresh[Figures] = Fresh(lambda: figures(site.fetch))

    @router.get("/")
    async def now(request: Request, tests: str = "") -> HTMLResponse:
        visitor = await site.sessions.reader(request)
        with_tests = tests != HIDE
        survey = asyncio.create_task(site.surveyor.look())
        lines, counted, outage = [], None, None
        try:
            lines = await newest(site.fetch, with_tests=with_tests)
            counted = await fresh.get()
        except TransientError as error:
            # What is unhealthy is to be seen here above all.
            outage = str(error)
        return site.pages.page(
            request,
            visitor,
            "now.html",
            lines=lines,
            figures=counted,
            outage=outage,
            survey=await survey,
            with_tests=with_tests,
            here="/" if with_tests else f"/?tests={HIDE}",
            other="/" if not with_tests else f"/?tests={HIDE}",
        )

    return router
