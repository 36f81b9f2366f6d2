"""Simulated skies: true pairs are found, and chance pairs come as often as the background says."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from services.coincidence import domain
from services.coincidence.background import BackgroundBook, BackgroundCounts
from services.coincidence.cells import Comparison, DistanceHint, cell_parts, compare
from services.coincidence.domain import PairState, SkyScores, Timing
from services.coincidence.settings import CoincidenceSection
from services.coincidence.slides import SlidBursts, SlidWave, chance_pairs_per_year, overlaps, slide
from services.gw_listener.alerts import read_alert
from shared.events.frb import FrbLocalisation
from shared.events.mma import CoincidenceScores, CoincidenceWindow, CoincidentWave
from shared.physics import macquart
from shared.sky import healpix
from shared.sky.skymap import SkyMap, read_skymap
from tests.support.coincidence import NOWHERE, a_burst_record, an_alert
from tests.support.data import SAMPLES

FloatArray = NDArray[np.float64]

N_TRUE, N_CHANCE, N_SLIDES = 300, 1200, 200_000
SIGMA_DEG = 0.2
ONE_SIGMA = 0.3934693402873666
# Probability within one standard deviation of a two-dimensional Gaussian.
SETTINGS = CoincidenceSection()
WIDE = CoincidenceWindow.WIDE


@cache
def a_map() -> SkyMap:
    """S230518h: 666 deg2 at some 280 Mpc."""
    alert = (SAMPLES / "igwn" / "S230518h-Initial_alert.json").read_bytes()
    return read_skymap(read_alert(alert).skymap or b"")


def a_superevent() -> domain.Wave:
    alert = an_alert()
    skymap = domain.MapFacts(
        event_id=alert.event_id, alert_event_id=alert.event_id, alert_time_created=alert.time_created,
        canonical=NOWHERE, distance_mean_mpc=None, distance_std_mpc=None,
    )  # fmt: skip
    return domain.Wave(superevent_id="S261121ab", is_test=False, skymap=skymap).with_alert(alert)


def a_wave() -> CoincidentWave:
    facts = a_superevent().facts
    assert facts is not None
    return facts


def compared(ra_deg: FloatArray, dec_deg: FloatArray, excess: FloatArray) -> list[SkyScores]:
    """As the service does it, each burst against the map's rows."""
    packed = [part.packed for part in cell_parts(a_map())]
    return [
        compare(
            Comparison(
                FrbLocalisation(
                    ra_deg=float(ra), dec_deg=float(dec), semi_major_deg=SIGMA_DEG, semi_minor_deg=SIGMA_DEG,
                    position_angle_deg=0.0, confidence_level=ONE_SIGMA,
                ),
                DistanceHint(dm_excess_pc_cm3=float(dm)),
                [packed],
            )
        )[0]
        for ra, dec, dm in zip(ra_deg, dec_deg, excess, strict=True)
    ]  # fmt: skip


def counted(sky: SkyScores) -> CoincidenceScores:
    low_s, high_s = SETTINGS.cbc.wide_s
    return domain.scores(a_wave(), timed=Timing(3600.0, 0.01, WIDE, low_s, high_s), sky=sky, settings=SETTINGS)


def drawn_places(rng: np.random.Generator, n: int) -> tuple[FloatArray, FloatArray, NDArray[np.int64]]:
    """Positions from the map's own probability, with the cell of each."""
    skymap = a_map()
    cell = rng.choice(len(skymap.start), size=n, p=skymap.probability / skymap.probability.sum())
    within = (rng.random(n) * healpix.cell_size(skymap.order[cell])).astype(np.int64)
    places = [healpix.cell_centre_deg(int(nest29), 29) for nest29 in skymap.start[cell] + within]
    return np.array([ra for ra, _ in places]), np.array([dec for _, dec in places]), cell


def drawn_excess(rng: np.random.Generator, redshift: FloatArray) -> FloatArray:
    """Excesses by the forward model of Macquart et al. 2020: a halo-rich or -poor line of sight, and a host."""
    sigma = macquart.FEEDBACK / np.sqrt(redshift)
    c0 = macquart.scatter_c0(sigma)
    delta = np.geomspace(1e-2, 1e2, 4000)
    density = np.array([macquart.scatter_density(delta, c0=a, sigma=b) for a, b in zip(c0, sigma, strict=True)])
    cumulative = np.cumsum(density * np.gradient(delta), axis=1)
    cumulative /= cumulative[:, -1:]
    drawn = np.array([np.interp(u, row, delta) for u, row in zip(rng.random(len(redshift)), cumulative, strict=True)])
    host = macquart.HOST_MEDIAN_PC_CM3 * np.exp(macquart.HOST_SIGMA_LN * rng.standard_normal(len(redshift)))
    milky_way_error = rng.normal(0, macquart.MILKY_WAY_ERROR_PC_CM3, len(redshift))
    excess: FloatArray = drawn * macquart.mean_cosmic_dm_pc_cm3(redshift) + host / (1 + redshift) + milky_way_error
    return excess


@cache
def true_pairs() -> list[SkyScores]:
    """Bursts where the wave is: its sky, its distance there, a position with an error, the dispersion that follows."""
    rng = np.random.default_rng(20190425)
    skymap = a_map()
    ra, dec, cell = drawn_places(rng, N_TRUE)
    assert skymap.distmu is not None
    assert skymap.distsigma is not None
    mpc = np.linspace(1, 900, 3000)
    density = mpc**2 * np.exp(-(((mpc - skymap.distmu[cell, None]) / skymap.distsigma[cell, None]) ** 2) / 2)
    cumulative = np.cumsum(density, axis=1)
    distance = np.array(
        [np.interp(u, row / row[-1], mpc) for u, row in zip(rng.random(N_TRUE), cumulative, strict=True)]
    )
    z = np.linspace(0, 0.3, 3000)
    redshift = np.interp(distance, macquart.luminosity_distance_mpc(z), z)
    east, north = rng.normal(0, SIGMA_DEG, (2, N_TRUE))
    measured_dec = np.clip(dec + north, -90, 90)
    measured_ra = (ra + east / np.cos(np.radians(dec))) % 360
    return compared(measured_ra, measured_dec, drawn_excess(rng, redshift))


@cache
def chance_bursts() -> SlidBursts:
    """Bursts all over the sky, as far as the detected ones are."""
    rng = np.random.default_rng(7)
    dec = np.degrees(np.arcsin(rng.uniform(-1, 1, N_CHANCE)))
    redshift = rng.exponential(macquart.POPULATION.scale, N_CHANCE).clip(1e-3, macquart.MAX_REDSHIFT)
    error = np.full(N_CHANCE, SIGMA_DEG)
    return SlidBursts(rng.uniform(0, 360, N_CHANCE), dec, error, error, drawn_excess(rng, redshift))


@cache
def chance_pairs() -> list[SkyScores]:
    bursts = chance_bursts()
    return compared(bursts.ra_deg, bursts.dec_deg, bursts.dm_excess_pc_cm3)


def test_true_pairs_are_found() -> None:
    odds = np.array([counted(sky).odds for sky in true_pairs()], float)
    of_chance = np.array([counted(sky).odds for sky in chance_pairs()], float)
    announced = [
        domain.judge(a_superevent(), a_burst(), counted(sky), SETTINGS).state is PairState.ANNOUNCED
        for sky in true_pairs()
    ]

    assert np.mean(announced) > 0.9
    # What a threshold that one chance pair in a hundred passes leaves of the true ones.
    assert np.mean(odds > np.quantile(of_chance, 0.99)) > 0.8
    # Distances help: with them more true pairs are better than all but one chance pair in a hundred.
    sky_only = [np.array([sky.overlap_sky for sky in pairs]) for pairs in (true_pairs(), chance_pairs())]
    assert np.mean(sky_only[0] > np.quantile(sky_only[1], 0.99)) < np.mean(odds > np.quantile(of_chance, 0.99))


def a_burst() -> domain.Burst:
    burst = domain.read_burst(a_burst_record(), upload_site=None)
    assert burst is not None
    return burst


def test_credible_levels_of_true_pairs_cover_what_they_say() -> None:
    levels = np.array([sky.credible_level for sky in true_pairs()])

    # Uniform, but for the positions' errors: they push bursts out of the densest cells of a narrow map.
    assert stats.kstest(levels, "uniform").pvalue > 0.01


def test_overlaps_of_chance_pairs_average_to_one() -> None:
    # Over isotropic positions the mean of 4 pi p is 1 whatever the map (Ashton et al. 2018): a check of the norm.
    overlap = np.array([sky.overlap_sky for sky in chance_pairs()])

    assert overlap.mean() == pytest.approx(1, abs=4 * overlap.std() / np.sqrt(len(overlap)))


def test_slides_have_the_overlaps_that_the_service_would_find() -> None:
    bursts = chance_bursts()
    chosen = np.arange(N_CHANCE)

    fast = overlaps(a_map(), bursts, chosen, np.zeros(N_CHANCE))

    exact = np.array([sky.overlap_3d for sky in chance_pairs()], float)
    alike = (exact > 0.01) & (fast > 0)
    assert alike.sum() > 30
    # A sum over 32 points, and the distance at one of them, against the whole integral.
    assert np.median(np.abs(fast[alike] / exact[alike] - 1)) < 0.05
    assert fast.mean() == pytest.approx(exact.mean(), rel=0.1)


def test_chance_pairs_come_at_the_stated_rate() -> None:
    a_year = chance_pairs_per_year("cbc", WIDE, SETTINGS)
    wave = SlidWave(a_wave(), a_map())
    counts = slide([wave], chance_bursts(), window=WIDE, n_slides=N_SLIDES, settings=SETTINGS, seed=[1])
    book = BackgroundBook([BackgroundCounts("b", "cbc", WIDE, N_SLIDES / a_year, N_SLIDES, counts.tolist())])

    scored = [book.completed(counted(sky), wave_class="cbc") for sky in chance_pairs()]

    simulated_years = N_CHANCE / a_year
    rates = np.array([score.background.rate_per_year for score in scored if score.background])
    assert len(rates) == N_CHANCE
    for per_year in (1.0, 3.0, 10.0):
        expected = per_year * simulated_years
        # Of pairs that claim to be as rare as that or rarer there are as many as chance allows.
        found = int(np.sum(rates <= per_year))
        assert stats.poisson.cdf(found, expected) > 1e-3, per_year
        assert stats.poisson.sf(found - 1, expected) > 1e-3, per_year


def test_chunks_add_up_and_repeat() -> None:
    wave = SlidWave(a_wave(), replace(a_map(), distmu=None, distsigma=None, distnorm=None))
    once, again, other = (
        slide([wave], chance_bursts(), window=WIDE, n_slides=2000, settings=SETTINGS, seed=[seed]) for seed in (1, 1, 2)
    )

    assert once.sum() == 2000
    assert (once == again).all()
    assert (once != other).any()
