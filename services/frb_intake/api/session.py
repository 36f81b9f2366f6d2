"""Logging in and out: a token that ends by itself, for a person at a console."""

import json
from datetime import datetime
from typing import Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.security import HTTPBasic, HTTPBearer
from pydantic import BaseModel, Field

from services.frb_intake.accounts import Role, Session
from services.frb_intake.api.auth import AccessError, Doorkeeper, turn_away
from services.frb_intake.oidc import BadIdentityError, IdentityVerifier
from shared.http.problems import PROBLEM_RESPONSES, ProblemError

MAX_HOURS = 720
MAX_ID_TOKEN_CHARACTERS = 16 * 1024


class SessionIn(BaseModel):
    """Who wants to log in."""

    model_config = {"extra": "forbid"}

    name: str = Field(min_length=1, max_length=64, description="Of an account.")
    password: str = Field(min_length=1, max_length=1024)
    hours: float = Field(12.0, gt=0, le=MAX_HOURS, allow_inf_nan=False, description="How long the token holds.")


class IdentityIn(BaseModel):
    """What an OpenID provider said of who wants to log in."""

    model_config = {"extra": "forbid"}

    id_token: str = Field(min_length=1, max_length=MAX_ID_TOKEN_CHARACTERS, description="As the provider gave it.")
    nonce: str = Field(min_length=20, max_length=200, description="What the provider was asked with; used once.")
    hours: float = Field(12.0, gt=0, le=MAX_HOURS, allow_inf_nan=False, description="How long the token holds.")


class SessionOut(BaseModel):
    """A session."""

    token: str = Field(description="For Authorization: Bearer; it cannot be asked for again.")
    name: str
    roles: list[Role]
    expires_at: datetime


def session_router(doorkeeper: Doorkeeper, verifier: IdentityVerifier | None = None) -> APIRouter:
    """Return the routes of sessions; `verifier` knows what the OpenID provider says, where there is one."""
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
        return _told(session)

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

    async def log_in_by_identity(request: Request, sent: IdentityIn) -> Response:
        """Make a token for who logged in at the OpenID provider and has an account of that name."""
        assert verifier is not None
        try:
            session = await doorkeeper.begin_session_by_identity(
                request, verifier, sent.id_token, nonce=sent.nonce, hours=sent.hours
            )
        except BadIdentityError as error:
            raise ProblemError(401, "Unauthorized", f"the identity token does not count: {error}") from error
        except AccessError as error:
            turn_away(error)
        return _told(session)

    if verifier is not None:
        router.post(
            "/session/identity",
            status_code=201,
            response_model=SessionOut,
            responses=_responses(400, 401, 403, 408, 413, 429, 503),
        )(log_in_by_identity)
    return router


def _told(session: Session) -> Response:
    told = {
        "token": session.token,
        "name": session.caller.name,
        "roles": sorted(session.caller.roles),
        "expires_at": session.expires_at.isoformat(),
    }
    return Response(json.dumps(told), status_code=201, media_type="application/json")


def _responses(*codes: int) -> dict[int | str, dict[str, Any]]:
    return {code: PROBLEM_RESPONSES[code] for code in codes}
