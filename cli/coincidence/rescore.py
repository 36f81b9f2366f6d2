"""`tocsin coincidence rescore`: decide anew, with today's settings, method and background."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import track

from cli.database import fetch
from cli.environment import settings
from cli.errors import told_in_one_line
from services.coincidence import worker
from services.coincidence.cells import CellPart, Comparison
from services.coincidence.domain import SkyScores, coincidence_id
from services.coincidence.handlers import CoincidenceHandler, Compute
from services.coincidence.settings import NAME, CoincidenceSettings
from shared.db.pool import create_pool
from shared.db.unit_of_work import unit_of_work
from shared.errors import InvalidInputError
from shared.events.blob import BlobRef
from shared.events.mma import Coincidence
from shared.settings import BlobSettings


def rescore(
    superevents: Annotated[list[str] | None, typer.Argument(metavar="SUPEREVENT...", help="Their pairs.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every superevent that has pairs.")] = False,
) -> None:
    """Decide anew about pairs; what changes is told on mma.coincidences by the running service."""
    with told_in_one_line():
        if bool(superevents) == every:
            raise InvalidInputError("SUPEREVENT", superevents or "missing", "superevents, or --all, and not both")
        rows = fetch("SELECT DISTINCT superevent_id FROM coincidence.pairs ORDER BY 1")
        known = [row["superevent_id"] for row in rows]
        for superevent in superevents or ():
            if superevent not in known:
                raise InvalidInputError("SUPEREVENT", superevent, "one with pairs; see `tocsin coincidence list --all`")
        before = _decisions()
        asyncio.run(_rescore(superevents or known))
        after = _decisions()
    for pair, decision in after.items():
        if decision != before.get(pair):
            typer.echo(_changed(pair, decision, before.get(pair)))
    typer.echo(f"{len(superevents or known)} superevents decided anew", err=True)


@dataclass(frozen=True)
class _Decision:
    """What stands of a pair; numbers that were counted anew and change nothing of it are in its history."""

    state: str
    reason: str
    revision: int


def _decisions() -> dict[str, _Decision]:
    rows = fetch("SELECT superevent_id, frb_id, state, reason, revision FROM coincidence.pairs ORDER BY 1, 2")
    return {
        coincidence_id(row["superevent_id"], row["frb_id"]): _Decision(row["state"], row["reason"], row["revision"])
        for row in rows
    }


def _changed(pair: str, decision: _Decision, before: _Decision | None) -> str:
    words = [state.lower().replace("_", " ") for state in ([before.state] if before else []) + [decision.state]]
    was_told = before.revision if before else 0
    told = "" if decision.revision == was_told else f", told as revision {decision.revision}"
    return f"{pair}: {' -> '.join(dict.fromkeys(words))}{told}: {decision.reason}"


async def _rescore(superevents: Sequence[str]) -> None:
    own, section = settings(), CoincidenceSettings().coincidence
    handler = CoincidenceHandler(
        compute=_here(own.blobs, mission=section.mission), settings=section, sender=f"tocsin.{NAME}"
    )
    pool = await create_pool(own.database, NAME)
    console = Console(stderr=True)
    try:
        for superevent in track(
            superevents, "superevents", console=console, transient=True, disable=not console.is_terminal
        ):
            async with unit_of_work(pool) as work:
                await handler.rescore(superevent, work)
    finally:
        await pool.close()


def _here(blobs: BlobSettings, *, mission: str) -> Compute:
    """Compute in this process: nobody else waits for it."""

    async def read_cells(canonical: BlobRef) -> list[CellPart]:
        return worker.read_cells(blobs, canonical)

    async def compare_all(comparisons: Sequence[Comparison]) -> list[list[SkyScores]]:
        return worker.compare_all(comparisons)

    async def with_files(record: Coincidence, packed: Sequence[bytes]) -> Coincidence:
        return worker.with_files(blobs, record, packed, mission=mission)

    return Compute(read_cells=read_cells, compare_all=compare_all, with_files=with_files)
