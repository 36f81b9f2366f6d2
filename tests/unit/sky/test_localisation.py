"""Error ellipses, against astropy, mocpy and healpy."""

import astropy.units as u
import healpy
import numpy as np
import pytest
from astropy.coordinates import Latitude, Longitude, SkyCoord
from hypothesis import assume, example, given
from hypothesis import strategies as st
from mocpy import MOC

from shared.errors import InvalidInputError
from shared.sky import healpix
from shared.sky.localisation import REACH_RAD, Ellipse, intervals

GOOD = {
    "ra_deg": 77.0,
    "dec_deg": 26.0,
    "semi_major_deg": 0.2,
    "semi_minor_deg": 0.1,
    "position_angle_deg": 30.0,
    "confidence_level": 0.68,
}
# Where cells and regions share a centre, a corner or an axis, and where cells are thinnest.
SPECIAL = [(0.0, 0.0), (45.0, 0.0), (0.0, 90.0), (123.0, -90.0), (45.0, 89.9999), (45.0, 41.8103), (0.0, -41.8103)]
POSITIONS = st.one_of(st.sampled_from(SPECIAL), st.tuples(st.floats(0, 360), st.floats(-90, 90)))
SEMI_MAJORS = st.floats(-8, np.log10(89)).map(lambda exponent: 10**exponent)
AXIS_RATIOS = st.one_of(st.just(1.0), st.floats(-4, 0).map(lambda exponent: 10**exponent))


def positions(ellipse: Ellipse, *, reach: np.ndarray, angle: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions at a part of the way from the centre to the edge, by vectors; angles from the major axis.

    Not by astropy, whose latitudes are arc sines: at the poles they are good to 1e-6 deg only.
    """
    x, y = ellipse.semi_major_deg * reach * np.cos(angle), ellipse.semi_minor_deg * reach * np.sin(angle)
    distance = np.radians(np.hypot(x, y))
    direction = np.arctan2(y, x) + np.radians(ellipse.position_angle_deg)
    ra, dec = np.radians([ellipse.ra_deg, ellipse.dec_deg])
    centre = np.array([[np.cos(dec) * np.cos(ra)], [np.cos(dec) * np.sin(ra)], [np.sin(dec)]])
    north = np.array([[-np.sin(dec) * np.cos(ra)], [-np.sin(dec) * np.sin(ra)], [np.cos(dec)]])
    east = np.array([[-np.sin(ra)], [np.cos(ra)], [0]])
    place = centre * np.cos(distance) + (north * np.cos(direction) + east * np.sin(direction)) * np.sin(distance)
    return (
        np.degrees(np.arctan2(place[1], place[0])) % 360,
        np.degrees(np.arctan2(place[2], np.hypot(place[0], place[1]))),
    )


@given(POSITIONS, SEMI_MAJORS, AXIS_RATIOS, st.floats(0, 180), st.integers(0, 2**32 - 1))
@example((0.0, 90.0), 7e-5, 1.0, 0.0, 1)
@example((0.0, 66.66796875), 1.723169999797605, 0.01, 0.0, 0)  # along an edge of the base cells, where cells are long
@example((0.0, 0.0), 86.6, 0.1, 1.0, 0)
@example((45.0, 89.9999), 0.0001333521432163324, 1.0, 0.0, 0)  # where cdshealpix's cones have holes
def test_intervals_hold_all_of_the_ellipse_and_are_few(
    position: tuple[float, float], semi_major_deg: float, ratio: float, angle_deg: float, seed: int
) -> None:
    ellipse = Ellipse(*position, semi_major_deg, semi_major_deg * ratio, angle_deg, 0.9)
    found = intervals(ellipse)
    assert (found.start < found.stop).all()
    assert (found.stop[:-1] < found.start[1:]).all()
    # About: 64 are asked for, and the edge of a thin ellipse crosses a few more.
    assert len(found.start) <= 96
    assert found.find(healpix.lonlat_to_nest29([position[0]], [position[1]]))[0] >= 0
    rng = np.random.default_rng(seed)
    reach = np.append(np.sqrt(rng.uniform(size=300)), np.ones(100))
    ra, dec = positions(ellipse, reach=reach, angle=rng.uniform(0, 2 * np.pi, 400))
    assert (found.find(healpix.lonlat_to_nest29(ra, dec)) >= 0).all()


@given(POSITIONS, st.floats(-4, np.log10(60)).map(lambda exponent: 10**exponent))
def test_the_cells_of_a_circle_are_not_much_more_than_it(position: tuple[float, float], radius_deg: float) -> None:
    found = intervals(Ellipse(*position, radius_deg, radius_deg, 0.0, 0.9))
    cells_deg2 = float((found.stop - found.start).sum()) / healpix.N_CELLS_29 * healpix.SKY_SR * healpix.DEG2_PER_SR
    circle_deg2 = 2 * np.pi * (1 - np.cos(np.radians(radius_deg))) * healpix.DEG2_PER_SR
    # At least four cells of the chosen order along a radius, and one and a half more rings of them around. Beyond
    # 20 deg the search for cones gives whole base cells where most of one is needed.
    assert 1 <= cells_deg2 / circle_deg2 < (2.3 if radius_deg <= 20 else 3)


@pytest.mark.parametrize("order", [0, 1, 4, 7])
def test_no_corner_of_a_cell_is_farther_from_its_centre_than_the_search_reaches(order: int) -> None:
    ipix = np.arange(12 << 2 * order)
    centres = np.stack(healpy.pix2vec(1 << order, ipix, nest=True), axis=1)[:, :, None]
    chords = np.linalg.norm(healpy.boundaries(1 << order, ipix, nest=True) - centres, axis=1)
    # The 8 % are for the stretching of the plane.
    assert (2 * np.arcsin(chords / 2)).max() * 2**order * 1.08 < REACH_RAD


@pytest.mark.parametrize("dec_deg", [0.0, 45.0, -75.0, 89.0])
@pytest.mark.parametrize(("semi_major_deg", "semi_minor_deg"), [(10.0, 9.99), (3.0, 1.0), (0.5, 0.02), (0.005, 0.004)])
def test_intervals_hold_the_cells_that_mocpy_finds(
    dec_deg: float, semi_major_deg: float, semi_minor_deg: float
) -> None:
    ellipse = Ellipse(200.0, dec_deg, semi_major_deg, semi_minor_deg, 40.0, 0.9)
    fine = min(29, int(np.log2(60 / semi_minor_deg)) + 4)
    moc = MOC.from_elliptical_cone(
        lon=Longitude(ellipse.ra_deg, u.deg),
        lat=Latitude(dec_deg, u.deg),
        a=semi_major_deg * u.deg,
        b=semi_minor_deg * u.deg,
        pa=40.0 * u.deg,
        max_depth=fine,
        delta_depth=2,
    )
    found = intervals(ellipse)
    first, last = moc.to_depth29_ranges.astype(np.int64).T
    centre = first + (1 << 2 * (29 - fine)) // 2
    # Cells of theirs that only touch the edge may have their centre outside; those well inside may not.
    lonlat = np.degrees(healpy.pix2ang(1 << 29, np.append(centre, last - 1), nest=True))
    dec, ra = 90 - lonlat[0], lonlat[1]
    inside = ellipse.contains(ra, dec)
    assert inside.sum() > 20
    assert (found.find(np.append(centre, last - 1)[inside]) >= 0).all()


@given(POSITIONS, SEMI_MAJORS, AXIS_RATIOS, st.floats(0, 180), st.floats(0, 2 * np.pi))
def test_an_ellipse_contains_what_is_inside_its_edge_and_not_what_is_outside(
    position: tuple[float, float], semi_major_deg: float, ratio: float, angle_deg: float, at: float
) -> None:
    # A hundred times what degrees in 64 bits resolve next to 360.
    assume(semi_major_deg * ratio > 1e-11)
    ellipse = Ellipse(*position, semi_major_deg, semi_major_deg * ratio, angle_deg, 0.9)
    ra, dec = positions(ellipse, reach=np.array([0.0, 0.9, 1.1]), angle=np.array([at, at, at]))
    if semi_major_deg * 1.1 < 90:
        assert ellipse.contains(ra, dec).tolist() == [True, True, False]


@pytest.mark.parametrize("semi_major_deg", [5e-324, 1e-12, 3e-8, 1e-6, 9e-5])
@pytest.mark.parametrize("position", [*SPECIAL, (12.3, 45.6)])
def test_the_tiniest_ellipse_has_cells_around_its_centre(position: tuple[float, float], semi_major_deg: float) -> None:
    found = intervals(Ellipse(*position, semi_major_deg, semi_major_deg, 0.0, 0.9))
    index = healpix.lonlat_to_nest29([position[0]], [position[1]])
    assert found.find(index)[0] >= 0
    assert len(found.start) <= 9
    order = int(min(29, np.log2(58.6 / 2 / max(semi_major_deg, 1e-300))))
    neighbours = healpy.get_all_neighbours(1 << order, int(index[0]) >> 2 * (29 - order), nest=True)
    cells = neighbours[neighbours >= 0].astype(np.int64) << 2 * (29 - order)
    assert (found.find(cells) >= 0).all()


@given(POSITIONS, st.floats(0.001, 89), st.integers(0, 2**32 - 1))
def test_a_circle_contains_what_astropy_finds_within_its_radius(
    position: tuple[float, float], radius_deg: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    around = positions(
        Ellipse(*position, radius_deg, radius_deg, 0.0, 0.9),
        reach=rng.uniform(0, 2, 200),
        angle=rng.uniform(0, 2 * np.pi, 200),
    )
    separation = SkyCoord(*position, unit="deg").separation(SkyCoord(*around, unit="deg")).deg
    clear = np.abs(separation / radius_deg - 1) > 1e-9
    inside = Ellipse(*position, radius_deg, radius_deg, 0.0, 0.9).contains(*around)
    assert (inside == (separation < radius_deg))[clear].all()


def test_the_position_angle_is_from_north_through_east() -> None:
    ellipse = Ellipse(10.0, 0.0, 2.0, 0.5, 90.0, 0.68)
    assert ellipse.contains([11.9, 10.0], [0.0, 1.9]).tolist() == [True, False]
    north_east = Ellipse(10.0, 0.0, 2.0, 0.1, 45.0, 0.68)
    assert north_east.contains([11.0, 9.0], [1.0, 1.0]).tolist() == [True, False]


def test_an_ellipse_at_ra_0_goes_on_at_360() -> None:
    ellipse = Ellipse(0.05, 10.0, 0.2, 0.1, 90.0, 0.68)
    assert ellipse.contains([359.9, 0.2], [10.0, 10.0]).all()
    assert (Ellipse(360.0, 10.0, 0.2, 0.1, 90.0, 0.68).contains([359.9, 0.1], 10.0)).all()
    assert (intervals(ellipse).find(healpix.lonlat_to_nest29([359.9, 0.2], [10.0, 10.0])) >= 0).all()


def test_scaling_follows_the_two_dimensional_gaussian() -> None:
    ellipse = Ellipse(**GOOD)
    rng = np.random.default_rng(4)
    # By drawing: the semi-axes of an ellipse of one standard deviation, 39.3 %.
    one_sigma = ellipse.scaled_to(1 - np.exp(-0.5))
    north, east = rng.standard_normal((2, 200_000))
    drawn = np.sqrt(north**2 + east**2)
    for level in (0.3, 0.68, 0.9, 0.99):
        scaled = one_sigma.scaled_to(level)
        within = np.mean(drawn < scaled.semi_major_deg / one_sigma.semi_major_deg)
        assert within == pytest.approx(level, abs=5 * np.sqrt(level * (1 - level) / len(drawn)))
        assert scaled.semi_minor_deg / scaled.semi_major_deg == pytest.approx(0.5)
        assert scaled.confidence_level == level
    assert ellipse.scaled_to(0.9).scaled_to(0.68).semi_major_deg == pytest.approx(ellipse.semi_major_deg)


def test_scaling_stops_below_a_quarter_of_the_sky_around() -> None:
    wide = Ellipse(0.0, 0.0, 80.0, 40.0, 0.0, 0.5).scaled_to(0.999)
    assert wide.semi_major_deg < 90
    assert len(intervals(wide).start) > 0


@pytest.mark.parametrize("level", [0.0, 1.0, -0.1, 1.1, np.nan])
def test_no_region_holds_nothing_or_everything(level: float) -> None:
    with pytest.raises(InvalidInputError, match="confidence_level"):
        Ellipse(**GOOD).scaled_to(level)


@pytest.mark.parametrize("radius_deg", [0.001, 1.0, 14.0])
def test_the_area_of_a_circle_is_that_on_the_sphere_to_one_percent(radius_deg: float) -> None:
    sphere = 2 * np.pi * (1 - np.cos(np.radians(radius_deg))) * np.degrees(1) ** 2
    assert Ellipse(0.0, 0.0, radius_deg, radius_deg, 0.0, 0.9).area_deg2 == pytest.approx(sphere, rel=0.01)


def test_errors_along_the_axes_become_semi_axes_on_the_sky() -> None:
    wide = Ellipse.from_axis_errors(ra_deg=10.0, dec_deg=60.0, ra_err_deg=0.3, dec_err_deg=0.1, confidence_level=0.68)
    assert (wide.semi_major_deg, wide.semi_minor_deg, wide.position_angle_deg) == (0.3, 0.1, 90.0)
    # 0.58 deg of right ascension at 60 deg are 0.29 deg on the sky.
    assert wide.contains(10.58, 60.0)
    assert not wide.contains(10.62, 60.0)
    high = Ellipse.from_axis_errors(ra_deg=10.0, dec_deg=60.0, ra_err_deg=0.1, dec_err_deg=0.3, confidence_level=0.68)
    assert (high.semi_major_deg, high.semi_minor_deg, high.position_angle_deg) == (0.3, 0.1, 0.0)


@pytest.mark.parametrize(
    ("a_deg", "b_deg", "theta_deg", "expected"),
    [
        (0.2, 0.1, 0.0, 0.0),
        (0.2, 0.1, 30.0, 150.0),
        (0.2, 0.1, -30.0, 30.0),
        (0.2, 0.1, 180.0, 0.0),
        (0.2, 0.1, 360.0, 0.0),
        (0.1, 0.2, 30.0, 60.0),
        (0.1, 0.2, 0.0, 90.0),
    ],
)
def test_a_clockwise_angle_turns_to_the_west(a_deg: float, b_deg: float, theta_deg: float, expected: float) -> None:
    ellipse = Ellipse.from_clockwise_theta(
        ra_deg=180.0, dec_deg=0.0, a_deg=a_deg, b_deg=b_deg, theta_deg=theta_deg, confidence_level=0.68
    )
    assert (ellipse.semi_major_deg, ellipse.semi_minor_deg) == (0.2, 0.1)
    assert ellipse.position_angle_deg == pytest.approx(expected)
    # As seen on the sky, with east to the left: clockwise from north is towards west, to smaller right ascension.
    theta = np.radians(theta_deg)
    assert ellipse.contains(180 - 0.99 * a_deg * np.sin(theta), 0.99 * a_deg * np.cos(theta))
    assert ellipse.contains(180 - 0.99 * b_deg * np.cos(theta), -0.99 * b_deg * np.sin(theta))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("ra_deg", -0.1),
        ("ra_deg", 360.1),
        ("ra_deg", np.nan),
        ("dec_deg", 90.1),
        ("dec_deg", -np.inf),
        ("semi_major_deg", 0.05),
        ("semi_major_deg", 90.0),
        ("semi_major_deg", np.nan),
        ("semi_minor_deg", 0.0),
        ("semi_minor_deg", -1.0),
        ("semi_minor_deg", np.nan),
        ("position_angle_deg", 361.0),
        ("position_angle_deg", np.nan),
        ("confidence_level", 0.0),
        ("confidence_level", 1.0),
        ("confidence_level", np.nan),
    ],
)
def test_what_is_no_ellipse_is_refused_by_the_name_of_the_field(field: str, value: float) -> None:
    with pytest.raises(InvalidInputError) as caught:
        Ellipse(**{**GOOD, field: value})
    assert caught.value.field == field


@pytest.mark.parametrize("max_cells", [8, 24, 64, 256])
def test_more_cells_mean_a_closer_cover(max_cells: int) -> None:
    ellipse = Ellipse(**GOOD)
    found, fewer = intervals(ellipse, max_cells=max_cells), intervals(ellipse, max_cells=max_cells // 2)
    assert len(found.start) <= 1.5 * max_cells
    assert (found.stop - found.start).sum() <= (fewer.stop - fewer.start).sum()
