"""Cells of a sky map as bytes for the database, and a burst's scores from those that meet its position."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.coincidence.domain import SkyScores
from shared.events.frb import FrbLocalisation
from shared.physics.macquart import MAX_REDSHIFT, luminosity_distance_mpc
from shared.sky import healpix
from shared.sky.gaussian import localisation_map
from shared.sky.healpix import Int64Array, Intervals
from shared.sky.localisation import Ellipse
from shared.sky.region import conditional_distance_mpc, credible_levels, interval_probabilities
from shared.sky.skymap import SkyMap
from shared.sky.volume import DistanceWeight, MeasuredDistance, distance_factor, distance_weight, measured_distance

CELL = np.dtype(
    [
        ("start", "<i8"),
        ("order", "<i2"),
        ("credible_level", "<f4"),
        ("probdensity", "<f8"),
        ("distmu", "<f8"),
        ("distsigma", "<f8"),
    ]
)
CELLS_PER_PART = 48
# 38 bytes each make a row of 1.8 kB, below the 2 kB above which PostgreSQL moves values out of line.
MAX_INTERVALS = 64
# Of a burst's region in the database; more cost more look-ups, fewer cover more of the sky.

Cells = NDArray[np.void]


@dataclass(frozen=True)
class CellPart:
    """Neighbouring cells of a map, as a row of `map_cells`."""

    start: int
    stop: int
    packed: bytes


def cell_parts(skymap: SkyMap) -> list[CellPart]:
    """Return a map's cells as rows for the database."""
    cells = np.empty(len(skymap.start), CELL)
    cells["start"], cells["order"] = skymap.start, skymap.order
    cells["credible_level"], cells["probdensity"] = credible_levels(skymap), skymap.probdensity
    known = skymap.distmu is not None
    cells["distmu"], cells["distsigma"] = (skymap.distmu, skymap.distsigma) if known else (np.nan, np.nan)
    stop = skymap.cells.stop
    return [
        CellPart(int(part["start"][0]), int(stop[at + len(part) - 1]), part.tobytes())
        for at in range(0, len(cells), CELLS_PER_PART)
        if len(part := cells[at : at + CELLS_PER_PART])
    ]


def unpacked(parts: Sequence[bytes]) -> Cells:
    """Return the cells of rows of one map, sorted by position."""
    cells = np.frombuffer(b"".join(parts), CELL)
    return cells[np.argsort(cells["start"], kind="stable")]


def as_skymap(cells: Cells) -> SkyMap:
    """Return cells as a map of a part of the sky; its probability is not 1."""
    has_distance = bool(np.isfinite(cells["distmu"]).any())
    return SkyMap(
        start=cells["start"].astype(np.int64),
        order=cells["order"].astype(np.int64),
        probdensity=cells["probdensity"].astype(float),
        distmu=cells["distmu"].astype(float) if has_distance else None,
        distsigma=cells["distsigma"].astype(float) if has_distance else None,
        distnorm=np.ones(len(cells)) if has_distance else None,
    )


def ellipse_of(localisation: FrbLocalisation) -> Ellipse:
    """Return a burst's localisation as the region that it is."""
    return Ellipse(**localisation.model_dump())


def region_of(localisation: FrbLocalisation) -> Intervals:
    """Return a cover of the cells of a burst's position map, in at most `MAX_INTERVALS` intervals."""
    cells = burst_map(localisation).cells
    gap = cells.start[1:] - cells.stop[:-1]
    widest = np.sort(np.argsort(-gap, kind="stable")[: MAX_INTERVALS - 1])
    widest = widest[gap[widest] > 0]
    return Intervals(cells.start[np.append(0, widest + 1)], cells.stop[np.append(widest, len(gap))])


@lru_cache(maxsize=64)
def burst_map(localisation: FrbLocalisation) -> SkyMap:
    """Return where a burst came from as a sky map."""
    return localisation_map(ellipse_of(localisation))


@dataclass(frozen=True)
class DistanceHint:
    """What is known of a burst's distance."""

    dm_excess_pc_cm3: float | None = None
    redshift: float | None = None
    redshift_low: float | None = None
    redshift_high: float | None = None
    cosmology: str = "Planck18"

    @property
    def weight(self) -> DistanceWeight | MeasuredDistance | None:
        """What it makes of distances; a measured redshift counts before the dispersion measure."""
        if self.redshift is not None and self.redshift <= MAX_REDSHIFT:
            return measured_distance(self.redshift, cosmology=self.cosmology)
        if self.dm_excess_pc_cm3 is not None:
            return distance_weight(self.dm_excess_pc_cm3, cosmology=self.cosmology)
        return None

    @property
    def range_mpc(self) -> tuple[float | None, float | None]:
        """Luminosity distances at the ends of the range of redshift."""
        ends = (self.redshift_low, self.redshift_high) if self.redshift is None else (self.redshift, self.redshift)
        low, high = (
            None
            if z is None
            else float(luminosity_distance_mpc(min(max(z, 0.0), MAX_REDSHIFT), cosmology=self.cosmology))
            for z in ends
        )
        return low, high


@dataclass(frozen=True)
class Comparison:
    """A burst's position and some maps' cells that meet it.

    Attributes
    ----------
    packed
        Per map, its rows; none where no cell meets the position.
    """

    localisation: FrbLocalisation
    hint: DistanceHint
    packed: Sequence[Sequence[bytes]]


def compare(comparison: Comparison) -> list[SkyScores]:
    """Return the scores of one burst with each map, in their order; made for a thousand maps at once."""
    cells = [unpacked(parts) for parts in comparison.packed]
    number = np.repeat(np.arange(len(cells)), [len(some) for some in cells])
    every = np.concatenate([*cells, np.empty(0, CELL)])
    position = burst_map(comparison.localisation)
    held = interval_probabilities(position, every["start"], _stop(every))
    core_order = int(position.order.max())
    # Outside of the core the burst's cells are one order coarser: a hundredth of the probability, to a hundredth.
    for at in np.unique(number[every["order"] > core_order]):
        # A map that is finer than the burst's cells resolves the Gaussian within them.
        resolved = localisation_map(ellipse_of(comparison.localisation), resolving=as_skymap(cells[at]))
        held[number == at] = interval_probabilities(resolved, cells[at]["start"], _stop(cells[at]))
    return _summed(comparison, every, number=number, held=held, n_maps=len(cells))


def _stop(cells: Cells) -> Int64Array:
    stop: Int64Array = cells["start"] + healpix.cell_size(cells["order"])
    return stop


def _summed(
    comparison: Comparison, cells: Cells, *, number: Int64Array, held: NDArray[np.float64], n_maps: int
) -> list[SkyScores]:
    def per_map(values: NDArray[Any]) -> NDArray[np.float64]:
        return np.bincount(number, values, n_maps).astype(float)

    product = healpix.SKY_SR * cells["probdensity"] * held
    overlap = per_map(product)
    centre = int(healpix.lonlat_to_nest29(comparison.localisation.ra_deg, comparison.localisation.dec_deg))
    at_centre = (cells["start"] <= centre) & (centre < _stop(cells))
    density, level = np.zeros(n_maps), np.ones(n_maps)
    density[number[at_centre]] = cells["probdensity"][at_centre]
    level[number[at_centre]] = np.minimum(cells["credible_level"][at_centre], 1.0)
    mean, std = np.full(n_maps, np.nan), np.full(n_maps, np.nan)
    known = at_centre & np.isfinite(cells["distmu"])
    if known.any():
        mean[number[known]], std[number[known]] = conditional_distance_mpc(as_skymap(cells[known]))
    weight = comparison.hint.weight
    has_distance = per_map(np.isfinite(cells["distmu"])) > 0
    overlap_3d = overlap
    if weight is not None:
        # Of a row of neighbours only some meet the burst.
        meet = np.flatnonzero(product)
        weighted = np.zeros(len(product))
        weighted[meet] = product[meet] * distance_factor(cells["distmu"][meet], cells["distsigma"][meet], weight)
        overlap_3d = per_map(weighted)
    low_mpc, high_mpc = comparison.hint.range_mpc
    return [
        SkyScores(
            overlap_sky=float(overlap[at]),
            credible_level=float(level[at]),
            probdensity_per_sr=float(density[at]),
            overlap_3d=float(overlap_3d[at]) if weight is not None and has_distance[at] else None,
            wave_distance_mean_mpc=_finite(mean[at]),
            wave_distance_std_mpc=_finite(std[at]),
            burst_distance_low_mpc=low_mpc,
            burst_distance_high_mpc=high_mpc,
        )
        for at in range(n_maps)
    ]


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
