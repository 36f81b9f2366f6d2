"""The part of `tocsin demo` about coincidences: a burst seconds after the mock merger, from where its map says."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cli import demo_bursts
from cli.database import fetch
from cli.environment import settings
from cli.stack.paths import local_directory
from shared.blobs.store import open_store
from shared.errors import TocsinError
from shared.events.blob import BlobRef

SUPEREVENT = "MS181101ab"
DEADLINE_S = 60.0
# The merger was at 22:22:46.654, most probably there; the delay at the observation's 1400 MHz is 0.28 s.
_RADIO = """\
time_of_arrival: "2018-11-01T22:22:49.334"
repeater: false
dm: 130.0
dm_err: 0.5
ra: 194.3
ra_err: 0.1
dec: -17.9
dec_err: 0.1
sn: 21
width: 2
flux: 12
flux_err: 2
source: MB
version: v1.0
"""
_DECISIONS = (
    "SELECT state, reason, record FROM coincidence.history WHERE superevent_id = $1 AND frb_id = $2 ORDER BY id"
)


class PairNotDecidedError(TocsinError):
    """The burst and the merger did not become what they should in time."""


def send_burst(server: str, say: Callable[[str], None]) -> int:
    """Send the burst, and return its id when what is thought of the pair is known.

    Raises
    ------
    UploadFailedError
        The command failed.
    PairNotDecidedError
        Nothing was told within a minute.
    """
    radio_yaml = _folder() / "burst.yaml"
    radio_yaml.write_text(_RADIO)
    burst_id = demo_bursts.send_burst(server, say, radio_yaml=radio_yaml)
    # The superevent may have been retracted by a demonstration before.
    decided = _wait(burst_id, lambda decision: decision["record"] is not None or decision["state"] == "WITHDRAWN")
    told = [decision["record"] for decision in decided if decision["record"] is not None]
    for line in _scores(told[0]) if told else (f"{decided[-1]['state']}: {decided[-1]['reason']}",):
        say(f"  {line}")
    return burst_id


def wait_retracted(burst_id: int) -> None:
    """Return when nothing rests on the pair any more.

    Raises
    ------
    PairNotDecidedError
        Not within a minute.
    """
    _wait(burst_id, lambda decision: decision["state"] == "WITHDRAWN")


def table(burst_id: int) -> list[str]:
    """Return what was told of the pair as lines."""
    told = [row["record"] for row in fetch(_DECISIONS, SUPEREVENT, burst_id) if row["record"] is not None]
    return [
        f"{record['coincidence_id']} {record['revision']} {record['coincidence_type'].lower():<11} {record['reason']}"
        for record in told
    ]


def _wait(burst_id: int, enough: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
    decided: list[dict[str, Any]] = []
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        decided = fetch(_DECISIONS, SUPEREVENT, burst_id)
        if any(enough(decision) for decision in decided):
            return decided
        time.sleep(0.1)
    last = f"the pair is {decided[-1]['state']} ({decided[-1]['reason']})" if decided else "nothing is decided"
    raise PairNotDecidedError(
        f"{last} after {DEADLINE_S:.0f} s; look at `tocsin status` and .local/services/coincidence.log"
    )


def _scores(record: dict[str, Any]) -> list[str]:
    scores = record["scores"]
    name = f"{record['coincidence_id']}-{record['revision']}"
    combined = _kept(scores["combined_skymap"], f"{name}.multiorder.fits")
    notice = _kept(record["gcn_notice"], f"{name}.json")
    return [
        f"{record['coincidence_id']}: announced, {record['reason']}",
        f"  burst less wave        {scores['time_offset_s']:+.2f} s, in the {scores['window'].lower()} window",
        f"  overlap of positions   {scores['overlap_sky']:.0f} (0: nothing in common, 1: no information)",
        f"  with distances         {scores['overlap_3d']:.0f}",
        f"  credible level         {scores['credible_level']:.3f} of the wave's map at the burst",
        f"  odds of one source     {scores['odds']:.2g}, prior {scores['prior_odds']:g}",
        f"  combined sky map       {combined}",
        f"  GCN notice             {notice}",
    ]


def _kept(reference: dict[str, Any], name: str) -> str:
    """Give a file a name that people can open; return its path."""
    path = _folder() / name
    path.write_bytes(open_store(settings().blobs).get(BlobRef(**reference)))
    return os.path.relpath(path)


def _folder() -> Path:
    folder = local_directory() / "coincidences"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
