"""Chance pairs, made in great numbers: one wave, one burst at a random time and right ascension."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.coincidence.background import N_BINS, bin_of
from services.coincidence.domain import class_of, odds_before_sky
from services.coincidence.settings import CoincidenceSection
from shared.events.mma import CoincidenceWindow, CoincidentWave
from shared.physics.rates import SECONDS_PER_YEAR
from shared.sky import healpix
from shared.sky.skymap import SkyMap
from shared.sky.volume import distance_factor, distance_weight

FloatArray = NDArray[np.float64]

CHUNK_SLIDES = 10_000
# Some tens of megabytes at most, and a fraction of a second.

_RINGS, _PER_RING = 4, 8
_HALF_SQUARES, _RING_WEIGHTS = np.polynomial.laguerre.laggauss(_RINGS)
_ANGLES = 2 * np.pi * (np.arange(_PER_RING)[:, np.newaxis] + np.arange(_RINGS) / 2) / _PER_RING
# Half a step on from ring to ring.
_NODES_EAST = (np.sqrt(2 * _HALF_SQUARES) * np.sin(_ANGLES)).ravel()
_NODES_NORTH = (np.sqrt(2 * _HALF_SQUARES) * np.cos(_ANGLES)).ravel()
_WEIGHTS = np.broadcast_to(_RING_WEIGHTS / _PER_RING, _ANGLES.shape).ravel()
# A Gaussian's mean of any function: Gauss-Laguerre in half the square of the radius, even in angle.


@dataclass(frozen=True)
class SlidBursts:
    """The bursts that are slid, in arrays: positions with standard deviations east and north (deg)."""

    ra_deg: FloatArray
    dec_deg: FloatArray
    sigma_east_deg: FloatArray
    sigma_north_deg: FloatArray
    dm_excess_pc_cm3: FloatArray

    def __len__(self) -> int:
        return len(self.ra_deg)


@dataclass(frozen=True)
class SlidWave:
    """A wave that bursts are slid past."""

    facts: CoincidentWave
    skymap: SkyMap


def chance_pairs_per_year(wave_class: str, window: CoincidenceWindow, settings: CoincidenceSection) -> float:
    """Return how many pairs chance puts into a window in a year; those in the narrow one are not in the wide one."""
    own = settings.cbc if wave_class == "cbc" else settings.burst
    length_s = own.narrow_s[1] - own.narrow_s[0]
    if window is CoincidenceWindow.WIDE:
        length_s = own.wide_s[1] - own.wide_s[0] - length_s
    return own.waves_per_year * settings.burst_rate_per_year * length_s / SECONDS_PER_YEAR


def slide(
    waves: Sequence[SlidWave],
    bursts: SlidBursts,
    *,
    window: CoincidenceWindow,
    n_slides: int,
    settings: CoincidenceSection,
    seed: Sequence[int],
) -> NDArray[np.int64]:
    """Return how many of `n_slides` chance pairs have odds in each bin.

    Within a window the odds do not depend on the time, so the time need not be drawn. The overlap is that of
    `Comparison` but for the integral over the burst's Gaussian, here a sum over 32 points, and its distance, here that
    at its centre: single pairs differ by some per cent where the map has structure as fine as the burst, and their
    distribution does not (see the tests).

    Parameters
    ----------
    waves
        Of one class.
    seed
        Numbers that make this chunk what it is: the same give the same.
    """
    rng = np.random.default_rng(seed)
    of_wave = rng.integers(len(waves), size=n_slides)
    of_burst = rng.integers(len(bursts), size=n_slides)
    turn_deg = rng.uniform(0, 360, n_slides)
    counts = np.zeros(N_BINS, np.int64)
    for number, wave in enumerate(waves):
        mine = np.flatnonzero(of_wave == number)
        own = class_of(wave.facts, settings)
        before = odds_before_sky(wave.facts, window, own, settings)
        odds = before * overlaps(wave.skymap, bursts, of_burst[mine], turn_deg[mine])
        counts += np.bincount(bin_of(odds), minlength=N_BINS)
    return counts


def overlaps(skymap: SkyMap, bursts: SlidBursts, chosen: NDArray[np.int64], turn_deg: FloatArray) -> FloatArray:
    """Return the overlap of a map with each of the chosen bursts, turned; in three dimensions where that is known."""
    dec = bursts.dec_deg[chosen, np.newaxis] + bursts.sigma_north_deg[chosen, np.newaxis] * _NODES_NORTH
    dec = np.clip(dec, -90, 90)
    east = bursts.sigma_east_deg[chosen, np.newaxis] * _NODES_EAST
    ra = bursts.ra_deg[chosen, np.newaxis] + turn_deg[:, np.newaxis] + east / np.cos(np.radians(dec)).clip(1e-3)
    cell = skymap.cells.find(healpix.lonlat_to_nest29(ra % 360, dec))
    density = np.where(cell >= 0, skymap.probdensity[cell], 0.0)
    overlap: FloatArray = healpix.SKY_SR * (density @ _WEIGHTS)
    if skymap.distmu is None or skymap.distsigma is None:
        return overlap
    likeliest = np.take_along_axis(cell, density.argmax(axis=1)[:, np.newaxis], axis=1)[:, 0]
    by_burst = np.argsort(chosen, kind="stable")
    edges = np.flatnonzero(np.diff(chosen[by_burst])) + 1
    for group in np.split(by_burst, edges) if len(by_burst) else []:
        # Once for each burst of the catalogue: each has its own weight of distances.
        excess = bursts.dm_excess_pc_cm3[chosen[group[0]]]
        at = likeliest[group]
        if np.isfinite(excess):
            weight = distance_weight(float(excess))
            overlap[group] *= distance_factor(skymap.distmu[at], skymap.distsigma[at], weight)
    return overlap
