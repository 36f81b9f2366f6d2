"""What an IGWN alert says, whichever transport and schema version brought it.

SCiMMA sends an Avro object container with raw sky maps, GCN sends JSON with base64 ones; the alerts of 2022 spelt
times, types and names otherwise. `read_alert` turns all of them into one `UpstreamAlert` and `content_id` gives the
same alert the same identity on every way.

Sources: igwn-gwalert-schema 1.0 to 1.3; LVK public alerts user guide (the MS181101ab samples and their history).
"""

import binascii
import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from shared.errors import InvalidInputError
from shared.events.gw import AlertType, ExternalCoinc, GwEvent, MchirpSource, RawFormat, SupereventKind
from shared.events.ids import event_id
from shared.schema.codec import MAGIC, read_container

MAX_ALERT_BYTES = 32 * 1024 * 1024
# Four times the largest message of any alert topic (8 MiB), for what SCiMMA offloads to HTTP.

MAX_VALUES = 100_000
# In a JSON alert, whose values cost far more than their bytes; one of today has about sixty.

MAX_DEPTH = 64
# An alert of today nests six deep.

MAX_TEXT_CHARACTERS = 4096
# The longest known text is a URL.

MAX_UNKNOWN_CHARACTERS = 256 * 1024
# More than this does not travel inside an event; the raw message is in the blob store.

_SUPEREVENT_ID = re.compile(r"[SMT][0-9A-Za-z]{1,31}")
# Only the first letter is promised; the rest is letters and digits today and becomes a key, a header, a file name.
_KINDS = {"S": SupereventKind.REAL, "M": SupereventKind.MOCK, "T": SupereventKind.TEST}

_DATE_CHARACTERS = len("2018-11-01")

_HASHED_EVENT_FIELDS = {
    "time", "far_hz", "significant", "instruments", "group", "pipeline", "search",
    "classification", "properties", "duration_s", "central_frequency_hz",
}  # fmt: skip
_HASHED_COINC_FIELDS = {
    "gcn_notice_id", "ivorn", "observatory", "search", "time_difference_s",
    "time_coincidence_far_hz", "time_sky_position_coincidence_far_hz",
}  # fmt: skip
# The fields of schema 1.0, for ever: a field of a later version would part an alert from its older spelling.


@dataclass(frozen=True)
class UpstreamAlert:
    """One alert as IGWN sent it, in the words of our own records.

    Attributes
    ----------
    alert_type, upstream_type
        Ours, and the upstream word in capitals; they differ when the word is new to us (`AlertType.UNKNOWN`).
    event, external_coinc
        None in a retraction. `external_coinc.combined_skymap` is always None here: the bytes are in `combined_skymap`.
    skymap, combined_skymap
        FITS files as they came, not looked at; None when the alert has none.
    upstream_schema
        Name of the writer's schema, "" when the message carries none.
    unknown_fields
        What this version does not know, nested as it came, fit for JSON.
    """

    superevent_id: str
    kind: SupereventKind
    alert_type: AlertType
    upstream_type: str
    time_created: datetime
    urls: Mapping[str, str]
    event: GwEvent | None
    external_coinc: ExternalCoinc | None
    skymap: bytes | None
    combined_skymap: bytes | None
    raw_format: RawFormat
    upstream_schema: str
    unknown_fields: Mapping[str, Any]


def read_alert(data: bytes) -> UpstreamAlert:
    """Read an alert from the bytes of a message, Avro or JSON.

    Memory stays within a few times the size of the message, whatever lengths or codecs it claims.

    Raises
    ------
    InvalidInputError
        With the upstream name of the field that is wrong (`event.far`), or `alert` when there is no telling.
    """
    if len(data) > MAX_ALERT_BYTES:
        raise InvalidInputError("alert", f"{len(data)} bytes", f"at most {MAX_ALERT_BYTES} bytes")
    if data.startswith(MAGIC):
        container = read_container(data, max_bytes=MAX_ALERT_BYTES)
        return alert_from_content(container.records, raw_format=RawFormat.AVRO, upstream_schema=container.writer_name)
    if data[:64].removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in (b"{", b"["):
        return alert_from_content(_from_json(data), raw_format=RawFormat.JSON)
    raise InvalidInputError("alert", data[:16] or "empty", "an Avro object container or a JSON object")


def alert_from_content(content: object, *, raw_format: RawFormat, upstream_schema: str = "") -> UpstreamAlert:
    """Check an alert that is decoded already: a dict, or a list of one as hop-client before 0.11 gives it.

    Raises
    ------
    InvalidInputError
        As `read_alert`.
    """
    if isinstance(content, list) and len(content) == 1:
        (content,) = content
    if not isinstance(content, dict):
        raise InvalidInputError("alert", type(content).__name__, "one record with the fields of an IGWN alert")
    try:
        wire = _Alert.model_validate(content)
    except ValidationError as exc:
        raise _complaint(exc) from None
    upstream_type = wire.alert_type.upper().replace("_", "")
    alert_type = AlertType(upstream_type) if upstream_type in AlertType.__members__ else AlertType.UNKNOWN
    unknown = wire.unknown()
    if alert_type is AlertType.UNKNOWN:
        unknown["alert_type"] = wire.alert_type
    return UpstreamAlert(
        superevent_id=wire.superevent_id,
        kind=superevent_kind(wire.superevent_id),
        alert_type=alert_type,
        upstream_type=upstream_type,
        time_created=wire.time_created,
        urls=wire.urls,
        event=wire.event.ours() if wire.event else None,
        external_coinc=wire.external_coinc.ours() if wire.external_coinc else None,
        skymap=wire.event.skymap if wire.event else None,
        combined_skymap=wire.external_coinc.combined_skymap if wire.external_coinc else None,
        raw_format=raw_format,
        upstream_schema=upstream_schema,
        unknown_fields=_kept(unknown),
    )


def superevent_kind(superevent_id: str) -> SupereventKind:
    """Tell from the first letter whether a superevent is real (S), mock (M) or a test (T).

    Raises
    ------
    InvalidInputError
        When the id is none of them.
    """
    if not _SUPEREVENT_ID.fullmatch(superevent_id):
        raise InvalidInputError("superevent_id", superevent_id, _AN_ID)
    return _KINDS[superevent_id[0]]


def content_id(alert: UpstreamAlert) -> UUID:
    """The identity of an alert: superevent, type, time of creation and content.

    The same for its Avro and its JSON form; different for two alerts of one kind that were created at different times.
    Only fields of schema 1.0 count, without nulls and empty maps, instruments in alphabetical order, sky maps by
    their sha256.
    """
    event = alert.event and {
        **alert.event.model_dump(include=_HASHED_EVENT_FIELDS),
        "instruments": sorted(alert.event.instruments),
        "skymap": _sha256(alert.skymap),
    }
    external_coinc = alert.external_coinc and {
        **alert.external_coinc.model_dump(include=_HASHED_COINC_FIELDS),
        "combined_skymap": _sha256(alert.combined_skymap),
    }
    content = json.dumps(
        _without_blanks({"event": event, "external_coinc": external_coinc}),
        sort_keys=True,
        separators=(",", ":"),
        default=datetime.isoformat,
    )
    return event_id(
        "igwn.gwalert",
        alert.superevent_id,
        alert.upstream_type,
        alert.time_created.isoformat(),
        hashlib.sha256(content.encode()).hexdigest(),
    )


# --- The wire, as pydantic sees it. Complaints are phrased as what was expected; see `_complaint`. ---

_AN_ID = "a superevent id that begins with S (real), M (mock) or T (test), such as S230518h or MS181101ab"


def _text(value: str) -> str:
    if "\x00" in value or not _is_unicode(value):
        raise PydanticCustomError("text", "text without null characters and lone surrogates")
    return value


def _time(value: object) -> datetime:
    if isinstance(value, str) and len(value) > _DATE_CHARACTERS:
        try:
            time = datetime.fromisoformat(value.removesuffix(" UTC"))
            return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
        except (ValueError, OverflowError):
            pass
    raise PydanticCustomError("time", "an ISO 8601 date and time")


def _skymap(value: object) -> bytes | None:
    match value:
        case None | bytes():
            return value or None
        case str():
            lines = value.split() if "\n" in value else [value]
            try:
                return binascii.a2b_base64("".join(lines), strict_mode=True) or None
            except ValueError as exc:
                raise PydanticCustomError("skymap", "a FITS file in base64 ({why})", {"why": str(exc)}) from None
        case _:
            raise PydanticCustomError("skymap", "a FITS file, as bytes or in base64")


def _superevent_id(value: str) -> str:
    if not _SUPEREVENT_ID.fullmatch(value):
        raise PydanticCustomError("superevent_id", _AN_ID)
    return value


def _notice_id(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _known(value: object) -> object:
    """A map without the entries that are null, and an empty one in place of null."""
    if isinstance(value, dict):
        return {key: entry for key, entry in value.items() if entry is not None}
    return {} if value is None else value


Text = Annotated[str, Field(max_length=MAX_TEXT_CHARACTERS), AfterValidator(_text)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Rate = Annotated[float, Field(allow_inf_nan=False, ge=0)]
Time = Annotated[datetime, BeforeValidator(_time)]
SkymapBytes = Annotated[bytes | None, BeforeValidator(_skymap)]
Numbers = Annotated[dict[Text, Number], BeforeValidator(_known)]


class _Wire(BaseModel):
    """A part of an alert: what we know is checked strictly, what we do not know is kept."""

    model_config = ConfigDict(strict=True, extra="allow", hide_input_in_errors=True)

    def unknown(self) -> dict[str, Any]:
        """What was not known in this part and in those inside it, nested as it came."""
        inside = {name: part.unknown() for name, part in self if isinstance(part, _Wire)}
        return {**(self.model_extra or {}), **{name: fields for name, fields in inside.items() if fields}}


class _MchirpSource(_Wire):
    bin_edges: list[Number]
    probabilities: list[Number]

    def ours(self) -> MchirpSource:
        return MchirpSource(bin_edges=tuple(self.bin_edges), probabilities=tuple(self.probabilities))


class _Event(_Wire):
    time: Time
    far: Rate
    significant: bool | None = None
    instruments: list[Text] = []
    group: Text
    pipeline: Text
    search: Text | None = None
    classification: Numbers = {}
    properties: Numbers = {}
    duration: Number | None = None
    central_frequency: Number | None = None
    mchirp_source: _MchirpSource | None = None
    skymap: SkymapBytes = None

    def ours(self) -> GwEvent:
        return GwEvent(
            time=self.time,
            far_hz=self.far,
            significant=self.significant,
            instruments=tuple(self.instruments),
            group=self.group,
            pipeline=self.pipeline,
            search=self.search,
            classification=self.classification,
            properties=self.properties,
            duration_s=self.duration,
            central_frequency_hz=self.central_frequency,
            mchirp_source=self.mchirp_source.ours() if self.mchirp_source else None,
        )


class _ExternalCoinc(_Wire):
    gcn_notice_id: Annotated[Text | None, BeforeValidator(_notice_id)] = None
    ivorn: Text | None = None
    observatory: Text
    search: Text | None = None
    time_difference: Number | None = None
    time_coincidence_far: Rate | None = None
    time_sky_position_coincidence_far: Rate | None = None
    combined_skymap: SkymapBytes = None

    def ours(self) -> ExternalCoinc:
        return ExternalCoinc(
            gcn_notice_id=self.gcn_notice_id,
            ivorn=self.ivorn,
            observatory=self.observatory,
            search=self.search,
            time_difference_s=self.time_difference,
            time_coincidence_far_hz=self.time_coincidence_far,
            time_sky_position_coincidence_far_hz=self.time_sky_position_coincidence_far,
        )


class _Alert(_Wire):
    superevent_id: Annotated[Text, AfterValidator(_superevent_id)]
    alert_type: Text
    time_created: Time
    urls: Annotated[dict[Text, Text], BeforeValidator(_known)] = {}
    event: _Event | None = None
    external_coinc: _ExternalCoinc | None = None


def _complaint(error: ValidationError) -> InvalidInputError:
    """The first complaint of pydantic in our words."""
    first = error.errors(include_url=False)[0]
    field = ".".join(str(step) for step in first["loc"] if step != "[key]") or "alert"
    if first["type"] == "missing":
        return InvalidInputError(field, "missing", "a value")
    expected = "a record" if first["type"] == "model_type" else first["msg"].removeprefix("Input should be ")
    return InvalidInputError(field, _shown(first["input"]), expected)


def _shown(value: object) -> object:
    match value:
        case bytes():
            return value[:64]
        case dict() | list():
            return f"a {type(value).__name__} of {len(value)}"
        case _:
            return value


def _from_json(data: bytes) -> object:
    # One byte, `[`, becomes a list of sixty. Base64, of which an alert mostly consists, has none of these marks.
    values = sum(data.count(mark) for mark in (b",", b"[", b"{"))
    if values > MAX_VALUES:
        raise InvalidInputError("alert", f"{values} values", f"at most {MAX_VALUES} values")
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as exc:
        raise InvalidInputError("alert", str(exc), "JSON") from exc


def _kept(unknown: dict[str, Any]) -> dict[str, Any]:
    kept: dict[str, Any] = _json_able(unknown)
    characters = len(json.dumps(kept))
    if characters > MAX_UNKNOWN_CHARACTERS:
        return {"omitted": {"fields": len(kept), "characters": characters}}
    return kept


def _json_able(value: object, depth: int = 0) -> Any:
    """`value` with digests for long contents, and spelt-out what JSON (or PostgreSQL's JSON) cannot say."""
    if depth > MAX_DEPTH:
        raise InvalidInputError("alert", "unknown fields too deep", f"at most {MAX_DEPTH} levels")
    match value:
        case dict():
            return {_clean(key): _json_able(inner, depth + 1) for key, inner in value.items()}
        case list():
            return [_json_able(inner, depth + 1) for inner in value]
        case bytes():
            return {"size": len(value), "sha256": _sha256(value)}
        case str() if len(value) > MAX_TEXT_CHARACTERS:
            return {"characters": len(value), "sha256": _sha256(value.encode(errors="replace"))}
        case str():
            return _clean(value)
        case float() if not math.isfinite(value):
            return repr(value)
        case _:
            return value


def _clean(text: str) -> str:
    return text.encode(errors="replace").decode().replace("\x00", "\ufffd")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _sha256(data: bytes | None) -> str | None:
    return None if data is None else hashlib.sha256(data).hexdigest()


def _without_blanks(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    inside = {key: _without_blanks(entry) for key, entry in value.items()}
    return {key: entry for key, entry in inside.items() if entry is not None and entry not in ({}, [], ())}
