"""What coincidence remembers, in SQL."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import asyncpg
import structlog

from services.coincidence.background import BackgroundCounts
from services.coincidence.cells import CellPart
from services.coincidence.domain import METHOD_VERSION, Burst, Verdict, Wave
from services.coincidence.settings import CoincidenceSection
from shared.db.errors import translated_errors
from shared.db.pool import borrowed
from shared.db.unit_of_work import UnitOfWork
from shared.errors import TransientError
from shared.events.mma import Coincidence, CoincidenceScores
from shared.sky.healpix import Intervals

RETRY_S = 5.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Told:
    """What was told so far of a pair that was considered before."""

    revision: int = 0
    is_open: bool = False
    digest: str | None = None


@dataclass(frozen=True)
class Candidate:
    """A wave and a burst that are near in time, or were.

    Attributes
    ----------
    told
        None for a pair that was never considered.
    decided
        Digest of the last decision.
    """

    wave: Wave
    burst: Burst
    told: Told | None
    decided: str | None = None

    @property
    def frb_id(self) -> int:
        """Of the burst."""
        return self.burst.facts.frb_id


_CANDIDATES = """
SELECT waves.state AS wave, bursts.state AS burst, pairs.revision, pairs.is_open, pairs.told_digest,
       pairs.decided_digest
FROM waves
JOIN bursts ON bursts.is_test = waves.is_test
LEFT JOIN pairs ON pairs.superevent_id = waves.superevent_id AND pairs.frb_id = bursts.frb_id
WHERE {parent} AND waves.event_time IS NOT NULL AND bursts.time IS NOT NULL
  AND (bursts.time - waves.event_time BETWEEN $2 AND $3 OR pairs.frb_id IS NOT NULL)
ORDER BY bursts.frb_id, waves.superevent_id
"""


class CoincidenceStore:
    """The waves, bursts and pairs of one unit of work."""

    def __init__(self, work: UnitOfWork) -> None:
        self._work = work

    async def take_turn(self) -> None:
        """Wait until nobody else changes waves, bursts and pairs.

        A pair belongs to a wave and to a burst: two transactions that each bring one side would not see each other's.
        """
        await self._work.fetch(
            # Whether cells are better found by place or by map depends on how many maps: a plan for any number of them
            # takes ten times as long.
            "SELECT pg_advisory_xact_lock(hashtextextended('coincidence', 0)),"
            " set_config('plan_cache_mode', 'force_custom_plan', true)"
        )

    async def wave(self, superevent_id: str) -> Wave | None:
        """Return what is known of a superevent."""
        row = await self._work.fetch_row("SELECT state FROM waves WHERE superevent_id = $1", superevent_id)
        return None if row is None else Wave.model_validate_json(row["state"])

    def put_wave(self, wave: Wave) -> None:
        """Store what is known of a superevent."""
        self._work.write(
            "INSERT INTO waves (superevent_id, is_test, is_retracted, event_time, map_id, state)"
            " VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (superevent_id) DO UPDATE SET is_test = $2,"
            " is_retracted = $3, event_time = $4, map_id = $5, state = $6",
            wave.superevent_id,
            wave.is_test,
            wave.is_retracted,
            wave.alert.event_time if wave.alert else None,
            wave.skymap.event_id if wave.skymap else None,
            wave.model_dump_json(),
        )

    def put_cells(self, map_id: UUID, parts: Sequence[CellPart]) -> None:
        """Make a map searchable."""
        for number, part in enumerate(parts):
            self._work.write(
                "INSERT INTO map_cells (map_id, part, cells, packed) VALUES ($1, $2, int8range($3, $4), $5)"
                " ON CONFLICT DO NOTHING",
                map_id,
                number,
                part.start,
                part.stop,
                part.packed,
            )

    def forget_cells(self, map_id: UUID) -> None:
        """Forget the cells of a map that a newer one replaced."""
        self._work.write("DELETE FROM map_cells WHERE map_id = $1", map_id)

    async def revision_of(self, frb_id: int) -> int:
        """Return the newest revision of a burst that is known, 0 for none."""
        row = await self._work.fetch_row("SELECT revision FROM bursts WHERE frb_id = $1", frb_id)
        return 0 if row is None else row["revision"]

    def put_burst(
        self,
        *,
        frb_id: int,
        revision: int,
        is_test: bool,
        burst: Burst | None,
        nest29: int | None,
        region: Intervals | None,
    ) -> None:
        """Store what is known of a burst; None for one that cannot be compared."""
        self._work.write(
            "INSERT INTO bursts (frb_id, revision, is_test, time, nest29, region, state)"
            " VALUES ($1, $2, $3, $4, $5, $6::text::int8multirange, $7) ON CONFLICT (frb_id) DO UPDATE SET"
            " revision = $2, is_test = $3, time = $4, nest29 = $5, region = $6::text::int8multirange, state = $7",
            frb_id,
            revision,
            is_test,
            burst.facts.time if burst else None,
            nest29,
            None if region is None else as_multirange(region),
            burst.model_dump_json() if burst else None,
        )

    async def candidates_of_wave(self, superevent_id: str, *, within: tuple[timedelta, timedelta]) -> list[Candidate]:
        """Return the bursts whose time less the wave's is within bounds, and those that were paired with it before."""
        parent = "waves.superevent_id = $1"
        return _candidates(await self._work.fetch(_CANDIDATES.format(parent=parent), superevent_id, *within))

    async def candidates_of_burst(self, frb_id: int, *, within: tuple[timedelta, timedelta]) -> list[Candidate]:
        """Return the waves from whose time the burst's is within bounds, and those that were paired with it before."""
        parent = "bursts.frb_id = $1"
        return _candidates(await self._work.fetch(_CANDIDATES.format(parent=parent), frb_id, *within))

    async def cells_of(self, frb_id: int, map_ids: Sequence[UUID]) -> Mapping[UUID, list[bytes]]:
        """Return, for each map, the rows of its cells that meet a burst's position."""
        rows = await self._work.fetch(
            "SELECT map_cells.map_id, map_cells.packed FROM bursts JOIN map_cells ON map_cells.cells && bursts.region"
            " WHERE bursts.frb_id = $1 AND map_cells.map_id = ANY($2::uuid[])",
            frb_id,
            map_ids,
        )
        found: dict[UUID, list[bytes]] = {map_id: [] for map_id in map_ids}
        for row in rows:
            found[row["map_id"]].append(row["packed"])
        return found

    async def background(self) -> list[BackgroundCounts]:
        """Return the newest simulated background, summed over its chunks."""
        rows = await self._work.fetch(
            "SELECT background_id, wave_class, window_name, sum(years) AS years, sum(n_slides)::bigint AS n_slides,"
            " (SELECT array_agg(total ORDER BY bin) FROM (SELECT bin, sum(value)::bigint AS total"
            "   FROM background AS chunk, unnest(chunk.counts) WITH ORDINALITY AS one(value, bin)"
            "   WHERE (chunk.background_id, chunk.wave_class, chunk.window_name)"
            "       = (background.background_id, background.wave_class, background.window_name) GROUP BY bin) AS bins"
            " ) AS counts FROM background"
            " WHERE background_id = (SELECT background_id FROM background ORDER BY made_at DESC LIMIT 1)"
            " GROUP BY background_id, wave_class, window_name"
        )
        return [BackgroundCounts(**row) for row in rows]

    def put_pair(
        self,
        candidate: Candidate,
        *,
        verdict: Verdict,
        scores: CoincidenceScores | None,
        now: datetime,
        told: Told,
        record: Coincidence | None,
    ) -> None:
        """Store what was decided of a pair and add it to its history, unless it was decided before just so."""
        wave, burst = candidate.wave, candidate.burst.facts
        assert wave.alert is not None
        pair = (wave.superevent_id, burst.frb_id)
        decided = (
            verdict.state,
            verdict.reason,
            None if scores is None else scores.model_dump_json(),
            wave.alert.event_id,
            wave.skymap.event_id if wave.skymap else None,
            burst.revision,
            METHOD_VERSION,
        )
        digest = hashlib.sha256(repr(decided).encode()).hexdigest()
        if digest == candidate.decided:
            return
        row = (*pair, *decided, now, None if record is None else record.model_dump_json())
        self._work.write(
            "INSERT INTO pairs (superevent_id, frb_id, state, reason, scores, alert_event_id, map_id, burst_revision,"
            " method_version, decided_at, record, is_test, odds, revision, is_open, told_digest, decided_digest)"
            " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)"
            " ON CONFLICT (superevent_id, frb_id) DO UPDATE SET state = $3, reason = $4, scores = $5,"
            " alert_event_id = $6, map_id = $7, burst_revision = $8, method_version = $9, decided_at = $10,"
            " record = coalesce($11, pairs.record), is_test = $12, odds = $13, revision = $14, is_open = $15,"
            " told_digest = $16, decided_digest = $17",
            *row,
            wave.is_test,
            None if scores is None else scores.odds,
            told.revision,
            told.is_open,
            told.digest,
            digest,
        )
        self._work.write(
            "INSERT INTO history (superevent_id, frb_id, state, reason, scores, alert_event_id, map_id, burst_revision,"
            " method_version, decided_at, record) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
            *row,
        )


async def put_rules(pool: asyncpg.Pool, settings: CoincidenceSection) -> None:
    """Store the settings that decisions go by from now on, unless they are those stored last."""
    while True:
        try:
            async with borrowed(pool) as connection:
                with translated_errors():
                    await connection.execute(
                        "INSERT INTO rules (settings) SELECT $1::jsonb WHERE $1::jsonb IS DISTINCT FROM"
                        " (SELECT settings FROM rules ORDER BY since DESC LIMIT 1)",
                        settings.model_dump_json(),
                    )
        except TransientError as error:
            log.warning("coincidence.rules.waiting", reason=str(error))
            await asyncio.sleep(RETRY_S)
        else:
            return


def _candidates(rows: Sequence[asyncpg.Record]) -> list[Candidate]:
    return [
        Candidate(
            Wave.model_validate_json(row["wave"]),
            Burst.model_validate_json(row["burst"]),
            None if row["revision"] is None else Told(row["revision"], row["is_open"], row["told_digest"]),
            row["decided_digest"],
        )
        for row in rows
    ]


def as_multirange(region: Intervals) -> str:
    """Return intervals as PostgreSQL writes them."""
    return "{" + ",".join(f"[{start},{stop})" for start, stop in zip(region.start, region.stop, strict=True)) + "}"
