"""Writing SVG: short paths, and drawings that say in words what they show."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from typing import Any

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

Points = NDArray[np.float64]
# x and y of the corners of a line, in two columns.


def number(value: float) -> str:
    """Return a coordinate, to a tenth."""
    return f"{round(value, 1) + 0.0:g}"


def path(lines: Iterable[Points], *, closed: bool = False) -> str:
    """Return the `d` of a path through these lines, to a tenth of a unit; where nothing turns, nothing is written."""
    return "".join(_line(points, closed=closed) for points in lines)


def _line(points: Points, *, closed: bool) -> str:
    tenths = np.round(np.asarray(points) * 10).astype(np.int64)
    step = np.diff(tenths, axis=0)
    moves = np.flatnonzero(step.any(axis=1))
    if len(moves) == 0:
        return ""
    step = step[moves]
    # Steps in one direction are one step.
    cross = step[:-1, 0] * step[1:, 1] - step[:-1, 1] * step[1:, 0]
    turns = np.flatnonzero((cross != 0) | ((step[:-1] * step[1:]).sum(axis=1) < 0))
    ends = np.cumsum(step, axis=0)[np.append(turns, len(step) - 1)]
    step = np.diff(ends, axis=0, prepend=np.zeros((1, 2), dtype=np.int64))
    x, y = tenths[0] / 10
    return f"M{x:g} {y:g}l" + " ".join(f"{dx:g} {dy:g}" for dx, dy in (step / 10).tolist()) + ("z" if closed else "")


def shape(lines: Iterable[Points], *, style: str, label: str = "", closed: bool = False, inside: str = "") -> Markup:
    """Return a path of a class of the style sheet; `label` shows where one points at it."""
    drawn = path(lines, closed=closed)
    if not drawn:
        return Markup("")
    clip = Markup(' clip-path="url(#{})"').format(inside) if inside else Markup("")
    title = Markup("<title>{}</title>").format(label) if label else Markup("")
    return Markup('<path class="{}" d="{}"{}>{}</path>').format(style, drawn, clip, title)


def text(x: float, y: float, content: str, *, style: str = "", anchor: str = "start") -> Markup:
    """Return a text."""
    return Markup('<text class="{}" x="{}" y="{}" text-anchor="{}">{}</text>').format(
        style, number(x), number(y), anchor, content
    )


def drawing(
    width: float, height: float, parts: Iterable[Markup], *, style: str, title: str, description: str
) -> Markup:
    """Return an SVG image that says what it shows."""
    name = identity(style, title, description)
    return Markup(
        '<svg class="{}" viewBox="0 0 {} {}" role="img" aria-labelledby="{}-t {}-d">'
        '<title id="{}-t">{}</title><desc id="{}-d">{}</desc>{}</svg>'
    ).format(
        style, number(width), number(height), name, name, name, title, name, description, Markup("").join(parts)
    )  # fmt: skip


def identity(*facts: Any) -> str:
    """Return a name for parts of a page, the same for the same facts."""
    return "d" + sha256(repr(facts).encode()).hexdigest()[:10]


def legend(entries: Iterable[tuple[Markup, str]]) -> Markup:
    """Return a list of what a drawing shows: samples of 28 by 16, and their names."""
    items = [
        Markup(
            '<li><svg class="sample" viewBox="0 0 28 16" width="28" height="16" aria-hidden="true">{}</svg>{}</li>'
        ).format(sample, escape(name))
        for sample, name in entries
    ]
    return Markup('<ul class="legend">{}</ul>').format(Markup("").join(items))
