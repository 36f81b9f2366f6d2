"""What superevent pages say of numbers."""

import pytest

from services.console.charts.histogram import histogram
from services.console.superevents import SECONDS_PER_YEAR, far_text, short


@pytest.mark.parametrize(
    ("far_hz", "text"),
    [
        (3.218261352069347e-10, "1 per 98.5 yr"),
        (9.11069936486e-14, "1 per 3.48 \N{MULTIPLICATION SIGN} 10⁵ yr"),
        (1 / SECONDS_PER_YEAR, "1 per 1 yr"),
        (1 / 86_400, "1 per 1 d"),
        (1 / 7200, "1 per 2 h"),
        (1 / 90, "1 per 1.5 min"),
        (2.0, "2 per s"),
        (0.0, "0"),
        (5e-324, "0"),
        (None, None),
        (float("nan"), None),
        (float("inf"), None),
        (-1.0, None),
    ],
)
def test_a_false_alarm_rate_is_one_in_how_long(far_hz: float | None, text: str | None) -> None:
    assert far_text(far_hz) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (1.2345, "1.23"), (1234.5, "1234"), (-1e-5, "-1.00 \N{MULTIPLICATION SIGN} 10⁻⁵")]
)
def test_numbers_have_three_digits(value: float, text: str) -> None:
    assert short(value) == text


def test_a_chirp_mass_histogram_is_drawn_where_there_is_one() -> None:
    drawn = histogram([0, 1, 2, 4], [0.1, 0.7, 0.2], title="<i>", x_label="Mass")
    assert drawn is not None
    assert drawn.count('class="column"') == 3
    assert "&lt;i&gt;" in drawn
    assert "the largest, 0.7, is from 1 to 2" in drawn


@pytest.mark.parametrize(
    ("edges", "values"), [([0, 1], [0.1, 0.7]), ([0, 1, 1], [0.1, 0.7]), ([0, 1], [0.0]), ([], []), ([0, 1], [-1.0])]
)
def test_what_is_no_histogram_is_not_drawn(edges: list[float], values: list[float]) -> None:
    assert histogram(edges, values, title="", x_label="") is None
