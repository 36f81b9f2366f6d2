"""Fast radio bursts: what `frb.events` carries.

Field by field documentation and units are in `schemas/avro/frb_event`.
"""

from enum import StrEnum
from typing import ClassVar

from shared.events.blob import BlobRef
from shared.events.record import Event, Int32, Int64, Part, Timestamp


class FrbStatus(StrEnum):
    """What is thought of a burst."""

    CANDIDATE = "CANDIDATE"
    CONFIRMED = "CONFIRMED"
    REJECTED = "REJECTED"
    WITHDRAWN = "WITHDRAWN"
    UNKNOWN = "UNKNOWN"


class FrbChange(StrEnum):
    """What a record tells that the one before it did not."""

    CREATED = "CREATED"
    MEASURED = "MEASURED"
    CORRECTED = "CORRECTED"
    RATED = "RATED"
    STATUS_CHANGED = "STATUS_CHANGED"
    NAMED = "NAMED"
    IMAGE_DROPPED = "IMAGE_DROPPED"
    UNKNOWN = "UNKNOWN"


class FrbObservation(Part):
    """How the telescope was set up."""

    beam_semi_major_axis_arcmin: float | None = None
    beam_semi_minor_axis_arcmin: float | None = None
    beam_rotation_angle_deg: float | None = None
    sampling_time_ms: float | None = None
    bandwidth_mhz: float | None = None
    nchan: Int32 | None = None
    centre_frequency_mhz: float | None = None
    npol: Int32 | None = None
    bits_per_sample: Int32 | None = None
    gain_k_jy: float | None = None
    tsys_k: float | None = None
    backend: str | None = None
    beam: str | None = None


class FrbLocalisation(Part):
    """Ellipse on the sky, a circle where the semi-axes are equal, that holds the burst at `confidence_level`."""

    ra_deg: float
    dec_deg: float
    semi_major_deg: float
    semi_minor_deg: float
    position_angle_deg: float
    confidence_level: float


class FrbDmBudget(Part):
    """Where the dispersion measure comes from, and the distance that this allows."""

    dm_mw_ism_pc_cm3: float
    dm_mw_ism_model: str
    dm_mw_halo_pc_cm3: float
    dm_excess_pc_cm3: float
    redshift_low: float
    redshift_mean: float
    redshift_high: float
    cosmology: str


class FrbMeasurement(Part):
    """One measurement of a burst; number 1 is its first detection."""

    number: Int32
    made_at: Timestamp
    made_by: str
    pipeline: str
    pipeline_version: str
    dm_pc_cm3: float | None = None
    dm_err_pc_cm3: float | None = None
    snr: float | None = None
    width_ms: float | None = None
    flux_jy: float | None = None
    flux_err_jy: float | None = None
    fluence_jy_ms: float | None = None
    fluence_err_jy_ms: float | None = None
    rm_rad_m2: float | None = None
    rm_err_rad_m2: float | None = None
    redshift: float | None = None
    time_of_arrival_inf: Timestamp | None = None
    time_of_arrival_inf_err_s: float | None = None
    localisation: FrbLocalisation | None = None
    gl_deg: float | None = None
    gb_deg: float | None = None
    dm_budget: FrbDmBudget | None = None


class FrbImage(Part):
    """A picture that came with a burst."""

    name: str
    blob: BlobRef
    width_px: Int32
    height_px: Int32


class FrbVotes(Part):
    """How many people's last vote is what."""

    confirm: Int32
    reject: Int32
    unsure: Int32


class FrbEvent(Event):
    """Everything known of one burst after a change; a later record of the same burst replaces this one."""

    schema_name: ClassVar[str] = "frb_event"

    frb_id: Int64
    internal_name: str
    origin: str
    origin_id: str | None = None
    submitted_by: str
    is_test: bool
    revision: Int32
    change: FrbChange
    changed_at: Timestamp
    changed_by: str
    received_at: Timestamp
    status: FrbStatus
    status_reason: str | None = None
    tns_name: str | None = None
    repeater: bool
    repeater_of: str | None = None
    time_of_arrival: Timestamp | None = None
    time_of_arrival_err_s: float | None = None
    reference_frequency_mhz: float | None = None
    importance: float | None = None
    observation: FrbObservation | None = None
    first: FrbMeasurement | None = None
    latest: FrbMeasurement | None = None
    images: tuple[FrbImage, ...]
    votes: FrbVotes
    note: str | None = None
    raw: BlobRef | None = None
