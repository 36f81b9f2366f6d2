"""What is no sky map is refused with the field named, and without much memory."""

import gzip
import io
import tracemalloc
import zlib
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.errors import InvalidInputError
from shared.sky.skymap import ALERT_SUM_TOLERANCE, InvalidSkyMapError, read_skymap
from tests.support.data import SAMPLES
from tests.support.skymaps import N_PIXELS, a_flat_map, a_multiorder_map, a_sky, a_table, an_explicit_map

DENSITY = a_sky()["PROB"] * N_PIXELS / (4 * np.pi)
UNIQ = np.arange(N_PIXELS) + 1024
MEGABYTE = 1_000_000


def changed(values: Any, **at: Any) -> Any:
    values = values.copy()
    for index, value in at.items():
        values[int(index[1:])] = value
    return values


def with_card(data: bytes, key: str, value: object) -> bytes:
    """Overwrite one header card, for headers that astropy would not write."""
    card = f"{key:<8}= {value!s:>20}".encode()
    at = data.rindex(f"{key:<8}=".encode())
    return data[:at] + card.ljust(80) + data[at + 80 :]


CASES = {
    "empty": (b"", "file", "empty"),
    "not-fits": (b"hello" * 1000, "file", "hello"),
    "zeros": (bytes(50 * MEGABYTE), "file", "x00"),
    "gzip-of-zeros": (gzip.compress(bytes(50 * MEGABYTE)), "file", "x00"),
    "gzip-garbage": (b"\x1f\x8b\x08" + b"garbage" * 99, "gzip stream", "corrupt"),
    "no-table": (a_multiorder_map()[:2880], "FITS extension", "missing"),
    "truncated": (a_multiorder_map()[:-6000], "NAXIS1 x NAXIS2", "40 x 3072"),
    "truncated-header": (a_multiorder_map()[:4000], "FITS header", "truncated"),
    "truncated-gzip": (gzip.compress(a_multiorder_map())[:-9000], "table data", "truncated"),
    "bomb": (with_card(a_multiorder_map(), "NAXIS2", 10**15), "NAXIS1 x NAXIS2", "1000000000000000"),
    "bomb-in-gzip": (gzip.compress(with_card(a_multiorder_map(), "NAXIS2", 10**7)), "NAXIS1 x NAXIS2", "10000000"),
    "negative-naxis": (with_card(a_multiorder_map(), "NAXIS2", -5), "NAXIS2", "-5"),
    "no-rows": (with_card(a_multiorder_map(), "NAXIS2", 0), "NAXIS1 x NAXIS2", "0"),
    "nan": (a_multiorder_map(probdensity=changed(DENSITY, _7=np.nan, _9=np.nan)), "PROBDENSITY", "in 2 of 3072"),
    "negative": (a_multiorder_map(probdensity=changed(DENSITY, _7=-1e-9)), "PROBDENSITY", "first -1e-09 at 7"),
    "infinite": (a_multiorder_map(probdensity=changed(DENSITY, _7=np.inf)), "PROBDENSITY", "first inf at 7"),
    "all-zero": (a_multiorder_map(probdensity=np.zeros(N_PIXELS)), "sum of PROBDENSITY", "0.0"),
    "ordering": (a_flat_map(ORDERING="SPIRAL"), "ORDERING", "SPIRAL"),
    "no-ordering": (a_flat_map(ORDERING=""), "ORDERING", "missing"),
    "ordering-against-columns": (a_multiorder_map(ORDERING="NESTED"), "ORDERING", "NESTED"),
    "uniq-without-column": (a_flat_map(ORDERING="NUNIQ"), "columns", "PROB"),
    "galactic": (a_flat_map(COORDSYS="G"), "COORDSYS", "G"),
    "uniq-too-small": (a_multiorder_map(uniq=changed(UNIQ, _0=3)), "UNIQ", "first 3 at 0"),
    "uniq-too-large": (a_multiorder_map(uniq=changed(UNIQ, _2=2**62)), "UNIQ", "at 2"),
    "duplicate": (a_multiorder_map(uniq=changed(UNIQ, _1=1024)), "UNIQ", "1024 and 1024"),
    "overlap": (a_multiorder_map(uniq=changed(UNIQ, _5=4)), "UNIQ", "overlapping"),
    "nside": (a_flat_map(NSIDE=32), "number of pixels", "3072"),
    "nside-odd": (a_flat_map(NSIDE=15), "NSIDE", "15"),
    "no-density": (
        a_table([fits.Column("UNIQ", "K", array=UNIQ)], ORDERING="NUNIQ"), "columns", "UNIQ"),
    "no-pixels": (a_flat_map(INDXSCHM="EXPLICIT"), "columns", "PROB"),
    "pixel-twice": (an_explicit_map(np.array([4, 4])), "PIXEL", "4 and 4"),
    "pixel-outside": (an_explicit_map(np.array([4, 5]), NSIDE=0), "NSIDE", "0"),
    "uniq-as-float": (a_multiorder_map(uniq_code="D"), "TFORM of UNIQ", "floating point"),
}  # fmt: skip


@pytest.mark.parametrize(("data", "field", "part_of_value"), CASES.values(), ids=CASES)
def test_bad_maps_are_refused_naming_field_and_value(data: bytes, field: str, part_of_value: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(InvalidSkyMapError) as raised:
            read_skymap(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert raised.value.field == field
    assert part_of_value in str(raised.value.value)
    assert peak < 4 * MEGABYTE


def test_an_alerts_map_that_sums_to_a_fifth_is_refused() -> None:
    data = a_multiorder_map(probdensity=DENSITY * 0.2)

    with pytest.raises(InvalidSkyMapError, match=r"sum of PROBDENSITY is 0\.2; expected 1 within 0\.05"):
        read_skymap(data, sum_tolerance=ALERT_SUM_TOLERANCE)
    assert read_skymap(data).total_probability == pytest.approx(0.2)


def test_a_gzip_bomb_that_is_a_sound_flat_map_stays_small() -> None:
    # 50 million pixels, 403 MB of float64 in 0.4 MB of gzip: merged block by block, never all there.
    table = a_table([fits.Column("PROB", "D", array=np.ones(12))], ORDERING="NESTED", NSIDE=2048)
    header = with_card(table, "NAXIS2", 12 * 2048**2)[: len(table) - 2880]
    ones = np.full(1 << 17, 1.0, dtype=">f8").tobytes()
    buffer, squeeze = io.BytesIO(), zlib.compressobj(9, wbits=31)
    for piece in (header, *[ones] * (12 * 2048**2 // (1 << 17))):
        buffer.write(squeeze.compress(piece))
    buffer.write(squeeze.flush())
    tracemalloc.start()
    try:
        sky_map = read_skymap(buffer.getvalue())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert len(sky_map.order) == 12
    assert sky_map.n_pixels == 12 * 2048**2
    assert peak < 60 * MEGABYTE


def test_a_table_above_the_limit_is_refused() -> None:
    with pytest.raises(InvalidSkyMapError, match="at most 100000 bytes"):
        read_skymap(a_multiorder_map(), max_bytes=100_000)


@given(st.binary(max_size=6000))
def test_random_bytes_only_ever_raise_invalid_input(data: bytes) -> None:
    for start in (b"", b"SIMPLE  =", b"\x1f\x8b\x08\x00"):
        with pytest.raises(InvalidInputError):
            read_skymap(start + data)


REAL = (SAMPLES / "skymaps" / "GW170817_skymap.fits").read_bytes()


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    st.sampled_from([REAL, a_flat_map(), a_flat_map(ring=True, per_row=64), an_explicit_map(np.arange(9))]),
    st.lists(st.tuples(st.integers(2880, 9000), st.integers(0, 255)), min_size=1, max_size=6),
    st.booleans(),
)
def test_damaged_maps_are_read_or_refused_but_never_crash(
    data: bytes, damage: list[tuple[int, int]], squeezed: bool
) -> None:
    broken = bytearray(data)
    for at, value in damage:
        broken[at % len(broken)] = value
    content = gzip.compress(bytes(broken), 1) if squeezed else bytes(broken)
    try:
        sky_map = read_skymap(content, max_bytes=10 * MEGABYTE)
    except InvalidInputError:
        return
    assert sky_map.probability.sum() == pytest.approx(1)
