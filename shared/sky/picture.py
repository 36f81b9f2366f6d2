"""An all-sky picture of a sky map, for people."""

import io
from typing import Any

import astropy_healpix
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from shared.sky import projection, region
from shared.sky.healpix import MAX_ORDER, FloatArray
from shared.sky.projection import Position
from shared.sky.region import Region
from shared.sky.skymap import SkyMap

FIGURE_INCHES = (9.6, 5.4)
DOTS_PER_INCH = 130
SKY_PIXELS = (1200, 600)
CLOSE_UP_PIXELS = 360
CLOSE_UP_BELOW_DEG2 = 600.0
# A 90 % region smaller than this is a few pixels of the whole sky.
LEVELS = (0.5, 0.9)
LEVEL_STYLES = (("50 %", "#ffffff"), ("90 %", "#5ad1ff"))
COLOUR_MAP = "magma"
INK = "#20242c"
GRID = "#97a0b0"
MARK = "#3ddc84"


def draw(skymap: SkyMap, *, title: str = "") -> bytes:
    """A PNG: the sky in Mollweide projection (equatorial, RA growing to the left), density, 50 % and 90 % contours.

    The most probable position is marked; the caption tells areas, distance and time. Small regions get a close-up.
    """
    regions = region.credible_regions(skymap, LEVELS)
    peak = region.most_probable_position_deg(skymap)
    figure = Figure(figsize=FIGURE_INCHES, dpi=DOTS_PER_INCH, facecolor="white")
    FigureCanvasAgg(figure)
    # Names from outside are no formulae.
    plain: dict[str, Any] = {"color": INK, "va": "center", "parse_math": False}
    figure.text(0.03, 0.945, title or skymap.object_name or "Sky map", size=15, weight="bold", **plain)
    for line, text in enumerate(_caption(skymap, regions, peak)):
        figure.text(0.03, 0.125 - 0.042 * line, text, size=9.5, **plain)
    if regions[-1].area_deg2 < CLOSE_UP_BELOW_DEG2:
        _draw_sky(figure.add_axes((0.02, 0.17, 0.655, 0.73)), skymap, peak)
        _draw_close_up(figure.add_axes((0.70, 0.235, 0.275, 0.60)), skymap, regions[-1], peak)
    else:
        _draw_sky(figure.add_axes((0.02, 0.16, 0.96, 0.75)), skymap, peak)
    _draw_legend(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    # Its parts hold each other: without this a worker keeps a dozen pictures until the collector comes.
    figure.clear()
    return buffer.getvalue()


def _caption(skymap: SkyMap, regions: tuple[Region, ...], peak: Position) -> list[str]:
    areas = [
        f"{name} area {_rounded(part.area_deg2)} deg²" for (name, _), part in zip(LEVEL_STYLES, regions, strict=True)
    ]
    distance = region.distance(skymap)
    far = "no distance"
    if distance is not None:
        spread = "" if distance.std_mpc is None else f" ± {_rounded(distance.std_mpc)}"
        far = f"distance {_rounded(distance.mean_mpc)}{spread} Mpc"
    minutes = round(peak[0] * 4)
    position = f"Most probable: RA {peak[0]:.3f}° ({minutes // 60 % 24}h {minutes % 60:02d}m), Dec {peak[1]:+.3f}°"
    facts = [f"{skymap.date_obs:%Y-%m-%d %H:%M:%S} UTC" if skymap.date_obs else "time unknown"]
    facts += [", ".join(skymap.instruments)] if skymap.instruments else []
    facts += [f"map covers {skymap.sky_coverage:.3g} of the sky"] if skymap.sky_coverage < 0.9995 else []
    return [" · ".join([*areas, far]), position, " · ".join(facts)]


def _rounded(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _draw_legend(figure: Figure) -> None:
    lines = [Line2D([], [], color=colour, linewidth=1.8) for _, colour in LEVEL_STYLES]
    lines.append(Line2D([], [], color=MARK, marker="+", markersize=9, markeredgewidth=1.8, linestyle="none"))
    names = [*(f"{name} region" for name, _ in LEVEL_STYLES), "most probable"]
    figure.legend(
        lines, names, loc="center right", bbox_to_anchor=(0.985, 0.083), ncols=3, fontsize=8.5,
        framealpha=1, facecolor="#3b2a56", edgecolor="none", labelcolor="white", handlelength=1.6, columnspacing=1.4,
    )  # fmt: skip


def _draw_sky(axes: Axes, skymap: SkyMap, peak: Position) -> None:
    x, y = np.meshgrid(np.linspace(-2, 2, SKY_PIXELS[0]), np.linspace(-1, 1, SKY_PIXELS[1]))
    on_sky = (x / 2) ** 2 + y**2 < 1
    values = region.at_points(skymap, *projection.from_mollweide(x[on_sky], y[on_sky]))
    density, level = np.full(x.shape, np.nan), np.full(x.shape, np.nan)
    density[on_sky], level[on_sky] = values.probdensity_per_sr, values.credible_level
    _paint(axes, x, y, density, level)
    for ra_deg in range(0, 360, 30):
        line_x, line_y = projection.to_mollweide(np.full(181, float(ra_deg)), np.linspace(-90, 90, 181))
        axes.plot(line_x, line_y, color=GRID, linewidth=0.5, alpha=0.55)
        if ra_deg % 60 == 0 and ra_deg:
            label_x, label_y = projection.to_mollweide(np.array([float(ra_deg)]), np.array([0.0]))
            axes.text(label_x[0], label_y[0] - 0.05, f" {ra_deg // 15}h", size=8, color="#dfe3ea", ha="left")
    for dec_deg in range(-60, 90, 30):
        # Just short of a whole turn, so that both ends lie on the outline.
        ra = projection.CENTRE_RA_DEG + np.linspace(179.999, -179.999, 181)
        line_x, line_y = projection.to_mollweide(ra, np.full(181, float(dec_deg)))
        axes.plot(line_x, line_y, color=GRID, linewidth=0.5, alpha=0.55)
        axes.text(line_x[-1] + 0.04, line_y[-1], f"{dec_deg:+d}°" if dec_deg else "0°", size=8, color=INK, va="center")
    angle = np.linspace(0, 2 * np.pi, 400)
    axes.plot(2 * np.cos(angle), np.sin(angle), color=INK, linewidth=1.2)
    _mark(axes, *projection.to_mollweide(np.array([peak[0]]), np.array([peak[1]])))
    axes.set(xlim=(-2.05, 2.25), ylim=(-1.03, 1.03), aspect="equal")
    axes.axis("off")


def _draw_close_up(axes: Axes, skymap: SkyMap, region_90: Region, peak: Position) -> None:
    """The part of the 90 % region around the most probable position, north up and east to the left."""
    ra, dec = astropy_healpix.healpix_to_lonlat(region_90.intervals.start, 1 << MAX_ORDER, order="nested")
    x, y, distance_deg = projection.to_tangent_plane(ra.deg, dec.deg, peak)
    near = distance_deg < 30
    reach = max(np.abs(x[near]).max(initial=0.0), np.abs(y[near]).max(initial=0.0))
    half = float(np.clip(1.15 * reach, 0.7 * np.sqrt(region_90.area_deg2), 25.0))
    offset = np.linspace(-half, half, CLOSE_UP_PIXELS)
    x, y = np.meshgrid(offset, offset)
    values = region.at_points(skymap, *projection.from_tangent_plane(x, y, peak))
    _paint(axes, x, y, values.probdensity_per_sr, values.credible_level)
    _mark(axes, np.zeros(1), np.zeros(1))
    axes.set(xlim=(half, -half), ylim=(-half, half), aspect="equal", xticks=[], yticks=[])
    axes.set_title("close-up", size=9, color=INK)
    axes.set_xlabel(f"{_angle(2 * half)} wide, east to the left", size=8.5, color=INK)


def _angle(value_deg: float) -> str:
    if value_deg >= 1:
        return f"{_rounded(value_deg)}°"
    return f"{_rounded(value_deg * 60)} arcmin" if value_deg * 60 >= 1 else f"{_rounded(value_deg * 3600)} arcsec"


def _paint(axes: Axes, x: FloatArray, y: FloatArray, density: FloatArray, level: FloatArray) -> None:
    extent = (x.min(), x.max(), y.min(), y.max())
    highest = max(float(np.nanmax(density)), np.finfo(float).tiny)
    # The square root of the density: a linear scale shows the peak alone.
    norm = PowerNorm(0.5, vmin=0, vmax=highest)
    axes.imshow(density, origin="lower", extent=extent, cmap=COLOUR_MAP, norm=norm, interpolation="nearest")
    if np.nanmin(level) < LEVELS[-1]:
        colours = [colour for _, colour in LEVEL_STYLES]
        axes.contour(x, y, np.nan_to_num(level, nan=1.0), levels=LEVELS, colors=colours, linewidths=0.9)


def _mark(axes: Axes, x: FloatArray, y: FloatArray) -> None:
    axes.plot(x, y, marker="+", markersize=11, markeredgewidth=1.6, color=MARK, linestyle="none")
