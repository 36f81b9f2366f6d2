"""Puts the console together: pages, what they are made of, and the live feed."""

from __future__ import annotations

from functools import partial

import httpx
from fastapi import FastAPI, Request, Response
from fastapi.responses import RedirectResponse

from services.console import superevents as gathering
from services.console.access import LoginNeededError, Sessions
from services.console.charts.maps import PRELOAD
from services.console.headers import HEADERS, PageHeaders
from services.console.intake import IntakeClient, ServiceClient, VisitorAddress
from services.console.live import CLOSED_STREAM_S, STREAM_S, Live, MarkPlace
from services.console.pages import (
    bursts,
    coincidences,
    dead_letters,
    deliveries,
    files,
    help_page,
    login,
    now,
    superevents,
    system,
)
from services.console.settings import NAME, ConsoleSettings
from services.console.site import Pages, Site
from services.console.survey import SkySurvey
from services.console.system import Surveyor
from shared.http.limits import RequestLimits
from shared.http.problems import ERRORS, as_problem
from shared.runner import Runtime, Service, ServiceDefinition

MAX_BODY_BYTES = 256 * 1024
BODY_TIMEOUT_S = 15.0
KEPT_CONNECTIONS = 50


def define(settings: ConsoleSettings) -> ServiceDefinition:
    """Return the service for these settings."""
    return ServiceDefinition(
        name=NAME,
        build=lambda runtime: _build(settings, runtime),
        preload=(*PRELOAD, "services.console.map_work", "services.console.catalogue"),
    )


def _build(settings: ConsoleSettings, runtime: Runtime) -> Service:
    section = settings.console
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=KEPT_CONNECTIONS)
    http = httpx.AsyncClient(follow_redirects=False, limits=limits)
    intake = IntakeClient(http, section.intake_url)
    pages = Pages(section)
    live = Live(
        settings.kafka.client_config(),
        lambda line: pages.text("_line.html", line=line),
        max_streams=section.max_streams,
        stream_s=STREAM_S if section.public_reading else CLOSED_STREAM_S,
    )
    site = Site(
        settings=section,
        pool=runtime.pool,
        blobs=runtime.blobs,
        compute=runtime.compute,
        kafka=settings.kafka,
        http=http,
        intake=intake,
        notifier=ServiceClient(http, section.notifier_url, name="notifier"),
        sessions=Sessions(
            intake,
            public_reading=section.public_reading,
            secure=section.secure_cookies,
            hours=section.session_hours,
            cache_s=section.who_cache_s,
        ),
        live=live,
        surveyor=Surveyor(
            services=section.services,
            http=http,
            pool=runtime.pool,
            kafka=settings.kafka,
            influx_url=settings.influx.url,
        ),
        survey=SkySurvey(http, runtime.compute, section.survey),
        pages=pages,
    )

    def configure(app: FastAPI) -> None:
        site.surveyor.include(NAME, app)
        _install_error_pages(app, pages)
        app.add_middleware(
            RequestLimits, max_body_bytes=MAX_BODY_BYTES, body_timeout_s=BODY_TIMEOUT_S, refuse=partial(_refusal, pages)
        )
        app.add_middleware(VisitorAddress)
        app.add_middleware(PageHeaders)
        app.add_middleware(MarkPlace, live=live)

    parts = (now, superevents, bursts, coincidences, system, dead_letters, deliveries, login, help_page, files)
    return Service(
        subscriptions=gathering.subscriptions(),
        background=[live.run, lambda: gathering.gather_at_start(runtime.pool)],
        routers=[part.routes(site) for part in parts],
        configure=configure,
    )


def _refusal(pages: Pages, status: int, title: str, detail: str, path: str) -> Response:
    """Return the page for a request that was refused before anybody looked at who sent it."""
    request = Request({"type": "http", "path": path})
    return pages.problem(request, status=status, title=title, detail=detail)


def _install_error_pages(app: FastAPI, pages: Pages) -> None:
    """Make every refusal and failure a page that says what happened and leads on."""

    async def on_login(request: Request, error: Exception) -> Response:  # noqa: ARG001
        address = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        login_url = str(httpx.URL("/login", params={"next": address if request.method == "GET" else "/"}))
        if "hx-request" in request.headers:
            return Response(status_code=204, headers={"HX-Redirect": login_url})
        return RedirectResponse(login_url, status_code=303)

    async def on_error(request: Request, error: Exception) -> Response:
        problem = as_problem(request, error)
        answer = pages.problem(
            request, status=problem.status, title=problem.title, detail=problem.detail, errors=problem.errors
        )
        # A failure is answered outside of all middleware.
        answer.headers.update({**problem.headers, **HEADERS})
        return answer

    app.add_exception_handler(LoginNeededError, on_login)
    for kind in ERRORS:
        app.add_exception_handler(kind, on_error)
