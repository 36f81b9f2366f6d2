"""Coincidences: the table of all pairs, and the page of each with how both lie in time, on the sky and in distance."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse, StreamingResponse
from markupsafe import Markup
from pydantic import Field

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
from services.console.columns import Column
from services.console.export import as_file
from services.console.pages.listing import LINES, After, FileFormat, Limit, ListingQuery, Moment, Way
from services.console.site import Site
from services.console.superevent_history import Answer, soon
from shared.events.blob import BlobRef
from shared.http.problems import ProblemError

NAME = re.compile(r"([0-9A-Za-z]{1,40})-([0-9]{1,18})")
STATES = ("ANNOUNCED", "NOT_ANNOUNCED", "WITHDRAWN", "OUTSIDE")


class FilterQuery(ListingQuery):
    """The filters, as a form sends them."""

    since: Moment | None = None
    until: Moment | None = None
    state: Literal["ANNOUNCED", "NOT_ANNOUNCED", "WITHDRAWN", "OUTSIDE"] | None = None
    announced: Literal["yes", "no"] | None = None
    test: Literal["yes", "no"] | None = None
    odds_min: Limit | None = None
    superevent: Annotated[str, Field(max_length=40, pattern=r"^[0-9A-Za-z]*$")] | None = None
    burst: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    sort: Literal["decided", "time", "odds", "far"] = "decided"
    order: Way = "desc"

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


class TableQuery(FilterQuery):
    """A page of the table."""

    after: After = None


class ExportQuery(FilterQuery):
    """All of it in a file."""

    format: FileFormat = "csv"


COLUMNS = (
    Column("Coincidence", "The superevent and the number of the burst; it is the key on mma.coincidences."),
    Column("Time of the wave", "At the geocentre.", "time"),
    Column(
        "State",
        "Announced: told, and it stands. Not announced: something speaks against it. Withdrawn: the wave was retracted,"
        " or the burst withdrawn or rejected. Outside: it was in a window once, and a correction took it out.",
    ),
    Column("Offset", "Burst less wave; above 0 the burst came later.", is_number=True),
    Column("Overlap", "Of the positions: 1 says nothing, far above 1 they agree.", is_number=True),
    Column(
        "Joint false alarms",
        "How often chance does as well in time and place, before trials.",
        "far",
        largest_first=False,
        is_number=True,
    ),
    Column("Odds", "A common source against chance.", "odds", is_number=True),
    Column(
        "Decided",
        "When the newest decision was taken; every newer alert, map or revision of the burst leads to one.",
        "decided",
    ),
)


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
        page, total = await asyncio.gather(
            table.page(query.filters, query.table_order, limit=LINES, cursor=query.after), table.count(query.filters)
        )
        return site.pages.page(
            request,
            visitor,
            "coincidences.html",
            query=query,
            page=page,
            heads=query.heads("/mma", COLUMNS, query.table_order),
            total=total,
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
        lines = table.all_lines(query.filters, query.table_order)
        return await as_file(lines, EXPORTED, name="coincidences", file_format=query.format)

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
