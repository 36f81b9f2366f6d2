"""The proper door: one request for a burst with everything, and all questions about bursts."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import nullcontext
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from fastapi.responses import StreamingResponse
from fastapi.security import HTTPBasic, HTTPBearer
from pydantic import BaseModel, Field, ValidationError
from starlette.exceptions import HTTPException

from services.frb_intake.accounts import Role
from services.frb_intake.api.answers import BurstDetail, BurstPage, Me
from services.frb_intake.api.auth import AccessError, Doorkeeper, turn_away
from services.frb_intake.api.export import FORMATS, exported
from services.frb_intake.api.forms import read_form, read_images
from services.frb_intake.follow import Follower
from services.frb_intake.intake import Asker, Intake, Outcome, Upload
from services.frb_intake.models import (
    CompleteBurstIn,
    MeasurementIn,
    NameIn,
    RatingIn,
    StatusIn,
    Time,
    WithdrawalIn,
)
from services.frb_intake.reading import BurstReader, Cone, Filters, Order
from services.frb_intake.settings import FrbIntakeSection
from shared.blobs.store import BlobStore
from shared.errors import InvalidInputError
from shared.events.frb import FrbStatus
from shared.http.exports import begun
from shared.http.json_body import parse_json, parse_yaml
from shared.http.problems import PROBLEM_RESPONSES, ProblemError

PREFIX = "/api/v1"
_BOOLEANS = {"true": True, "True": True, "false": False, "False": False}
IMAGES = {"search": "search", "image": "image", "histogram": "histogram"}
YAML_TYPES = ("application/yaml", "application/x-yaml", "text/yaml")
YAML_ONLY = ("time_of_arrival", "repeater", "repeater_of")
# What the radio measurement YAML says about the burst, beside what was measured.

MIN_RADIUS_DEG = 1e-6
# Thousandths of an arc second; the squares of much smaller ones vanish.

BurstId = Annotated[int, Path(ge=1, lt=2**63, description="The number that the submission gave.", examples=[3])]


class FilterQuery(BaseModel):
    """The filters of lists and exports."""

    model_config = {"extra": "forbid"}

    since: Time | None = Field(None, description="Time of arrival from then on.")
    until: Time | None = Field(None, description="Time of arrival before then.")
    dm_min: float | None = Field(None, allow_inf_nan=False, description="pc cm^-3")
    dm_max: float | None = Field(None, allow_inf_nan=False, description="pc cm^-3")
    sn_min: float | None = Field(None, allow_inf_nan=False)
    sn_max: float | None = Field(None, allow_inf_nan=False)
    ra: float | None = Field(None, ge=0, le=360, allow_inf_nan=False, description="Centre of a cone (deg, ICRS).")
    dec: float | None = Field(None, ge=-90, le=90, allow_inf_nan=False, description="Centre of a cone (deg).")
    radius: float | None = Field(
        None, ge=MIN_RADIUS_DEG, le=180, allow_inf_nan=False, description="Radius of the cone (deg)."
    )
    repeater: bool | None = None
    status: Literal["candidate", "confirmed", "rejected", "withdrawn"] | None = None
    rating: Literal["confirm", "reject", "unsure", "none"] | None = Field(
        None, description="Somebody's last vote is this; none: nobody voted."
    )
    tns_name: Annotated[str, Field(max_length=64, pattern=r"^[^\x00]*$")] | None = None
    is_test: bool | None = None

    def filters(self) -> Filters:
        """Return the filters as the reader takes them."""
        cone = (self.ra, self.dec, self.radius)
        if any(value is None for value in cone) and any(value is not None for value in cone):
            raise InvalidInputError("radius", self.radius, "ra, dec and radius together")
        place = Cone(*cone) if self.radius is not None else None  # type: ignore[arg-type]
        names = ("since", "until", "dm_min", "dm_max", "sn_min", "sn_max", "repeater", "status", "rating")
        return Filters(
            cone=place,
            tns_name=self.tns_name,
            is_test=self.is_test,
            **{name: getattr(self, name) for name in names},
        )


class SortedQuery(FilterQuery):
    """The filters, and an order."""

    sort: Literal["time", "id", "dm", "dm_excess", "sn", "width", "confirm", "reject"] = Field(
        "time",
        description="What the lines are sorted by: the arrival, the number, what was measured, how many votes."
        " Bursts for which it is not known come last.",
    )
    order: Literal["asc", "desc"] = Field("desc", description="The smallest, or the largest first.")

    def sorting(self) -> Order:
        """Return the order as the reader takes it."""
        return Order(self.sort, is_descending=self.order == "desc")


class PageQuery(SortedQuery):
    """A page of a list."""

    limit: int = Field(50, ge=1, le=500, description="Lines of a page.")
    cursor: str | None = Field(None, max_length=200, description="The `next` of the page before, in the same order.")


class ExportQuery(SortedQuery):
    """An export."""

    format: Literal["csv", "votable", "json"] = "csv"


def v1_router(
    *,
    intake: Intake,
    reader: BurstReader,
    doorkeeper: Doorkeeper,
    blobs: BlobStore,
    follower: Follower,
    settings: FrbIntakeSection,
) -> APIRouter:
    """Return the routes below /api/v1."""
    schemes = [
        Depends(HTTPBearer(auto_error=False, scheme_name="token", description="A token of `tocsin token create`.")),
        Depends(HTTPBasic(auto_error=False, scheme_name="basic")),
    ]
    router = APIRouter(prefix=PREFIX, tags=["bursts"], dependencies=schemes)

    def asking(*roles: Role) -> Any:
        async def admit(request: Request) -> Asker:
            try:
                return await doorkeeper.admit(request, *roles)
            except AccessError as error:
                turn_away(error)

        return Depends(admit)

    async def reading(request: Request) -> None:
        try:
            await doorkeeper.admit_reader(request)
        except AccessError as error:
            turn_away(error)

    async def following(request: Request) -> AsyncIterator[None]:
        # Ends with the stream, not with the beginning of the answer.
        with nullcontext() if "authorization" in request.headers else follower.anonymous():
            yield

    Submitter = Annotated[Asker, asking(Role.SUBMIT)]  # noqa: N806
    Rater = Annotated[Asker, asking(Role.RATE)]  # noqa: N806
    Operator = Annotated[Asker, asking(Role.OPERATE)]  # noqa: N806
    Withdrawer = Annotated[Asker, asking(Role.SUBMIT, Role.OPERATE)]  # noqa: N806
    to_read = [Depends(reading)]
    # Added to the schemes of the router.
    by_anybody: dict[str, Any] | None = {"security": [{}]} if settings.public_reading else None
    writing = _responses(400, 401, 403, 404, 408, 409, 413, 415, 422, 429, 503)
    asked = _responses(400, 401, 403, 404, 429, 503)

    async def told(burst_id: int, *, status_code: int, headers: dict[str, str] | None = None) -> Response:
        return _json(json.dumps(await reader.burst(burst_id)), status_code=status_code, headers=headers)

    async def outcome_told(outcome: Outcome) -> Response:
        burst_id = outcome.burst.frb_id
        location = {"Location": f"{PREFIX}/events/{burst_id}"}
        return await told(burst_id, status_code=201 if outcome.is_new else 200, headers=location)

    @router.post(
        "/events",
        status_code=201,
        response_model=BurstDetail,
        responses={**writing, 200: {"model": BurstDetail, "description": "This very burst was there already."}},
        openapi_extra={"requestBody": {"required": True, "content": _BURST_BODIES}},
    )
    async def submit(
        request: Request,
        asker: Submitter,
        idempotency_key: Annotated[
            str | None,
            Header(min_length=1, max_length=255, description="The same key with the same burst is the same request."),
        ] = None,
    ) -> Response:
        """Store and announce a burst: its measurement, observation and images in one transaction."""
        kind = _media_type(request)
        if kind == "multipart/form-data":
            sent, images = await _burst_from_parts(request, settings)
        elif kind == "application/json":
            sent, images = _validated(CompleteBurstIn, parse_json(await request.body())), []
        else:
            raise HTTPException(415, "application/json or multipart/form-data")
        return await outcome_told(await intake.submit(sent, asker, images=images, key=idempotency_key))

    @router.post(
        "/events/{burst_id}/measurements",
        status_code=201,
        response_model=BurstDetail,
        responses={**writing, 200: {"model": BurstDetail, "description": "This very measurement was there already."}},
        openapi_extra={"requestBody": {"required": True, "content": _MEASUREMENT_BODIES}},
    )
    async def measure(request: Request, burst_id: BurstId, asker: Submitter) -> Response:
        """Add a measurement; the first detection stays what it was."""
        kind = _media_type(request)
        if kind in YAML_TYPES:
            body: Any = parse_yaml(await request.body())
        elif kind == "application/json":
            body = parse_json(await request.body())
        else:
            raise HTTPException(415, "application/json or application/yaml")
        return await outcome_told(await intake.measure(burst_id, _validated(MeasurementIn, body), asker))

    @router.post("/events/{burst_id}/ratings", status_code=201, response_model=BurstDetail, responses=writing)
    async def rate(burst_id: BurstId, sent: RatingIn, asker: Rater) -> Response:
        """Say what you think of a burst; your last vote counts, all are kept."""
        await intake.rate(burst_id, sent, asker)
        return await told(burst_id, status_code=201)

    @router.post("/events/{burst_id}/status", status_code=201, response_model=BurstDetail, responses=writing)
    async def decide(burst_id: BurstId, sent: StatusIn, asker: Operator) -> Response:
        """Confirm or reject a burst, or make it a candidate again."""
        await intake.set_status(burst_id, FrbStatus(sent.status.upper()), sent.reason, asker)
        return await told(burst_id, status_code=201)

    @router.post("/events/{burst_id}/withdrawal", status_code=201, response_model=BurstDetail, responses=writing)
    async def withdraw(burst_id: BurstId, sent: WithdrawalIn, asker: Withdrawer) -> Response:
        """Withdraw a burst for good: your own, or with the role operate any."""
        await intake.set_status(burst_id, FrbStatus.WITHDRAWN, sent.reason, asker)
        return await told(burst_id, status_code=201)

    @router.post("/events/{burst_id}/tns-name", status_code=201, response_model=BurstDetail, responses=writing)
    async def name(burst_id: BurstId, sent: NameIn, asker: Operator) -> Response:
        """Give a burst its name at the Transient Name Server."""
        await intake.name(burst_id, sent.tns_name, asker)
        return await told(burst_id, status_code=201)

    @router.get("/events", response_model=BurstPage, responses=asked, dependencies=to_read, openapi_extra=by_anybody)
    async def list_bursts(query: Annotated[PageQuery, Query()]) -> Response:
        """List bursts, the newest arrival first unless another order is asked for."""
        page = await reader.page(query.filters(), limit=query.limit, cursor=query.cursor, order=query.sorting())
        return _json(f'{{"items": [{", ".join(page.items)}], "next": {json.dumps(page.cursor)}}}')

    @router.get(
        "/events/export",
        response_class=Response,
        responses={
            **asked,
            200: {
                "description": "The lines of a list, all of them.",
                "content": {media_type: {} for media_type in FORMATS.values()},
            },
        },
        dependencies=to_read,
        openapi_extra=by_anybody,
    )
    async def export(query: Annotated[ExportQuery, Query()]) -> Response:
        """Download all bursts that pass the filters in the order of the list, as CSV, VOTable or JSON.

        In CSV, a text that a spreadsheet would take for a formula has an apostrophe before it.
        """
        lines = await begun(reader.lines(query.filters(), query.sorting()))
        return StreamingResponse(
            exported(lines, query.format),
            media_type=FORMATS[query.format],
            headers={"Content-Disposition": f'attachment; filename="bursts.{query.format}"'},
        )

    @router.get(
        "/events/{burst_id}",
        response_model=BurstDetail,
        responses=asked,
        dependencies=to_read,
        openapi_extra=by_anybody,
    )
    async def show(burst_id: BurstId) -> Response:
        """Return everything known of a burst."""
        return await told(burst_id, status_code=200)

    @router.get(
        "/events/{burst_id}/images/{name}",
        response_class=Response,
        responses={**asked, 200: {"description": "The image.", "content": {"image/png": {}, "image/jpeg": {}}}},
        dependencies=to_read,
        openapi_extra=by_anybody,
    )
    async def image(burst_id: BurstId, name: Literal["search", "image", "histogram"]) -> Response:
        """Return an image of a burst."""
        blob = await reader.image(burst_id, name)
        if blob is None:
            raise ProblemError(404, "Not found", f"burst {burst_id} has no image {name}")
        data = await asyncio.to_thread(blobs.get, blob)
        who = "public" if settings.public_reading else "private"
        headers = {"Cache-Control": f"{who}, max-age=31536000, immutable", "ETag": f'"{blob.sha256}"'}
        return Response(data, media_type=blob.media_type, headers=headers)

    @router.get(
        "/stream",
        response_class=Response,
        responses={**asked, 200: {"description": "Server-sent events.", "content": {"text/event-stream": {}}}},
        dependencies=[*to_read, Depends(following)],
        openapi_extra=by_anybody,
    )
    async def stream(
        last_event_id: Annotated[
            str | None, Header(max_length=64, description="Go on behind this event; without it, from now on.")
        ] = None,
    ) -> Response:
        """Follow every change of every burst, as it is committed."""
        return await follower.response(last_event_id)

    @router.get("/me", response_model=Me, responses=_responses(401, 429, 503))
    async def me(request: Request) -> Response:
        """Say who the credentials belong to."""
        try:
            caller = await doorkeeper.identify(request)
        except AccessError as error:
            turn_away(error)
        return _json(json.dumps({"name": caller.name, "roles": sorted(caller.roles)}))

    return router


_YAML_PART = {"type": "string", "description": "YAML, as a text or a file."}
_IMAGE_PART = {"type": "string", "format": "binary", "description": "A PNG or JPEG file."}
_BURST_BODIES: dict[str, Any] = {
    "application/json": {"schema": CompleteBurstIn.model_json_schema()},
    "multipart/form-data": {
        "schema": {
            "type": "object",
            "required": ["radio_measurement"],
            "properties": {
                "radio_measurement": _YAML_PART,
                "observation": _YAML_PART,
                "is_test": {"type": "boolean", "default": False},
                **dict.fromkeys(IMAGES, _IMAGE_PART),
            },
        }
    },
}
_MEASUREMENT_BODIES: dict[str, Any] = {
    kind: {"schema": MeasurementIn.model_json_schema()} for kind in ("application/json", "application/yaml")
}


async def _burst_from_parts(request: Request, settings: FrbIntakeSection) -> tuple[CompleteBurstIn, list[Upload]]:
    form = await read_form(request)
    measurement = parse_yaml(await _text(form.get("radio_measurement"), "radio_measurement"), field="radio_measurement")
    observation = form.get("observation")
    body: dict[str, Any] = {name: measurement[name] for name in YAML_ONLY if measurement.get(name) is not None}
    body["measurement"] = {name: value for name, value in measurement.items() if name not in YAML_ONLY}
    if observation is not None:
        body["observation"] = parse_yaml(await _text(observation, "observation"), field="observation")
    if (is_test := form.get("is_test")) is not None:
        # The part of a form is text, whatever it means; what is neither of the two is refused by its name.
        body["is_test"] = _BOOLEANS.get(is_test, is_test) if isinstance(is_test, str) else "a file"
    sent = _validated(CompleteBurstIn, body)
    images = await read_images(form, IMAGES, max_bytes=settings.max_image_bytes, max_pixels=settings.max_image_pixels)
    return sent, images


async def _text(part: Any, name: str) -> bytes:
    if part is None:
        raise InvalidInputError(name, "missing", "the YAML of the seed format as a part of the form")
    return part.encode() if isinstance(part, str) else await part.read()


def _validated(model: Any, body: Any) -> Any:
    try:
        return model.model_validate(body)
    except ValidationError as error:
        raise ProblemError.from_validation(error) from error


def _media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _json(text: str, *, status_code: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(text, status_code=status_code, headers=headers, media_type="application/json")


def _responses(*codes: int) -> dict[int | str, dict[str, Any]]:
    return {code: PROBLEM_RESPONSES[code] for code in codes if code in PROBLEM_RESPONSES}
