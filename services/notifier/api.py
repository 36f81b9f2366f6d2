"""What can be read of deliveries: how they are, and the VOEvent packets as they went out."""

from datetime import datetime
from typing import Annotated, Any

import asyncpg
from fastapi import APIRouter, Path, Query, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from shared.db.errors import translated_errors
from shared.db.pool import borrowed
from shared.events.notices import ChannelMode, DeliveryAction, DeliveryState

MAX_LISTED = 500


class DeliveryLine(BaseModel):
    """A delivery, without what was sent: that may name people."""

    id: int
    channel: str
    channel_kind: str
    mode: ChannelMode
    subject: str
    revision: int
    action: DeliveryAction
    is_test: bool
    state: DeliveryState
    reason: str | None
    attempts: int
    decided_at: datetime
    changed_at: datetime
    reference: str | None
    tns_name: str | None


def router(pool: asyncpg.Pool) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(prefix="/api/v1", tags=["notices"])

    @routes.get("/deliveries")
    async def deliveries(
        subject: Annotated[str | None, Query(description="frb/7, gw/S230518h or mma/S230518h-7.")] = None,
        channel: Annotated[str | None, Query(description="Name of a channel.")] = None,
        state: Annotated[DeliveryState | None, Query(description="How far they are.")] = None,
        limit: Annotated[int, Query(ge=1, le=MAX_LISTED, description="At most so many, the newest first.")] = 50,
    ) -> list[DeliveryLine]:
        """List deliveries."""
        async with borrowed(pool) as connection:
            with translated_errors():
                rows = await connection.fetch(
                    "SELECT * FROM deliveries WHERE ($1::text IS NULL OR subject = $1)"
                    " AND ($2::text IS NULL OR channel = $2) AND ($3::text IS NULL OR state = $3)"
                    " ORDER BY id DESC LIMIT $4",
                    subject,
                    channel,
                    state,
                    limit,
                )
        return [DeliveryLine.model_validate({name: row[name] for name in DeliveryLine.model_fields}) for row in rows]

    @routes.get(
        "/deliveries/{delivery_id}/voevent",
        response_class=Response,
        responses={200: {"content": {"application/xml": {}}}, 404: {"description": "No VOEvent was made for it."}},
    )
    async def voevent(
        delivery_id: Annotated[int, Path(ge=1, lt=2**63, description="As the list gives it.")],
    ) -> Response:
        """Return the VOEvent packet of a delivery as it went out, or would have."""
        async with borrowed(pool) as connection:
            with translated_errors():
                xml: Any = await connection.fetchval(
                    "SELECT request->>'xml' FROM deliveries WHERE id = $1 AND channel_kind = 'voevent'", delivery_id
                )
        if xml is None:
            problem = {"title": "Not Found", "status": 404, "detail": f"no VOEvent was made for delivery {delivery_id}"}
            return JSONResponse(problem, status_code=404, media_type="application/problem+json")
        return Response(xml, media_type="application/xml", headers={"X-Content-Type-Options": "nosniff"})

    return routes
