"""VOEvent 2.0 packets: bursts by the standard of Petroff et al. 2017 (arXiv:1710.08155), and coincidences.

A packet says only what is known: a parameter without a value is left out. The standard fixes the importance of updates
and retractions at 0; what a confirmation changes is said in their inference. The time of arrival is topocentric, at the
centre of the band; that at infinite frequency is beside it, under the names that CHIME's packets have for it.

Sources: IVOA Recommendation VOEvent 2.0; the standard's templates and parameter list.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from lxml import etree

from shared.events.frb import FrbEvent, FrbLocalisation, FrbMeasurement, FrbStatus
from shared.events.mma import Coincidence, CoincidenceType
from shared.physics.dispersion import dispersion_delay_s

MAX_CITED = 16
# The first packet and the newest ones: nobody needs to hear of forty corrections by name.
ERROR_RADIUS_LEVEL = 0.68
# Of `Error2Radius`; the standard does not say, errors of VOEvents are one standard deviation by convention.
ELECTRON_MODELS = ("NE2001", "TC93", "YMW16")

_VOEVENT = "http://www.ivoa.net/xml/VOEvent/v2.0"
_XSI = "http://www.w3.org/2001/XMLSchema-instance"
_MJD_0 = datetime(1858, 11, 17, tzinfo=UTC)
_NOT_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class PacketType(StrEnum):
    """The standard's types of packets about a burst."""

    DETECTION = "detection"
    SUBSEQUENT = "subsequent"
    UPDATE = "update"
    RETRACTION = "retraction"


_TOGETHER = (
    ("dm_pc_cm3", "dm_err_pc_cm3"),
    ("snr",),
    ("width_ms",),
    ("flux_jy", "flux_err_jy"),
    ("fluence_jy_ms", "fluence_err_jy_ms"),
    ("rm_rad_m2", "rm_err_rad_m2"),
    ("redshift",),
    ("time_of_arrival_inf", "time_of_arrival_inf_err_s"),
    ("localisation", "gl_deg", "gb_deg"),
    ("dm_budget",),
)  # a value and what belongs to it come from one measurement
_CITES = {PacketType.UPDATE: "supersedes", PacketType.RETRACTION: "retraction"}


@dataclass(frozen=True)
class Station:
    """Who speaks: the author, and the observatory whose bursts they are.

    Attributes
    ----------
    institute, instrument
        The two parts of `ivo://institute/instrument`.
    longitude_deg, latitude_deg, altitude_m
        WGS 84, east positive; None when they are not told.
    """

    institute: str
    instrument: str
    observatory: str
    title: str | None = None
    contact_name: str | None = None
    contact_email: str | None = None
    contact_phone: str | None = None
    longitude_deg: float | None = None
    latitude_deg: float | None = None
    altitude_m: float | None = None


@dataclass(frozen=True)
class Heading:
    """What is about a packet, not about what it tells.

    Attributes
    ----------
    role
        `observation` or `test`.
    made_at, number
        When the packet was decided on, and a number that tells it from others of the same instant.
    cites
        Ivorns of the packets of the same subject before it, oldest first.
    url
        Where people read about it.
    """

    role: str
    made_at: datetime
    number: int
    cites: Sequence[str] = ()
    url: str | None = None


@dataclass(frozen=True)
class Packet:
    """A packet as it is sent."""

    ivorn: str
    type: PacketType
    xml: str


@dataclass(frozen=True)
class _Param:
    name: str
    value: float | int | str | None
    unit: str | None = None
    ucd: str | None = None
    description: str | None = None


def can_be_told(record: FrbEvent) -> bool:
    """Whether enough is known of a burst for a packet: when it arrived, and its dispersion measure."""
    measured = _known(record)
    return record.time_of_arrival is not None and measured is not None and measured.dm_pc_cm3 is not None


def burst_packet(
    record: FrbEvent, *, packet_type: PacketType, station: Station, heading: Heading, importance: float | None = None
) -> Packet:
    """Return the packet of a type about a burst.

    Parameters
    ----------
    importance
        Of detections and subsequent ones: how likely the burst is astrophysical (0 to 1).
    """
    name = _burst_name(record, heading.cites)
    ivorn = f"ivo://{station.institute}/{station.instrument}#{name}/{creation_mjd(heading)}"
    root = _root(ivorn, station=station, heading=heading)
    if packet_type is not PacketType.RETRACTION:
        what = _add(root, "What")
        _add_group(what, "observatory parameters", _observatory_params(record))
        _add_group(what, "event parameters", _event_params(record))
        _add_group(what, "advanced parameters", _advanced_params(record))
        if len(what) == 0:
            root.remove(what)
        if record.time_of_arrival is not None:
            measured = _known(record)
            _add_where(
                root,
                station,
                system="UTC-ICRS-TOPO",
                time=_time_at_centre(record),
                time_err_s=record.time_of_arrival_err_s,
                place=measured.localisation if measured else None,
            )
        _add_how(root, _burst_how(record), heading.url)
    _add_burst_why(root, record, packet_type=packet_type, importance=importance)
    if packet_type is PacketType.SUBSEQUENT:
        # A source that is known by its name alone is cited as CHIME cites it: that it is one, not which.
        source = record.repeater_of or ""
        _add_citations(root, "followup", [source if source.startswith("ivo://") else ""], "The source repeats.")
    elif packet_type in _CITES:
        cited = heading.cites or [f"ivo://{station.institute}/{station.instrument}#{name}"]
        _add_citations(root, _CITES[packet_type], cited, None)
    return Packet(ivorn, packet_type, _encoded(root))


def coincidence_packet(record: Coincidence, *, station: Station, heading: Heading) -> Packet:
    """Return the packet about a gravitational wave and a burst that may belong together.

    Its dispersion measure is called `burst_dm`: a packet with a parameter `dm` is one of a burst to who reads by the
    standard.
    """
    types = {CoincidenceType.RETRACTION: PacketType.RETRACTION, CoincidenceType.UPDATE: PacketType.UPDATE}
    packet_type = types.get(record.coincidence_type, PacketType.DETECTION)
    if heading.cites and packet_type is PacketType.DETECTION:
        packet_type = PacketType.UPDATE
    elif not heading.cites and packet_type is PacketType.UPDATE:
        packet_type = PacketType.DETECTION
    # Not the instrument's: who looks for `frb` in ivorns would find one in some.
    subject = f"ivo://{station.institute}/coincidences#{record.coincidence_id}"
    ivorn = f"{subject}/{creation_mjd(heading)}"
    root = _root(ivorn, station=station, heading=heading)
    what = _add(root, "What")
    _add_group(what, "gravitational wave", _wave_params(record))
    _add_group(what, "burst", _burst_params(record))
    _add_group(what, "coincidence", _score_params(record))
    if packet_type is not PacketType.RETRACTION:
        _add_where(
            root,
            station,
            system="UTC-ICRS-GEO",
            time=record.burst.time,
            time_err_s=record.burst.time_err_s,
            place=record.burst.localisation,
        )
        how = "Time and position are the burst's; the time is that of arrival at the geocentre at infinite frequency."
        _add_how(root, " ".join(filter(None, (how, record.burst.timing_note))), heading.url)
    why = _add(root, "Why")
    _add(why, "Name", record.coincidence_id)
    _add(why, "Description", record.reason)
    odds = record.scores.odds if record.scores else None
    if odds is not None and math.isfinite(odds) and odds >= 0:
        inference = _add(why, "Inference", probability=_number(odds / (1 + odds)), relation="association")
        names = (record.wave.superevent_id, record.burst.tns_name or record.burst.internal_name)
        _add(inference, "Name", " and ".join(names))
        _add(inference, "Description", "Posterior probability of a common source, against chance.")
    if packet_type in _CITES:
        _add_citations(root, _CITES[packet_type], heading.cites or [subject], None)
    return Packet(ivorn, packet_type, _encoded(root))


def creation_mjd(heading: Heading) -> str:
    """Return when a packet was made as a modified Julian date, to the microsecond and told from others of it.

    1e-11 days are 0.9 microseconds, so eleven digits tell all instants apart; below them stands the packet's number.
    """
    days, rest = divmod(heading.made_at - _MJD_0, timedelta(days=1))
    microseconds = rest // timedelta(microseconds=1)
    return f"{days}.{microseconds * 10**11 // 86_400_000_000:011d}{heading.number % 1000:03d}"


def cited_first(ivorns: Sequence[str]) -> list[str]:
    """Return the ivorns that are cited when these were told: the first and the newest."""
    return list(ivorns) if len(ivorns) <= MAX_CITED else [ivorns[0], *ivorns[-(MAX_CITED - 1) :]]


def _burst_name(record: FrbEvent, cites: Sequence[str]) -> str:
    """Return `FRB` and the minute of arrival; that of the first packet, once there is one."""
    if cites:
        return cites[0].partition("#")[2].rpartition("/")[0]
    time = record.time_of_arrival or record.received_at
    return f"FRB{time.astimezone(UTC):%y%m%d%H%M}"


def _known(record: FrbEvent) -> FrbMeasurement | None:
    """Return all that is known: each quantity from the latest measurement, or from the first where that has none."""
    latest, first = record.latest, record.first
    if latest is None or first is None:
        return latest or first
    from_first = [name for names in _TOGETHER if getattr(latest, names[0]) is None for name in names]
    return latest.model_copy(update={name: getattr(first, name) for name in from_first})


def _observatory_params(record: FrbEvent) -> Iterable[_Param]:
    setup = record.observation
    if setup is None:
        return
    ellipse = "instr.beam;pos.errorEllipse;"
    # The standard writes MM for minutes of arc.
    yield _Param("beam_semi-major_axis", setup.beam_semi_major_axis_arcmin, "MM", f"{ellipse}phys.angSize.smajAxis")
    yield _Param("beam_semi-minor_axis", setup.beam_semi_minor_axis_arcmin, "MM", f"{ellipse}phys.angSize.sminAxis")
    yield _Param("beam_rotation_angle", setup.beam_rotation_angle_deg, "Degrees", f"{ellipse}instr.offset")
    yield _Param("sampling_time", setup.sampling_time_ms, "ms", "time.resolution")
    yield _Param("bandwidth", setup.bandwidth_mhz, "MHz", "instr.bandwidth")
    nchan = None if setup.nchan is None else float(setup.nchan)
    yield _Param("nchan", nchan, None, "meta.number;em.freq;em.bin")
    yield _Param("centre_frequency", setup.centre_frequency_mhz, "MHz", "em.freq;instr")
    yield _Param("npol", setup.npol)
    yield _Param("bits_per_sample", setup.bits_per_sample)
    yield _Param("gain", setup.gain_k_jy, "K/Jy")
    yield _Param("tsys", setup.tsys_k, "K", "phot.antennaTemp")
    yield _Param("backend", setup.backend)
    yield _Param("beam", setup.beam, description="Detection beam, of a receiver of several")


def _event_params(record: FrbEvent) -> Iterable[_Param]:
    measured = _known(record)
    if measured is None:
        return
    yield _Param("dm", measured.dm_pc_cm3, "pc/cm^3", "phys.dispMeasure")
    yield _Param("dm_error", measured.dm_err_pc_cm3, "pc/cm^3", "stat.error;phys.dispMeasure")
    yield _Param("width", measured.width_ms, "ms", "time.duration;src.var.pulse")
    yield _Param("snr", measured.snr, None, "stat.snr")
    yield _Param("flux", measured.flux_jy, "Jy", "phot.flux")
    yield _Param("gl", measured.gl_deg, "Degrees", "pos.galactic.lon")
    yield _Param("gb", measured.gb_deg, "Degrees", "pos.galactic.lat")


def _advanced_params(record: FrbEvent) -> Iterable[_Param]:
    # Not the standard's, which has one time and no error of it: CHIME's names.
    yield _Param("timestamp_utc_error", record.time_of_arrival_err_s, "s", "stat.error;time")
    measured = _known(record)
    if measured is None:
        return
    if measured.time_of_arrival_inf is not None:
        at_infinity = "Topocentric time of arrival at infinite frequency (UTC)"
        yield _Param("timestamp_utc_inf_freq", _iso(measured.time_of_arrival_inf), None, "time.epoch", at_infinity)
        yield _Param("timestamp_utc_inf_freq_error", measured.time_of_arrival_inf_err_s, "s", "stat.error;time")
    if budget := measured.dm_budget:
        model = budget.dm_mw_ism_model
        is_listed = model in ELECTRON_MODELS
        yield _Param("MW_dm_limit", budget.dm_mw_ism_pc_cm3, "pc/cm^3")
        yield _Param(
            "galactic_electron_model", model if is_listed else "other", None, None, None if is_listed else model
        )
        between = f"between {budget.redshift_low:g} and {budget.redshift_high:g}"
        how = f"From the dispersion measure ({budget.cosmology}); {between}"
        yield _Param("redshift_inferred", budget.redshift_mean, None, "src.redshift", how)
    yield _Param("redshift_host", measured.redshift, None, "src.redshift")
    yield from _both_errors("flux", measured.flux_err_jy, "Jy", "phot.flux")
    yield _Param("fluence", measured.fluence_jy_ms, "Jy ms", "phot.fluence")
    yield from _both_errors("fluence", measured.fluence_err_jy_ms, "Jy ms", "phot.fluence")
    yield _Param("rm", measured.rm_rad_m2, "rad/m^2", "phys.polarization.rotMeasure")
    yield _Param("rm_error", measured.rm_err_rad_m2, "rad/m^2", "stat.error;phys.polarization.rotMeasure")


def _both_errors(name: str, error: float | None, unit: str, ucd: str) -> Iterable[_Param]:
    yield _Param(f"{name}_error_upper", error, unit, f"stat.error;{ucd};stat.max")
    yield _Param(f"{name}_error_lower", error, unit, f"stat.error;{ucd};stat.min")


def _wave_params(record: Coincidence) -> Iterable[_Param]:
    wave = record.wave
    yield _Param("superevent_id", wave.superevent_id, None, "meta.id")
    yield _Param("alert_type", wave.alert_type.value)
    yield _Param("event_time", _iso(wave.event_time), None, "time.epoch")
    yield _Param("group", wave.group)
    yield _Param("search", wave.search)
    yield _Param("pipeline", wave.pipeline)
    yield _Param("significant", None if wave.significant is None else int(wave.significant))
    yield _Param("far", wave.far_hz, "Hz", "arith.rate;stat.falsealarm")
    yield _Param("p_astro", wave.p_astro, None, "stat.probability")


def _burst_params(record: Coincidence) -> Iterable[_Param]:
    burst = record.burst
    yield _Param("internal_name", burst.internal_name, None, "meta.id")
    yield _Param("tns_name", burst.tns_name, None, "meta.id")
    yield _Param("origin", burst.origin)
    yield _Param("origin_id", burst.origin_id, None, "meta.id")
    yield _Param("burst_dm", burst.dm_pc_cm3, "pc/cm^3", "phys.dispMeasure")
    yield _Param("burst_dm_error", burst.dm_err_pc_cm3, "pc/cm^3", "stat.error;phys.dispMeasure")
    yield _Param("burst_dm_excess", burst.dm_excess_pc_cm3, "pc/cm^3", "phys.dispMeasure")
    yield _Param("burst_snr", burst.snr, None, "stat.snr")
    yield _Param("redshift_host", burst.redshift, None, "src.redshift")
    yield _Param("redshift_low", burst.redshift_low, None, "src.redshift;stat.min")
    yield _Param("redshift_high", burst.redshift_high, None, "src.redshift;stat.max")


def _score_params(record: Coincidence) -> Iterable[_Param]:
    yield _Param("method_version", record.method_version, None, "meta.version")
    scores = record.scores
    if scores is None:
        return
    yield _Param("time_offset", scores.time_offset_s, "s", "time.interval", "Burst less wave.")
    yield _Param("time_offset_error", scores.time_offset_err_s, "s", "stat.error;time.interval")
    yield _Param("window_low", scores.window_low_s, "s", "time.interval", "Wave less burst.")
    yield _Param("window_high", scores.window_high_s, "s", "time.interval", "Wave less burst.")
    yield _Param("overlap_sky", scores.overlap_sky)
    yield _Param("overlap_3d", scores.overlap_3d)
    yield _Param("credible_level", scores.credible_level, None, "stat.probability")
    yield _Param("wave_distance_mean", scores.wave_distance_mean_mpc, "Mpc", "pos.distance;stat.mean")
    yield _Param("wave_distance_std", scores.wave_distance_std_mpc, "Mpc", "pos.distance;stat.stdev")
    yield _Param("burst_distance_low", scores.burst_distance_low_mpc, "Mpc", "pos.distance;stat.min")
    yield _Param("burst_distance_high", scores.burst_distance_high_mpc, "Mpc", "pos.distance;stat.max")
    yield _Param("far_time", scores.far_time_hz, "Hz", "arith.rate;stat.falsealarm")
    yield _Param("far_space_time", scores.far_space_time_hz, "Hz", "arith.rate;stat.falsealarm")
    yield _Param("trials_factor", scores.trials_factor, None, "meta.number")
    yield _Param("odds", scores.odds, None, "stat.likelihood")
    if scores.background:
        yield _Param("background_rate", scores.background.rate_per_year, "yr-1", "arith.rate;stat.falsealarm")


def _burst_how(record: FrbEvent) -> str:
    frequency = _frequency_of_time(record)
    at = "" if frequency is None else f" at {frequency:g} MHz"
    latest = record.latest
    pipeline = f"{latest.pipeline} {latest.pipeline_version}".strip() if latest else ""
    return " ".join(filter(None, (f"The time of arrival is topocentric{at}.", pipeline and f"Measured by {pipeline}.")))


def _time_at_centre(record: FrbEvent) -> datetime:
    """Return the time of arrival at the centre of the band, where the standard's packets have it."""
    time, at, wanted, measured = (
        record.time_of_arrival,
        record.reference_frequency_mhz,
        _frequency_of_time(record),
        _known(record),
    )
    assert time is not None
    if at is None or wanted is None or at == wanted or measured is None or measured.dm_pc_cm3 is None:
        return time
    there, here = dispersion_delay_s(measured.dm_pc_cm3, [wanted, at]).tolist()
    return time + timedelta(seconds=there - here)


def _frequency_of_time(record: FrbEvent) -> float | None:
    """Return the frequency of `_time_at_centre` (MHz): the centre of the band, or what is known."""
    centre = record.observation.centre_frequency_mhz if record.observation else None
    return (
        centre if centre and record.reference_frequency_mhz and can_be_told(record) else record.reference_frequency_mhz
    )


def _add_burst_why(
    root: etree._Element, record: FrbEvent, *, packet_type: PacketType, importance: float | None
) -> None:
    stands = packet_type is not PacketType.RETRACTION
    first = packet_type in (PacketType.DETECTION, PacketType.SUBSEQUENT)
    why = _add(root, "Why", importance=_number(importance if first and importance is not None else 0.0))
    if first:
        judged = (
            "Probability that the burst is astrophysical, as its origin judged it"
            if importance == record.importance
            else "What people think of the burst"
        )
        _add(why, "Concept", judged)
    name = record.repeater_of if packet_type is PacketType.SUBSEQUENT else record.tns_name
    if name:
        _add(why, "Name", name)
    told = {
        PacketType.DETECTION: "A new burst.",
        PacketType.SUBSEQUENT: "Another burst of a source that is known to repeat.",
        PacketType.UPDATE: "Replaces what was told of this burst before.",
        PacketType.RETRACTION: "This burst is taken back.",
    }[packet_type]
    reason = record.status_reason if not stands or record.status is FrbStatus.CONFIRMED else None
    _add(why, "Description", " ".join(filter(None, (told, f"Its name here: {record.internal_name}.", reason))))
    if stands and record.status is FrbStatus.CONFIRMED:
        inference = _add(why, "Inference", relation="identified")
        _add(inference, "Name", "Fast radio burst")
        _add(inference, "Description", "Confirmed by people.")


def _root(ivorn: str, *, station: Station, heading: Heading) -> etree._Element:
    root = etree.Element(
        f"{{{_VOEVENT}}}VOEvent",
        nsmap={"voe": _VOEVENT, "xsi": _XSI},
        version="2.0",
        role=heading.role,
        ivorn=ivorn,
    )
    root.set(f"{{{_XSI}}}schemaLocation", f"{_VOEVENT} http://www.ivoa.net/xml/VOEvent/VOEvent-v2.0.xsd")
    who = _add(root, "Who")
    _add(who, "AuthorIVORN", f"ivo://{station.institute}/contact")
    _add(who, "Date", heading.made_at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="seconds"))
    author = _add(who, "Author")
    _add(author, "title", station.title or station.observatory)
    _add(author, "shortName", station.observatory)
    for name, text in (
        ("contactName", station.contact_name),
        ("contactEmail", station.contact_email),
        ("contactPhone", station.contact_phone),
    ):
        if text:
            _add(author, name, text)
    return root


def _add_group(what: etree._Element, name: str, params: Iterable[_Param]) -> None:
    known = [param for param in params if _is_known(param.value)]
    if not known:
        return
    group = _add(what, "Group", name=name)
    for param in known:
        added = _add(group, "Param", name=param.name)
        if param.ucd:
            added.set("ucd", param.ucd)
        if param.unit:
            added.set("unit", param.unit)
        value = param.value
        if isinstance(value, str):
            added.set("value", _clean(value))
        else:
            assert value is not None
            added.set("dataType", "float" if isinstance(value, float) else "int")
            added.set("value", _number(value))
        if param.description:
            _add(added, "Description", param.description)


def _is_known(value: float | str | None) -> bool:
    if isinstance(value, str):
        return bool(_clean(value).strip())
    return value is not None and math.isfinite(value)


def _add_where(
    root: etree._Element,
    station: Station,
    *,
    system: str,
    time: datetime,
    time_err_s: float | None,
    place: FrbLocalisation | None,
) -> None:
    where = _add(root, "WhereWhen")
    data = _add(where, "ObsDataLocation")
    observatory = _add(data, "ObservatoryLocation", id=station.observatory)
    if station.longitude_deg is not None and station.latitude_deg is not None:
        _add(observatory, "AstroCoordSystem", id="UTC-GEOD-TOPO")
        at = _add(_add(observatory, "AstroCoords", coord_system_id="UTC-GEOD-TOPO"), "Position3D", unit="deg-deg-m")
        for number, name in enumerate(("Longitude", "Latitude", "Elevation"), 1):
            _add(at, f"Name{number}", name)
        values = _add(at, "Value3")
        location = (station.longitude_deg, station.latitude_deg, station.altitude_m or 0.0)
        for number, value in enumerate(location, 1):
            _add(values, f"C{number}", _number(value))
    observation = _add(data, "ObservationLocation")
    _add(observation, "AstroCoordSystem", id=system)
    coordinates = _add(observation, "AstroCoords", coord_system_id=system)
    when = _add(coordinates, "Time", unit="s")
    _add(_add(when, "TimeInstant"), "ISOTime", _iso(time))
    if _is_known(time_err_s):
        _add(when, "Error", _number(time_err_s or 0.0))
    if place is None:
        return
    position = _add(coordinates, "Position2D", unit="deg")
    _add(position, "Name1", "RA")
    _add(position, "Name2", "Dec")
    values = _add(position, "Value2")
    _add(values, "C1", _number(place.ra_deg))
    _add(values, "C2", _number(place.dec_deg))
    _add(position, "Error2Radius", _number(error_radius_deg(place)))
    _add(
        where,
        "Description",
        f"The error radius holds {ERROR_RADIUS_LEVEL:.0%}, along the longer axis. The error ellipse holds"
        f" {place.confidence_level:.3g}: semi-axes {place.semi_major_deg:.6g} and {place.semi_minor_deg:.6g} deg, the"
        f" longer one at a position angle of {place.position_angle_deg:.6g} deg (north through east).",
    )


def error_radius_deg(place: FrbLocalisation) -> float:
    """Return the semi-major axis (deg) of the ellipse with 68 %, of a Gaussian; the standard has one radius."""
    if not 0 < place.confidence_level < 1:
        return place.semi_major_deg
    return place.semi_major_deg * math.sqrt(math.log1p(-ERROR_RADIUS_LEVEL) / math.log1p(-place.confidence_level))


def _add_how(root: etree._Element, text: str, url: str | None) -> None:
    how = _add(root, "How")
    _add(how, "Description", text)
    if url:
        _add(how, "Reference", uri=url)


def _add_citations(root: etree._Element, cite: str, ivorns: Sequence[str], description: str | None) -> None:
    citations = _add(root, "Citations")
    for ivorn in cited_first(ivorns):
        _add(citations, "EventIVORN", ivorn or None, cite=cite)
    if description:
        _add(citations, "Description", description)


def _add(parent: etree._Element, tag: str, text: str | None = None, **attributes: str) -> etree._Element:
    element = etree.SubElement(parent, tag, {name: _clean(value) for name, value in attributes.items()})
    element.text = None if text is None else _clean(text)
    return element


def _clean(text: str) -> str:
    """Return a text without the characters that XML cannot hold."""
    return _NOT_XML.sub("", text)


def _number(value: Any) -> str:
    """Return a number to all its digits."""
    return repr(value)


def _iso(time: datetime) -> str:
    return time.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds")


def _encoded(root: etree._Element) -> str:
    etree.indent(root)
    return etree.tostring(root, xml_declaration=True, encoding="UTF-8").decode()
