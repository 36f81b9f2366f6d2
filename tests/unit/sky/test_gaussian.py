"""Gaussian positions as sky maps, against sums over two million directions drawn evenly from the Gaussian."""

from functools import cache

import astropy.units as u
import healpy
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import InvalidInputError
from shared.sky import healpix, region
from shared.sky.gaussian import localisation_map
from shared.sky.localisation import Ellipse
from shared.sky.overlap import combined, overlap
from shared.sky.skymap import SkyMap, read_skymap, write_skymap
from tests.support.data import needs_shared_data
from tests.support.skymaps import some_maps
from tests.unit.sky.test_localisation import AXIS_RATIOS, POSITIONS, SPECIAL, positions

ONE_SIGMA = 1 - np.exp(-0.5)
# Level of the ellipse whose semi-axes are the standard deviations.
GOLDEN = (5**0.5 - 1) / 2


def a_gaussian(position: tuple[float, float], major_deg: float, minor_deg: float, angle_deg: float = 0.0) -> Ellipse:
    return Ellipse(*position, major_deg, minor_deg, angle_deg, ONE_SIGMA)


@cache
def map_of(name: str) -> SkyMap:
    return read_skymap(some_maps()[name])


def drawn(ellipse: Ellipse, n: int = 2_000_000) -> tuple[np.ndarray, np.ndarray]:
    """Directions from the Gaussian of which an ellipse is one standard deviation, on a spiral of even steps."""
    at = (np.arange(n) + 0.5) / n
    return positions(ellipse, reach=np.sqrt(-2 * np.log1p(-at)), angle=2 * np.pi * GOLDEN * np.arange(n))


def overlap_by_drawing(ellipse: Ellipse, sky_map: SkyMap) -> float:
    return float(4 * np.pi * region.at_points(sky_map, *drawn(ellipse)).probdensity_per_sr.mean())


@needs_shared_data
def test_s190425z_and_frb_20190425a() -> None:
    """The published pair: FRB 20190425A of CHIME's first catalogue within the 25 % region of S190425z."""
    gw = map_of("skyportal-bayestar.fits.gz")
    (there,) = (region.at_points(gw, [255.72], [21.52]),)
    assert there.credible_level[0] == pytest.approx(0.250, abs=5e-4)
    assert 4 * np.pi * there.probdensity_per_sr[0] == pytest.approx(7.26, abs=5e-3)
    burst = a_gaussian((255.72, 21.52), 0.16, 0.16)
    assert overlap(localisation_map(burst), gw) == pytest.approx(7.50, abs=5e-3)
    assert overlap(localisation_map(burst), gw) == pytest.approx(overlap_by_drawing(burst, gw), rel=1e-4)


def overlap_by_pixels(ellipse: Ellipse, sky_map: SkyMap) -> float:
    """Sum over centres of pixels of a fiftieth of the minor axis, or of the map's cells where these are finer."""
    order = int(np.ceil(np.log2(58.6 / (0.02 * ellipse.semi_minor_deg))))
    centre = healpy.ang2vec(ellipse.ra_deg, ellipse.dec_deg, lonlat=True)
    radius = np.radians(5.5 * ellipse.semi_major_deg)
    pixels = healpy.query_disc(1 << order, centre, radius, nest=True)
    finer = np.flatnonzero(sky_map.order > order)
    pixels = np.setdiff1d(pixels, sky_map.start[finer] >> 2 * (29 - order))
    ra, dec = healpy.pix2ang(1 << order, pixels, nest=True, lonlat=True)
    values = region.at_points(sky_map, ra, dec).probdensity_per_sr * healpix.cell_area_sr(order)
    # The centre of a cell is three quarters through its interval.
    inside = sky_map.start[finer] + healpix.cell_size(sky_map.order[finer]) // 4 * 3
    fine_ra, fine_dec = healpy.pix2ang(1 << 29, inside, nest=True, lonlat=True)
    ra, dec = np.append(ra, fine_ra), np.append(dec, fine_dec)
    values = np.append(values, sky_map.probability[finer])
    here, there = SkyCoord(ellipse.ra_deg, ellipse.dec_deg, unit="deg"), SkyCoord(ra, dec, unit="deg")
    distance = here.separation(there).to_value(u.deg)
    direction = here.position_angle(there).to_value(u.rad) - np.radians(ellipse.position_angle_deg)
    exponent = (distance * np.cos(direction) / ellipse.semi_major_deg) ** 2
    exponent += (distance * np.sin(direction) / ellipse.semi_minor_deg) ** 2
    stretch = np.radians(distance) / np.sin(np.radians(distance))
    density = stretch * np.exp(-exponent / 2) / (2 * np.pi * np.radians(ellipse.semi_major_deg))
    return float(4 * np.pi * (values * density / np.radians(ellipse.semi_minor_deg)).sum())


NAMES = sorted(set(some_maps()) - {"FRB20201123A_hpix_uniform.fits.gz", "S230518h-Initial.multiorder.fits"})
# One is finer than this serves for, and has a test of its own; one is the same as another.


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("major_deg", "minor_deg"), [(0.16, 0.16), (2.0, 0.02)])
def test_overlaps_are_those_of_directions_drawn_from_the_gaussian(
    name: str, major_deg: float, minor_deg: float
) -> None:
    sky_map = map_of(name)
    burst = a_gaussian(region.most_probable_position_deg(sky_map), major_deg, minor_deg, 30.0)
    found = overlap(localisation_map(burst, resolving=sky_map), sky_map)
    # Thin maps are met by few of the directions.
    assert found == pytest.approx(overlap_by_drawing(burst, sky_map), rel=3e-4 if "IPN" in name else 1e-4)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("major_deg", "minor_deg"), [(6.0, 5.0), (12.0, 12.0)])
def test_overlaps_of_wide_gaussians_are_sums_over_small_pixels(name: str, major_deg: float, minor_deg: float) -> None:
    sky_map = map_of(name)
    ra, dec = region.most_probable_position_deg(sky_map)
    burst = a_gaussian(((ra + 1.0) % 360, dec), major_deg, minor_deg, 30.0)
    found = overlap(localisation_map(burst, resolving=sky_map), sky_map)
    assert found == pytest.approx(overlap_by_pixels(burst, sky_map), rel=1e-4)


def test_a_burst_overlaps_with_another_map_of_cells_much_finer_than_its_own() -> None:
    fine = map_of("FRB20201123A_hpix_uniform.fits.gz")
    ra, dec = region.most_probable_position_deg(fine)
    burst = a_gaussian((ra, dec), 0.01, 0.01)
    found = overlap(localisation_map(burst, resolving=fine), fine)
    centres = healpy.pix2ang(1 << 29, fine.start + healpix.cell_size(fine.order) // 4 * 3, nest=True, lonlat=True)
    distance = SkyCoord(ra, dec, unit="deg").separation(SkyCoord(*centres, unit="deg")).to_value(u.deg)
    density = np.exp(-((distance / 0.01) ** 2) / 2) / (2 * np.pi * np.radians(0.01) ** 2)
    assert found == pytest.approx(4 * np.pi * float((density * fine.probability).sum()), rel=1e-5)


@given(POSITIONS, st.floats(-6, 1).map(lambda exponent: 10**exponent), AXIS_RATIOS, st.floats(0, 180))
def test_any_gaussian_takes_few_cells_and_holds_its_probability(
    position: tuple[float, float], major_deg: float, ratio: float, angle_deg: float
) -> None:
    ratio = max(ratio, 1 / 300)
    major_deg = max(major_deg, 1e-6 / ratio)
    ellipse = a_gaussian(position, major_deg, major_deg * ratio, angle_deg)
    found = localisation_map(ellipse)
    assert len(found.start) <= (2_000 if ratio == 1 else 12_000)
    assert (found.start[1:] >= found.cells.stop[:-1]).all()
    assert found.probability.sum() == pytest.approx(1, abs=1e-12)
    density = found.cells.find(healpix.lonlat_to_nest29(*drawn(ellipse, 5_000)))
    assert (density >= 0).all()


@pytest.mark.parametrize("position", [*SPECIAL, (12.3, 45.6)])
@pytest.mark.parametrize(("major_deg", "minor_deg"), [(1e-5, 1e-5), (0.1, 0.1), (0.5, 0.05), (10.0, 5.0)])
def test_a_cell_holds_the_part_of_the_directions_drawn_in_it(
    position: tuple[float, float], major_deg: float, minor_deg: float
) -> None:
    ellipse = a_gaussian(position, major_deg, minor_deg, 20.0)
    found = localisation_map(ellipse)
    cell = found.cells.find(healpix.lonlat_to_nest29(*drawn(ellipse, 500_000)))
    counts = np.bincount(cell + 1, minlength=len(found.start) + 1)
    assert counts[0] <= 2  # outside the cells
    # What the spiral leaves. Values at centres instead of averages would be off by 1e-4 where cells are fullest.
    off = counts[1:] / counts.sum() - found.probability
    assert np.abs(off).max() < 6e-5
    assert off.std() < 8e-6


@pytest.mark.parametrize("level", [0.5, 0.68, 0.9, 0.99])
@pytest.mark.parametrize("semi_major_deg", [0.001, 1.0, 30.0])
def test_the_ellipse_holds_the_probability_it_says(level: float, semi_major_deg: float) -> None:
    ellipse = Ellipse(30.0, 40.0, semi_major_deg, semi_major_deg / 2, 70.0, level)
    inside = SkyMap(*_cells_inside(ellipse))
    held = overlap(localisation_map(ellipse, resolving=inside), inside) * inside.area_sr.sum() / (4 * np.pi)
    assert held == pytest.approx(level, abs=2e-3)


def _cells_inside(ellipse: Ellipse) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cells with their centres in an ellipse, some hundred across, as a uniform map."""
    order = int(np.clip(np.log2(58.6 / ellipse.semi_minor_deg * 50), 0, 29))
    around = healpy.query_disc(
        1 << order,
        healpy.ang2vec(ellipse.ra_deg, ellipse.dec_deg, lonlat=True),
        np.radians(ellipse.semi_major_deg * 1.05),
        nest=True,
    )
    ra, dec = healpy.pix2ang(1 << order, around, nest=True, lonlat=True)
    start = np.sort(around[ellipse.contains(ra, dec)]) << 2 * (29 - order)
    orders = np.full(len(start), order)
    return start, orders, np.full(len(start), 1 / (healpix.cell_area_sr(order) * len(start)))


def test_two_bursts_overlap_as_their_gaussians_do() -> None:
    one, other = a_gaussian((10.0, 20.0), 0.2, 0.2), a_gaussian((10.0, 20.3), 0.1, 0.1)
    variance = np.radians(0.2) ** 2 + np.radians(0.1) ** 2
    expected = 4 * np.pi * np.exp(-(np.radians(0.3) ** 2) / (2 * variance)) / (2 * np.pi * variance)
    found = overlap(localisation_map(one), localisation_map(other, resolving=localisation_map(one)))
    # Both are smeared over their cells, a quarter of a standard deviation wide.
    assert found == pytest.approx(expected, rel=0.02)


def test_an_ellipse_at_another_level_is_the_same_gaussian() -> None:
    ellipse = Ellipse(10.0, 20.0, 0.3, 0.2, 30.0, 0.9)
    one, other = localisation_map(ellipse), localisation_map(ellipse.scaled_to(0.68))
    assert np.array_equal(one.start, other.start)
    np.testing.assert_allclose(one.probdensity, other.probdensity, rtol=1e-9)


@pytest.mark.parametrize("axes", [(1e-12, 1e-12), (1e-5, 1e-12), (80.0, 0.001), (89.0, 89.0)])
@pytest.mark.parametrize("position", [*SPECIAL, (360.0, 10.0)])
def test_extremes_are_maps_too(position: tuple[float, float], axes: tuple[float, float]) -> None:
    found = localisation_map(Ellipse(*position, *axes, 10.0, 0.5))
    assert 12 <= len(found.start) <= 12_000
    assert np.isfinite(found.probdensity).all()
    assert found.probability.sum() == pytest.approx(1, abs=1e-12)
    again = read_skymap(write_skymap(found))
    assert np.array_equal(again.uniq, found.uniq)
    held = found.probdensity[found.cells.find(healpix.lonlat_to_nest29([position[0]], [position[1]]))]
    assert held > 0.3 * found.probdensity.max()


def test_the_combined_map_of_a_wave_and_a_burst_is_about_the_burst() -> None:
    gw = map_of("GW170817_skymap.fits")
    ra, dec = region.most_probable_position_deg(gw)
    product = combined(gw, localisation_map(a_gaussian((ra + 0.2, dec), 0.05, 0.05)))
    at = region.most_probable_position_deg(product)
    assert SkyCoord(*at, unit="deg").separation(SkyCoord(ra + 0.2, dec, unit="deg")).to_value(u.deg) < 0.05


@pytest.mark.parametrize("coverage_sigma", [0.0, 2.9, 31.0, np.nan])
def test_a_coverage_that_is_none_is_refused(coverage_sigma: float) -> None:
    with pytest.raises(InvalidInputError, match="coverage_sigma"):
        localisation_map(a_gaussian((0.0, 0.0), 1.0, 1.0), coverage_sigma=coverage_sigma)


def test_a_smaller_coverage_takes_fewer_cells() -> None:
    ellipse = a_gaussian((0.0, 0.0), 1.0, 1.0)
    assert len(localisation_map(ellipse, coverage_sigma=3.0).start) < len(localisation_map(ellipse).start)
