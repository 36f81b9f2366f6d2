"""What the Transient Name Server (TNS) is told of a burst, and what its answers say. Pure.

Source: TNS 2.0 bulk-report manual (January 2025) for names of fields, message ids and limits, as far as public material
repeats it; what other radio observatories send for the rest. No source shows an FRB report of version 2.0 complete, so
every name of a field can be set.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from shared.errors import PermanentError
from shared.events.frb import FrbEvent, FrbLocalisation, FrbMeasurement, FrbStatus
from shared.events.gcn import known

Generation = Literal["2.0", "old"]

PATHS: Mapping[Generation, Mapping[str, str]] = {
    "2.0": {
        "report": "/api/set/bulk-report",
        "reply": "/api/get/bulk-report-reply",
        "search": "/api/get/search",
    },
    "old": {"report": "/api/bulk-report", "reply": "/api/bulk-report-reply", "search": "/api/get/search"},
}
KEYS: Mapping[Generation, Mapping[str, str]] = {
    # The group around the measurements is in no example of 2.0 and in every older one.
    "2.0": {"photometry_group": ""},
    "old": {
        "reporting_groupid": "reporting_group_id",
        "data_source_groupid": "discovery_data_source_id",
        "prop_period_groups": "proprietary_period_groups",
        "flux_unitid": "flux_units",
        "filterid": "filter_value",
        "instrumentid": "instrument_value",
    },
}
AT_TYPE_FRB = 5
MODELS = ("NE2001", "YMW16")
# Of the Galaxy's electrons, that the TNS knows.

CREATED, ADDED, NAME_CHANGED = "100", "101", "121"
NAMING = (CREATED, ADDED, NAME_CHANGED)
# Messages that bring the object's name.
_INFORMATIVE_FROM = 100
_IDENTICAL = re.compile(r"identical .*report", re.IGNORECASE)
_ECHOES = frozenset({"at_rep", "frb_rep", "internal_ids"})
# In a reply: what was sent, not what is said of it; messages in it count.
_NUMBER = re.compile(r"1\d\d")
# Of a message, as the key that leads to it.
_NAME = re.compile(r"(?:FRB\s*)?(\d{8}[A-Za-z]{1,4})")

SIGMA_LEVEL = 0.68
# Uploaded errors of a position become the axes of an ellipse of this level, and come back from it.


@dataclass(frozen=True)
class Units:
    """Ids of units at the TNS, and what they stand for here: they drift, `/api/values` lists them."""

    flux_jy: int = 8
    fluence_jy_ms: int = 22
    time_ms: int = 23
    frequency_mhz: int = 24
    dm_pc_cm3: int = 25
    rm_rad_m2: int = 26
    ellipse_deg: int = 27


@dataclass(frozen=True)
class Sender:
    """What is the same in all reports of an observatory; ids are the TNS's.

    Attributes
    ----------
    keys
        Other names of fields, by those of version 2.0; an empty one leaves the field, or the level, out.
    limiting_flux_jy
        Told of bursts without a flux.
    """

    reporter: str | None = None
    reporting_group: int | None = None
    data_source_group: int | None = None
    instrument: int | None = None
    filter: int | None = None
    proprietary_until: str | None = None
    proprietary_groups: Sequence[int] = ()
    redshift_of: Literal["host", "transient"] = "host"
    limiting_flux_jy: float | None = None
    public_webpage: str | None = None
    remarks: str | None = None
    units: Units = Units()
    keys: Mapping[str, str] = field(default_factory=dict)


def is_reportable(record: FrbEvent) -> bool:
    """Whether a burst stands, has no name yet, and enough of it is known: when, where and how dispersed."""
    first = record.first
    return (
        record.status in (FrbStatus.CANDIDATE, FrbStatus.CONFIRMED)
        and record.tns_name is None
        and first is not None
        and first.localisation is not None
        and _is_known(first.dm_pc_cm3)
        and (record.time_of_arrival or first.time_of_arrival_inf) is not None
    )


def frb_report(record: FrbEvent, sender: Sender) -> dict[str, Any]:
    """Return the report of a burst's first measurement. What is not known is left out.

    `record` is reportable. Angles are in deg, errors of the position those of one axis with 68 % (the right
    ascension's on the sky), times UTC.
    """
    first = record.first
    assert first is not None
    assert first.localisation is not None
    place, budget, units = first.localisation, first.dm_budget, sender.units
    ra_err_deg, dec_err_deg = axis_errors_deg(place)
    report = {
        "ra": {"value": place.ra_deg, "error": ra_err_deg, "units": "deg"},
        "dec": {"value": place.dec_deg, "error": dec_err_deg, "units": "deg"},
        "reporting_groupid": sender.reporting_group,
        "data_source_groupid": sender.data_source_group,
        "reporter": sender.reporter,
        "internal_name": record.internal_name,
        "at_type": AT_TYPE_FRB,
        "discovery_datetime": discovered(record),
        "end_prop_period": sender.proprietary_until,
        "prop_period_groups": list(sender.proprietary_groups) or None,
        f"{sender.redshift_of}_redshift": first.redshift,
        "public_webpage": sender.public_webpage,
        **_with_unit(units.ellipse_deg, region_ellipse=_ellipse(place)),
        **_with_unit(units.dm_pc_cm3, dm=first.dm_pc_cm3, dm_err=first.dm_err_pc_cm3),
        "galactic_max_dm": budget.dm_mw_ism_pc_cm3 if budget else None,
        "galactic_max_dm_model": budget.dm_mw_ism_model if budget and budget.dm_mw_ism_model in MODELS else None,
        "remarks": _remarks(record, sender.remarks),
        "photometry": {"photometry_group": {"0": _photometry(record, first, sender)}},
    }
    told: dict[str, Any] = renamed(known(report), sender.keys)
    return told


def _photometry(record: FrbEvent, first: FrbMeasurement, sender: Sender) -> dict[str, Any]:
    units, seen = sender.units, record.observation
    return {
        "obsdate": discovered(record),
        "flux": first.flux_jy,
        "flux_error": first.flux_err_jy if _is_known(first.flux_jy) else None,
        "limiting_flux": None if _is_known(first.flux_jy) else sender.limiting_flux_jy,
        "flux_unitid": units.flux_jy if _is_known(first.flux_jy) or sender.limiting_flux_jy is not None else None,
        "filterid": sender.filter,
        "instrumentid": sender.instrument,
        "snr": first.snr,
        **_with_unit(units.fluence_jy_ms, fluence=first.fluence_jy_ms, fluence_err=first.fluence_err_jy_ms),
        **_with_unit(units.time_ms, burst_width=first.width_ms),
        **_with_unit(units.rm_rad_m2, rm=first.rm_rad_m2, rm_err=first.rm_err_rad_m2),
        **_with_unit(
            units.frequency_mhz,
            ref_freq=(seen.centre_frequency_mhz if seen else None) or record.reference_frequency_mhz,
        ),
        **_with_unit(units.frequency_mhz, inst_bandwidth=seen.bandwidth_mhz if seen else None),
        "channels_no": seen.nchan if seen else None,
        **_with_unit(units.time_ms, sampling_time=seen.sampling_time_ms if seen else None),
    }


def _with_unit(unit: int, **values: Any) -> dict[str, Any]:
    """Return values and their unit, under the name of the first; nothing when that is not known."""
    name = next(iter(values))
    return {**values, f"{name}_unitid": unit} if _is_known(values[name]) else {}


def discovered(record: FrbEvent) -> str:
    """Return when a burst was seen, UTC, as the TNS writes it."""
    time = record.time_of_arrival or (record.first.time_of_arrival_inf if record.first else None)
    assert time is not None
    return time.astimezone(UTC).replace(tzinfo=None).isoformat(" ", timespec="microseconds")


def _remarks(record: FrbEvent, own: str | None) -> str | None:
    """Return what the fields cannot say: where in the band the time is, and of what the burst is a repetition."""
    if record.time_of_arrival is None:
        at: str | None = "Time of arrival at infinite frequency."
    elif _is_known(record.reference_frequency_mhz):
        at = f"Time of arrival at {record.reference_frequency_mhz:g} MHz."
    else:
        at = None
    repeats = f"Repeats {record.repeater_of}." if record.repeater_of else "Repeats." if record.repeater else None
    return " ".join(text for text in (own, at, repeats) if text) or None


def axis_errors_deg(place: FrbLocalisation) -> tuple[float, float]:
    """Return the errors along right ascension, on the sky, and declination (deg), of an ellipse with 68 %."""
    scale = 1.0
    if 0 < place.confidence_level < 1:
        scale = math.sqrt(math.log1p(-SIGMA_LEVEL) / math.log1p(-place.confidence_level))
    angle = math.radians(place.position_angle_deg)
    north, east = math.cos(angle), math.sin(angle)
    ra_err_deg = math.hypot(place.semi_major_deg * east, place.semi_minor_deg * north)
    dec_err_deg = math.hypot(place.semi_major_deg * north, place.semi_minor_deg * east)
    return scale * ra_err_deg, scale * dec_err_deg


def _ellipse(place: FrbLocalisation) -> str | None:
    """Return semi-axes and position angle (deg), the form that other observatories' catalogues have."""
    values = (place.semi_major_deg, place.semi_minor_deg, place.position_angle_deg)
    return ", ".join(f"{value:.8g}" for value in values) if all(map(_is_known, values)) else None


def _is_known(value: Any) -> bool:
    return value is not None and value != "" and not (isinstance(value, float) and not math.isfinite(value))


def renamed(content: Any, keys: Mapping[str, str]) -> Any:
    """Return a report with other names of fields.

    An empty name leaves a field out, with its unit; or a level, and what it holds stays.
    """
    if not isinstance(content, dict):
        return content
    result: dict[str, Any] = {}
    for name, value in content.items():
        inside = renamed(value, keys)
        is_left_out = "" in (keys.get(name), keys.get(name.removesuffix("_unitid")))
        if not is_left_out:
            result[keys.get(name, name)] = inside
        elif isinstance(inside, dict):
            result.update(inside)
    return result


def bulk_report(reports: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return a submission of up to 100 reports."""
    return {"frb_report": {str(number): report for number, report in enumerate(reports)}}


@dataclass(frozen=True)
class Feedback:
    """What the TNS says of one report.

    Attributes
    ----------
    name
        Of the object as it says it, such as 20171117A; None when there is none (yet).
    is_identical
        It has this very report already.
    errors
        What is wrong, each with its field.
    """

    name: str | None = None
    is_identical: bool = False
    errors: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        """It has not been processed yet."""
        return self.name is None and not self.is_identical and not self.errors


@dataclass(frozen=True)
class _Said:
    path: tuple[str, ...]
    message: str
    number: int | None


def read_feedback(data: Any, position: int) -> Feedback:
    """Return what a reply says of the report at a position of its submission.

    Raises
    ------
    PermanentError
        It is none of the forms that replies have.
    """
    entry = _entry(data, position)
    name, said = None, list(_messages(entry, ()))
    for number in NAMING:
        told = entry.get(number)
        candidate = told.get("objname") if isinstance(told, dict) else None
        name = name or (str(candidate) if candidate else None)
    if name is not None:
        return Feedback(name, notes=tuple(_text(each) for each in said))
    if any(_IDENTICAL.search(each.message) for each in said):
        return Feedback(is_identical=True, notes=tuple(_text(each) for each in said))
    if not said and entry.get("status_code"):
        return Feedback(errors=(f"status_code: {entry['status_code']}",))
    wrong = [each for each in said if each.number is None or each.number < _INFORMATIVE_FROM]
    notes = [each for each in said if each not in wrong]
    return Feedback(errors=tuple(map(_text, wrong)), notes=tuple(map(_text, notes)))


def _entry(data: Any, position: int) -> dict[str, Any]:
    feedback = data.get("feedback", data) if isinstance(data, dict) else None
    reports = feedback.get("frb_report") if isinstance(feedback, dict) else None
    if isinstance(reports, dict):
        entry = reports.get(str(position))
    else:
        entry = reports[position] if isinstance(reports, list) and position < len(reports) else None
    if not isinstance(entry, dict):
        raise PermanentError(f"the reply says nothing of report {position}: {str(data)[:500]}")
    return entry


def _messages(content: Any, path: tuple[str, ...]) -> Iterator[_Said]:
    """Yield every message, with the fields that lead to it."""
    if isinstance(content, list):
        for each in content:
            yield from _messages(each, path)
    elif isinstance(content, dict):
        number = content.get("message_id") or next(filter(_NUMBER.fullmatch, path), None)
        if "message" in content:
            yield _Said(path, str(content["message"]), int(str(number)) if str(number).isdecimal() else None)
        for name, inside in content.items():
            yield from _messages(inside, path if name in _ECHOES else (*path, str(name)))


def _text(said: _Said) -> str:
    where = ".".join(name for name in said.path if not name.isdecimal())
    return f"{where}: {said.message}" if where else said.message


def objects_of(data: Any) -> list[Mapping[str, Any]]:
    """Return what a search found; 2.0 and older answers wrap it differently."""
    found = data.get("reply", []) if isinstance(data, dict) else data
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def frb_name(objname: str) -> str | None:
    """Return the name with its prefix, `FRB 20171117A`; None for an object that is no radio burst."""
    match = _NAME.fullmatch(objname.strip())
    return f"FRB {match[1]}" if match else None


def named_of_day(objects: Sequence[Mapping[str, Any]], discovered: str) -> str | None:
    """Return the name of the burst of a day among the objects found by an internal name.

    Names begin with the day. Another site may call another burst the same; so may this one, its database begun anew.
    """
    day = datetime.fromisoformat(discovered).strftime("%Y%m%d")
    names = (frb_name(str(each.get("objname", ""))) for each in objects)
    return next((name for name in names if name is not None and name[4:12] == day), None)
