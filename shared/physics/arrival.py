"""Light travel between an observatory and the centre of the Earth, to which gravitational waves are timed."""

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from shared.errors import InvalidInputError

SPEED_OF_LIGHT_M_S = 299_792_458.0
EARTH_RADIUS_M, EARTH_FLATTENING = 6_378_137.0, 1 / 298.257223563
# Of the ellipsoid of WGS 84.
MAX_DELAY_S = 0.0213
# The equator's radius over the speed of light, and a little for the height of mountains.
J2000 = datetime(2000, 1, 1, 12, tzinfo=UTC)
_SECONDS_PER_DAY = 86_400.0
_POLE_RAD_PER_CENTURY = np.radians(2004.19 / 3600)
# Precession in declination: the pole's X coordinate (IERS Conventions 2010, equation 5.16); Y stays below 0.3 arcsec
# for a century.


@dataclass(frozen=True)
class Site:
    """A place on the Earth.

    Attributes
    ----------
    lat_deg, lon_deg
        Geodetic (WGS 84), north and east positive.
    height_m
        Above the ellipsoid.
    """

    lat_deg: float
    lon_deg: float
    height_m: float


CHIME = Site(49.3207092194, -119.6236774310, 555.372)
# The telescope's own analysis software: `ch_util.ephemeris`.
DSA_110 = Site(37.233386982, -118.283405115, 1188.0519)
# The telescope's own calibration software: `dsacalib.constants`.
SITES = {"chime": CHIME, "dsa110": DSA_110}


def geocentre_delay_s(site: Site, *, ra_deg: float, dec_deg: float, time: datetime) -> float:
    """Return how much later (positive) or earlier a wavefront passes the centre of the Earth than a site (s).

    The site's position along the direction of the source, over the speed of light. The Earth is turned by the Earth
    rotation angle (Capitaine et al. 2000; IERS Conventions 2010, equation 5.15), and its pole by the precession since
    2000; universal time is taken as UTC. Nutation, polar motion and the difference of times, left out, are worth 3
    microseconds, of 21 milliseconds at most.

    Parameters
    ----------
    ra_deg, dec_deg
        Of the source (ICRS).

    Raises
    ------
    InvalidInputError
        The time has no time zone.
    """
    if time.tzinfo is None:
        raise InvalidInputError("time", time.isoformat(), "a time with its time zone")
    ra, dec = np.radians([ra_deg, dec_deg])
    towards_source = np.array([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)])
    return float(_celestial_m(site, time) @ towards_source) / SPEED_OF_LIGHT_M_S


def _celestial_m(site: Site, time: datetime) -> NDArray[np.float64]:
    """Return the vector from the centre of the Earth to a site, in celestial directions (GCRS)."""
    days = (time - J2000).total_seconds() / _SECONDS_PER_DAY
    rotation = 2 * np.pi * ((0.7790572732640 + 0.00273781191135448 * days + days % 1) % 1)
    lat, lon = np.radians([site.lat_deg, site.lon_deg])
    eccentricity2 = EARTH_FLATTENING * (2 - EARTH_FLATTENING)
    normal_m = EARTH_RADIUS_M / np.sqrt(1 - eccentricity2 * np.sin(lat) ** 2)
    from_axis_m = (normal_m + site.height_m) * np.cos(lat)
    along_axis_m = (normal_m * (1 - eccentricity2) + site.height_m) * np.sin(lat)
    x, y = from_axis_m * np.cos(lon + rotation), from_axis_m * np.sin(lon + rotation)
    tilt = _POLE_RAD_PER_CENTURY * days / 36525
    return np.array([x * np.cos(tilt) + along_axis_m * np.sin(tilt), y, along_axis_m * np.cos(tilt) - x * np.sin(tilt)])
