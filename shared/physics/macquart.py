"""Distance from dispersion: the Macquart relation between redshift and what the cosmic web adds.

Macquart et al. 2020, Nature 581, 391: the mean and the scatter of the cosmic part. The host's part is a log-normal.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shared.errors import InvalidInputError

FloatArray = NDArray[np.float64]

BARYON_FRACTION_DIFFUSE = 0.84
# Of all baryons, in diffuse ionised gas, at low redshift (Macquart et al. 2020, methods).
ELECTRONS_PER_BARYON = 7 / 8
# Fully ionised hydrogen and helium, 3:1 by mass.
FEEDBACK = 0.32
# F of sigma_DM = F z^-0.5 (Macquart et al. 2020: 0.04 to 0.9 allowed, 0.32 their fiducial).
ALPHA = BETA = 3.0
# Slopes of the density profile of haloes (Macquart et al. 2020, equation 4).
HOST_MEDIAN_PC_CM3 = 66.0
HOST_SIGMA_LN = 0.42 * np.log(10)
# The host's part in its own frame: log-normal with the median exp(mu) = 66 and sigma_host of 0.42 dex
# (Macquart et al. 2020, table of parameters: 100 -100 +50 and others; stated in docs/decisions/0016).
MAX_REDSHIFT = 5.0
LEVELS = (0.05, 0.95)
# The range holds the redshift with a probability of 90 %.
N_REDSHIFTS = 400
DM_STEP_PC_CM3 = 4.0
MAX_EXCESS_PC_CM3 = 6000.0

_DELTA = np.geomspace(1e-3, 1e3, 2000)


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
        The cosmology is not known, or a redshift is beyond `MAX_REDSHIFT`.
    """
    values = np.asarray(redshift, dtype=float)
    if np.any((values < 0) | (values > MAX_REDSHIFT)):
        raise InvalidInputError("redshift", redshift, f"0 to {MAX_REDSHIFT}")
    z, dm = _mean_table(cosmology)
    found: FloatArray = np.interp(values, z, dm)
    return found


def redshift_range(dm_excess_pc_cm3: float, *, cosmology: str = "Planck18") -> RedshiftRange:
    """Return the redshifts that a dispersion measure beyond the Milky Way allows (90 %), with their mean.

    An excess of nothing or less puts the burst as near as the host's own part allows.

    Raises
    ------
    InvalidInputError
        The cosmology is not known.
    """
    table = _posterior_table(cosmology)
    low, mean, high = (np.interp(dm_excess_pc_cm3, table.dm, column) for column in (table.low, table.mean, table.high))
    return RedshiftRange(float(low), float(mean), float(high))


def redshift_posterior(dm_excess_pc_cm3: float, *, cosmology: str = "Planck18") -> tuple[FloatArray, FloatArray]:
    """Return redshifts and the probability density of each given a dispersion measure beyond the Milky Way.

    The prior is flat in redshift up to `MAX_REDSHIFT`.
    """
    table = _posterior_table(cosmology)
    at = np.clip(dm_excess_pc_cm3, table.dm[0], table.dm[-1])
    below = min(int(np.searchsorted(table.dm, at, side="right")) - 1, len(table.dm) - 2)
    weight = (at - table.dm[below]) / DM_STEP_PC_CM3
    density = (1 - weight) * table.density[:, below] + weight * table.density[:, below + 1]
    return table.z, density


@dataclass(frozen=True)
class _Posterior:
    """Of the redshift, for each excess: `density` has shape (redshifts, excesses)."""

    z: FloatArray
    dm: FloatArray
    density: FloatArray
    low: FloatArray
    mean: FloatArray
    high: FloatArray


def cosmic_scatter(redshift: FloatArray) -> FloatArray:
    """Return the density of Delta = DM_cosmic / <DM_cosmic> at the points `_DELTA`, a row for each redshift.

    Macquart et al. 2020, equation 4; C0 is such that the mean of Delta is 1.
    """
    sigma = (FEEDBACK / np.sqrt(redshift))[:, None]
    low, high = np.full_like(sigma, -1e4), np.full_like(sigma, 1e2)
    for _ in range(60):
        # The mean falls with C0.
        c0 = (low + high) / 2
        too_high = np.trapezoid(_DELTA * _scatter(c0, sigma), _DELTA, axis=1)[:, None] > 1
        low, high = np.where(too_high, c0, low), np.where(too_high, high, c0)
    return _scatter((low + high) / 2, sigma)


def _scatter(c0: FloatArray, sigma: FloatArray) -> FloatArray:
    exponent = -((_DELTA**-ALPHA - c0) ** 2) / (2 * ALPHA**2 * sigma**2)
    density = _DELTA**-BETA * np.exp(exponent - exponent.max(axis=1, keepdims=True))
    normalised: FloatArray = density / np.trapezoid(density, _DELTA, axis=1)[:, None]
    return normalised


@lru_cache
def _mean_table(cosmology: str) -> tuple[FloatArray, FloatArray]:
    from astropy import constants, units  # half a second, paid by the first burst
    from astropy import cosmology as cosmologies

    if cosmology not in cosmologies.available:
        known = ", ".join(sorted(cosmologies.available))
        raise InvalidInputError("cosmo", cosmology, f"one of {known}")
    model = getattr(cosmologies, cosmology)
    z = np.linspace(0, MAX_REDSHIFT, 4001)
    integrand = (1 + z) * model.inv_efunc(z)
    integral = np.concatenate([[0.0], np.cumsum((integrand[1:] + integrand[:-1]) / 2 * np.diff(z))])
    scale = 3 * constants.c * model.H0 * model.Ob0 / (8 * np.pi * constants.G * constants.m_p)
    return z, BARYON_FRACTION_DIFFUSE * ELECTRONS_PER_BARYON * scale.to_value(units.pc / units.cm**3) * integral


@lru_cache
def _posterior_table(cosmology: str) -> _Posterior:
    z = MAX_REDSHIFT * np.linspace(0, 1, N_REDSHIFTS + 1)[1:] ** 2  # finer where small excesses belong
    dm = np.arange(0, MAX_EXCESS_PC_CM3 + DM_STEP_PC_CM3, DM_STEP_PC_CM3) + DM_STEP_PC_CM3 / 2
    mean = mean_cosmic_dm_pc_cm3(z, cosmology=cosmology)[:, None]
    cosmic = np.array(
        [
            np.interp(dm / scale, _DELTA, row, left=0, right=0) / scale
            for scale, row in zip(mean[:, 0], cosmic_scatter(z), strict=True)
        ]
    )
    host_median = HOST_MEDIAN_PC_CM3 / (1 + z[:, None])
    host = np.exp(-(np.log(dm / host_median) ** 2) / (2 * HOST_SIGMA_LN**2)) / dm
    # Both parts add up: their densities are folded, along the dispersion measure.
    total = cosmic.sum(axis=1, keepdims=True)
    nothing = np.zeros_like(cosmic)
    nothing[:, 0] = 1  # nearer than the table resolves
    cosmic = np.divide(cosmic, total, out=nothing, where=total > 0)
    host /= host.sum(axis=1, keepdims=True)
    n = 2 * len(dm)
    likelihood = np.fft.irfft(np.fft.rfft(cosmic, n) * np.fft.rfft(host, n), n)[:, : len(dm)].clip(0)
    density = likelihood / np.trapezoid(likelihood, z, axis=0)
    cumulative = np.concatenate(
        [np.zeros((1, len(dm))), np.cumsum((density[1:] + density[:-1]) / 2 * np.diff(z)[:, None], axis=0)]
    )
    cumulative /= cumulative[-1]
    low, high = (np.array([np.interp(level, column, z) for column in cumulative.T]) for level in LEVELS)
    return _Posterior(z, dm, density, low, np.trapezoid(density * z[:, None], z, axis=0), high)
