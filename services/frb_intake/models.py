"""What clients send, key by key as the telescope's YAML files have them, with units and limits."""

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StrictBool
from pydantic_core import PydanticCustomError

from services.frb_intake.texts import HIDDEN, HIDDEN_IN_PROSE

FLOAT32_SAFE = 1e30
# No quantity of a radio burst comes near; beyond it, sums of squares overflow.
_MARKUP = re.compile(r"<\s*[A-Za-z/!?]")


def _no_boolean(value: Any) -> Any:
    if isinstance(value, bool):
        # Python takes True for 1.
        raise PydanticCustomError("number", "expected a number")
    return value


def plain_text(text: str) -> str:
    """Return a text without markup and hidden characters (`texts`), or raise what pydantic tells."""
    return _without(HIDDEN, text)


def _prose(text: str) -> str:
    return _without(HIDDEN_IN_PROSE, text)


def _without(hidden: re.Pattern[str], text: str) -> str:
    if _MARKUP.search(text) or hidden.search(text):
        raise PydanticCustomError(
            "plain_text", "expected plain text, without markup, control characters and changes of direction"
        )
    return text


def _in_utc(value: Any) -> Any:
    """Read an ISO time; with T or a space, with or without a zone (none means UTC)."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.strip())
        except ValueError:
            raise PydanticCustomError("time", "expected an ISO 8601 time such as 2017-11-17T12:21:38.87") from None
    if not isinstance(value, datetime):
        raise PydanticCustomError("time", "expected an ISO 8601 time such as 2017-11-17T12:21:38.87")
    try:
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    except OverflowError:
        raise PydanticCustomError("time", "expected a time between the years 1967 and now") from None


Number = Annotated[float, Field(allow_inf_nan=False, le=FLOAT32_SAFE, ge=-FLOAT32_SAFE), BeforeValidator(_no_boolean)]
Positive = Annotated[float, Field(allow_inf_nan=False, gt=0, le=FLOAT32_SAFE), BeforeValidator(_no_boolean)]
NotNegative = Annotated[float, Field(allow_inf_nan=False, ge=0, le=FLOAT32_SAFE), BeforeValidator(_no_boolean)]
Count = Annotated[int, Field(ge=1, lt=2**31), BeforeValidator(_no_boolean)]
Time = Annotated[datetime, BeforeValidator(_in_utc)]
Word = Annotated[str, Field(min_length=1, max_length=128), AfterValidator(plain_text)]
Prose = Annotated[str, Field(max_length=10_000), AfterValidator(_prose)]


class Sent(BaseModel):
    """Something that a client sent. Keys that nobody knows are ignored, as the old server did."""

    model_config = ConfigDict(frozen=True, extra="ignore", str_strip_whitespace=True)

    def as_submitted(self) -> dict[str, Any]:
        """Return the keys that the client sent, with their values as they were understood."""
        return self.model_dump(mode="json", exclude_unset=True)


class ObservationIn(Sent):
    """How the telescope was set up: the observation YAML."""

    beam_semi_major_axis: NotNegative = Field(description="Semi-major axis of the beam (arcmin).", examples=[0.2])
    beam_semi_minor_axis: NotNegative = Field(description="Semi-minor axis of the beam (arcmin).", examples=[0.3])
    beam_rotation_angle: Number = Field(
        ge=-360, le=360, description="Rotation of the beam (deg, clockwise from north).", examples=[45]
    )
    sampling_time: Positive = Field(description="Duration of a sample (ms).", examples=[0.1])
    bandwidth: Positive = Field(description="Bandwidth (MHz).", examples=[300])
    nchan: Count = Field(description="Number of frequency channels.", examples=[3000])
    centre_frequency: Positive = Field(description="Centre frequency (MHz).", examples=[1400])
    npol: Count = Field(description="Number of polarisations.", examples=[2])
    bits_per_sample: Count = Field(description="Bits of a sample.", examples=[8])
    gain: NotNegative = Field(description="Gain of the telescope (K/Jy).", examples=[3])
    tsys: NotNegative = Field(description="System temperature (K).", examples=[50])
    backend: Word = Field(description="Name of the backend.", examples=["Multibeam"])
    beam: Annotated[int, Field(ge=0, lt=2**31), BeforeValidator(_no_boolean)] | None = Field(
        None, description="Number of the beam that saw the burst, for receivers of several.", examples=[1]
    )


class EllipseIn(Sent):
    """The error ellipse of a position."""

    a: Annotated[float, Field(gt=0, lt=90, allow_inf_nan=False), BeforeValidator(_no_boolean)] = Field(
        description="Semi-axis along theta (deg).", examples=[0.004]
    )
    b: Annotated[float, Field(gt=0, lt=90, allow_inf_nan=False), BeforeValidator(_no_boolean)] = Field(
        description="The other semi-axis (deg).", examples=[0.004]
    )
    cl: Annotated[float, Field(gt=0, lt=100, allow_inf_nan=False), BeforeValidator(_no_boolean)] = Field(
        68.0, description="Confidence level of the ellipse (percent)."
    )
    theta: Number = Field(ge=-360, le=360, description="Direction of `a` (deg, from north clockwise).", examples=[0.0])


class MeasurementIn(Sent):
    """What was measured of a burst: the radio measurement YAML."""

    dm: Annotated[float, Field(ge=0, le=1e5, allow_inf_nan=False), BeforeValidator(_no_boolean)] = Field(
        description="Dispersion measure (pc cm^-3).", examples=[411.0]
    )
    dm_err: NotNegative = Field(description="Error of the dispersion measure (pc cm^-3).", examples=[1.0])
    ra: Annotated[float, Field(ge=0, le=360, allow_inf_nan=False), BeforeValidator(_no_boolean)] = Field(
        description="Right ascension, ICRS (deg).", examples=[77.01461542]
    )
    ra_err: Annotated[float, Field(ge=0, lt=90, allow_inf_nan=False), BeforeValidator(_no_boolean)] = Field(
        description="Error of the position along right ascension, as an angle on the sky (deg).", examples=[0.05]
    )
    dec: Annotated[float, Field(ge=-90, le=90, allow_inf_nan=False), BeforeValidator(_no_boolean)] = Field(
        description="Declination, ICRS (deg).", examples=[26.06069556]
    )
    dec_err: Annotated[float, Field(ge=0, lt=90, allow_inf_nan=False), BeforeValidator(_no_boolean)] = Field(
        description="Error of the declination (deg).", examples=[0.05]
    )
    sn: NotNegative = Field(description="Signal-to-noise ratio.", examples=[50])
    width: Positive = Field(description="Width of the pulse (ms).", examples=[5])
    source: Literal["MB", "HT"] = Field(
        description="Pipeline that measured: MB (multi-beam) or HT (high-time resolution).", examples=["MB"]
    )
    version: Annotated[Word, Field(max_length=64)] = Field(description="Version of that pipeline.", examples=["v1.0"])
    flux: NotNegative | None = Field(None, description="Flux density (Jy).", examples=[35])
    flux_err: NotNegative | None = Field(None, description="Error of the flux density (Jy).", examples=[3])
    fluence: NotNegative | None = Field(None, description="Fluence (Jy ms).", examples=[45])
    fluence_err: NotNegative | None = Field(None, description="Error of the fluence (Jy ms).", examples=[5])
    dmism: NotNegative | None = Field(
        None,
        description="Part of the dispersion measure from the Milky Way's interstellar medium (pc cm^-3);"
        " without it that of NE2001 is taken.",
        examples=[123.16007817568256],
    )
    rm: Number | None = Field(None, description="Rotation measure (rad m^-2).", examples=[-613.0])
    rm_err: NotNegative | None = Field(None, description="Error of the rotation measure (rad m^-2).", examples=[2.0])
    cosmo: Annotated[Word, Field(max_length=64)] | None = Field(
        None, description="Cosmology of derived redshifts, as astropy names it.", examples=["Planck18"]
    )
    eellipse: EllipseIn | None = Field(None, description="Error ellipse of the position; without it the two errors.")
    z: Annotated[float, Field(ge=0, le=30, allow_inf_nan=False), BeforeValidator(_no_boolean)] | None = Field(
        None, description="Redshift.", examples=[0.0982]
    )


class BurstIn(Sent):
    """A new burst."""

    time_of_arrival: Time | None = Field(
        None,
        description="When the burst arrived at the telescope, at its centre frequency (UTC without a zone).",
        examples=["2017-11-17T12:21:38.87"],
    )
    repeater: StrictBool = Field(False, description="Whether the source is known to repeat.")
    repeater_of: Annotated[Word, Field(max_length=64)] | None = Field(
        None, description="Name of the source's first burst.", examples=["FRB 20121102A"]
    )
    is_test: StrictBool = Field(False, description="Test traffic: it pages nobody and reaches no production endpoint.")
    observation: ObservationIn | None = None
    measurement: MeasurementIn | None = None


class CompleteBurstIn(BurstIn):
    """A new burst with its first measurement."""

    measurement: MeasurementIn


class RatingIn(Sent):
    """Somebody's opinion; the last one of each person counts."""

    rating: Literal["confirm", "reject", "unsure"] = Field(examples=["confirm"])
    note: Prose | None = Field(None, description="Why.", examples=["Clear dispersion sweep in beam 3."])


class StatusIn(Sent):
    """A decision about a burst."""

    status: Literal["candidate", "confirmed", "rejected"] = Field(examples=["confirmed"])
    reason: Annotated[Prose, Field(min_length=1)] = Field(description="Why.", examples=["Seen by two beams."])


class WithdrawalIn(Sent):
    """The end of a burst: nobody should use it any more."""

    reason: Annotated[Prose, Field(min_length=1)] = Field(description="Why.", examples=["Radio interference."])


class NameIn(Sent):
    """The name that the Transient Name Server gave."""

    tns_name: str = Field(pattern=r"^FRB ?\d{8}[A-Za-z]{1,4}$", examples=["FRB 20171117A"])
