"""Dead letters: what could not be handled, why, what was in it; once more, or never."""

from __future__ import annotations

import re
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Form, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from services.console.access import address_of
from services.console.audit import Audit
from services.console.dead_letters import (
    MAX_AT_ONCE,
    READ_S,
    Letter,
    MovedOnError,
    Office,
    content_of,
    read_letter,
    read_page,
)
from services.console.site import Site
from services.console.system import with_broker
from shared.errors import TransientError
from shared.http.problems import ProblemError
from shared.inbox import dead_letter_desk as desk
from shared.kafka.message import Message

OPERATOR = "operate"
SHOWN_ENTRIES = 5
Offset = Annotated[int, Form(ge=0, lt=10**18)]


def routes(site: Site) -> APIRouter:
    """Return the routes; a message of upstream may be for subscribers only, and why it failed may tell of it."""
    router = APIRouter(include_in_schema=False)
    audit = Audit(site.pool)
    office = Office(site.kafka)

    @router.get("/system/dead-letters")
    async def topics(request: Request) -> HTMLResponse:
        visitor = await site.sessions.insider(request)
        survey = await site.surveyor.look()
        return site.pages.page(request, visitor, "system_dead_letters.html", survey=survey)

    @router.get("/system/dead-letters/{name}")
    async def letters(
        request: Request, name: str, start: Annotated[int | None, Query(alias="from", ge=0, lt=10**18)] = None
    ) -> HTMLResponse:
        visitor = await site.sessions.insider(request)
        topic, offset = _place(name)
        if offset is not None:
            found = await with_broker(partial(read_letter, site.kafka, topic, offset), within_s=READ_S)
            letter, bounds = _known(found, name)
            return site.pages.page(
                request,
                visitor,
                "system_dead_letter.html",
                topic=topic,
                origin=topic.rpartition(".dlq.")[0],
                offset=offset,
                letter=Letter.of(letter),
                bounds=bounds,
                # What somebody else made is taken apart where it can do no harm.
                content=await site.compute.run(content_of, letter.value),
                max_at_once=MAX_AT_ONCE,
            )
        page, problem = None, None
        try:
            page = await with_broker(partial(read_page, site.kafka, topic, start=start), within_s=READ_S)
        except TransientError as error:
            problem = str(error)
        return site.pages.page(
            request,
            visitor,
            "system_letters.html",
            topic=topic,
            origin=topic.rpartition(".dlq.")[0],
            page=page,
            problem=problem,
            start=start,
            max_at_once=MAX_AT_ONCE,
            entries=await audit.latest(target=topic, limit=SHOWN_ENTRIES),
        )

    @router.get("/system/dead-letters/{name}/content")
    async def content(request: Request, name: str) -> Response:
        await site.sessions.insider(request)
        topic, offset = _place(name)
        if offset is None:
            raise ProblemError(404, "Not found", "a dead letter is TOPIC@OFFSET")
        letter, _ = _known(await with_broker(partial(read_letter, site.kafka, topic, offset), within_s=READ_S), name)
        headers = {"Content-Disposition": f'attachment; filename="{topic}-{offset}.bin"'}
        return Response(letter.value, media_type="application/octet-stream", headers=headers)

    async def work_off(request: Request, name: str, *, begin: int, until: int, is_replay: bool) -> Response:
        visitor = await site.sessions.actor(request, OPERATOR)
        topic, offset = _place(name)
        if offset is not None or until < begin:
            raise ProblemError(400, "Bad request", "the letters from the front of a topic to an offset are meant")
        until = min(until, begin + MAX_AT_ONCE - 1)
        action = "replayed" if is_replay else "dropped"
        detail = f"offset {begin}" if begin == until else f"offsets {begin} to {until}"
        who, address = str(visitor.name), address_of(request)
        async with audit.record(who=who, address=address, action=action, target=topic, detail=detail):
            try:
                await office.work_off(topic, begin=begin, until=until, is_replay=is_replay)
            except MovedOnError as error:
                raise ProblemError(409, "Somebody was faster", str(error)) from error
        return RedirectResponse(f"/system/dead-letters/{topic}", status_code=303)

    @router.post("/system/dead-letters/{name}/replay")
    async def replay(request: Request, name: str, begin: Offset, until: Offset) -> Response:
        return await work_off(request, name, begin=begin, until=until, is_replay=True)

    @router.post("/system/dead-letters/{name}/drop")
    async def drop(request: Request, name: str, begin: Offset, until: Offset) -> Response:
        return await work_off(request, name, begin=begin, until=until, is_replay=False)

    return router


def _place(name: str) -> tuple[str, int | None]:
    """Return the topic, and the offset when a letter is meant."""
    topic, at, offset = name.partition("@")
    # Every number of 18 digits fits an offset, which is an int64.
    if topic not in desk.known_topics() or (at and not re.fullmatch("[0-9]{1,18}", offset)):
        raise ProblemError(404, "Not found", f"there is no dead letter or topic of them {name[:100]}")
    return topic, int(offset) if at else None


def _known(found: tuple[Message, desk.Bounds] | None, name: str) -> tuple[Message, desk.Bounds]:
    if found is None:
        raise ProblemError(404, "Not found", f"the topic does not hold {name}, or not any more")
    return found
