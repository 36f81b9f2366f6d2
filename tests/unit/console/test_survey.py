"""What others see of the sky around a burst: where the burst is, and never more than was asked for."""

from __future__ import annotations

import asyncio
import io
import re
from collections.abc import Callable
from typing import Any, cast
from xml.etree import ElementTree

import httpx
import numpy as np
import pytest
from astropy.wcs import WCS
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from services.console import catalogue, survey
from services.console.catalogue import Field, Objects, SurveyError
from services.console.charts import sky
from services.console.settings import SurveySettings
from services.console.survey import SkySurvey
from shared.compute import ComputePool
from shared.sky import projection
from shared.sky.localisation import Ellipse
from shared.testing.survey import CONE_PATH, CUTOUT_PATH, Fault, Galaxy, SkyStandIn

FIELD = Field(150.0, -35.0, 0.1)
REGION = Ellipse(150.0, -35.0, 0.07, 0.03, 30.0, 0.9)
SCRIPT = "<script>alert(1)</script>"


def picture_wcs(field: Field, pixels: int) -> WCS:
    """Where positions are in a picture of a field, by FITS; pixels are counted from 0 at the lower left."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---ARC", "DEC--ARC"]
    wcs.wcs.crval = [field.ra_deg, field.dec_deg]
    wcs.wcs.crpix = [(pixels + 1) / 2] * 2
    wcs.wcs.cdelt = [-2 * field.half_width_deg / pixels, 2 * field.half_width_deg / pixels]
    return wcs


@given(
    ra_deg=st.floats(0, 360, exclude_max=True),
    dec_deg=st.floats(-89.9, 89.9),
    half_width_deg=st.floats(1e-3, 27),
    x=st.floats(-0.99, 0.99),
    y=st.floats(-0.99, 0.99),
)
def test_our_close_up_is_the_projection_arc_of_fits(
    ra_deg: float, dec_deg: float, half_width_deg: float, x: float, y: float
) -> None:
    wcs = picture_wcs(Field(ra_deg, dec_deg, half_width_deg), 2)
    # The middles of a picture of 2 by 2 pixels are at 0 and 1: half the width is a pixel, east is left.
    ((at_ra_deg, at_dec_deg),) = wcs.all_pix2world([[0.5 - x, 0.5 + y]], 0)
    east, north, _ = projection.to_tangent_plane(at_ra_deg, at_dec_deg, (ra_deg, dec_deg))
    # Both go through double precision near a pole, where right ascensions are ill-conditioned.
    assert (east / half_width_deg, north / half_width_deg) == pytest.approx((x, y), abs=2e-9 / half_width_deg)


def test_galaxies_of_the_catalogue_are_drawn_where_the_picture_shows_them() -> None:
    stand_in = SkyStandIn()
    found = objects_of(stand_in)
    points = tuple(sky.Point(each.ra_deg, each.dec_deg, each.name) for each in found.nearest)
    view = sky.View((FIELD.ra_deg, FIELD.dec_deg), FIELD.half_width_deg, "/frb/1/sky/x", points, 2, "galaxies")
    figure = sky.sky([sky.Ellipse(150, -35, 0.07, 0.03, 30, "burst")], title="B", description="there", view=view)
    _, _, picture = stand_in.answer(f"{CUTOUT_PATH}?ra=150&dec=-35&fov=0.2&width=800&height=800&projection=ARC")
    light = np.asarray(Image.open(io.BytesIO(picture)).convert("L"), dtype=float)
    root = ElementTree.fromstring(str(figure))
    (image,) = root.iter("image")
    frame = [float(image.attrib[name]) for name in ("x", "y", "width", "height")]
    assert frame == [sky.FRAME_LEFT, sky.FRAME_TOP, sky.FRAME, sky.FRAME]
    circles = [each for each in root.iter("circle") if each.findtext("title")]
    assert len(circles) == len(found.nearest) > 20
    for circle in circles:
        x, y = ((float(circle.attrib[name]) - start) / sky.FRAME * 800 - 0.5 for name, start in
                (("cx", sky.FRAME_LEFT), ("cy", sky.FRAME_TOP)))  # fmt: skip
        # Within the core of its light; elsewhere it is below 50.
        assert light[round(min(y, 799)), round(min(x, 799))] > 150
    assert [each.text for each in root.iter("text") if each.attrib["class"] == "object"] == ["1", "2"]
    assert "galaxies" in str(figure)


def objects_of(stand_in: SkyStandIn, field: Field = FIELD, most: int = 10_000) -> Objects:
    target = f"{CONE_PATH}?cat=galaxies&RA={field.ra_deg}&DEC={field.dec_deg}&SR={1.42 * field.half_width_deg}"
    return catalogue.read(stand_in.answer(f"{target}&MAXREC={most}")[2], field, REGION)


def test_objects_are_read_by_their_ucds_in_our_units() -> None:
    galaxies = [
        Galaxy("NGC 1", 150.03, -35.0, magnitude=15.5, redshift=0.01, distance_kpc=43_000.0),
        Galaxy("", 150.0, -35.001, magnitude=99.0),
        Galaxy("outside of the square, inside of the cone", 150.0, -35.12),
    ]
    found = objects_of(SkyStandIn(galaxies=galaxies))
    near, far = found.nearest
    assert (near.name, near.ra_deg, near.dec_deg, near.separation_deg) == pytest.approx(("", 150.0, -35.001, 0.001))
    assert (near.redshift, near.distance_mpc, near.magnitude) == (None, None, None)
    assert (far.name, far.distance_mpc, far.magnitude) == ("NGC 1", 43.0, 15.5)
    assert far.redshift == pytest.approx(0.01)
    assert (found.magnitude_name, found.left_out, found.is_cut) == ("Bmag", 0, False)


@given(angle=st.floats(0, 6.28), distance=st.floats(0.001, 0.2))
def test_the_contour_through_an_object_is_that_on_whose_two_sides_it_is(angle: float, distance: float) -> None:
    at = projection.from_tangent_plane(
        np.array([distance * np.sin(angle)]), np.array([distance * np.cos(angle)]), (150.0, -35.0)
    )
    (level,), (away_deg,) = catalogue.levels(REGION, *at)
    assert away_deg == pytest.approx(distance)
    if 1e-6 < level < 1 - 1e-6:
        assert REGION.scaled_to(level + 1e-7).contains(*at)
        assert not REGION.scaled_to(level - 1e-7).contains(*at)


def test_the_most_probable_objects_are_kept_and_the_others_counted() -> None:
    galaxies = [Galaxy(f"G{number}", 150 + 1e-5 * number, -35) for number in range(catalogue.MOST_OBJECTS + 30)]
    found = objects_of(SkyStandIn(galaxies=galaxies[::-1]))
    assert [each.name for each in found.nearest] == [f"G{number}" for number in range(catalogue.MOST_OBJECTS)]
    assert (found.left_out, found.is_cut) == (30, False)
    assert objects_of(SkyStandIn(galaxies=galaxies), most=10).is_cut


def test_names_are_cut_and_what_is_not_seen_is_left_out_of_them() -> None:
    found = objects_of(SkyStandIn(galaxies=[Galaxy(f"\u202e{SCRIPT}\u200b" + "W" * 100_000, 150, -35)]))
    (only,) = found.nearest
    assert only.name.startswith(f"{SCRIPT}WWW")
    assert len(only.name) == catalogue.MAX_NAME_CHARACTERS


@pytest.mark.parametrize("fault", [Fault.GARBAGE, Fault.WRONG_TYPE, Fault.LINK, Fault.ENTITY])
def test_what_is_no_table_or_leads_elsewhere_is_refused(fault: Fault) -> None:
    with pytest.raises(SurveyError):
        objects_of(SkyStandIn(fault=fault))


class Here:
    """Computes at once."""

    async def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return function(*arguments)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Looking:
    """A survey that asks a stand-in."""

    def __init__(self, **settings: Any) -> None:
        self.sky = SkyStandIn(port=1)
        self.clock = Clock()
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        http = httpx.AsyncClient(transport=httpx.MockTransport(self._answer))
        chosen = SurveySettings.model_validate({**self.sky.settings, **settings})
        self.survey = SkySurvey(http, cast("ComputePool", Here()), chosen, clock=self.clock)

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        await self.may_answer.wait()
        status, media_type, body = self.sky.answer(str(request.url))
        return httpx.Response(status, stream=httpx.ByteStream(body), headers={"Content-Type": media_type})


async def test_many_who_look_at_once_have_each_service_asked_once() -> None:
    looking = Looking()
    seen = await asyncio.gather(*(looking.survey.look(FIELD, REGION) for _ in range(20)))
    assert {(each.has_picture, each.is_coming, tuple(each.troubles)) for each in seen} == {(True, False, ())}
    assert sorted(looking.sky.requests) == [CONE_PATH, CUTOUT_PATH]
    assert all(each.objects and each.objects.nearest for each in seen)


async def test_a_page_does_not_wait_for_who_is_slow_and_shows_it_once_it_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looking = Looking()
    looking.may_answer.clear()
    monkeypatch.setattr("services.console.superevent_history.PATIENCE_S", 0.01)
    seen = await looking.survey.look(FIELD, REGION)
    assert (seen.has_picture, seen.objects, seen.is_coming, seen.troubles) == (False, None, True, [])
    looking.may_answer.set()
    assert await looking.survey.picture(FIELD)
    assert await looking.survey.objects(FIELD, REGION)
    assert sorted(looking.sky.requests) == [CONE_PATH, CUTOUT_PATH]


@pytest.mark.parametrize("fault", [Fault.ERROR, Fault.GARBAGE, Fault.WRONG_TYPE])
async def test_who_fails_is_left_alone_for_a_minute_and_the_drawing_stands_alone(fault: Fault) -> None:
    looking = Looking()
    looking.sky.fault = fault
    seen = await looking.survey.look(FIELD, REGION)
    assert (seen.has_picture, seen.objects, seen.is_coming) == (False, None, False)
    assert [each.partition(" is ")[0] for each in seen.troubles] == ["Made-up Sky Survey", "Made-up Galaxies"]
    assert not re.search("127|http", " ".join(seen.troubles))
    looking.sky.fault = None
    looking.clock.now = survey.REST_S - 1
    assert len((await looking.survey.look(FIELD, REGION)).troubles) == 2
    assert len(looking.sky.requests) == 2
    looking.clock.now = survey.REST_S
    seen = await looking.survey.look(FIELD, REGION)
    assert (seen.has_picture, seen.troubles) == (True, [])


async def test_a_field_with_too_much_is_asked_for_once_and_no_other_suffers() -> None:
    looking = Looking()
    looking.sky.fault = Fault.HUGE
    for _ in range(3):
        assert ["too much" in each for each in (await looking.survey.look(FIELD, REGION)).troubles] == [True, True]
    assert len(looking.sky.requests) == 2
    looking.sky.fault = None
    assert (await looking.survey.look(Field(10, 10, 0.1), REGION)).has_picture


async def test_a_crowd_of_fields_waits_in_a_short_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey, "PIXELS", 8)
    looking = Looking()
    looking.sky.galaxies = [Galaxy("far", 0, -90)]
    looking.may_answer.clear()
    asking = [
        asyncio.create_task(looking.survey.picture(Field(number, 10, 0.1))) for number in range(survey.MOST_ASKING + 5)
    ]
    while not any(task.done() for task in asking):
        await asyncio.sleep(0)
    looking.may_answer.set()
    answers = await asyncio.gather(*asking, return_exceptions=True)
    assert sum(isinstance(each, SurveyError) for each in answers) == 5
    assert len(looking.sky.requests) == survey.MOST_ASKING
    assert await looking.survey.picture(Field(200, 10, 0.1))


async def test_nobody_is_asked_unless_named() -> None:
    looking = Looking(cutout_url=None, catalogue_url=None)
    assert looking.survey.field([sky.Ellipse(1, 2, 0.1, 0.1, 0, "burst")]) is None
    pictured = Looking(catalogue_url=None)
    field = pictured.survey.field([sky.Ellipse(360, 2, 1e-5, 1e-5, 0, "burst")])
    assert field == Field(0, 2, survey.NARROWEST_DEG)
    seen = await pictured.survey.look(field, REGION)
    assert (seen.has_picture, seen.objects, seen.troubles) == (True, None, [])
    assert pictured.sky.requests == [CUTOUT_PATH]


async def test_wide_regions_have_no_list_and_the_widest_no_picture() -> None:
    looking = Looking()
    seen = await looking.survey.look(Field(10, 10, 2 * survey.WIDEST_LISTED_DEG), REGION)
    assert seen.has_picture
    assert "as wide as this" in "".join(seen.troubles)
    assert looking.survey.field([sky.Ellipse(10, 10, 30, 20, 0, "burst")]) is None
