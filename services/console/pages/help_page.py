"""Help: what each column, state and number means."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from services.console import bursts
from services.console.pages import coincidences, superevents
from services.console.site import Site


def routes(site: Site) -> APIRouter:
    """Return the routes."""
    router = APIRouter(include_in_schema=False)

    @router.get("/help")
    async def show(request: Request) -> HTMLResponse:
        visitor = await site.sessions.reader(request)
        return site.pages.page(
            request,
            visitor,
            "help.html",
            superevent_columns=[(column.name, column.title) for column in superevents.COLUMNS],
            burst_columns=[(column.name, column.title) for column in bursts.COLUMNS],
            pair_columns=[(column.name, column.title) for column in coincidences.COLUMNS],
        )

    return router
