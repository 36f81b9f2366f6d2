"""Deliveries: what was told to whom, what waits or failed, and trying it again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Path, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from pydantic import BaseModel, BeforeValidator, Field

from services.console.access import address_of
from services.console.audit import Audit
from services.console.site import Site
from shared.errors import TransientError
from shared.events.notices import DeliveryState
from shared.http.problems import ProblemError

LINES = 50
OPERATOR = "operate"
TEXT = r"^[^\x00-\x1f\x7f]*$"
# Neither PostgreSQL nor a line of a log takes the others.
RETRIED = {DeliveryState.FAILED, DeliveryState.UNKNOWN, DeliveryState.SUPPRESSED, DeliveryState.PENDING}
OFFERED = {DeliveryState.FAILED, DeliveryState.PENDING}
# In the table, where nobody thinks twice: what was suppressed was so for a reason, and the rest may have arrived.
# Walks through the index from name to name: there are few among very many deliveries.
_CHANNELS = """
WITH RECURSIVE names AS (
    SELECT min(channel) AS name FROM notifier.delivery_lines
    UNION ALL
    SELECT (SELECT min(channel) FROM notifier.delivery_lines WHERE channel > names.name)
    FROM names WHERE names.name IS NOT NULL
)
SELECT name FROM names WHERE name IS NOT NULL
"""

DeliveryId = Annotated[int, Path(ge=1, lt=2**63)]


def _given(value: object) -> object:
    """A field of a form that nothing was chosen in comes as an empty text."""
    return None if value == "" else value


Text = Annotated[Annotated[str, Field(max_length=200, pattern=TEXT)] | None, BeforeValidator(_given)]
Cursor = Annotated[Annotated[int, Field(ge=1, lt=2**63)] | None, BeforeValidator(_given)]


class DeliveryQuery(BaseModel):
    """What a page of the table shows."""

    state: Annotated[DeliveryState | None, BeforeValidator(_given)] = None
    channel: Text = None
    subject: Text = None
    test: Annotated[Literal["without", "only"] | None, BeforeValidator(_given)] = None
    order: Literal["newest", "oldest"] = "newest"
    cursor: Cursor = None

    def address(self, **changes: object) -> str:
        """Return the address of the same page with something changed."""
        values = self.model_dump(exclude_none=True, exclude_defaults=True) | changes
        given = {name: value for name, value in values.items() if value is not None}
        return "/system/deliveries" + (f"?{urlencode(given)}" if given else "")

    @property
    def is_filtered(self) -> bool:
        """Whether it leaves something out."""
        return any(value is not None for value in (self.state, self.channel, self.subject, self.test))


@dataclass(frozen=True)
class Statement:
    """A question to the database."""

    sql: str
    arguments: Sequence[object]


def select(query: DeliveryQuery, limit: int) -> Statement:
    """Return the question for one page and one line more, which says whether there is another."""
    is_newest = query.order == "newest"
    conditions, arguments = [], []
    for condition, value in (
        ("state = ${}", query.state),
        ("channel = ${}", query.channel),
        ("subject = ${}", query.subject and query.subject.strip().strip("/")),
        ("is_test = ${}", None if query.test is None else query.test == "only"),
        ("id < ${}" if is_newest else "id > ${}", query.cursor),
    ):
        if value is not None:
            arguments.append(value)
            conditions.append(condition.format(len(arguments)))
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    order = "DESC" if is_newest else "ASC"
    sql = f"SELECT * FROM notifier.delivery_lines{where} ORDER BY id {order} LIMIT {limit + 1}"  # noqa: S608
    return Statement(sql, arguments)


def routes(site: Site) -> APIRouter:
    """Return the routes."""
    router = APIRouter(include_in_schema=False)
    audit = Audit(site.pool)

    @router.get("/system/deliveries")
    async def table(request: Request, query: Annotated[DeliveryQuery, Query()]) -> HTMLResponse:
        visitor = await site.sessions.reader(request)
        statement = select(query, LINES)
        rows = await site.fetch(statement.sql, *statement.arguments)
        following = rows[LINES - 1]["id"] if len(rows) > LINES else None
        channels = {row["name"] for row in await site.fetch(_CHANNELS)} | ({query.channel} if query.channel else set())
        return site.pages.page(
            request,
            visitor,
            "system_deliveries.html",
            query=query,
            rows=rows[:LINES],
            next_address=query.address(cursor=following) if following else None,
            channels=[(channel, channel) for channel in sorted(channels)],
            states=[(state.value, state.lower()) for state in DeliveryState],
            retried=OFFERED,
        )

    @router.get("/system/deliveries/{delivery_id}")
    async def delivery(request: Request, delivery_id: DeliveryId) -> HTMLResponse:
        visitor = await site.sessions.reader(request)
        row = await site.fetch_row("SELECT * FROM notifier.delivery_lines WHERE id = $1", delivery_id)
        if row is None:
            raise ProblemError(404, "Not found", f"there is no delivery {delivery_id}")
        sent: dict[str, Any] | None = None
        problem = None
        if visitor.is_insider:
            try:
                sent = (await site.notifier.get(f"/api/v1/deliveries/{delivery_id}", visitor.token)).json()
            except TransientError as error:
                problem = str(error)
        return site.pages.page(
            request,
            visitor,
            "system_delivery.html",
            row=row,
            sent={name: _indented(sent[name]) for name in ("request", "answer")} if sent is not None else None,
            problem=problem,
            retried=RETRIED,
            entries=await audit.entries(target=_target(delivery_id), limit=LINES) if visitor.is_insider else [],
        )

    @router.post("/system/deliveries/{delivery_id}/retry")
    async def retry(request: Request, delivery_id: DeliveryId, send_again: Annotated[bool, Form()] = False) -> Response:
        visitor = await site.sessions.actor(request, OPERATOR)
        who, target = str(visitor.name), _target(delivery_id)
        detail = "although it may have arrived" if send_again else ""
        async with audit.record(
            who=who, address=address_of(request), action="tried again", target=target, detail=detail
        ):
            body = {"send_again": send_again}
            await site.notifier.post(f"/api/v1/deliveries/{delivery_id}/retry", visitor.token, body)
        return RedirectResponse(f"/system/deliveries/{delivery_id}", status_code=303)

    @router.post("/system/deliveries/{delivery_id}/suppress")
    async def suppress(
        request: Request,
        delivery_id: DeliveryId,
        reason: Annotated[str, Form(max_length=500, pattern=TEXT)] = "",
    ) -> Response:
        visitor = await site.sessions.actor(request, OPERATOR)
        who, target = str(visitor.name), _target(delivery_id)
        async with audit.record(
            who=who, address=address_of(request), action="suppressed", target=target, detail=reason
        ):
            body = {"reason": reason}
            await site.notifier.post(f"/api/v1/deliveries/{delivery_id}/suppress", visitor.token, body)
        return RedirectResponse(f"/system/deliveries/{delivery_id}", status_code=303)

    return router


def _target(delivery_id: int) -> str:
    return f"delivery {delivery_id}"


def _indented(value: object) -> str | None:
    return None if value is None else json.dumps(value, indent=2, ensure_ascii=False)
