"""Bursts: the table, a page for each, and what people say and decide about them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from functools import lru_cache
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse, StreamingResponse
from markupsafe import Markup

from services.console import bursts
from services.console.access import LoginNeededError, Visitor
from services.console.catalogue import Field
from services.console.charts import sky
from services.console.charts.dm_budget import budget_of, dm_budget
from services.console.site import Site
from services.console.survey import Seen
from shared.http.problems import ProblemError
from shared.sky.localisation import Ellipse

EVENTS = "/api/v1/events"
PICTURES = {"image/png", "image/jpeg"}
KEPT = {"Cache-Control": "private, max-age=86400, immutable"}
# An image of a burst never changes; who may see it, may.
REFUSED_HERE = {400, 422}
# By the intake: told above the form of filters, with what was filled in.
TYPED = ("form", "rating", "note", "status", "reason")
# Into the forms of a page.
DRAWINGS = 256
LISTED = 25
# Objects of a catalogue in the table of a burst; they have numbers in the drawing.
NOTICES = """
SELECT id, channel, channel_kind, mode, revision, action, is_test, state, reason, attempts, decided_at, changed_at,
       next_attempt_at, reference, tns_name
FROM notifier.delivery_lines WHERE subject = $1 ORDER BY id
"""


def routes(site: Site) -> APIRouter:
    """Return the routes."""
    router = APIRouter(include_in_schema=False)

    @router.get("/frb")
    async def table(request: Request) -> HTMLResponse:
        visitor = await site.sessions.reader(request)
        query = request.query_params
        filters, order = bursts.asked(query, bursts.FILTERS), bursts.asked(query, bursts.ORDER)
        paging = bursts.asked(query, bursts.PAGING)
        limit = {name: value for name, value in paging.items() if name == "limit"}
        refused: ProblemError | None = None
        page: dict[str, Any] = {"items": [], "next": None}
        try:
            page = (await site.intake.get(EVENTS, visitor.token, {**filters, **order, **paging})).json()
        except ProblemError as problem:
            if problem.status not in REFUSED_HERE:
                raise
            refused = problem
        following = {"cursor": page["next"]} if page["next"] else None
        return site.pages.page(
            request,
            visitor,
            "bursts.html",
            status_code=200 if refused is None else refused.status,
            refused=refused,
            asked=filters,
            filled={name: filters.get(name, "") for name in bursts.FILTERS} | {"limit": paging.get("limit", "")},
            order=order,
            limit=limit,
            heads=bursts.heads(filters, order, limit),
            rows=[bursts.row(line) for line in page["items"]],
            first=bursts.address(bursts.TABLE, filters, order, limit) if "cursor" in paging else None,
            following=following and bursts.address(bursts.TABLE, filters, order, limit, following),
            exports={
                name: bursts.address(f"{bursts.TABLE}/export", filters, order, {"format": form})
                for name, form in (("CSV", "csv"), ("VOTable", "votable"), ("JSON", "json"))
            },
        )

    @router.get("/frb/export")
    async def export(request: Request) -> Response:
        visitor = await site.sessions.reader(request)
        query = bursts.asked(request.query_params, (*bursts.FILTERS, *bursts.ORDER, "format"))
        held = AsyncExitStack()
        answer = await held.enter_async_context(site.intake.stream(f"{EVENTS}/export", visitor.token, query))

        async def chunks() -> AsyncIterator[bytes]:
            async with held:
                async for chunk in answer.aiter_bytes():
                    yield chunk

        return StreamingResponse(
            chunks(),
            media_type=answer.headers["content-type"],
            headers={"Content-Disposition": answer.headers["content-disposition"]},
        )

    @router.get("/frb/{number}")
    async def burst(request: Request, number: str) -> HTMLResponse:
        visitor = await site.sessions.reader(request)
        return await show(request, visitor, burst_id(number))

    @router.get("/frb/{number}/versions")
    async def versions(request: Request, number: str) -> HTMLResponse:
        visitor = await site.sessions.reader(request)
        known = (await site.intake.get(f"{EVENTS}/{burst_id(number)}", visitor.token)).json()
        return site.pages.page(
            request,
            visitor,
            "bursts_versions.html",
            number=known["id"],
            measurements=[bursts.version_row(each) for each in reversed(known["measurements"])],
        )

    async def show(
        request: Request,
        visitor: Visitor,
        number: int,
        *,
        refused: ProblemError | None = None,
        typed: Mapping[str, str] | None = None,
    ) -> HTMLResponse:
        """Return the page of a burst; with what was refused, and the form as it was filled in."""
        asking = site.intake.get(f"{EVENTS}/{number}", visitor.token)
        answer, rows = await asyncio.gather(asking, site.fetch(NOTICES, f"frb/{number}"))
        known = answer.json()
        latest, first = known["latest"], known["first"]
        place = (latest or {}).get("localisation")
        ellipses = _places(first, latest)
        field = site.survey.field(ellipses)
        seen = await site.survey.look(field, _region(place)) if field and place else None
        budget = budget_of(latest)
        notices = [dict(row) for row in rows]
        return site.pages.page(
            request,
            visitor,
            "burst.html",
            status_code=200 if refused is None else refused.status,
            refused=refused,
            typed=dict.fromkeys(TYPED, "") | dict(typed or {}),
            burst=known,
            status=known["status"].lower(),
            name=known["tns_name"] or known["internal_name"],
            compared=bursts.compared(first, latest),
            versions=[(version, bursts.facts(version)) for version in reversed(known["measurements"])],
            observation=bursts.observation_facts(known["observation"]),
            sky=await asyncio.to_thread(_sky, number, ellipses, view(number, field, seen)) if ellipses else None,
            seen=seen,
            listed=LISTED,
            angle=sky.angle,
            survey_link=survey_link(place),
            near=None if place is None else near(place),
            budget=budget,
            budget_chart=None if budget is None else dm_budget(budget),
            voters=bursts.voters(known["ratings"]),
            notices=notices,
            steps=bursts.timeline(known["history"], notices, known["coincidences"]),
            may_withdraw=visitor.may("operate") or (visitor.may("submit") and known["submitted_by"] == visitor.name),
            words=bursts.words,
            pretty=_pretty,
            pair_address=bursts.pair_address,
            instant_html=bursts.instant_html,
        )

    def view(number: int, field: Field | None, seen: Seen | None) -> sky.View | None:
        """Return the close-up of a field with what is seen of it."""
        if field is None or seen is None:
            return None
        objects = () if seen.objects is None else seen.objects.nearest
        return sky.View(
            (field.ra_deg, field.dec_deg),
            field.half_width_deg,
            picture=f"{bursts.TABLE}/{number}/sky/{site.survey.name(field)}" if seen.has_picture else None,
            objects=tuple(sky.Point(each.ra_deg, each.dec_deg, each.name) for each in objects),
            numbered=LISTED,
            objects_label=f"{site.settings.survey.catalogue_name} ({len(objects)})",
        )

    def survey_link(place: Mapping[str, Any] | None) -> str | None:
        if place is None or site.settings.survey_url is None:
            return None
        return bursts.survey_address(site.settings.survey_url, ra_deg=place["ra_deg"], dec_deg=place["dec_deg"])

    @router.get("/frb/{number}/images/{name}")
    async def image(request: Request, number: str, name: str) -> Response:
        visitor = await site.sessions.reader(request)
        if name not in ("search", "image", "histogram"):
            raise ProblemError(404, "Not found", "a burst has the images search, image and histogram")
        answer = await site.intake.get(f"{EVENTS}/{burst_id(number)}/images/{name}", visitor.token)
        kind = answer.headers.get("content-type", "")
        if kind not in PICTURES:
            raise ProblemError(404, "Not found", f"the image {name} of burst {number} is no picture")
        return Response(answer.content, media_type=kind, headers=KEPT)

    @router.get("/frb/{number}/sky/{name}")
    async def picture(request: Request, number: str, name: str) -> Response:
        visitor = await site.sessions.reader(request)
        known = (await site.intake.get(f"{EVENTS}/{burst_id(number)}", visitor.token)).json()
        field = site.survey.field(_places(known["first"], known["latest"]))
        # Only that of where the burst is now: nobody has pictures made of anywhere else.
        found = await site.survey.picture(field) if field and site.survey.name(field) == name else None
        if found is None:
            raise ProblemError(404, "Not found", f"there is no such picture of where burst {number} came from")
        return Response(found.data, media_type=found.media_type, headers=KEPT)

    @router.get("/frb/{number}/notices/{delivery}")
    async def notice(request: Request, number: str, delivery: str) -> HTMLResponse:
        visitor = await site.sessions.reader(request)
        if visitor.name is None:
            # What was sent may name people.
            raise LoginNeededError
        line = await told_of(number, delivery)
        sent = (await site.notifier.get(f"/api/v1/deliveries/{line['id']}", visitor.token)).json()
        return site.pages.page(
            request,
            visitor,
            "burst_notice.html",
            number=burst_id(number),
            notice=line,
            sent=_pretty(sent.get("request")),
            answer=_pretty(sent.get("answer")),
            words=bursts.words,
        )

    @router.get("/frb/{number}/notices/{delivery}/voevent")
    async def voevent(request: Request, number: str, delivery: str) -> Response:
        visitor = await site.sessions.reader(request)
        line = await told_of(number, delivery)
        answer = await site.notifier.get(f"/api/v1/deliveries/{line['id']}/voevent", visitor.token)
        name = f"burst-{burst_id(number)}-{line['revision']}.xml"
        headers = {"Content-Disposition": f'attachment; filename="{name}"'}
        return Response(answer.content, media_type="application/xml", headers=headers)

    async def told_of(number: str, delivery: str) -> Mapping[str, Any]:
        """Return the delivery of a burst; what another subject was told is none of its."""
        wanted = burst_id(number)
        for row in await site.fetch(NOTICES, f"frb/{wanted}"):
            if str(row["id"]) == delivery:
                return dict(row)
        raise ProblemError(404, "Not found", f"burst {wanted} has no notice {delivery}")

    async def change(
        request: Request, number: str, path: str, names: tuple[str, ...], *roles: str, confirm: str | None = None
    ) -> Response:
        """Have the intake change a burst as a form says; what is refused is told on the page, beside the form."""
        visitor = await site.sessions.reader(request)
        wanted = burst_id(number)
        form = await request.form()
        typed = {name: text for name in names if (text := str(form.get(name, "")).strip())}
        is_confirmed = confirm is None or form.get(confirm) == "yes"
        refused = None if is_confirmed else ProblemError(400, "Not confirmed", "tick the box: it cannot be undone")
        try:
            visitor = await site.sessions.actor(request, *roles)
            if is_confirmed:
                await site.intake.post(f"{EVENTS}/{wanted}/{path}", visitor.token, typed)
        except ProblemError as problem:
            refused = problem
        if refused is not None:
            return await show(request, visitor, wanted, refused=refused, typed={**typed, "form": path})
        return RedirectResponse(f"{bursts.TABLE}/{wanted}", status_code=303)

    @router.post("/frb/{number}/rating")
    async def rate(request: Request, number: str) -> Response:
        return await change(request, number, "ratings", ("rating", "note"), "rate")

    @router.post("/frb/{number}/status")
    async def decide(request: Request, number: str) -> Response:
        return await change(request, number, "status", ("status", "reason"), "operate")

    @router.post("/frb/{number}/withdrawal")
    async def withdraw(request: Request, number: str) -> Response:
        return await change(request, number, "withdrawal", ("reason",), "submit", "operate", confirm="confirmed")

    return router


def burst_id(text: str) -> int:
    """Return the number of a burst that an address names.

    Raises
    ------
    ProblemError
        It is no number, so no burst has it.
    """
    if text.isascii() and text.isdecimal() and len(text) < 19 and int(text) > 0:
        return int(text)
    raise ProblemError(404, "Not found", f"there is no burst {text}")


def near(place: Mapping[str, Any]) -> str:
    """Return the address of the table of what else is about there."""
    radius_deg = min(max(3 * place["semi_major_deg"], 0.1), 180.0)
    cone = {"ra": f"{place['ra_deg']:.6f}", "dec": f"{place['dec_deg']:.6f}", "radius": f"{radius_deg:.4g}"}
    return bursts.address(bursts.TABLE, cone)


def _places(first: Mapping[str, Any] | None, latest: Mapping[str, Any] | None) -> tuple[sky.Ellipse, ...]:
    """Return the error ellipses, that of the first detection below where it is another; none without a position."""
    now, then = ((measured or {}).get("localisation") for measured in (latest, first))
    if now is None:
        return ()
    ellipses = [_ellipse(now, "Latest measurement", "burst")]
    if then is not None and then != now:
        ellipses.insert(0, _ellipse(then, "First detection", "other"))
    return tuple(ellipses)


def _ellipse(place: Mapping[str, Any], label: str, style: str) -> sky.Ellipse:
    return sky.Ellipse(
        ra_deg=place["ra_deg"],
        dec_deg=place["dec_deg"],
        semi_major_deg=place["semi_major_deg"],
        semi_minor_deg=place["semi_minor_deg"],
        position_angle_deg=place["position_angle_deg"],
        label=f"{label} ({100 * place['confidence_level']:.3g} %)",
        style=style,
    )


def _region(place: Mapping[str, Any]) -> Ellipse:
    return Ellipse(**{name: place[name] for name in Ellipse.__dataclass_fields__})


@lru_cache(maxsize=DRAWINGS)
def _sky(number: int, ellipses: tuple[sky.Ellipse, ...], view: sky.View | None) -> Markup:
    words = "; ".join(
        f"{each.label} at RA {each.ra_deg:.4f}°, Dec {each.dec_deg:+.4f}°, within {each.semi_major_deg:.3g} by"
        f" {each.semi_minor_deg:.3g}°"
        for each in ellipses
    )
    return sky.sky(ellipses, title=f"Where burst {number} came from", description=f"{words}.", view=view)


def _pretty(value: Any) -> str | None:
    return None if value is None else json.dumps(value, indent=2, ensure_ascii=False)
