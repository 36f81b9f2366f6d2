"""What others see where a burst came from, on its page: a picture beneath the drawing, a catalogue's objects."""

from __future__ import annotations

import io
import re
from xml.etree import ElementTree

import httpx
import numpy as np
from PIL import Image

from services.console.charts import sky
from shared.testing.survey import Fault, Galaxy
from tests.support.browser import PHONE, Visit
from tests.support.console import ConsoleUnderTest
from tests.support.frb_intake import EVENTS
from tests.support.runtime import eventually

PICTURE = re.compile(r'<image class="survey" href="(/frb/\d+/sky/\w+)"')
SCRIPT = "<script>window.ran = true</script>"


def close_up(page: str) -> ElementTree.Element:
    found = re.search(r'<svg class="near".*?</svg>', page, re.DOTALL)
    assert found is not None, "no close-up"
    return ElementTree.fromstring(found[0])


def complete(reader: httpx.Client, burst_id: int) -> str:
    """The page of a burst, once all that others see is on it."""

    def page() -> str:
        return reader.get(f"/frb/{burst_id}").text

    eventually(lambda: "being looked up" not in page(), "what others see")
    return page()


def test_the_picture_shows_the_galaxies_where_the_drawing_has_them(console: ConsoleUnderTest) -> None:
    reader = console.browser()
    ellipse = {"a": 0.05, "b": 0.02, "cl": 90.0, "theta": 30.0}
    burst_id = console.submit(ra=211.25, dec=54.5, eellipse=ellipse)
    page = complete(reader, burst_id)
    (address,) = PICTURE.findall(page)
    picture = reader.get(address)
    assert (picture.status_code, picture.headers["content-type"]) == (200, "image/jpeg")
    assert "immutable" in picture.headers["cache-control"]
    light = np.asarray(Image.open(io.BytesIO(picture.content)).convert("L"), dtype=float)
    scale = len(light) / sky.FRAME
    circles = [each.attrib for each in close_up(page).iter("circle")]
    assert len(circles) > 20
    for circle in circles:
        x, y = (float(circle["cx"]) - sky.FRAME_LEFT) * scale - 0.5, (float(circle["cy"]) - sky.FRAME_TOP) * scale - 0.5
        assert light[min(round(y), len(light) - 1), min(round(x), len(light) - 1)] > 150
    assert "Made-up Galaxies" in page
    assert "Bmag" in page
    wide = {"a": 4.0, "b": 3.0, "cl": 90.0, "theta": 0.0}
    page = complete(reader, console.submit(ra=20.0, dec=10.0, eellipse=wide))
    assert "Made-up Galaxies is not asked about regions as wide as this." in page
    assert PICTURE.search(page)
    assert "What lies there" not in page
    # Of where the burst is, and of nowhere else.
    assert reader.get(f"/frb/{burst_id}/sky/d0123456789").status_code == 404
    assert reader.get(address.replace(f"/{burst_id}/", f"/{console.burst_id}/")).status_code == 404


def test_what_others_see_comes_by_itself_and_harms_nobody(console: ConsoleUnderTest, visit: Visit) -> None:
    stand_in = console.stand_ins.sky
    hostile = [Galaxy(f'{SCRIPT}" onload="window.ran = true', 33.001, -12.001), Galaxy("W" * 10_000, 33, -12)]
    burst_id = console.submit(ra=33.0, dec=-12.0)

    def silence() -> None:
        stand_in.galaxies, stand_in.fault = hostile, Fault.SILENT

    def well() -> None:
        stand_in.speak()

    console.stand_ins.do(silence)
    window = visit()
    try:
        window.open(f"/frb/{burst_id}")
        window.sees("is being looked up")
        assert window.count("svg.near .survey") == 0
        console.stand_ins.do(well)
        window.waits_for("svg.near .survey")
        window.sees("W" * 59 + "…")
        assert window.evaluate("window.ran === undefined")
        assert SCRIPT in window.text("main")
        # A person can look without it.
        assert window.evaluate("getComputedStyle(document.querySelector('svg.near .survey')).display") == "inline"
        window.click("Picture from Made-up Sky Survey beneath", role="checkbox")
        assert window.evaluate("getComputedStyle(document.querySelector('svg.near .survey')).display") == "none"
        # What a person chose stays when the page changes.
        voter = console.intake.client(console.add_user("rate"))
        voter.post(f"{EVENTS}/{burst_id}/ratings", json={"rating": "confirm"}).raise_for_status()
        window.sees("1 confirm", within="#votes")
        window.waits_for("#details td:text-is('confirm')")
        assert not window.evaluate("document.getElementById('show-survey').checked")
        window.resize(PHONE)
        assert window.overflow == 0
    finally:
        console.stand_ins.do(well)
        stand_in.galaxies = []
