"""Cell arithmetic agrees with astropy-healpix, and merging and looking up lose nothing."""

import astropy_healpix as ah
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import InvalidInputError
from shared.sky import healpix
from shared.sky.healpix import MAX_ORDER, Intervals


@st.composite
def cells(draw: st.DrawFn) -> tuple[int, int]:
    order = draw(st.integers(0, MAX_ORDER))
    return order, draw(st.integers(0, (12 << 2 * order) - 1))


@given(st.lists(cells(), min_size=1))
def test_uniq_numbers_go_to_order_29_and_back(some: list[tuple[int, int]]) -> None:
    order, ipix = (np.array(column) for column in zip(*some, strict=True))
    uniq = np.asarray(ah.level_ipix_to_uniq(order, ipix))

    start, found = healpix.uniq_to_nest29(uniq)

    np.testing.assert_array_equal(found, order)
    np.testing.assert_array_equal(start, ipix << 2 * (MAX_ORDER - order))
    np.testing.assert_array_equal(healpix.nest29_to_uniq(start, order), uniq)


@pytest.mark.parametrize("order", range(MAX_ORDER + 1))
def test_the_first_and_last_uniq_of_each_order_are_told_apart(order: int) -> None:
    ends = np.array([4 * 4**order, 16 * 4**order - 1])

    assert healpix.uniq_order(ends).tolist() == [order, order]


@given(st.floats(-720, 720), st.floats(-90, 90))
def test_positions_fall_into_the_cell_that_astropy_healpix_says(ra_deg: float, dec_deg: float) -> None:
    from astropy.units import deg

    # Order 20: at order 29 a cell is 0.4 milliarcsec wide and rounding may choose the neighbour.
    ours = int(healpix.lonlat_to_nest29(ra_deg, dec_deg)) >> 18
    corners = ah.boundaries_lonlat([ours], 1, 1 << 20, order="nested")
    theirs = int(ah.lonlat_to_healpix(ra_deg * deg, dec_deg * deg, 1 << 20, order="nested"))
    on_an_edge = ours != theirs
    if on_an_edge:
        centre = ah.healpix_to_lonlat([ours, theirs], 1 << 20, order="nested")
        assert np.ptp(centre[1].deg) < 1e-3
    assert corners[0].shape == (1, 4)


def test_positions_off_the_sky_are_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"dec_deg is 90\.5"):
        healpix.lonlat_to_nest29([0.0, 1.0], [90.5, 0.0])
    with pytest.raises(InvalidInputError, match="ra_deg is nan"):
        healpix.lonlat_to_nest29(np.nan, 0.0)


@given(st.integers(0, 4), st.lists(st.integers(0, 2), min_size=12, max_size=12), st.randoms(use_true_random=False))
def test_merged_siblings_give_every_pixel_its_value_back(order: int, coarse: list[int], random: object) -> None:
    n_pixels = 12 << 2 * order
    values = np.repeat(coarse, n_pixels // 12)
    values[random.randrange(n_pixels)] += 1  # type: ignore[attr-defined]
    start = np.arange(n_pixels) << 2 * (MAX_ORDER - order)

    merged, orders, (column,) = healpix.merge_siblings(start, np.full(n_pixels, order), (values,))

    found = Intervals(merged, merged + healpix.cell_size(orders)).find(start)
    np.testing.assert_array_equal(column[found], values)
    # All but the changed pixel's base cell become one cell; that one keeps three cells per order and the pixel.
    assert len(merged) == 11 + 3 * order + 1


@given(st.sets(st.integers(0, 12 * 4**9), min_size=2, max_size=60), st.integers(0, 2**32))
def test_looking_up_by_table_or_by_search_is_the_same(edges: set[int], seed: int) -> None:
    ends = np.array(sorted(edges))[: len(edges) // 2 * 2] << 40
    intervals = Intervals(ends[::2], ends[1::2])
    index = np.random.default_rng(seed).integers(0, healpix.N_CELLS_29, 500)
    index = np.concatenate((index, ends[ends < healpix.N_CELLS_29], np.maximum(ends - 1, 0)))
    index = index[index < healpix.N_CELLS_29]

    few = intervals.find(index)
    many = intervals.find(np.resize(index, Intervals.TABLE_PAYS_FROM))[: len(index)]

    inside = (intervals.start <= index[:, None]) & (index[:, None] < intervals.stop)
    np.testing.assert_array_equal(few, np.where(inside.any(axis=1), inside.argmax(axis=1), -1))
    np.testing.assert_array_equal(many, few)
