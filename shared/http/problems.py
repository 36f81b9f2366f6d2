"""Answers to what went wrong, as RFC 9457 problem details (`application/problem+json`)."""

import http
import re
import reprlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import iter_route_contexts
from pydantic import BaseModel, Field, ValidationError
from starlette.exceptions import HTTPException

from shared.errors import InvalidInputError, TransientError
from shared.http import openapi

RETRY_AFTER_S = 2
LOGGED = "logged as http.failed"
# Note of an exception that needs no further line.
MEDIA_TYPE = "application/problem+json"
MAX_ERRORS = 50
# A body of many wrong things is not answered with a larger one.
MAX_PATH_CHARACTERS = 200
PLAIN_DATA_HEADERS: Mapping[str, str] = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
}
# An answer is what its media type says, and no page that runs anything.

_PARTS_OF_A_REQUEST = {"body", "query", "path", "header", "cookie"}
_SAID_BY_PYDANTIC = re.compile(r"^(?:Value error, )?(?:\w+ should (?:be|have) |expected )?")
_SAID_BETTER = {
    "missing": "a value",
    "extra_forbidden": "no such key",
    "string_pattern_mismatch": "a text like {pattern}",
    "json_invalid": "JSON ({error})",
}

log = structlog.get_logger(__name__)


class FieldError(BaseModel):
    """What is wrong with one field."""

    field: str = Field(description="Where, in the sender's own terms.", examples=["measurement.dm"])
    value: str = Field(description="What stood there, cut when long.", examples=["nan"])
    expected: str = Field(description="What would be accepted.", examples=["a finite number"])

    @classmethod
    def of(cls, error: InvalidInputError) -> "FieldError":
        """Return what a complaint says, whatever was sent, as text that any JSON reader takes."""
        return cls(field=plain(error.field), value=plain(error.value), expected=plain(error.expected))


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
        return _invalid([_complaint(dict(problem), problem["loc"]) for problem in error.errors(include_url=False)])


def install_problem_handlers(
    app: FastAPI, *, statuses: Mapping[type[InvalidInputError], http.HTTPStatus] = MappingProxyType({})
) -> None:
    """Make every refusal and failure of `app` a problem, and say so in its OpenAPI document.

    Parameters
    ----------
    statuses
        Of complaints that are not answered with 400.
    """

    async def answer(request: Request, error: Exception) -> Response:
        problem = as_problem(request, error, statuses)
        return problem_response(
            problem.status,
            problem.title,
            problem.detail,
            request.scope["path"],
            errors=problem.errors,
            headers=problem.headers,
        )

    for kind in ERRORS:
        app.add_exception_handler(kind, answer)
    _describe_problems(app)


def as_problem(
    request: Request,
    error: Exception,
    statuses: Mapping[type[InvalidInputError], http.HTTPStatus] = MappingProxyType({}),
) -> ProblemError:
    """Return what an exception that ended a request tells its sender; outages and bugs are logged here."""
    match error:
        case ProblemError():
            return error
        case RequestValidationError():
            found = []
            for problem in error.errors():
                part, *location = problem["loc"]
                found.append(_complaint(problem, location if part in _PARTS_OF_A_REQUEST else problem["loc"]))
            return _invalid(found)
        case InvalidInputError():
            status = next((status for kind, status in statuses.items() if isinstance(error, kind)), None)
            invalid = _invalid([error])
            if status is None:
                return invalid
            return ProblemError(status, status.phrase, invalid.detail, errors=invalid.errors)
        case HTTPException():
            phrase = http.HTTPStatus(error.status_code).phrase
            headers = dict(error.headers or {})
            if error.status_code == http.HTTPStatus.METHOD_NOT_ALLOWED:
                headers["Allow"] = _methods_at(request, headers.get("Allow", ""))
            return ProblemError(error.status_code, phrase, str(error.detail), headers=headers)
        case TransientError():
            log.warning("http.unavailable", path=request.scope["path"], reason=str(error))
            return ProblemError(503, "Try again", _OUTAGE, headers={"Retry-After": str(RETRY_AFTER_S)})
        case _:
            log.error("http.failed", path=request.scope["path"], exc_info=error)
            error.add_note(LOGGED)  # it travels on to the server, which would log it too
            # Answered outside of all middleware.
            return ProblemError(500, "Failed", "an error of ours; it is in the log", headers=PLAIN_DATA_HEADERS)


def problem_response(
    status: int,
    title: str,
    detail: str,
    path: str,
    *,
    errors: Sequence[FieldError] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Return the answer that tells a problem; `path` is the request's, not quoted."""
    instance = quote(path[:MAX_PATH_CHARACTERS], safe="/:@!$&'()*+,;=~", errors="replace")
    problem = Problem(title=title, status=status, detail=plain(detail), instance=instance, errors=list(errors))
    return JSONResponse(problem.model_dump(), status_code=status, headers=dict(headers or {}), media_type=MEDIA_TYPE)


def plain(text: str) -> str:
    """Return a text that any JSON reader takes: lone surrogates are replaced."""
    return text.encode("utf-8", "replace").decode()


def _methods_at(request: Request, known: str) -> str:
    """Return all methods that the path of a request has; Starlette knows those of the first route alone."""
    methods = set(filter(None, known.split(", ")))
    for route in iter_route_contexts(request.app.routes):
        # Routes beside the document are there to refuse methods.
        if route.include_in_schema and route.path_regex.match(request.scope["path"]):
            methods |= route.methods or set()
    return ", ".join(sorted(methods))


def _invalid(found: Sequence[InvalidInputError]) -> ProblemError:
    errors = [FieldError.of(error) for error in found[:MAX_ERRORS]]
    detail = "; ".join(str(error) for error in found[:10])
    if len(found) > 10:
        detail += f"; and {len(found) - 10} more"
    return ProblemError(400, "Bad request", detail, errors=errors)


def _complaint(problem: Mapping[str, Any], location: Sequence[Any]) -> InvalidInputError:
    """Return what pydantic found at a place, in the sender's terms."""
    kind = problem["type"]
    words = {name: plain(str(word)) for name, word in problem.get("ctx", {}).items()}
    better = _SAID_BETTER.get(kind)
    expected = better.format(**words) if better else _SAID_BY_PYDANTIC.sub("", problem["msg"])
    if kind == "json_invalid":
        return InvalidInputError("body", f"wrong at character {location[0]}", expected)
    value = "missing" if kind == "missing" else _brief(problem.get("input"))
    return InvalidInputError(_brief(".".join(map(str, location))) or "body", value, expected)


ERRORS = (ProblemError, RequestValidationError, InvalidInputError, HTTPException, TransientError, Exception)
# What an application is to answer for.

_reader = reprlib.Repr()
_reader.maxstring = _reader.maxother = InvalidInputError.MAX_VALUE_CHARACTERS


def _brief(value: object) -> str:
    """Return how a value reads, without reading all of a large or deep one."""
    return value[: InvalidInputError.MAX_VALUE_CHARACTERS + 1] if isinstance(value, str) else _reader.repr(value)


_OUTAGE = "a store behind this service does not answer"


def _describe_problems(app: FastAPI) -> None:
    schemas = Problem.model_json_schema(ref_template=openapi.COMPONENTS + "{model}")
    definitions = schemas.pop("$defs")
    made_by_fastapi = app.openapi

    def document() -> dict[str, Any]:
        return app.openapi_schema or openapi.complete(made_by_fastapi(), Problem=schemas, **definitions)

    app.openapi = document  # type: ignore[method-assign]  # how FastAPI wants it extended


def _described(description: str, title: str, status: int, detail: str) -> dict[str, Any]:
    example = Problem(title=title, status=status, detail=detail, instance="/api/v1/events").model_dump()
    return {
        "description": description,
        "content": {MEDIA_TYPE: {"schema": {"$ref": f"{openapi.COMPONENTS}Problem"}, "example": example}},
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
    503: _described("Something behind does not answer; see Retry-After.", "Try again", 503, _OUTAGE),
}
