"""Answers to what went wrong, as RFC 9457 problem details (`application/problem+json`)."""

import http
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field, ValidationError
from starlette.exceptions import HTTPException

from shared.errors import InvalidInputError, TransientError

RETRY_AFTER_S = 2
MEDIA_TYPE = "application/problem+json"

_said_by_pydantic = re.compile("^(Value error, )?(Input should be |expected )?")

log = structlog.get_logger(__name__)


class FieldError(BaseModel):
    """What is wrong with one field."""

    field: str = Field(description="Where, in the sender's own terms.", examples=["measurement.dm"])
    value: str = Field(description="What stood there, cut when long.", examples=["nan"])
    expected: str = Field(description="What would be accepted.", examples=["a finite number"])


class Problem(BaseModel):
    """A problem (RFC 9457)."""

    type: str = Field("about:blank", description="about:blank: the title says it all.")
    title: str = Field(examples=["Bad request"])
    status: int = Field(examples=[400])
    detail: str = Field(examples=["measurement.dm is nan; expected a finite number"])
    instance: str = Field(description="Path of the request.", examples=["/api/v1/events"])
    errors: list[FieldError] = Field(default=[], description="One for each wrong field.")


class ProblemError(Exception):
    """Ends a request with a problem.

    Parameters
    ----------
    title, detail
        What kind of problem, and what happened here.
    errors
        One for each wrong field.
    """

    def __init__(
        self,
        status: int,
        title: str,
        detail: str,
        *,
        errors: Sequence[FieldError] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.title = title
        self.detail = detail
        self.errors = tuple(errors)
        self.headers = dict(headers or {})

    @classmethod
    def from_validation(cls, error: ValidationError) -> "ProblemError":
        """Return the problem that pydantic found in a body."""
        return _invalid([_field_error(dict(problem), ()) for problem in error.errors(include_url=False)])


def install_problem_handlers(
    app: FastAPI, *, statuses: Mapping[type[InvalidInputError], http.HTTPStatus] = MappingProxyType({})
) -> None:
    """Make every refusal and failure of `app` a problem.

    Parameters
    ----------
    statuses
        Of complaints that are not answered with 400.
    """

    async def on_problem(request: Request, error: Exception) -> Response:
        assert isinstance(error, ProblemError)
        return problem_response(
            error.status, error.title, error.detail, request.url.path, errors=error.errors, headers=error.headers
        )

    async def on_validation(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        # The first step of a location says which part of the request it is.
        found = [_field_error(problem, ("body", "query", "path", "header")) for problem in error.errors()]
        return await on_problem(request, _invalid(found))

    async def on_input(request: Request, error: Exception) -> Response:
        assert isinstance(error, InvalidInputError)
        status = next((status for kind, status in statuses.items() if isinstance(error, kind)), None)
        found = FieldError(field=error.field, value=plain(error.value), expected=error.expected)
        problem = _invalid([found])
        if status is not None:
            problem = ProblemError(status, status.phrase, problem.detail, errors=problem.errors)
        return await on_problem(request, problem)

    async def on_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        phrase = http.HTTPStatus(error.status_code).phrase
        return problem_response(
            error.status_code, phrase, str(error.detail), request.url.path, headers=error.headers or {}
        )

    async def on_outage(request: Request, error: Exception) -> Response:
        headers = {"Retry-After": str(RETRY_AFTER_S)}
        log.warning("http.unavailable", path=request.url.path, reason=str(error))
        return problem_response(503, "Try again", "the database does not answer", request.url.path, headers=headers)

    async def on_bug(request: Request, error: Exception) -> Response:
        log.error("http.failed", path=request.url.path, exc_info=error)
        return problem_response(500, "Failed", "an error of ours; it is in the log", request.url.path)

    app.add_exception_handler(ProblemError, on_problem)
    app.add_exception_handler(RequestValidationError, on_validation)
    app.add_exception_handler(InvalidInputError, on_input)
    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(TransientError, on_outage)
    app.add_exception_handler(Exception, on_bug)


def problem_response(
    status: int,
    title: str,
    detail: str,
    instance: str,
    *,
    errors: Sequence[FieldError] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Return the answer that tells a problem."""
    problem = Problem(title=title, status=status, detail=plain(detail), instance=plain(instance), errors=list(errors))
    return JSONResponse(problem.model_dump(), status_code=status, headers=dict(headers or {}), media_type=MEDIA_TYPE)


def plain(text: str) -> str:
    """Return a text that any JSON reader takes: lone surrogates are replaced."""
    return text.encode("utf-8", "replace").decode()


def _invalid(found: list[FieldError]) -> ProblemError:
    detail = "; ".join(f"{error.field} is {error.value}; expected {error.expected}" for error in found[:10])
    return ProblemError(400, "Bad request", detail, errors=found)


def _field_error(problem: Mapping[str, Any], parts: Sequence[str]) -> FieldError:
    location = [str(step) for step in problem["loc"]]
    if location and location[0] in parts:
        location = location[1:]
    expected = _said_by_pydantic.sub("", str(problem["msg"]))
    value = "missing" if problem["type"] == "missing" else problem.get("input")
    complaint = InvalidInputError(".".join(location) or "body", value, expected)
    return FieldError(field=plain(complaint.field), value=plain(complaint.value), expected=plain(expected))


def _described(description: str, title: str, status: int, detail: str) -> dict[str, Any]:
    example = Problem(title=title, status=status, detail=detail, instance="/api/v1/events").model_dump()
    return {
        "description": description,
        "content": {MEDIA_TYPE: {"schema": Problem.model_json_schema(), "example": example}},
    }


PROBLEM_RESPONSES: dict[int, dict[str, Any]] = {
    400: _described("Something sent is wrong.", "Bad request", 400, "dm is nan; expected a finite number"),
    401: _described("Credentials are needed.", "Unauthorized", 401, "a token or name and password is needed"),
    403: _described("A role is missing.", "Forbidden", 403, "maria has not the role submit"),
    404: _described("There is no such thing.", "Not found", 404, "id is 999; expected the id of a burst"),
    405: _described("There is no such method here.", "Method Not Allowed", 405, "Method Not Allowed"),
    408: _described("The body did not arrive in time.", "Request Timeout", 408, "the body took more than 30 s"),
    409: _described("The burst does not allow it.", "Conflict", 409, "id is 3; expected a burst that is not withdrawn"),
    413: _described("Too large.", "Content Too Large", 413, "at most 33554432 bytes are taken"),
    415: _described("No such media type here.", "Unsupported Media Type", 415, "application/json is taken"),
    422: _described("The idempotency key was used for another burst.", "Key reused", 422, "Idempotency-Key is k1"),
    429: _described("Too many requests; see Retry-After.", "Too many requests", 429, "wait 2 s"),
    503: _described("The database does not answer; see Retry-After.", "Try again", 503, "the database does not answer"),
}
