"""The likelihood of an excess, the population of detected bursts, luminosity distances."""

import csv

import numpy as np
import pytest
from astropy import cosmology as cosmologies
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import lognorm, norm

from shared.errors import InvalidInputError
from shared.physics import macquart
from shared.physics.galactic_dm import DM_HALO_PC_CM3
from tests.support.data import SAMPLES

EXCESSES = np.arange(0.5, macquart.MAX_EXCESS_PC_CM3, 3.0)


@pytest.fixture(scope="module")
def catalogue() -> np.ndarray:
    """Excess of each burst of the first CHIME catalogue beyond the disk and the halo; sub-bursts are one burst."""
    with (SAMPLES / "frb" / "catalogue" / "chimefrbcat1.csv").open() as file:
        of_burst = {row["tns_name"]: float(row["dm_exc_ne2001"]) for row in csv.DictReader(file)}
    return np.sort(list(of_burst.values())) - DM_HALO_PC_CM3


@pytest.fixture(scope="module")
def likelihoods() -> tuple[np.ndarray, np.ndarray]:
    """Redshifts, and the density of (redshift, excess)."""
    z, _ = macquart.dm_likelihood(0.0)
    return z, np.stack([macquart.dm_likelihood(excess)[1] for excess in EXCESSES], axis=1)


def test_here_only_host_and_milky_way_scatter(likelihoods: tuple[np.ndarray, np.ndarray]) -> None:
    host = lognorm(macquart.HOST_SIGMA_LN, scale=macquart.HOST_MEDIAN_PC_CM3)
    u = (np.arange(4000) + 0.5) / 4000
    for excess in (10.0, 60.0, 150.0, 400.0):
        folded = norm.pdf(excess - host.ppf(u), scale=macquart.MILKY_WAY_ERROR_PC_CM3).mean()
        # Steps of 2 pc/cm3 in the table and of 3 in the fold.
        assert macquart.dm_likelihood(excess)[1][0] == pytest.approx(folded, rel=0.01)


def test_at_each_redshift_some_excess_is_seen(likelihoods: tuple[np.ndarray, np.ndarray]) -> None:
    z, density = likelihoods
    total = density.sum(axis=1) * 3
    # Below 0 is what the Milky Way's part takes off, up to 7 % with no cosmic web; above the table a part of the far.
    near = (z > 0.1) & (z < 0.9)
    assert total[near] == pytest.approx(1, abs=0.02)
    assert (total < 1.01).all()
    mean = (density * EXCESSES).sum(axis=1) / density.sum(axis=1)
    host_mean = macquart.HOST_MEDIAN_PC_CM3 * np.exp(macquart.HOST_SIGMA_LN**2 / 2)
    expected = macquart.mean_cosmic_dm_pc_cm3(z[near]) + host_mean / (1 + z[near])
    # The cosmic part has a tail beyond the table.
    assert mean[near] == pytest.approx(expected, rel=0.05)


def test_far_from_nothing_the_likelihood_is_the_posterior_with_a_flat_prior() -> None:
    for excess in (500.0, 1500.0):
        z, likelihood = macquart.dm_likelihood(excess)
        _, posterior = macquart.redshift_posterior(excess)
        # The Milky Way's error, 30, makes little of the scatter of 150 and more.
        distance = np.trapezoid(np.abs(likelihood / np.trapezoid(likelihood, z) - posterior), z) / 2
        assert distance < 0.03


@given(st.floats(-1e6, 1e6))
@settings(deadline=None)  # the first call makes a table
def test_a_likelihood_for_any_excess(excess: float) -> None:
    _, likelihood = macquart.dm_likelihood(excess)
    assert (likelihood >= 0).all()
    assert likelihood.max() > 1e-5
    assert np.isfinite(likelihood).all()


@pytest.mark.parametrize("population", [macquart.VOLUME, macquart.EXPONENTIAL])
def test_a_population_is_a_density(population: macquart.Population) -> None:
    z = np.linspace(0, macquart.MAX_REDSHIFT, 100_001)
    # Of the exponential, 0.03 % are farther.
    assert np.trapezoid(population.density(z), z) == pytest.approx(1, abs=4e-4)
    near = population.density(2e-6) / population.density(1e-6)
    assert near == pytest.approx(2 ** (population.shape - 1), rel=1e-3)


@pytest.mark.parametrize(
    ("population", "distance", "near"), [(macquart.VOLUME, 0.126, 0.0032), (macquart.EXPONENTIAL, 0.060, 0.024)]
)
def test_half_of_a_population_has_more_than_the_median_excess_of_the_catalogue(
    catalogue: np.ndarray,
    likelihoods: tuple[np.ndarray, np.ndarray],
    population: macquart.Population,
    distance: float,
    near: float,
) -> None:
    assert len(catalogue) == 536
    z, density = likelihoods

    def predicted(scale: float, at: np.ndarray) -> np.ndarray:
        prior = macquart.Population(population.shape, scale).density(z)
        each = np.trapezoid(prior[:, None] * density, z, axis=0) / np.trapezoid(prior, z)
        return np.interp(at, EXCESSES + 1.5, np.cumsum(each) * 3)

    scales = population.scale * np.linspace(0.8, 1.2, 41)
    median = [float(predicted(scale, np.median(catalogue))) for scale in scales]
    # What is below 0, by the Milky Way's error, is not counted: up to 0.3 %.
    assert np.interp(-0.5, -np.array(median), scales) == pytest.approx(population.scale, rel=0.015)

    # Kolmogorov-Smirnov. By chance it would be 0.06 in one of 20; but there is no telescope in the populations.
    ours, n = predicted(population.scale, catalogue), len(catalogue)
    found = max((ours - np.arange(n) / n).max(), (np.arange(1, n + 1) / n - ours).max())
    assert found == pytest.approx(distance, abs=0.01)
    # Where the counterparts of waves are: 0.015 of the catalogue have less than 50 pc/cm3.
    assert (catalogue < 50).mean() == pytest.approx(0.0149, abs=1e-4)
    assert predicted(population.scale, np.array(50.0)) == pytest.approx(near, rel=0.1)


@pytest.mark.parametrize("name", ["Planck18", "Planck13", "WMAP9"])
def test_luminosity_distances_are_those_of_astropy(name: str) -> None:
    z = np.geomspace(1e-4, macquart.MAX_REDSHIFT, 50)
    theirs = getattr(cosmologies, name).luminosity_distance(z).to_value("Mpc")
    assert macquart.luminosity_distance_mpc(z, cosmology=name) == pytest.approx(theirs, rel=1e-6, abs=2e-3)


def test_redshifts_without_a_distance() -> None:
    assert np.isnan(macquart.luminosity_distance_mpc(np.nan))
    for redshift in (-0.01, 5.01):
        with pytest.raises(InvalidInputError, match="redshift"):
            macquart.luminosity_distance_mpc(redshift)
    with pytest.raises(InvalidInputError, match="cosmo"):
        macquart.luminosity_distance_mpc(1.0, cosmology="Ptolemy")
