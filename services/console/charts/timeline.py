"""A wave and a burst in time, with the windows in which they are compared.

Times of seconds and of a day lie on one axis: within `LINEAR_S` it is even, beyond it each power of ten takes as much.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from services.console.charts import svg
from services.console.charts.svg import Points

WIDTH, LEFT, RIGHT = 800.0, 14.0, 14.0
ROW, TOP, AXIS = 28.0, 12.0, 48.0
LINEAR_S = 1.0
TICKS_S = {
    1.0: "1 s", 10.0: "10 s", 60.0: "1 min", 600.0: "10 min", 3600.0: "1 h", 6 * 3600.0: "6 h", 86_400.0: "1 d",
    10 * 86_400.0: "10 d", 100 * 86_400.0: "100 d", 1000 * 86_400.0: "1000 d",
}  # fmt: skip
LEAST_APART = 62.0
# Units between the labels of two ticks.
WIDEST = 20.0
# Bar of an error that the mark of the burst covers.


@dataclass(frozen=True)
class Window:
    """A window of time, as the burst less the wave (s)."""

    name: str
    low_s: float
    high_s: float
    holds: bool


def timeline(offset_s: float, err_s: float, windows: Sequence[Window], *, title: str, description: str) -> Markup:
    """Return a figure of when the burst came after the wave (s), with its error, over windows of time."""
    ends = [0.0, offset_s - 3 * err_s, offset_s + 3 * err_s]
    ends += [end for window in windows for end in (window.low_s, window.high_s)]
    low, high = _scaled(min(ends)), _scaled(max(ends))
    room = 0.06 * max(high - low, 1.0)
    low, high = low - room, high + room
    scale = (WIDTH - LEFT - RIGHT) / (high - low)

    def at(seconds: float) -> float:
        return LEFT + (_scaled(seconds) - low) * scale

    bottom = TOP + ROW * (len(windows) + 2)
    ticks = _ticks(at)
    parts = [
        svg.shape([_line(at(seconds), TOP, at(seconds), bottom) for seconds, _ in ticks], style="graticule"),
    ]
    for number, window in enumerate(windows):
        y = TOP + ROW * number
        style = "window holds" if window.holds else "window"
        label = f"{window.name} window: {_seconds(window.low_s)} to {_seconds(window.high_s)}"
        box = _box(at(window.low_s), y + 3, at(window.high_s), y + ROW - 3)
        parts.append(svg.shape([box], style=style, label=label, closed=True))
        middle = (at(window.low_s) + at(window.high_s)) / 2
        name = f"{window.name} window" + (", holds it" if window.holds else "")
        anchor = "start" if middle < WIDTH / 4 else "end" if middle > 3 * WIDTH / 4 else "middle"
        parts.append(svg.text(middle, y + ROW - 8, name, anchor=anchor))
    y_wave, y_burst = TOP + ROW * (len(windows) + 0.5), TOP + ROW * (len(windows) + 1.5)
    turn = np.linspace(0, 2 * np.pi, 25)
    circle = np.stack([at(0) + 7 * np.cos(turn), y_wave + 7 * np.sin(turn)], axis=1)
    left, right = at(offset_s - err_s), at(offset_s + err_s)
    diamond = np.array([[-8, 0], [0, -8], [8, 0], [0, 8], [-8, 0]]) + np.array([at(offset_s), y_burst])
    parts += [
        svg.shape([_line(at(0), TOP, at(0), bottom)], style="edge"),
        svg.shape([circle], style="mark wave", label="the wave"),
        svg.shape([_box(left, y_burst - 4, right, y_burst + 4)] if right - left > WIDEST else [],
                  style="region burst r90", label=f"its error, {err_s:.2g} s", closed=True),
        svg.shape([diamond], style="mark burst", label=f"the burst, {_seconds(offset_s)}"),
        _beside(at(0), y_wave, "gravitational wave"),
        _beside(at(offset_s), y_burst, "burst"),
        *(svg.text(at(seconds), bottom + 16, name, style="scale", anchor="middle") for seconds, name in ticks),
        svg.text(WIDTH / 2, bottom + 36, "burst less wave: before the wave to the left, after it to the right",
                 style="scale", anchor="middle"),
    ]  # fmt: skip
    image = svg.drawing(WIDTH, bottom + AXIS, parts, style="times", title=title, description=description)
    return Markup('<figure class="chart">{}</figure>').format(image)


def _scaled(seconds: float) -> float:
    return math.asinh(seconds / LINEAR_S)


def _ticks(at: Callable[[float], float]) -> list[tuple[float, str]]:
    chosen = [(0.0, "0")]
    marks = [(sign * seconds, f"{'+' if sign > 0 else chr(0x2212)}{name}") for seconds, name in TICKS_S.items()
             for sign in (1, -1)]  # fmt: skip
    for seconds, name in marks:
        x = at(seconds)
        inside = LEFT + 20 <= x <= WIDTH - RIGHT - 20
        if inside and all(abs(x - at(other)) >= LEAST_APART for other, _ in chosen):
            chosen.append((seconds, name))
    return chosen


def _seconds(seconds: float) -> str:
    return f"{seconds:+.4g} s".replace("-", "\N{MINUS SIGN}")


def _beside(x: float, y: float, name: str) -> Markup:
    right = x < WIDTH * 0.7
    return svg.text(x + (14 if right else -14), y + 5, name, anchor="start" if right else "end")


def _line(x_0: float, y_0: float, x_1: float, y_1: float) -> Points:
    return np.array([[x_0, y_0], [x_1, y_1]])


def _box(x_0: float, y_0: float, x_1: float, y_1: float) -> Points:
    return np.array([[x_0, y_0], [x_1, y_0], [x_1, y_1], [x_0, y_1], [x_0, y_0]])
