"""Light travel to the centre of the Earth, against astropy."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from astropy import units
from astropy.constants import c
from astropy.coordinates import EarthLocation
from astropy.time import Time
from astropy.utils import iers
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import InvalidInputError
from shared.physics.arrival import CHIME, MAX_DELAY_S, SITES, Site, geocentre_delay_s

TIMES = st.datetimes(datetime(2015, 9, 14), datetime(2026, 6, 1), timezones=st.just(UTC))
"""From the first wave on, and measured rotation of the Earth throughout."""
RA_DEG, DEC_DEG = st.floats(0, 360), st.floats(-90, 90)
PLACES = st.one_of(
    st.sampled_from(list(SITES.values())),
    st.builds(Site, st.floats(-90, 90), st.floats(-180, 180), st.floats(0, 6000)),
)


@pytest.fixture(scope="module", autouse=True)
def _offline() -> Iterator[None]:
    """The tables of the Earth's rotation that come with astropy."""
    with iers.conf.set_temp("auto_download", False):
        yield


@settings(deadline=None)  # astropy reads its tables first
@given(PLACES, RA_DEG, DEC_DEG, TIMES)
def test_the_delay_is_that_of_astropy(site: Site, ra_deg: float, dec_deg: float, time: datetime) -> None:
    place = EarthLocation.from_geodetic(site.lon_deg, site.lat_deg, site.height_m)
    position_m = place.get_gcrs_posvel(Time(time))[0].xyz.to_value(units.m)
    ra, dec = np.radians([ra_deg, dec_deg])
    towards = np.array([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)])
    # Nutation (up to 17 arcsec), universal time (0.9 s of rotation at most), polar motion: 3 microseconds.
    assert geocentre_delay_s(site, ra_deg=ra_deg, dec_deg=dec_deg, time=time) == pytest.approx(
        position_m @ towards / c.value, abs=3e-6
    )


@given(PLACES, RA_DEG, DEC_DEG, TIMES)
def test_no_delay_is_longer_than_the_radius(site: Site, ra_deg: float, dec_deg: float, time: datetime) -> None:
    delay_s = geocentre_delay_s(site, ra_deg=ra_deg, dec_deg=dec_deg, time=time)
    assert abs(delay_s) <= MAX_DELAY_S
    opposite_s = geocentre_delay_s(site, ra_deg=(ra_deg + 180) % 360, dec_deg=-dec_deg, time=time)
    assert opposite_s == pytest.approx(-delay_s, abs=1e-12)


def test_a_burst_overhead_reaches_the_centre_later() -> None:
    # At declination 49 a source culminates once a day near CHIME's zenith.
    start = datetime(2024, 3, 1, tzinfo=UTC)
    delays_s = [
        geocentre_delay_s(CHIME, ra_deg=83.6, dec_deg=CHIME.lat_deg, time=start + timedelta(minutes=5 * step))
        for step in range(288)
    ]
    # The distance from the centre at that latitude is 6,366 km.
    assert max(delays_s) == pytest.approx(6_366_500 / c.value, abs=5e-6)


def test_a_time_without_its_zone_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="time zone"):
        geocentre_delay_s(CHIME, ra_deg=0, dec_deg=0, time=datetime(2024, 1, 1))
