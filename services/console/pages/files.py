"""The files that pages need, and the live feed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, Request, Response
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

    async def viewing(request: Request) -> AsyncIterator[None]:
        # Held until the stream ends, not only until its answer begins.
        await site.sessions.reader(request)
        with site.live.viewing():
            yield

    @router.get("/live", dependencies=[Depends(viewing)])
    async def live(
        after: Annotated[str | None, Query(max_length=64)] = None,
        last_event_id: Annotated[str | None, Header(max_length=64)] = None,
    ) -> StreamingResponse:
        # A page knows what it shows; a browser that comes back knows better.
        return site.live.response(last_event_id or after or None)

    return router
