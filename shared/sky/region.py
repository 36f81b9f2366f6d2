"""Questions to a sky map: credible regions, probability at points and in cones, distance.

Convention of credible regions: cells are taken from the densest downwards (equal densities in nested order), as
long as their probability adds up to the level or less. The region's area is the area of those cells, so that
area and MOC always agree. ligo.skymap's `find_greedy_credible_levels` and mocpy's `from_valued_healpix_cells`
(strict, no_split) do the same; interpolating inside the last cell, as ligo.skymap's `crossmatch` does, gives an
area larger by up to one cell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cdshealpix
import numpy as np
from mocpy import MOC
from numpy.typing import ArrayLike, NDArray

from shared.errors import InvalidInputError
from shared.sky import healpix
from shared.sky.fits import Value, write_table
from shared.sky.healpix import FloatArray, Int64Array, Intervals
from shared.sky.skymap import SkyMap

_FLOAT_INDEX_TO_SR = healpix.SKY_SR / healpix.N_CELLS_29


@dataclass(frozen=True)
class Region:
    """Part of the sky.

    Attributes
    ----------
    intervals
        Its order-29 intervals; adjacent ones are joined.
    max_order
        Order of the finest cells it can be made of.
    probability
        Of the map it was taken from, inside the region.
    """

    intervals: Intervals
    max_order: int
    probability: float

    @property
    def area_deg2(self) -> float:
        """Solid angle in square degrees."""
        n_cells = int((self.intervals.stop - self.intervals.start).sum())
        return n_cells / healpix.N_CELLS_29 * healpix.SKY_SR * healpix.DEG2_PER_SR

    def contains(self, ra_deg: ArrayLike, dec_deg: ArrayLike) -> NDArray[np.bool_]:
        """Whether positions lie inside; made for a million of them at once."""
        inside: NDArray[np.bool_] = self.intervals.find(healpix.lonlat_to_nest29(ra_deg, dec_deg)) >= 0
        return inside

    def moc(self) -> MOC:
        """The region as mocpy knows it."""
        return MOC.from_depth29_ranges(self.max_order, self._ranges().astype(np.uint64))

    def to_ascii(self) -> str:
        """IVOA MOC 2.0 ASCII serialisation, one line: ``6/24897 24899 7/...``."""
        return " ".join(self.moc().to_string().split())

    def to_fits(self) -> bytes:
        """IVOA MOC 2.0 FITS serialisation (RANGE); equal regions give equal bytes."""
        header: list[tuple[str, Value]] = [
            ("MOCVERS", "2.0"),
            ("MOCDIM", "SPACE"),
            ("ORDERING", "RANGE"),
            ("COORDSYS", "C"),
            ("MOCORD_S", self.max_order),
            ("MOCTOOL", "tocsin"),
        ]
        return write_table(header, [("RANGE", "", self._ranges().ravel())])

    def _ranges(self) -> Int64Array:
        return np.stack([self.intervals.start, self.intervals.stop], axis=1)


def most_probable_position_deg(skymap: SkyMap) -> tuple[float, float]:
    """Right ascension and declination of the centre of the densest cell, the first in nested order of equal ones."""
    densest = int(skymap.probdensity.argmax())
    return healpix.cell_centre_deg(int(skymap.start[densest]), int(skymap.order[densest]))


def credible_levels(skymap: SkyMap) -> FloatArray:
    """Credible level of each cell: the probability of all cells at least as dense, itself included."""
    ranked = np.argsort(-skymap.probdensity, kind="stable")
    levels = np.empty(len(ranked))
    levels[ranked] = np.cumsum(skymap.probability[ranked])
    return levels


def credible_regions(skymap: SkyMap, levels: Sequence[float]) -> tuple[Region, ...]:
    """The smallest regions that hold the given probabilities, by the module's convention; never empty.

    A map whose densest cell alone exceeds the level gives that cell.

    Raises
    ------
    InvalidInputError
        A level is not between 0 and 1.
    """
    for level in levels:
        if not 0 < level < 1:
            raise InvalidInputError("credible level", level, "a number between 0 and 1")
    ranked = _densest(skymap, holding=max(levels))
    cumulative = np.cumsum(skymap.probability[ranked])
    return tuple(_credible_region(skymap, ranked, cumulative, level) for level in levels)


def _densest(skymap: SkyMap, *, holding: float) -> Int64Array:
    """The densest cells, densest first: at least as many as hold that probability, and one more."""
    # Most cells are never in a region. Grouping densities by their power of two costs a tenth of sorting them
    # and tells which ones cannot matter.
    _, exponent = np.frexp(skymap.probdensity)
    group = exponent.max() - exponent
    group[skymap.probdensity == 0] = group.max()
    held = np.cumsum(np.bincount(group, weights=skymap.probability))
    # Taking one group more than needed keeps rounding from mattering and the next cell within reach.
    needed = int(np.searchsorted(held, holding + 1e-6)) + 1
    candidates = np.flatnonzero(group <= needed)
    return candidates[np.argsort(-skymap.probdensity[candidates], kind="stable")]


def _credible_region(skymap: SkyMap, ranked: Int64Array, cumulative: FloatArray, level: float) -> Region:
    n_whole = int(np.searchsorted(cumulative, level, side="right"))
    chosen = np.zeros(len(skymap.start), dtype=np.bool_)
    chosen[ranked[:n_whole]] = True
    inside = np.flatnonzero(chosen)
    start, stop = skymap.start[inside], skymap.cells.stop[inside]
    probability = float(cumulative[n_whole - 1]) if n_whole else 0.0
    if n_whole < len(ranked):
        last = ranked[n_whole]
        pixel_order = int(skymap.order[last]) if skymap.flat_order is None else skymap.flat_order
        pixel_probability = float(skymap.probdensity[last] * healpix.cell_area_sr(pixel_order))
        # The cell on the border is outside, but pixels of a flat map that were merged into it may be inside.
        n_pixels = int((level - probability) / pixel_probability) if pixel_probability > 0 else 0
        n_pixels = max(n_pixels, 0 if n_whole else 1)
        if n_pixels:
            at = np.searchsorted(start, skymap.start[last])
            start = np.insert(start, at, skymap.start[last])
            stop = np.insert(stop, at, skymap.start[last] + n_pixels * healpix.cell_size(pixel_order))
            probability += n_pixels * pixel_probability
    gap = np.flatnonzero(start[1:] != stop[:-1])
    intervals = Intervals(start[np.concatenate(([0], gap + 1))], stop[np.concatenate((gap, [len(stop) - 1]))])
    return Region(intervals, skymap.max_order, probability)


@dataclass(frozen=True)
class PointValues:
    """What a map says about sky positions, in arrays of the positions' shape.

    Attributes
    ----------
    probdensity_per_sr
        0 outside the map's cells.
    probability
        Of the cell (the pixel, for a flat map) that holds the position; 0 outside.
    credible_level
        Of that cell or pixel; 1 outside.
    distance_mean_mpc, distance_std_mpc
        Conditional on the position; NaN where unknown, None when the map has no distances.
    """

    probdensity_per_sr: FloatArray
    probability: FloatArray
    credible_level: FloatArray
    distance_mean_mpc: FloatArray | None
    distance_std_mpc: FloatArray | None


def at_points(skymap: SkyMap, ra_deg: ArrayLike, dec_deg: ArrayLike) -> PointValues:
    """Look positions up; made for a million of them at once."""
    nest29 = healpix.lonlat_to_nest29(ra_deg, dec_deg)
    cell = skymap.cells.find(nest29)
    outside = cell < 0
    density = np.where(outside, 0.0, skymap.probdensity[cell])
    level = np.where(outside, 1.0, credible_levels(skymap)[cell])
    pixel_order = skymap.order[cell] if skymap.flat_order is None else np.int64(skymap.flat_order)
    probability = density * healpix.cell_area_sr(pixel_order)
    if skymap.flat_order is not None:
        # Pixels of one merged cell are ranked in nested order, as if they had never been merged.
        pixels_after = (skymap.cells.stop[cell] - 1 - nest29) >> 2 * (healpix.MAX_ORDER - skymap.flat_order)
        level = np.where(outside, 1.0, level - pixels_after * probability)
    mean = std = None
    if skymap.distmu is not None:
        needed, position = np.unique(cell, return_inverse=True)
        moments = conditional_distance_mpc(skymap, needed)
        mean, std = (np.where(outside, np.nan, values[position].reshape(cell.shape)) for values in moments)
    return PointValues(density, probability, np.minimum(level, 1.0), mean, std)


def probability_in(skymap: SkyMap, intervals: Intervals) -> float:
    """Probability inside a set of order-29 intervals, exact up to rounding."""
    return float(interval_probabilities(skymap, intervals.start, intervals.stop).sum())


def interval_probabilities(skymap: SkyMap, start: Int64Array, stop: Int64Array) -> FloatArray:
    """Probability inside each interval [start, stop) of order-29 indices, exact up to rounding."""
    across = _probability_below(skymap, stop) - _probability_below(skymap, start)
    # Inside one cell the density is constant, and a difference of two cumulative sums would lose tiny intervals.
    cell = np.searchsorted(skymap.start, start, side="right") - 1
    within = (cell >= 0) & (stop <= skymap.cells.stop[cell])
    return np.where(within, skymap.probdensity[cell] * ((stop - start) * _FLOAT_INDEX_TO_SR), across)


def _probability_below(skymap: SkyMap, edge: Int64Array) -> FloatArray:
    """Probability at order-29 indices below `edge`: linear inside a cell, because its density is constant."""
    below = np.concatenate(([0.0], np.cumsum(skymap.probability)))
    cell = np.searchsorted(skymap.start, edge, side="right") - 1
    covered = np.minimum(edge, skymap.cells.stop[cell]) - skymap.start[cell]
    inside = skymap.probdensity[cell] * (covered * _FLOAT_INDEX_TO_SR)
    return np.where(cell < 0, 0.0, below[cell] + inside)


_CELLS_AROUND_CONE = 4_000


def probability_in_cone(skymap: SkyMap, *, ra_deg: float, dec_deg: float, radius_deg: float) -> float:
    """Probability within `radius_deg` of a position.

    Cells wholly inside count in full. Cells on the edge, of which a few thousand go round the cone, count by the
    part of them inside, taking their sides and the edge for straight: for a uniform density the relative error is
    below 1e-6 (for radii above a thousandth of a degree). Where the map changes within such a cell, the error is
    at most that cell's probability.

    Raises
    ------
    InvalidInputError
        The position is not on the sky, or the radius is not above 0 and at most 180 deg.
    """
    _check_cone(ra_deg, dec_deg, radius_deg)
    if radius_deg > 90:
        opposite = 0.0
        if radius_deg < 180:
            opposite = _in_small_cone(skymap, (ra_deg + 180) % 360, -dec_deg, 180 - radius_deg)
        return max(0.0, float(skymap.probability.sum()) - opposite)
    return _in_small_cone(skymap, ra_deg, dec_deg, radius_deg)


def cone_intervals(*, ra_deg: float, dec_deg: float, radius_deg: float) -> Intervals:
    """Order-29 intervals of the cells within `radius_deg` of a position, for a search by ranges.

    Cells on the edge, of which a few thousand go round the cone, are in when their centre is: the area is right to
    2e-4 (for radii above a thousandth of a degree), and to 1.3e-3 around a pole, where rows of cells are in or out.

    Raises
    ------
    InvalidInputError
        The position is not on the sky, or the radius is not above 0 and at most 180 deg.
    """
    _check_cone(ra_deg, dec_deg, radius_deg)
    if radius_deg > 90:
        # What a cone leaves out is the cone around the opposite position.
        hole = Intervals(np.empty(0, np.int64), np.empty(0, np.int64))
        if radius_deg < 180:
            hole = cone_intervals(ra_deg=(ra_deg + 180) % 360, dec_deg=-dec_deg, radius_deg=180 - radius_deg)
        start, stop = np.append(0, hole.stop), np.append(hole.start, healpix.N_CELLS_29)
        return Intervals(start[start < stop], stop[start < stop])
    cone = _cone_cells(ra_deg, dec_deg, radius_deg)
    edge = cone.edge[cone.edge_height.mean(axis=1) > 0]
    cells = [(ipix << 2 * (healpix.MAX_ORDER - order), order) for ipix, order in [*cone.whole, (edge, cone.edge_order)]]
    start = np.concatenate([begin for begin, _ in cells])
    stop = np.concatenate([begin + healpix.cell_size(order) for begin, order in cells])
    start.sort()
    stop.sort()
    gap = np.flatnonzero(start[1:] != stop[:-1])
    if not len(start):
        return Intervals(start, stop)
    return Intervals(start[np.append(0, gap + 1)], stop[np.append(gap, len(stop) - 1)])


def _check_cone(ra_deg: float, dec_deg: float, radius_deg: float) -> None:
    if not 0 < radius_deg <= 180:
        raise InvalidInputError("radius_deg", radius_deg, "a number above 0 and at most 180")
    healpix.lonlat_to_nest29(ra_deg, dec_deg)  # refuses what is not on the sky


def _in_small_cone(skymap: SkyMap, ra_deg: float, dec_deg: float, radius_deg: float) -> float:
    cone = _cone_cells(ra_deg, dec_deg, radius_deg)
    probability = sum(float(_cell_probabilities(skymap, inside, order).sum()) for inside, order in cone.whole)
    on_edge = _cell_probabilities(skymap, cone.edge, cone.edge_order) * _part_inside(cone.edge_height)
    return probability + float(on_edge.sum())


@dataclass(frozen=True)
class _ConeCells:
    """The cells wholly inside a cone, by order, and those on its edge with their corners' heights above the edge."""

    whole: list[tuple[Int64Array, int]]
    edge: Int64Array
    edge_order: int
    edge_height: FloatArray


def _cone_cells(ra_deg: float, dec_deg: float, radius_deg: float) -> _ConeCells:
    """Cells of a cone of at most 90 deg."""
    lon, lat, radius = np.radians(ra_deg), np.radians(dec_deg), np.radians(radius_deg)
    finest = np.log2(np.sqrt(np.pi / 3) * _CELLS_AROUND_CONE / (2 * np.pi * np.sin(radius)))
    order = int(np.clip(np.ceil(finest), 0, healpix.MAX_ORDER))
    # Not cdshealpix.cone_search: 0.9 takes a cell for wholly inside when the cone has the same centre, and is wrong
    # by a quarter for 30 deg around RA 0, Dec 0.
    whole: list[tuple[Int64Array, int]] = []
    ipix = np.arange(12)
    for level in range(order + 1):
        if level > 0:
            ipix = (4 * ipix[:, np.newaxis] + np.arange(4)).ravel()
        centre_lon, centre_lat = cdshealpix.healpix_to_lonlat(ipix.astype(np.uint64), level)
        distance = _separation(lon, lat, centre_lon.rad, centre_lat.rad)
        reach = _reach(level)
        whole.append((ipix[distance + reach <= radius], level))
        ipix = ipix[np.abs(distance - radius) < reach]
    corner_lon, corner_lat = cdshealpix.vertices(ipix.astype(np.uint64), order)
    return _ConeCells(whole, ipix, order, radius - _separation(lon, lat, corner_lon.rad, corner_lat.rad))


def _cell_probabilities(skymap: SkyMap, ipix: Int64Array, order: int) -> FloatArray:
    start = ipix << 2 * (healpix.MAX_ORDER - order)
    return interval_probabilities(skymap, start, start + healpix.cell_size(order))


def _reach(order: int) -> float:
    """Longest way from a cell's centre to its corner, in radians: of the cells where equator and pole meet."""
    nside = 1 << order
    lon, sin_lat, corner_sin_lat = np.pi / (4 * nside), 2 / 3, 1 - (1 - 1 / nside) ** 2 / 3
    reach = _separation(0.0, float(np.arcsin(corner_sin_lat)), np.array(lon), np.array(np.arcsin(sin_lat)))
    return float(reach) * (1 + 1e-9)


def _part_inside(height: FloatArray) -> FloatArray:
    """Part of each parallelogram where a linear function is positive, given its value at the four corners in turn."""
    centre = height.mean(axis=1)
    # Over a parallelogram the function is its centre's value plus two independent uniform variables; this is
    # the distribution function of their sum.
    long = np.abs(height[:, 0] - height[:, 1]) / 2
    short = np.abs(height[:, 1] - height[:, 2]) / 2
    long, short = (np.maximum(long, short), np.maximum(np.minimum(long, short), 1e-4 * np.maximum(long, short)))
    ramps = [np.maximum(centre + a * long + b * short, 0) ** 2 * (a * b) for a in (1, -1) for b in (1, -1)]
    part: FloatArray = np.clip(np.sum(ramps, axis=0) / (8 * long * short), 0, 1)
    return part


def _separation(lon: float, lat: float, other_lon: FloatArray, other_lat: FloatArray) -> Any:
    """Angle between positions, in radians; the haversine formula, which keeps its digits for small angles."""
    half = np.sin((other_lat - lat) / 2) ** 2 + np.cos(lat) * np.cos(other_lat) * np.sin((other_lon - lon) / 2) ** 2
    return 2 * np.arcsin(np.sqrt(np.clip(half, 0, 1)))


@dataclass(frozen=True)
class Distance:
    """Mean and standard deviation of the luminosity distance over the whole sky, in Mpc."""

    mean_mpc: float
    std_mpc: float | None


def distance(skymap: SkyMap) -> Distance | None:
    """The header's values where they are there, else from the cells; None for a map without distances."""
    if skymap.distance_mean_mpc is not None and (skymap.distance_std_mpc is not None or skymap.distmu is None):
        return Distance(skymap.distance_mean_mpc, skymap.distance_std_mpc)
    if skymap.distmu is None:
        return None
    return marginal_distance(skymap)


def marginal_distance(skymap: SkyMap) -> Distance | None:
    """Distance from the cells' own moments, weighted by probability; cells without a distance are left out.

    Singer et al. 2016, Supplement, eq. 9; as `ligo.skymap.distance.parameters_to_marginal_moments`, but
    divided by the probability of the cells that took part.
    """
    weighty = np.flatnonzero(skymap.probability > 0)
    mean, std = conditional_distance_mpc(skymap, weighty)
    known = np.isfinite(mean)
    weight = skymap.probability[weighty][known]
    if weight.sum() == 0:
        return None
    first = float(np.average(mean[known], weights=weight))
    second = float(np.average(std[known] ** 2 + mean[known] ** 2, weights=weight))
    return Distance(first, float(np.sqrt(max(second - first**2, 0.0))))


_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(96)
_CHUNK = 1 << 14


def conditional_distance_mpc(skymap: SkyMap, cells: Int64Array | None = None) -> tuple[FloatArray, FloatArray]:
    """Mean and standard deviation of the distance along the line of sight of each cell, in Mpc; NaN where unknown.

    The density is proportional to ``r^2 exp(-(r - mu)^2 / 2 sigma^2)`` (Singer et al. 2016, eq. 2). Its closed
    moments cancel badly for mu far below 0, so they are integrated (Gauss-Legendre) around its peak.
    """
    n_cells = len(skymap.start) if cells is None else len(cells)
    mean, std = np.full(n_cells, np.nan), np.full(n_cells, np.nan)
    if skymap.distmu is None or skymap.distsigma is None:
        return mean, std
    mu, sigma = (column if cells is None else column[cells] for column in (skymap.distmu, skymap.distsigma))
    known = np.flatnonzero(np.isfinite(mu) & np.isfinite(sigma) & (sigma > 0))
    for at in range(0, len(known), _CHUNK):
        some = known[at : at + _CHUNK]
        mean[some], std[some] = _moments(mu[some], sigma[some])
    return mean, std


def _moments(mu: FloatArray, sigma: FloatArray) -> tuple[FloatArray, FloatArray]:
    root = np.sqrt(mu**2 + 8 * sigma**2)
    # The larger root of r^2 - mu r - 2 sigma^2, in the form that does not cancel.
    peak = np.where(mu > 0, (mu + root) / 2, 4 * sigma**2 / (root - np.minimum(mu, 0)))
    width = 1 / np.sqrt(2 / peak**2 + 1 / sigma**2)
    # Below the peak the density falls like a Gaussian or faster, above it at worst like exp(-1.4 r / width).
    low, high = np.maximum(peak - 9 * width, 0), peak + 22 * width
    half = (high - low)[:, np.newaxis] / 2
    r = low[:, np.newaxis] + half * (1 + _NODES)
    over_peak = r / peak[:, np.newaxis]
    exponent = (peak[:, np.newaxis] - r) * (peak[:, np.newaxis] + r - 2 * mu[:, np.newaxis])
    weight = _WEIGHTS * over_peak**2 * np.exp(exponent / (2 * sigma**2)[:, np.newaxis])
    total = weight.sum(axis=1)
    mean = (weight * r).sum(axis=1) / total
    variance = (weight * (r - mean[:, np.newaxis]) ** 2).sum(axis=1) / total
    return mean, np.sqrt(variance)
