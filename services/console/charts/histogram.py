"""A histogram: bars over bins that somebody else made."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from markupsafe import Markup

from services.console.charts import svg

WIDTH, HEIGHT = 420.0, 180.0
LEFT, RIGHT, TOP, BOTTOM = 46.0, 10.0, 10.0, 44.0
MAX_BINS = 500
MAX_LABELS = 8


def histogram(edges: Sequence[float], values: Sequence[float], *, title: str, x_label: str) -> Markup | None:
    """Return a figure of probabilities per bin; None for what is no histogram of at most `MAX_BINS` bins."""
    pairs = list(pairwise(edges))
    if not 0 < len(values) <= MAX_BINS or len(pairs) != len(values) or any(low >= high for low, high in pairs):
        return None
    largest = max(values)
    if largest <= 0 or min(values) < 0:
        return None
    width, height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    bottom = TOP + height

    def x(value: float) -> float:
        return LEFT + width * (value - edges[0]) / (edges[-1] - edges[0])

    bars = [
        Markup('<rect class="column" x="{}" y="{}" width="{}" height="{}"><title>{}</title></rect>').format(
            svg.number(x(low)),
            svg.number(bottom - height * value / largest),
            svg.number(x(high) - x(low)),
            svg.number(height * value / largest),
            f"{low:g} to {high:g}: {value:.3g}",
        )
        for (low, high), value in zip(pairs, values, strict=True)
    ]
    step = -(-len(edges) // MAX_LABELS)
    labels = [svg.text(x(edge), bottom + 16, f"{edge:g}", anchor="middle") for edge in edges[::step]]
    axis = Markup('<path class="edge" d="M{} {}H{}M{} {}V{}"/>').format(
        svg.number(LEFT),
        svg.number(bottom),
        svg.number(LEFT + width),
        svg.number(LEFT),
        svg.number(TOP),
        svg.number(bottom),
    )
    parts = [
        *bars,
        axis,
        *labels,
        svg.text(LEFT - 6, TOP + 10, f"{largest:.2g}", anchor="end"),
        svg.text(LEFT - 6, bottom, "0", anchor="end"),
        svg.text(LEFT + width / 2, HEIGHT - 8, x_label, anchor="middle"),
    ]
    peak = max(range(len(values)), key=lambda at: values[at])
    description = f"Probability per bin; the largest, {largest:.2g}, is from {edges[peak]:g} to {edges[peak + 1]:g}."
    drawn = svg.drawing(WIDTH, HEIGHT, parts, style="histogram", title=title, description=description)
    return Markup('<figure class="chart">{}</figure>').format(drawn)
