"""Superevents: the table of them, the page of each with its sky map and history, and the files behind it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse, StreamingResponse
from markupsafe import Markup
from pydantic import Field

from services.console.charts.histogram import histogram
from services.console.charts.maps import SkyDrawings
from services.console.columns import Column
from services.console.export import as_file
from services.console.pages.listing import LINES, After, FileFormat, Limit, ListingQuery, Moment, Way
from services.console.site import Site, age_text
from services.console.superevent_history import Answer, MapComparisons, MapLine, Superevent, read_superevent, soon
from services.console.superevents import (
    COUNTED_AT_MOST,
    EXPORTED,
    Filters,
    Order,
    Sort,
    SupereventTable,
    far_text,
    short,
)
from shared.events.blob import BlobRef
from shared.events.gw import AlertType, RawFormat, SupereventKind
from shared.http.problems import ProblemError

SUPEREVENT_ID = re.compile(r"[0-9A-Za-z]{1,40}")
FITS_TYPE, BYTES_TYPE = "application/fits", "application/octet-stream"
RAW_ENDINGS = {RawFormat.AVRO: "avro", RawFormat.JSON: "json"}
CLASSES = {
    "BNS": "two neutron stars",
    "NSBH": "a neutron star and a black hole",
    "BBH": "two black holes",
    "Terrestrial": "noise of detectors and surroundings",
}
PROPERTIES = {
    "HasNS": "one of the two weighs like a neutron star",
    "HasRemnant": "matter was left outside, which may shine",
    "HasMassGap": "one of the two weighs 3 to 5 solar masses",
    "HasSSM": "one of the two weighs less than a star that collapses can",
}


COLUMNS = (
    Column("Time", "When the wave arrived", "time"),
    Column("Superevent", "Its name; MS and TS are mock and test", "id"),
    Column("Alert", "Type of the current alert", "type", largest_first=False),
    Column("Group", "Search group and pipeline", "group", largest_first=False),
    Column("Class", "The most probable source", "classification", largest_first=False),
    Column("False alarms", "How often noise looks as good", "far", largest_first=False, is_number=True),
    Column("50 % area", "Smallest area with half of the probability", "area_50", largest_first=False, is_number=True),
    Column("90 % area", "Smallest area with 90 % of it", "area_90", largest_first=False, is_number=True),
    Column("Distance", "Luminosity distance over the whole sky", "distance", largest_first=False, is_number=True),
    Column("Significant", "Whether the IGWN calls it significant", "significance"),
    Column("State", "Open, or retracted for good", "state", largest_first=False),
    Column("Alerts", "Alerts so far", "alerts", is_number=True),
)


Word = Annotated[str, Field(max_length=200, pattern=r"^[^\x00]*$")]
Choice = Literal["time", "id", "kind", "type", "group", "classification", "far", "area_50", "area_90", "distance",
                 "significance", "state", "alerts"]  # fmt: skip


class FilterQuery(ListingQuery):
    """The filters, as a form sends them."""

    since: Moment | None = None
    until: Moment | None = None
    id: Annotated[str, Field(max_length=40, pattern=r"^[0-9A-Za-z]*$")] | None = None
    kind: Literal["REAL", "MOCK", "TEST"] | None = None
    type: Literal["EARLYWARNING", "PRELIMINARY", "INITIAL", "UPDATE", "RETRACTION"] | None = None
    group: Word | None = None
    classification: Word | None = None
    far_max: Limit | None = None
    area_90_max: Limit | None = None
    distance_max: Limit | None = None
    significant: Literal["yes", "no"] | None = None
    state: Literal["OPEN", "RETRACTED"] | None = None
    sort: Choice = "time"
    order: Way = "desc"

    @property
    def filters(self) -> Filters:
        """What they ask for."""
        return Filters(
            since=self.since,
            until=self.until,
            kind=self.kind,
            alert_type=self.type,
            search_group=self.group,
            source_class=self.classification,
            far_max_per_year=self.far_max,
            area_90_max_deg2=self.area_90_max,
            distance_max_mpc=self.distance_max,
            significant=None if self.significant is None else self.significant == "yes",
            state=self.state,
            prefix=self.id,
        )

    @property
    def table_order(self) -> Order:
        """In which order."""
        return Order(Sort[self.sort], descending=self.order == "desc")


class TableQuery(FilterQuery):
    """A page of the table."""

    after: After = None


class ExportQuery(FilterQuery):
    """All lines, as a file."""

    format: FileFormat = "csv"


def routes(site: Site) -> APIRouter:
    """Return the routes."""
    router = APIRouter(include_in_schema=False)
    table = SupereventTable(site.pool)
    comparisons = MapComparisons(site.compute, site.blobs)
    drawings = SkyDrawings(site.blobs, site.compute)

    async def existing(superevent_id: str) -> Superevent:
        found = None
        if SUPEREVENT_ID.fullmatch(superevent_id):
            found = await read_superevent(site.pool, superevent_id)
        if found is None:
            raise ProblemError(404, "Not found", f"no alert has told of a superevent {superevent_id[:60]}")
        return found

    async def file(reference: BlobRef, *, media_type: str, name: str | None = None) -> Response:
        data = await asyncio.to_thread(site.blobs.get, reference)
        who = "public" if site.settings.public_reading else "private"
        headers = {"Cache-Control": f"{who}, max-age=31536000, immutable", "ETag": f'"{reference.sha256}"'}
        if name is not None:
            headers["Content-Disposition"] = f'attachment; filename="{name}"'
        return Response(data, media_type=media_type, headers=headers)

    @router.get("/gw")
    async def show_table(request: Request, query: Annotated[TableQuery, Query()]) -> HTMLResponse:
        visitor = await site.sessions.reader(request)
        page, total, values = await asyncio.gather(
            table.page(query.filters, query.table_order, limit=LINES, cursor=query.after),
            table.count(query.filters),
            table.values(),
        )
        return site.pages.page(
            request,
            visitor,
            "superevents.html",
            query=query,
            page=page,
            heads=query.heads("/gw", COLUMNS, query.table_order),
            total=total,
            counted_at_most=COUNTED_AT_MOST,
            is_filtered=query.filters != Filters(),
            here=query.address("/gw"),
            options=_options(values),
            far_text=far_text,
        )

    @router.get("/gw/export")
    async def export(request: Request, query: Annotated[ExportQuery, Query()]) -> StreamingResponse:
        await site.sessions.reader(request)
        lines = table.all_lines(query.filters, query.table_order)
        return await as_file(lines, EXPORTED, name="superevents", file_format=query.format)

    @router.get("/gw/{superevent_id}")
    async def show(
        request: Request, superevent_id: str, map_id: Annotated[UUID | None, Query(alias="map")] = None
    ) -> HTMLResponse:
        visitor = await site.sessions.reader(request)
        superevent = await existing(superevent_id)
        shown = _shown(superevent, map_id)
        changes = superevent.changes()
        drawing: Answer[Markup] = Answer(None, is_coming=False)
        if shown is not None:
            drawing = await soon(drawings.draw(**_figure(superevent, shown)))
        agreements = await comparisons.agreements(changes)
        is_coming = drawing.is_coming or any(answer.is_coming for answer in agreements.values())
        subject = f"gw/{superevent.superevent_id}"
        return site.pages.page(
            request,
            visitor,
            "superevent.html",
            superevent=superevent,
            shown=shown,
            asked=map_id,
            links=[(name, link) for name, link in _links(superevent) if link.startswith(("https://", "http://"))],
            drawing=drawing,
            changes=changes,
            agreements=agreements,
            is_coming=is_coming,
            classification=_bars(superevent.event.classification if superevent.event else {}, CLASSES),
            properties=_bars(superevent.event.properties if superevent.event else {}, PROPERTIES),
            chirp_mass=_chirp_mass(superevent),
            notices=await site.fetch(
                "SELECT * FROM notifier.delivery_lines WHERE subject = $1 ORDER BY id DESC", subject
            ),
            coincidences=await site.fetch(
                "SELECT frb_id, internal_name, state, reason, odds, time_offset_s, decided_at"
                " FROM coincidence.pair_lines WHERE superevent_id = $1 ORDER BY decided_at DESC, frb_id",
                superevent.superevent_id,
            ),
            far_text=far_text,
            short=short,
            later=_later,
        )

    @router.get("/gw/{superevent_id}/pictures/{event_id}.png")
    async def picture(request: Request, superevent_id: str, event_id: UUID) -> Response:
        await site.sessions.reader(request)
        found = (await existing(superevent_id)).map(event_id)
        if found is None or found.picture is None:
            raise ProblemError(404, "Not found", "there is no such picture, or it is not drawn yet")
        return await file(found.picture, media_type="image/png")

    @router.get("/gw/{superevent_id}/alerts/{event_id}/raw")
    async def raw(request: Request, superevent_id: str, event_id: UUID) -> Response:
        await site.sessions.reader(request)
        found = (await existing(superevent_id)).alert(event_id)
        if found is None:
            raise ProblemError(404, "Not found", f"{superevent_id[:60]} has no such alert")
        record = found.record
        ending = RAW_ENDINGS.get(record.raw_format, "bin")
        name = f"{record.superevent_id}-{record.sequence}-{record.alert_type.lower()}.{ending}"
        return await file(record.raw, media_type=BYTES_TYPE, name=name)

    @router.get("/gw/{superevent_id}/maps/{event_id}/{product}")
    async def product(
        request: Request, superevent_id: str, event_id: UUID, product: Literal["source", "canonical", "moc50", "moc90"]
    ) -> Response:
        await site.sessions.reader(request)
        superevent = await existing(superevent_id)
        found = superevent.map(event_id)
        if found is None:
            raise ProblemError(404, "Not found", f"{superevent_id[:60]} has no such map")
        skymap = found.skymap
        references = {
            "source": (skymap.source, "skymap"),
            "canonical": (skymap.canonical, "skymap-canonical"),
            "moc50": (skymap.moc_50, "moc-50"),
            "moc90": (skymap.moc_90, "moc-90"),
        }
        reference, what = references[product]
        alert = superevent.alert(found.alert_event_id)
        sequence = alert.record.sequence if alert else 0
        name = f"{superevent.superevent_id}-{sequence}-{found.map_kind.lower()}-{what}.fits"
        return await file(reference, media_type=FITS_TYPE, name=name)

    return router


def _options(values: Mapping[Sort, Sequence[str]]) -> dict[str, list[tuple[str, str]]]:
    """Return what fields of choice offer: what is sent, and what is shown."""
    kinds = [kind for kind in SupereventKind if kind is not SupereventKind.UNKNOWN]
    types = [kind for kind in AlertType if kind is not AlertType.UNKNOWN]
    return {
        "kind": [(kind, kind.lower()) for kind in kinds],
        "type": [(kind, kind.lower().replace("earlyw", "early w")) for kind in types],
        **{sort.name: [(value, value) for value in found] for sort, found in values.items()},
    }


def _shown(superevent: Superevent, map_id: UUID | None) -> MapLine | None:
    """Return the map to show: the one asked for, else the newest of the wave."""
    if map_id is not None and (asked := superevent.map(map_id)) is not None:
        return asked
    return superevent.newest_maps[0] if superevent.newest_maps else None


def _links(superevent: Superevent) -> Sequence[tuple[str, str]]:
    return sorted(superevent.alerts[-1].record.urls.items()) if superevent.alerts else []


def _figure(superevent: Superevent, shown: MapLine) -> dict[str, Any]:
    alert = superevent.alert(shown.alert_event_id)
    what = "" if alert is None else f", {alert.record.alert_type.lower()} alert, {shown.name}"
    skymap = shown.skymap
    return {
        "maps": [(skymap.canonical, "wave", "wave")],
        "title": f"Sky map of {superevent.superevent_id}{what}",
        "description": (
            f"Half of the probability lies in {short(skymap.area_50_deg2)} square degrees, 90 % in"
            f" {short(skymap.area_90_deg2)}; most probable is right ascension {skymap.ra_deg:.2f}, declination"
            f" {skymap.dec_deg:.2f} degrees."
        ),
    }


def _later(begin: datetime, end: datetime) -> str:
    """Return how long after it something was."""
    words = age_text(begin, end)
    return words.replace(" ago", " later") if words.endswith(" ago") else words.removeprefix("in ") + " earlier"


@dataclass(frozen=True)
class Bar:
    """A probability, and what of."""

    name: str
    meaning: str
    value: float


def _bars(values: Mapping[str, float], meanings: Mapping[str, str]) -> Sequence[Bar]:
    """Return probabilities, the largest first."""
    bars = [Bar(name, meanings.get(name, ""), value) for name, value in values.items()]
    return sorted(bars, key=lambda bar: (-bar.value, bar.name))


def _chirp_mass(superevent: Superevent) -> Markup | None:
    source = superevent.event.mchirp_source if superevent.event else None
    if source is None or len(source.bin_edges) != len(source.probabilities) + 1:
        return None
    return histogram(
        source.bin_edges,
        source.probabilities,
        title=f"Chirp mass of {superevent.superevent_id}",
        x_label="Chirp mass of the source (solar masses)",
    )
