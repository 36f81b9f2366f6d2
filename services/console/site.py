"""What every page is made with: templates, the database, the services' APIs, who looks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import asyncpg
import httpx
from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from services.console.access import NOBODY, Sessions, Visitor
from services.console.intake import IntakeClient, ServiceClient
from services.console.live import PLACE, Live, event_name
from services.console.settings import ConsoleSection
from services.console.survey import SkySurvey
from services.console.system import Surveyor
from shared.blobs.store import BlobStore
from shared.compute import ComputePool
from shared.db.errors import translated_errors
from shared.db.pool import borrowed
from shared.settings import KafkaSettings

HERE = Path(__file__).parent
UNKNOWN = Markup('<span class="unknown" title="not known">\N{EN DASH}</span>')
MINUTE_S, HOUR_S, DAY_S, YEAR_S = 60, 3600, 86_400, 365.25 * 86_400


@dataclass(frozen=True)
class Site:
    """What a page's routes are given."""

    settings: ConsoleSection
    pool: asyncpg.Pool
    blobs: BlobStore
    compute: ComputePool
    kafka: KafkaSettings
    http: httpx.AsyncClient
    intake: IntakeClient
    notifier: ServiceClient
    sessions: Sessions
    live: Live
    surveyor: Surveyor
    survey: SkySurvey
    pages: Pages

    async def fetch(self, query: str, *arguments: object) -> list[asyncpg.Record]:
        """Return the rows of a query."""
        async with borrowed(self.pool) as connection:
            with translated_errors():
                return list(await connection.fetch(query, *arguments))

    async def fetch_row(self, query: str, *arguments: object) -> asyncpg.Record | None:
        """Return the first row, or None."""
        async with borrowed(self.pool) as connection:
            with translated_errors():
                return await connection.fetchrow(query, *arguments)


class Pages:
    """Makes pages of templates. Every value is escaped, a variable that is missing is an error."""

    def __init__(self, settings: ConsoleSection) -> None:
        self._environment = Environment(
            loader=FileSystemLoader(HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._environment.filters |= {
            "time": time_html,
            "age": age_html,
            "num": number_html,
            "known": known_html,
            "event": event_name,
        }
        self._environment.globals |= {"settings": settings, "static": static_url}

    def text(self, template: str, **context: Any) -> str:
        """Return what a template makes."""
        return self._environment.get_template(template).render(context)

    def page(
        self, request: Request, visitor: Visitor, template: str, *, status_code: int = 200, **context: Any
    ) -> HTMLResponse:
        """Return a page."""
        # What happened since the request came may not be on the page: from there on its feed tells it.
        place = getattr(request.state, PLACE, "")
        text = self.text(template, visitor=visitor, path=request.scope["path"], place=place, **context)
        return HTMLResponse(text, status_code=status_code)

    def problem(self, request: Request, *, status: int, title: str, detail: str, errors: Any = ()) -> HTMLResponse:
        """Return the page that tells what went wrong, with a way on."""
        return self.page(
            request,
            getattr(request.state, "visitor", NOBODY),
            "problem.html",
            status_code=status,
            status=status,
            title=title,
            detail=detail,
            errors=errors,
        )


def time_html(value: datetime | str | None) -> Markup:
    """Return a time in UTC with its age beside it, which the browser keeps up to date."""
    if value is None:
        return UNKNOWN
    moment = _moment(value)
    iso, age = moment.isoformat(), age_text(moment)
    return Markup(  # noqa: S704  (nobody else's text; it is made a hundred times for a page, and `format` is slow)
        f'<time datetime="{iso}" title="{iso}">{moment:%Y-%m-%d %H:%M:%S} UTC</time>'
        f' <span class="age" data-since="{iso}">{age}</span>'
    )


def age_html(value: datetime | str | None) -> Markup:
    """Return how long ago something was, with the time in UTC where one points at."""
    if value is None:
        return UNKNOWN
    moment = _moment(value)
    iso, age = moment.isoformat(), age_text(moment)
    return Markup(  # noqa: S704  (see `time_html`)
        f'<time class="age" datetime="{iso}" data-since="{iso}" title="{moment:%Y-%m-%d %H:%M:%S} UTC">{age}</time>'
    )


def age_text(moment: datetime, now: datetime | None = None) -> str:
    """Return how long ago something was, or how long until it is; as `console.js` says it."""
    seconds = ((now or datetime.now(UTC)) - moment).total_seconds()
    size = abs(seconds)
    if size < MINUTE_S:
        text = f"{size:.0f} s"
    elif size < HOUR_S:
        text = f"{size // MINUTE_S:.0f} min"
    elif size < DAY_S:
        text = f"{size // HOUR_S:.0f} h"
    elif size < YEAR_S:
        text = f"{size // DAY_S:.0f} d"
    else:
        text = f"{size / YEAR_S:.1f} yr"
    return f"{text} ago" if seconds >= 0 else f"in {text}"


def number_html(value: float | None, unit: str = "", error: float | None = None, digits: int = 4) -> Markup:
    """Return a number with its error and unit; what is not known, or no number, is a dash that says so."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    text = _rounded(value, digits)
    if error is not None and math.isfinite(error):
        text += f" ± {_rounded(error, 2)}"
    return Markup(f'<span class="num">{text}{_unit_html(unit)}</span>')  # noqa: S704  (see `time_html`)


def known_html(value: object) -> Markup:
    """Return a text, or the dash for what is not known."""
    return UNKNOWN if value is None or value == "" else escape(value)


def static_url(name: str) -> str:
    """Return the address of a file of ours; it changes with the content, so browsers may keep it."""
    return f"/static/{name}?v={_digests()[name]}"


def _digests(cache: dict[str, str] = {}) -> Mapping[str, str]:  # noqa: B006  (filled once)
    if not cache:
        cache.update(
            {path.name: sha256(path.read_bytes()).hexdigest()[:12] for path in sorted((HERE / "static").iterdir())}
        )
    return cache


@cache
def _unit_html(unit: str) -> str:
    """Return a unit behind a number; there are few units, and many numbers."""
    return f'<span class="unit"> {escape(unit)}</span>' if unit else ""


def _rounded(value: float, digits: int) -> str:
    if value and not 1e-4 <= abs(value) < 1e7:
        return f"{value:.{max(digits - 2, 1)}e}".replace("-", "\N{MINUS SIGN}")
    text = f"{value:.{digits}g}" if abs(value) < 10 ** (digits - 1) else f"{value:.0f}"
    return text.replace("-", "\N{MINUS SIGN}")


def _moment(value: datetime | str) -> datetime:
    moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
