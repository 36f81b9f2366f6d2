"""The picture of a sky map is a picture, whatever the map says."""

import io
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.image import imread

from shared.sky import picture
from shared.sky.skymap import read_skymap
from tests.support.data import SAMPLES
from tests.support.skymaps import a_multiorder_map, an_explicit_map

GW170817 = SAMPLES / "skymaps" / "GW170817_skymap.fits"


@pytest.mark.parametrize("data", [GW170817.read_bytes(), a_multiorder_map(), an_explicit_map(np.array([7]))])
def test_the_picture_is_a_png_of_some_size_and_the_same_each_time(data: bytes) -> None:
    sky_map = read_skymap(data)
    png = picture.draw(sky_map, title="A sky")
    image = imread(io.BytesIO(png))

    assert image.shape[0] > 600
    assert image.shape[1] > 1000
    assert image[..., :3].std() > 0.1
    assert picture.draw(sky_map, title="A sky") == png


def test_projections_undo_each_other() -> None:
    rng = np.random.default_rng(2)
    ra, dec = rng.uniform(1, 359, 500), rng.uniform(-89, 89, 500)

    for to, back in (
        (picture._to_mollweide, picture._from_mollweide),
        (lambda *at: picture._to_tangent_plane(*at, (40.0, -30.0))[:2],
         lambda *at: picture._from_tangent_plane(*at, (40.0, -30.0))),
    ):  # fmt: skip
        again = back(*to(ra, dec))
        np.testing.assert_allclose(again[0], ra, atol=1e-6)
        np.testing.assert_allclose(again[1], dec, atol=1e-6)


def test_names_from_outside_are_shown_as_they_are() -> None:
    sky_map = replace(read_skymap(a_multiorder_map()), instruments=("H1 $\\frac", "L1$"))

    assert picture.draw(sky_map, title="$_^{ and $").startswith(b"\x89PNG")
