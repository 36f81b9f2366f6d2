"""One burst against a thousand maps, one map against 10^5 bursts, and chance pairs per second."""

import asyncio
import io
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from os import cpu_count
from pathlib import Path
from statistics import median
from uuid import UUID

import asyncpg
import numpy as np
import psutil
from astropy.coordinates import Latitude, Longitude
from astropy.table import Table
from astropy.units import deg
from ligo.raven.search import skymap_overlap_integral

from benchmarks.report import Row, interleaved_medians_s
from benchmarks.system import running
from services.coincidence.background import N_BINS
from services.coincidence.cells import Comparison, DistanceHint, burst_map, cell_parts, compare, region_of
from services.coincidence.domain import Wave
from services.coincidence.settings import CoincidenceSection
from services.coincidence.slides import CHUNK_SLIDES, SlidBursts, SlidWave, slide
from services.coincidence.store import as_multirange
from services.gw_listener.alerts import read_alert
from shared.db.pool import connect
from shared.events.frb import FrbLocalisation
from shared.events.mma import CoincidenceWindow
from shared.settings import DatabaseSettings
from shared.sky import healpix, region
from shared.sky.skymap import SkyMap, read_skymap, write_skymap
from tests.support.coincidence import an_alert

SAMPLES = Path(__file__).parents[1] / "samples"
N_MAPS, N_BURSTS, N_SLIDES = 1_000, 100_000, 1_000_000
ROUNDS, RAVEN_MAPS = 15, 20
PLACES = ((194.3, -17.9, 0.16), (40.0, 60.0, 0.5), (300.0, 5.0, 0.05))
# Bursts: right ascension, declination, standard deviation (deg).


def measure() -> list[Row]:
    """Return the rows."""
    with running() as system:
        rows = asyncio.run(_one_burst(system.environment["TOCSIN_DATABASE__URL"]))
    return [*rows, _one_map(), _slides()]


def _maps() -> list[SkyMap]:
    """A thousand skies: the sample's map turned from base pixel to base pixel, and shifted within."""
    sample = read_skymap(read_alert((SAMPLES / "igwn" / "MS181101ab-preliminary.avro").read_bytes()).skymap or b"")
    rng = np.random.default_rng(1)
    coarsest = int(healpix.cell_size(int(sample.order.min())))
    return [_turned(sample, int(turn) * coarsest) for turn in rng.integers(healpix.N_CELLS_29 // coarsest, size=N_MAPS)]


def _turned(skymap: SkyMap, by: int) -> SkyMap:
    start = (skymap.start + by) % healpix.N_CELLS_29
    order = np.argsort(start)
    assert skymap.distmu is not None
    assert skymap.distsigma is not None
    assert skymap.distnorm is not None
    return replace(
        skymap, start=start[order], order=skymap.order[order], probdensity=skymap.probdensity[order],
        distmu=skymap.distmu[order], distsigma=skymap.distsigma[order], distnorm=skymap.distnorm[order],
    )  # fmt: skip


async def _one_burst(url: str) -> list[Row]:
    maps = _maps()
    async with connect(DatabaseSettings.model_validate({"url": url}), "coincidence") as connection:
        ids = await _store(connection, maps)
        rows = []
        for ra_deg, dec_deg, error_deg in PLACES:
            localisation = FrbLocalisation(
                ra_deg=ra_deg, dec_deg=dec_deg, semi_major_deg=error_deg, semi_minor_deg=error_deg,
                position_angle_deg=0.0, confidence_level=0.3934693402873666,
            )  # fmt: skip
            found, took_s = await _compared(connection, ids, localisation)
            raven_s, theirs = _raven(maps[:RAVEN_MAPS], localisation)
            what = f"one burst of {error_deg} deg against {N_MAPS:,} stored maps, distances and all, a map"
            ours = f"{took_s / N_MAPS * 1e3:.3f} ms (overlap above 1: {sum(overlap > 1 for overlap in found)})"
            peer = f"ligo-raven {raven_s * 1e3:.1f} ms (above 1: {sum(value > 1 for value in theirs)} of {RAVEN_MAPS})"
            rows.append(Row(what, peer, ours, raven_s * N_MAPS / took_s, "at least 50"))
    return rows


async def _store(connection: asyncpg.Connection, maps: list[SkyMap]) -> list[UUID]:
    ids = [UUID(int=number + 1) for number in range(len(maps))]
    await connection.execute("CREATE TEMPORARY TABLE rows (map_id uuid, part int, first int8, stop int8, packed bytea)")
    for map_id, skymap in zip(ids, maps, strict=True):
        parts = [(map_id, number, part.start, part.stop, part.packed) for number, part in enumerate(cell_parts(skymap))]
        await connection.copy_records_to_table("rows", records=parts)
    await connection.execute(
        "INSERT INTO map_cells (map_id, part, cells, packed)"
        " SELECT map_id, part, int8range(first, stop), packed FROM rows"
    )
    await connection.execute("ANALYZE map_cells")
    await connection.execute("SET plan_cache_mode = force_custom_plan")  # as the store does
    return ids


async def _compared(
    connection: asyncpg.Connection, ids: list[UUID], localisation: FrbLocalisation
) -> tuple[list[float], float]:
    """As the handler does it: cells that meet the burst's region, then all scores at once."""
    durations = []
    for _ in range(ROUNDS):
        burst_map.cache_clear()
        began = time.perf_counter()
        rows = await connection.fetch(
            "SELECT map_id, packed FROM map_cells WHERE cells && $1::text::int8multirange AND map_id = ANY($2::uuid[])",
            as_multirange(region_of(localisation)),
            ids,
        )
        packed: dict[UUID, list[bytes]] = {map_id: [] for map_id in ids}
        for row in rows:
            packed[row["map_id"]].append(row["packed"])
        hint = DistanceHint(dm_excess_pc_cm3=80.0)
        scores = compare(Comparison(localisation, hint, list(packed.values())))
        durations.append(time.perf_counter() - began)
    return [score.overlap_sky for score in scores], median(durations)


def _raven(maps: list[SkyMap], localisation: FrbLocalisation) -> tuple[float, list[float]]:
    burst = Table.read(io.BytesIO(write_skymap(burst_map(localisation))))
    tables = [Table.read(io.BytesIO(write_skymap(skymap))) for skymap in maps]
    durations, found = [], []
    for table in tables:
        began = time.perf_counter()
        found.append(skymap_overlap_integral(table["PROBDENSITY"], burst["PROBDENSITY"], table["UNIQ"], burst["UNIQ"]))
        durations.append(time.perf_counter() - began)
    return median(durations), found


def _one_map() -> Row:
    skymap = read_skymap(read_alert((SAMPLES / "igwn" / "MS181101ab-preliminary.avro").read_bytes()).skymap or b"")
    rng = np.random.default_rng(2)
    ra, dec = rng.uniform(0, 360, N_BURSTS), np.degrees(np.arcsin(rng.uniform(-1, 1, N_BURSTS)))
    moc = region.credible_regions(skymap, (0.9,))[0].moc()

    def theirs() -> object:
        return moc.contains_lonlat(Longitude(ra, deg), Latitude(dec, deg))

    def mine() -> object:
        # A map that has just come: nothing of it is computed yet. Distances follow for those near in time.
        return region.at_points(replace(skymap, distmu=None, distsigma=None, distnorm=None), ra, dec)

    their_s, our_s = interleaved_medians_s([theirs, mine], rounds=ROUNDS)
    return Row(
        what="one new map against 10^5 stored bursts",
        peer=f"mocpy, inside the 90 % region or not: {their_s * 1e3:.1f} ms",
        ours=f"{our_s * 1e3:.1f} ms (density and credible level of each)",
        ratio=our_s / their_s,
        aim="at most 3",
    )


def _slides() -> Row:
    workers = cpu_count() or 1
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_prepare) as pool:
        list(pool.map(_chunk, range(-workers, 0)))
        began = time.perf_counter()
        resident, n_pairs = [], 0
        for pairs, memory in pool.map(_chunk, range(N_SLIDES // CHUNK_SLIDES)):
            n_pairs += pairs
            resident.append(memory)
        took_s = time.perf_counter() - began
    assert n_pairs == N_SLIDES
    quarter = len(resident) // 4
    first, last = median(resident[:quarter]), median(resident[-quarter:])
    return Row(
        what=f"10^6 chance pairs on {workers} cores",
        peer=f"memory of a process after a quarter {first / 2**20:.0f} MiB",
        ours=f"{last / 2**20:.0f} MiB at the end; {N_SLIDES / took_s:,.0f} slides /s",
        ratio=last / first,
        aim="flat (about 1)",
    )


_slide = partial(slide, window=CoincidenceWindow.WIDE, n_slides=CHUNK_SLIDES, settings=CoincidenceSection())
_waves: list[SlidWave] = []


def _prepare() -> None:
    facts = Wave(superevent_id="S1", is_test=False).with_alert(an_alert()).facts
    assert facts is not None
    _waves.extend(SlidWave(facts, skymap) for skymap in _maps()[:50])


def _chunk(number: int) -> tuple[int, int]:
    rng = np.random.default_rng(3)
    error = np.full(535, 0.2)
    bursts = SlidBursts(rng.uniform(0, 360, 535), rng.uniform(-10, 85, 535), error, error, rng.uniform(20, 1500, 535))
    counts = _slide(_waves, bursts, seed=[number + 1000])
    assert len(counts) == N_BINS
    return int(counts.sum()), psutil.Process().memory_info().rss
