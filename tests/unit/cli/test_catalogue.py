"""The CHIME/FRB catalogue 1 as notices."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from astropy.time import Time

from cli.catalogue import is_catalogue, read_catalogue
from services.frb_intake.feeds.gcn import read_gcn
from services.frb_intake.feeds.notice import FrbNotice
from shared.errors import InvalidInputError
from tests.support.data import SAMPLES

DATA = (SAMPLES / "frb" / "catalogue" / "chimefrbcat1.csv").read_bytes()
BURSTS = read_catalogue(DATA)
COARSE = {"FRB20181030E", "FRB20190110C", "FRB20190406A"}
"""Their times have errors of minutes or a day, in the catalogue itself."""


def notice(name: str) -> FrbNotice:
    (found,) = (burst for burst in BURSTS if burst.notice["id"] == name)
    return read_gcn(json.dumps(found.notice).encode())


def test_each_of_the_536_bursts_comes_once_in_the_order_of_arrival() -> None:
    """536 is the number of the paper; the file's 600 lines are components."""
    times = [burst.time_of_arrival for burst in BURSTS]

    assert len({burst.notice["id"] for burst in BURSTS}) == len(BURSTS) == 536
    assert times == sorted(times)


def test_the_first_burst_arrived_when_it_was_announced() -> None:
    """FRB 180725A, Astronomer's Telegram 11901: 2018 July 25, 17:59:43.115 UTC at 400 MHz by the first estimate."""
    first = notice("FRB20180725A")

    assert first.time_of_arrival is not None
    assert abs(first.time_of_arrival - datetime(2018, 7, 25, 17, 59, 43, 115000, UTC)) < timedelta(seconds=0.2)


def test_times_are_converted_to_the_last_digit_of_the_catalogue() -> None:
    """Astropy holds a date in two doubles. 1 us is what a datetime holds."""
    expected = Time(58324, 0.7498032059, format="mjd", scale="utc").to_datetime(UTC)

    assert abs(BURSTS[0].time_of_arrival - expected) <= timedelta(microseconds=1)


@pytest.mark.parametrize("burst", BURSTS[::5], ids=lambda burst: burst.notice["id"])
def test_the_columns_have_the_units_that_we_take_them_for(burst: object) -> None:
    """The delay from infinite frequency to 400 MHz is 4.148806 ms GHz^2 DM / (0.4 GHz)^2.

    The catalogue's delays belong to 400.2 MHz, its lowest channel, to one part in a thousand.
    """
    assert hasattr(burst, "notice")
    read = read_gcn(json.dumps(burst.notice).encode())
    if read.origin_id in COARSE:
        return
    assert read.time_of_arrival is not None
    assert read.time_of_arrival_inf is not None
    assert read.measurement is not None
    assert read.measurement.dm_pc_cm3 is not None
    delay_s = (read.time_of_arrival - read.time_of_arrival_inf).total_seconds()
    assert delay_s == pytest.approx(4.148806e-3 * read.measurement.dm_pc_cm3 / 0.4**2, rel=1e-3)


def test_what_a_burst_says_is_what_the_catalogue_says() -> None:
    burst = notice("FRB20180916B")
    measured = burst.measurement

    assert measured is not None
    assert (measured.dm_pc_cm3, measured.dm_err_pc_cm3, measured.snr) == (349.3491, 0.0058, 36.7)
    assert (measured.ra_deg, measured.dec_deg, measured.semi_major_deg) == (29.5031258, 65.7167542, 6e-7)
    assert (measured.dm_mw_ism_pc_cm3, measured.width_ms) == (198.9491, 0.765)
    assert (burst.tns_name, burst.known_source, burst.repeater) == ("FRB 20180916B", "FRB 20180916B", True)


def test_an_upper_limit_of_the_width_is_no_width() -> None:
    measured = notice("FRB20181030E").measurement

    assert measured is not None
    assert measured.width_ms is None


def test_no_burst_of_the_catalogue_is_taken_for_real() -> None:
    assert all(read_gcn(json.dumps(burst.notice).encode()).is_test for burst in BURSTS)


def test_the_catalogue_is_known_by_its_columns() -> None:
    assert is_catalogue(DATA)
    assert not is_catalogue(b"a,b,c\n1,2,3\n")
    assert not is_catalogue(b'{"alert_type": "initial"}')
    assert not is_catalogue(b"Obj\x01\xff\x00")


@pytest.mark.parametrize(("column", "value"), [("mjd_400", "today"), ("dm_fitb", "-9999"), ("ra", "nan")])
def test_a_line_that_is_wrong_is_told(column: str, value: str) -> None:
    header, line, *_ = DATA.decode().splitlines()
    names, values = header.split(","), line.split(",")
    values[names.index(column)] = value

    with pytest.raises(InvalidInputError, match=f"^line 2: {column} is {value}; expected a number"):
        read_catalogue(f"{header}\n{','.join(values)}\n".encode())
