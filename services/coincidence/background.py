"""How often chance alone makes pairs as good: bursts slid in time and scrambled along the equator.

A chance pair is one of the stored waves and one of the catalogued bursts, the burst at a random time in the window and
turned to a random right ascension: its declination, on which the telescope's exposure depends, stays. So many pairs
come in a year by chance as waves and bursts together fall into the window: rate of waves x rate of bursts x its length.
Pairs are counted by their odds, in bins, so that a million cost no more memory than one; chunks add up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.events.mma import BackgroundRate, CoincidenceScores
from shared.physics.rates import counted_rate

LOG10_ODDS_MIN, LOG10_ODDS_MAX, BINS_PER_DEX = -12, 12, 50
N_BINS = (LOG10_ODDS_MAX - LOG10_ODDS_MIN) * BINS_PER_DEX + 1
# The first bin takes all that is less, no overlap above all; the last all that is more.


@dataclass(frozen=True)
class BackgroundCounts:
    """Chance pairs of a class and window by their odds."""

    background_id: str
    wave_class: str
    window_name: str
    years: float
    n_slides: int
    counts: Sequence[int]


def bin_of(odds: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the bin that odds are counted in."""
    with np.errstate(divide="ignore"):
        place = np.ceil((np.log10(odds) - LOG10_ODDS_MIN) * BINS_PER_DEX)
    bins: NDArray[np.int64] = np.clip(place, 0, N_BINS - 1).astype(np.int64)
    return bins


class BackgroundBook:
    """Looks measured rates up."""

    def __init__(self, counts: Sequence[BackgroundCounts]) -> None:
        self._counts = {(entry.wave_class, entry.window_name): entry for entry in counts}

    def completed(self, scores: CoincidenceScores, *, wave_class: str) -> CoincidenceScores:
        """Return scores with the background beside them, when there is one."""
        entry = self._counts.get((wave_class, scores.window))
        if entry is None or scores.odds is None:
            return scores
        # The bin that the odds fall into is counted as louder: the rate is never told too small.
        n_louder = int(np.sum(entry.counts[int(bin_of(np.array([scores.odds]))[0]) :]))
        rate = counted_rate(n_louder, years=entry.years)
        found = BackgroundRate(
            rate_per_year=rate.rate_per_year,
            rate_low_per_year=rate.low_per_year,
            rate_high_per_year=rate.high_per_year,
            n_louder=n_louder,
            years=entry.years,
            background_id=entry.background_id,
        )
        return scores.model_copy(update={"background": found})
