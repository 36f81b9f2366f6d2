"""Distance from dispersion: the Macquart relation between redshift and what the cosmic web adds.

Macquart et al. 2020, Nature 581, 391 (arXiv:2005.13161): the mean and the scatter of the cosmic part, and a log-normal
part of the host. What was chosen and why is in docs/decisions/0016, of the population of bursts in 0017.
"""

from dataclasses import dataclass
from functools import lru_cache
from math import gamma
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shared.errors import InvalidInputError

FloatArray = NDArray[np.float64]

BARYON_FRACTION_DIFFUSE = 0.84
# Of all baryons, in diffuse ionised gas, at low redshift; taken as constant.
ELECTRONS_PER_BARYON = 7 / 8
# Fully ionised hydrogen and helium, 3:1 by mass.
FEEDBACK = 0.31
# F of the scatter F z^-0.5. This and the two numbers of the host are the medians of one fit: Macquart et al. 2020.
HOST_MEDIAN_PC_CM3 = 68.2
HOST_SIGMA_LN = 0.88
# In the host's own frame; at the observer it is smaller by 1 + z.
ALPHA = BETA = 3.0
# Slopes of the density profile of haloes (Macquart et al. 2020, equation 4).
MILKY_WAY_ERROR_PC_CM3 = 30.0
# What the Milky Way's part may be wrong by: the width of the range that Prochaska & Zheng 2019 give for the halo alone.
MAX_REDSHIFT = 5.0
LEVELS = (0.05, 0.95)
# The range holds the redshift with a probability of 90 %.
N_REDSHIFTS = 400
DM_STEP_PC_CM3 = 2.0
# A fifth of the width of the host's part at the highest redshift, where it is narrowest.
MAX_EXCESS_PC_CM3 = 3500.0
# More than any of the first CHIME catalogue, 3038 in all; with more than this the end of the prior decides.
N_EXCESSES = 300
FFT_SIZE = 4096
# At least twice the number of steps, for sums do not wrap then; a product of small primes.

_DELTA = np.geomspace(1e-3, 1e3, 1000)


@dataclass(frozen=True)
class Population:
    """The redshifts of detected bursts, wherever they are: a gamma distribution (docs/decisions/0017).

    Attributes
    ----------
    shape
        Near to us their number grows like redshift to the power of this less one.
    scale
        Their mean redshift over the shape.
    """

    shape: float
    scale: float

    def density(self, redshift: ArrayLike) -> FloatArray:
        """Return the density of redshifts."""
        z = np.asarray(redshift, dtype=float)
        norm = gamma(self.shape) * self.scale**self.shape
        density: FloatArray = z ** (self.shape - 1) * np.exp(-z / self.scale) / norm
        return density


# The scales make half of the bursts have more than the median excess of the first CHIME catalogue (CHIME/FRB
# Collaboration 2021, ApJS 257, 59): 414.5 pc cm^-3 beyond NE2001 and the halo.
VOLUME = Population(shape=3, scale=0.165)
# They fill the volume: as if near bursts and far ones were detected alike.
EXPONENTIAL = Population(shape=1, scale=0.617)
# Faint bursts, which are many, are detected from nearby only. It describes the near bursts of the catalogue.
POPULATION = EXPONENTIAL


@dataclass(frozen=True)
class RedshiftRange:
    """The redshifts that a dispersion measure allows."""

    low: float
    mean: float
    high: float


def mean_cosmic_dm_pc_cm3(redshift: ArrayLike, *, cosmology: str = "Planck18") -> FloatArray:
    """Return the mean dispersion measure of the cosmic web out to a redshift (Macquart et al. 2020, equation 2).

    Raises
    ------
    InvalidInputError
        The cosmology is not known, or a redshift is not from 0 to `MAX_REDSHIFT`.
    """
    values = np.asarray(redshift, dtype=float)
    if not np.all((values >= 0) & (values <= MAX_REDSHIFT)):
        raise InvalidInputError("redshift", redshift, f"0 to {MAX_REDSHIFT}")
    z, dm = _mean_table(cosmology)
    found: FloatArray = np.interp(values, z, dm)
    return found


def redshift_range(dm_excess_pc_cm3: float, *, cosmology: str = "Planck18") -> RedshiftRange:
    """Return the redshifts that a dispersion measure beyond the Milky Way allows (90 %), with their mean.

    An excess of nothing or less puts the burst at redshift 0, within what the Milky Way's part may be wrong by.

    Raises
    ------
    InvalidInputError
        The cosmology is not known.
    """
    table = _posterior_table(cosmology)
    excess = max(dm_excess_pc_cm3, 0.0)
    return RedshiftRange(
        low=float(np.interp(excess, table.dm, table.low)),
        mean=float(np.interp(excess, table.dm, table.mean)),
        high=float(np.interp(max(excess, MILKY_WAY_ERROR_PC_CM3), table.dm, table.high)),
    )


def redshift_posterior(dm_excess_pc_cm3: float, *, cosmology: str = "Planck18") -> tuple[FloatArray, FloatArray]:
    """Return redshifts and the probability density of each given a dispersion measure beyond the Milky Way.

    The prior is flat in redshift up to `MAX_REDSHIFT`: with another one, multiply and normalise. Excesses are taken as
    no less than `DM_STEP_PC_CM3` and no more than `MAX_EXCESS_PC_CM3`.

    Raises
    ------
    InvalidInputError
        The cosmology is not known.
    """
    table = _posterior_table(cosmology)
    at = np.clip(dm_excess_pc_cm3, table.dm[1], table.dm[-1])
    above = max(int(np.searchsorted(table.dm, at)), 2)
    weight = (at - table.dm[above - 1]) / (table.dm[above] - table.dm[above - 1])
    return table.z, (1 - weight) * table.density[:, above - 1] + weight * table.density[:, above]


def dm_likelihood(dm_excess_pc_cm3: float, *, cosmology: str = "Planck18") -> tuple[FloatArray, FloatArray]:
    """Return redshifts, and the density (per pc cm^-3) of this excess for a burst at each of them.

    The excess is off by the Milky Way's part: it is folded with a Gaussian of `MILKY_WAY_ERROR_PC_CM3`. Excesses are
    taken as no less than 0 and no more than `MAX_EXCESS_PC_CM3`.

    Raises
    ------
    InvalidInputError
        The cosmology is not known, or the excess is not a number.
    """
    if np.isnan(dm_excess_pc_cm3):
        raise InvalidInputError("dm_excess_pc_cm3", dm_excess_pc_cm3, "a number")
    table = _posterior_table(cosmology)
    n_sigma = np.linspace(-4, 4, 81)
    share = np.exp(-(n_sigma**2) / 2)
    true = np.clip(dm_excess_pc_cm3, 0, table.dm[-1]) + MILKY_WAY_ERROR_PC_CM3 * n_sigma
    # Below 0 the first column counts, in which no redshift is likely.
    place = np.interp(true, table.dm, np.arange(len(table.dm)))
    below = np.minimum(place.astype(int), len(table.dm) - 2)
    weight = np.bincount(below, share * (below + 1 - place), len(table.dm))
    weight += np.bincount(below + 1, share * (place - below), len(table.dm))
    density: FloatArray = table.density @ (table.evidence * weight / share.sum())
    return table.z, density


def luminosity_distance_mpc(redshift: ArrayLike, *, cosmology: str = "Planck18") -> FloatArray:
    """Return the luminosity distance (Mpc) of redshifts (Hogg 1999, arXiv:astro-ph/9905116, equations 15, 16 and 21).

    From a table, right to 0.002 Mpc. That of NaN is NaN.

    Raises
    ------
    InvalidInputError
        The cosmology is not known, or a redshift is not from 0 to `MAX_REDSHIFT`.
    """
    values = np.asarray(redshift, dtype=float)
    if np.any((values < 0) | (values > MAX_REDSHIFT)):
        raise InvalidInputError("redshift", redshift, f"0 to {MAX_REDSHIFT}")
    z, distance_mpc = _distance_table(cosmology)
    found: FloatArray = np.interp(values, z, distance_mpc)
    return found


def scatter_density(delta: FloatArray, *, c0: FloatArray | float, sigma: FloatArray | float) -> FloatArray:
    """Return the density, not normalised, of Delta = DM_cosmic / <DM_cosmic> (Macquart et al. 2020, equation 4)."""
    density: FloatArray = delta**-BETA * np.exp(-np.square(delta**-ALPHA - c0) / (2 * ALPHA**2 * np.square(sigma)))
    return density


def scatter_c0(sigma: FloatArray) -> FloatArray:
    """Return the C0 of each sigma with which the mean of Delta is 1."""
    column = sigma[:, None]
    # The mean falls with C0, which approaches -1.16 sigma^2 for large sigma and 1 for small.
    low, high = -2 * column**2 - 1, np.full_like(column, 3.0)
    power, width = _DELTA**-ALPHA, 2 * ALPHA**2 * column**2
    of_norm = _trapezoid_weights(_DELTA) * _DELTA**-BETA
    excess_of_mean = of_norm * (_DELTA - 1)
    for _ in range(40):
        c0 = (low + high) / 2
        exponent = -((power - c0) ** 2) / width
        too_high = (np.exp(exponent - exponent.max(axis=1, keepdims=True)) @ excess_of_mean)[:, None] > 0
        low, high = np.where(too_high, c0, low), np.where(too_high, high, c0)
    solved: FloatArray = (low + high)[:, 0] / 2
    return solved


@dataclass(frozen=True)
class _Posterior:
    """Of the redshift, for each excess from 0: `density` has shape (redshifts, excesses).

    Times `evidence` it is the likelihood.
    """

    z: FloatArray
    dm: FloatArray
    density: FloatArray
    evidence: FloatArray
    low: FloatArray
    mean: FloatArray
    high: FloatArray


@lru_cache
def _mean_table(cosmology: str) -> tuple[FloatArray, FloatArray]:
    from astropy import constants, units  # half a second, paid by the first burst

    model = _cosmology(cosmology)
    z = np.linspace(0, MAX_REDSHIFT, 4001)
    integral = _integral((1 + z) * model.inv_efunc(z), z)
    scale = 3 * constants.c * model.H0 * model.Ob0 / (8 * np.pi * constants.G * constants.m_p)
    return z, BARYON_FRACTION_DIFFUSE * ELECTRONS_PER_BARYON * scale.to_value(units.pc / units.cm**3) * integral


@lru_cache
def _distance_table(cosmology: str) -> tuple[FloatArray, FloatArray]:
    # Not astropy's own distances: they need SciPy.
    model = _cosmology(cosmology)
    z = np.linspace(0, MAX_REDSHIFT, 4001)
    return z, (1 + z) * model.hubble_distance.to_value("Mpc") * _integral(model.inv_efunc(z), z)


def _cosmology(name: str) -> Any:
    from astropy import cosmology as cosmologies

    if name not in cosmologies.available:
        raise InvalidInputError("cosmo", name, f"one of {', '.join(sorted(cosmologies.available))}")
    return getattr(cosmologies, name)


def _integral(integrand: FloatArray, z: FloatArray) -> FloatArray:
    return np.concatenate([[0.0], np.cumsum((integrand[1:] + integrand[:-1]) / 2 * np.diff(z))])


@lru_cache
def _posterior_table(cosmology: str) -> _Posterior:
    z = MAX_REDSHIFT * np.linspace(0, 1, N_REDSHIFTS + 1) ** 2  # finer where small excesses belong
    grid = np.arange(0, MAX_EXCESS_PC_CM3 + DM_STEP_PC_CM3, DM_STEP_PC_CM3)
    kept = np.unique(np.geomspace(1, len(grid) - 1, N_EXCESSES).round().astype(int))
    mean_dm = mean_cosmic_dm_pc_cm3(z, cosmology=cosmology)
    sigma = FEEDBACK / np.sqrt(z[1:])
    n = FFT_SIZE
    likelihood = np.empty((len(z), len(kept)))
    likelihood[0] = _host_density(grid, 0.0)[kept]
    for row, (at, mean, c0, width) in enumerate(zip(z[1:], mean_dm[1:], scatter_c0(sigma), sigma, strict=True), 1):
        # Both parts add up: their densities are folded.
        parts = np.fft.rfft([_cosmic_probability(grid, mean, c0=c0, sigma=width), _host_density(grid, at)], n)
        likelihood[row] = np.fft.irfft(parts[0] * parts[1], n)[kept].clip(0)
    evidence: FloatArray = _trapezoid_weights(z) @ likelihood
    density = likelihood / evidence
    steps = (density[1:] + density[:-1]) / 2 * np.diff(z)[:, None]
    cumulative = np.concatenate([np.zeros((1, len(kept))), np.cumsum(steps, axis=0)])
    low, high = (np.array([np.interp(level, column, z) for column in cumulative.T]) for level in LEVELS)
    mean_z = np.trapezoid(density * z[:, None], z, axis=0)
    # Without any excess there is nothing between us and the burst.
    columns = (grid[kept], evidence, low, mean_z, high)
    dm, evidence, low, mean_z, high = (np.concatenate([[0.0], column]) for column in columns)
    density = np.concatenate([np.zeros((len(z), 1)), density], axis=1)
    return _Posterior(z, dm, density, evidence, low, mean_z, high)


def _cosmic_probability(grid: FloatArray, mean_dm: float, *, c0: float, sigma: float) -> FloatArray:
    """Return the probability of the cosmic part at each point of an even grid.

    What falls between two points is divided between them so that the mean stays: close to us all does.
    """
    step = grid[1]
    delta = np.union1d(_DELTA, grid[1:] / mean_dm)
    probability = scatter_density(delta, c0=c0, sigma=sigma) * _trapezoid_weights(delta)
    probability /= probability.sum()
    place = delta * mean_dm / step
    inside = place < len(grid) - 1
    probability, place = probability[inside], place[inside]
    below = place.astype(int)
    share = place - below
    divided: FloatArray = np.bincount(below, probability * (1 - share), len(grid)).astype(float)
    divided += np.bincount(below + 1, probability * share, len(grid))
    return divided


def _host_density(grid: FloatArray, redshift: float) -> FloatArray:
    """Return the density of the host's part as it reaches us, on a grid from 0."""
    density = np.zeros_like(grid)
    logarithm = np.log(grid[1:] * (1 + redshift) / HOST_MEDIAN_PC_CM3)
    density[1:] = np.exp(-(logarithm**2) / (2 * HOST_SIGMA_LN**2)) / (grid[1:] * HOST_SIGMA_LN * np.sqrt(2 * np.pi))
    return density


def _trapezoid_weights(points: FloatArray) -> FloatArray:
    weights: FloatArray = np.diff(points, prepend=points[0]) / 2 + np.diff(points, append=points[-1]) / 2
    return weights
