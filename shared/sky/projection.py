"""Two projections of the sky for pictures: all of it, and the surroundings of a position.

References
----------
Snyder 1987, Map Projections: A Working Manual (USGS Professional Paper 1395).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from shared.sky.healpix import FloatArray

CENTRE_RA_DEG = 180.0
# Of the whole sky: right ascension 0 is at both ends.

Position = tuple[float, float]


def to_mollweide(ra_deg: ArrayLike, dec_deg: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Mollweide's projection on an ellipse of half axes 2 and 1; RA grows to the left (Snyder's eq. 31-1 to 31-3)."""
    dec = np.asarray(dec_deg, dtype=np.float64)
    latitude = np.radians(dec)
    theta = latitude.copy()
    for _ in range(30):
        slope = 2 + 2 * np.cos(2 * theta)
        step = (2 * theta + np.sin(2 * theta) - np.pi * np.sin(latitude)) / np.maximum(slope, 1e-9)
        theta = np.clip(theta - step, -np.pi / 2, np.pi / 2)
    theta = np.where(np.abs(dec) == 90, latitude, theta)
    east = (np.asarray(ra_deg, dtype=np.float64) - CENTRE_RA_DEG + 180) % 360 - 180
    return -east / 90 * np.cos(theta), np.sin(theta)


def from_mollweide(x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Right ascension and declination (deg) of points inside the ellipse (Snyder's eq. 31-4 to 31-6)."""
    theta = np.arcsin(y)
    dec_deg = np.degrees(np.arcsin(np.clip((2 * theta + np.sin(2 * theta)) / np.pi, -1, 1)))
    return (CENTRE_RA_DEG - 90 * x / np.cos(theta)) % 360, dec_deg


def to_tangent_plane(
    ra_deg: ArrayLike, dec_deg: ArrayLike, centre: Position
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Offsets to the east and north in deg, keeping distance and direction from the centre (Snyder's eq. 25-2).

    The third array is the distance.
    """
    east, dec = np.radians(np.asarray(ra_deg, dtype=np.float64) - centre[0]), np.radians(dec_deg)
    dec_0 = np.radians(centre[1])
    x = np.cos(dec) * np.sin(east)
    y = np.cos(dec_0) * np.sin(dec) - np.sin(dec_0) * np.cos(dec) * np.cos(east)
    away = np.arctan2(np.hypot(x, y), np.sin(dec_0) * np.sin(dec) + np.cos(dec_0) * np.cos(dec) * np.cos(east))
    stretch = np.degrees(away) / np.maximum(np.hypot(x, y), 1e-300)
    return x * stretch, y * stretch, np.degrees(away)


def from_tangent_plane(x: FloatArray, y: FloatArray, centre: Position) -> tuple[FloatArray, FloatArray]:
    """Right ascension and declination (deg) of offsets to the east and north in deg (Snyder's eq. 20-14 and 20-15)."""
    away = np.radians(np.hypot(x, y))
    towards_x, towards_y = x / np.maximum(np.hypot(x, y), 1e-300), y / np.maximum(np.hypot(x, y), 1e-300)
    dec_0 = np.radians(centre[1])
    dec = np.arcsin(np.clip(np.cos(away) * np.sin(dec_0) + towards_y * np.sin(away) * np.cos(dec_0), -1, 1))
    east = np.arctan2(towards_x * np.sin(away), np.cos(dec_0) * np.cos(away) - towards_y * np.sin(dec_0) * np.sin(away))
    return (centre[0] + np.degrees(east)) % 360, np.degrees(dec)
