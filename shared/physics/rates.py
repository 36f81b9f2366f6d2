"""How often chance alone brings a wave and a burst together: joint false-alarm rates, and rates that were counted.

The formulas are those with which the LIGO-Virgo-KAGRA collaboration decides whether to announce a coincidence (RAVEN,
untargeted search; its documentation, "Joint false alarm rate").
"""

from dataclasses import dataclass

from shared.errors import InvalidInputError

SECONDS_PER_YEAR = 365.25 * 86_400

SEARCHES = {
    ("CBC", "AllSky"): 7,
    ("CBC", "EarlyWarning"): 4,
    ("CBC", "SSM"): 3,
    ("Burst", "AllSky"): 3,
    ("Burst", "BBH"): 7,
}
# Searches that look for the same wave, by group and search: a chance coincidence of each counts (gwcelery 3.0).


@dataclass(frozen=True)
class CountedRate:
    """A rate from counting, with its central 68 % interval."""

    rate_per_year: float
    low_per_year: float
    high_per_year: float


def far_time_hz(far_hz: float, *, burst_rate_per_year: float, window_s: float) -> float:
    """Return how often chance brings a wave at least as loud and any burst together within a window (Hz).

    Raises
    ------
    InvalidInputError
        A rate or the window is below 0.
    """
    for name, value in (("far_hz", far_hz), ("burst_rate_per_year", burst_rate_per_year), ("window_s", window_s)):
        if not value >= 0:
            raise InvalidInputError(name, value, "a number of at least 0")
    return far_hz * (burst_rate_per_year / SECONDS_PER_YEAR) * window_s


def far_space_time_hz(far_time_hz: float, *, overlap: float) -> float | None:
    """Return the joint rate with the overlap of the positions taken in (Hz); None where they exclude each other.

    No rate in the strict sense: the division re-weights by a likelihood, and chance pairs do not follow it. For that
    there is the counted background.

    Raises
    ------
    InvalidInputError
        The overlap is below 0.
    """
    if not overlap >= 0:
        raise InvalidInputError("overlap", overlap, "a number of at least 0")
    return far_time_hz / overlap if overlap > 0 else None


def n_searches(group: str, search: str | None) -> int:
    """Return among how many searches a wave was found; where the search is not known, the most of its group.

    Thresholds are compared with the joint rate in all pairs of searches, N (N - 1) times that of one.
    """
    of_group = [number for (each, _), number in SEARCHES.items() if each == group]
    return SEARCHES.get((group, search or ""), max(of_group, default=max(SEARCHES.values())))


def counted_rate(n_events: int, *, years: float) -> CountedRate:
    """Return the rate of a Poisson process in which so many events were counted, and its central 68 % interval.

    Gehrels 1986, ApJ 303, 336, equations 9 and 12 for one standard deviation: within 1 % of the exact interval's ends.
    Of no events the lower end is 0.

    Raises
    ------
    InvalidInputError
        The number is below 0 or the time not above 0.
    """
    if n_events < 0:
        raise InvalidInputError("n_events", n_events, "a number of at least 0")
    if not years > 0:
        raise InvalidInputError("years", years, "a number above 0")
    low = n_events * (1 - 1 / (9 * n_events) - 1 / (3 * n_events**0.5)) ** 3 if n_events else 0.0
    more = n_events + 1
    high = more * (1 - 1 / (9 * more) + 1 / (3 * more**0.5)) ** 3
    return CountedRate(n_events / years, low / years, high / years)
