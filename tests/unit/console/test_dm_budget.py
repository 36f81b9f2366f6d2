"""The drawing of where a dispersion measure comes from."""

import math
import re
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from services.console.charts.dm_budget import HEIGHT, WIDTH, budget_of, dm_budget
from shared.physics.macquart import HOST_MEDIAN_PC_CM3


def a_measurement(dm: float, *, ism: float = 100.0, model: str = "NE2001", **known: Any) -> dict[str, Any]:
    budget = {
        "dm_mw_ism_pc_cm3": ism,
        "dm_mw_ism_model": model,
        "dm_mw_halo_pc_cm3": 50.0,
        "dm_excess_pc_cm3": dm - ism - 50.0,
        "redshift_mean": 0.3,
    }
    return {"dm_pc_cm3": dm, "dm_err_pc_cm3": 1.0, "dm_budget": budget, **known}


def parsed(drawn: Markup) -> ElementTree.Element:
    return ElementTree.fromstring(str(drawn))


@given(st.floats(0, 1e5), st.floats(0, 1e4), st.none() | st.floats(0, 30), st.none() | st.floats(0, 1e4))
def test_the_parts_add_up_to_the_whole(dm: float, ism: float, redshift: float | None, error: float | None) -> None:
    budget = budget_of(a_measurement(dm, ism=ism, redshift=redshift, dm_err_pc_cm3=error))
    assert budget is not None
    total = sum(part.dm_pc_cm3 for part in budget.parts)
    if dm > ism + 50:
        assert [part.style for part in budget.parts] == ["ism", "halo", "cosmic", "host"]
        assert math.isclose(total, dm, rel_tol=1e-9, abs_tol=1e-9)
        assert all(part.dm_pc_cm3 >= 0 for part in budget.parts)
    else:
        assert budget.is_within_milky_way
        assert total >= dm
    figure = parsed(dm_budget(budget))
    for box in figure.iter("rect"):
        x, width = float(box.attrib["x"]), float(box.attrib["width"])
        assert 0 <= x <= x + width <= WIDTH + 0.1
    marks = list(figure.iter("text"))
    assert all(-1 <= float(mark.attrib["x"]) <= WIDTH + 1 and float(mark.attrib["y"]) <= HEIGHT for mark in marks)
    assert len(marks) < 25


def test_the_host_has_what_hosts_typically_add_at_its_redshift() -> None:
    measured, inferred = (budget_of(a_measurement(1000, redshift=z)) for z in (1.0, None))
    assert measured is not None
    assert inferred is not None
    assert measured.parts[-1].dm_pc_cm3 == HOST_MEDIAN_PC_CM3 / 2
    assert inferred.parts[-1].dm_pc_cm3 == pytest.approx(HOST_MEDIAN_PC_CM3 / 1.3)


@pytest.mark.parametrize("lacking", [None, {"dm_budget": None, "dm_pc_cm3": 1.0}, {"dm_pc_cm3": None}])
def test_without_what_it_takes_there_is_none(lacking: dict[str, Any] | None) -> None:
    assert budget_of(lacking if lacking is None else a_measurement(500) | lacking) is None


def test_it_says_in_words_what_it_shows() -> None:
    budget = budget_of(a_measurement(500.0))
    assert budget is not None
    figure = parsed(dm_budget(budget))
    (image,) = (each for each in figure.iter("svg") if each.get("role") == "img")
    words = "".join(image.itertext())
    assert "dispersion measure of 500 pc cm⁻³" in words
    assert "Milky Way (NE2001) 100.0; Milky Way's halo 50.0; Cosmic web" in words
    # What is told by colour is told by the list, too.
    listed = ["".join(item.itertext()).strip() for item in figure.iter("li")]
    assert listed[:2] == ["Milky Way (NE2001): 100.0 pc cm⁻³", "Milky Way's halo: 50.0 pc cm⁻³"]


def test_a_model_of_another_name_is_text() -> None:
    budget = budget_of(a_measurement(500.0, model='"><script>alert(1)</script>'))
    assert budget is not None
    drawn = str(dm_budget(budget))
    assert "<script" not in drawn
    assert not re.search(r'\sstyle="', drawn)
