"""`tocsin drill`: a marked test burst through the whole chain, and how long each channel took."""

from __future__ import annotations

import json
import time
import uuid
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from cli.database import fetch
from cli.errors import told_in_one_line
from cli.frb import options
from cli.frb.client import Body, document
from cli.frb.errors import told_line_by_line
from cli.table import columns
from shared.events.notices import DeliveryState

FINAL = {DeliveryState.CONFIRMED, DeliveryState.SUPPRESSED, DeliveryState.FAILED, DeliveryState.UNKNOWN}
POLL_S = 0.1
UNWELL = {DeliveryState.FAILED, DeliveryState.UNKNOWN, DeliveryState.PENDING, DeliveryState.SENDING}


def drill(
    wait_s: Annotated[float, typer.Option("--wait-s", min=1, help="How long channels are waited for.")] = 60.0,
    keep: Annotated[bool, typer.Option("--keep", help="Do not withdraw the burst at the end.")] = False,
    as_json: options.AsJson = False,
    server: options.Server = options.SERVER,
    token_file: options.TokenFile = None,
    timeout_s: options.TimeoutS = options.TIMEOUT_S,
    retries: options.Retries = options.RETRIES,
) -> None:
    """Send a burst marked as a test through intake, notifier and every channel; tell when each was reached.

    Channels in production mode never send test traffic, and say so. The burst is withdrawn at the end, which is told
    too. Exits with 1 when a channel was not reached.
    """
    with told_line_by_line():
        client = options.writer(server, token_file, timeout_s, retries)
        began = datetime.now(UTC)
        event = document(client.post("/events", Body.of_json(_burst(began))))
    typer.echo(f"burst {event['id']} was taken after {_since(began):.3f} s", err=True)
    with told_in_one_line():
        rows = _settled(event["id"], wait_s)
    if not keep:
        with told_line_by_line():
            client.post(f"/events/{event['id']}/withdrawal", Body.of_json({"reason": "the end of a drill"}))
    told = [{**row, "after_s": round((row.pop("changed_at") - began).total_seconds(), 3)} for row in rows]
    typer.echo(json.dumps(told, indent=2) if as_json else columns(told))
    if not rows:
        typer.echo("no channel wants to know: see notifier.channels and notifier.rules", err=True)
    if not rows or any(DeliveryState(row["state"]) in UNWELL for row in rows):
        raise typer.Exit(1)


def _burst(now: datetime) -> dict[str, Any]:
    return {
        "time_of_arrival": now.replace(tzinfo=None).isoformat(),
        "repeater": False,
        "is_test": True,
        "measurement": {
            "dm": 411.0, "dm_err": 1.0, "ra": 77.0146, "ra_err": 0.05, "dec": 26.0607, "dec_err": 0.05, "sn": 50.0,
            "width": 5.0, "flux": 35.0, "flux_err": 3.0, "source": "MB", "version": f"drill {uuid.uuid4().hex}",
        },
    }  # fmt: skip


def _settled(frb_id: int, wait_s: float) -> list[dict[str, Any]]:
    """Return what became of the burst's deliveries, when all are done or the time is up."""
    end = time.monotonic() + wait_s
    while True:
        rows = fetch(
            "SELECT channel, mode, state, changed_at, attempts, reason FROM notifier.deliveries"
            " WHERE subject = $1 AND revision = 1 ORDER BY channel",
            f"frb/{frb_id}",
        )
        done = rows and all(DeliveryState(row["state"]) in FINAL for row in rows)
        if done or time.monotonic() > end:
            return rows
        time.sleep(POLL_S)


def _since(moment: datetime) -> float:
    return (datetime.now(UTC) - moment).total_seconds()
