"""Reads notices of bursts in NASA GCN's unified schema: `gcn.notices.chime.frb` and `gcn.notices.dsa110.frb`.

Sources: nasa-gcn/gcn-schema (gcn/notices/chime, dsa110, core); the examples beside the schemas, which differ from
them and from each other in what tests/unit/frb_intake/feeds/test_gcn.py names.
"""

import hashlib
import json
import re
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from services.frb_intake.feeds.notice import (
    CHIME,
    DSA_110,
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
from shared.http.json_body import parse_json

CHIME_TOPIC = "gcn.notices.chime.frb"
DSA_110_TOPIC = "gcn.notices.dsa110.frb"

MAX_NOTICE_BYTES = 4 * 1024 * 1024
# A notice of today has 1 kB; the schema allows a sky map in base64, which for a multi-order one is below 2 MB.

DEFAULT_CONTAINMENT = 0.9
# The core schema's, where a notice says nothing.

_ORIGINS = {CHIME_TOPIC: CHIME, DSA_110_TOPIC: DSA_110}
_SCHEMA = re.compile(r"/gcn/notices/(\w+)/frb\.schema\.json$")

_REFERENCE_FREQUENCY_MHZ = {CHIME: 400.0}
# CHIME states its times at the bottom of its band; for others the contract's rule holds, the middle of the band.

_KINDS = {
    "initial": NoticeKind.DETECTION,
    "subsequent": NoticeKind.SUBSEQUENT,
    "update": NoticeKind.UPDATE,
    "retraction": NoticeKind.RETRACTION,
}
_TEST_TENSES = {"test", "injection"}


def topic_of_notice(data: bytes) -> str | None:
    """Return the topic of a notice by its `$schema`; None when it names none of ours, or is not JSON."""
    try:
        content = parse_json(data, max_bytes=MAX_NOTICE_BYTES)
    except InvalidInputError:
        return None
    return _topic_by_schema(content.get("$schema")) if isinstance(content, dict) else None


def read_gcn(data: bytes, *, topic: str | None = None, marked_test: bool = False) -> FrbNotice:
    """Read a notice.

    Parameters
    ----------
    topic
        Where it came from; tells the observatory when the notice itself names no schema.
    marked_test
        Whether the message that carried it was marked as test traffic.

    Raises
    ------
    InvalidInputError
        With the notice's own name of what is wrong.
    """
    content = parse_json(data, field="notice", max_bytes=MAX_NOTICE_BYTES)
    if not isinstance(content, dict):
        raise InvalidInputError("notice", type(content).__name__, "a JSON object")
    content = {name: visible(value) for name, value in content.items()}
    origin = _origin(content.get("$schema"), topic)
    try:
        wire = _Notice.model_validate(content)
    except ValidationError as error:
        raise _complaint(error) from None
    kind = _KINDS[wire.alert_type]
    if wire.trigger_time is None and kind in (NoticeKind.DETECTION, NoticeKind.SUBSEQUENT):
        raise InvalidInputError("trigger_time", "missing", "the time of arrival of the burst (ISO 8601)")
    is_test = marked_test or wire.alert_tense in _TEST_TENSES
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    is_retraction = kind is NoticeKind.RETRACTION
    observation = wire.observation()
    known_source = wire.known_source or None
    return FrbNotice(
        origin=origin,
        origin_id=wire.id[0],
        names=wire.id,
        notice_id=notice_id(origin, is_test=is_test, digest=hashlib.sha256(canonical.encode()).hexdigest()),
        kind=kind,
        is_test=is_test,
        issued_at=wire.alert_datetime,
        time_of_arrival=wire.trigger_time,
        time_of_arrival_err_s=wire.trigger_time_error,
        reference_frequency_mhz=_REFERENCE_FREQUENCY_MHZ.get(
            origin, observation.centre_frequency_mhz if observation else None
        ),
        time_of_arrival_inf=wire.trigger_time_inf_freq,
        time_of_arrival_inf_err_s=wire.trigger_time_inf_freq_error,
        repeater=known_source is not None,
        known_source=known_source,
        importance=wire.importance,
        observation=observation,
        measurement=None if is_retraction else wire.measurement(),
        tns_name=next(filter(None, map(tns_name, wire.event_name)), None),
        note="\n".join(filter(None, (wire.update_message, wire.description))) or None,
        unmapped=kept(wire.model_extra or {}),
    )


def _topic_by_schema(schema: object) -> str | None:
    found = _SCHEMA.search(schema) if isinstance(schema, str) else None
    topic = f"gcn.notices.{found[1]}.frb" if found else None
    return topic if topic in _ORIGINS else None


def _origin(schema: object, topic: str | None) -> str:
    if schema is not None:
        topic = _topic_by_schema(schema)
    origin = _ORIGINS.get(topic) if topic else None
    if origin is None:
        known = "the FRB notice schema of chime or dsa110"
        raise InvalidInputError("$schema", "missing" if schema is None else schema, known)
    return origin


# --- The wire, as pydantic sees it. Complaints are phrased as what was expected; see `_complaint`. ---


def _time(value: object) -> datetime:
    if not isinstance(value, str):
        raise PydanticCustomError("time", "an ISO 8601 date and time")
    try:
        return utc(value, field="")
    except InvalidInputError as error:
        raise PydanticCustomError("time", "{expected}", {"expected": error.expected}) from None


def _larger(value: object) -> object:
    """The one error of a value, or the larger of two."""
    if isinstance(value, list) and len(value) in (1, 2) and all(_is_number(item) for item in value):
        return max(map(abs, value))
    return value


def _texts(value: object) -> object:
    match value:
        case str():
            return (value,)
        case list() if all(isinstance(item, str) for item in value):
            return tuple(value)
    raise PydanticCustomError("texts", "text, or a list of texts")


def _axes(value: object) -> object:
    numbers = value if isinstance(value, list) else [value]
    if 1 <= len(numbers) <= 3 and all(map(_is_number, numbers)):
        return tuple(numbers)
    raise PydanticCustomError("axes", "one to three numbers: two semi-axes and the direction of the first (deg)")


def _band(value: object) -> object:
    if isinstance(value, list) and len(value) == 2:
        return tuple(value)
    raise PydanticCustomError("band", "the two ends of a band")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


Text = Annotated[str, Field(max_length=10_000)]
Name = Annotated[str, Field(min_length=1, max_length=256)]
Number = Annotated[float, Field(allow_inf_nan=False)]
NotNegative = Annotated[float, Field(allow_inf_nan=False, ge=0)]
Probability = Annotated[float, Field(ge=0, le=1)]
Time = Annotated[datetime, BeforeValidator(_time)]
Error = Annotated[NotNegative, BeforeValidator(_larger)]


class _Notice(BaseModel):
    """A notice: what we know is checked strictly, what we do not know is kept."""

    model_config = ConfigDict(strict=True, extra="allow", hide_input_in_errors=True)

    # Named so that it does not count as unknown.
    schema_name: Text | None = Field(None, alias="$schema")
    alert_type: Literal["initial", "subsequent", "update", "retraction"]
    alert_tense: Text | None = None
    alert_datetime: Time | None = None
    id: Annotated[tuple[Name, ...], BeforeValidator(_texts), Field(min_length=1)]
    event_name: Annotated[tuple[Text, ...], BeforeValidator(_texts)] = ()
    trigger_time: Time | None = None
    trigger_time_error: Error | None = None
    trigger_time_inf_freq: Time | None = None
    trigger_time_inf_freq_error: Error | None = None
    known_source: Text | None = None
    importance: Probability | None = None
    update_message: Text | None = None
    description: Text | None = None
    sampling_time: NotNegative | None = None
    spectral_band: Annotated[tuple[NotNegative, NotNegative], BeforeValidator(_band)] | None = None
    spectral_band_units: Text | None = None
    units: Text | None = None
    npol: Annotated[float, Field(ge=1, le=4, multiple_of=1)] | None = None
    tsys: NotNegative | None = None
    ra: Annotated[float, Field(ge=0, le=360)] | None = None
    dec: Annotated[float, Field(ge=-90, le=90)] | None = None
    ra_dec_error: Annotated[tuple[Number, ...], BeforeValidator(_axes), Field(min_length=1, max_length=3)] | None = None
    containment_probability: Annotated[float, Field(gt=0, lt=1)] | None = None
    dm: NotNegative | None = None
    dm_error: Error | None = None
    dm_gal_ne_2001_max: NotNegative | None = None
    snr: NotNegative | None = None
    event_duration: NotNegative | None = None
    redshift: Number | None = None

    def observation(self) -> FrbObservation | None:
        """How the telescope was set up, None when the notice does not say."""
        low_mhz, high_mhz = sorted(self.spectral_band) if self.spectral_band else (None, None)
        # The older spelling of the key; a radio telescope that states no unit does not mean the schema's keV.
        unit = self.spectral_band_units or self.units or "MHz"
        if low_mhz is not None and unit != "MHz":
            key = "spectral_band_units" if self.spectral_band_units else "units"
            raise InvalidInputError(key, unit, "MHz")
        observation = FrbObservation(
            sampling_time_ms=self.sampling_time,
            bandwidth_mhz=None if low_mhz is None or high_mhz is None else high_mhz - low_mhz,
            centre_frequency_mhz=None if low_mhz is None or high_mhz is None else (low_mhz + high_mhz) / 2,
            npol=None if self.npol is None else int(self.npol),
            tsys_k=self.tsys,
        )
        return None if observation == FrbObservation() else observation

    def measurement(self) -> NoticeMeasurement | None:
        """What was measured, None when the notice does not say."""
        if (self.ra is None) != (self.dec is None):
            raise InvalidInputError("ra" if self.ra is None else "dec", "missing", "both coordinates or none")
        ellipse = None
        if self.ra is not None and self.ra_dec_error is not None:
            first, second, angle = (*self.ra_dec_error, *(self.ra_dec_error[0], 0.0)[len(self.ra_dec_error) - 1 :])
            if first < 0 or second < 0:
                raise InvalidInputError("ra_dec_error", list(self.ra_dec_error), "semi-axes of 0 or more (deg)")
            ellipse = ErrorEllipse.from_axes(first, second, angle)
        measurement = NoticeMeasurement(
            dm_pc_cm3=self.dm,
            dm_err_pc_cm3=self.dm_error,
            ra_deg=None if self.ra is None else self.ra % 360,
            dec_deg=self.dec,
            semi_major_deg=ellipse.semi_major_deg if ellipse else None,
            semi_minor_deg=ellipse.semi_minor_deg if ellipse else None,
            position_angle_deg=ellipse.position_angle_deg if ellipse else None,
            confidence_level=(self.containment_probability or DEFAULT_CONTAINMENT) if ellipse else None,
            snr=self.snr,
            width_ms=self.event_duration,
            redshift=self.redshift,
            dm_mw_ism_pc_cm3=self.dm_gal_ne_2001_max,
            dm_mw_ism_model=None if self.dm_gal_ne_2001_max is None else "NE2001",
        )
        return None if measurement.is_empty else measurement


def _complaint(error: ValidationError) -> InvalidInputError:
    """The first complaint of pydantic in our words."""
    first: Any = error.errors(include_url=False)[0]
    place = ".".join(str(step) for step in first["loc"] if not str(step).startswith(("function-", "constrained-")))
    if first["type"] == "missing":
        return InvalidInputError(place, "missing", "a value")
    return InvalidInputError(place, first["input"], first["msg"].removeprefix("Input should be "))
