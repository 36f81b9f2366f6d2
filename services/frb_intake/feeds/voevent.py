"""Reads VOEvent 2.0 packets of bursts: the standard of Petroff et al. 2017 (arXiv:1710.08155), and CHIME's form of it.

Sources: IVOA Recommendation VOEvent 2.0; the parameter list of the standard; the CHIME/FRB VOEvent service, whose
packets name further parameters, state their error ellipse, and retract with placeholders for position and time.
"""

import hashlib
import math
import re
from datetime import datetime
from typing import Any

import structlog
from lxml import etree

from services.frb_intake.feeds.notice import (
    CHIME,
    ErrorEllipse,
    FrbNotice,
    NoticeKind,
    NoticeMeasurement,
    kept,
    notice_id,
    tns_name,
    utc,
)
from services.frb_intake.texts import visible
from shared.errors import InvalidInputError
from shared.events.frb import FrbObservation
from shared.voevent.packet import parse_xml

VOEVENT_TOPIC = "voevent.frb"

MAX_NAME_CHARACTERS = 256
MAX_TEXT_CHARACTERS = 10_000
MAX_CITATIONS = 16
# CHIME's names have 90 characters; nobody cites more than a few packets.

ERROR_RADIUS_LEVEL = 0.68
# What `Error2Radius` holds; the standard does not say, errors of VOEvents are one standard deviation by convention.
CHIME_LEVEL = 0.95
# By the names of CHIME's parameters, pos_error_..._deg_95.
CHIME_REFERENCE_MHZ = 400.0

_ORIGINS = {"ca.chimenet.frb": CHIME}
_IVORN = re.compile(r"ivo://([^/#\s]+)([/#]\S*)")
_STANDARD = re.compile(r"(ivo://\S+#FRB\w+)/[\d.]+")
# The standard's ivorn is the burst, then the date when the packet was made.
_SYSTEM = re.compile(r"UTC-(ICRS|FK5)-(TOPO|GEO)")
# Between the telescope and the centre of the Earth light needs 21 ms at most.

_KINDS = {
    "retraction": NoticeKind.RETRACTION,
    "supersedes": NoticeKind.UPDATE,
    "followup": NoticeKind.SUBSEQUENT,
}  # in this order, when a packet cites in several ways

log = structlog.get_logger(__name__)


def read_voevent(data: bytes, *, marked_test: bool = False) -> FrbNotice | None:
    """Read a packet; None when it is about something else than a burst (a gravitational wave, an observing plan).

    Raises
    ------
    InvalidInputError
        It is no VOEvent, or one about a burst that lacks what such a packet must have.
    """
    root = parse_xml(data)
    _make_visible(root)
    if etree.QName(root).localname != "VOEvent":
        raise InvalidInputError("packet", etree.QName(root).localname, "a VOEvent")
    ivorn, role = root.get("ivorn", "").strip(), root.get("role", "observation")
    _bounded("ivorn", ivorn, MAX_NAME_CHARACTERS)
    params = _Params(root)
    kind, cites = _citations(root)
    if not _is_about_a_burst(kind, cites, has_dm="dm" in params, role=role):
        log.info("voevent.not_a_burst", ivorn=ivorn, role=role)
        return None
    named = _IVORN.fullmatch(ivorn)
    if named is None:
        raise InvalidInputError("ivorn", ivorn or "missing", "ivo://authority/name")
    origin = _ORIGINS.get(named[1].lower(), named[1].lower())
    names = _names(ivorn, cites[0] if kind in (NoticeKind.UPDATE, NoticeKind.RETRACTION) else None, params, origin)
    is_test = marked_test or role == "test"
    digest = hashlib.sha256(
        etree.canonicalize(etree.tostring(root, encoding="unicode"), strip_text=True).encode()
    ).hexdigest()
    is_retraction = kind is NoticeKind.RETRACTION
    # The time and position of a retraction are placeholders: CHIME writes 0, 0.
    where = None if is_retraction else _where(root)
    time = _time(where)
    if time is None and kind in (NoticeKind.DETECTION, NoticeKind.SUBSEQUENT):
        raise InvalidInputError("ISOTime", "missing", "the time of arrival of the burst")
    observation = _observation(params)
    measurement = None if is_retraction else _measurement(params, where)
    reference_mhz = observation.centre_frequency_mhz if observation else None
    known_source = params.text("known_source_name")
    why = root.find("{*}Why")
    name = _bounded("Name", _text(why, "{*}Name") or "", MAX_NAME_CHARACTERS) or None
    has_importance = kind in (NoticeKind.DETECTION, NoticeKind.SUBSEQUENT)
    probability = _associated(why)
    time_inf = params.text("timestamp_utc_inf_freq")
    time_err_s = params.number("timestamp_utc_error")
    time_inf_err_s = params.number("timestamp_utc_inf_freq_error")
    return FrbNotice(
        origin=origin,
        origin_id=names[0],
        names=names,
        notice_id=notice_id(origin, is_test=is_test, digest=digest),
        kind=kind,
        is_test=is_test,
        issued_at=_date(root),
        time_of_arrival=time,
        time_of_arrival_err_s=time_err_s,
        reference_frequency_mhz=CHIME_REFERENCE_MHZ if origin == CHIME else reference_mhz,
        time_of_arrival_inf=None if time_inf is None else utc(time_inf, field="timestamp_utc_inf_freq"),
        time_of_arrival_inf_err_s=time_inf_err_s,
        repeater=kind is NoticeKind.SUBSEQUENT or known_source is not None,
        known_source=known_source or (name if kind is NoticeKind.SUBSEQUENT else None),
        cites=cites,
        importance=_importance(why) if has_importance else None,
        observation=observation,
        measurement=measurement,
        tns_name=None if kind is NoticeKind.SUBSEQUENT else tns_name(name),
        note=_note(root, why),
        unmapped=kept(params.rest() | ({} if probability is None else {"association_probability": probability})),
    )


class _Params:
    """The parameters of a packet, in whatever group they are; those that were asked for are told from the rest."""

    def __init__(self, root: etree._Element) -> None:
        self._values: dict[str, str] = {}
        self._asked: set[str] = set()
        for param in root.iterfind("{*}What//{*}Param"):
            value = param.get("value")
            if value is None:
                value = _text(param, "{*}Value")
            # Some senders write out what Python calls nothing.
            if value is not None and value.strip() not in ("", "None"):
                self._values.setdefault(param.get("name", "").strip(), value.strip())

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def text(self, name: str) -> str | None:
        """Return a parameter, None when it is absent."""
        self._asked.add(name)
        value = self._values.get(name)
        return None if value is None else _bounded(name, value, MAX_NAME_CHARACTERS)

    def number(self, name: str, *, low: float = 0.0) -> float | None:
        """Return a parameter as a number of at least `low`, None when it is absent."""
        text = self.text(name)
        return None if text is None else _number(name, text, low=low)

    def whole(self, name: str) -> int | None:
        """Return a parameter as a whole number (some senders write 2.0), None when it is absent."""
        value = self.number(name)
        if value is not None and (value != int(value) or value >= 2**31):
            raise InvalidInputError(name, value, "a whole number")
        return None if value is None else int(value)

    def larger(self, *names: str) -> float | None:
        """Return the largest of some parameters, None when all are absent."""
        return max((value for name in names if (value := self.number(name)) is not None), default=None)

    def rest(self) -> dict[str, Any]:
        """Return the parameters that nobody asked for."""
        return {name: value for name, value in self._values.items() if name not in self._asked}


def _citations(root: etree._Element) -> tuple[NoticeKind, tuple[str, ...]]:
    cited = [(event.get("cite", ""), _text(event)) for event in root.iterfind("{*}Citations/{*}EventIVORN")]
    if len(cited) > MAX_CITATIONS:
        raise InvalidInputError("Citations", f"{len(cited)} packets", f"at most {MAX_CITATIONS} packets")
    for _, ivorn in cited:
        _bounded("EventIVORN", ivorn or "", MAX_NAME_CHARACTERS)
    for cite, kind in _KINDS.items():
        ivorns = tuple(ivorn for how, ivorn in cited if how == cite and ivorn)
        if kind is NoticeKind.SUBSEQUENT:
            # CHIME cites nothing by name; others cite what triggered them, which need not be a burst.
            if any(how == cite and (ivorn is None or _is_burst(ivorn)) for how, ivorn in cited):
                return kind, ivorns
        elif any(map(_is_burst, ivorns)):
            return kind, tuple(filter(_is_burst, ivorns))
    return NoticeKind.DETECTION, tuple(ivorn for _, ivorn in cited if ivorn)


def _is_burst(ivorn: str) -> bool:
    """Whether an ivorn names a burst, by what follows the authority (CHIME's contains `frb` in any case)."""
    named = _IVORN.fullmatch(ivorn)
    return named is not None and "frb" in named[2].lower()


def _is_about_a_burst(kind: NoticeKind, cites: tuple[str, ...], *, has_dm: bool, role: str) -> bool:
    if kind in (NoticeKind.UPDATE, NoticeKind.RETRACTION):
        return bool(cites)
    return has_dm and role in ("observation", "test")


def _names(ivorn: str, changed: str | None, params: _Params, origin: str) -> tuple[str, ...]:
    """Return the names of the burst: without the date when a packet was made, of each packet, the telescope's own."""
    first = changed or ivorn
    standard = _STANDARD.fullmatch(first)
    number = params.text("event_no") if origin == CHIME else None
    return tuple(dict.fromkeys(filter(None, (standard[1] if standard else first, first, ivorn, number))))


def _where(root: etree._Element) -> etree._Element | None:
    """Return where and when the burst was seen (an observatory's own location has coordinates as well)."""
    where = root.find("{*}WhereWhen//{*}ObservationLocation")
    if where is None:
        return None
    system = where.find("{*}AstroCoordSystem")
    name = system.get("id", "") if system is not None else ""
    if name and not _SYSTEM.fullmatch(name):
        raise InvalidInputError("AstroCoordSystem", name, "UTC-ICRS-TOPO, UTC-FK5-TOPO, UTC-ICRS-GEO or UTC-FK5-GEO")
    return where


def _time(where: etree._Element | None) -> datetime | None:
    text = _text(where, ".//{*}ISOTime")
    return None if text is None else utc(text, field="ISOTime")


def _date(root: etree._Element) -> datetime | None:
    text = _text(root, "{*}Who/{*}Date")
    return None if text is None else utc(text, field="Date")


def _observation(params: _Params) -> FrbObservation | None:
    observation = FrbObservation(
        beam_semi_major_axis_arcmin=params.number("beam_semi-major_axis"),
        beam_semi_minor_axis_arcmin=params.number("beam_semi-minor_axis"),
        beam_rotation_angle_deg=params.number("beam_rotation_angle", low=-360),
        sampling_time_ms=params.number("sampling_time"),
        bandwidth_mhz=params.number("bandwidth"),
        nchan=params.whole("nchan"),
        centre_frequency_mhz=params.number("centre_frequency"),
        npol=params.whole("npol"),
        bits_per_sample=params.whole("bits_per_sample"),
        gain_k_jy=params.number("gain"),
        tsys_k=params.number("tsys"),
        backend=params.text("backend"),
        beam=params.text("beam"),
    )
    return None if observation == FrbObservation() else observation


def _measurement(params: _Params, where: etree._Element | None) -> NoticeMeasurement | None:
    ra_deg, dec_deg = _coordinate(where, "C1", 0, 360), _coordinate(where, "C2", -90, 90)
    ellipse, level = None, None
    # CHIME's semi-major axis is the one along declination, whichever is longer.
    along_dec, along_ra = params.number("pos_error_semimajor_deg_95"), params.number("pos_error_semiminor_deg_95")
    radius = _text(where, ".//{*}Position2D/{*}Error2Radius")
    if along_dec is not None and along_ra is not None:
        ellipse, level = ErrorEllipse.from_axes(along_dec, along_ra, 0.0), CHIME_LEVEL
    elif radius is not None and radius != "None":
        radius_deg = _number("Error2Radius", radius)
        ellipse, level = ErrorEllipse.from_axes(radius_deg, radius_deg, 0.0), ERROR_RADIUS_LEVEL
    if ra_deg is None or dec_deg is None:
        ra_deg = dec_deg = ellipse = None
    dm_mw, model = params.number("dm_gal_ne_2001_max"), "NE2001"
    if dm_mw is None:
        dm_mw, model = params.number("MW_dm_limit"), params.text("galactic_electron_model") or "given"
    calibrated = params.number("flux_calibrated")
    measurement = NoticeMeasurement(
        dm_pc_cm3=params.number("dm"),
        dm_err_pc_cm3=params.number("dm_error"),
        ra_deg=None if ra_deg is None else ra_deg % 360,
        dec_deg=dec_deg,
        semi_major_deg=ellipse.semi_major_deg if ellipse else None,
        semi_minor_deg=ellipse.semi_minor_deg if ellipse else None,
        position_angle_deg=ellipse.position_angle_deg if ellipse else None,
        confidence_level=level if ellipse else None,
        snr=params.number("snr"),
        width_ms=params.number("width"),
        flux_jy=params.number("flux") if calibrated is None else calibrated,
        flux_err_jy=params.larger("flux_error_upper", "flux_error_lower"),
        fluence_jy_ms=params.number("fluence"),
        fluence_err_jy_ms=params.larger("fluence_error_upper", "fluence_error_lower"),
        rm_rad_m2=params.number("rm", low=-math.inf),
        rm_err_rad_m2=params.number("rm_error"),
        # Of the host: the inferred one follows from the dispersion measure.
        redshift=params.number("redshift_host"),
        dm_mw_ism_pc_cm3=dm_mw,
        dm_mw_ism_model=None if dm_mw is None else model,
        pipeline=params.text("pipeline_name") or "",
    )
    return None if measurement.is_empty else measurement


def _coordinate(where: etree._Element | None, name: str, low: float, high: float) -> float | None:
    text = _text(where, f".//{{*}}Position2D/{{*}}Value2/{{*}}{name}")
    return None if text is None or text == "None" else _number(name, text, low=low, high=high)


def _importance(why: etree._Element | None) -> float | None:
    text = why.get("importance") if why is not None else None
    return None if text in (None, "", "None") else _number("importance", str(text), high=1)


def _associated(why: etree._Element | None) -> float | None:
    """Return how certainly the burst belongs to a known source, as CHIME says it."""
    inference = why.find("{*}Inference") if why is not None else None
    if inference is None or "association" not in inference.get("relation", "").lower():
        return None
    return _number("Inference.probability", inference.get("probability", ""), high=1)


def _note(root: etree._Element, why: etree._Element | None) -> str | None:
    texts = (_text(why, "{*}Description"), _text(root, "{*}Citations/{*}Description"), _text(root, "{*}Description"))
    return _bounded("Description", "\n".join(filter(None, texts)), MAX_TEXT_CHARACTERS) or None


def _make_visible(root: etree._Element) -> None:
    """Take hidden characters out of all texts and attributes."""
    for element in root.iter(etree.Element):
        element.text = visible(element.text)
        for name, value in element.attrib.items():
            element.set(name, visible(value))


def _bounded(name: str, text: str, characters: int) -> str:
    if len(text) > characters:
        raise InvalidInputError(name, text, f"at most {characters} characters")
    return text


def _number(name: str, text: str, *, low: float = 0.0, high: float = math.inf) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and low <= value <= high):
        limits = f" from {low:g} to {high:g}" if high < math.inf else f" of at least {low:g}" if low > -math.inf else ""
        raise InvalidInputError(name, text, f"a number{limits}")
    return value


def _text(element: etree._Element | None, path: str | None = None) -> str | None:
    """Return the text of an element, or of the first one at `path` inside; None when there is none."""
    found = element.find(path) if element is not None and path is not None else element
    text = found.text if found is not None else None
    return text.strip() if text and text.strip() else None
