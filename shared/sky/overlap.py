"""How much two sky maps agree, and what they say together.

Cells of HEALPix are nested: of two cells that meet, the finer lies wholly in the coarser. The cells common to two maps
of mixed orders are therefore cells of one of them, and integrals over products of maps are plain sums, without error
but rounding.

References
----------
Ashton et al. 2018, ApJ 860, 6 (overlap of sky maps; arXiv:1712.05392).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from shared.errors import InvalidInputError
from shared.sky import healpix
from shared.sky.healpix import FloatArray, Int64Array
from shared.sky.skymap import SkyMap

FEW_CELLS = 4
# Where one map has so many times the cells of the other, searching the few among the many beats merging all of them.
_AREA_SR: FloatArray = healpix.cell_area_sr(np.arange(healpix.MAX_ORDER + 1))
# By order.


@dataclass(frozen=True, eq=False)
class Intersection:
    """The cells common to two maps, sorted by position.

    Attributes
    ----------
    in_a, in_b
        Index of the cell of either map that holds the common cell.
    start, order
        Of the common cell: the finer of the two. See `SkyMap`.
    """

    in_a: Int64Array
    in_b: Int64Array
    start: Int64Array
    order: Int64Array

    @cached_property
    def area_sr(self) -> FloatArray:
        """Solid angle of each common cell (sr)."""
        areas: FloatArray = _AREA_SR[self.order]
        return areas


def intersection(a: SkyMap, b: SkyMap) -> Intersection:
    """Return the cells common to two maps; at most as many as both have together.

    Only `start` and `order` of the maps are looked at.
    """
    if len(a.start) * FEW_CELLS < len(b.start):
        in_a, in_b = _few_among_many(a, b)
    elif len(b.start) * FEW_CELLS < len(a.start):
        in_b, in_a = _few_among_many(b, a)
    else:
        in_a, in_b = _merged(a, b)
    return Intersection(in_a, in_b, np.maximum(a.start[in_a], b.start[in_b]), np.maximum(a.order[in_a], b.order[in_b]))


def _merged(a: SkyMap, b: SkyMap) -> tuple[Int64Array, Int64Array]:
    starts = np.concatenate((a.start, b.start))
    # Two ascending runs, which the stable sort merges. Each common cell begins where the later of its two cells does.
    merged = np.argsort(starts, kind="stable")
    last_a = np.cumsum(merged < len(a.start)) - 1
    last_b = np.arange(len(merged)) - last_a - 1
    begin = starts[merged]
    # Index -1, before the first cell, is the last cell's: it ends after every start, so it is asked for by itself.
    common = (begin < a.cells.stop[last_a]) & (begin < b.cells.stop[last_b]) & (last_a >= 0) & (last_b >= 0)
    return last_a[common], last_b[common]


def _few_among_many(few: SkyMap, many: SkyMap) -> tuple[Int64Array, Int64Array]:
    # What meets one cell stands side by side: from the first cell that ends after its start to the last that starts
    # before its end.
    first = np.searchsorted(many.start, few.start, side="right") - 1
    first += (first < 0) | (many.cells.stop[first] <= few.start)
    count = np.searchsorted(many.start, few.cells.stop, side="left") - first
    in_few = np.repeat(np.arange(len(count)), count)
    in_many = np.arange(len(in_few)) + np.repeat(first - (np.cumsum(count) - count), count)
    return in_few, in_many


def overlap(a: SkyMap, b: SkyMap) -> float:
    """Overlap of two maps: ``4 pi`` times the integral of the product of their densities over the sky.

    1 where either is isotropic, above 1 where the maps agree, 0 where they exclude each other (Ashton et al. 2018, with
    an isotropic prior). Exact but for rounding, and the same whichever map comes first.
    """
    common = intersection(a, b)
    product = a.probdensity[common.in_a] * b.probdensity[common.in_b]
    return float(healpix.SKY_SR * (product * common.area_sr).sum())


def combined(a: SkyMap, b: SkyMap) -> SkyMap:
    """Return the normalised product of two maps, on the common cells where neither is zero.

    Distances along the line of sight are those of `a`, or of `b` when `a` has none; so are name and date. The mean
    distance of the old map no longer holds: `shared.sky.region.distance` finds the new one.

    Raises
    ------
    InvalidInputError
        The product is zero everywhere.
    """
    common = intersection(a, b)
    # By their largest value each: densities of 1e-200 and less are real, and their product is below what floats hold.
    product = _scaled(a.probdensity[common.in_a]) * _scaled(b.probdensity[common.in_b])
    kept = np.flatnonzero(product > 0)
    if len(kept) == 0:
        raise InvalidInputError("product of the sky maps", "zero everywhere", "maps that share a part of the sky")
    product, order = product[kept], common.order[kept]
    of_distance, cell = (a, common.in_a[kept])
    if a.distmu is None and b.distmu is not None:
        of_distance, cell = (b, common.in_b[kept])
    distances = [
        None if column is None else column[cell]
        for column in (of_distance.distmu, of_distance.distsigma, of_distance.distnorm)
    ]
    if distances[0] is not None and not np.isfinite(distances[0]).any():
        distances = [None, None, None]
    return SkyMap(
        start=common.start[kept],
        order=order,
        probdensity=product / (product * _AREA_SR[order]).sum(),
        distmu=distances[0],
        distsigma=distances[1],
        distnorm=distances[2],
        object_name=a.object_name or b.object_name,
        date_obs=a.date_obs or b.date_obs,
        instruments=tuple(dict.fromkeys((*a.instruments, *b.instruments))),
        notes=("product of two maps",),
    )


def _scaled(density: FloatArray) -> FloatArray:
    largest = density.max(initial=0)
    return density / largest if largest > 0 else density
