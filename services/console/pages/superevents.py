"""Superevents."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from services.console.site import Site


def routes(site: Site) -> APIRouter:
    """Return the routes."""
    router = APIRouter(include_in_schema=False)

    @router.get("/gw")
    async def table(request: Request) -> HTMLResponse:
        visitor = await site.sessions.reader(request)
        return site.pages.page(request, visitor, "superevents.html")

    return router
