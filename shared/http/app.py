"""Builds a service's FastAPI application."""

import time
from collections.abc import Sequence
from typing import Any, Protocol

from fastapi import APIRouter, FastAPI, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from shared.inbox.state import ConsumerState
from shared.observability import metrics

UNHEALTHY_AFTER_S = 60.0
# A consumer's loop turns five times a second, whatever its handlers do; a minute of silence is a hang.


class Status(Protocol):
    """What the endpoints read."""

    @property
    def service(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def consumers(self) -> Sequence[ConsumerState]: ...
    @property
    def relay_waiting(self) -> str | None:
        """Why committed events are not being published; None when they are."""
        ...

    async def outbox_depth(self) -> int | None:
        """Return how many committed events are not published yet; None when the database does not answer."""
        ...

    def sources(self) -> list[dict[str, Any]]:
        """Return the lines of /status about outside sources."""
        ...


def create_app(status: Status, routers: Sequence[APIRouter]) -> FastAPI:
    """Return the application with /healthz, /readyz, /metrics, /status and the service's own routes."""
    app = FastAPI(
        title=f"Tocsin {status.service}",
        version=status.version,
        # A redirected POST comes back as a GET, its body lost.
        redirect_slashes=False,
        # Both pages load their scripts from elsewhere; /openapi.json is complete without them.
        docs_url=None,
        redoc_url=None,
    )

    @app.get("/healthz", tags=["operation"])
    async def health() -> JSONResponse:
        """Say whether the loops turn; nothing else, so that an outage elsewhere never restarts a service."""
        now = time.monotonic()
        stuck = [state.name for state in status.consumers if now - state.polled_at > UNHEALTHY_AFTER_S]
        return JSONResponse({"stuck": stuck}, status_code=503 if stuck else 200)

    @app.get("/readyz", tags=["operation"])
    async def readiness() -> JSONResponse:
        """Say whether messages flow: partitions held, not paused or halted, database there."""
        waiting = {
            state.name: state.why_waiting for state in status.consumers if not (state.is_ready or state.is_outside)
        }
        if status.relay_waiting is not None:
            waiting["outbox"] = status.relay_waiting
        if await status.outbox_depth() is None:
            waiting["database"] = "does not answer"
        return JSONResponse({"waiting_for": waiting}, status_code=503 if waiting else 200)

    @app.get("/metrics", tags=["operation"], response_class=PlainTextResponse)
    async def metrics_page() -> Response:
        """Prometheus metrics."""
        depth = await status.outbox_depth()
        if depth is not None:
            metrics.OUTBOX_DEPTH.set(depth)
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    @app.get("/status", tags=["operation"])
    async def status_page() -> dict[str, Any]:
        """Everything `tocsin status` shows of this service."""
        depth = await status.outbox_depth()
        return {
            "service": status.service,
            "version": status.version,
            "ready": all(state.is_ready or state.is_outside for state in status.consumers)
            and status.relay_waiting is None
            and depth is not None,
            "consumers": [state.as_json() for state in status.consumers],
            "outbox_depth": depth,
            "outbox_waiting": status.relay_waiting,
            "sources": status.sources(),
        }

    for router in routers:
        app.include_router(router)
    return app
