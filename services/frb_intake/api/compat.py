"""The door that the telescope's old upload script knows, with its answers byte for byte where they matter.

Requests and answers are those of a Django REST framework application; what it refused in its own words is refused in
the same words here, and what it wrongly took (NaN, a position beyond the sky, a web page as a picture, anybody's
upload) is refused in the same shape.
"""

import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, TypeVar

from fastapi import APIRouter, Path, Request, Response
from pydantic import ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from services.frb_intake.accounts import Role
from services.frb_intake.api.auth import (
    AccessError,
    Doorkeeper,
    NoCredentialsError,
    RoleMissingError,
    TooManyRequestsError,
    WrongCredentialsError,
)
from services.frb_intake.api.forms import read_form, read_images
from services.frb_intake.domain import WithdrawnError
from services.frb_intake.intake import Intake, Outcome, UnknownBurstError, UnknownObservationError
from services.frb_intake.models import BurstIn, MeasurementIn, ObservationIn, plain_text
from services.frb_intake.settings import FrbIntakeSection
from shared.errors import InvalidInputError, TransientError
from shared.http.json_body import parse_json

IMAGES = {"search_open": "search", "image_open": "image", "histogram_open": "histogram"}
_PATH_OF = {"search": "search_path", "image": "image_path", "histogram": "histogram_path"}
_ANSWERS: dict[int | str, dict[str, Any]] = {
    400: {"description": "For each wrong field, what is wrong.", "content": {"application/json": {"schema": {}}}},
    401: {"description": "Nobody asks."},
    403: {"description": "Wrong password, or a role is missing."},
    405: {"description": "Only POST is known here."},
    408: {"description": "The body did not arrive in time."},
    413: {"description": "Too large."},
    415: {"description": "Not a form, and no JSON."},
    429: {"description": "Too many requests; see Retry-After."},
    503: {"description": "The database does not answer; try again."},
}

REQUIRED, NULL, BLANK = "This field is required.", "This field may not be null.", "This field may not be blank."
_TRUE = {"t", "T", "y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON", "1"}
_FALSE = {"f", "F", "n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF", "0"}
_WRONG_TIME = (
    "Datetime has wrong format. Use one of these formats instead: YYYY-MM-DDThh:mm[:ss[.uuuuuu]][+HH:MM|-HH:MM|Z]."
)
MAX_NUMBER_CHARACTERS = 1000

Errors = dict[str, list[str]]
T = TypeVar("T")


class RefusedError(Exception):
    """The request is wrong; `errors` says what, in the old server's shape."""

    def __init__(self, errors: Errors | str) -> None:
        super().__init__(errors)
        self.errors = errors


class _WrongValueError(Exception):
    """What the old server would say of a field."""


class _Fields:
    """Reads one field after the other as the old server did, and collects what is wrong."""

    def __init__(self, sent: Mapping[str, Any]) -> None:
        self._sent = sent
        self.errors: Errors = {}

    def number(self, name: str, *, required: bool = True) -> float | None:
        return self._read(name, _number, required=required)

    def integer(self, name: str, *, required: bool = True) -> int | None:
        return self._read(name, _integer, required=required)

    def text(self, name: str, *, max_characters: int) -> str | None:
        return self._read(name, lambda value: _text(value, max_characters))

    def choice(self, name: str, choices: tuple[str, ...]) -> str | None:
        return self._read(name, lambda value: _choice(value, choices))

    def boolean(self, name: str) -> bool:
        return bool(self._read(name, _boolean, required=False))

    def time(self, name: str) -> datetime | None:
        return self._read(name, _time, required=False)

    def key(self, name: str) -> int | None:
        return self._read(name, _key)

    def _read(self, name: str, convert: Callable[[Any], T], *, required: bool = True) -> T | None:
        value = self._sent.get(name)
        if value is None or (value == "" and not required):
            if required:
                self.errors[name] = [NULL if name in self._sent else REQUIRED]
            return None
        try:
            return convert(value)
        except _WrongValueError as error:
            self.errors[name] = [str(error)]
            return None

    def check(self) -> None:
        if self.errors:
            raise RefusedError(self.errors)


def _number(value: Any) -> float:
    if isinstance(value, str) and len(value) > MAX_NUMBER_CHARACTERS:
        raise _WrongValueError("String value too large.")
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise _WrongValueError("A valid number is required.")
    try:
        return float(value)
    except (ValueError, OverflowError):
        raise _WrongValueError("A valid number is required.") from None


def _integer(value: Any) -> int:
    if isinstance(value, str) and len(value) > MAX_NUMBER_CHARACTERS:
        raise _WrongValueError("String value too large.")
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise _WrongValueError("A valid integer is required.")
    try:
        # 3000.0 is 3000.
        return int(re.sub(r"\.0*\s*$", "", str(value)))
    except ValueError:
        raise _WrongValueError("A valid integer is required.") from None


def _text(value: Any, max_characters: int) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise _WrongValueError("Not a valid string.")
    text = str(value).strip()
    if not text:
        raise _WrongValueError(BLANK)
    if "\x00" in text:
        raise _WrongValueError("Null characters are not allowed.")
    if len(text) > max_characters:
        raise _WrongValueError(f"Ensure this field has no more than {max_characters} characters.")
    try:
        return plain_text(text)
    except PydanticCustomError as error:
        raise _WrongValueError(_complaint(text, error.message())) from None


def _choice(value: Any, choices: tuple[str, ...]) -> str:
    text = str(value)
    if text not in choices:
        raise _WrongValueError(f'"{text[:100]}" is not a valid choice.')
    return text


def _boolean(value: Any) -> bool:
    if value is True or value is False:
        return bool(value)
    text = str(value).strip()
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise _WrongValueError("Must be a valid boolean.")


def _time(value: Any) -> datetime:
    try:
        time = datetime.fromisoformat(str(value).strip())
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError):
        raise _WrongValueError(_WRONG_TIME) from None


def _key(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise _WrongValueError(f"Incorrect type. Expected pk value, received {type(value).__name__}.")
    try:
        key = int(value)
    except ValueError:
        raise _WrongValueError(f"Incorrect type. Expected pk value, received {type(value).__name__}.") from None
    if not 0 < key < 2**63:
        raise _WrongValueError(_no_such(value))
    return key


def _no_such(key: object) -> str:
    return f'Invalid pk "{str(key)[:100]}" - object does not exist.'


def compat_router(intake: Intake, doorkeeper: Doorkeeper, settings: FrbIntakeSection) -> APIRouter:
    """Return the three doors of the old client."""
    router = APIRouter(tags=["compatible with upload_cand.py"])

    def door(path: str, summary: str, fields: dict[str, str], files: tuple[str, ...] = ()) -> Callable[..., Any]:
        """Declare a POST at `path`, and the old server's answer to every other method."""

        async def only_post(request: Request) -> Response:
            return _answer(405, {"detail": f'Method "{request.method}" not allowed.'}, Allow="POST, OPTIONS")

        def declare(handle: Callable[[Request], Any]) -> Callable[..., Any]:
            async def guarded(request: Request) -> Response:
                return await _guarded(request, handle)

            router.add_api_route(
                path,
                guarded,
                methods=["POST"],
                status_code=201,
                summary=summary,
                operation_id=handle.__name__,
                responses=_ANSWERS,
                openapi_extra={
                    "requestBody": {"required": True, "content": _content(fields, files)},
                    "security": [{"basic": []}],
                },
            )
            router.add_api_route(
                path, only_post, methods=["GET", "HEAD", "PUT", "PATCH", "DELETE"], include_in_schema=False
            )
            return handle

        return declare

    @door("/observation_create/", "Store how the telescope was set up", _fields(ObservationIn))
    async def observation_create(request: Request) -> Response:
        asker = await doorkeeper.admit(request, Role.SUBMIT)
        sent = _read_observation(await _body(request))
        number = await intake.stage_observation(sent, asker)
        return _created({"id": number, **sent.model_dump()}, number)

    @door("/frbevent_create/", "Store a burst with its images", _BURST_FIELDS, tuple(IMAGES))
    async def frbevent_create(request: Request) -> Response:
        asker = await doorkeeper.admit(request, Role.SUBMIT)
        body = await _body(request)
        fields = _Fields(body)
        observation_id = fields.key("observation")
        time_of_arrival = fields.time("time_of_arrival")
        repeater = fields.boolean("repeater")
        fields.check()
        assert observation_id is not None
        for part, name in IMAGES.items():
            if not isinstance(body.get(part), UploadFile):
                raise RefusedError(f"Missing {name} file")
        images = await read_images(
            body, IMAGES, max_bytes=settings.max_image_bytes, max_pixels=settings.max_image_pixels
        )
        outcome = await intake.submit(
            BurstIn(time_of_arrival=time_of_arrival, repeater=repeater),
            asker,
            images=images,
            observation_id=observation_id,
        )
        burst = outcome.burst
        data = {
            "id": burst.frb_id,
            "tns_name": burst.tns_name,
            "time_of_arrival": _written(burst.time_of_arrival),
            "repeater": burst.repeater,
            **{
                _PATH_OF[image.name]: f"/media/candidates/{burst.frb_id}/{image.name}/{image.file_name}"
                for image in images
            },
            "observation": observation_id,
        }
        return _created(data, burst.frb_id)

    @door("/radio_measurement_create/", "Store a measurement of a burst", _MEASUREMENT_FIELDS)
    async def radio_measurement_create(request: Request) -> Response:
        asker = await doorkeeper.admit(request, Role.SUBMIT)
        values, sent = _read_measurement(await _body(request))
        outcome = await intake.measure(values["frb"], sent, asker, as_submitted=sent.as_submitted())
        return _answer(201, {"data": _measurement(outcome, values)})

    @router.get("/media/candidates/{burst_id}/{name}/{file_name}", include_in_schema=False)
    async def media(
        burst_id: Annotated[int, Path(ge=1, lt=2**63)],
        name: Literal["search", "image", "histogram"],
        file_name: str,  # noqa: ARG001
    ) -> Response:
        # The old server's addresses of images; the bytes are served by the proper door.
        return Response(status_code=307, headers={"Location": f"/api/v1/events/{burst_id}/images/{name}"})

    return router


async def _guarded(request: Request, handle: Callable[[Request], Any]) -> Response:
    """Answer every refusal in the old server's shape."""
    try:
        answer: Response = await handle(request)
    except RefusedError as error:
        return _answer(400, error.errors)
    except NoCredentialsError:
        return _answer(
            401,
            {"detail": "Authentication credentials were not provided."},
            **{"WWW-Authenticate": 'Basic realm="api"'},
        )
    except WrongCredentialsError:
        return _answer(403, {"detail": "Invalid username/password."})
    except RoleMissingError:
        return _answer(403, {"detail": "You do not have permission to perform this action."})
    except TooManyRequestsError as error:
        wait = error.retry_after
        return _answer(
            429, {"detail": f"Request was throttled. Expected available in {wait} seconds."}, **{"Retry-After": wait}
        )
    except AccessError as error:
        return _answer(403, {"detail": str(error)})
    except HTTPException as error:
        return _answer(error.status_code, {"detail": error.detail})
    except UnknownObservationError as error:
        return _answer(400, {"observation": [_no_such(error.value)]})
    except UnknownBurstError as error:
        return _answer(400, {"frb": [_no_such(error.value)]})
    except WithdrawnError as error:
        return _answer(400, {"frb": [f"Burst {error.value} is withdrawn."]})
    except InvalidInputError as error:
        return _answer(400, {_OLD_NAMES.get(error.field, error.field): [_complaint(error.value, error.expected)]})
    except TransientError as error:
        return _answer(503, {"detail": f"Try again: {error}"}, **{"Retry-After": "2"})
    return answer


async def _body(request: Request) -> dict[str, Any]:
    """Return the fields of a body: urlencoded, multipart or JSON."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind in ("application/x-www-form-urlencoded", "multipart/form-data"):
        return dict(await read_form(request))
    if kind != "application/json":
        raise HTTPException(415, f'Unsupported media type "{kind[:100]}" in request.')
    try:
        body = parse_json(await request.body())
    except InvalidInputError as error:
        raise HTTPException(400, f"JSON parse error - {_complaint(error.value, error.expected)}") from error
    if not isinstance(body, dict):
        raise RefusedError(
            {"non_field_errors": [f"Invalid data. Expected a dictionary, but got {type(body).__name__}."]}
        )
    return body


def _read_observation(body: Mapping[str, Any]) -> ObservationIn:
    fields = _Fields(body)
    values = {
        "beam_semi_major_axis": fields.number("beam_semi_major_axis"),
        "beam_semi_minor_axis": fields.number("beam_semi_minor_axis"),
        "beam_rotation_angle": fields.number("beam_rotation_angle"),
        "sampling_time": fields.number("sampling_time"),
        "bandwidth": fields.number("bandwidth"),
        "nchan": fields.integer("nchan"),
        "centre_frequency": fields.number("centre_frequency"),
        "npol": fields.integer("npol"),
        "bits_per_sample": fields.integer("bits_per_sample"),
        "gain": fields.number("gain"),
        "tsys": fields.number("tsys"),
        "backend": fields.text("backend", max_characters=128),
        "beam": fields.integer("beam", required=False),
    }
    fields.check()
    try:
        return ObservationIn.model_validate(values)
    except ValidationError as error:
        raise RefusedError(_translated(error)) from error


# What the old client calls what the YAML calls otherwise.
_OLD_NAMES = {"ra_err": "ra_pos_error", "dec_err": "dec_pos_error"}
_BURST_FIELDS = {"observation": "integer", "time_of_arrival": "string", "repeater": "boolean"}


def _read_measurement(body: Mapping[str, Any]) -> tuple[dict[str, Any], MeasurementIn]:
    fields = _Fields(body)
    values: dict[str, Any] = {
        "ra": fields.number("ra"),
        "dec": fields.number("dec"),
        "ra_hms": fields.text("ra_hms", max_characters=64),
        "dec_dms": fields.text("dec_dms", max_characters=64),
        "gl": fields.number("gl"),
        "gb": fields.number("gb"),
        "ra_pos_error": fields.number("ra_pos_error"),
        "dec_pos_error": fields.number("dec_pos_error"),
        "source": fields.choice("source", ("MB", "HT")),
        "version": fields.text("version", max_characters=64),
        **{name: fields.number(name, required=False) for name in ("dm", "dm_err", "sn", "width")},
        **{name: fields.number(name, required=False) for name in _OPTIONAL},
        "frb": fields.key("frb"),
    }
    fields.check()
    # Required and returned, though the service computes its own.
    for name, low, high in (("gl", -360, 360), ("gb", -90, 90)):
        if not low <= values[name] <= high:
            raise RefusedError({name: [_complaint(str(values[name]), f"expected {low} to {high} deg")]})
    try:
        sent = MeasurementIn.model_validate({new: values[old] for new, old in _SENT.items() if values[old] is not None})
    except ValidationError as error:
        raise RefusedError(_translated(error)) from error
    return values, sent


_OPTIONAL = ("z", "rm", "rm_err", "fluence", "fluence_err", "flux", "flux_err")
_SENT = {
    "ra": "ra",
    "dec": "dec",
    "ra_err": "ra_pos_error",
    "dec_err": "dec_pos_error",
    **{name: name for name in ("source", "version", "dm", "dm_err", "sn", "width", *_OPTIONAL)},
}
_MEASUREMENT_FIELDS = {
    "frb": "integer",
    **{old: "string" if old in ("source", "version") else "number" for old in _SENT.values()},
    "ra_hms": "string",
    "dec_dms": "string",
    "gl": "number",
    "gb": "number",
}


def _measurement(outcome: Outcome, values: Mapping[str, Any]) -> dict[str, Any]:
    latest = outcome.burst.latest
    made_at = latest.made_at if latest else None
    return {
        "id": outcome.measurement_id,
        **{name: value for name, value in values.items() if name != "frb"},
        "datetime": _written(made_at),
        "frb": values["frb"],
    }


def _translated(error: ValidationError) -> Errors:
    errors: Errors = {}
    for problem in error.errors(include_url=False):
        name = str(problem["loc"][0]) if problem["loc"] else "non_field_errors"
        errors.setdefault(_OLD_NAMES.get(name, name), []).append(_in_old_words(problem))
    return errors


def _in_old_words(problem: ErrorDetails) -> str:
    if problem["type"] == "missing":
        return REQUIRED
    return _complaint(str(problem["input"]), problem["msg"].removeprefix("Value error, "))


def _complaint(value: str, expected: str) -> str:
    shortened = value if len(value) <= 120 else f"{value[:119]}…"
    return f"{shortened} is not valid: {expected}."


def _created(data: Mapping[str, Any], number: int) -> Response:
    return _answer(201, {"data": data, "id": number})


def _written(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat().replace("+00:00", "Z")


def _answer(status: int, content: Any, **headers: str) -> Response:
    # What is wrong is repeated to who sent it, and that may be what UTF-8 cannot hold.
    body = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode(errors="replace")
    return Response(body, status_code=status, headers=headers, media_type="application/json")


def _fields(model: type[ObservationIn]) -> dict[str, str]:
    kinds = {"nchan": "integer", "npol": "integer", "bits_per_sample": "integer", "beam": "integer"}
    return {name: kinds.get(name, "string" if name == "backend" else "number") for name in model.model_fields}


def _content(fields: Mapping[str, str], files: tuple[str, ...]) -> dict[str, Any]:
    properties: dict[str, Any] = {name: {"type": kind} for name, kind in fields.items()}
    if files:
        binary = {name: {"type": "string", "format": "binary"} for name in files}
        return {"multipart/form-data": {"schema": {"type": "object", "properties": {**properties, **binary}}}}
    schema = {"schema": {"type": "object", "properties": properties}}
    return {"application/x-www-form-urlencoded": schema, "application/json": schema}
