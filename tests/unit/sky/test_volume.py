"""Overlaps with distances, against plain quadrature, drawn sources, ligo.skymap and limits."""

import warnings

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from shared.errors import InvalidInputError
from shared.physics import macquart
from shared.sky import healpix, volume
from shared.sky.gaussian import localisation_map
from shared.sky.localisation import Ellipse
from shared.sky.overlap import overlap
from shared.sky.skymap import SkyMap, read_skymap
from tests.support.data import SAMPLES, SHARED_DATA, needs_shared_data

with warnings.catch_warnings():
    # ligo.skymap 2.5 documents its ufuncs in a way that numpy 2.4 deprecates.
    warnings.simplefilter("ignore", DeprecationWarning)
    import ligo.skymap.distance

MU = st.floats(-300, 3000)
SIGMA = st.floats(3, 1000)
EXCESS = st.floats(0, 3000)


def a_map(density: np.ndarray, *, distmu: np.ndarray | None = None, distsigma: np.ndarray | None = None) -> SkyMap:
    """The sky in 12 cells."""
    order = np.zeros(12, np.int64)
    density = density / (density * healpix.cell_area_sr(order)).sum()
    norm = None if distmu is None else np.ones(12)
    return SkyMap(healpix.cell_size(order) * np.arange(12), order, density, distmu, distsigma, norm)


def a_wave(*, distmu: float = 150.0, distsigma: float = 40.0, seed: int = 1) -> SkyMap:
    rng = np.random.default_rng(seed)
    return a_map(
        rng.uniform(size=12),
        distmu=distmu * rng.uniform(0.8, 1.2, 12),
        distsigma=distsigma * rng.uniform(0.8, 1.2, 12),
    )


def by_quadrature(mu: float, sigma: float, weight: volume.DistanceWeight) -> float:
    """The mean weight over the distances, by the plain formula on a fine grid of the whole range."""
    peak = (mu + np.sqrt(mu**2 + 8 * sigma**2)) / 2
    low, high = max(peak - 12 * sigma, 0), peak + 14 * sigma
    r = np.union1d(np.linspace(low, high, 100_001), np.linspace(low, min(high, weight.r_mpc[-1]), 100_001))
    density = (r / peak) ** 2 * np.exp(((peak - mu) ** 2 - (r - mu) ** 2) / (2 * sigma**2))
    weighted = density * np.interp(r, weight.r_mpc, weight.weight, right=0)
    return float(np.trapezoid(weighted, r) / np.trapezoid(density, r))


@settings(deadline=None, max_examples=40)
@given(MU, SIGMA, EXCESS)
def test_the_distance_factor_is_its_integral(mu: float, sigma: float, excess: float) -> None:
    assume(mu > -2 * sigma)  # else quadrature by the plain formula loses its digits
    weight = volume.distance_weight(excess)
    expected = by_quadrature(mu, sigma, weight)
    found = volume.distance_factor(np.array([mu]), np.array([sigma]), weight)[0]
    # The table's straight pieces: 64 nodes see their corners in the tails, where the factor says no anyway.
    assert found == pytest.approx(expected, rel=1e-3 if expected > 0.01 else 0.02, abs=1e-9)


@settings(deadline=None)
@given(MU, SIGMA, st.floats(0.001, 0.8))
def test_at_a_measured_redshift_it_is_the_density_there_over_the_population(
    mu: float, sigma: float, redshift: float
) -> None:
    assume(mu > -2 * sigma)  # else ligo.skymap's norm overflows
    measured = volume.measured_distance(redshift)
    found = volume.distance_factor(np.array([mu]), np.array([sigma]), measured)[0]
    # ligo.skymap gives the conditional density, norm included; the chain rule turns it into one of redshift.
    norm = ligo.skymap.distance.parameters_to_moments(mu, sigma)[2]
    density = ligo.skymap.distance.conditional_pdf(measured.r_mpc, mu, sigma, norm)
    z = np.array([0.999, 1.001]) * redshift
    slope = np.diff(macquart.luminosity_distance_mpc(z))[0] / np.diff(z)[0]
    expected = density * slope / macquart.POPULATION.density(redshift)
    # Derivatives over 2 % and 0.2 % of a redshift; the table's straight pieces.
    assert found == pytest.approx(expected, rel=5e-3, abs=1e-9)


def test_where_nothing_is_known_the_factor_is_one() -> None:
    evenly = volume.DistanceWeight(np.linspace(0, 60_000, 100), np.ones(100))
    mu, sigma = np.array([150.0, -40.0, 3000.0]), np.array([40.0, 60.0, 900.0])
    assert volume.distance_factor(mu, sigma, evenly) == pytest.approx(1, rel=1e-9)
    # Lines of sight without a distance.
    mu, sigma = np.array([np.inf, np.nan, 100.0]), np.array([1.0, 1.0, 0.0])
    assert (volume.distance_factor(mu, sigma, volume.distance_weight(100.0)) == 1).all()
    assert (volume.distance_factor(mu, sigma, volume.measured_distance(0.1)) == 1).all()


def test_a_weight_averages_to_one_over_the_population() -> None:
    for excess in (0.0, 30.0, 500.0, 3000.0):
        weight = volume.distance_weight(excess)
        z = np.linspace(0, macquart.MAX_REDSHIFT, 20_001)
        at = np.interp(macquart.luminosity_distance_mpc(z), weight.r_mpc, weight.weight, right=0)
        # The coarser grid of the table.
        assert np.trapezoid(macquart.POPULATION.density(z) * at, z) == pytest.approx(1, abs=3e-3)


def test_a_far_burst_is_not_that_of_a_near_wave() -> None:
    near = volume.distance_factor(np.array([40.0]), np.array([8.0]), volume.distance_weight(2500.0))
    assert near[0] < 0.01
    assert volume.distance_factor(np.array([40.0]), np.array([8.0]), volume.measured_distance(1.0))[0] == 0


@settings(deadline=None)
@given(MU, SIGMA, st.floats(0, 1500))
def test_a_narrow_wave_reads_the_weight_off(mu: float, sigma: float, excess: float) -> None:
    weight = volume.distance_weight(excess)
    r_mpc = max(mu, 30.0)
    found = volume.distance_factor(np.array([r_mpc]), np.array([1e-3]), weight)[0]
    assert found == pytest.approx(np.interp(r_mpc, weight.r_mpc, weight.weight, right=0), rel=1e-3, abs=1e-6)


def test_the_overlap_is_that_of_drawn_sources() -> None:
    """Sources drawn from the wave: the mean over them of what the burst's posterior is worth there."""
    wave, excess = a_wave(), 60.0
    burst = a_map(np.random.default_rng(7).uniform(size=12))
    rng = np.random.default_rng(11)
    cell = rng.choice(12, 200_000, p=wave.probability)
    assert wave.distmu is not None
    assert wave.distsigma is not None
    r = np.linspace(0, 500, 5001)
    distance = np.empty(len(cell))
    for each in range(12):
        density = r**2 * np.exp(-((r - wave.distmu[each]) ** 2) / (2 * wave.distsigma[each] ** 2))
        here = cell == each
        distance[here] = np.interp(rng.uniform(size=here.sum()), np.cumsum(density) / density.sum(), r)
    z, likelihood = macquart.dm_likelihood(excess)
    worth = np.interp(distance, macquart.luminosity_distance_mpc(z), likelihood)
    worth *= 4 * np.pi * burst.probdensity[cell] / np.trapezoid(macquart.POPULATION.density(z) * likelihood, z)
    found = volume.overlap_with_burst(wave, burst, volume.distance_weight(excess))
    # Five standard errors of the mean.
    assert found.overlap_3d == pytest.approx(worth.mean(), abs=5 * worth.std() / np.sqrt(len(worth)))
    assert found.overlap_sky == pytest.approx(overlap(wave, burst), rel=1e-12)
    assert found.distance_factor == pytest.approx(found.overlap_3d / found.overlap_sky)


def test_without_distances_the_volume_says_what_the_sky_says() -> None:
    wave, burst = a_wave(), a_map(np.arange(12.0))
    on_sky = overlap(wave, burst)
    assert volume.overlap_with_burst(wave, burst, None) == volume.VolumeOverlap(on_sky, on_sky)
    flat = a_map(np.arange(1.0, 13))
    found = volume.overlap_with_burst(flat, burst, volume.distance_weight(100.0))
    assert found.overlap_3d == found.overlap_sky == overlap(flat, burst)
    assert volume.overlap_of_maps(wave, flat).distance_factor == 1


def test_a_line_of_sight_without_a_distance_keeps_its_share_of_the_sky() -> None:
    whole = a_wave()
    assert whole.distmu is not None
    part = a_map(whole.probdensity, distmu=np.where(np.arange(12) < 6, whole.distmu, np.inf), distsigma=whole.distsigma)
    burst, weight = a_map(np.ones(12)), volume.distance_weight(60.0)
    known = volume.overlap_with_burst(whole, burst, weight)
    found = volume.overlap_with_burst(part, burst, weight)
    factor = volume.distance_factor(whole.distmu, whole.distsigma, weight)  # type: ignore[arg-type]
    expected = (whole.probability * np.where(np.arange(12) < 6, factor, 1)).sum()
    assert found.overlap_3d == pytest.approx(expected)
    assert found.overlap_sky == pytest.approx(known.overlap_sky)


def test_maps_that_exclude_each_other_have_no_factor() -> None:
    found = volume.overlap_with_burst(
        a_map(np.arange(12) < 6.0), a_map(np.arange(12) > 5.0), volume.distance_weight(60.0)
    )
    assert (found.overlap_sky, found.overlap_3d, found.distance_factor) == (0, 0, None)


@settings(deadline=None, max_examples=40)
@given(st.floats(20, 3000), st.floats(0.05, 0.5), st.floats(20, 3000), st.floats(0.05, 0.5))
def test_the_common_distance_is_its_integral(mu_a: float, part_a: float, mu_b: float, part_b: float) -> None:
    isotropic, radius_mpc = np.ones(12), 4000.0
    a, b = (
        a_map(isotropic, distmu=np.full(12, mu), distsigma=np.full(12, mu * part))
        for mu, part in ((mu_a, part_a), (mu_b, part_b))
    )
    r = np.linspace(0, 3 * max(mu_a, mu_b), 20_001)[1:]
    densities = [
        ligo.skymap.distance.conditional_pdf(
            r, mu, mu * part, ligo.skymap.distance.parameters_to_moments(mu, mu * part)[2]
        )
        for mu, part in ((mu_a, part_a), (mu_b, part_b))
    ]
    expected = np.trapezoid(densities[0] * densities[1] * radius_mpc**3 / (3 * r**2), r)
    found = volume.overlap_of_maps(a, b, radius_mpc=radius_mpc)
    assert found.overlap_3d == pytest.approx(expected, rel=1e-3, abs=1e-9)
    assert volume.overlap_of_maps(b, a, radius_mpc=radius_mpc).overlap_3d == pytest.approx(found.overlap_3d, rel=1e-12)


def test_the_sphere_holds_both_maps() -> None:
    near, far = a_wave(), a_wave(distmu=900, distsigma=200)
    reach_mpc = volume.horizon_mpc(near, far)
    assert reach_mpc == volume.horizon_mpc(far, far)
    assert 1300 < reach_mpc < 2000
    assert volume.horizon_mpc(near, a_map(np.ones(12))) is None
    assert volume.overlap_of_maps(near, near).overlap_3d > volume.overlap_of_maps(near, far).overlap_3d


def test_the_line_of_sight_is_that_of_ligo_skymap() -> None:
    wave = read_skymap((SAMPLES / "skymaps" / "GW170817_skymap.fits").read_bytes())
    found = volume.line_of_sight(wave, ra_deg=197.45, dec_deg=-23.38)
    cell = wave.cells.find(healpix.lonlat_to_nest29(np.array([197.45]), np.array([-23.38])))
    assert wave.distmu is not None
    assert wave.distsigma is not None
    mean, std, _ = ligo.skymap.distance.parameters_to_moments(wave.distmu[cell], wave.distsigma[cell])
    assert found.mean_mpc == pytest.approx(mean[0], rel=1e-6)
    assert found.std_mpc == pytest.approx(std[0], rel=1e-6)
    assert 20 < mean[0] < 60


def test_outside_of_a_map_there_is_no_line_of_sight() -> None:
    assert volume.line_of_sight(a_map(np.ones(12)), ra_deg=0, dec_deg=0) == volume.LineOfSight(None, None)
    partial = SkyMap(np.array([0]), np.array([0]), np.array([3 / np.pi]), np.array([1.0]), np.array([1.0]), np.ones(1))
    assert volume.line_of_sight(partial, ra_deg=225, dec_deg=-60) == volume.LineOfSight(None, None)


@needs_shared_data
@pytest.mark.parametrize(
    ("population", "by_dispersion", "by_host"), [(macquart.VOLUME, 55.4, 338), (macquart.EXPONENTIAL, 7.0, 19.6)]
)
def test_s190425z_and_frb_20190425a_agree_in_distance(
    population: macquart.Population, by_dispersion: float, by_host: float
) -> None:
    assert SHARED_DATA is not None
    wave = read_skymap((SHARED_DATA / "skymaps" / "skyportal-bayestar.fits.gz").read_bytes())
    burst = localisation_map(Ellipse(255.72, 21.52, 0.16, 0.16, 0, 0.3935))
    found = volume.overlap_with_burst(wave, burst, volume.distance_weight(79.4 - 50, population=population))
    assert found.overlap_sky == pytest.approx(7.50, abs=0.01)
    # 179 +- 44 Mpc there. An excess of 29 +- 30 allows that, and how few bursts have so little the population says.
    assert found.distance_factor == pytest.approx(by_dispersion, rel=0.02)
    # UGC 10667, the proposed host: 141 Mpc.
    host = volume.overlap_with_burst(wave, burst, volume.measured_distance(0.0312, population=population))
    assert host.distance_factor == pytest.approx(by_host, rel=0.02)


@pytest.mark.parametrize("redshift", [5.1, np.nan])
def test_a_redshift_beyond_the_table_is_refused(redshift: float) -> None:
    with pytest.raises(InvalidInputError, match="redshift"):
        volume.measured_distance(redshift)


def test_an_excess_that_is_no_number_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="dm_excess"):
        volume.distance_weight(np.nan)


def test_a_redshift_of_a_neighbour_is_its_motion() -> None:
    assert volume.measured_distance(-0.0002) == volume.measured_distance(volume.NEAREST_REDSHIFT)


def test_a_sphere_of_nothing_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="radius_mpc"):
        volume.overlap_of_maps(a_wave(), a_wave(), radius_mpc=0)
