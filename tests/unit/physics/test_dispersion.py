"""Delays by dispersion, against what CHIME publishes."""

import csv
import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import InvalidInputError
from shared.physics.dispersion import K_DM_S_MHZ2, dispersion_delay_s, infinite_frequency_time
from tests.support.data import SHARED_DATA, needs_shared_data

CATALOGUE_REFERENCE_MHZ = 400 + 400 / 1024 / 2
# The centre of the lowest of 1024 channels, to which the catalogue's 400 MHz times in fact refer.
K_CODATA = 4148.806


@needs_shared_data
def test_a_notice_of_chime_gives_the_same_time_at_infinite_frequency() -> None:
    assert SHARED_DATA is not None
    notice = json.loads((SHARED_DATA / "gcn_json" / "gwcelery-kafka_alert_chime_detection.json").read_bytes())
    found = infinite_frequency_time(
        datetime.fromisoformat(notice["trigger_time"]),
        dm_pc_cm3=notice["dm"],
        frequency_mhz=400.0,
        dm_err_pc_cm3=notice["dm_error"],
        time_err_s=notice["trigger_time_error"],
    )
    stated = datetime.fromisoformat(notice["trigger_time_inf_freq"])
    # The notice rounds to a microsecond; the value from CODATA would be 997 of them off.
    assert abs(found.time - stated) <= timedelta(microseconds=1)
    assert found.error_s == pytest.approx(notice["trigger_time_inf_freq_error"], rel=1e-3)


@needs_shared_data
def test_the_first_catalogue_of_chime_follows_the_convention_and_not_the_measured_constants() -> None:
    assert SHARED_DATA is not None
    with (SHARED_DATA / "frb" / "chimefrbcat1.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["sub_num"] == "0"]
    dm, at_400, at_infinity = (np.array([float(row[k]) for row in rows]) for k in ("dm_fitb", "mjd_400", "mjd_inf"))
    assert len(rows) > 500
    delay_s = (at_400 - at_infinity) * 86400
    # Dates of 58,000 days carry 1e-10 days: some 1e-5 s of 14 s each. The median does not feel the few odd rows.
    k = np.median(delay_s / dispersion_delay_s(dm, CATALOGUE_REFERENCE_MHZ)) * K_DM_S_MHZ2
    assert k == pytest.approx(K_DM_S_MHZ2, rel=2e-6)
    assert abs(k / K_CODATA - 1) > 1e-4


def test_delays_follow_the_dispersion_measure_and_the_inverse_square_of_the_frequency() -> None:
    delays = dispersion_delay_s([100.0, 500.0], [[400.0], [1400.0]])
    assert delays == pytest.approx(np.array([[2.593361, 12.966805], [0.2117029, 1.0585147]]), rel=1e-6)


@given(
    st.datetimes(datetime(1967, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),
    st.floats(0, 1e4),
    st.floats(50, 1e5),
)
def test_the_delay_added_again_gives_the_microsecond_of_arrival(time: datetime, dm: float, frequency: float) -> None:
    found = infinite_frequency_time(time, dm_pc_cm3=dm, frequency_mhz=frequency)
    assert abs((time - found.time).total_seconds() - float(dispersion_delay_s(dm, frequency))) <= 0.6e-6
    assert found.time.tzinfo is UTC
    assert found.error_s == 0


def test_errors_of_the_time_and_of_the_dispersion_measure_add_in_quadrature() -> None:
    arrival = datetime(2024, 1, 1, tzinfo=UTC)
    found = infinite_frequency_time(arrival, dm_pc_cm3=500.0, frequency_mhz=1000.0, dm_err_pc_cm3=10.0, time_err_s=0.03)
    delay_s = (arrival - found.time).total_seconds()
    assert found.error_s == pytest.approx(np.sqrt(0.03**2 + (delay_s * 10 / 500) ** 2), rel=1e-6)


@pytest.mark.parametrize(
    ("dm_pc_cm3", "frequency_mhz"), [(500.0, 1e-6), (500.0, 1e-200), (500.0, 0.0), (0.0, 1e-200), (0.0, 0.0)]
)
def test_a_delay_of_ages_is_refused_and_names_the_frequency(dm_pc_cm3: float, frequency_mhz: float) -> None:
    with pytest.raises(InvalidInputError) as caught:
        infinite_frequency_time(datetime(2024, 1, 1, tzinfo=UTC), dm_pc_cm3=dm_pc_cm3, frequency_mhz=frequency_mhz)
    assert caught.value.field == "centre_frequency"


def test_a_burst_before_the_calendar_begins_is_refused() -> None:
    with pytest.raises(InvalidInputError):
        infinite_frequency_time(datetime(1, 1, 1, tzinfo=UTC), dm_pc_cm3=500.0, frequency_mhz=400.0)
