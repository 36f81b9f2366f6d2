"""Overlaps and products of sky maps, against rasters of both on one fine grid and against recorded values."""

import io
import warnings
from functools import cache

import astropy_healpix
import numpy as np
import pytest
from astropy.table import Column
from hypothesis import given
from hypothesis import strategies as st

from services.gw_listener.alerts import read_alert
from shared.errors import InvalidInputError
from shared.sky import healpix, region
from shared.sky.overlap import combined, intersection, overlap
from shared.sky.skymap import SkyMap, read_skymap, write_skymap
from tests.support.data import SAMPLES, needs_shared_data
from tests.support.skymaps import a_flat_map, a_multiorder_map, an_explicit_map, some_maps

with warnings.catch_warnings():
    # ligo.skymap 2.5 documents its ufuncs in a way that numpy 2.4 deprecates.
    warnings.simplefilter("ignore", DeprecationWarning)
    from ligo.raven.search import skymap_overlap_integral as raven
    from ligo.skymap.io import read_sky_map

RASTER_PIXELS = 1 << 20
# At a time.
MAX_RASTER_ORDER = 11
# Of 50 million pixels.
ISOTROPIC = SkyMap(
    start=np.arange(12) << 58, order=np.zeros(12, dtype=np.int64), probdensity=np.full(12, 1 / (4 * np.pi))
)


@cache
def map_of(name: str) -> SkyMap:
    return read_skymap(some_maps()[name])


def raster(sky_map: SkyMap, order: int, first: int, last: int) -> np.ndarray:
    """Densities of the nested pixels of an order from first to last, cell by cell into a grid."""
    level, ipix = astropy_healpix.uniq_to_level_ipix(sky_map.uniq)
    begin = np.clip(ipix << 2 * (order - level), first, last) - first
    end = np.clip((ipix + 1) << 2 * (order - level), first, last) - first
    # A cell's value from its first pixel up to the one after its last, zero in the gaps between cells.
    edges = np.column_stack((begin, end)).ravel()
    values = np.column_stack((sky_map.probdensity, np.zeros(len(level)))).ravel()
    return np.repeat(np.append(0.0, values), np.diff(np.append(edges, last - first), prepend=0))


def overlaps_by_raster(maps: list[SkyMap]) -> np.ndarray:
    """Overlap of every map with every other, from rasters as fine as the finest cell, base cell by base cell."""
    order = max(int(sky_map.order.max()) for sky_map in maps)
    sums = np.zeros((len(maps), len(maps)))
    for base in range(12):
        first, last = base << 2 * order, (base + 1) << 2 * order
        for part in range(first, last, RASTER_PIXELS):
            block = [raster(sky_map, order, part, min(part + RASTER_PIXELS, last)) for sky_map in maps]
            rows = np.stack(block)
            sums += rows @ rows.T
    area_sr: float = 4 * np.pi / (12 << 2 * order)
    return np.asarray(4 * np.pi * area_sr * sums)


@st.composite
def small_maps(draw: st.DrawFn) -> SkyMap:
    """Cells of orders 0 to 5 over some part of the sky, some of them zero."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    start, order = np.arange(12) << 58, np.zeros(12, dtype=np.int64)
    for level in range(1, draw(st.integers(1, 6))):
        where = rng.random(len(start)) < 0.4
        children = (start[where, np.newaxis] + (np.arange(4) << 2 * (29 - level))).ravel()
        start = np.concatenate((start[~where], children))
        order = np.concatenate((order[~where], np.full(len(children), level)))
    by_position = np.argsort(start)
    start, order = start[by_position], order[by_position]
    kept = rng.random(len(start)) < draw(st.sampled_from([1.0, 0.5, 0.05]))
    kept[rng.integers(len(start))] = True
    start, order = start[kept], order[kept]
    density = rng.random(len(start)) ** 4 * (rng.random(len(start)) < 0.8)
    density[rng.integers(len(start))] = 1.0
    return SkyMap(start, order, density / (density * healpix.cell_area_sr(order)).sum())


@given(small_maps(), small_maps())
def test_the_overlap_of_any_two_maps_is_that_of_their_rasters(a: SkyMap, b: SkyMap) -> None:
    expected = overlaps_by_raster([a, b])
    assert overlap(a, b) == pytest.approx(expected[0, 1], rel=1e-12)
    assert overlap(a, a) == pytest.approx(expected[0, 0], rel=1e-12)
    assert overlap(a, b) == pytest.approx(overlap(b, a), rel=1e-12)


@given(small_maps(), small_maps())
def test_common_cells_lie_in_both_cells_and_are_all_there_are(a: SkyMap, b: SkyMap) -> None:
    common = intersection(a, b)
    stop = common.start + healpix.cell_size(common.order)
    for sky_map, index in ((a, common.in_a), (b, common.in_b)):
        assert (sky_map.start[index] <= common.start).all()
        assert (stop <= sky_map.cells.stop[index]).all()
    assert (stop[:-1] <= common.start[1:]).all()
    fine = 12 << 2 * 5
    both = (raster(_covered(a), 5, 0, fine) > 0) & (raster(_covered(b), 5, 0, fine) > 0)
    assert common.area_sr.sum() == pytest.approx(both.sum() * 4 * np.pi / fine, rel=1e-12)


def _covered(sky_map: SkyMap) -> SkyMap:
    return SkyMap(sky_map.start, sky_map.order, np.ones(len(sky_map.start)))


@given(small_maps(), small_maps())
def test_the_product_of_two_maps_is_normalised_and_read_back_as_written(a: SkyMap, b: SkyMap) -> None:
    if overlap(a, b) == 0:
        with pytest.raises(InvalidInputError, match="zero everywhere"):
            combined(a, b)
        return
    product = combined(a, b)
    assert product.probability.sum() == pytest.approx(1, abs=1e-12)
    assert (product.probdensity > 0).all()
    fine = 12 << 2 * 5
    expected = raster(a, 5, 0, fine) * raster(b, 5, 0, fine)
    np.testing.assert_allclose(raster(product, 5, 0, fine), expected / expected.mean() / (4 * np.pi), rtol=1e-12)
    again = read_skymap(write_skymap(product))
    assert np.array_equal(again.uniq, product.uniq)
    assert np.array_equal(again.probdensity, product.probdensity)


def test_the_overlap_of_every_two_sample_maps_is_that_of_their_rasters() -> None:
    maps = [map_of(name) for name in sorted(some_maps())]
    coarse = [sky_map for sky_map in maps if sky_map.order.max() <= MAX_RASTER_ORDER]
    # Sums of 50 million terms: their rounding is far below what is asked for, 1e-4.
    np.testing.assert_allclose([[overlap(a, b) for b in coarse] for a in coarse], overlaps_by_raster(coarse), rtol=1e-9)
    fine = [sky_map for sky_map in maps if sky_map.order.min() > MAX_RASTER_ORDER]
    assert len(coarse) + len(fine) == len(maps)
    for sky_map in fine:
        # Each of its cells lies in one cell of a coarse map, that which holds the cell's centre.
        level, ipix = astropy_healpix.uniq_to_level_ipix(sky_map.uniq)
        ra, dec = astropy_healpix.healpix_to_lonlat(ipix, 1 << level, order="nested")
        for other in coarse:
            there = region.at_points(other, ra.deg, dec.deg).probdensity_per_sr
            expected = 4 * np.pi * float((there * sky_map.probability).sum())
            assert overlap(sky_map, other) == pytest.approx(expected, rel=1e-9)
            assert overlap(other, sky_map) == pytest.approx(overlap(sky_map, other), rel=1e-12)
    for a in coarse:
        for b in coarse:
            assert overlap(a, b) == pytest.approx(overlap(b, a), rel=1e-12)


@pytest.mark.parametrize("name", sorted(some_maps()))
def test_an_isotropic_map_overlaps_with_any_by_1(name: str) -> None:
    assert overlap(map_of(name), ISOTROPIC) == pytest.approx(1, rel=1e-9)


@needs_shared_data
@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        # Measured once by a merge of ranges written for the purpose, and given with six digits.
        ("userguide-bayestar.multiorder.fits", "userguide-combined-ext.multiorder.fits", 1639.09),
        ("userguide-bayestar.multiorder.fits", "GW170817_skymap.fits", 1790.13),
        ("S230518h-Preliminary.multiorder.fits", "S230518h-Initial.multiorder.fits", 61.3753),
    ],
)
def test_recorded_overlaps_are_found_again(one: str, other: str, expected: float) -> None:
    assert overlap(map_of(one), map_of(other)) == pytest.approx(expected, rel=1e-5)


def test_what_lies_outside_a_partial_map_is_zero() -> None:
    partial = read_skymap(an_explicit_map(np.arange(200, 900)))
    whole = read_skymap(a_flat_map())
    assert overlap(partial, whole) == pytest.approx(overlaps_by_raster([partial, whole])[0, 1], rel=1e-12)
    elsewhere = read_skymap(an_explicit_map(np.arange(1000, 1010)))
    assert overlap(partial, elsewhere) == 0


def test_no_cells_overlap_with_nothing() -> None:
    none = SkyMap(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
    assert overlap(none, ISOTROPIC) == overlap(ISOTROPIC, none) == overlap(none, none) == 0
    with pytest.raises(InvalidInputError, match="zero everywhere"):
        combined(ISOTROPIC, none)


def test_a_map_that_sums_to_2_overlaps_as_the_same_map_that_sums_to_1() -> None:
    other = read_skymap(an_explicit_map(np.arange(200, 900)))
    one = a_multiorder_map()
    density = np.asarray(read_skymap(one).probdensity) * 2
    two = a_multiorder_map(uniq=read_skymap(one).uniq, probdensity=density)
    assert overlap(read_skymap(two), other) == pytest.approx(overlap(read_skymap(one), other), rel=1e-12)


def test_the_sample_with_an_external_coincidence_is_that_of_ligo_raven() -> None:
    """Both maps have the same cells, where the nearest centre, by which it compares, is the cell itself."""
    alert = read_alert((SAMPLES / "igwn" / "MS181101ab-ext-update.avro").read_bytes())
    gw, both = read_skymap(alert.skymap or b""), read_skymap(alert.combined_skymap or b"")
    assert np.array_equal(gw.uniq, both.uniq)
    expected = raven(Column(gw.probdensity, unit="1/sr"), Column(both.probdensity, unit="1/sr"), gw.uniq, both.uniq)
    assert overlap(gw, both) == pytest.approx(float(expected), rel=1e-12)
    assert overlap(gw, both) == pytest.approx(1639.0906, rel=1e-7)


def test_flat_maps_overlap_as_ligo_raven_says() -> None:
    rng = np.random.default_rng(3)
    pixels = [rng.random(12 << 2 * order) ** 3 for order in (4, 5)]
    flat = [values / values.sum() for values in pixels]
    cells = [
        SkyMap(
            np.arange(12 << 2 * order) << 2 * (29 - order),
            np.full(12 << 2 * order, order),
            values / healpix.cell_area_sr(order),
        )
        for order, values in zip((4, 5), flat, strict=True)
    ]
    # It brings the coarser of two flat maps to the pixels of the finer: exact too.
    assert overlap(*cells) == pytest.approx(float(raven(*flat)), rel=1e-9)
    there = region.at_points(cells[0], [77.0], [-33.0]).probdensity_per_sr[0]
    assert 4 * np.pi * there == pytest.approx(float(raven(flat[0], ra=77.0, dec=-33.0)), rel=1e-12)


def test_the_product_keeps_the_distances_of_the_first_map_that_has_them() -> None:
    gw = map_of("GW170817_skymap.fits")
    assert gw.distmu is not None
    partial = SkyMap(
        gw.start[5000:5100], gw.order[5000:5100], np.ones(100) / healpix.cell_area_sr(gw.order[5000:5100]).sum()
    )
    for product in (combined(gw, partial), combined(partial, gw)):
        assert product.distmu is not None
        np.testing.assert_array_equal(product.distmu, gw.distmu[5000:5100])
        np.testing.assert_allclose(
            product.probability, gw.probability[5000:5100] / gw.probability[5000:5100].sum(), rtol=1e-12
        )
        distance = region.distance(read_skymap(write_skymap(product)))
        assert distance is not None
        assert distance.mean_mpc == pytest.approx(38, abs=15)


def test_ligo_skymap_reads_the_product() -> None:
    gw = map_of("GW170817_skymap.fits")
    product = combined(gw, map_of("GRB220617A_IPN_map_hpx.fits.gz"))
    table = read_sky_map(io.BytesIO(write_skymap(product)), moc=True)
    assert np.array_equal(np.sort(table["UNIQ"]), np.sort(product.uniq))
    area_sr = astropy_healpix.nside_to_pixel_area(1 << astropy_healpix.uniq_to_level_ipix(table["UNIQ"])[0]).value
    assert (table["PROBDENSITY"] * area_sr).sum() == pytest.approx(1, rel=1e-9)


def test_densities_whose_product_no_float_holds_still_combine() -> None:
    start, order = np.arange(12) << 58, np.zeros(12, dtype=np.int64)
    low = np.full(12, 1e-200)
    low[0] = 12 / (4 * np.pi)
    high = np.full(12, 1 / (4 * np.pi) * 12 / 11)
    high[0] = 0
    other = SkyMap(start, order, np.where(np.arange(12) > 0, low, 0))
    product = combined(SkyMap(start, order, low), SkyMap(start, order, high))
    np.testing.assert_allclose(product.probdensity, np.full(11, 12 / 11 / (4 * np.pi)))
    assert combined(other, other).probability.sum() == pytest.approx(1)
