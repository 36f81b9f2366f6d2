"""Gravitational-wave events: what `gw.alerts` and `gw.skymaps` carry.

Field by field documentation and units are in `schemas/avro/gw_alert` and `schemas/avro/gw_skymap`.
"""

from enum import StrEnum
from typing import ClassVar
from uuid import UUID

from shared.events.blob import BlobRef
from shared.events.record import Event, Int32, Part, Timestamp


class SupereventKind(StrEnum):
    """What the first letter of a superevent id says."""

    REAL = "REAL"
    MOCK = "MOCK"
    TEST = "TEST"
    UNKNOWN = "UNKNOWN"


class AlertType(StrEnum):
    """Stage of an alert, in the words of the IGWN."""

    EARLYWARNING = "EARLYWARNING"
    PRELIMINARY = "PRELIMINARY"
    INITIAL = "INITIAL"
    UPDATE = "UPDATE"
    RETRACTION = "RETRACTION"
    UNKNOWN = "UNKNOWN"


class SupereventState(StrEnum):
    """Whether a superevent still stands."""

    OPEN = "OPEN"
    RETRACTED = "RETRACTED"
    UNKNOWN = "UNKNOWN"


class RawFormat(StrEnum):
    """Encoding of an upstream message."""

    AVRO = "AVRO"
    JSON = "JSON"
    UNKNOWN = "UNKNOWN"


class SkymapState(StrEnum):
    """Whether a sky map may be used."""

    AVAILABLE = "AVAILABLE"
    WITHDRAWN = "WITHDRAWN"
    UNKNOWN = "UNKNOWN"


class MapKind(StrEnum):
    """Which map of an alert: the gravitational-wave one, or that multiplied with another observatory's."""

    GW = "GW"
    COMBINED = "COMBINED"
    UNKNOWN = "UNKNOWN"


class MchirpSource(Part):
    """Histogram of the chirp mass in the frame of the source (edges in solar masses)."""

    bin_edges: tuple[float, ...]
    probabilities: tuple[float, ...]


class GwEvent(Part):
    """What the search pipeline says of the preferred event."""

    time: Timestamp
    far_hz: float
    significant: bool | None = None
    instruments: tuple[str, ...]
    group: str
    pipeline: str
    search: str | None = None
    classification: dict[str, float]
    properties: dict[str, float]
    duration_s: float | None = None
    central_frequency_hz: float | None = None
    mchirp_source: MchirpSource | None = None


class ExternalCoinc(Part):
    """A coincidence with an event of another observatory, as the IGWN found it."""

    gcn_notice_id: str | None = None
    ivorn: str | None = None
    observatory: str
    search: str | None = None
    time_difference_s: float | None = None
    time_coincidence_far_hz: float | None = None
    time_sky_position_coincidence_far_hz: float | None = None
    combined_skymap: BlobRef | None = None


class GwAlert(Event):
    """One gravitational-wave alert, accepted once whichever source brought it."""

    schema_name: ClassVar[str] = "gw_alert"

    superevent_id: str
    kind: SupereventKind
    is_test: bool
    alert_type: AlertType
    time_created: Timestamp
    received_at: Timestamp
    source: str
    sequence: Int32
    is_current: bool
    superevent_state: SupereventState
    urls: dict[str, str]
    event: GwEvent | None = None
    external_coinc: ExternalCoinc | None = None
    skymap: BlobRef | None = None
    raw: BlobRef
    raw_format: RawFormat
    upstream_schema: str
    unknown_fields: str | None = None


class Skymap(Part):
    """Figures and files of one sky map."""

    source: BlobRef
    canonical: BlobRef
    ra_deg: float
    dec_deg: float
    max_probdensity_per_sr: float
    area_50_deg2: float
    area_90_deg2: float
    moc_50: BlobRef
    moc_90: BlobRef
    moc_50_ascii: str | None = None
    moc_90_ascii: str | None = None
    distance_mean_mpc: float | None = None
    distance_std_mpc: float | None = None
    min_order: Int32
    max_order: Int32
    n_pixels: Int32
    total_probability: float
    sky_coverage: float
    has_distance: bool
    object_name: str | None = None
    date_obs: Timestamp | None = None
    instruments: tuple[str, ...]
    origin: str | None = None
    creator: str | None = None
    notes: tuple[str, ...]


class GwSkymap(Event):
    """What one sky map of an alert says, or that it no longer holds."""

    schema_name: ClassVar[str] = "gw_skymap"

    superevent_id: str
    kind: SupereventKind
    is_test: bool
    alert_event_id: UUID
    alert_type: AlertType
    alert_time_created: Timestamp
    is_current: bool
    state: SkymapState
    map_kind: MapKind
    processed_at: Timestamp
    method_version: str
    event_time: Timestamp | None = None
    skymap: Skymap | None = None
