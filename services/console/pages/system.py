"""System: how everything is, what was done about it, and what the topics carry."""

from __future__ import annotations

from typing import Annotated

import asyncpg
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import FileResponse, HTMLResponse

from services.console.audit import Audit
from services.console.site import Site
from shared.errors import TransientError
from shared.http.problems import ProblemError
from shared.schema.records import SCHEMAS, named_types, newest_schema, schema_versions
from shared.schema.reference import example_files, example_text, kind_text
from shared.schema.topics import Topic, dead_letter_topics, load_topics

SHOWN_ENTRIES, SHOWN_DELIVERIES = 10, 10
ENTRIES_OF_A_PAGE = 50

# What somebody may have to do something about: each state has its own way through the index.
_UNFINISHED = " UNION ALL ".join(
    f"(SELECT * FROM notifier.delivery_lines WHERE state = '{state}' ORDER BY id {order} LIMIT $1)"  # noqa: S608
    for state, order in (("PENDING", "ASC"), ("SENDING", "ASC"), ("UNKNOWN", "DESC"), ("FAILED", "DESC"))
)

Before = Annotated[int | None, Query(ge=1, lt=2**63)]


def routes(site: Site) -> APIRouter:
    """Return the routes."""
    router = APIRouter(include_in_schema=False)
    audit = Audit(site.pool)

    @router.get("/system")
    async def overview(request: Request) -> HTMLResponse:
        visitor = await site.sessions.reader(request)
        survey = await site.surveyor.look()
        return site.pages.page(
            request,
            visitor,
            "system.html",
            survey=survey,
            unfinished=await unfinished(),
            entries=await audit.latest(limit=SHOWN_ENTRIES) if visitor.is_insider else [],
        )

    async def unfinished() -> list[asyncpg.Record] | None:
        """Without PostgreSQL everything else is still told."""
        try:
            return await site.fetch(_UNFINISHED, SHOWN_DELIVERIES)
        except TransientError:
            return None

    @router.get("/system/audit")
    async def entries(request: Request, before: Before = None) -> HTMLResponse:
        visitor = await site.sessions.insider(request)
        found = await audit.entries(before=before, limit=ENTRIES_OF_A_PAGE + 1)
        is_more = len(found) > ENTRIES_OF_A_PAGE
        return site.pages.page(
            request,
            visitor,
            "system_audit.html",
            entries=found[:ENTRIES_OF_A_PAGE],
            before=before,
            older=found[ENTRIES_OF_A_PAGE - 1].id if is_more else None,
        )

    @router.get("/system/topics")
    async def topics(request: Request) -> HTMLResponse:
        visitor = await site.sessions.reader(request)
        return site.pages.page(request, visitor, "system_topics.html", topics=load_topics())

    @router.get("/system/topics/{name}")
    async def topic(request: Request, name: str) -> HTMLResponse:
        visitor = await site.sessions.reader(request)
        found = _topic(name)
        records, example, schema = [], None, None
        if found.record is not None:
            schema = newest_schema(found.record)
            records = [named for named in named_types(schema) if named["type"] == "record"]
            example = example_text(example_files(found.record)[0])
        return site.pages.page(
            request,
            visitor,
            "system_topic.html",
            topic=found,
            records=records,
            enums=[named for named in named_types(schema) if named["type"] == "enum"] if schema else [],
            kind_text=kind_text,
            example=example,
            versions=list(schema_versions(found.record)) if found.record else [],
            letters=[each.name for each in dead_letter_topics() if each.name.startswith(f"{found.name}.dlq.")],
        )

    @router.get("/system/topics/{name}/v{version}.avsc")
    async def schema(request: Request, name: str, version: int) -> Response:
        await site.sessions.reader(request)
        found = _topic(name)
        if found.record is None or version not in schema_versions(found.record):
            raise ProblemError(404, "Not found", f"{found.name} has no schema of version {version}")
        path = SCHEMAS / "avro" / found.record / f"v{version}.avsc"
        return FileResponse(path, media_type="application/json", filename=f"{found.record}-v{version}.avsc")

    return router


def _topic(name: str) -> Topic:
    found = next((topic for topic in load_topics() if topic.name == name), None)
    if found is None:
        raise ProblemError(404, "Not found", f"there is no topic {name[:100]}")
    return found
