"""Drawings of a pair in time and in distance put things where they are."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.console.charts import distance, timeline
from services.console.charts.distance import Curve, Range
from services.console.charts.timeline import Window
from shared.physics.macquart import luminosity_distance_mpc, redshift_range
from shared.sky import region
from shared.sky.skymap import read_skymap
from shared.sky.volume import line_of_sight
from tests.support.data import SAMPLES

GW170817 = read_skymap((SAMPLES / "skymaps" / "GW170817_skymap.fits").read_bytes())
WINDOWS = [Window("narrow", -2, 10, True), Window("wide", -7200, 86400, False)]
WORDS = {"title": "A pair", "description": "in words"}


def xs(figure: str, style: str) -> list[float]:
    return [float(x) for x in re.findall(rf'class="{style}" d="M(\S+) ', figure)]


@pytest.mark.parametrize("offset_s", [-5000.0, -3.0, 0.5, 4.0, 40_000.0])
def test_the_burst_is_on_its_side_of_the_wave_and_inside_its_window(offset_s: float) -> None:
    figure = timeline.timeline(offset_s, 0.01, WINDOWS, **WORDS)

    (wave,), (burst,) = xs(figure, "mark wave"), xs(figure, "mark burst")
    # The paths begin at the right end of the circle and the left end of the diamond.
    assert (burst + 8 > wave - 7) == (offset_s > 0)
    (narrow,) = xs(figure, "window holds")
    assert (burst + 8 > narrow) == (offset_s > -2)


@settings(max_examples=30, deadline=None)
@given(offset_s=st.floats(-1e9, 1e9), err_s=st.floats(0, 1e6))
def test_any_offset_can_be_drawn(offset_s: float, err_s: float) -> None:
    figure = timeline.timeline(offset_s, err_s, WINDOWS, **WORDS)

    assert "nan" not in figure
    assert all(-1 <= x <= timeline.WIDTH for x in xs(figure, "mark burst"))


def test_ticks_do_not_run_into_each_other() -> None:
    figure = timeline.timeline(3.0, 0.1, WINDOWS, **WORDS)

    ticks = sorted(float(x) for x, name in re.findall(r'x="(\S+)" y="\S+" text-anchor="middle">([+−0][^<]*)<', figure))
    assert len(ticks) > 4
    assert min(np.diff(ticks)) >= timeline.LEAST_APART - 0.2


def moments(curve: Curve) -> tuple[float, float]:
    weight = curve.density * np.gradient(curve.r_mpc)
    mean = float(np.average(curve.r_mpc, weights=weight))
    return mean, float(np.sqrt(np.average((curve.r_mpc - mean) ** 2, weights=weight)))


def test_the_curve_along_a_line_of_sight_has_its_moments() -> None:
    curve = distance.along(GW170817, ra_deg=197.45, dec_deg=-23.38, label="wave")
    expected = line_of_sight(GW170817, ra_deg=197.45, dec_deg=-23.38)

    assert curve is not None
    assert moments(curve) == pytest.approx((expected.mean_mpc, expected.std_mpc), rel=1e-3)


def test_the_curve_of_the_whole_sky_has_its_moments() -> None:
    curve = distance.over_all(GW170817, label="wave")
    expected = region.marginal_distance(GW170817)

    assert curve is not None
    assert expected is not None
    # Of the 4,000 most probable cells.
    assert moments(curve) == pytest.approx((expected.mean_mpc, expected.std_mpc), rel=0.02)


# The range takes the Milky Way's part for known, which matters for small excesses.
@pytest.mark.parametrize("dm_excess", [500.0, 1500.0])
def test_the_curve_of_a_burst_has_its_range(dm_excess: float) -> None:
    curve = distance.from_dispersion(dm_excess, cosmology="Planck18", label="burst")
    expected = redshift_range(dm_excess)

    quantiles = [curve.quantile(0.05), curve.quantile(0.95)]
    assert quantiles == pytest.approx(luminosity_distance_mpc([expected.low, expected.high]).tolist(), rel=0.03)


def test_a_burst_with_no_excess_is_near() -> None:
    curve = distance.from_dispersion(-40.0, cosmology="Planck18", label="burst")

    # The range's end is at an excess of one standard deviation of the Milky Way's part.
    assert 0 < curve.quantile(0.9) < 2 * float(luminosity_distance_mpc(redshift_range(-40.0).high))


def test_a_map_without_distances_gives_no_curve() -> None:
    bare = read_skymap((SAMPLES / "skymaps" / "GRB220617A_IPN_map_hpx.fits.gz").read_bytes())

    assert distance.along(bare, ra_deg=10, dec_deg=10, label="wave") is None
    assert distance.over_all(bare, label="wave") is None


def test_every_curve_and_range_is_drawn_and_named() -> None:
    curve = distance.along(GW170817, ra_deg=197.45, dec_deg=-23.38, label="wave <b>")
    assert curve is not None

    figure = distance.distance([curve], [Range(10, 60, "burst, 90 % range", "burst")], **WORDS)

    # Each once in the drawing, and once in the legend.
    assert figure.count('class="curve wave"') == figure.count('class="range burst"') == 2
    assert "wave &lt;b&gt;</li>" in figure
    assert "luminosity distance (Mpc)" in figure


def test_a_measured_distance_can_be_drawn_alone() -> None:
    figure = distance.distance([], [Range(150, 150, "host", "burst")], **WORDS)

    assert "nan" not in figure
    assert 'class="range burst"' in figure
