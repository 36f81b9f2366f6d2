"""Read every common form of a HEALPix sky map into one, and write that one.

Forms read: multi-order (UNIQ) and flat, NESTED and RING, implicit and explicit pixel numbers, scalar and vector
columns, probability per pixel or per steradian, with and without distances, whole and partial skies.

References
----------
Singer & Price 2016, PRD 93, 024013 (adaptive maps); Singer et al. 2016, ApJL 829, L15 (distance columns).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.sky import healpix
from shared.sky.fits import Column, Header, InvalidSkyMapError, Table, Value, open_table, write_table
from shared.sky.healpix import FloatArray, Int64Array, Intervals

__all__ = ["ALERT_SUM_TOLERANCE", "InvalidSkyMapError", "SkyMap", "read_skymap", "write_skymap"]

ALERT_SUM_TOLERANCE = 0.05
# Alert maps are normalised by their makers; the worst genuine one seen sums to 0.99905.
ROUND_OFF = 1e-10
# A sum this near to 1 is rounding: dividing by it would change the file's digits and gain nothing.
MAX_MAP_BYTES = 2 * 1024**3
# A flat map of NSIDE 2048 with four columns of float64 has 1.6 GB.
ALERT_MAX_MAP_BYTES = 256 * 1024**2
# The largest map seen in an alert has 2.6 MB; topics refuse messages above 8 MiB.
MAX_MULTIORDER_BYTES = 256 * 1024**2
# Six million cells; genuine maps stay below half a million.

_DENSITY = "PROBDENSITY"
_PROBABILITIES = ("PROB", "PROBABILITY")
_DISTANCES = ("DISTMU", "DISTSIGMA", "DISTNORM")
_PIXELS = ("PIXEL", "IPIX", "PIX", "HPXINDEX")
_NO_DISTANCE = (np.inf, 1.0, 0.0)
# What ligo.skymap writes into cells whose distance could not be fitted: location, scale, normalisation.
_EQUATORIAL = {"C", "ICRS", "CELESTIAL", "EQUATORIAL", "FK5"}
_FLAT_ORDER_KEY = "FLATORD"
_BLOCK_ORDER = 9
# Flat maps are merged in blocks of 4**9 pixels, so that the whole map never stands unmerged in memory.


@dataclass(frozen=True, eq=False)
class SkyMap:
    """Probability over disjoint HEALPix cells, sorted by position; the sky outside the cells has none.

    Attributes
    ----------
    start, order
        Each cell's first nested index at order 29, and its order.
    probdensity
        Probability per steradian (1/sr), normalised: the sum of `probability` is 1 up to rounding.
    distmu, distsigma, distnorm
        Location (Mpc), scale (Mpc) and normalisation (Mpc^-2) of the distance along each cell's line of sight
        (Singer et al. 2016, eq. 2); infinite `distmu` where unknown. All three None: no distances.
    flat_order
        Order of the flat map that the cells were merged from, None for a multi-order map. Merging loses
        nothing, but credible regions of a flat map may end inside a merged cell.
    total_probability
        The sum found, before normalisation.
    distance_mean_mpc, distance_std_mpc
        From the header (DISTMEAN, DISTSTD); None when not there. See `shared.sky.region.distance`.
    notes
        Sentences about what was normalised, taken as zero or ignored.
    """

    start: Int64Array
    order: Int64Array
    probdensity: FloatArray
    distmu: FloatArray | None = None
    distsigma: FloatArray | None = None
    distnorm: FloatArray | None = None
    flat_order: int | None = None
    total_probability: float = 1.0
    object_name: str | None = None
    date_obs: datetime | None = None
    instruments: tuple[str, ...] = ()
    origin: str | None = None
    creator: str | None = None
    distance_mean_mpc: float | None = None
    distance_std_mpc: float | None = None
    notes: tuple[str, ...] = ()

    @cached_property
    def uniq(self) -> Int64Array:
        """UNIQ number of each cell."""
        return healpix.nest29_to_uniq(self.start, self.order)

    @cached_property
    def area_sr(self) -> FloatArray:
        """Solid angle of each cell (sr)."""
        return _areas_sr(self.order)

    @cached_property
    def probability(self) -> FloatArray:
        """Probability of each cell."""
        return self.probdensity * self.area_sr

    @cached_property
    def cells(self) -> Intervals:
        """The cells as intervals of order-29 indices."""
        return Intervals(self.start, self.start + healpix.cell_size(self.order))

    @property
    def n_pixels(self) -> int:
        """Number of pixels as found: of cells, or of the flat map's pixels."""
        if self.flat_order is None:
            return len(self.order)
        return int(np.left_shift(np.int64(1), 2 * (self.flat_order - self.order)).sum())

    @property
    def min_order(self) -> int:
        """Coarsest order as found."""
        return int(self.order.min()) if self.flat_order is None else self.flat_order

    @property
    def max_order(self) -> int:
        """Finest order as found."""
        return int(self.order.max()) if self.flat_order is None else self.flat_order

    @property
    def sky_coverage(self) -> float:
        """Fraction of the sky that the cells cover, 0 to 1."""
        return int(healpix.cell_size(self.order).sum()) / healpix.N_CELLS_29

    @property
    def has_distance(self) -> bool:
        """Whether the map says anything about distance."""
        return self.distmu is not None or self.distance_mean_mpc is not None


def read_skymap(data: bytes, *, sum_tolerance: float | None = None, max_bytes: int = MAX_MAP_BYTES) -> SkyMap:
    """Read a FITS sky map, gzipped or not.

    Parameters
    ----------
    sum_tolerance
        How far from 1 the probabilities may sum; None accepts any positive sum. Either way they are normalised.
    max_bytes
        Largest table accepted; for alerts take `ALERT_MAX_MAP_BYTES`.

    Raises
    ------
    InvalidSkyMapError
        Naming the field, its value and what was expected.
    """
    table = open_table(data, wanted=_is_skymap, max_bytes=max_bytes)
    notes: list[str] = []
    _check_frame(table.header, notes)
    density, distances = _value_columns(table, notes)
    ordering = _ordering(table, notes)
    flat_order: int | None
    if ordering == "NUNIQ":
        start, order, values = _read_multiorder(table, (density, *distances), notes)
        flat_order = _merged_from(table.header, order)
    else:
        start, order, values, flat_order = _read_flat(table, (density, *distances), ordering, notes)
        n_pixels = int(np.left_shift(np.int64(1), 2 * (flat_order - order)).sum())
        notes.append(f"flat {ordering} map of {n_pixels} pixels merged losslessly into {len(order)} cells")
    probdensity = values[0].astype(np.float64, copy=False)
    area_sr = _areas_sr(order)
    if density.name != _DENSITY:
        probdensity = probdensity / (area_sr if flat_order is None else healpix.cell_area_sr(flat_order))
    total = float((probdensity * area_sr).sum())
    probdensity = _normalised(probdensity, total, name=density.name, tolerance=sum_tolerance, notes=notes)
    coverage = int(healpix.cell_size(order).sum()) / healpix.N_CELLS_29
    if coverage < 1:
        notes.append(f"cells cover {coverage:.6g} of the sky; the rest is taken as zero probability")
    distmu, distsigma, distnorm = (column.astype(np.float64, copy=False) for column in values[1:] or (_ABSENT,) * 3)
    if not np.isfinite(distmu).any():
        if distances:
            notes.append("DISTMU is finite nowhere; the map is taken to have no distance columns")
        distances = ()
    mean, std = (_distance(table.header, key, notes) for key in ("DISTMEAN", "DISTSTD"))
    return SkyMap(
        start=start,
        order=order,
        probdensity=probdensity,
        distmu=distmu if distances else None,
        distsigma=distsigma if distances else None,
        distnorm=distnorm if distances else None,
        flat_order=flat_order,
        total_probability=total,
        object_name=_text(table.header.get("OBJECT")),
        date_obs=_date_obs(table.header.get("DATE-OBS"), notes),
        instruments=_names(table.header.get("INSTRUME")),
        origin=_text(table.header.get("ORIGIN")),
        creator=_text(table.header.get("CREATOR")),
        distance_mean_mpc=mean,
        distance_std_mpc=std if mean is not None else None,
        notes=tuple(notes),
    )  # fmt: skip


def write_skymap(skymap: SkyMap) -> bytes:
    """The canonical form: multi-order FITS, cells sorted by position, normalised; equal maps give equal bytes.

    `read_skymap` gives the same map back, but for what it says of the original file: `total_probability`, `notes`.
    """
    columns: list[tuple[str, str, NDArray[Any]]] = [("UNIQ", "", skymap.uniq), (_DENSITY, "sr-1", skymap.probdensity)]
    if skymap.distmu is not None and skymap.distsigma is not None and skymap.distnorm is not None:
        columns += [("DISTMU", "Mpc", skymap.distmu), ("DISTSIGMA", "Mpc", skymap.distsigma)]
        columns += [("DISTNORM", "Mpc-2", skymap.distnorm)]
    date_obs = None if skymap.date_obs is None else skymap.date_obs.replace(tzinfo=None).isoformat()
    header: list[tuple[str, Value]] = [
        ("PIXTYPE", "HEALPIX"),
        ("ORDERING", "NUNIQ"),
        ("COORDSYS", "C"),
        ("MOCORDER", int(skymap.order.max())),
        ("INDXSCHM", "EXPLICIT"),
        (_FLAT_ORDER_KEY, skymap.flat_order),
        ("OBJECT", skymap.object_name),
        ("INSTRUME", ",".join(skymap.instruments) or None),
        ("DATE-OBS", date_obs),
        ("ORIGIN", skymap.origin),
        ("CREATOR", skymap.creator),
        ("DISTMEAN", skymap.distance_mean_mpc),
        ("DISTSTD", skymap.distance_std_mpc),
    ]
    return write_table(header, columns)


_ABSENT: FloatArray = np.empty(0)
_AREA_SR = healpix.cell_area_sr(np.arange(healpix.MAX_ORDER + 1))


def _areas_sr(order: Int64Array) -> FloatArray:
    areas: FloatArray = _AREA_SR[order]
    return areas


def _is_skymap(header: Header) -> bool:
    names = {str(value).strip().upper() for key, value in header.items() if key.startswith("TTYPE")}
    return bool(names & {"UNIQ", _DENSITY, *_PROBABILITIES}) or _word(header, "PIXTYPE") == "HEALPIX"


def _word(header: Header, key: str) -> str:
    return str(header.get(key) or "").strip().upper()


def _text(value: Value) -> str | None:
    return None if value is None or isinstance(value, bool) else str(value).strip() or None


def _names(value: Value) -> tuple[str, ...]:
    return tuple(name for part in (_text(value) or "").split(",") if (name := part.strip()))


def _check_frame(header: Header, notes: list[str]) -> None:
    frame = _word(header, "COORDSYS")
    if not frame:
        notes.append("COORDSYS is missing; equatorial coordinates (ICRS) are assumed")
    elif frame not in _EQUATORIAL:
        raise InvalidSkyMapError("COORDSYS", frame, "C (equatorial, ICRS)")


def _value_columns(table: Table, notes: list[str]) -> tuple[Column, tuple[Column, ...]]:
    density = table.column(_DENSITY, *_PROBABILITIES)
    if density is None:
        raise InvalidSkyMapError("columns", ", ".join(table.columns) or "none", "PROBDENSITY, PROB or PROBABILITY")
    distances = tuple(column for name in _DISTANCES if (column := table.column(name)) is not None)
    if distances and len(distances) < len(_DISTANCES):
        notes.append(
            f"{', '.join(column.name for column in distances)} ignored: a distance needs {', '.join(_DISTANCES)}"
        )
        distances = ()
    units = {column.unit.strip().lower() for column in distances[:2]} - {"", "mpc"}
    if units:
        notes.append(f"distance columns in {', '.join(sorted(units))} ignored: Mpc was expected")
        distances = ()
    used = {density.name, "UNIQ", *_PIXELS, *_DISTANCES}
    ignored = [name for name in table.columns if name not in used]
    if ignored:
        notes.append(f"columns ignored: {', '.join(ignored)}")
    for column in distances:
        if column.repeat != density.repeat:
            raise InvalidSkyMapError(f"TFORM of {column.name}", column.repeat, f"{density.repeat} values per row")
    return density, distances


def _ordering(table: Table, notes: list[str]) -> str:
    ordering = {"NEST": "NESTED", "UNIQ": "NUNIQ"}.get(_word(table.header, "ORDERING"), _word(table.header, "ORDERING"))
    has_uniq = "UNIQ" in table.columns
    if not ordering and has_uniq:
        notes.append("ORDERING is missing; NUNIQ is assumed because there is a UNIQ column")
        return "NUNIQ"
    if ordering == "NUNIQ" and not has_uniq:
        raise InvalidSkyMapError("columns", ", ".join(table.columns), "a UNIQ column, because ORDERING is NUNIQ")
    if ordering not in ("NUNIQ", "NESTED", "RING") or (has_uniq and ordering != "NUNIQ"):
        expected = "NUNIQ, because there is a UNIQ column" if has_uniq else "NUNIQ, NESTED or RING"
        raise InvalidSkyMapError("ORDERING", ordering or "missing", expected)
    return ordering


Cells = tuple[Int64Array, Int64Array, tuple[NDArray[Any], ...]]


def _read_multiorder(table: Table, columns: tuple[Column, ...], notes: list[str]) -> Cells:
    size = table.n_rows * table.row_bytes
    if size > MAX_MULTIORDER_BYTES:
        raise InvalidSkyMapError(
            "NAXIS1 x NAXIS2", f"{size} bytes", f"at most {MAX_MULTIORDER_BYTES} bytes of UNIQ cells"
        )
    (rows,) = table.blocks(table.n_rows)
    uniq = _integers(table.columns["UNIQ"], rows, like=columns[0])
    _require(~((uniq >= healpix.MIN_UNIQ) & (uniq <= healpix.MAX_UNIQ)), uniq, "UNIQ", "4 to 16 x 4^29 - 1")
    start, order = healpix.uniq_to_nest29(uniq)
    by_position = np.argsort(start, kind="stable")
    # UNIQ order is a few ascending runs by position, which the stable sort merges 14 times faster than it sorts.
    start, order = start[by_position], order[by_position]
    _check_disjoint(start, order, uniq[by_position], "UNIQ")
    checks = _ValueChecks(columns[0].name)
    values = checks.cleaned(tuple(column.values(rows) for column in columns))
    checks.finish(notes)
    return start, order, tuple(value[by_position] for value in values)


def _read_flat(
    table: Table, columns: tuple[Column, ...], ordering: str, notes: list[str]
) -> tuple[Int64Array, Int64Array, tuple[NDArray[Any], ...], int]:
    pixel_column = table.column(*_PIXELS)
    scheme = _word(table.header, "INDXSCHM")
    if scheme == "EXPLICIT" and pixel_column is None:
        raise InvalidSkyMapError("columns", ", ".join(table.columns), "a PIXEL column, because INDXSCHM is EXPLICIT")
    if scheme not in ("", "IMPLICIT", "EXPLICIT"):
        raise InvalidSkyMapError("INDXSCHM", scheme, "IMPLICIT or EXPLICIT")
    n_values = table.n_rows * columns[0].repeat
    checks = _ValueChecks(columns[0].name)
    if pixel_column is not None and scheme != "IMPLICIT":
        order = _flat_order(table.header, n_values, whole=False)
        cells = _read_explicit(table, pixel_column, columns, order=order, ring=ordering == "RING", checks=checks)
    else:
        order = _flat_order(table.header, n_values, whole=True)
        blocks = _ring_blocks(table, columns, order) if ordering == "RING" else _nested_blocks(table, columns, order)
        cells = _merge_blocks(blocks, order, checks)
    checks.finish(notes)
    return *cells, order


def _flat_order(header: Header, n_values: int, *, whole: bool) -> int:
    nside = header.get("NSIDE")
    if nside is None and whole:
        nside = round((n_values / 12) ** 0.5)
    if not isinstance(nside, int) or nside < 1 or nside & (nside - 1) or nside > 1 << healpix.MAX_ORDER:
        raise InvalidSkyMapError("NSIDE", nside, "a power of two up to 2^29")
    if whole and n_values != 12 * nside**2:
        raise InvalidSkyMapError("number of pixels", n_values, f"{12 * nside**2}, because NSIDE is {nside}")
    return nside.bit_length() - 1


def _read_explicit(
    table: Table, pixel_column: Column, columns: tuple[Column, ...], *, order: int, ring: bool, checks: _ValueChecks
) -> Cells:
    (rows,) = table.blocks(table.n_rows)
    pixel = _integers(pixel_column, rows, like=columns[0])
    n_pixels = 12 << 2 * order
    _require(~((pixel >= 0) & (pixel < n_pixels)), pixel, pixel_column.name, f"0 to {n_pixels - 1}")
    nested = healpix.ring_to_nested(pixel, order) if ring else pixel
    by_position = np.argsort(nested, kind="stable")
    start = nested[by_position] << 2 * (healpix.MAX_ORDER - order)
    orders = np.full(len(start), order)
    _check_disjoint(start, orders, pixel[by_position], pixel_column.name)
    values = checks.cleaned(tuple(column.values(rows) for column in columns))
    return healpix.merge_siblings(start, orders, tuple(value[by_position] for value in values))


Blocks = Iterator[tuple[NDArray[Any], ...]]


def _nested_blocks(table: Table, columns: tuple[Column, ...], order: int) -> Blocks:
    rows_per_block = max(1, 4 ** min(order, _BLOCK_ORDER) // columns[0].repeat)
    for rows in table.blocks(rows_per_block):
        yield tuple(column.values(rows) for column in columns)


def _ring_blocks(table: Table, columns: tuple[Column, ...], order: int) -> Blocks:
    n_pixels = 12 << 2 * order
    whole: list[NDArray[Any]] = []
    done = 0
    for block in _nested_blocks(table, columns, order):
        whole = whole or [np.empty(n_pixels, dtype=values.dtype.newbyteorder("=")) for values in block]
        for column, values in zip(whole, block, strict=True):
            column[done : done + len(values)] = values
        done += len(block[0])
    block_pixels = 4 ** min(order, _BLOCK_ORDER)
    for first in range(0, n_pixels, block_pixels):
        ring = healpix.nested_to_ring(np.arange(first, first + block_pixels), order)
        yield tuple(column[ring] for column in whole)


def _merge_blocks(blocks: Blocks, order: int, checks: _ValueChecks) -> Cells:
    merged: list[Cells] = []
    shift = 2 * (healpix.MAX_ORDER - order)
    first = 0
    for block in blocks:
        values = checks.cleaned(block)
        last = first + len(values[0])
        start = np.arange(first, last) << shift
        merged.append(healpix.merge_siblings(start, np.full(len(start), order), values))
        first = last
    starts, orders, columns = zip(*merged, strict=True)
    joined = tuple(np.concatenate(parts) for parts in zip(*columns, strict=True))
    return healpix.merge_siblings(np.concatenate(starts), np.concatenate(orders), joined)


class _ValueChecks:
    """Checks that probabilities are such, block by block; says at the end how many are not and which is the first."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._n_seen = 0
        self._n_bad = 0
        self._first_bad: tuple[int, float] | None = None
        self._n_no_distance = 0

    def cleaned(self, values: tuple[NDArray[Any], ...]) -> tuple[NDArray[Any], ...]:
        density = values[0]
        # One pass each, NaN goes through both: cheaper than asking of every value whether it is finite.
        if not (density.min() >= 0 and density.max() < np.inf):
            bad = np.flatnonzero(~((density >= 0) & (density < np.inf)))
            self._n_bad += len(bad)
            self._first_bad = self._first_bad or (self._n_seen + int(bad[0]), float(density[bad[0]]))
        self._n_seen += len(density)
        if len(values) > 1 and any(np.isnan(column.max()) for column in values[1:]):
            unknown = np.isnan(values[1]) | np.isnan(values[2]) | np.isnan(values[3])
            self._n_no_distance += int(unknown.sum())
            values = (
                density,
                *(np.where(unknown, no, column) for no, column in zip(_NO_DISTANCE, values[1:], strict=True)),
            )
        return values

    def finish(self, notes: list[str]) -> None:
        if self._first_bad is not None:
            row, value = self._first_bad
            found = f"NaN, negative or infinite in {self._n_bad} of {self._n_seen} values, first {value} at {row}"
            raise InvalidSkyMapError(self._name, found, "finite numbers of 0 or more")
        if self._n_no_distance:
            notes.append(f"distance is NaN in {self._n_no_distance} cells; taken as unknown there")


def _integers(column: Column, rows: NDArray[np.void], *, like: Column) -> Int64Array:
    if column.repeat != like.repeat:
        raise InvalidSkyMapError(f"TFORM of {column.name}", column.repeat, f"{like.repeat} values per row")
    values = column.values(rows)
    if values.dtype.kind != "i":
        raise InvalidSkyMapError(f"TFORM of {column.name}", "floating point", "an integer column")
    return values


def _require(bad: NDArray[np.bool_], values: Int64Array, field: str, expected: str) -> None:
    if bad.any():
        rows = np.flatnonzero(bad)
        raise InvalidSkyMapError(
            field, f"out of range in {len(rows)} rows, first {values[rows[0]]} at {rows[0]}", expected
        )


def _check_disjoint(start: Int64Array, order: Int64Array, number: Int64Array, field: str) -> None:
    overlapping = np.flatnonzero(start[:-1] + healpix.cell_size(order[:-1]) > start[1:])
    if len(overlapping):
        one, other = number[overlapping[0]], number[overlapping[0] + 1]
        found = f"overlapping or twice there in {len(overlapping)} cells, first {one} and {other}"
        raise InvalidSkyMapError(field, found, "disjoint cells")


def _merged_from(header: Header, order: Int64Array) -> int | None:
    """The order of the flat map that `write_skymap` says these cells were merged from."""
    flat_order = header.get(_FLAT_ORDER_KEY)
    return flat_order if isinstance(flat_order, int) and order.max() <= flat_order <= healpix.MAX_ORDER else None


def _normalised(
    probdensity: FloatArray, total: float, *, name: str, tolerance: float | None, notes: list[str]
) -> FloatArray:
    field = f"sum of {name}"
    if not 0 < total < np.inf:
        raise InvalidSkyMapError(field, total, "a positive finite number")
    if tolerance is not None and abs(total - 1) > tolerance:
        raise InvalidSkyMapError(field, f"{total:.6g}", f"1 within {tolerance:g}")
    if abs(total - 1) <= ROUND_OFF:
        return probdensity
    notes.append(f"probabilities summed to {total:.10g} and were normalised to 1")
    return probdensity / total


def _distance(header: Header, key: str, notes: list[str]) -> float | None:
    value = header.get(key)
    if value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < np.inf:
        return float(value)
    notes.append(f"{key} is {value} and was ignored: a positive distance in Mpc was expected")
    return None


def _date_obs(value: Value, notes: list[str]) -> datetime | None:
    if value is None:
        return None
    try:
        date = datetime.fromisoformat(str(value).strip())
    except ValueError:
        notes.append(f"DATE-OBS is {value} and was ignored: an ISO 8601 time in UTC was expected")
        return None
    return date.replace(tzinfo=UTC) if date.tzinfo is None else date.astimezone(UTC)
