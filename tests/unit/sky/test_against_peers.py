"""Real maps: the figures and regions are those of ligo.skymap, mocpy and astropy."""

import io
import warnings
from pathlib import Path

import astropy_healpix as ah
import healpy
import numpy as np
import pytest
from astropy.coordinates import Latitude, Longitude
from astropy.table import Table
from astropy.units import deg
from hypothesis import given, settings
from hypothesis import strategies as st
from mocpy import MOC

from services.gw_listener.alerts import read_alert
from shared.errors import InvalidInputError
from shared.sky import healpix, region
from shared.sky.healpix import Intervals
from shared.sky.skymap import SkyMap, read_skymap, write_skymap
from tests.support.data import SAMPLES
from tests.support.skymaps import a_flat_map, a_multiorder_map, an_explicit_map, some_maps

with warnings.catch_warnings():
    # ligo.skymap 2.5 documents its ufuncs in a way that numpy 2.4 deprecates.
    warnings.simplefilter("ignore", DeprecationWarning)
    import ligo.skymap.distance
    from ligo.skymap.io import read_sky_map
    from ligo.skymap.postprocess.util import find_greedy_credible_levels

MAPS = {
    **some_maps(),
    "flat-ring": a_flat_map(ring=True),
    "explicit": an_explicit_map(np.arange(40, 90)),
    "uniq-tzero": a_multiorder_map(unsigned=True),
}
LEVELS = (0.5, 0.9)
MAX_FLAT_PIXELS = 4_000_000
# The peers are given every pixel of a flat map; beyond this only their memory would be tested.


@pytest.fixture(scope="module", params=list(MAPS))
def sky_map(request: pytest.FixtureRequest) -> SkyMap:
    return read_skymap(MAPS[request.param])


def unmerged(sky_map: SkyMap) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """UNIQ, density and probability of the map's pixels as they were before merging."""
    if sky_map.flat_order is None:
        return sky_map.uniq, sky_map.probdensity, sky_map.probability
    if sky_map.n_pixels > MAX_FLAT_PIXELS:
        pytest.skip("too many pixels for the peers")
    shift = 2 * (healpix.MAX_ORDER - sky_map.flat_order)
    pieces = zip(sky_map.cells.start >> shift, sky_map.cells.stop >> shift, strict=True)
    ipix = np.concatenate([np.arange(first, last) for first, last in pieces])
    density = sky_map.probdensity[sky_map.cells.find(ipix << shift)]
    return ipix + (4 << 2 * sky_map.flat_order), density, density * healpix.cell_area_sr(sky_map.flat_order)


def test_areas_are_those_of_ligo_skymap(sky_map: SkyMap) -> None:
    uniq, density, probability = unmerged(sky_map)
    levels = find_greedy_credible_levels(probability, density)
    area = healpix.cell_area_sr(healpix.uniq_order(uniq)) * (180 / np.pi) ** 2

    for level, ours in zip(LEVELS, region.credible_regions(sky_map, LEVELS), strict=True):
        # Asked for is 0.1 %. The same cells are chosen, except that equal densities may be taken in another
        # order and the cumulative sum rounded otherwise: one cell at most.
        assert ours.area_deg2 == pytest.approx(area[levels <= level].sum(), rel=1e-3)


def test_regions_are_those_of_mocpy(sky_map: SkyMap) -> None:
    uniq, _, probability = unmerged(sky_map)

    for level, ours in zip(LEVELS, region.credible_regions(sky_map, LEVELS), strict=True):
        theirs = MOC.from_valued_healpix_cells(
            uniq.astype(np.uint64), probability, max_depth=sky_map.max_order, cumul_to=level, strict=True, no_split=True
        )
        assert ours.moc() == theirs
        assert MOC.from_string(ours.to_ascii()) == theirs
        assert ours.area_deg2 == pytest.approx(theirs.sky_fraction * 4 * np.pi * (180 / np.pi) ** 2, rel=1e-12)


def test_region_files_are_read_by_mocpy(sky_map: SkyMap, tmp_path: Path) -> None:
    ours = region.credible_regions(sky_map, LEVELS)[1]
    path = tmp_path / "region.fits"
    path.write_bytes(ours.to_fits())

    theirs = MOC.load(path, format="fits")

    assert theirs == ours.moc()
    assert theirs.max_order == sky_map.max_order


def test_probability_in_a_region_is_that_of_mocpy(sky_map: SkyMap) -> None:
    uniq, density, _ = unmerged(sky_map)
    ra, dec = region.most_probable_position_deg(sky_map)
    for moc in (
        MOC.from_cone(Longitude(ra, deg), Latitude(dec, deg), radius=3 * deg, max_depth=10),
        region.credible_regions(sky_map, LEVELS)[0].moc(),
    ):
        ranges = moc.to_depth29_ranges.astype(np.int64)
        # mocpy takes the table as astropy reads it. Both sums are exact up to rounding; 1e-9 was asked for.
        table = Table({"UNIQ": uniq, "PROBDENSITY": density})
        table["PROBDENSITY"].unit = "sr-1"
        theirs = moc.probability_in_multiordermap(table)
        assert region.probability_in(sky_map, Intervals(ranges[:, 0], ranges[:, 1])) == pytest.approx(theirs, abs=1e-9)


def test_points_have_the_density_of_their_cell(sky_map: SkyMap) -> None:
    rng = np.random.default_rng(5)
    ra, dec = rng.uniform(0, 360, 3000), np.degrees(np.arcsin(rng.uniform(-1, 1, 3000)))
    peak = region.most_probable_position_deg(sky_map)
    ra[:1000], dec[:1000] = peak[0] + rng.normal(0, 1, 1000), np.clip(peak[1] + rng.normal(0, 1, 1000), -90, 90)
    nest29 = healpy.ang2pix(1 << 29, ra, dec, nest=True, lonlat=True)
    cell = np.searchsorted(sky_map.start, nest29, side="right") - 1
    inside = (cell >= 0) & (nest29 < sky_map.start[cell] + healpix.cell_size(sky_map.order[cell]))

    ours = region.at_points(sky_map, ra, dec)

    np.testing.assert_allclose(ours.probdensity_per_sr, np.where(inside, sky_map.probdensity[cell], 0), rtol=1e-12)
    for level, part in zip(LEVELS, region.credible_regions(sky_map, LEVELS), strict=True):
        assert np.array_equal(ours.credible_level <= level, part.contains(ra, dec))
    moc = region.credible_regions(sky_map, LEVELS)[1].moc()
    theirs = moc.contains_lonlat(Longitude(ra, deg), Latitude(dec, deg))
    assert np.array_equal(region.credible_regions(sky_map, LEVELS)[1].contains(ra, dec), theirs)


def test_distance_along_each_line_of_sight_is_that_of_ligo_skymap(sky_map: SkyMap) -> None:
    if sky_map.distmu is None or sky_map.distsigma is None:
        assert region.marginal_distance(sky_map) is None if sky_map.distmu is None else True
        return
    mean, std = region.conditional_distance_mpc(sky_map)
    # ligo.skymap's closed formula loses digits where mu is far below 0 (measured against 800 nodes).
    sound = np.isfinite(sky_map.distmu) & (sky_map.distmu > -3 * sky_map.distsigma)
    their_mean, their_std, _ = ligo.skymap.distance.parameters_to_moments(
        sky_map.distmu[sound], sky_map.distsigma[sound]
    )

    np.testing.assert_allclose(mean[sound], their_mean, rtol=1e-9)
    np.testing.assert_allclose(std[sound], their_std, rtol=1e-8)
    assert np.isnan(mean[~np.isfinite(sky_map.distmu)]).all()


def test_distance_over_the_sky_is_that_of_ligo_skymap_over_the_cells_that_have_one(sky_map: SkyMap) -> None:
    ours = region.marginal_distance(sky_map)
    if ours is None:
        return
    known = np.isfinite(sky_map.distmu)
    weight = sky_map.probability * known
    mean, std = ligo.skymap.distance.parameters_to_marginal_moments(
        weight / weight.sum(), sky_map.distmu, sky_map.distsigma
    )
    assert ours.mean_mpc == pytest.approx(mean, rel=1e-8)
    assert ours.std_mpc == pytest.approx(std, rel=1e-6)  # a difference of squares of the means


def test_the_canonical_map_is_the_same_map_for_every_reader(sky_map: SkyMap) -> None:
    data = write_skymap(sky_map)
    again = read_skymap(data)

    assert write_skymap(again) == data
    assert again.notes == tuple(note for note in again.notes if "cover" in note)
    for name in ("start", "order", "probdensity", "distmu", "distsigma", "distnorm"):
        np.testing.assert_array_equal(getattr(again, name), getattr(sky_map, name))
    for name in ("flat_order", "object_name", "date_obs", "instruments", "origin", "creator", "n_pixels", "max_order"):
        assert getattr(again, name) == getattr(sky_map, name)
    assert (again.distance_mean_mpc, again.distance_std_mpc) == (sky_map.distance_mean_mpc, sky_map.distance_std_mpc)
    table = Table.read(io.BytesIO(data))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = read_sky_map(io.BytesIO(data), moc=True)
    for read in (table, theirs):
        np.testing.assert_array_equal(read["UNIQ"], sky_map.uniq)
        np.testing.assert_array_equal(read["PROBDENSITY"], sky_map.probdensity)


def test_the_user_guides_alert_gives_the_user_guides_figures() -> None:
    data = read_alert((SAMPLES / "igwn" / "MS181101ab-preliminary.avro").read_bytes()).skymap
    assert data is not None
    sky_map = read_skymap(data)

    assert region.most_probable_position_deg(sky_map) == (194.30419921874997, -17.856895095545468)
    assert region.distance(sky_map) == region.Distance(39.76999609489013, 8.308435058808886)


def an_even_sky() -> SkyMap:
    start = np.arange(12) << 58
    return SkyMap(start=start, order=np.zeros(12, dtype=np.int64), probdensity=np.full(12, 1 / (4 * np.pi)))


@settings(max_examples=40, deadline=None)
@given(st.floats(0, 360), st.floats(-90, 90), st.floats(0.01, 179.9))
def test_a_cone_on_an_even_sky_holds_its_share(ra_deg: float, dec_deg: float, radius_deg: float) -> None:
    ours = region.probability_in_cone(an_even_sky(), ra_deg=ra_deg, dec_deg=dec_deg, radius_deg=radius_deg)

    assert ours == pytest.approx(np.sin(np.radians(radius_deg) / 2) ** 2, rel=2e-6)


def test_a_cone_lies_between_the_cells_inside_it_and_those_that_touch_it() -> None:
    sky_map = read_skymap(MAPS["GW170817_skymap.fits"])
    ra, dec = region.most_probable_position_deg(sky_map)
    ours = region.probability_in_cone(sky_map, ra_deg=ra, dec_deg=dec, radius_deg=2.0)
    touching = MOC.from_cone(Longitude(ra, deg), Latitude(dec, deg), radius=2 * deg, max_depth=14)
    outer = touching.to_depth29_ranges.astype(np.int64)
    inner = touching.remove_neighbours().to_depth29_ranges.astype(np.int64)

    assert region.probability_in(sky_map, Intervals(inner[:, 0], inner[:, 1])) < ours
    assert ours < region.probability_in(sky_map, Intervals(outer[:, 0], outer[:, 1]))


@pytest.mark.parametrize("radius_deg", [0.0, -1.0, 181.0, np.nan])
def test_a_cone_of_no_sensible_radius_is_refused(radius_deg: float) -> None:
    with pytest.raises(InvalidInputError, match="radius_deg"):
        region.probability_in_cone(an_even_sky(), ra_deg=0, dec_deg=0, radius_deg=radius_deg)


@given(st.lists(st.floats(0, 1), min_size=12, max_size=12).filter(lambda p: sum(p) > 1e-3), st.floats(0.01, 0.99))
def test_a_region_is_the_densest_part_of_the_sky_and_never_empty(weights: list[float], level: float) -> None:
    density = np.array(weights) / sum(weights) * 12 / (4 * np.pi)
    sky_map = SkyMap(start=np.arange(12) << 58, order=np.zeros(12, dtype=np.int64), probdensity=density)

    (ours,) = region.credible_regions(sky_map, [level])

    inside = np.array([((ours.intervals.start <= s) & (s < ours.intervals.stop)).any() for s in sky_map.start])
    held = sky_map.probability[inside].sum()
    assert held == pytest.approx(ours.probability)
    assert inside.sum() == 1 or held <= level + 1e-12
    assert density[inside].min() >= density[~inside].max(initial=0)
    if not inside.all():
        assert held + sky_map.probability[~inside].max() > level - 1e-12


def test_levels_outside_0_to_1_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="credible level is 90"):
        region.credible_regions(an_even_sky(), [90])


def test_a_cell_centre_is_that_of_astropy_healpix(sky_map: SkyMap) -> None:
    best = int(np.argmax(sky_map.probdensity))
    order, ipix = ah.uniq_to_level_ipix(sky_map.uniq[best])
    ra, dec = ah.healpix_to_lonlat(ipix, ah.level_to_nside(order), order="nested")

    assert region.most_probable_position_deg(sky_map) == (ra.deg, dec.deg)
