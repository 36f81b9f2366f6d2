"""Every refusal and failure is a problem that any client can read, whatever it sent."""

import http
import json
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

import httpx
import pytest
import structlog
from fastapi import APIRouter, FastAPI, Header, Query, Request
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, ValidationError

from shared.errors import InvalidInputError, TransientError
from shared.http.problems import (
    MAX_ERRORS,
    PROBLEM_RESPONSES,
    FieldError,
    Problem,
    ProblemError,
    install_problem_handlers,
    problem_response,
)


class Ellipse(BaseModel):
    a: float = Field(gt=0, allow_inf_nan=False)


class Burst(BaseModel):
    model_config = {"extra": "forbid"}

    dm: float = Field(allow_inf_nan=False)
    version: str = Field(pattern="^v", max_length=8)
    source: Literal["MB", "HT"] = "MB"
    ellipse: Ellipse | None = None


class ConflictError(InvalidInputError):
    """Answered with another status."""


def an_app() -> FastAPI:
    app = FastAPI(redirect_slashes=False)
    install_problem_handlers(app, statuses={ConflictError: http.HTTPStatus.CONFLICT})

    @app.post("/bursts", responses={code: PROBLEM_RESPONSES[code] for code in (400, 503)})
    async def submit(burst: Burst) -> Burst:
        return burst

    @app.get("/bursts")
    async def listed(
        dm_min: Annotated[float | None, Query(allow_inf_nan=False)] = None,
        key: Annotated[str | None, Header(max_length=3)] = None,
    ) -> None:
        return None

    votes = APIRouter(prefix="/votes")

    @votes.get("/{number}")
    async def vote(number: int) -> int:
        return number

    @votes.delete("/{number}")
    async def take_back(number: int) -> None:
        return None

    app.include_router(votes)

    @app.post("/raise/{what}")
    async def fail(what: str, request: Request) -> None:
        body = (await request.body()).decode("utf-8", "surrogateescape")
        raise {
            "input": InvalidInputError(body, body, body),
            "conflict": ConflictError("id", 3, "a burst that is not withdrawn"),
            "problem": ProblemError(429, "Too many", "wait", headers={"Retry-After": "3"}),
            "outage": TransientError("connection to postgres://user:secret refused"),
            "bug": ZeroDivisionError("secret"),
        }[what]

    return app


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(an_app(), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        yield client


def problem_of(answer: httpx.Response) -> Problem:
    assert answer.headers["content-type"] == "application/problem+json"
    problem = Problem.model_validate(json.loads(answer.content, parse_constant=pytest.fail))
    assert problem.status == answer.status_code
    return problem


async def complaints_about(client: httpx.AsyncClient, body: Any) -> list[tuple[str, str, str]]:
    answer = await client.post("/bursts", content=body if isinstance(body, bytes) else json.dumps(body).encode())
    assert answer.status_code == 400
    return [(error.field, error.value, error.expected) for error in problem_of(answer).errors]


@pytest.fixture(autouse=True)
def json_by_default(client: httpx.AsyncClient) -> None:
    client.headers["content-type"] = "application/json"


GOOD = {"dm": 411.0, "version": "v1.0"}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"dm": "x"}, ("dm", "x", "a valid number, unable to parse string as a number")),
        ({"dm": float("nan")}, ("dm", "nan", "a finite number")),
        ({"ellipse": {"a": -1}}, ("ellipse.a", "-1", "greater than 0")),
        ({"ellipse": {}}, ("ellipse.a", "missing", "a value")),
        ({"source": "XX"}, ("source", "XX", "'MB' or 'HT'")),
        ({"dn": 1}, ("dn", "1", "no such key")),
        ({"version": "1"}, ("version", "1", "a text like ^v")),
        ({"version": "v" * 9}, ("version", "v" * 9, "at most 8 characters")),
    ],
)
async def test_a_wrong_field_is_named_as_the_client_wrote_it(
    client: httpx.AsyncClient, change: dict[str, Any], expected: tuple[str, str, str]
) -> None:
    assert await complaints_about(client, GOOD | change) == [expected]


async def test_every_wrong_field_is_named_at_once(client: httpx.AsyncClient) -> None:
    found = await complaints_about(client, {"dm": None, "version": 3})
    assert [field for field, _, _ in found] == ["dm", "version"]


@pytest.mark.parametrize(
    ("request_", "field", "value"),
    [
        (("GET", "/bursts?dm_min=x", None), "dm_min", "x"),
        (("GET", "/bursts?dm_min=nan", None), "dm_min", "nan"),
        (("GET", "/bursts", {"key": "abcd"}), "key", "abcd"),
        (("POST", "/bursts", None), "body", "missing"),
    ],
)
async def test_a_wrong_parameter_is_named(
    client: httpx.AsyncClient, request_: tuple[str, str, dict[str, str] | None], field: str, value: str
) -> None:
    method, path, headers = request_
    problem = problem_of(await client.request(method, path, headers=headers))
    assert [(error.field, error.value) for error in problem.errors] == [(field, value)]
    assert problem.instance == "/bursts"


async def test_what_is_no_json_is_told_with_its_place(client: httpx.AsyncClient) -> None:
    assert await complaints_about(client, b'{"dm": }') == [
        ("body", "wrong at character 7", "JSON (Expecting value)"),
    ]


async def test_a_body_of_many_wrong_things_is_not_answered_with_a_larger_one(client: httpx.AsyncClient) -> None:
    body = json.dumps(GOOD | {f"{n:0500}": "x" * 1000 for n in range(1000)}).encode()
    answer = await client.post("/bursts", content=body)
    assert len(problem_of(answer).errors) == MAX_ERRORS
    assert "and 990 more" in problem_of(answer).detail
    assert len(answer.content) < len(body) / 30


@pytest.mark.parametrize(
    "body",
    [
        b'{"dm": "\\ud800", "version": "v\\ud800"}',
        b'{"\\ud800": 1}',
        b'{"dm": NaN, "version": [Infinity, -Infinity]}',
        b'{"dm": "\\u0000", "version": "' + b"x" * 100_000 + b'"}',
        b'{"dm": ' + b"9" * 100_000 + b"}",
        b'{"dm": ' + b"9" * 4000 + b', "version": 1}',
        b"[" * 100_000,
        b'{"dm": ' + b"[" * 800 + b"]" * 800 + b"}",
        b"\xff\xfe",
        b"null",
    ],
)
async def test_whatever_was_sent_the_answer_is_json(client: httpx.AsyncClient, body: bytes) -> None:
    answer = await client.post("/bursts", content=body)
    assert answer.status_code == 400
    assert all(len(error.value) <= 120 for error in problem_of(answer).errors)


@given(st.text(st.characters(), max_size=300), st.text(max_size=300))
def test_any_text_makes_a_problem(text: str, path: str) -> None:
    answer = problem_response(400, "Bad", text, path, errors=[FieldError.of(InvalidInputError(text, text, text))])
    problem = Problem.model_validate(json.loads(bytes(answer.body)))
    assert problem.instance.isascii()


async def test_invalid_input_is_told_in_its_own_words(client: httpx.AsyncClient) -> None:
    answer = await client.post("/raise/input", content=b"\xff" + b"x" * 1000)
    (error,) = problem_of(answer).errors
    assert (answer.status_code, len(error.value)) == (400, 120)


async def test_some_complaints_have_a_status_of_their_own(client: httpx.AsyncClient) -> None:
    problem = problem_of(await client.post("/raise/conflict"))
    assert (problem.status, problem.title) == (409, "Conflict")
    assert problem.detail == "id is 3; expected a burst that is not withdrawn"


async def test_a_problem_brings_its_headers(client: httpx.AsyncClient) -> None:
    answer = await client.post("/raise/problem")
    assert (problem_of(answer).status, answer.headers["retry-after"]) == (429, "3")


async def test_an_outage_says_when_to_come_back_and_no_more(client: httpx.AsyncClient) -> None:
    answer = await client.post("/raise/outage")
    assert problem_of(answer).status == 503
    assert int(answer.headers["retry-after"]) > 0
    assert "secret" not in answer.text


async def test_a_bug_is_logged_and_not_shown(client: httpx.AsyncClient) -> None:
    with structlog.testing.capture_logs() as logs:
        answer = await client.post("/raise/bug")
    assert problem_of(answer).status == 500
    assert "secret" not in answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert isinstance(logs[0]["exc_info"], ZeroDivisionError)


async def test_what_is_not_there_is_a_problem_too(client: httpx.AsyncClient) -> None:
    assert problem_of(await client.get("/nowhere/%C3%A9%00")).instance == "/nowhere/%C3%A9%00"
    answer = await client.delete("/bursts")
    assert problem_of(answer).status == 405


async def test_a_refused_method_is_told_all_that_the_path_has(client: httpx.AsyncClient) -> None:
    assert (await client.delete("/bursts")).headers["allow"] == "GET, POST"
    assert (await client.put("/votes/3")).headers["allow"] == "DELETE, GET"
    assert (await client.get("/raise/bug")).headers["allow"] == "POST"


def test_what_pydantic_finds_in_a_body_is_a_problem() -> None:
    with pytest.raises(ValidationError) as found:
        Burst.model_validate({"dm": b"\xff", "version": "v1", "body": 1})
    problem = ProblemError.from_validation(found.value)
    assert [error.field for error in problem.errors] == ["dm", "body"]


async def test_the_document_says_what_is_answered(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    answers = document["paths"]["/bursts"]["post"]["responses"]
    assert set(answers) == {"200", "400", "503"}
    schema = answers["400"]["content"]["application/problem+json"]["schema"]
    assert schema == {"$ref": "#/components/schemas/Problem"}
    assert document["components"]["schemas"].keys() == {"Burst", "Ellipse", "Problem", "FieldError"}
    assert (await client.get("/openapi.json")).json() == document
