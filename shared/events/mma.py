"""Coincidences of gravitational waves and fast radio bursts: what `mma.coincidences` carries.

Field by field documentation and units are in `schemas/avro/coincidence`.
"""

from enum import StrEnum
from typing import ClassVar
from uuid import UUID

from shared.events.blob import BlobRef
from shared.events.frb import FrbLocalisation
from shared.events.gw import AlertType
from shared.events.record import Event, Int32, Int64, Part, Timestamp


class CoincidenceType(StrEnum):
    """What a record does to those before it."""

    INITIAL = "INITIAL"
    UPDATE = "UPDATE"
    RETRACTION = "RETRACTION"
    UNKNOWN = "UNKNOWN"


class CoincidenceWindow(StrEnum):
    """Which window of time holds a pair."""

    NARROW = "NARROW"
    WIDE = "WIDE"
    UNKNOWN = "UNKNOWN"


class CoincidentWave(Part):
    """The gravitational wave of a pair, as it was known when the pair was scored."""

    superevent_id: str
    alert_event_id: UUID
    alert_type: AlertType
    alert_time_created: Timestamp
    event_time: Timestamp
    group: str
    search: str | None = None
    pipeline: str
    significant: bool | None = None
    far_hz: float
    p_astro: float | None = None
    skymap_event_id: UUID | None = None
    skymap: BlobRef | None = None
    distance_mean_mpc: float | None = None
    distance_std_mpc: float | None = None


class CoincidentBurst(Part):
    """The burst of a pair, as it was known when the pair was scored."""

    frb_id: Int64
    revision: Int32
    internal_name: str
    origin: str
    origin_id: str | None = None
    tns_name: str | None = None
    time: Timestamp
    time_err_s: float
    timing_note: str | None = None
    localisation: FrbLocalisation | None = None
    dm_pc_cm3: float | None = None
    dm_err_pc_cm3: float | None = None
    dm_excess_pc_cm3: float | None = None
    redshift: float | None = None
    redshift_low: float | None = None
    redshift_high: float | None = None
    snr: float | None = None


class BackgroundRate(Part):
    """How often chance alone does as well, counted in simulated years."""

    rate_per_year: float
    rate_low_per_year: float
    rate_high_per_year: float
    n_louder: Int64
    years: float
    background_id: str


class CoincidenceScores(Part):
    """How well a wave and a burst go together."""

    time_offset_s: float
    time_offset_err_s: float
    window: CoincidenceWindow
    window_low_s: float
    window_high_s: float
    overlap_sky: float | None = None
    overlap_3d: float | None = None
    distance_factor: float | None = None
    credible_level: float | None = None
    probdensity_per_sr: float | None = None
    wave_distance_mean_mpc: float | None = None
    wave_distance_std_mpc: float | None = None
    burst_distance_low_mpc: float | None = None
    burst_distance_high_mpc: float | None = None
    far_time_hz: float
    far_space_time_hz: float | None = None
    trials_factor: Int32
    burst_rate_per_year: float
    odds: float | None = None
    prior_odds: float
    background: BackgroundRate | None = None
    combined_skymap: BlobRef | None = None


class Coincidence(Event):
    """One gravitational wave and one burst that may belong together; a later record of the pair replaces this one."""

    schema_name: ClassVar[str] = "coincidence"

    coincidence_id: str
    revision: Int32
    coincidence_type: CoincidenceType
    is_test: bool
    decided_at: Timestamp
    method_version: str
    reason: str
    wave: CoincidentWave
    burst: CoincidentBurst
    scores: CoincidenceScores | None = None
    gcn_notice: BlobRef | None = None
