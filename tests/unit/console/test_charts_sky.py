"""Drawings of the sky show regions where they are and as large as they are, in few bytes."""

import math
import re
from dataclasses import replace
from typing import TypedDict
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from services.console.charts import sky
from services.console.charts.sky import Contours, Ellipse, Layer, Point, View
from shared.sky import localisation, region
from shared.sky.gaussian import localisation_map
from shared.sky.skymap import SkyMap, read_skymap
from tests.support.data import SAMPLES
from tests.support.skymaps import a_multiorder_map, an_explicit_map

GW170817 = SAMPLES / "skymaps" / "GW170817_skymap.fits"
WHOLE, NEAR = 0, 1
# The images of a figure.
SVG = "{http://www.w3.org/2000/svg}"


class Words(TypedDict):
    title: str
    description: str


WORDS: Words = {"title": "S1", "description": "where it is"}
# The whole sky is an ellipse of these half axes.
HALF_WIDTH, HALF_HEIGHT = sky.WIDTH / 2, sky.HEIGHT / 2
SKY_DEG2 = 4 * math.pi * (180 / math.pi) ** 2


def parsed(figure: str) -> ElementTree.Element:
    return ElementTree.fromstring(str(figure).replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" '))


def lines_of(figure: str, style: str, image_number: int = WHOLE) -> list[NDArray[np.float64]]:
    """The corners of all lines of a class, of an image."""
    image = list(parsed(figure).iter(f"{SVG}svg"))[image_number]
    paths = [path.attrib["d"] for path in image.iter(f"{SVG}path") if path.attrib.get("class") == style]
    lines = []
    for line in re.findall(r"M([^Mz]+)", " ".join(paths)):
        start, _, steps = line.partition("l")
        points = np.array([[float(value) for value in start.split()]])
        moves = np.array([float(value) for value in steps.split()]).reshape(-1, 2)
        lines.append(np.concatenate([points, points + np.cumsum(moves, axis=0)]))
    return lines


def area(lines: list[NDArray[np.float64]]) -> float:
    """Outer outlines turn one way, those of holes the other."""
    return abs(sum(float(np.sum(p[:-1, 0] * p[1:, 1] - p[1:, 0] * p[:-1, 1])) / 2 for p in lines))


def a_map(radius_deg: float, *, ra_deg: float = 200.0, dec_deg: float = 30.0) -> SkyMap:
    return localisation_map(localisation.Ellipse(ra_deg, dec_deg, radius_deg, radius_deg, 0, 0.9))


def test_a_position_is_drawn_where_the_projection_puts_it() -> None:
    # RA 90, Dec 0: half way from the middle to the right edge.
    crosses = lines_of(sky.sky([Point(90, 0, "here")], **WORDS), "mark other")

    middle = np.concatenate(crosses).mean(axis=0)

    assert middle == pytest.approx([sky.MARGIN + 1.5 * HALF_WIDTH, 8 + HALF_HEIGHT], abs=0.1)


def test_east_is_left_and_north_is_up_in_a_close_up() -> None:
    figure = sky.sky([Point(10.5, 20.5, "NE")], view=View((10, 20), 1), **WORDS)

    x, y = np.concatenate(lines_of(figure, "mark other", NEAR)).mean(axis=0)

    # Half a degree of declination is a quarter of the frame; of right ascension it is less by cos(dec).
    assert y == pytest.approx(sky.FRAME_TOP + sky.FRAME / 4, abs=0.5)
    assert x == pytest.approx(sky.FRAME_LEFT + sky.FRAME * (0.5 - 0.25 * math.cos(math.radians(20.5))), abs=0.5)


@pytest.mark.parametrize(
    ("skymap", "tolerance"),
    [
        (a_map(25), 0.02),
        # Close to the pole, where shapes are sheared.
        (a_map(25, ra_deg=170, dec_deg=60), 0.02),
        # Single cells of eight units all over the sky: their corners are cut, and a rim of 1 % lies beyond the edge.
        (read_skymap(a_multiorder_map()), 0.1),
        # A bow of a degree by ten: outlines are right to the grid's step, a fortieth of its width.
        (read_skymap(GW170817.read_bytes()), 0.04),
    ],
)
def test_outlines_hold_the_areas_of_the_regions(skymap: SkyMap, tolerance: float) -> None:
    figure = sky.sky([Contours(skymap, "wave")], **WORDS)

    for style, expected in zip(("r50", "r90"), region.credible_regions(skymap, (0.5, 0.9)), strict=True):
        # Mollweide's projection keeps areas.
        share = area(lines_of(figure, f"region wave {style}")) / (math.pi * HALF_WIDTH * HALF_HEIGHT)
        assert share * SKY_DEG2 == pytest.approx(expected.area_deg2, rel=tolerance)


def test_a_close_up_holds_the_area_of_a_region_too() -> None:
    skymap = read_skymap(GW170817.read_bytes())
    around = sky.fit([Contours(skymap, "wave")])
    assert around is not None
    centre, half = around

    figure = sky.sky([Contours(skymap, "wave")], view=View(centre, half), **WORDS)

    units = area(lines_of(figure, "region wave r90", NEAR))
    expected = region.credible_regions(skymap, (0.9,))[0].area_deg2
    assert units * (2 * half / sky.FRAME) ** 2 == pytest.approx(expected, rel=0.03)


def test_a_region_across_right_ascension_0_has_no_line_through_the_sky() -> None:
    figure = sky.sky([Ellipse(1, 20, 12, 6, 70, "burst")], **WORDS)

    lines = lines_of(figure, "region burst r90 cut")

    assert len(lines) > 1
    assert all(np.abs(np.diff(line[:, 0])).max() < HALF_WIDTH / 4 for line in lines)


def test_an_ellipse_is_where_a_localisation_says() -> None:
    ellipse = localisation.Ellipse(200.0, 30.0, 3.0, 1.0, 40.0, 0.9)
    figure = sky.sky([Ellipse(200.0, 30.0, 3.0, 1.0, 40.0, "burst")], view=View((200, 30), 4), **WORDS)

    (line,) = lines_of(figure, "region burst r90", NEAR)
    plane = sky._Surroundings((200.0, 30.0), 4.0)

    for factor, inside in ((0.99, True), (1.01, False)):
        middle = np.array([sky.FRAME_LEFT + sky.FRAME / 2, sky.FRAME_TOP + sky.FRAME / 2])
        x, y = (middle + (line - middle) * factor).T
        assert (ellipse.contains(*plane.to_sky(x, y)) == inside).all()


def test_small_things_get_a_mark_and_a_close_up() -> None:
    layers: list[Layer] = [Contours(a_map(0.3), "wave"), Ellipse(200, 30, 0.01, 0.01, 0, "burst")]

    figure = sky.sky(layers, **WORDS)

    assert lines_of(figure, "mark wave")
    assert lines_of(figure, "mark burst")
    assert len(list(parsed(figure).iter(f"{SVG}svg"))) == 2 + 3, "two images, and three samples of the legend"
    around = sky.fit(layers)
    assert around is not None
    assert around[1] == pytest.approx(sky.AROUND * 0.3, rel=0.2)


def test_large_things_get_no_close_up() -> None:
    nothing: list[Layer] = []

    assert all(sky.fit(layers) is None for layers in ([Contours(a_map(40), "wave")], nothing))


def test_a_close_up_leaves_out_what_is_elsewhere() -> None:
    around = sky.fit([Ellipse(10, 10, 0.2, 0.2, 0, "burst"), Ellipse(20, 10, 1, 1, 0, "other")])

    assert around is not None
    assert around[0] == pytest.approx((10, 10))
    assert around[1] == pytest.approx(sky.AROUND * 0.2, rel=1e-6)


@pytest.mark.parametrize(
    "skymap",
    [
        read_skymap(GW170817.read_bytes()),
        read_skymap((SAMPLES / "skymaps" / "GRB220617A_IPN_map_hpx.fits.gz").read_bytes()),
        read_skymap(an_explicit_map(np.array([7]))),
        SkyMap(start=np.array([0]), order=np.array([29]), probdensity=np.array([1e17])),
    ],
)
def test_a_drawing_is_small_and_the_same_each_time(skymap: SkyMap) -> None:
    figure = sky.sky([Contours(skymap, "wave")], **WORDS)

    assert len(figure) < 100_000
    assert sky.sky([Contours(skymap, "wave")], **WORDS) == figure
    assert "nan" not in figure
    assert "inf" not in figure


def test_distances_change_nothing() -> None:
    skymap = read_skymap(GW170817.read_bytes())
    assert skymap.distmu is not None
    bare = replace(skymap, distmu=None, distsigma=None, distnorm=None)

    assert sky.sky([Contours(skymap, "w")], **WORDS) == sky.sky([Contours(bare, "w")], **WORDS)


def test_names_from_outside_are_text() -> None:
    name = '"><script>alert(1)</script>'

    figure = sky.sky([Ellipse(10, 10, 0.2, 0.2, 0, name), Point(10, 10, name)], title=name, description=name)

    assert "<script" not in figure
    assert parsed(figure).findtext(f".//{SVG}title") == name


def test_a_drawing_says_in_words_what_it_shows() -> None:
    image = next(parsed(sky.sky([], title="S1", description="where it is")).iter(f"{SVG}svg"))

    title, description = image.attrib["aria-labelledby"].split()
    assert image.attrib["role"] == "img"
    assert [part.text for part in image if part.attrib.get("id") in (title, description)] == ["S1", "where it is"]


@settings(max_examples=25, deadline=None)
@given(
    ra=st.floats(0, 360), dec=st.floats(-90, 90), major=st.floats(1e-7, 89), ratio=st.floats(0.01, 1),
    angle=st.floats(-360, 360),
)  # fmt: skip
def test_any_ellipse_can_be_drawn(ra: float, dec: float, major: float, ratio: float, angle: float) -> None:
    figure = sky.sky([Ellipse(ra, dec, major, ratio * major, angle, "burst"), Point(ra, dec, "there")], **WORDS)

    parsed(figure)
    assert "nan" not in figure
