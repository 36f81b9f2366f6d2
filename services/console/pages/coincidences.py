"""Coincidences: the table of all pairs, and the page of each with how both lie in time, on the sky and in distance."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse, StreamingResponse
from markupsafe import Markup
from pydantic import AfterValidator, BaseModel, Field, model_validator

from services.console.charts.maps import BurstDistance, DistanceDrawings, SkyDrawings
from services.console.charts.sky import Ellipse
from services.console.charts.timeline import timeline
from services.console.coincidences import (
    COUNTED_AT_MOST,
    EXPORTED,
    MAX_DECISIONS,
    SECONDS_PER_YEAR,
    Filters,
    Order,
    Pair,
    PairTable,
    Sort,
    plain,
    read_pair,
)
from services.console.site import Site
from services.console.superevent_history import Answer, soon
from shared.events.blob import BlobRef
from shared.http.problems import ProblemError

LINES = 50
NAME = re.compile(r"([0-9A-Za-z]{1,40})-([0-9]{1,18})")
STATES = ("ANNOUNCED", "NOT_ANNOUNCED", "WITHDRAWN", "OUTSIDE")
FIRST, LAST = datetime(1000, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)


def _in_utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


Moment = Annotated[datetime, AfterValidator(_in_utc), Field(ge=FIRST, le=LAST)]


class FilterQuery(BaseModel):
    """The filters, as a form sends them: what is left empty is any."""

    model_config = {"extra": "forbid"}

    since: Moment | None = None
    until: Moment | None = None
    state: Literal["ANNOUNCED", "NOT_ANNOUNCED", "WITHDRAWN", "OUTSIDE"] | None = None
    announced: Literal["yes", "no"] | None = None
    test: Literal["yes", "no"] | None = None
    odds_min: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    superevent: Annotated[str, Field(max_length=40, pattern=r"^[0-9A-Za-z]*$")] | None = None
    burst: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    sort: Literal["decided", "time", "odds", "far"] = "decided"
    order: Literal["asc", "desc"] = "desc"

    @model_validator(mode="before")
    @classmethod
    def _without_empty(cls, sent: Any) -> Any:
        return {name: value for name, value in sent.items() if value != ""} if isinstance(sent, dict) else sent

    @property
    def filters(self) -> Filters:
        """What they ask for."""
        return Filters(
            since=self.since,
            until=self.until,
            state=self.state,
            is_announced=None if self.announced is None else self.announced == "yes",
            is_test=None if self.test is None else self.test == "yes",
            odds_min=self.odds_min,
            superevent_id=self.superevent,
            frb_id=self.burst,
        )

    @property
    def table_order(self) -> Order:
        """The order asked for."""
        return Order(Sort[self.sort], descending=self.order == "desc")

    def address(self, path: str, **changes: Any) -> str:
        """Return the address of this question with some of it changed; None leaves out."""
        known = self.model_dump(mode="json", exclude_defaults=True) | changes
        told = {name: value for name, value in known.items() if value is not None}
        return f"{path}?{urlencode(told)}" if told else path


class TableQuery(FilterQuery):
    """A page of the table."""

    after: Annotated[str, Field(max_length=400)] | None = None


class ExportQuery(FilterQuery):
    """All of it in a file."""

    format: Literal["csv", "json"] = "csv"


@dataclass(frozen=True)
class Column:
    """A column of the table; `field` is its name in the help, `sort` None when it is no order."""

    field: str
    sort: Sort | None = None
    largest_first: bool = True
    is_number: bool = False


COLUMNS = (
    Column("pair"),
    Column("event_time", Sort.time),
    Column("state"),
    Column("offset", is_number=True),
    Column("overlap", is_number=True),
    Column("far", Sort.far, largest_first=False, is_number=True),
    Column("odds", Sort.odds, is_number=True),
    Column("decided", Sort.decided),
)


@dataclass(frozen=True)
class Head:
    """The head of a column with the address that sorts by it."""

    column: Column
    address: str | None
    direction: str | None


def routes(site: Site) -> APIRouter:
    """Return the routes."""
    router = APIRouter(include_in_schema=False)
    table = PairTable(site.pool)
    skies = SkyDrawings(site.blobs, site.compute)
    distances = DistanceDrawings(site.blobs, site.compute)

    async def existing(name: str) -> Pair:
        matched = NAME.fullmatch(name)
        pair = await read_pair(site.pool, matched[1], int(matched[2])) if matched else None
        if pair is None:
            raise ProblemError(404, "Not found", f"no wave and burst were compared as {name[:80]}")
        return pair

    async def file(reference: BlobRef | None, *, name: str) -> Response:
        if reference is None:
            raise ProblemError(404, "Not found", f"there is no {name}")
        data = await asyncio.to_thread(site.blobs.get, reference)
        headers = {"Content-Disposition": f'attachment; filename="{name}"'}
        return Response(data, media_type=reference.media_type, headers=headers)

    @router.get("/mma")
    async def show_table(request: Request, query: Annotated[TableQuery, Query()]) -> HTMLResponse:
        visitor = await site.sessions.reader(request)
        page = await table.page(query.filters, query.table_order, limit=LINES, cursor=query.after)
        return site.pages.page(
            request,
            visitor,
            "coincidences.html",
            query=query,
            page=page,
            heads=[_head(column, query) for column in COLUMNS],
            total=await table.count(query.filters),
            counted_at_most=COUNTED_AT_MOST,
            is_filtered=query.filters != Filters(),
            is_partial=query.table_order.is_partial,
            here=query.address("/mma"),
            states=[(state, plain(state)) for state in STATES],
            seconds_per_year=SECONDS_PER_YEAR,
        )

    @router.get("/mma/export")
    async def export(request: Request, query: Annotated[ExportQuery, Query()]) -> StreamingResponse:
        await site.sessions.reader(request)
        batches = table.all_lines(query.filters, query.table_order)
        first = await anext(batches)  # what fails, fails before the answer begins
        chunks = _as_csv(first, batches) if query.format == "csv" else _as_json(first, batches)
        return StreamingResponse(
            chunks,
            media_type="text/csv; charset=utf-8" if query.format == "csv" else "application/json",
            headers={"Content-Disposition": f'attachment; filename="coincidences.{query.format}"'},
        )

    @router.get("/mma/{name}")
    async def show(request: Request, name: str) -> HTMLResponse:
        visitor = await site.sessions.reader(request)
        pair = await existing(name)
        sky, distance = await asyncio.gather(
            soon(skies.draw(**_sky(pair))), soon(distances.draw(pair.skymap, **_distance(pair)))
        )
        return site.pages.page(
            request,
            visitor,
            "coincidence.html",
            pair=pair,
            line=pair.line,
            timeline=_timeline(pair),
            sky=sky if pair.skymap or _ellipses(pair) else Answer(None, is_coming=False),
            distance=distance,
            is_coming=sky.is_coming or distance.is_coming,
            numbers=_numbers(pair),
            notices=await site.fetch(
                "SELECT * FROM notifier.delivery_lines WHERE subject = $1 ORDER BY decided_at, id", f"mma/{pair.name}"
            ),
            max_decisions=MAX_DECISIONS,
            plain=plain,
        )

    @router.get("/mma/{name}/notice.json")
    async def notice(request: Request, name: str) -> Response:
        await site.sessions.reader(request)
        record = (await existing(name)).record
        return await file(record.gcn_notice if record else None, name=f"{name}-notice.json")

    @router.get("/mma/{name}/record.json")
    async def record(request: Request, name: str) -> Response:
        await site.sessions.reader(request)
        told = (await existing(name)).record
        if told is None:
            raise ProblemError(404, "Not found", "nothing was told of this pair")
        headers = {"Content-Disposition": f'attachment; filename="{name}-record.json"'}
        return Response(told.model_dump_json(indent=1), media_type="application/json", headers=headers)

    @router.get("/mma/{name}/combined.fits")
    async def combined(request: Request, name: str) -> Response:
        await site.sessions.reader(request)
        told = (await existing(name)).record
        scores = told.scores if told else None
        return await file(scores.combined_skymap if scores else None, name=f"{name}-combined.fits")

    return router


def _head(column: Column, query: TableQuery) -> Head:
    if column.sort is None:
        return Head(column, None, None)
    is_sorted = query.sort == column.sort.name
    largest_first = query.order == "asc" if is_sorted else column.largest_first
    direction = {"asc": "ascending", "desc": "descending"}[query.order] if is_sorted else None
    order = "desc" if largest_first else "asc"
    return Head(column, query.address("/mma", sort=column.sort.name, order=order, after=None), direction)


# The drawings.


def _timeline(pair: Pair) -> Markup | None:
    offset, burst = pair.offset_s, pair.burst
    if offset is None or burst is None:
        return None
    side = "after" if offset >= 0 else "before"
    return timeline(
        offset,
        burst.time_err_s,
        pair.windows(),
        title=f"{pair.name} in time",
        description=f"The burst came {abs(offset):.4g} seconds {side} the wave, give or take {burst.time_err_s:.2g}.",
    )


def _ellipses(pair: Pair) -> list[Ellipse]:
    found = pair.burst.localisation if pair.burst else None
    if found is None:
        return []
    label = f"burst {pair.line['frb_id']}: {100 * found.confidence_level:.3g} % region"
    return [
        Ellipse(
            found.ra_deg, found.dec_deg, found.semi_major_deg, found.semi_minor_deg, found.position_angle_deg, label
        )
    ]


def _sky(pair: Pair) -> dict[str, Any]:
    burst = pair.burst.localisation if pair.burst else None
    words = ["Where the wave came from, and where the burst came from."]
    if burst is not None:
        words.append(f"The burst: right ascension {burst.ra_deg:.3f}, declination {burst.dec_deg:.3f} degrees.")
    if pair.scores is not None and pair.scores.credible_level is not None:
        words.append(f"It lies on the edge of the wave's {100 * pair.scores.credible_level:.3g} % region.")
    return {
        "maps": [(pair.skymap, str(pair.line["superevent_id"]), "wave")] if pair.skymap else [],
        "above": _ellipses(pair),
        "title": f"{pair.name} on the sky",
        "description": " ".join(words),
    }


def _distance(pair: Pair) -> dict[str, Any]:
    burst, scores = pair.burst, pair.scores
    position = burst.localisation if burst else None
    known = BurstDistance(
        ra_deg=position.ra_deg if position else None,
        dec_deg=position.dec_deg if position else None,
        dm_excess_pc_cm3=burst.dm_excess_pc_cm3 if burst else None,
        redshift=burst.redshift if burst else None,
        low_mpc=scores.burst_distance_low_mpc if scores else None,
        high_mpc=scores.burst_distance_high_mpc if scores else None,
        cosmology=pair.burst_state.get("cosmology") or "Planck18",
    )
    words = []
    if scores is not None and scores.wave_distance_mean_mpc is not None:
        words.append(f"The wave came from about {scores.wave_distance_mean_mpc:.3g} megaparsecs.")
    if known.low_mpc is not None and known.high_mpc is not None:
        words.append(f"The burst came from {known.low_mpc:.3g} to {known.high_mpc:.3g} megaparsecs.")
    return {"burst": known, "title": f"{pair.name} in distance", "description": " ".join(words) or "Distances."}


# The numbers.


@dataclass(frozen=True)
class Number:
    """A number of the record; `field` is its name in the help."""

    field: str
    value: float | None
    unit: str = ""
    error: float | None = None
    text: str | None = None


def _numbers(pair: Pair) -> list[Number]:
    scores = pair.scores
    if scores is None:
        return []
    low, high = scores.burst_distance_low_mpc, scores.burst_distance_high_mpc
    known = None if low is None or high is None else f"{low:.4g} to {high:.4g} Mpc"
    background = scores.background
    counted = None
    if background is not None:
        counted = (
            f"{background.rate_per_year:.3g} per yr ({background.rate_low_per_year:.3g} to"
            f" {background.rate_high_per_year:.3g}, 68 %), {background.n_louder} in {background.years:.4g} yr"
        )
    return [
        Number("time_offset_s", scores.time_offset_s, "s", scores.time_offset_err_s),
        Number("window", None, text=f"{plain(scores.window)}, burst less wave {-scores.window_high_s:g}"
               f" to {-scores.window_low_s:g} s".replace("-", "\N{MINUS SIGN}")),
        Number("overlap_sky", scores.overlap_sky),
        Number("overlap_3d", scores.overlap_3d),
        Number("distance_factor", scores.distance_factor),
        Number("credible_level", None if scores.credible_level is None else 100 * scores.credible_level, "%"),
        Number("probdensity_per_sr", scores.probdensity_per_sr, "sr⁻¹"),
        Number("wave_distance_mpc", scores.wave_distance_mean_mpc, "Mpc", scores.wave_distance_std_mpc),
        Number("burst_distance_mpc", None, text=known),
        Number("far_time_hz", scores.far_time_hz * SECONDS_PER_YEAR, "per yr"),
        Number(
            "far_space_time_hz",
            None if scores.far_space_time_hz is None else scores.far_space_time_hz * SECONDS_PER_YEAR,
            "per yr",
        ),
        Number("trials_factor", scores.trials_factor),
        Number("burst_rate_per_year", scores.burst_rate_per_year, "per yr"),
        Number("odds", scores.odds),
        Number("prior_odds", scores.prior_odds),
        Number("background", None, text=counted),
    ]  # fmt: skip


# Files.

Lines = Sequence[Mapping[str, Any]]


async def _as_csv(first: Lines, others: AsyncIterator[Lines]) -> AsyncIterator[str]:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(EXPORTED)
    async for lines in _from(first, others):
        writer.writerows([_plain(line[name], in_table=True) for name in EXPORTED] for line in lines)
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()


async def _as_json(first: Lines, others: AsyncIterator[Lines]) -> AsyncIterator[str]:
    opening = "["
    async for lines in _from(first, others):
        if lines:
            told = (json.dumps({name: _plain(line[name]) for name in EXPORTED}) for line in lines)
            yield opening + ",\n".join(told)
            opening = ",\n"
    yield "[]" if opening == "[" else "]"


async def _from(first: Lines, others: AsyncIterator[Lines]) -> AsyncIterator[Lines]:
    yield first
    async for lines in others:
        yield lines


def _plain(value: Any, *, in_table: bool = False) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if in_table and isinstance(value, str) and value[:1] in "=+-@\t\r" and value:
        # A spreadsheet would take it for a formula.
        return f"'{value}"
    return value
