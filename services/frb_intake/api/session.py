"""Logging in and out: a token that ends by itself, for a person at a console."""

import json
from datetime import datetime
from typing import Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.security import HTTPBasic, HTTPBearer
from pydantic import BaseModel, Field

from services.frb_intake.accounts import Role
from services.frb_intake.api.auth import AccessError, Doorkeeper, turn_away
from shared.http.problems import PROBLEM_RESPONSES

MAX_HOURS = 720


class SessionIn(BaseModel):
    """Who wants to log in."""

    model_config = {"extra": "forbid"}

    name: str = Field(min_length=1, max_length=64, description="Of an account.")
    password: str = Field(min_length=1, max_length=1024)
    hours: float = Field(12.0, gt=0, le=MAX_HOURS, allow_inf_nan=False, description="How long the token holds.")


class SessionOut(BaseModel):
    """A session."""

    token: str = Field(description="For Authorization: Bearer; it cannot be asked for again.")
    name: str
    roles: list[Role]
    expires_at: datetime


def session_router(doorkeeper: Doorkeeper) -> APIRouter:
    """Return the routes of sessions."""
    router = APIRouter(prefix="/api/v1", tags=["sessions"])

    @router.post(
        "/session", status_code=201, response_model=SessionOut, responses=_responses(400, 401, 408, 413, 429, 503)
    )
    async def log_in(request: Request, sent: SessionIn) -> Response:
        """Make a token for who has this password."""
        try:
            session = await doorkeeper.begin_session(request, sent.name, sent.password, hours=sent.hours)
        except AccessError as error:
            turn_away(error)
        told = {
            "token": session.token,
            "name": session.caller.name,
            "roles": sorted(session.caller.roles),
            "expires_at": session.expires_at.isoformat(),
        }
        return Response(json.dumps(told), status_code=201, media_type="application/json")

    bearer = HTTPBearer(auto_error=False, scheme_name="token", description="A token of `tocsin token create`.")
    basic = HTTPBasic(auto_error=False, scheme_name="basic")

    @router.delete(
        "/session", status_code=204, dependencies=[Depends(bearer)], responses=_responses(401, 403, 429, 503)
    )
    async def log_out(request: Request) -> Response:
        """End the session whose token is shown."""
        try:
            await doorkeeper.end_session(request)
        except AccessError as error:
            turn_away(error)
        return Response(status_code=204)

    @router.delete(
        "/sessions",
        status_code=204,
        dependencies=[Depends(bearer), Depends(basic)],
        responses=_responses(401, 429, 503),
    )
    async def log_out_everywhere(request: Request) -> Response:
        """End all sessions of an account; tokens of programs stay."""
        try:
            await doorkeeper.end_sessions(request)
        except AccessError as error:
            turn_away(error)
        return Response(status_code=204)

    return router


def _responses(*codes: int) -> dict[int | str, dict[str, Any]]:
    return {code: PROBLEM_RESPONSES[code] for code in codes}
