"""Drawings of the sky: all of it in Mollweide's projection, and close-ups.

Equatorial coordinates; right ascension grows to the left, as one sees it. Regions are drawn by asking, on a grid over
the drawing, which of it is inside, so outlines are right to about the grid's step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import contourpy
import numpy as np
from astropy_healpix import healpix_to_lonlat
from markupsafe import Markup
from numpy.typing import NDArray

from services.console.charts import svg
from services.console.charts.svg import Points
from shared.sky import healpix, projection, region
from shared.sky.healpix import FloatArray, Int64Array
from shared.sky.projection import Position
from shared.sky.skymap import SkyMap

LEVELS = (0.5, 0.9)
# Of credible regions.
GRID = 420
# Points along the longer side of what a region takes of a drawing.
WIDTH, HEIGHT = 800.0, 400.0
MARGIN = 34.0
FRAME = 400.0
FRAME_LEFT, FRAME_RIGHT, FRAME_TOP, FRAME_BOTTOM = 80.0, 14.0, 12.0, 44.0
SMALL = 14.0
# What is smaller than that many units in a drawing gets a mark around it.
RING = 10.0
CLOSE_UP_BELOW_DEG = 20.0
# Regions that reach farther from their middle are seen well enough on the whole sky.
AROUND = 1.35
# Half the width of a close-up, over how far what it shows reaches.
NARROWEST_DEG = 2e-4
REACH_RAD = 1.16
# Times 2^-order: no cell's corner is farther from its centre.

Inside = Callable[[FloatArray, FloatArray], FloatArray]


@dataclass(frozen=True, eq=False)
class Contours:
    """The 50 % and 90 % credible regions of a sky map.

    Attributes
    ----------
    style
        Class of the style sheet: `wave`, `burst` or `other`. It decides colour, line and mark.
    """

    skymap: SkyMap
    label: str
    style: str = "wave"


@dataclass(frozen=True)
class Ellipse:
    """An error ellipse; the position angle goes from north through east."""

    ra_deg: float
    dec_deg: float
    semi_major_deg: float
    semi_minor_deg: float
    position_angle_deg: float
    label: str
    style: str = "burst"


@dataclass(frozen=True)
class Point:
    """A position."""

    ra_deg: float
    dec_deg: float
    label: str
    style: str = "other"


@dataclass(frozen=True)
class View:
    """A close-up with what others see there.

    Attributes
    ----------
    picture
        Address of a picture of exactly this square, north up, in the projection ARC of FITS; None for none.
    objects
        Small marks, with their labels where one points at them.
    numbered
        How many of the objects have their number beside them, from 1.
    objects_label
        For the legend.
    """

    centre: Position
    half_width_deg: float
    picture: str | None = None
    objects: tuple[Point, ...] = ()
    numbered: int = 0
    objects_label: str = ""


Layer = Contours | Ellipse | Point


def sky(layers: Sequence[Layer], *, title: str, description: str, view: View | None = None) -> Markup:
    """Return a figure of the whole sky, beside it a close-up of what is small on it, with one legend.

    Later layers lie above earlier ones. The close-up is made to fit, unless a `view` is given.
    """
    images = [_whole(layers, title=title, description=description)]
    if view is None and (around := fit(layers)) is not None:
        view = View(*around)
    if view is not None:
        images.append(_near(layers, view, title=f"{title}, close-up", description=description))
    return _figure(images, layers, view)


def fit(layers: Sequence[Layer], *, below_deg: float = CLOSE_UP_BELOW_DEG) -> tuple[Position, float] | None:
    """Return centre and half width (deg) of a close-up of the smallest layer and all that lie on it; None for none."""
    extents = [_Extent.of(layer) for layer in layers]
    smallest = min(extents, key=lambda extent: extent.reach_deg, default=None)
    if smallest is None or smallest.reach_deg > below_deg:
        return None
    reach_deg = max(
        extent.reach_from(smallest.middle)
        for extent in extents
        if extent is smallest
        or (
            extent.distance_from(smallest.middle) < AROUND * max(extent.reach_deg, smallest.reach_deg)
            and extent.reach_from(smallest.middle) <= below_deg
        )
    )
    return smallest.middle, max(AROUND * reach_deg, NARROWEST_DEG)


def _whole(layers: Sequence[Layer], *, title: str, description: str) -> Markup:
    plane = _WholeSky()
    edge = svg.identity("edge", title, description)
    turn = np.linspace(0, 2 * np.pi, 181)
    outline = np.stack(plane.on_paper(2 * np.cos(turn), np.sin(turn)), axis=1)
    parts = [
        Markup('<clipPath id="{}"><path d="{}"/></clipPath>').format(edge, svg.path([outline], closed=True)),
        svg.shape([outline], style="ground", closed=True),
        svg.shape(_graticule(plane), style="graticule"),
        *(_drawn(layer, plane, inside=edge) for layer in layers),
        svg.shape([outline], style="edge", closed=True),
        *_hours(plane),
    ]
    return svg.drawing(WIDTH + 2 * MARGIN, HEIGHT + 16, parts, style="sky", title=title, description=description)


def _near(layers: Sequence[Layer], view: View, *, title: str, description: str) -> Markup:
    plane = _Surroundings(view.centre, view.half_width_deg)
    frame = svg.identity("frame", title, description, view)
    right, bottom = FRAME_LEFT + FRAME, FRAME_TOP + FRAME
    corners = [(FRAME_LEFT, FRAME_TOP), (right, FRAME_TOP), (right, bottom), (FRAME_LEFT, bottom)]
    border = np.array([*corners, corners[0]])
    lines, names = _net(plane)
    drawn = Markup("").join(_drawn(layer, plane, inside=frame) for layer in layers)
    parts = [
        Markup('<clipPath id="{}"><path d="{}"/></clipPath>').format(frame, svg.path([border], closed=True)),
        svg.shape([border], style="ground", closed=True),
        _picture(view),
        svg.shape(lines, style="graticule", inside=frame),
        # Seen on any picture: the same, dark and wider, beneath.
        Markup('<g class="beneath">{}</g>').format(drawn) if view.picture else Markup(""),
        drawn,
        Markup('<g class="objects">{}</g>').format(Markup("").join(_objects(view, plane))),
        svg.shape([border], style="edge", closed=True),
        *names,
        *_scale(plane),
    ]
    return svg.drawing(
        right + FRAME_RIGHT, bottom + FRAME_BOTTOM, parts, style="near", title=title, description=description
    )


def _picture(view: View) -> Markup:
    if view.picture is None:
        return Markup("")
    return Markup(
        '<image class="survey" href="{}" x="{}" y="{}" width="{}" height="{}" preserveAspectRatio="none"/>'
    ).format(view.picture, *map(svg.number, (FRAME_LEFT, FRAME_TOP, FRAME, FRAME)))


def _objects(view: View, plane: _Surroundings) -> Iterator[Markup]:
    for number, each in enumerate(view.objects, start=1):
        x, y = (float(value) for value in plane.to_paper(np.array(each.ra_deg), np.array(each.dec_deg)))
        yield _object(x, y, each.label)
        if number <= view.numbered:
            # Inside of the frame, too.
            is_left, is_low = x > FRAME_LEFT + FRAME - 24, y < FRAME_TOP + 14
            yield svg.text(
                x - 6 if is_left else x + 6,
                y + 12 if is_low else y - 4,
                str(number),
                style="object",
                anchor="end" if is_left else "start",
            )


def _object(x: float, y: float, label: str = "") -> Markup:
    return Markup('<circle class="object" cx="{}" cy="{}" r="4"><title>{}</title></circle>').format(
        svg.number(x), svg.number(y), label
    )


def _figure(images: Sequence[Markup], layers: Sequence[Layer], view: View | None = None) -> Markup:
    entries = [entry for layer in layers for entry in _entries(layer)]
    if view is not None and view.objects:
        entries.append((_object(14, 8), view.objects_label))
    return Markup('<figure class="chart"><div class="skies">{}</div><figcaption>{}</figcaption></figure>').format(
        Markup("").join(images), svg.legend(entries)
    )


class _Plane(Protocol):
    """A sheet of paper: x to the right, y down."""

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """Least x and y, greatest x and y."""
        ...

    def to_paper(self, ra_deg: FloatArray, dec_deg: FloatArray) -> tuple[FloatArray, FloatArray]: ...

    def to_sky(self, x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]: ...

    def is_beyond(self, x: FloatArray, y: FloatArray) -> NDArray[np.bool_]:
        """Which points are so far off the sky that nothing is drawn there."""
        ...

    def pieces(self, points: Points) -> list[Points]:
        """Cut a line where it leaves the paper on one side and comes back on the other."""
        ...

    def units_per_deg(self) -> float: ...


class _WholeSky:
    bounds = (MARGIN - 2, 6.0, MARGIN + WIDTH + 2, HEIGHT + 10)

    def on_paper(self, x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
        return MARGIN + WIDTH / 4 * (2 + x), 8 + HEIGHT / 2 * (1 - y)

    def to_paper(self, ra_deg: FloatArray, dec_deg: FloatArray) -> tuple[FloatArray, FloatArray]:
        return self.on_paper(*projection.to_mollweide(ra_deg, dec_deg))

    def to_sky(self, x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
        flat_x, flat_y = self._flat(x, y)
        # Beyond the edge it goes on as it is there, for outlines to run over it and be cut.
        beyond = np.maximum(np.hypot(flat_x / 2, flat_y), 1) * (1 + 1e-9)
        return projection.from_mollweide(flat_x / beyond, flat_y / beyond)

    def is_beyond(self, x: FloatArray, y: FloatArray) -> NDArray[np.bool_]:
        flat_x, flat_y = self._flat(x, y)
        beyond: NDArray[np.bool_] = np.hypot(flat_x / 2, flat_y) > 1.01
        return beyond

    def _flat(self, x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
        return (x - MARGIN) / (WIDTH / 4) - 2, 1 - (y - 8) / (HEIGHT / 2)

    def pieces(self, points: Points) -> list[Points]:
        jumps = np.flatnonzero(np.abs(np.diff(points[:, 0])) > WIDTH / 4) + 1
        return np.split(points, jumps)

    def units_per_deg(self) -> float:
        return WIDTH / 360


@dataclass(frozen=True)
class _Surroundings:
    centre: Position
    half_width_deg: float

    bounds = (FRAME_LEFT, FRAME_TOP, FRAME_LEFT + FRAME, FRAME_TOP + FRAME)

    def to_paper(self, ra_deg: FloatArray, dec_deg: FloatArray) -> tuple[FloatArray, FloatArray]:
        east, north, _ = projection.to_tangent_plane(ra_deg, dec_deg, self.centre)
        unit = self.units_per_deg()
        return FRAME_LEFT + FRAME / 2 - east * unit, FRAME_TOP + FRAME / 2 - north * unit

    def to_sky(self, x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
        unit = self.units_per_deg()
        east, north = (FRAME_LEFT + FRAME / 2 - x) / unit, (FRAME_TOP + FRAME / 2 - y) / unit
        return projection.from_tangent_plane(east, north, self.centre)

    def is_beyond(self, x: FloatArray, y: FloatArray) -> NDArray[np.bool_]:
        return np.zeros(np.broadcast_shapes(x.shape, y.shape), dtype=np.bool_)

    def pieces(self, points: Points) -> list[Points]:
        return [points]

    def units_per_deg(self) -> float:
        return FRAME / 2 / self.half_width_deg


# What a layer looks like.


def _drawn(layer: Layer, plane: _Plane, *, inside: str) -> Markup:
    if isinstance(layer, Contours):
        return _contours(layer, plane, inside=inside)
    if isinstance(layer, Ellipse):
        return _ellipse(layer, plane, inside=inside)
    x, y = (float(value) for value in plane.to_paper(np.array(layer.ra_deg), np.array(layer.dec_deg)))
    return _mark(x, y, plane, style=f"mark {layer.style}", label=layer.label, lines=_cross(x, y))


def _contours(layer: Contours, plane: _Plane, *, inside: str) -> Markup:
    skymap = _without_distances(layer.skymap)
    ra, dec, margin_deg = _cells_of_90(skymap)
    box = _box(plane, ra, dec, margin_deg)
    if box is None:
        return Markup("")
    parts = []
    if not box.is_dot:
        lines = _traced(plane, box, lambda *at: region.at_points(skymap, *at).credible_level, LEVELS[::-1])
        for level, outline in zip(LEVELS[::-1], lines, strict=True):
            label = f"{layer.label}, {level:.0%} region".replace("%", " %")
            style = f"region {layer.style} r{100 * level:.0f}"
            parts.append(svg.shape(outline, style=style, label=label, closed=True, inside=inside))
    if box.is_small:
        parts.append(_ring(box, plane, layer))
    return Markup("").join(parts)


def _ellipse(layer: Ellipse, plane: _Plane, *, inside: str) -> Markup:
    points = np.stack(plane.to_paper(*_around(layer)), axis=1)
    pieces = plane.pieces(points)
    style = f"region {layer.style} r90" if len(pieces) == 1 else f"region {layer.style} r90 cut"
    parts = [svg.shape(pieces, style=style, label=layer.label, closed=len(pieces) == 1, inside=inside)]
    x, y = (float(value) for value in plane.to_paper(np.array(layer.ra_deg), np.array(layer.dec_deg)))
    if len(pieces) == 1 and np.ptp(points, axis=0).max() < SMALL:
        parts.append(_mark(x, y, plane, style=f"mark {layer.style}", label=layer.label, lines=_diamond(x, y)))
    return Markup("").join(parts)


def _ring(box: _Box, plane: _Plane, layer: Contours) -> Markup:
    x, y = (box.x_0 + box.x_1) / 2, (box.y_0 + box.y_1) / 2
    return _mark(x, y, plane, style=f"mark {layer.style}", label=layer.label, lines=_circle(x, y, RING))


def _mark(x: float, y: float, plane: _Plane, *, style: str, label: str, lines: list[Points]) -> Markup:
    x_0, y_0, x_1, y_1 = plane.bounds
    if not (x_0 <= x <= x_1 and y_0 <= y <= y_1):
        return Markup("")
    return svg.shape(lines, style=style, label=label)


def _circle(x: float, y: float, radius: float) -> list[Points]:
    angle = np.linspace(0, 2 * np.pi, 33)
    return [np.stack([x + radius * np.cos(angle), y + radius * np.sin(angle)], axis=1)]


def _diamond(x: float, y: float, size: float = 8.0) -> list[Points]:
    return [np.array([[x - size, y], [x, y - size], [x + size, y], [x, y + size], [x - size, y]])]


def _cross(x: float, y: float, size: float = 8.0) -> list[Points]:
    gap = size / 4
    arms = [(-size, 0, -gap, 0), (gap, 0, size, 0), (0, -size, 0, -gap), (0, gap, 0, size)]
    return [np.array([[x + a, y + b], [x + c, y + d]]) for a, b, c, d in arms]


def _entries(layer: Layer) -> list[tuple[Markup, str]]:
    whole = [np.array([[3, 3], [25, 3], [25, 13], [3, 13], [3, 3]], dtype=np.float64)]
    if isinstance(layer, Contours):
        return [
            (svg.shape(whole, style=f"region {layer.style} r{name}", closed=True), f"{layer.label}: {name} % region")
            for name in ("50", "90")
        ]
    if isinstance(layer, Point):
        return [(svg.shape(_cross(14, 8, 6), style=f"mark {layer.style}"), layer.label)]
    return [(svg.shape(whole, style=f"region {layer.style} r90", closed=True), layer.label)]


# Where a layer is.


@dataclass(frozen=True)
class _Extent:
    """The middle of a layer, and how far it reaches from there."""

    ra_deg: FloatArray
    dec_deg: FloatArray
    margin_deg: FloatArray
    middle: Position

    @classmethod
    def of(cls, layer: Layer) -> _Extent:
        if isinstance(layer, Contours):
            ra, dec, margin = _cells_of_90(_without_distances(layer.skymap))
            return cls(ra, dec, margin, _middle(ra, dec))
        if isinstance(layer, Ellipse):
            ra, dec = _around(layer)
            return cls(ra, dec, np.zeros(len(ra)), (layer.ra_deg, layer.dec_deg))
        at = (layer.ra_deg, layer.dec_deg)
        return cls(np.array([at[0]]), np.array([at[1]]), np.zeros(1), at)

    @property
    def reach_deg(self) -> float:
        return self.reach_from(self.middle)

    def distance_from(self, centre: Position) -> float:
        """Distance of the middle from a position."""
        return float(projection.to_tangent_plane(*self.middle, centre)[2])

    def reach_from(self, centre: Position) -> float:
        """Farthest distance from a position."""
        if not len(self.ra_deg):
            return float("inf")
        return float((projection.to_tangent_plane(self.ra_deg, self.dec_deg, centre)[2] + self.margin_deg).max())


def _middle(ra_deg: FloatArray, dec_deg: FloatArray) -> Position:
    ra, dec = np.radians(ra_deg), np.radians(dec_deg)
    x, y, z = (float(part.sum()) for part in (np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)))
    return float(np.degrees(np.arctan2(y, x))) % 360, float(np.degrees(np.arctan2(z, np.hypot(x, y))))


def _without_distances(skymap: SkyMap) -> SkyMap:
    # Whoever looks a map up gets the distance there too, which takes longer than all the rest.
    return replace(skymap, distmu=None, distsigma=None, distnorm=None)


def _cells_of_90(skymap: SkyMap) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Centres of the cells of the 90 % region, the one on its border with them, and how far each reaches (deg)."""
    ranked = np.argsort(-skymap.probdensity, kind="stable")
    held = np.cumsum(skymap.probability[ranked])
    inside = ranked[: int(np.searchsorted(held, LEVELS[-1])) + 1]
    return _centres(skymap.start[inside], skymap.order[inside])


def _centres(start: Int64Array, order: Int64Array) -> tuple[FloatArray, FloatArray, FloatArray]:
    ipix = start >> 2 * (healpix.MAX_ORDER - order)
    ra, dec = healpix_to_lonlat(ipix, np.left_shift(1, order), order="nested")
    return ra.deg, dec.deg, np.degrees(REACH_RAD / 2.0**order)


def _around(ellipse: Ellipse) -> tuple[FloatArray, FloatArray]:
    """Positions on the edge: of distance and direction from the centre as in `shared.sky.localisation.Ellipse`."""
    angle, turn = np.linspace(0, 2 * np.pi, 121), np.radians(ellipse.position_angle_deg)
    along, across = ellipse.semi_major_deg * np.cos(angle), ellipse.semi_minor_deg * np.sin(angle)
    east, north = along * np.sin(turn) + across * np.cos(turn), along * np.cos(turn) - across * np.sin(turn)
    return projection.from_tangent_plane(east, north, (ellipse.ra_deg, ellipse.dec_deg))


# Outlines.


@dataclass(frozen=True)
class _Box:
    """What a region takes of the paper; more of it, never less."""

    x_0: float
    y_0: float
    x_1: float
    y_1: float

    @property
    def size(self) -> float:
        return max(self.x_1 - self.x_0, self.y_1 - self.y_0)

    @property
    def is_small(self) -> bool:
        return self.size < SMALL

    @property
    def is_dot(self) -> bool:
        return self.size < 0.5


def _box(plane: _Plane, ra_deg: FloatArray, dec_deg: FloatArray, margin_deg: FloatArray) -> _Box | None:
    x, y = plane.to_paper(ra_deg, dec_deg)
    # Mollweide's projection stretches widths near the poles; there the paper ends.
    reach = 2 * margin_deg * plane.units_per_deg()
    x_0, y_0, x_1, y_1 = plane.bounds
    left, right = max(x_0, float((x - reach).min())), min(x_1, float((x + reach).max()))
    top, bottom = max(y_0, float((y - reach).min())), min(y_1, float((y + reach).max()))
    return _Box(left, top, right, bottom) if left < right and top < bottom else None


def _traced(plane: _Plane, box: _Box, values_at: Inside, levels: Sequence[float]) -> list[list[Points]]:
    """Closed outlines of where a function of the sky is below each of some levels."""
    step = box.size / GRID
    x = np.arange(box.x_0 - step, box.x_1 + 2 * step, step)
    y = np.arange(box.y_0 - step, box.y_1 + 2 * step, step)
    grid_x, grid_y = np.meshgrid(x, y)
    values = values_at(*plane.to_sky(grid_x, grid_y))
    values[plane.is_beyond(grid_x, grid_y)] = 1.0
    # Outlines close at the end of the grid, which is outside of the region or of the paper.
    values[[0, -1], :] = values[:, [0, -1]] = 1.0
    generator = contourpy.contour_generator(x, y, values, line_type=contourpy.LineType.Separate)
    return [[np.asarray(line) for line in generator.lines(level)] for level in levels]


# Nets of coordinates.


def _graticule(plane: _WholeSky) -> list[Points]:
    dec, ra = np.linspace(-90, 90, 91), projection.CENTRE_RA_DEG + np.linspace(179.999, -179.999, 121)
    meridians = [np.stack(plane.to_paper(np.full(91, float(at)), dec), axis=1) for at in range(30, 360, 30)]
    parallels = [np.stack(plane.to_paper(ra, np.full(121, float(at))), axis=1) for at in range(-60, 90, 30)]
    return meridians + parallels


def _hours(plane: _WholeSky) -> list[Markup]:
    labels = []
    for ra_deg in range(60, 360, 60):
        x, y = plane.to_paper(np.array(float(ra_deg)), np.array(0.0))
        labels.append(svg.text(float(x) + 4, float(y) - 5, f"{ra_deg // 15}h", style="scale"))
    for dec_deg in range(-60, 90, 30):
        x, y = plane.to_paper(np.array(projection.CENTRE_RA_DEG - 179.999), np.array(float(dec_deg)))
        name = f"{dec_deg:+d}°".replace("-", "\N{MINUS SIGN}") if dec_deg else "0°"
        labels.append(svg.text(float(x) + 5, float(y) + 4, name, style="scale"))
    return labels


def _net(plane: _Surroundings) -> tuple[list[Points], list[Markup]]:
    """Meridians and parallels, labelled at the lower and the left edge."""
    (ra_0, dec_0), half = plane.centre, plane.half_width_deg
    reach = 1.5 * half
    dec_low, dec_high = max(dec_0 - reach, -90.0), min(dec_0 + reach, 90.0)
    cosine = np.cos(np.radians(min(abs(dec_0) + reach, 90.0)))
    span = min(reach / cosine, 180.0) if cosine > 0 else 180.0
    dec_step = _step(0.6 * half)
    ra_step = min(_step(0.7 * half / max(float(np.cos(np.radians(dec_0))), 1e-3)), 30.0)
    dec, ra = np.linspace(dec_low, dec_high, 81), ra_0 + np.linspace(-span, span, 161)
    lines: list[Points] = []
    names: list[Markup] = []
    bottom, left = FRAME_TOP + FRAME, FRAME_LEFT
    for at in _multiples(ra_0 - span, ra_0 + span, ra_step):
        line = np.stack(plane.to_paper(np.full(81, at), dec), axis=1)
        lines.append(line)
        x = _crossing(line[:, 1], line[:, 0], bottom)
        if x is not None and FRAME_LEFT + 8 < x < FRAME_LEFT + FRAME - 8:
            names.append(svg.text(x, bottom + 16, f"{_degrees(at % 360, ra_step)}°", style="scale", anchor="middle"))
    for at in _multiples(dec_low, dec_high, dec_step):
        line = np.stack(plane.to_paper(ra, np.full(161, at)), axis=1)
        lines.append(line)
        y = _crossing(line[:, 0], line[:, 1], left)
        if y is not None and FRAME_TOP + 6 < y < FRAME_TOP + FRAME - 2:
            name = f"{at:{'+' if round(at / dec_step) else ''}.{_decimals(dec_step)}f}°"
            name = name.replace("-", "\N{MINUS SIGN}")
            names.append(svg.text(left - 5, y + 4, name, style="scale", anchor="end"))
    return lines, names


def _scale(plane: _Surroundings) -> list[Markup]:
    length_deg = _step(plane.half_width_deg / 2)
    units = length_deg * plane.units_per_deg()
    x, y = FRAME_LEFT + 12, FRAME_TOP + FRAME - 14
    bar = np.array([[x, y - 4], [x, y + 4], [x, y], [x + units, y], [x + units, y - 4], [x + units, y + 4]])
    right = FRAME_LEFT + FRAME
    return [
        svg.shape([bar], style="bar"),
        svg.text(x + units / 2, y - 7, angle(length_deg), style="scale inside", anchor="middle"),
        svg.text(right, FRAME_TOP + FRAME + 36, "right ascension", style="scale", anchor="end"),
        svg.text(FRAME_LEFT + 8, FRAME_TOP + 18, "N up, E left", style="scale inside"),
    ]


def angle(value_deg: float) -> str:
    """Return an angle in the unit in which it is a handy number."""
    for factor, unit in ((1, "°"), (60, "\N{PRIME}"), (3600, "\N{DOUBLE PRIME}")):
        if value_deg * factor >= 0.999 or factor == 3600:
            return f"{value_deg * factor:.3g}{unit}"
    raise AssertionError


def _step(about: float) -> float:
    """The largest of 1, 2 or 5 times a power of ten that is not above."""
    power = 10.0 ** np.floor(np.log10(about))
    return float(next(power * factor for factor in (5, 2, 1) if power * factor <= about * (1 + 1e-9)))


def _multiples(low: float, high: float, step: float) -> list[float]:
    return [step * count for count in range(int(np.ceil(low / step)), int(np.floor(high / step)) + 1)]


def _decimals(step: float) -> int:
    return max(0, -int(np.floor(np.log10(step) + 1e-9)))


def _degrees(value: float, step: float) -> str:
    return f"{value:.{_decimals(step)}f}"


def _crossing(along: FloatArray, across: FloatArray, at: float) -> float | None:
    """Where a line crosses an edge, the first time."""
    crosses = np.flatnonzero((along[:-1] - at) * (along[1:] - at) <= 0)
    if not len(crosses):
        return None
    first = int(crosses[0])
    run = along[first + 1] - along[first]
    part = (at - along[first]) / run if run else 0.0
    return float(across[first] + part * (across[first + 1] - across[first]))
