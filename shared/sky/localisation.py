"""Error ellipses and circles on the sky, as sets of HEALPix cells for searches."""

from dataclasses import dataclass, replace

import astropy_healpix
import numpy as np
from astropy.units import deg
from cdshealpix import cdshealpix as native
from numpy.typing import ArrayLike, NDArray

from shared.errors import InvalidInputError
from shared.sky import healpix
from shared.sky.healpix import Intervals

MAX_AXIS_DEG = 90.0
TINY_DEG = 1e-4
# Below, a cell as wide as the region and its neighbours cover it; the search for cones knows no finer cells.
REACH_RAD = 1.16
# Times 2^-order: no cell's corner is farther from its centre. The farthest is at 1.069, where the caps of the
# projection begin; the rest is for what follows.
FLAT_DEG = 20.0
# Longer ellipses are covered by the circle around them. Up to here the plane in which ellipses are widened stretches
# the sky, along circles around the centre, by less than 8 %.
CELLS_ACROSS = 6
# How many cells of the chosen order fit along the semi-minor axis, unless that makes too many of them.
_SIDE_DEG = float(np.degrees(np.sqrt(np.pi / 3)))
# Of a cell of order 0.


@dataclass(frozen=True)
class Ellipse:
    """A region that holds a source at a confidence level; a circle where the semi-axes are equal.

    Attributes
    ----------
    semi_major_deg, semi_minor_deg
        Angles on the sky, above 0 and below 90 deg.
    position_angle_deg
        Of the major axis, from north through east.
    confidence_level
        Probability inside, above 0 and below 1.
    """

    ra_deg: float
    dec_deg: float
    semi_major_deg: float
    semi_minor_deg: float
    position_angle_deg: float
    confidence_level: float

    def __post_init__(self) -> None:
        for name, good, expected in (
            ("ra_deg", 0 <= self.ra_deg <= 360, "0 to 360 deg"),
            ("dec_deg", -90 <= self.dec_deg <= 90, "-90 to 90 deg"),
            ("semi_minor_deg", 0 < self.semi_minor_deg < MAX_AXIS_DEG, "above 0 and below 90 deg"),
            (
                "semi_major_deg",
                self.semi_minor_deg <= self.semi_major_deg < MAX_AXIS_DEG,
                "at least the semi-minor axis and below 90 deg",
            ),
            ("position_angle_deg", abs(self.position_angle_deg) <= 360, "-360 to 360 deg"),
            ("confidence_level", 0 < self.confidence_level < 1, "above 0 and below 1"),
        ):
            if not good:
                raise InvalidInputError(name, getattr(self, name), expected)

    @classmethod
    def from_axis_errors(
        cls, *, ra_deg: float, dec_deg: float, ra_err_deg: float, dec_err_deg: float, confidence_level: float
    ) -> "Ellipse":
        """Return the ellipse along the meridian and across it; both errors are angles on the sky."""
        return cls(
            ra_deg,
            dec_deg,
            max(ra_err_deg, dec_err_deg),
            min(ra_err_deg, dec_err_deg),
            90.0 if ra_err_deg > dec_err_deg else 0.0,
            confidence_level,
        )

    @classmethod
    def from_clockwise_theta(
        cls, *, ra_deg: float, dec_deg: float, a_deg: float, b_deg: float, theta_deg: float, confidence_level: float
    ) -> "Ellipse":
        """Return the ellipse whose semi-axis `a` points `theta` from north clockwise, as one looks at the sky."""
        along_a = -theta_deg % 180
        angle = along_a if a_deg >= b_deg else (along_a + 90) % 180
        return cls(ra_deg, dec_deg, max(a_deg, b_deg), min(a_deg, b_deg), angle, confidence_level)

    @property
    def area_deg2(self) -> float:
        """Area, flat: right to 1 % for semi-axes up to 14 deg."""
        return float(np.pi * self.semi_major_deg * self.semi_minor_deg)

    def scaled_to(self, confidence_level: float) -> "Ellipse":
        """Return the ellipse of the same two-dimensional Gaussian at another level.

        The probability within r standard deviations is 1 - exp(-r^2 / 2). Semi-axes stay below 90 deg.

        Raises
        ------
        InvalidInputError
            The level is not above 0 and below 1.
        """
        if not 0 < confidence_level < 1:
            raise InvalidInputError("confidence_level", confidence_level, "above 0 and below 1")
        factor = float(np.sqrt(np.log1p(-confidence_level) / np.log1p(-self.confidence_level)))
        largest = np.nextafter(MAX_AXIS_DEG, 0)
        return replace(
            self,
            semi_major_deg=min(self.semi_major_deg * factor, largest),
            semi_minor_deg=min(self.semi_minor_deg * factor, largest),
            confidence_level=confidence_level,
        )

    def contains(self, ra_deg: ArrayLike, dec_deg: ArrayLike) -> NDArray[np.bool_]:
        """Say which positions are inside: of distance d in direction t where (d/a)^2 cos^2 + (d/b)^2 sin^2 <= 1."""
        ra, dec = np.radians(np.asarray(ra_deg, float) - self.ra_deg), np.radians(np.asarray(dec_deg, float))
        centre = np.radians(self.dec_deg)
        east = np.cos(dec) * np.sin(ra)
        # sin(dec - centre), without the loss of digits of the difference of two products close by.
        north = np.sin(dec - centre) + 2 * np.sin(centre) * np.cos(dec) * np.sin(ra / 2) ** 2
        inward = np.cos(dec - centre) - 2 * np.cos(centre) * np.cos(dec) * np.sin(ra / 2) ** 2
        distance = np.degrees(np.arctan2(np.hypot(east, north), inward))
        direction = np.arctan2(east, north) - np.radians(self.position_angle_deg)
        inside: NDArray[np.bool_] = (distance * np.cos(direction) / self.semi_major_deg) ** 2 + (
            distance * np.sin(direction) / self.semi_minor_deg
        ) ** 2 <= 1
        return inside


def intervals(ellipse: Ellipse, *, max_cells: int = 64) -> Intervals:
    """Return cells that cover an ellipse, as intervals of the nested index at order 29: more of the sky, never less.

    The order is such that about `max_cells` intervals suffice.
    """
    if ellipse.semi_major_deg < TINY_DEG:
        order = int(min(np.log2(_SIDE_DEG / (2 * ellipse.semi_major_deg)), healpix.MAX_ORDER))
        own = int(healpix.lonlat_to_nest29(ellipse.ra_deg, ellipse.dec_deg)) >> 2 * (healpix.MAX_ORDER - order)
        with np.errstate(invalid="ignore"):  # some cells have seven neighbours, or six
            around = np.append(astropy_healpix.neighbours(own, 1 << order, order="nested"), own)
        return _joined(around[around >= 0], order)
    order = _order(ellipse, max_cells)
    margin_deg = float(np.degrees(REACH_RAD / 2**order))
    # Farther than need be: close to the poles this search forgets cells that the edge of a cone crosses.
    ipix, _, _ = native.cone_search(
        np.uint8(order),
        np.uint8(0),
        np.radians(ellipse.ra_deg),
        np.radians(ellipse.dec_deg),
        np.radians(ellipse.semi_major_deg + margin_deg),
        flat=True,
    )
    if ellipse.semi_major_deg <= FLAT_DEG:
        # Whoever reaches into the ellipse has its centre not farther from it than a corner is from the centre.
        ra, dec = astropy_healpix.healpix_to_lonlat(ipix.astype(np.int64), 1 << order, order="nested")
        ipix = ipix[_widened(ellipse, margin_deg).contains(ra.to_value(deg), dec.to_value(deg))]
    return _joined(ipix.astype(np.int64), order)


def _widened(ellipse: Ellipse, margin_deg: float) -> Ellipse:
    """Return an ellipse around all that is within a margin of another.

    Of the ellipses around the sum of two, that of the smallest trace (Kurzhanski & Valyi 1997, section 2.2).
    """
    a2, b2, m2 = ellipse.semi_major_deg**2, ellipse.semi_minor_deg**2, margin_deg**2
    p = np.sqrt((a2 + b2) / (2 * m2))
    largest = np.nextafter(MAX_AXIS_DEG, 0)
    return replace(
        ellipse,
        semi_major_deg=min(float(np.sqrt((1 + 1 / p) * a2 + (1 + p) * m2)), largest),
        semi_minor_deg=min(float(np.sqrt((1 + 1 / p) * b2 + (1 + p) * m2)), largest),
    )


def _order(ellipse: Ellipse, max_cells: int) -> int:
    """Order whose cells are some fraction of the width, and about as many as asked for along the edge."""
    circumference = 4 * (ellipse.semi_major_deg + ellipse.semi_minor_deg)
    side_deg = max(circumference / max_cells, ellipse.semi_minor_deg / CELLS_ACROSS)
    return int(np.clip(np.round(np.log2(_SIDE_DEG / side_deg)), 0, healpix.MAX_ORDER))


def _joined(ipix: NDArray[np.int64], order: int) -> Intervals:
    ipix = np.sort(ipix)
    gap = np.flatnonzero(np.diff(ipix) > 1)
    shift = 2 * (healpix.MAX_ORDER - order)
    return Intervals(ipix[np.append(0, gap + 1)] << shift, (ipix[np.append(gap, len(ipix) - 1)] + 1) << shift)
