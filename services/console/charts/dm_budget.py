"""The dispersion measure of a burst, divided between what its light went through."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from services.console.charts import svg
from shared.physics.macquart import HOST_MEDIAN_PC_CM3

WIDTH, HEIGHT = 520.0, 118.0
LEFT, RIGHT = 12.0, 12.0
BAR_TOP, BAR_BOTTOM = 34.0, 70.0
LETTER = 7.2
# Units of width that a letter of a name inside of a part needs.
ROOM = 1.04
TICKS = 5
STEPS = (1.0, 2.0, 5.0, 10.0)


@dataclass(frozen=True)
class Part:
    """A part of a dispersion measure, from nearest to farthest."""

    style: str
    name: str
    dm_pc_cm3: float


@dataclass(frozen=True)
class Budget:
    """A dispersion measure and its parts; they add up to it unless the Milky Way's are more than all of it.

    Attributes
    ----------
    redshift
        Of the host's frame: measured, or else the mean that the excess allows.
    """

    dm_pc_cm3: float
    dm_err_pc_cm3: float | None
    parts: tuple[Part, ...]
    redshift: float

    @property
    def is_within_milky_way(self) -> bool:
        """Whether nothing is left for what is beyond."""
        return len(self.parts) == 2


def budget_of(measurement: Mapping[str, Any] | None) -> Budget | None:
    """Return the parts of a measurement's dispersion measure; None where it has none, or no position.

    The host's is what hosts typically add (Macquart et al. 2020, median of the fit), smaller by 1 + z at the observer
    and never more than there is; the cosmic web has the rest.
    """
    if measurement is None or measurement.get("dm_budget") is None or measurement.get("dm_pc_cm3") is None:
        return None
    known = measurement["dm_budget"]
    measured = measurement.get("redshift")
    redshift = float(known["redshift_mean"] if measured is None else measured)
    parts = [
        Part("ism", f"Milky Way ({known['dm_mw_ism_model']})", known["dm_mw_ism_pc_cm3"]),
        Part("halo", "Milky Way's halo", known["dm_mw_halo_pc_cm3"]),
    ]
    excess = known["dm_excess_pc_cm3"]
    if excess > 0:
        host = min(HOST_MEDIAN_PC_CM3 / (1 + redshift), excess)
        parts += [Part("cosmic", "Cosmic web", excess - host), Part("host", "Host galaxy", host)]
    return Budget(measurement["dm_pc_cm3"], measurement.get("dm_err_pc_cm3"), tuple(parts), redshift)


def dm_budget(budget: Budget) -> Markup:
    """Return a figure of a dispersion measure: its parts along a line, and a list of them."""
    end = max(budget.dm_pc_cm3 + (budget.dm_err_pc_cm3 or 0), sum(part.dm_pc_cm3 for part in budget.parts), 1.0) * ROOM
    scale = (WIDTH - LEFT - RIGHT) / end

    def place(dm_pc_cm3: float) -> float:
        return LEFT + dm_pc_cm3 * scale

    drawn: list[Markup] = []
    begin = 0.0
    for part in budget.parts:
        width = part.dm_pc_cm3 * scale
        drawn.append(_box(part, place(begin), width))
        name = part.name.partition(" (")[0]
        if width >= LETTER * (len(name) + 1):
            drawn.append(svg.text(place(begin) + width / 2, BAR_BOTTOM - 13, name, anchor="middle"))
        begin += part.dm_pc_cm3
    drawn += [*_whole(budget, place), *_axis(end, place)]
    sentence = "; ".join(f"{part.name} {part.dm_pc_cm3:.1f}" for part in budget.parts)
    image = svg.drawing(
        WIDTH,
        HEIGHT,
        drawn,
        style="dm",
        title=f"Where the dispersion measure of {budget.dm_pc_cm3:.5g} pc cm⁻³ comes from",
        description=f"In pc cm⁻³, from here to the source: {sentence}.",
    )
    legend = svg.legend((_sample(part), f"{part.name}: {part.dm_pc_cm3:.1f} pc cm⁻³") for part in budget.parts)
    return Markup('<figure class="chart dm-budget">{}<figcaption>{}</figcaption></figure>').format(image, legend)


def _box(part: Part, x: float, width: float) -> Markup:
    return Markup('<rect class="part {}" x="{}" y="{}" width="{}" height="{}"><title>{}</title></rect>').format(
        part.style,
        svg.number(x),
        svg.number(BAR_TOP),
        svg.number(max(width, 0.5)),
        svg.number(BAR_BOTTOM - BAR_TOP),
        f"{part.name}: {part.dm_pc_cm3:.1f} pc cm⁻³",
    )


def _sample(part: Part) -> Markup:
    return Markup('<rect class="part {}" x="2" y="1" width="24" height="14"/>').format(part.style)


def _whole(budget: Budget, place: Any) -> list[Markup]:
    x, error = place(budget.dm_pc_cm3), budget.dm_err_pc_cm3 or 0.0
    middle = BAR_TOP - 10
    lines = [Markup('<path class="bar" d="M{0} {1}V{2}"/>').format(svg.number(x), BAR_TOP - 16, BAR_BOTTOM + 4)]
    if error:
        low, high = svg.number(place(max(budget.dm_pc_cm3 - error, 0))), svg.number(place(budget.dm_pc_cm3 + error))
        lines.append(
            Markup('<path class="bar" d="M{0} {2}V{3}M{0} {4}H{1}M{1} {2}V{3}"/>').format(
                low, high, middle - 4, middle + 4, middle
            )
        )
    told = f"measured {budget.dm_pc_cm3:.5g}" + (f" ± {error:.2g}" if error else "")
    is_right = x > WIDTH / 2
    lines.append(svg.text(x - 6 if is_right else x + 6, BAR_TOP - 16, told, anchor="end" if is_right else "start"))
    return lines


def _axis(end: float, place: Any) -> list[Markup]:
    rough = end / TICKS
    power = 10.0 ** len(str(int(rough))) / 10 if rough >= 1 else 1.0
    step = next(power * step for step in STEPS if power * step >= rough or step == STEPS[-1])
    drawn = []
    for count in range(int(end / step) + 1):
        x = place(count * step)
        drawn.append(Markup('<path class="bar" d="M{0} {1}v6"/>').format(svg.number(x), BAR_BOTTOM + 2))
        anchor = "start" if count == 0 else "middle"
        drawn.append(svg.text(x, BAR_BOTTOM + 22, f"{count * step:g}", style="scale", anchor=anchor))
    drawn.append(svg.text(WIDTH - RIGHT, BAR_BOTTOM + 40, "dispersion measure (pc cm⁻³)", style="scale", anchor="end"))
    return drawn
