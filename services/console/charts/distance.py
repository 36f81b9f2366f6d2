"""What a wave and a burst say of the distance of their source.

The wave: the distance along a line of sight, and over the whole sky (Singer et al. 2016, ApJL 829, L15, equation 2).
The burst: its dispersion measure beyond the Milky Way (Macquart et al. 2020, Nature 581, 391), or a measured redshift.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from services.console.charts import svg
from shared.physics.macquart import MAX_REDSHIFT, dm_likelihood, luminosity_distance_mpc
from shared.sky import healpix
from shared.sky.healpix import FloatArray
from shared.sky.skymap import SkyMap

WIDTH, HEIGHT = 800.0, 300.0
LEFT, RIGHT, TOP, BOTTOM = 20.0, 14.0, 14.0, 46.0
POINTS = 400
ENOUGH = 0.99
# Of a curve's probability that has to be on the drawing.
N_STD = 5.0
CELLS = 4000
# Of the most probable, taken for the whole sky.


@dataclass(frozen=True, eq=False)
class Curve:
    """A probability density over luminosity distances.

    Attributes
    ----------
    r_mpc
        Distances, rising.
    density
        At each (1/Mpc); it need not be normalised.
    """

    r_mpc: FloatArray
    density: FloatArray
    label: str
    style: str

    def quantile(self, share: float) -> float:
        """Distance (Mpc) below which so much of the probability is."""
        steps = (self.density[1:] + self.density[:-1]) / 2 * np.diff(self.r_mpc)
        below = np.concatenate([[0.0], np.cumsum(steps)])
        return float(np.interp(share * below[-1], below, self.r_mpc))


@dataclass(frozen=True)
class Range:
    """Distances that are taken for likely, or one that was measured; in Mpc."""

    low_mpc: float
    high_mpc: float
    label: str
    style: str


def along(skymap: SkyMap, *, ra_deg: float, dec_deg: float, label: str, style: str = "wave") -> Curve | None:
    """Return what a map says of the distance in one direction; None where it says nothing."""
    if skymap.distmu is None or skymap.distsigma is None:
        return None
    cell = skymap.cells.find(healpix.lonlat_to_nest29(np.array([ra_deg]), np.array([dec_deg])))
    if cell[0] < 0:
        return None
    mu, sigma = skymap.distmu[cell], skymap.distsigma[cell]
    return _curve(mu, sigma, np.ones(1), label=label, style=style)


def over_all(skymap: SkyMap, *, label: str, style: str = "other") -> Curve | None:
    """Return what a map says of the distance wherever the wave came from; None for a map without distances."""
    if skymap.distmu is None or skymap.distsigma is None:
        return None
    largest = np.argsort(-skymap.probability, kind="stable")[:CELLS]
    return _curve(
        skymap.distmu[largest], skymap.distsigma[largest], skymap.probability[largest], label=label, style=style
    )


def _curve(mu: FloatArray, sigma: FloatArray, weight: FloatArray, *, label: str, style: str) -> Curve | None:
    known = np.isfinite(mu) & np.isfinite(sigma) & (sigma > 0) & (weight > 0)
    if not known.any():
        return None
    mu, sigma, weight = mu[known], sigma[known], weight[known]
    root = np.sqrt(mu**2 + 8 * sigma**2)
    # The larger root of r^2 - mu r - 2 sigma^2 = 0, in the form that does not cancel.
    peak = np.where(mu > 0, (mu + root) / 2, 4 * sigma**2 / (root - np.minimum(mu, 0)))
    reach = np.minimum(peak + N_STD * sigma, 20 * peak)
    # As far as nearly all of them reach, the farthest left out.
    ranked = np.argsort(reach)
    share = np.cumsum(weight[ranked]) / weight.sum()
    end = float(reach[ranked[np.searchsorted(share, min(0.999, share[-1]))]])
    r = np.linspace(0, end, POINTS + 1)[1:]
    density = np.zeros(POINTS)
    for at in range(0, len(mu), 512):
        some = slice(at, at + 512)
        p, m, s = (column[some, np.newaxis] for column in (peak, mu, sigma))
        each = np.square(r / p) * np.exp((p - r) * (p + r - 2 * m) / (2 * s**2))
        area = np.trapezoid(each, r, axis=1)
        density += (weight[some] / np.where(area > 0, area, np.inf)) @ each
    return Curve(r, density, label, style) if density.max() > 0 else None


def from_dispersion(dm_excess_pc_cm3: float, *, cosmology: str, label: str, style: str = "burst") -> Curve:
    """Return what a dispersion measure beyond the Milky Way says of the distance, all redshifts being as likely before.

    Raises
    ------
    InvalidInputError
        The cosmology is not known.
    """
    z, density = dm_likelihood(dm_excess_pc_cm3, cosmology=cosmology)
    r = luminosity_distance_mpc(np.minimum(z, MAX_REDSHIFT), cosmology=cosmology)
    return Curve(r, density / np.gradient(r, z), label, style)


def distance(curves: Sequence[Curve], ranges: Sequence[Range] = (), *, title: str, description: str) -> Markup:
    """Return a figure of densities over luminosity distance, each scaled to its own highest value."""
    end = max([1.06 * curve.quantile(ENOUGH) for curve in curves] + [1.06 * each.high_mpc for each in ranges] + [1.0])
    bottom = HEIGHT - BOTTOM
    frame_width, frame_height = WIDTH - LEFT - RIGHT, bottom - TOP
    step = _step(end / 5)
    ticks = [step * number for number in range(int(end / step) + 1)]

    def x_of(r_mpc: float) -> float:
        return LEFT + r_mpc / end * frame_width

    parts = [svg.shape([np.array([[x_of(tick), TOP], [x_of(tick), bottom]]) for tick in ticks], style="graticule")]
    for each in ranges:
        x_0, x_1 = x_of(each.low_mpc), max(x_of(each.high_mpc), x_of(each.low_mpc) + 2)
        box = np.array([[x_0, TOP], [x_1, TOP], [x_1, bottom], [x_0, bottom], [x_0, TOP]])
        parts.append(svg.shape([box], style=f"range {each.style}", label=each.label, closed=True))
    for curve in curves:
        x = LEFT + curve.r_mpc / end * frame_width
        y = bottom - 0.95 * frame_height * curve.density / curve.density.max()
        shown = x <= WIDTH - RIGHT
        points = np.stack([x[shown], y[shown]], axis=1)
        if len(points) > 1:
            parts.append(svg.shape([points], style=f"curve {curve.style}", label=curve.label))
    parts += [
        svg.shape([np.array([[LEFT, bottom], [WIDTH - RIGHT, bottom]])], style="edge"),
        *(svg.text(x_of(tick), bottom + 17, f"{tick:,.10g}", style="scale", anchor="middle") for tick in ticks),
        svg.text(WIDTH - RIGHT, bottom + 38, "luminosity distance (Mpc)", style="scale", anchor="end"),
        svg.text(LEFT, bottom + 38, "density, each to its highest", style="scale"),
    ]
    line = [np.array([[2.0, 8.0], [26.0, 8.0]])]
    sample = [np.array([[3.0, 3.0], [25.0, 3.0], [25.0, 13.0], [3.0, 13.0], [3.0, 3.0]])]
    entries = [(svg.shape(line, style=f"curve {curve.style}"), curve.label) for curve in curves]
    entries += [(svg.shape(sample, style=f"range {each.style}", closed=True), each.label) for each in ranges]
    image = svg.drawing(WIDTH, HEIGHT, parts, style="distances", title=title, description=description)
    return Markup('<figure class="chart">{}<figcaption>{}</figcaption></figure>').format(image, svg.legend(entries))


def _step(about: float) -> float:
    power = 10.0 ** np.floor(np.log10(about))
    return float(next(power * factor for factor in (5, 2, 1) if power * factor <= about * (1 + 1e-9)))
