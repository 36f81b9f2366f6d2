"""A position with its error as a sky map: a two-dimensional Gaussian, averaged over cells.

The Gaussian lives in the plane of distance and direction from the centre, as `Ellipse.contains` does: the probability
within r standard deviations is ``1 - exp(-r^2 / 2)`` however wide it is. On the sphere its density is that of the plane
times ``d / sin(d)``, the plane's area over the sky's at distance d. Beyond 90 deg from the centre that factor stays at
``pi / 2``: where it would run to infinity, a Gaussian that wide says nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import astropy_healpix
import numpy as np
from astropy.units import rad
from numpy.typing import NDArray

from shared.errors import InvalidInputError
from shared.sky import healpix
from shared.sky.healpix import FloatArray, Int64Array
from shared.sky.localisation import FLAT_DEG, REACH_RAD, Ellipse, intervals
from shared.sky.skymap import SkyMap

COVERAGE_SIGMA = 5.26
# A Gaussian has 1e-6 of its probability outside.
CORE_SIGMA = 3.0
# Within is 98.9 % of the probability; cells outside are one order coarser.
SIDE_SIGMA = 0.25
# Side of the cells in the core, in standard deviations of the minor axis. A circle takes 400 to 1,500 of them.
MAX_CELLS = 2_000
# Thin ellipses get longer cells to stay at about as many; orders being whole, it may be twice that.
MAX_AXIS_RATIO = 300
# Thinner, and cells would be wider than the nodes in them can average: 4 standard deviations across.
MAX_NODES = 8
_CELLS_OF_SIDE_SIGMA = 43
# In all, for a circle and cells of one standard deviation in the core: areas of core and surroundings.
_SIDE_RAD = float(np.sqrt(np.pi / 3))
# Of a cell of order 0.
_SMALLEST_SIGMA_RAD = _SIDE_RAD / 2**healpix.MAX_ORDER / SIDE_SIGMA
_COARSEST_ORDER = 2


def localisation_map(
    ellipse: Ellipse, *, coverage_sigma: float = COVERAGE_SIGMA, resolving: SkyMap | None = None
) -> SkyMap:
    """Return the Gaussian of which an ellipse is the contour at its confidence level.

    Densities are averages over the cells, not values at their centres, so that the overlap with a map of cells that
    are not finer is right to 1e-4. A circle takes about 1,000 cells, the thinnest ellipse some thousands. No
    standard deviation is taken below 4.4e-7 deg, for which cells are fine enough, nor below a 300th of the other.

    Parameters
    ----------
    coverage_sigma
        Where the Gaussian ends, in standard deviations, up to one cell more. Normalisation makes up for the rest.
    resolving
        Take no cells coarser than this map's at the same place, so that the overlap with it is right to 1e-4 however
        fine it is. That may be as many cells more as it has there.

    Raises
    ------
    InvalidInputError
        `coverage_sigma` is not between 3 and 30.
    """
    if not CORE_SIGMA <= coverage_sigma <= 30:
        raise InvalidInputError("coverage_sigma", coverage_sigma, "3 to 30")
    gaussian = _Gaussian.within(ellipse)
    start, order = gaussian.cells(coverage_sigma)
    if resolving is not None:
        start, order = _resolved(start, order, resolving)
    density = gaussian.averages(start, order)
    return SkyMap(start=start, order=order, probdensity=density / (density * healpix.cell_area_sr(order)).sum())


@dataclass(frozen=True)
class _Plane:
    """Places in the plane of distance and direction: along both axes (rad), and the plane's area over the sky's."""

    along_major: FloatArray
    along_minor: FloatArray
    stretch: FloatArray


@dataclass(frozen=True)
class _Gaussian:
    ra_rad: float
    dec_rad: float
    position_angle_rad: float
    sigma_major_rad: float
    sigma_minor_rad: float

    @classmethod
    def within(cls, ellipse: Ellipse) -> _Gaussian:
        n_sigma = np.sqrt(-2 * np.log1p(-ellipse.confidence_level))
        major = max(float(np.radians(ellipse.semi_major_deg) / n_sigma), _SMALLEST_SIGMA_RAD)
        minor = max(float(np.radians(ellipse.semi_minor_deg) / n_sigma), major / MAX_AXIS_RATIO, _SMALLEST_SIGMA_RAD)
        ra, dec, angle = np.radians([ellipse.ra_deg, ellipse.dec_deg, ellipse.position_angle_deg])
        return cls(float(ra), float(dec), float(angle), major, minor)

    @property
    def core_order(self) -> int:
        ratio = self.sigma_major_rad / self.sigma_minor_rad
        side = self.sigma_minor_rad * max(SIDE_SIGMA, np.sqrt(_CELLS_OF_SIDE_SIGMA * ratio / MAX_CELLS))
        return int(np.clip(np.round(np.log2(_SIDE_RAD / side)), _COARSEST_ORDER, healpix.MAX_ORDER))

    def cells(self, coverage_sigma: float) -> tuple[Int64Array, Int64Array]:
        """Cells that cover the Gaussian out to so many standard deviations: start and order, sorted."""
        start, order = self._coarse_cells(coverage_sigma)
        for _ in range(order[0], self.core_order - 1):
            start, order = _split(start, order, np.ones(len(start), dtype=np.bool_))
            near = self._reached(start, order, coverage_sigma)
            start, order = start[near], order[near]
        if order[0] < self.core_order:
            start, order = _split(start, order, self._reached(start, order, CORE_SIGMA))
        return start, order

    def _coarse_cells(self, coverage_sigma: float) -> tuple[Int64Array, Int64Array]:
        major, minor = np.degrees([self.sigma_major_rad, self.sigma_minor_rad]) * coverage_sigma
        order = _COARSEST_ORDER
        start = np.arange(12 << 2 * order) << 2 * (healpix.MAX_ORDER - order)
        if major < FLAT_DEG:
            ra, dec, angle = np.degrees([self.ra_rad, self.dec_rad, self.position_angle_rad])
            found = intervals(Ellipse(min(float(ra), 360.0), float(dec), major, minor, float(angle), 0.5))
            edges = int(np.bitwise_or.reduce(found.start | found.stop))
            order = min(healpix.MAX_ORDER - ((edges & -edges).bit_length() - 1) // 2, self.core_order)
            size = int(healpix.cell_size(order))
            count = (found.stop - found.start) // size
            step = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
            start = np.repeat(found.start, count) + step * size
        return start, np.full(len(start), order)

    def _reached(self, start: Int64Array, order: Int64Array, n_sigma: float) -> NDArray[np.bool_]:
        """Which cells reach into the ellipse of so many standard deviations; some that do not are taken with them."""
        ipix = start >> 2 * (healpix.MAX_ORDER - order)
        place = self._plane(*_lonlat(ipix, order, 0.5, 0.5))
        # No point of a cell is farther from its centre than this, along either axis.
        reach = REACH_RAD / 2.0**order * place.stretch
        along_major = np.maximum(np.abs(place.along_major) - reach, 0) / self.sigma_major_rad
        along_minor = np.maximum(np.abs(place.along_minor) - reach, 0) / self.sigma_minor_rad
        reached: NDArray[np.bool_] = along_major**2 + along_minor**2 <= n_sigma**2
        return reached

    def averages(self, start: Int64Array, order: Int64Array) -> FloatArray:
        """Average density over each cell, up to a common factor.

        By Gauss and Legendre's rule along both sides, in the projection in which cells are squares of equal areas.
        """
        side_sigma = _SIDE_RAD / 2**self.core_order / self.sigma_minor_rad
        n_nodes = int(np.clip(np.ceil(1.4 + 1.6 * side_sigma), 2, MAX_NODES))
        node, weight = np.polynomial.legendre.leggauss(n_nodes)
        dx, dy = (grid.ravel() for grid in np.meshgrid((1 + node) / 2, (1 + node) / 2))
        ipix = start >> 2 * (healpix.MAX_ORDER - order)
        place = self._plane(*_lonlat(ipix[:, np.newaxis], order[:, np.newaxis], dx, dy))
        exponent = (place.along_major / self.sigma_major_rad) ** 2 + (place.along_minor / self.sigma_minor_rad) ** 2
        averages: FloatArray = (np.exp(-exponent / 2) * place.stretch) @ np.outer(weight, weight).ravel()
        return averages

    def _plane(self, ra_rad: FloatArray, dec_rad: FloatArray) -> _Plane:
        half, off = (ra_rad - self.ra_rad) / 2, dec_rad - self.dec_rad
        sin_half, cos_dec = np.sin(half), np.cos(dec_rad)
        east = 2 * cos_dec * sin_half * np.cos(half)
        # As in `Ellipse.contains`: differences of products close by would lose digits.
        shift = 2 * cos_dec * sin_half**2
        north = np.sin(off) + np.sin(self.dec_rad) * shift
        inward = np.cos(off) - np.cos(self.dec_rad) * shift
        sine = np.sqrt(east**2 + north**2)
        with np.errstate(invalid="ignore"):
            stretch = np.where(sine > 0, np.arctan2(sine, inward) / sine, 1.0)
        cos_angle, sin_angle = np.cos(self.position_angle_rad), np.sin(self.position_angle_rad)
        return _Plane(
            stretch * (north * cos_angle + east * sin_angle),
            stretch * (east * cos_angle - north * sin_angle),
            np.where(inward > 0, stretch, np.pi / 2),
        )


def _lonlat(ipix: Int64Array, order: Int64Array, dx: object, dy: object) -> tuple[FloatArray, FloatArray]:
    ra, dec = astropy_healpix.healpix_to_lonlat(ipix, np.left_shift(1, order), dx=dx, dy=dy, order="nested")
    return ra.to_value(rad), dec.to_value(rad)


def _split(start: Int64Array, order: Int64Array, where: NDArray[np.bool_]) -> tuple[Int64Array, Int64Array]:
    """Replace some cells by their four children, in place."""
    count = np.where(where, 4, 1)
    child = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    order = np.repeat(order + where, count)
    return np.repeat(start, count) + child * healpix.cell_size(order), order


def _resolved(start: Int64Array, order: Int64Array, like: SkyMap) -> tuple[Int64Array, Int64Array]:
    """Split cells until none holds a finer cell of another map."""
    while True:
        stop = start + healpix.cell_size(order)
        first = np.searchsorted(like.cells.stop, start, side="right")
        count = np.searchsorted(like.start, stop, side="left") - first
        # A finer cell that is alone in there counts too: the map may be a part of the sky.
        finer = (count > 0) & (like.order[np.minimum(first, len(like.order) - 1)] > order)
        if not finer.any():
            return start, order
        start, order = _split(start, order, finer)
