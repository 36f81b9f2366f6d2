"""Joint false-alarm rates against RAVEN's published numbers, counted rates against the exact Poisson interval."""

import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2, norm

from shared.errors import InvalidInputError
from shared.physics import rates

with warnings.catch_warnings():
    # ligo.skymap 2.5, which it imports, documents its ufuncs in a way that numpy 2.4 deprecates.
    warnings.simplefilter("ignore", DeprecationWarning)
    from ligo.raven.search import coinc_far

FRB_PER_YEAR = 485.0
FRB_CBC_WINDOW_S = 12.0


def test_the_joint_rate_is_the_product() -> None:
    # One wave in 30 days, one burst in a day, a window of a day: one in 30 days.
    one_in_30_d = 1 / (30 * 86_400)
    assert rates.far_time_hz(one_in_30_d, burst_rate_per_year=365.25, window_s=86_400) == pytest.approx(one_in_30_d)


def test_positions_divide_as_in_the_published_alert() -> None:
    # MS181101ab with its external coincidence: 2.144e-14 in time, 6.411e-16 in space and time.
    found = rates.far_space_time_hz(2.144e-14, overlap=33.44)
    assert found == pytest.approx(6.411e-16, rel=2e-4)  # four digits are given


def test_positions_that_exclude_each_other_have_no_rate() -> None:
    assert rates.far_space_time_hz(1e-9, overlap=0.0) is None


def test_the_joint_rate_is_that_of_raven() -> None:
    far_hz = 3.2e-9
    wave = {"far": far_hz, "t_0": 0.0, "preferred_event": "G1"}
    burst = {"graceid": "E1", "pipeline": "CHIME", "gpstime": 0.0}
    theirs = coinc_far(
        "S1", "E1", -10, 2, gracedb=object(), em_rate=FRB_PER_YEAR / rates.SECONDS_PER_YEAR,
        se_dict=wave, ext_dict=burst,
    )  # fmt: skip
    ours = rates.far_time_hz(far_hz, burst_rate_per_year=FRB_PER_YEAR, window_s=FRB_CBC_WINDOW_S)
    assert ours == pytest.approx(theirs["temporal_coinc_far"], rel=1e-12)


@pytest.mark.parametrize(
    ("group", "search", "n"),
    [
        ("CBC", "AllSky", 7),
        ("CBC", "EarlyWarning", 4),
        ("CBC", "SSM", 3),
        ("Burst", "AllSky", 3),
        ("Burst", "BBH", 7),
        ("CBC", None, 7),
        ("Burst", "Another", 7),
        ("Another", None, 7),
    ],
)
def test_where_a_search_is_not_known_the_most_of_its_group_count(group: str, search: str | None, n: int) -> None:
    assert rates.n_searches(group, search) == n


@given(st.integers(0, 10**9), st.floats(1e-3, 1e9))
def test_a_counted_rate_has_the_interval_of_poisson(n: int, years: float) -> None:
    found = rates.counted_rate(n, years=years)
    tail = norm.cdf(-1)
    # The formulas' own error; Gehrels gives it as well.
    exact_low = chi2.ppf(tail, 2 * n) / 2 if n else 0.0
    assert found.low_per_year * years == pytest.approx(exact_low, rel=0.01)
    assert found.high_per_year * years == pytest.approx(chi2.ppf(1 - tail, 2 * n + 2) / 2, rel=0.01)
    assert found.low_per_year <= found.rate_per_year <= found.high_per_year
    assert found.rate_per_year * years == pytest.approx(n)


def test_what_is_no_rate_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="far_hz"):
        rates.far_time_hz(float("nan"), burst_rate_per_year=1, window_s=1)
    with pytest.raises(InvalidInputError, match="window_s"):
        rates.far_time_hz(1e-9, burst_rate_per_year=1, window_s=-1)
    with pytest.raises(InvalidInputError, match="overlap"):
        rates.far_space_time_hz(1e-9, overlap=-1)
    with pytest.raises(InvalidInputError, match="n_events"):
        rates.counted_rate(-1, years=1)
    with pytest.raises(InvalidInputError, match="years"):
        rates.counted_rate(1, years=0)
