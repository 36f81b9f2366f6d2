"""`tocsin coincidence background`: how often chance alone makes pairs as good, by sliding and scrambling bursts."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cli.catalogue import CatalogueBurst, read_catalogue
from cli.database import fetch
from cli.environment import settings
from cli.errors import told_in_one_line
from services.coincidence.domain import METHOD_VERSION, Wave, class_name
from services.coincidence.settings import CoincidenceSection, CoincidenceSettings
from services.coincidence.slides import CHUNK_SLIDES, SlidBursts, SlidWave, chance_pairs_per_year, slide
from shared.blobs.store import open_store
from shared.errors import InvalidInputError
from shared.events.blob import BlobRef
from shared.events.mma import CoincidenceWindow, CoincidentWave
from shared.physics.galactic_dm import DM_HALO_PC_CM3
from shared.settings import BlobSettings
from shared.sky.localisation import Ellipse
from shared.sky.skymap import read_skymap

CATALOGUE = Path(__file__).parents[2] / "samples" / "frb" / "catalogue" / "chimefrbcat1.csv"
ONE_SIGMA_2D = 0.3934693402873666
# Probability within one standard deviation of a two-dimensional Gaussian, 1 - exp(-1/2).
AHEAD = 4
# Chunks that wait per process: enough that none is idle, few enough that memory stays flat.


@dataclass(frozen=True)
class Population:
    """What chance pairs are made of."""

    settings: CoincidenceSection
    waves: tuple[tuple[CoincidentWave, BlobRef], ...]
    bursts: SlidBursts

    @property
    def background_id(self) -> str:
        """Which simulation this is: the same population and method go on where they were left."""
        told = {
            "method": METHOD_VERSION,
            "settings": self.settings.model_dump(mode="json", exclude={"site", "mission"}),
            "waves": [(facts.superevent_id, facts.p_astro, canonical.sha256) for facts, canonical in self.waves],
            "bursts": {name: values.tolist() for name, values in asdict(self.bursts).items()},
        }
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]

    def classes(self) -> list[str]:
        """Return the classes that there are waves of."""
        return sorted({class_name(facts) for facts, _ in self.waves})


@dataclass(frozen=True)
class Chunk:
    """Ten thousand chance pairs of a class and window."""

    wave_class: str
    window: CoincidenceWindow
    number: int


def background(
    years: Annotated[
        float, typer.Option("--years", min=0.01, help="Simulated time: of chance pairs in the wide window.")
    ],
    catalogue: Annotated[Path, typer.Option(help="Bursts to slide: the CHIME/FRB catalogue 1 (CSV).")] = CATALOGUE,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; all cores unless given.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Simulate the background: stored waves, catalogued bursts, random times and right ascensions.

    The narrow windows get as many pairs as the wide one, which makes many more years. What is done is kept: stop it,
    and the same command goes on. New waves or settings are a new background. Its rates come beside every pair with
    `tocsin coincidence rescore --all`.
    """
    with told_in_one_line():
        population = read_population(catalogue)
        todo, done = plan(population, years=years)
        started = time.monotonic()
        simulated = simulate(population, todo, done=done, workers=workers or os.cpu_count() or 1)
        seconds = time.monotonic() - started
    rows = fetch(
        "SELECT wave_class, window_name, sum(n_slides)::bigint AS n_slides, sum(years) AS years FROM"
        " coincidence.background WHERE background_id = $1 GROUP BY 1, 2 ORDER BY 1, 2",
        population.background_id,
    )
    rate = simulated * CHUNK_SLIDES / seconds if simulated else None
    if as_json:
        told = {"background_id": population.background_id, "slides_per_s": rate, "windows": rows}
        typer.echo(json.dumps(told, indent=2))
        return
    for row in rows:
        typer.echo(
            f"{row['wave_class']:<6} {row['window_name'].lower():<7} {row['n_slides']:>12,} slides"
            f"  {row['years']:>16,.1f} years"
        )
    typer.echo(f"background {population.background_id}", err=True)
    if rate is not None:
        typer.echo(f"{simulated * CHUNK_SLIDES:,} slides in {seconds:.1f} s: {rate:,.0f} slides per second", err=True)


def read_population(catalogue: Path) -> Population:
    """Return the stored waves that stand and have a map, and the bursts of a catalogue.

    Raises
    ------
    InvalidInputError
        There are no waves, or no bursts.
    """
    rows = fetch("SELECT state FROM coincidence.waves WHERE NOT is_test AND NOT is_retracted ORDER BY superevent_id")
    waves = [Wave.model_validate(row["state"]) for row in rows]
    found = tuple((wave.facts, wave.skymap.canonical) for wave in waves if wave.facts and wave.skymap)
    if not found:
        raise InvalidInputError(
            "stored waves", "none with a sky map", "at least one real superevent: see `tocsin replay`"
        )
    try:
        bursts = read_catalogue(catalogue.read_bytes())
    except OSError as error:
        raise InvalidInputError("--catalogue", str(catalogue), f"a readable file ({error.strerror})") from error
    if not bursts:
        raise InvalidInputError("--catalogue", str(catalogue), "a catalogue with bursts")
    return Population(CoincidenceSettings().coincidence, found, _arrays(bursts))


def _arrays(bursts: Sequence[CatalogueBurst]) -> SlidBursts:
    def column(name: str) -> Any:
        return np.array([burst.notice[name] for burst in bursts], float)

    sigmas = np.array([_sigmas(burst.notice) for burst in bursts])
    excess = column("dm") - column("dm_gal_ne_2001_max") - DM_HALO_PC_CM3
    return SlidBursts(column("ra"), column("dec"), sigmas[:, 0], sigmas[:, 1], excess)


def _sigmas(notice: Any) -> tuple[float, float]:
    """Standard deviations east and north, as frb_intake and the comparison read a notice's errors."""
    major, minor, angle = notice["ra_dec_error"]
    own = Ellipse(notice["ra"], notice["dec"], major, minor, angle, notice["containment_probability"])
    scaled = own.scaled_to(ONE_SIGMA_2D)
    east_north = (scaled.semi_minor_deg, scaled.semi_major_deg)
    return east_north if angle == 0 else east_north[::-1]


def plan(population: Population, *, years: float) -> tuple[list[Chunk], int]:
    """Return the chunks that are still to be simulated, and how many are there."""
    there = {
        (row["wave_class"], row["window_name"], row["chunk"])
        for row in fetch(
            "SELECT wave_class, window_name, chunk FROM coincidence.background WHERE background_id = $1",
            population.background_id,
        )
    }
    every = []
    for wave_class in population.classes():
        a_year = chance_pairs_per_year(wave_class, CoincidenceWindow.WIDE, population.settings)
        n_chunks = max(1, -(-int(years * a_year) // CHUNK_SLIDES))
        every += [
            Chunk(wave_class, window, number)
            for number in range(n_chunks)
            for window in (CoincidenceWindow.WIDE, CoincidenceWindow.NARROW)
        ]
    todo = [chunk for chunk in every if (chunk.wave_class, chunk.window, chunk.number) not in there]
    return todo, len(every) - len(todo)


def simulate(population: Population, todo: Sequence[Chunk], *, done: int, workers: int) -> int:
    """Simulate chunks on `workers` processes, each stored as soon as it is there; return how many."""
    if not todo:
        return 0
    console = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    pool = ProcessPoolExecutor(
        workers,
        mp_context=get_context("spawn"),
        initializer=_prepare,
        initargs=(population, settings().blobs),
    )
    with pool, Progress(*columns, console=console, transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("chunks of 10,000 slides", total=len(todo) + done, completed=done)
        for chunk, counts in _in_turn(pool, todo, ahead=AHEAD * workers):
            _keep(population, chunk, counts)
            progress.advance(task)
    return len(todo)


def _in_turn(pool: ProcessPoolExecutor, todo: Sequence[Chunk], *, ahead: int) -> Iterator[tuple[Chunk, list[int]]]:
    waiting = iter(todo)
    running: dict[Future[list[int]], Chunk] = {}
    try:
        while True:
            running |= {pool.submit(_simulated, chunk): chunk for chunk in islice(waiting, ahead - len(running))}
            if not running:
                return
            for finished in wait(running, return_when=FIRST_COMPLETED).done:
                yield running.pop(finished), finished.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _keep(population: Population, chunk: Chunk, counts: Sequence[int]) -> None:
    a_year = chance_pairs_per_year(chunk.wave_class, chunk.window, population.settings)
    fetch(
        "INSERT INTO coincidence.background (background_id, wave_class, window_name, chunk, years, n_slides, counts)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
        population.background_id,
        chunk.wave_class,
        chunk.window,
        chunk.number,
        CHUNK_SLIDES / a_year,
        CHUNK_SLIDES,
        counts,
    )


_population: Population
_waves: dict[str, list[SlidWave]]


def _prepare(population: Population, blobs: BlobSettings) -> None:
    global _population, _waves  # what a worker process keeps between chunks
    store = open_store(blobs)
    _population, _waves = population, {}
    for facts, canonical in population.waves:
        wave = SlidWave(facts, read_skymap(store.get(canonical)))
        _waves.setdefault(class_name(facts), []).append(wave)


def _simulated(chunk: Chunk) -> list[int]:
    counts: list[int] = slide(
        _waves[chunk.wave_class],
        _population.bursts,
        window=chunk.window,
        n_slides=CHUNK_SLIDES,
        settings=_population.settings,
        seed=[chunk.number, int(chunk.window is CoincidenceWindow.WIDE), int(chunk.wave_class == "cbc")],
    ).tolist()
    return counts
