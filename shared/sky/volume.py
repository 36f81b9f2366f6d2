"""How much a sky map with distances agrees with a burst, or with another such map, in three dimensions.

The overlap of positions counts each common cell by how much better one common source explains both distances than two
unrelated sources do. What was chosen and why is in docs/decisions/0017.

References
----------
Ashton et al. 2018, ApJ 860, 6 (overlap of posteriors; arXiv:1712.05392). Singer et al. 2016, ApJL 829, L15 and
Supplement (distances along lines of sight). Macquart et al. 2020, Nature 581, 391 (redshift from dispersion).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from shared.errors import InvalidInputError
from shared.physics.macquart import MAX_REDSHIFT, POPULATION, Population, dm_likelihood, luminosity_distance_mpc
from shared.sky import healpix, region
from shared.sky.healpix import FloatArray, Int64Array
from shared.sky.overlap import intersection
from shared.sky.skymap import SkyMap

NEAREST_REDSHIFT = 1e-4
# Nearer than that, redshifts tell of motions and not of distances; Andromeda's is negative.
NEGLIGIBLE = 1e-12
# Of the largest weight. What is less does not decide where to integrate.
HORIZON_STD = 3.0
# A Gaussian has 0.1 % of its probability beyond.
_N_CACHED = 1024
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(64)
_CHUNK = 1 << 11
# Arrays of so many cells and 64 nodes stay in the cache.


@dataclass(frozen=True, eq=False)
class DistanceWeight:
    """What a dispersion measure says of luminosity distances.

    Attributes
    ----------
    r_mpc
        Luminosity distances, rising; the weight is linear between them and 0 outside.
    weight
        Likelihood of the dispersion measure at each, over that for the population of detected bursts (dimensionless).
    """

    r_mpc: FloatArray
    weight: FloatArray


@dataclass(frozen=True)
class MeasuredDistance:
    """A luminosity distance known from a redshift.

    Attributes
    ----------
    r_mpc
        The distance.
    per_unit_density_mpc
        What a density of probability (1/Mpc) at that distance is worth: one over that of the population.
    """

    r_mpc: float
    per_unit_density_mpc: float


@dataclass(frozen=True)
class VolumeOverlap:
    """How much two localisations agree: 1 where one says nothing, above 1 where they agree.

    Attributes
    ----------
    overlap_sky
        By position alone, as `shared.sky.overlap.overlap`.
    overlap_3d
        By position and distance.
    """

    overlap_sky: float
    overlap_3d: float

    @property
    def distance_factor(self) -> float | None:
        """What distances add to positions; None where positions exclude each other."""
        return self.overlap_3d / self.overlap_sky if self.overlap_sky > 0 else None


@dataclass(frozen=True)
class LineOfSight:
    """Mean and standard deviation of a map's luminosity distance in one direction, in Mpc; None where unknown."""

    mean_mpc: float | None
    std_mpc: float | None


@lru_cache(maxsize=_N_CACHED)
def distance_weight(
    dm_excess_pc_cm3: float, *, cosmology: str = "Planck18", population: Population = POPULATION
) -> DistanceWeight:
    """Return the weight of each distance given a dispersion measure beyond the Milky Way.

    ``L(DM | z(r)) / integral of pi(z) L(DM | z) dz``, with the likelihood of `dm_likelihood` and pi the population of
    detected bursts. The weight averages to 1 over that population.

    Raises
    ------
    InvalidInputError
        The cosmology is not known, or the excess is not a number.
    """
    z, likelihood = dm_likelihood(dm_excess_pc_cm3, cosmology=cosmology)
    weight = likelihood / np.trapezoid(population.density(z) * likelihood, z)
    counts = np.flatnonzero(weight > NEGLIGIBLE * weight.max())
    # One more on either side, where the weight comes down to nothing.
    kept = slice(max(int(counts[0]) - 1, 0), int(counts[-1]) + 2)
    return DistanceWeight(luminosity_distance_mpc(z[kept], cosmology=cosmology), weight[kept])


def measured_distance(
    redshift: float, *, cosmology: str = "Planck18", population: Population = POPULATION
) -> MeasuredDistance:
    """Return the distance of a burst whose host has a measured redshift; it replaces the dispersion measure.

    Redshifts below `NEAREST_REDSHIFT`, negative ones too, are taken as that.

    Raises
    ------
    InvalidInputError
        The cosmology is not known, or the redshift is above `MAX_REDSHIFT`.
    """
    if not redshift <= MAX_REDSHIFT:
        raise InvalidInputError("redshift", redshift, f"at most {MAX_REDSHIFT}")
    z = max(redshift, NEAREST_REDSHIFT)
    step = z / 100
    below, at, above = luminosity_distance_mpc([z - step, z, min(z + step, MAX_REDSHIFT)], cosmology=cosmology).tolist()
    slope_mpc = (above - below) / (min(z + step, MAX_REDSHIFT) - z + step)
    return MeasuredDistance(at, slope_mpc / float(population.density(z)))


def distance_factor(distmu: FloatArray, distsigma: FloatArray, weight: DistanceWeight | MeasuredDistance) -> FloatArray:
    """Return how much better the distance along each line of sight explains the burst than the population does.

    The mean of the weight over ``p(r) ~ r^2 exp(-(r - mu)^2 / 2 sigma^2)`` (Singer et al. 2016, eq. 2); of a measured
    distance, that density at it over the population's. Lines of sight without a distance (infinite `distmu`) say as
    much as the population, 1. Factors above 0.01 are good to 0.1 %, those below to 2 %.

    Parameters
    ----------
    distmu, distsigma
        Columns of a sky map (Mpc).
    """
    factor = np.ones(len(distmu))
    known = np.flatnonzero(np.isfinite(distmu) & np.isfinite(distsigma) & (distsigma > 0))
    of_chunk = _at_distance if isinstance(weight, MeasuredDistance) else _mean_weight
    for at in range(0, len(known), _CHUNK):
        some = known[at : at + _CHUNK]
        factor[some] = of_chunk(distmu[some], distsigma[some], weight)  # type: ignore[arg-type]
    return factor


def overlap_with_burst(wave: SkyMap, burst: SkyMap, weight: DistanceWeight | MeasuredDistance | None) -> VolumeOverlap:
    """Return the overlap of a map that may have distances and a burst, given as a map of its position and a weight.

    ``4 pi sum of p_wave p_burst dOmega E[weight | cell]`` over the common cells. Without distances, or without a
    weight, the volume says what the sky says.
    """
    common = intersection(wave, burst)
    product = wave.probdensity[common.in_a] * burst.probdensity[common.in_b] * common.area_sr
    return overlap_3d(wave, cells=common.in_a, product_per_sr=product, weight=weight)


def overlap_3d(
    wave: SkyMap,
    *,
    cells: Int64Array,
    product_per_sr: FloatArray,
    weight: DistanceWeight | MeasuredDistance | None,
) -> VolumeOverlap:
    """Return the overlap given the common cells.

    Parameters
    ----------
    cells
        Of each common cell, the index of the wave's cell that holds it.
    product_per_sr
        Both densities multiplied, times the common cell's area (1/sr).
    """
    sky = healpix.SKY_SR * float(product_per_sr.sum())
    if weight is None or wave.distmu is None or wave.distsigma is None:
        return VolumeOverlap(sky, sky)
    # A burst's cells are many to one of the wave's.
    shared = np.bincount(cells, product_per_sr, len(wave.start))
    needed = np.flatnonzero(shared)
    factor = distance_factor(wave.distmu[needed], wave.distsigma[needed], weight)
    return VolumeOverlap(sky, healpix.SKY_SR * float((shared[needed] * factor).sum()))


def horizon_mpc(a: SkyMap, b: SkyMap) -> float | None:
    """Return the radius of the smallest sphere around us that holds both maps, 3 standard deviations beyond the mean.

    None when either has no distances along lines of sight.
    """
    found = [region.marginal_distance(each) for each in (a, b)]
    reach = [each.mean_mpc + HORIZON_STD * (each.std_mpc or 0.0) for each in found if each is not None]
    return max(reach) if len(reach) == len(found) else None


def overlap_of_maps(a: SkyMap, b: SkyMap, *, radius_mpc: float | None = None) -> VolumeOverlap:
    """Return the overlap of two maps that may have distances, symmetric in both.

    ``4 pi sum of p_a p_b dOmega`` times the integral of ``p_a(r) p_b(r) / pi(r)``, with ``pi(r) = 3 r^2 / R^3`` for
    sources that fill a sphere evenly. The result goes with the cube of R: it compares pairs of like reach only.

    Parameters
    ----------
    radius_mpc
        R; None takes `horizon_mpc`.

    Raises
    ------
    InvalidInputError
        The radius is not above 0.
    """
    if radius_mpc is not None and not radius_mpc > 0:
        raise InvalidInputError("radius_mpc", radius_mpc, "a number above 0")
    common = intersection(a, b)
    product = a.probdensity[common.in_a] * b.probdensity[common.in_b] * common.area_sr
    sky = healpix.SKY_SR * float(product.sum())
    radius_mpc = horizon_mpc(a, b) if radius_mpc is None else radius_mpc
    if radius_mpc is None or a.distmu is None or b.distmu is None or a.distsigma is None or b.distsigma is None:
        return VolumeOverlap(sky, sky)
    kept = np.flatnonzero(product)
    in_a, in_b = common.in_a[kept], common.in_b[kept]
    columns = (a.distmu[in_a], a.distsigma[in_a], b.distmu[in_b], b.distsigma[in_b])
    factor = np.ones(len(kept))
    known = np.flatnonzero(np.isfinite(columns).all(axis=0) & (columns[1] > 0) & (columns[3] > 0))
    for at in range(0, len(known), _CHUNK):
        some = known[at : at + _CHUNK]
        factor[some] = _common_distance(*(column[some] for column in columns), radius_mpc=radius_mpc)
    return VolumeOverlap(sky, healpix.SKY_SR * float((product[kept] * factor).sum()))


def line_of_sight(skymap: SkyMap, *, ra_deg: float, dec_deg: float) -> LineOfSight:
    """Return the conditional distance of a map in one direction (Singer et al. 2016, eq. 2).

    Raises
    ------
    InvalidInputError
        The position is not on the sky.
    """
    cell = skymap.cells.find(healpix.lonlat_to_nest29(np.array([ra_deg]), np.array([dec_deg])))
    if cell[0] < 0:
        return LineOfSight(None, None)
    mean, std = (float(values[0]) for values in region.conditional_distance_mpc(skymap, cell))
    return LineOfSight(mean, std) if np.isfinite(mean) else LineOfSight(None, None)


@dataclass(frozen=True)
class _Peaks:
    """Where ``r^2 exp(-(r - mu)^2 / 2 sigma^2)`` is, in columns of one value a cell."""

    mu: FloatArray
    sigma: FloatArray
    peak: FloatArray
    low: FloatArray
    high: FloatArray

    @classmethod
    def of(cls, mu: FloatArray, sigma: FloatArray) -> _Peaks:
        mu, sigma = mu[:, np.newaxis], sigma[:, np.newaxis]
        root = np.sqrt(mu**2 + 8 * sigma**2)
        # The larger root of r^2 - mu r - 2 sigma^2, in the form that does not cancel.
        peak = np.where(mu > 0, (mu + root) / 2, 4 * sigma**2 / (root - np.minimum(mu, 0)))
        width = 1 / np.sqrt(2 / peak**2 + 1 / sigma**2)
        # Below the peak the density falls like a Gaussian or faster. Above it does for mu above 0; for mu far below
        # it falls like r^2 exp(-2 r / peak), where the width is 0.7 of the peak.
        return cls(mu, sigma, peak, np.maximum(peak - 7 * width, 0), peak + np.where(mu > 0, 8, 22) * width)

    def over_peak(self, r: FloatArray) -> FloatArray:
        """Density at distances, over that at the peak."""
        exponent = (self.peak - r) * (self.peak + r - 2 * self.mu) / (2 * self.sigma**2)
        density: FloatArray = np.square(r / self.peak) * np.exp(exponent)
        return density

    def integral(self) -> FloatArray:
        """Integral over all distances, over the density at the peak."""
        half = (self.high - self.low) / 2
        total: FloatArray = half[:, 0] * (self.over_peak(self.low + half * (1 + _NODES)) @ _WEIGHTS)
        return total

    def log_integral(self) -> FloatArray:
        """Logarithm of the integral over all distances, its factor r^2 in Mpc^2."""
        at_peak = 2 * np.log(self.peak) - np.square((self.peak - self.mu) / self.sigma) / 2
        logarithm: FloatArray = at_peak[:, 0] + np.log(self.integral())
        return logarithm


def _mean_weight(mu: FloatArray, sigma: FloatArray, weight: DistanceWeight) -> FloatArray:
    peaks = _Peaks.of(mu, sigma)
    # Where either is nothing there is nothing to find, and nodes are few.
    low, high = np.maximum(peaks.low, weight.r_mpc[0]), np.minimum(peaks.high, weight.r_mpc[-1])
    half = np.maximum(high - low, 0) / 2
    r = low + half * (1 + _NODES)
    product = peaks.over_peak(r) * np.interp(r, weight.r_mpc, weight.weight)
    mean: FloatArray = half[:, 0] * (product @ _WEIGHTS) / peaks.integral()
    return mean


def _at_distance(mu: FloatArray, sigma: FloatArray, measured: MeasuredDistance) -> FloatArray:
    peaks = _Peaks.of(mu, sigma)
    density_per_mpc = peaks.over_peak(np.full((1, 1), measured.r_mpc))[:, 0] / peaks.integral()
    factor: FloatArray = density_per_mpc * measured.per_unit_density_mpc
    return factor


def _common_distance(
    mu_a: FloatArray, sigma_a: FloatArray, mu_b: FloatArray, sigma_b: FloatArray, *, radius_mpc: float
) -> FloatArray:
    # Two Gaussians multiplied are one, and the prior's r^2 takes one of the two factors r^2 away.
    variance = sigma_a**2 + sigma_b**2
    mu = (mu_a * sigma_b**2 + mu_b * sigma_a**2) / variance
    both = _Peaks.of(mu, sigma_a * sigma_b / np.sqrt(variance)).log_integral() - (mu_a - mu_b) ** 2 / (2 * variance)
    alone = _Peaks.of(mu_a, sigma_a).log_integral() + _Peaks.of(mu_b, sigma_b).log_integral()
    factor: FloatArray = radius_mpc**3 / 3 * np.exp(both - alone)
    return factor
