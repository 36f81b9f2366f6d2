"""HEALPix cells as intervals of the nested index at order 29.

A cell of any order covers one contiguous interval of nested indices at order 29, the finest that fits an
int64. Sorted by that index, cells of mixed orders become plain sorted intervals: overlap, lookup and
intersection are searches in one dimension.

References
----------
Gorski et al. 2005, ApJ 622, 759 (HEALPix); IVOA MOC 2.0, section 4.3.1 (UNIQ: ``4 * 4**order + ipix``).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import astropy_healpix
import cdshealpix
import numpy as np
from astropy.coordinates import Latitude, Longitude
from astropy.units import deg
from numpy.typing import ArrayLike, NDArray

from shared.errors import InvalidInputError

Int64Array = NDArray[np.int64]
FloatArray = NDArray[np.float64]

MAX_ORDER = 29
N_CELLS_29 = 12 << 2 * MAX_ORDER
FEW_POSITIONS = 100
# Up to so many astropy-healpix is done before cdshealpix has woken its threads (16 us against 400 us for one).
SKY_SR = 4 * np.pi
DEG2_PER_SR = (180 / np.pi) ** 2
MIN_UNIQ = 4
MAX_UNIQ = 4 * 4**MAX_ORDER + N_CELLS_29 - 1


def cell_size(order: Any) -> Any:
    """Length of a cell's interval: the number of order-29 cells in one cell of `order` (int or int array)."""
    return np.left_shift(np.int64(1), 2 * (MAX_ORDER - np.asarray(order, dtype=np.int64)))


def cell_area_sr(order: Any) -> Any:
    """Solid angle of a cell of `order`, in steradian; exact up to rounding because all cells of an order are equal."""
    return np.ldexp(SKY_SR / 12, -2 * np.asarray(order))


def uniq_order(uniq: Int64Array) -> Int64Array:
    """Order of each UNIQ number; meaningful for numbers from MIN_UNIQ to MAX_UNIQ."""
    # The exponent of the float is the position of the highest bit. Clearing the second bit where it is set
    # keeps the conversion from rounding up to the next power of two.
    _, exponent = np.frexp((uniq & ~(uniq >> 1)).astype(np.float64))
    order: Int64Array = ((exponent.astype(np.int64) - 1) >> 1) - 1
    return order


def uniq_to_nest29(uniq: Int64Array) -> tuple[Int64Array, Int64Array]:
    """Start of each cell's order-29 interval, and its order."""
    order = uniq_order(uniq)
    ipix = uniq - np.left_shift(np.int64(4), 2 * order)
    return ipix << 2 * (MAX_ORDER - order), order


def nest29_to_uniq(start: Int64Array, order: Int64Array) -> Int64Array:
    """UNIQ number of the cells of `order` whose intervals begin at `start`."""
    uniq: Int64Array = np.left_shift(np.int64(4), 2 * order) + (start >> 2 * (MAX_ORDER - order))
    return uniq


def lonlat_to_nest29(ra_deg: ArrayLike, dec_deg: ArrayLike) -> Int64Array:
    """Order-29 nested index of sky positions, of their broadcast shape.

    Raises
    ------
    InvalidInputError
        A position is not finite, or a declination is outside -90..90 deg. Right ascension wraps.
    """
    ra, dec = np.broadcast_arrays(np.asarray(ra_deg, dtype=np.float64), np.asarray(dec_deg, dtype=np.float64))
    if ra.size == 0:
        return np.empty(ra.shape, dtype=np.int64)
    _require(ra, np.isfinite(ra.min()) and np.isfinite(ra.max()), ~np.isfinite(ra), "ra_deg", "a finite number")
    good = dec.min() >= -90 and dec.max() <= 90
    _require(dec, good, ~(np.abs(dec) <= 90), "dec_deg", "a number from -90 to 90")
    if ra.size <= FEW_POSITIONS:
        few = astropy_healpix.lonlat_to_healpix(ra * deg, dec * deg, 1 << MAX_ORDER, order="nested")
        return np.asarray(few, dtype=np.int64).reshape(ra.shape)
    index = cdshealpix.lonlat_to_healpix(Longitude(ra.ravel(), deg), Latitude(dec.ravel(), deg), MAX_ORDER)
    return np.asarray(index).view(np.int64).reshape(ra.shape)


def _require(values: FloatArray, good: bool, bad: NDArray[np.bool_], field: str, expected: str) -> None:
    if not good:
        raise InvalidInputError(field, float(values[bad].flat[0]), expected)


def cell_centre_deg(start: int, order: int) -> tuple[float, float]:
    """Right ascension and declination of a cell's centre, in deg."""
    # astropy-healpix and not cdshealpix: the two differ in the last digit, and the alert user guide, against
    # which people check their readers, prints the former's.
    ra, dec = astropy_healpix.healpix_to_lonlat(start >> 2 * (MAX_ORDER - order), 1 << order, order="nested")
    return float(ra.deg), float(dec.deg)


def nested_to_ring(ipix: Int64Array, order: int) -> Int64Array:
    """RING indices of NESTED pixels."""
    return np.asarray(cdshealpix.to_ring(ipix.astype(np.uint64), order)).view(np.int64)


def ring_to_nested(ipix: Int64Array, order: int) -> Int64Array:
    """NESTED indices of RING pixels."""
    return np.asarray(cdshealpix.from_ring(ipix.astype(np.uint64), order)).view(np.int64)


def merge_siblings(
    start: Int64Array, order: Int64Array, columns: tuple[NDArray[Any], ...]
) -> tuple[Int64Array, Int64Array, tuple[NDArray[Any], ...]]:
    """Replace four sibling cells that agree in every column by their parent, again and again; loses nothing.

    Parameters
    ----------
    start, order
        Disjoint cells, sorted by `start`.
    columns
        Values per cell that do not depend on the cell's size (densities, not probabilities).
    """
    for level in range(int(order.max(initial=0)), 0, -1):
        size = int(cell_size(level))
        first = np.flatnonzero((order[:-3] == level) & (start[:-3] & (4 * size - 1) == 0))
        whole = (order[first + 3] == level) & (start[first + 3] - start[first] == 3 * size)
        # With both ends in place, two disjoint cells of this order between them are the other siblings.
        first = first[whole & (order[first + 1] == level) & (order[first + 2] == level)]
        for column in columns:
            value = column[first]
            same = (column[first + 1] == value) & (column[first + 2] == value) & (column[first + 3] == value)
            first = first[same]
        if len(first) == 0:
            continue
        keep = np.ones(len(start), dtype=np.bool_)
        for sibling in (1, 2, 3):
            keep[first + sibling] = False
        order = order.copy()
        order[first] = level - 1
        start, order, columns = (start[keep], order[keep], tuple(column[keep] for column in columns))
    return start, order, columns


@dataclass(frozen=True)
class Intervals:
    """Disjoint half-open intervals [start, stop) of order-29 indices, sorted."""

    start: Int64Array
    stop: Int64Array

    TABLE_ORDER = 8
    # A table of this order has 786,432 entries, 3 MB: built in 2 ms, and most of it stays in the cache.
    TABLE_PAYS_FROM = 20_000
    # Positions per call above which building the table costs less than it saves.

    def find(self, nest29: Int64Array) -> Int64Array:
        """Index of the interval that holds each position, -1 where none does."""
        if nest29.size < self.TABLE_PAYS_FROM:
            found = np.searchsorted(self.start, nest29, side="right") - 1
        else:
            found = self._find_by_table(nest29)
        if len(self.stop) == 0:
            return found
        held: Int64Array = np.where(nest29 < self.stop[found], found, -1)
        return held

    @cached_property
    def _last_at(self) -> NDArray[np.int32]:
        """For each coarse pixel edge, the last interval that starts at or before it (-1: none)."""
        shift = 2 * (MAX_ORDER - self.TABLE_ORDER)
        edge = -(-self.start >> shift)
        count = np.bincount(edge, minlength=(12 << 2 * self.TABLE_ORDER) + 1)
        return (np.cumsum(count) - 1).astype(np.int32)

    def _find_by_table(self, nest29: Int64Array) -> Int64Array:
        pixel = nest29 >> 2 * (MAX_ORDER - self.TABLE_ORDER)
        found: Int64Array = self._last_at[pixel].astype(np.int64)
        # Where no interval starts inside the coarse pixel, its edge answers for all of it.
        mixed = np.nonzero(self._last_at[pixel + 1] != found)
        found[mixed] = np.searchsorted(self.start, nest29[mixed], side="right") - 1
        return found
