"""Where Slack tells that somebody pressed a button: a vote, signed by Slack and counted once.

Nothing outward happens here: the notifier brings the message up to date when `frb.events` tells of the vote.

Source: Slack's pages on verifying requests and on interactive payloads.
"""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qs

from fastapi import APIRouter, Request, Response
from pydantic import SecretStr

from services.frb_intake.accounts import Caller, Role
from services.frb_intake.intake import Asker, Intake, RepeatedError
from services.frb_intake.models import RatingIn
from services.frb_intake.texts import HIDDEN
from shared.errors import InvalidInputError, TransientError
from shared.events.ids import event_id
from shared.http.json_body import parse_json
from shared.http.problems import PROBLEM_RESPONSES, ProblemError

PATHS = ("/slack_get_rating/", "/slack/interactions")
# The old server's, which apps may still have in their settings, and ours.
MAX_AGE_S = 300.0
# Slack's own rule: what is older may be a recording.
ANSWER_S = 2.5
# Slack shows an error after 3 s.
MAX_NAME_CHARACTERS = 64
RATINGS = {"action_confirm": "confirm", "action_reject": "reject", "action_unsure": "unsure"}


def slack_router(intake: Intake, secret: SecretStr, *, now: Callable[[], float] = time.time) -> APIRouter:
    """Return the routes that Slack calls."""
    router = APIRouter(tags=["Slack"])
    key = secret.get_secret_value().encode()

    async def press(request: Request) -> Response:
        """Count the vote of who pressed a button in Slack."""
        body = await request.body()
        verify(key, request.headers, body, now=now())
        payload = read_payload(body)
        vote = _vote(payload)
        if vote is not None:
            burst_id, rating = vote
            address = request.client.host if request.client else None
            asker = Asker(Caller(f"slack:{_user(payload)}", frozenset({Role.RATE})), address)
            try:
                async with asyncio.timeout(ANSWER_S):
                    # By the body: what Slack sends again is the same, byte for byte, whenever it is signed.
                    await intake.rate(
                        burst_id,
                        RatingIn(rating=rating),
                        asker,
                        rater_id=_user_id(payload),
                        request_id=event_id("slack", sha256(body).hexdigest()),
                    )
            except RepeatedError as error:
                if "x-slack-retry-num" not in request.headers:
                    raise _refused("this very request came before") from error
            except TimeoutError as error:
                raise TransientError("the vote could not be stored in time") from error
        return Response(b"", media_type="application/json")

    for path in PATHS:
        router.add_api_route(
            path,
            press,
            methods=["POST"],
            operation_id=f"press_at_{path.strip('/').replace('/', '_')}",
            responses={code: PROBLEM_RESPONSES[code] for code in (400, 401, 404, 409, 503)},
            response_class=Response,
            openapi_extra={
                "requestBody": {
                    "required": True,
                    "content": {
                        "application/x-www-form-urlencoded": {
                            "schema": {
                                "type": "object",
                                "required": ["payload"],
                                "properties": {"payload": {"type": "string"}},
                            }
                        }
                    },
                }
            },
        )
    return router


def verify(key: bytes, headers: Mapping[str, str], body: bytes, *, now: float) -> None:
    """Return when Slack signed a request not long ago.

    Raises
    ------
    ProblemError
        401: it did not, or it is too old.
    """
    timestamp, signature = headers.get("x-slack-request-timestamp", ""), headers.get("x-slack-signature", "")
    if not (timestamp.isascii() and timestamp.isdecimal() and len(timestamp) <= 12):
        raise _refused("X-Slack-Request-Timestamp is missing or no time")
    expected = "v0=" + hmac.digest(key, b"v0:" + timestamp.encode() + b":" + body, "sha256").hex()
    # As bytes: texts that are not ASCII cannot be compared in constant time.
    if not hmac.compare_digest(expected.encode(), signature.encode("utf-8", "surrogateescape")):
        raise _refused("X-Slack-Signature is not Slack's")
    if abs(now - int(timestamp)) > MAX_AGE_S:
        raise _refused(f"it was signed more than {MAX_AGE_S:.0f} s ago")


def read_payload(body: bytes) -> dict[str, Any]:
    """Return what the only field of the form holds.

    Raises
    ------
    InvalidInputError
        There is no such field, or it holds no JSON object.
    """
    try:
        texts = parse_qs(body.decode(), strict_parsing=True, max_num_fields=10, errors="strict").get("payload", [])
    except ValueError:
        texts = []
    if len(texts) != 1:
        raise InvalidInputError("payload", f"{len(texts)} of them", "a form with one field `payload`")
    payload = parse_json(texts[0].encode(), field="payload")
    if not isinstance(payload, dict):
        raise InvalidInputError("payload", payload, "a JSON object")
    return payload


def _vote(payload: Mapping[str, Any]) -> tuple[int, str] | None:
    """Return burst and rating; None for what is no vote, such as a press on a link."""
    action = _member(payload, "actions", 0)
    rating = RATINGS.get(str(_member(action, "action_id")))
    if rating is None:
        return None
    value = str(_member(action, "value"))
    if not (value.isascii() and value.isdecimal() and 0 < int(value[:20]) < 2**63):
        raise InvalidInputError("payload.actions.0.value", value, "the id of a burst")
    return int(value[:20]), rating


def _user(payload: Mapping[str, Any]) -> str:
    """Return the name that the old server took, else what else there is."""
    user = _member(payload, "user")
    name = next((str(_member(user, key)) for key in ("username", "name", "id") if _member(user, key)), "")
    return _checked(name, "payload.user.username", "the name of a person")


def _user_id(payload: Mapping[str, Any]) -> str | None:
    """Return what stays when somebody takes another name: ids are of a team; None when Slack tells none."""
    user = _member(payload, "user")
    team = _member(user, "team_id") or _member(_member(payload, "team"), "id") or ""
    user_id = _member(user, "id")
    return _checked(f"{team}/{user_id}", "payload.user.id", "the id of a person") if user_id else None


def _checked(text: str, field: str, expected: str) -> str:
    if not text or len(text) > MAX_NAME_CHARACTERS or HIDDEN.search(text):
        raise InvalidInputError(field, text or "missing", expected)
    return text


def _member(value: Any, key: str, index: int | None = None) -> Any:
    found = value.get(key) if isinstance(value, dict) else None
    if index is None:
        return found
    return found[index] if isinstance(found, list) and len(found) > index else None


def _refused(reason: str) -> ProblemError:
    return ProblemError(401, "Unauthorized", reason, headers={"WWW-Authenticate": "Slack-Signature"})
