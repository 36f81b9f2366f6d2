"""What a notice says of a burst, whichever observatory sent it and in whichever format."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from services.frb_intake.texts import visible
from shared.errors import InvalidInputError
from shared.events.blob import BlobRef
from shared.events.frb import FrbObservation
from shared.events.ids import event_id

CHIME = "CHIME"
DSA_110 = "DSA-110"

MAX_UNMAPPED_CHARACTERS = 4096
MAX_UNMAPPED_TOTAL_CHARACTERS = 64 * 1024
# Of one value, and of all; what is longer (a sky map in base64) is in the raw notice.

_TNS_NAME = re.compile(r"FRB ?(\d{8}[A-Za-z]{1,4})")


class NoticeKind(StrEnum):
    """What a notice is for."""

    DETECTION = "DETECTION"
    SUBSEQUENT = "SUBSEQUENT"
    UPDATE = "UPDATE"
    RETRACTION = "RETRACTION"


@dataclass(frozen=True)
class NoticeMeasurement:
    """What a notice says was measured; None where it says nothing.

    Attributes
    ----------
    semi_major_deg, semi_minor_deg, position_angle_deg, confidence_level
        Error ellipse: the longer semi-axis first, its direction from north through east in [0, 180), and the
        probability inside. All four are given or none.
    dm_mw_ism_pc_cm3, dm_mw_ism_model
        What the sender says that the Milky Way contributes at most, and by which model.
    pipeline
        What measured, "" when the notice does not say.
    """

    dm_pc_cm3: float | None = None
    dm_err_pc_cm3: float | None = None
    ra_deg: float | None = None
    dec_deg: float | None = None
    semi_major_deg: float | None = None
    semi_minor_deg: float | None = None
    position_angle_deg: float | None = None
    confidence_level: float | None = None
    snr: float | None = None
    width_ms: float | None = None
    flux_jy: float | None = None
    flux_err_jy: float | None = None
    fluence_jy_ms: float | None = None
    fluence_err_jy_ms: float | None = None
    rm_rad_m2: float | None = None
    rm_err_rad_m2: float | None = None
    redshift: float | None = None
    dm_mw_ism_pc_cm3: float | None = None
    dm_mw_ism_model: str | None = None
    pipeline: str = ""

    @property
    def is_empty(self) -> bool:
        """Whether nothing was measured."""
        return self == NoticeMeasurement(pipeline=self.pipeline)


@dataclass(frozen=True)
class FrbNotice:
    """One notice.

    Attributes
    ----------
    origin
        The observatory: `CHIME`, `DSA-110`, or the naming authority of a VOEvent. What one origin says never
        concerns another's bursts.
    origin_id
        The burst that the notice is about, by its name at the origin. Of an update or a retraction that of the
        burst which it changes.
    names
        Every name by which the origin may call this burst in another notice, `origin_id` first.
    notice_id
        Identity of the notice: the same for the same content on whatever way, another for test traffic.
    kind
        A SUBSEQUENT one tells of another detection: of the same burst when `origin_id` is known already, else of
        another burst from the same source.
    is_test
        Test traffic, by the notice itself or by the message that carried it. A test never concerns a real burst.
    issued_at
        When the notice was made, None when it does not say.
    time_of_arrival, time_of_arrival_err_s, reference_frequency_mhz
        Topocentric, UTC, at that radio frequency.
    time_of_arrival_inf, time_of_arrival_inf_err_s
        At infinite frequency, as the sender computed it.
    repeater, known_source
        Whether the source was seen before, and its name.
    cites
        Other notices that this one refers to, by their ivorn.
    importance
        Probability that the burst is astrophysical, as the sender judges.
    note
        What the notice says in prose.
    unmapped
        What the notice says beyond these, by the sender's own names.
    """

    origin: str
    origin_id: str
    names: tuple[str, ...]
    notice_id: UUID
    kind: NoticeKind
    is_test: bool
    issued_at: datetime | None = None
    time_of_arrival: datetime | None = None
    time_of_arrival_err_s: float | None = None
    reference_frequency_mhz: float | None = None
    time_of_arrival_inf: datetime | None = None
    time_of_arrival_inf_err_s: float | None = None
    repeater: bool = False
    known_source: str | None = None
    cites: tuple[str, ...] = ()
    importance: float | None = None
    observation: FrbObservation | None = None
    measurement: NoticeMeasurement | None = None
    tns_name: str | None = None
    note: str | None = None
    unmapped: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ReceivedNotice:
    """A notice as one source brought it, its bytes kept; `topic` is where it was, or would be on our own broker."""

    notice: FrbNotice
    raw: BlobRef
    source: str
    topic: str


@dataclass(frozen=True)
class ErrorEllipse:
    """The shape of an error region: the longer semi-axis first, its direction from north through east in [0, 180)."""

    semi_major_deg: float
    semi_minor_deg: float
    position_angle_deg: float

    @classmethod
    def from_axes(cls, first_deg: float, second_deg: float, angle_deg: float) -> "ErrorEllipse | None":
        """Return the ellipse whose `first` semi-axis has that direction, whichever is longer; None for a zero axis.

        Senders write 0 for what they do not know.
        """
        if not (first_deg and second_deg):
            return None
        if first_deg < second_deg:
            first_deg, second_deg, angle_deg = second_deg, first_deg, angle_deg + 90
        return cls(first_deg, second_deg, angle_deg % 180)


def notice_id(origin: str, *, is_test: bool, digest: str) -> UUID:
    """Return the identity of a notice from the digest of its content, whitespace and order of keys apart.

    A drill has another than the real notice that it repeats, or the real one would be taken for known.
    """
    return event_id("frb.notice", origin, "test" if is_test else "real", digest)


def utc(text: str, *, field: str) -> datetime:
    """Return an ISO 8601 time, with T or a space, with or without a zone (none means UTC); digits below 1 us are cut.

    Raises
    ------
    InvalidInputError
        It is none.
    """
    try:
        time = datetime.fromisoformat(text.strip())
        if len(text.strip()) > len("2018-11-01"):
            return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise InvalidInputError(field, text, "an ISO 8601 date and time")


def tns_name(text: str | None) -> str | None:
    """Return a name at the Transient Name Server as it writes it, `FRB 20180725A`; None when `text` is none."""
    found = _TNS_NAME.fullmatch(text.strip()) if text else None
    return f"FRB {found[1]}" if found else None


def kept(unmapped: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of `unmapped` is short enough to travel with a burst, as much as there is room for."""
    found: dict[str, Any] = {}
    room = MAX_UNMAPPED_TOTAL_CHARACTERS
    for name, value in unmapped.items():
        size = len(name) + len(json.dumps(value))
        if size <= min(room, MAX_UNMAPPED_CHARACTERS):
            found[visible(name)] = value
            room -= size
    return found
