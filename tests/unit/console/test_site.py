"""What templates make of values: times with ages, numbers with units and errors, and a dash for what is not known."""

import json
import math
import re
import shutil
import subprocess
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import UndefinedError

from services.console.settings import ConsoleSection
from services.console.site import (
    HERE,
    UNKNOWN,
    Pages,
    age_html,
    age_text,
    known_html,
    number_html,
    static_url,
    time_html,
)

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
AGES = {
    0: "0 s ago",
    59: "59 s ago",
    60: "1 min ago",
    3599: "59 min ago",
    3600: "1 h ago",
    86_399: "23 h ago",
    86_400: "1 d ago",
    364 * 86_400: "364 d ago",
    3 * 365.25 * 86_400: "3.0 yr ago",
    -5: "in 5 s",
    -7200: "in 2 h",
}


def plain(html: str) -> str:
    return re.sub(r"<[^>]+>", "", html)


@pytest.mark.parametrize(("seconds", "text"), AGES.items())
def test_ages_are_said_in_the_largest_unit(seconds: float, text: str) -> None:
    assert age_text(NOW - timedelta(seconds=seconds), NOW) == text


@pytest.mark.skipif(shutil.which("node") is None, reason="without Node.js the browser's part is tested in the browser")
def test_the_browser_says_ages_as_the_server_does(tmp_path: Path) -> None:
    script = (HERE / "static" / "console.js").read_text("utf-8")
    text = script[script.index("const MINUTE_S") : script.index("const MAX_LINES")]
    text += script[script.index("function ageText") : script.index("function refreshAges")]
    text += f"console.log(JSON.stringify({json.dumps(list(AGES))}.map((s) => ageText(Date.now() - s * 1000))));"
    file = tmp_path / "ages.js"
    file.write_text(text, "utf-8")
    told = subprocess.run(["node", str(file)], capture_output=True, check=True, timeout=30).stdout
    assert json.loads(told) == list(AGES.values())


def test_a_time_is_told_in_utc_with_its_age() -> None:
    html = time_html(datetime(2023, 5, 18, 14, 59, 8, tzinfo=timezone(timedelta(hours=2))).astimezone(UTC))
    assert plain(html).startswith("2023-05-18 12:59:08 UTC")
    assert plain(html).endswith("yr ago")
    assert 'data-since="2023-05-18T12:59:08+00:00"' in html


def test_a_time_as_json_has_it_is_the_same() -> None:
    assert plain(time_html("2023-05-18T12:59:08Z")) == plain(time_html(datetime(2023, 5, 18, 12, 59, 8, tzinfo=UTC)))
    assert 'title="2023-05-18 12:59:08 UTC"' in age_html("2023-05-18T12:59:08Z")


def test_a_time_without_a_zone_is_utc_as_everywhere_here() -> None:
    assert plain(time_html("2023-05-18T12:59:08")).startswith("2023-05-18 12:59:08 UTC")


@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf])
def test_a_number_that_is_none_is_not_known(value: float | None) -> None:
    assert number_html(value, "Jy") == UNKNOWN


@pytest.mark.parametrize("value", [None, ""])
def test_a_text_that_is_none_is_not_known(value: str | None) -> None:
    assert known_html(value) == UNKNOWN
    assert 'title="not known"' in UNKNOWN


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (0, None, "0 Jy"),
        (411.0, None, "411 Jy"),
        (411.04, 0.123, "411 ± 0.12 Jy"),
        (-12.5, None, "−12.5 Jy"),
        (123_456.7, None, "123457 Jy"),
        (1.234e-9, None, "1.23e−09 Jy"),
        (5e9, None, "5.00e+09 Jy"),
        (2.5, math.nan, "2.5 Jy"),
        (2.5, 0.0, "2.5 ± 0 Jy"),
    ],
)
def test_a_number_has_its_error_and_unit(value: float, error: float | None, text: str) -> None:
    assert plain(number_html(value, "Jy", error)) == text


@given(st.floats(), st.floats() | st.none(), st.integers(2, 10))
def test_no_number_is_told_as_anything_but_digits(value: float, error: float | None, digits: int) -> None:
    text = plain(number_html(value, "", error, digits))
    assert re.fullmatch(r"–|[−+\d.e ±]+", text), text
    # Rounding up the very greatest leaves the floats.
    if value and abs(value) < 1e308 and text != "–":
        told = float(text.partition(" ±")[0].replace("−", "-"))
        assert told == pytest.approx(value, rel=0.5 * 10 ** (1 - max(digits - 1, 2)))


@given(st.text())
def test_texts_and_units_bring_no_markup(text: str) -> None:
    for html in (known_html(text) if text else "", number_html(1.0, text)):
        assert "<script" not in html
        assert text == "" or not re.search(r"<(?!/?span)", str(html))


def test_files_have_addresses_that_change_with_them() -> None:
    assert re.fullmatch(r"/static/console\.css\?v=[0-9a-f]{12}", static_url("console.css"))
    with pytest.raises(KeyError):
        static_url("nothing.js")


def test_a_template_that_lacks_something_is_an_error() -> None:
    with pytest.raises(UndefinedError):
        Pages(ConsoleSection()).text("_line.html")


@pytest.mark.parametrize("template", sorted(path.name for path in (HERE / "templates").glob("*.html")))
def test_templates_have_neither_scripts_nor_styles_inside(template: str) -> None:
    text = (HERE / "templates" / template).read_text("utf-8")
    assert not re.search(r"\sstyle=|<style|\son[a-z]+=|hx-on|javascript:", text)
    assert all("src=" in tag for tag in re.findall(r"<script[^>]*>", text))
    assert "| safe" not in text
