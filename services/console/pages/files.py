"""The files that pages need, and the live feed."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Request, Response
from fastapi.responses import FileResponse, StreamingResponse

from services.console.site import HERE, Site
from shared.http.problems import ProblemError

MEDIA_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
KEPT = {"Cache-Control": "public, max-age=31536000, immutable"}
# Their addresses change with their content.


def routes(site: Site) -> APIRouter:
    """Return the routes."""
    router = APIRouter(include_in_schema=False)
    files = {path.name: path for path in (HERE / "static").iterdir() if path.suffix in MEDIA_TYPES}

    @router.get("/static/{name}")
    async def static(name: str) -> Response:
        if name not in files:
            raise ProblemError(404, "Not found", f"there is no file {name}")
        return FileResponse(files[name], media_type=MEDIA_TYPES[files[name].suffix], headers=KEPT)

    @router.get("/live")
    async def live(
        request: Request, last_event_id: Annotated[str | None, Header(max_length=64)] = None
    ) -> StreamingResponse:
        await site.sessions.reader(request)
        return site.live.response(last_event_id)

    return router
