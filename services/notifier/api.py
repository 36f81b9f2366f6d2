"""What can be read of deliveries, and what people may do about them."""

import json
from datetime import datetime
from typing import Annotated, Any

import asyncpg
from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.security import HTTPBearer
from pydantic import BaseModel, Field

from services.notifier import by_hand
from services.notifier.store import NotifierStore
from shared.db.errors import translated_errors
from shared.db.pool import borrowed
from shared.db.unit_of_work import unit_of_work
from shared.events.notices import ChannelMode, DeliveryAction, DeliveryState
from shared.http.identity import Identities, Identity
from shared.http.problems import PROBLEM_RESPONSES, ProblemError

MAX_LISTED = 500
TEXT = r"^[^\x00-\x1f\x7f]*$"
# Neither PostgreSQL nor a line of a log takes the others.
READERS, OPERATOR = ("operate", "read"), "operate"

DeliveryId = Annotated[int, Path(ge=1, lt=2**63, description="As the list gives it.")]


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


class DeliveryDetail(DeliveryLine):
    """A delivery with what was sent, complete but for secrets, and what came back."""

    next_attempt_at: datetime | None
    request: dict[str, Any] | None
    answer: dict[str, Any] | None


class RetryIn(BaseModel):
    """How a delivery is tried again."""

    model_config = {"extra": "forbid"}

    send_again: bool = Field(False, description="Also what may have arrived: it can be told twice.")


class SuppressIn(BaseModel):
    """Why a delivery is not told."""

    model_config = {"extra": "forbid"}

    reason: str = Field("", max_length=500, pattern=TEXT, description="Why, for the record.")


def router(pool: asyncpg.Pool, identities: Identities, *, sender: str) -> APIRouter:
    """Return the routes."""
    scheme = Depends(HTTPBearer(auto_error=False, scheme_name="token", description="A token of the intake."))
    routes = APIRouter(prefix="/api/v1", tags=["notices"])

    async def reading(request: Request) -> Identity:
        return await identities.require(request, *READERS)

    async def operating(request: Request) -> Identity:
        return await identities.require(request, OPERATOR)

    Operator = Annotated[Identity, Depends(operating)]  # noqa: N806

    async def detail(delivery_id: int) -> DeliveryDetail:
        async with borrowed(pool) as connection:
            with translated_errors():
                row = await connection.fetchrow("SELECT * FROM deliveries WHERE id = $1", delivery_id)
        if row is None:
            raise _unknown(delivery_id)
        values = {name: row[name] for name in DeliveryDetail.model_fields}
        for name in ("request", "answer"):
            values[name] = None if values[name] is None else json.loads(values[name])
        return DeliveryDetail.model_validate(values)

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
        "/deliveries/{delivery_id}",
        dependencies=[scheme, Depends(reading)],
        responses=_responses(401, 403, 404, 429, 503),
    )
    async def delivery(delivery_id: DeliveryId) -> DeliveryDetail:
        """Return a delivery with what was sent and what came back; for the roles read and operate."""
        return await detail(delivery_id)

    @routes.post(
        "/deliveries/{delivery_id}/retry",
        dependencies=[scheme],
        responses=_responses(400, 401, 403, 404, 409, 429, 503),
    )
    async def retry(delivery_id: DeliveryId, operator: Operator, body: RetryIn | None = None) -> DeliveryDetail:
        """Try a delivery again, now, in the mode that its channel has today: a failed, suppressed or waiting one."""
        async with unit_of_work(pool) as work:
            store = NotifierStore(work, sender=sender)
            again = body is not None and body.send_again
            await by_hand.retry(store, delivery_id, by=operator.name, send_again=again)
        return await detail(delivery_id)

    @routes.post(
        "/deliveries/{delivery_id}/suppress",
        dependencies=[scheme],
        responses=_responses(400, 401, 403, 404, 409, 429, 503),
    )
    async def suppress(delivery_id: DeliveryId, operator: Operator, body: SuppressIn | None = None) -> DeliveryDetail:
        """Do not tell what waits."""
        async with unit_of_work(pool) as work:
            store = NotifierStore(work, sender=sender)
            reason = "" if body is None else body.reason.strip()
            await by_hand.suppress(store, delivery_id, by=operator.name, reason=reason)
        return await detail(delivery_id)

    @routes.get(
        "/deliveries/{delivery_id}/voevent",
        response_class=Response,
        responses={200: {"content": {"application/xml": {}}}, 404: {"description": "No VOEvent was made for it."}},
    )
    async def voevent(delivery_id: DeliveryId) -> Response:
        """Return the VOEvent packet of a delivery as it went out, or would have."""
        async with borrowed(pool) as connection:
            with translated_errors():
                xml: Any = await connection.fetchval(
                    "SELECT request->>'xml' FROM deliveries WHERE id = $1 AND channel_kind = 'voevent'", delivery_id
                )
        if xml is None:
            raise ProblemError(404, "Not Found", f"no VOEvent was made for delivery {delivery_id}")
        return Response(xml, media_type="application/xml", headers={"X-Content-Type-Options": "nosniff"})

    return routes


def _unknown(delivery_id: int) -> by_hand.UnknownDeliveryError:
    return by_hand.UnknownDeliveryError("delivery", delivery_id, "one that there is; see /api/v1/deliveries")


def _responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: PROBLEM_RESPONSES[status] for status in statuses}
