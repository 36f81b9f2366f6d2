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


def test_names_from_outside_are_shown_as_they_are() -> None:
    sky_map = replace(read_skymap(a_multiorder_map()), instruments=("H1 $\\frac", "L1$"))

    assert picture.draw(sky_map, title="$_^{ and $").startswith(b"\x89PNG")
