"""Every layout of the same sky is read as the same sky."""

import gzip

import numpy as np
import pytest
from astropy.io import fits

from shared.sky.healpix import MAX_ORDER
from shared.sky.skymap import SkyMap, read_skymap
from tests.support.skymaps import (
    N_PIXELS,
    ORDER,
    a_flat_map,
    a_multiorder_map,
    a_sky,
    a_table,
    an_explicit_map,
)

POSITIONS = np.arange(N_PIXELS) << 2 * (MAX_ORDER - ORDER)


def probabilities(sky_map: SkyMap) -> np.ndarray:
    return sky_map.probdensity[sky_map.cells.find(POSITIONS)] * 4 * np.pi / N_PIXELS


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(a_flat_map(), id="nested"),
        pytest.param(a_flat_map(ring=True), id="ring"),
        pytest.param(a_flat_map(per_row=64), id="nested-vectors"),
        pytest.param(a_flat_map(ring=True, per_row=1024), id="ring-vectors"),
        pytest.param(a_flat_map(per_row=12), id="vectors-across-base-cells"),
        pytest.param(a_flat_map(name="PROBABILITY"), id="probability"),
        pytest.param(a_flat_map(distances=False), id="2d"),
        pytest.param(an_explicit_map(np.arange(N_PIXELS)[::-1]), id="explicit-nested"),
        pytest.param(an_explicit_map(np.arange(N_PIXELS), ring=True), id="explicit-ring"),
        pytest.param(a_multiorder_map(), id="uniq"),
        pytest.param(a_multiorder_map(unsigned=True), id="uniq-tzero"),
        pytest.param(a_multiorder_map(uniq_code="J"), id="uniq-int32"),
        pytest.param(gzip.compress(a_multiorder_map()), id="gzip"),
        pytest.param(gzip.compress(a_flat_map()[:9000]) + gzip.compress(a_flat_map()[9000:]), id="gzip-two-members"),
    ],
)
def test_every_layout_gives_the_same_sky(data: bytes) -> None:
    # One division by the area and one multiplication by it: a few times 2^-53.
    np.testing.assert_allclose(probabilities(read_skymap(data)), a_sky()["PROB"], rtol=1e-14)


@pytest.mark.parametrize(
    "data", [a_flat_map(code="E", distances=False), a_multiorder_map(code="E", distances=False)], ids=["flat", "uniq"]
)
def test_float32_columns_keep_their_seven_digits(data: bytes) -> None:
    np.testing.assert_allclose(probabilities(read_skymap(data)), a_sky()["PROB"], rtol=1e-6)


def test_equal_siblings_of_a_flat_map_are_merged_and_its_pixels_still_counted() -> None:
    sky_map = read_skymap(a_flat_map(distances=False))

    assert len(sky_map.order) == N_PIXELS // 2 + N_PIXELS // 2 // 16
    assert (sky_map.n_pixels, sky_map.min_order, sky_map.max_order) == (N_PIXELS, ORDER, ORDER)
    assert "merged losslessly" in sky_map.notes[0]


def test_distances_are_read_with_their_infinities() -> None:
    sky_map = read_skymap(a_flat_map(ring=True))
    cell = sky_map.cells.find(POSITIONS)

    assert sky_map.distmu is not None
    assert sky_map.distnorm is not None
    np.testing.assert_array_equal(sky_map.distmu[cell], a_sky()["DISTMU"])
    np.testing.assert_array_equal(sky_map.distnorm[cell], a_sky()["DISTNORM"])


def test_a_map_without_distances_has_none_and_not_zero() -> None:
    sky_map = read_skymap(a_multiorder_map(distances=False))

    assert sky_map.distmu is None
    assert sky_map.distance_mean_mpc is None
    assert not sky_map.has_distance


def test_a_mean_distance_of_zero_is_ignored_and_said() -> None:
    sky_map = read_skymap(a_multiorder_map(distances=False, DISTMEAN=0.0))

    assert sky_map.distance_mean_mpc is None
    assert "DISTMEAN" in sky_map.notes[0]


def test_distances_that_are_nan_are_unknown() -> None:
    mu = np.where(np.arange(N_PIXELS) < 3, np.nan, 100.0)
    columns = [
        fits.Column("PROB", "D", array=a_sky()["PROB"]),
        *(fits.Column(name, "D", array=mu) for name in ("DISTMU", "DISTSIGMA", "DISTNORM")),
    ]
    sky_map = read_skymap(a_table(columns, ORDERING="NESTED", NSIDE=16))

    assert sky_map.distmu is not None
    assert np.isinf(sky_map.distmu).sum() == 3
    assert any("NaN in 3 cells" in note for note in sky_map.notes)


def test_a_partial_map_is_zero_elsewhere_and_says_so() -> None:
    sky_map = read_skymap(an_explicit_map(np.array([5, 700, 701])))

    assert sky_map.sky_coverage == pytest.approx(3 / N_PIXELS, rel=1e-15)
    assert sky_map.n_pixels == 3
    assert sky_map.probability.sum() == pytest.approx(1, rel=1e-15)
    assert any("rest is taken as zero" in note for note in sky_map.notes)


def test_an_unnormalised_map_is_normalised_and_tells_its_sum() -> None:
    density = 3 * a_sky()["PROB"] * N_PIXELS / (4 * np.pi)
    sky_map = read_skymap(a_multiorder_map(probdensity=density))

    assert sky_map.total_probability == pytest.approx(3, rel=1e-14)
    assert sky_map.probability.sum() == pytest.approx(1, rel=1e-14)
    assert "summed to 3" in sky_map.notes[0]


def test_cells_of_order_0_and_29_and_tiny_densities_are_read() -> None:
    uniq = np.array([15, 4 * 4**29, 4 * 4**29 + 1])
    sky_map = read_skymap(a_multiorder_map(uniq=uniq, probdensity=np.array([1.0, 7e-115, 0.0])))

    assert sky_map.uniq.tolist() == [4 * 4**29, 4 * 4**29 + 1, 15]
    assert sky_map.order.tolist() == [29, 29, 0]
    assert sky_map.probdensity[0] > 0


def test_the_header_is_told() -> None:
    cards = {"OBJECT": "O'Hara", "INSTRUME": "H1, L1", "DATE_OBS": "2023-05-18T12:59:08.25", "CREATOR": "me"}
    sky_map = read_skymap(a_flat_map(**cards, DISTMEAN=12.5, DISTSTD=2))

    assert (sky_map.object_name, sky_map.instruments, sky_map.creator) == ("O'Hara", ("H1", "L1"), "me")
    assert sky_map.date_obs is not None
    assert sky_map.date_obs.isoformat() == "2023-05-18T12:59:08.250000+00:00"
    assert (sky_map.distance_mean_mpc, sky_map.distance_std_mpc) == (12.5, 2.0)
