"""Redshifts from dispersion measures, against quadrature, drawn bursts and published numbers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

from shared.errors import InvalidInputError
from shared.physics import macquart


@pytest.mark.parametrize(("redshift", "dm"), [(0.03, 24.8), (0.1, 84.0), (0.2, 171.4), (0.5, 446), (1.0, 912)])
def test_the_mean_is_that_of_the_reference(redshift: float, dm: float) -> None:
    # Rounded to the digits that stand there; 0.5 % is also what other choices of constants make.
    assert macquart.mean_cosmic_dm_pc_cm3(redshift) == pytest.approx(dm, rel=5e-3)


@pytest.mark.parametrize("redshift", [0.01, 0.3, 1.0, 2.5, 5.0])
def test_the_mean_is_the_integral_of_the_diffuse_electrons(redshift: float) -> None:
    # Gauss-Legendre, flat universe of matter and a constant; constants by hand (SI), Planck 2018 parameters.
    h0_per_s, omega_m, omega_b = 67.66e3 / 3.0856775814913673e22, 0.30966, 0.04897
    x, weight = np.polynomial.legendre.leggauss(40)
    z = redshift * (x + 1) / 2
    integral = redshift / 2 * np.sum(weight * (1 + z) / np.sqrt(omega_m * (1 + z) ** 3 + 1 - omega_m))
    baryons_per_m3 = omega_b * 3 * h0_per_s**2 / (8 * np.pi * 6.6743e-11) / 1.67262192369e-27
    per_m2 = 0.84 * 7 / 8 * baryons_per_m3 * 299792458 / h0_per_s * integral
    # Radiation and massive neutrinos, left out here, are worth 0.2 % at z = 5.
    assert macquart.mean_cosmic_dm_pc_cm3(redshift) == pytest.approx(per_m2 / 3.0856775814913673e22, rel=3e-3)


def test_the_scatter_has_its_mean_at_the_mean() -> None:
    sigma = macquart.FEEDBACK / np.sqrt([0.001, 0.01, 0.1, 0.5, 1.0, 3.0])
    for width, c0 in zip(sigma, macquart.scatter_c0(sigma), strict=True):
        # By adaptive quadrature over u = Delta^-3, to infinity on both sides; the module stops at a Delta of 1000.
        def moment(u: float, power: float, c0: float = c0, width: float = width) -> float:
            return u**power * np.exp(-((u - c0) ** 2) / (18 * width**2))

        end = max(c0, 0) + 30 * width
        mean = quad(moment, 0, end, args=(-2 / 3,))[0] / quad(moment, 0, end, args=(-1 / 3,))[0]
        assert mean == pytest.approx(1, abs=1.5e-3)


@pytest.mark.parametrize(("sigma", "c0"), [(0.01, 1.0009007), (0.0308303, 1.0086219), (0.1004625, 1.1054425)])
def test_c0_is_that_of_the_table_which_the_authors_use(sigma: float, c0: float) -> None:
    # FRBs/FRB, sigma_C0_beta3: by minimisation on a grid that ends at a Delta of 20, hence for narrow scatter only.
    assert macquart.scatter_c0(np.array([sigma]))[0] == pytest.approx(c0, rel=1e-3)


@pytest.fixture(scope="module")
def bursts() -> tuple[np.ndarray, np.ndarray]:
    """Redshifts and excesses drawn from the model itself, by other means than the module's: inverse cumulative sums."""
    rng = np.random.default_rng(20190425)
    redshift = rng.uniform(0.001, macquart.MAX_REDSHIFT, 6000)
    sigma = macquart.FEEDBACK / np.sqrt(redshift)
    delta = np.geomspace(1e-3, 1e3, 2000)
    drawn = []
    for width, c0, u in zip(sigma, macquart.scatter_c0(sigma), rng.uniform(size=6000), strict=True):
        density = macquart.scatter_density(delta, c0=c0, sigma=width)
        cumulative = np.append(0, np.cumsum((density[1:] + density[:-1]) / 2 * np.diff(delta)))
        drawn.append(np.interp(u * cumulative[-1], cumulative, delta))
    host = macquart.HOST_MEDIAN_PC_CM3 * np.exp(macquart.HOST_SIGMA_LN * rng.standard_normal(6000)) / (1 + redshift)
    return redshift, np.array(drawn) * macquart.mean_cosmic_dm_pc_cm3(redshift) + host


@pytest.mark.parametrize(("least", "most"), [(30, 3400), (30, 600), (600, 1500), (1500, 3400)])
def test_nine_of_ten_bursts_are_within_their_ranges(
    bursts: tuple[np.ndarray, np.ndarray], least: float, most: float
) -> None:
    pairs = [(z, excess) for z, excess in zip(*bursts, strict=True) if least < excess < most]
    ranges = [macquart.redshift_range(excess) for _, excess in pairs]
    below = np.mean([z < found.low for found, (z, _) in zip(ranges, pairs, strict=True)])
    above = np.mean([z > found.high for found, (z, _) in zip(ranges, pairs, strict=True)])
    # Four binomial standard errors.
    tolerance = 4 * np.sqrt(0.05 * 0.95 / len(pairs))
    assert below == pytest.approx(0.05, abs=tolerance)
    assert above == pytest.approx(0.05, abs=tolerance)
    # Five standard errors of the mean; the spread is up to 0.8.
    assert np.mean([found.mean for found in ranges]) == pytest.approx(
        np.mean([z for z, _ in pairs]), abs=5 * 0.8 / np.sqrt(len(pairs))
    )


@settings(deadline=None)  # the first call makes a table
@given(st.floats(-1e6, 1e6), st.floats(0, 1e4))
def test_a_larger_excess_is_never_nearer(excess: float, more: float) -> None:
    near, far = macquart.redshift_range(excess), macquart.redshift_range(excess + more)
    assert 0 <= near.low <= near.mean <= near.high <= macquart.MAX_REDSHIFT
    # Beyond the range of the table nothing changes; 1e-9 is rounding.
    assert near.low <= far.low + 1e-9
    assert near.mean <= far.mean + 1e-9
    assert near.high <= far.high + 1e-9


@pytest.mark.parametrize("excess", [0.0, -1.0, -500.0])
def test_no_excess_means_here_as_far_as_the_milky_way_is_known(excess: float) -> None:
    found = macquart.redshift_range(excess)
    assert found.low == found.mean == 0
    assert found.high == macquart.redshift_range(macquart.MILKY_WAY_ERROR_PC_CM3).high
    assert 0.02 < found.high < 0.05


@settings(deadline=None)  # the first call makes a table
@given(st.floats(0, macquart.MAX_EXCESS_PC_CM3))
def test_a_little_more_excess_is_a_little_farther(excess: float) -> None:
    near, far = macquart.redshift_range(excess), macquart.redshift_range(excess + 1)
    # The mean rises by 800 pc/cm3 per redshift and more; the edges of the range move at most four times as fast.
    for a, b in ((near.low, far.low), (near.mean, far.mean), (near.high, far.high)):
        assert abs(b - a) < 0.005


@pytest.mark.parametrize("excess", [-10.0, 0.0, 1.0, 2.0, 3.0, 77.7, 3499.0, 3500.0, 1e5])
def test_a_density_for_any_excess(excess: float) -> None:
    z, density = macquart.redshift_posterior(excess)
    assert (density >= 0).all()
    assert np.trapezoid(density, z) == pytest.approx(1)
    assert np.trapezoid(density * z, z) == pytest.approx(
        macquart.redshift_range(max(excess, macquart.DM_STEP_PC_CM3)).mean, rel=1e-6
    )


def test_another_cosmology_gives_another_distance() -> None:
    found = {name: macquart.redshift_range(500.0, cosmology=name).mean for name in ("Planck18", "Planck13", "WMAP9")}
    assert len(set(found.values())) == 3
    assert max(found.values()) / min(found.values()) < 1.05


def test_frb_20190425a_is_near() -> None:
    # An excess of 79.4 beyond NE2001 (CHIME/FRB catalogue 1). Published: z < 0.09; the proposed host has 0.031.
    found = macquart.redshift_range(79.4 - 50)
    assert found.low < 0.031 < found.high < 0.09
    assert macquart.redshift_range(79.4).high < 0.15


@pytest.mark.parametrize("redshift", [-0.1, 5.1, np.nan, [0.1, 6.0]])
def test_a_redshift_that_is_not_in_the_table_is_refused(redshift: float) -> None:
    with pytest.raises(InvalidInputError, match="redshift"):
        macquart.mean_cosmic_dm_pc_cm3(redshift)


def test_an_unknown_cosmology_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="cosmo"):
        macquart.redshift_range(100.0, cosmology="Ptolemy")
