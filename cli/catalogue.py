"""The CHIME/FRB catalogue 1 as notices: what GCN would have carried if it had existed then.

Columns and units: CHIME/FRB Collaboration 2021, ApJS 257, 59, table 2. Times are topocentric UTC at 400 MHz
(`mjd_400`) and at infinite frequency (`mjd_inf`), three of them (FRB 20181030E, 20190110C, 20190406A) known to minutes
or a day alone; `ra_err`, `dec_err` (deg) hold 68 % each; `width_fitb` is in seconds, `dm_fitb` in pc cm^-3; -9999
stands for nothing, `<` before a number for an upper limit.
"""

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

from shared.errors import InvalidInputError

SCHEMA = "https://gcn.nasa.gov/schema/v4.4.1/gcn/notices/chime/frb.schema.json"
COLUMNS = {
    "tns_name", "repeater_name", "sub_num", "mjd_400", "mjd_400_err", "mjd_inf", "mjd_inf_err", "ra", "ra_err",
    "dec", "dec_err", "dm_fitb", "dm_fitb_err", "dm_exc_ne2001", "snr_fitb", "width_fitb",
}  # fmt: skip

SAMPLING_TIME_MS = 0.983
BAND_MHZ = (400, 800)
DAY_S = 86400.0
_DAY_US = 86_400_000_000
_MJD_EPOCH = datetime(1858, 11, 17, tzinfo=UTC)
ONE_SIGMA = 0.68

MAX_HEADER_BYTES = 4096

_NOTHING = "-9999"


@dataclass(frozen=True)
class CatalogueBurst:
    """A burst of the catalogue."""

    time_of_arrival: datetime
    notice: Mapping[str, Any]


def is_catalogue(data: bytes) -> bool:
    """Whether a file is the catalogue, by the columns that its first line names."""
    first = data[:MAX_HEADER_BYTES].partition(b"\n")[0].decode(errors="replace").strip()
    return set(first.split(",")) >= COLUMNS


def read_catalogue(data: bytes) -> list[CatalogueBurst]:
    """Return the bursts in the order of their arrival; the components of one burst are one.

    Raises
    ------
    InvalidInputError
        With the line and column that is wrong.
    """
    return sorted(_bursts(data), key=lambda burst: burst.time_of_arrival)


def _bursts(data: bytes) -> Iterator[CatalogueBurst]:
    for number, row in enumerate(csv.DictReader(io.StringIO(data.decode("utf-8-sig"))), start=2):
        try:
            if row["sub_num"] == "0":
                yield _burst(row)
        except InvalidInputError as error:
            raise InvalidInputError(f"line {number}: {error.field}", error.value, error.expected) from None


def _burst(row: Mapping[str, str]) -> CatalogueBurst:
    name, source = row["tns_name"], row["repeater_name"]
    time = _time(row, "mjd_400")
    dm, ra_err, dec_err = (_number(row, column) for column in ("dm_fitb", "ra_err", "dec_err"))
    notice: dict[str, Any] = {
        "$schema": SCHEMA,
        "alert_type": "initial" if source == _NOTHING else "subsequent",
        # Not "archival": that would be a real burst, only late.
        "alert_tense": "test",
        "id": name,
        "event_name": f"FRB {name.removeprefix('FRB')}",
        "trigger_time": _iso(time),
        "trigger_time_error": _number(row, "mjd_400_err") * DAY_S,
        "trigger_time_inf_freq": _iso(_time(row, "mjd_inf")),
        "trigger_time_inf_freq_error": _number(row, "mjd_inf_err") * DAY_S,
        "snr": _number(row, "snr_fitb"),
        "ra": _number(row, "ra"),
        "dec": _number(row, "dec"),
        "ra_dec_error": [dec_err, ra_err, 0] if dec_err >= ra_err else [ra_err, dec_err, 90],
        "containment_probability": ONE_SIGMA,
        "dm": dm,
        "dm_error": _number(row, "dm_fitb_err"),
        "dm_gal_ne_2001_max": round(dm - _number(row, "dm_exc_ne2001"), 4),
        "sampling_time": SAMPLING_TIME_MS,
        "spectral_band": list(BAND_MHZ),
        "spectral_band_units": "MHz",
        "description": "Replayed from the CHIME/FRB catalogue 1.",
    }
    if source != _NOTHING:
        notice["known_source"] = f"FRB {source.removeprefix('FRB')}"
    if not row["width_fitb"].startswith("<"):
        # DSA-110's key; CHIME's notices state no width.
        notice["event_duration"] = round(_number(row, "width_fitb") * 1000, 6)
    return CatalogueBurst(time, notice)


def _number(row: Mapping[str, str], column: str) -> float:
    return float(_decimal(row, column))


def _decimal(row: Mapping[str, str], column: str) -> Decimal:
    try:
        value = Decimal(row[column])
    except InvalidOperation:
        value = Decimal("NaN")
    if row[column] == _NOTHING or not value.is_finite():
        raise InvalidInputError(column, row[column], "a number")
    return value


def _time(row: Mapping[str, str], column: str) -> datetime:
    mjd = _decimal(row, column)
    day = int(mjd)
    # In decimals: a double holds a modified Julian date to a microsecond and no better.
    return _MJD_EPOCH + timedelta(days=day, microseconds=round((mjd - day) * _DAY_US))


def _iso(time: datetime) -> str:
    return time.isoformat(timespec="microseconds").replace("+00:00", "Z")
