"""What the proper door answers, for the OpenAPI document."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

from services.frb_intake.accounts import Role
from shared.events.blob import BlobRef
from shared.events.frb import FrbChange, FrbMeasurement, FrbStatus, FrbVotes
from shared.events.mma import Coincidence
from shared.events.notices import Delivery


class BurstSummary(BaseModel):
    """A burst as lists have it: its latest measurement."""

    id: int
    internal_name: str
    tns_name: str | None
    origin: str = Field(description="upload, or the observatory whose notice brought it.")
    status: str
    is_test: bool
    time_of_arrival: datetime | None = Field(description="At the telescope, at the reference frequency (UTC).")
    time_of_arrival_inf: datetime | None = Field(description="At infinite frequency (UTC).")
    dm: float | None = Field(description="Dispersion measure (pc cm^-3).")
    dm_err: float | None
    dm_excess: float | None = Field(description="Beyond the Milky Way and its halo (pc cm^-3).")
    redshift_mean: float | None = Field(description="By the Macquart relation.")
    redshift_low: float | None = Field(description="With redshift_high, a range of 90 %.")
    redshift_high: float | None
    sn: float | None
    width: float | None = Field(description="ms")
    flux: float | None = Field(description="Jy")
    flux_err: float | None
    fluence: float | None = Field(description="Jy ms")
    fluence_err: float | None
    rm: float | None = Field(description="rad m^-2")
    rm_err: float | None
    z: float | None
    ra: float | None = Field(description="ICRS, deg")
    dec: float | None = Field(description="deg")
    error_semi_major: float | None = Field(description="deg")
    error_semi_minor: float | None = Field(description="deg")
    error_position_angle: float | None = Field(description="deg, from north through east")
    confidence_level: float | None = Field(description="Of the error ellipse, 0 to 1.")
    repeater: bool
    votes: FrbVotes
    measurements: int = Field(description="How many there are.")
    source: str | None = Field(description="The pipeline that measured.")
    version: str | None = Field(description="Of that pipeline.")
    measured_at: datetime | None
    received_at: datetime
    revision: int


class BurstPage(BaseModel):
    """A page of a list."""

    items: list[BurstSummary]
    next: str | None = Field(description="The cursor of the next page; null on the last.")


class MeasurementVersion(FrbMeasurement):
    """One version of what was measured, with the keys as they came."""

    id: int
    as_submitted: dict[str, Any]


class BurstImage(BaseModel):
    """A picture that came with a burst."""

    name: str
    url: str
    file_name: str
    media_type: str
    width_px: int
    height_px: int


class RatingLine(BaseModel):
    """A vote."""

    rater: str
    rating: str
    note: str | None
    rated_at: datetime


class ChangeLine(BaseModel):
    """A step in the history of a burst."""

    revision: int
    change: FrbChange
    changed_at: datetime
    changed_by: str
    detail: dict[str, Any]


class BurstDetail(BaseModel):
    """Everything known of a burst."""

    id: int
    frb_id: int
    internal_name: str
    origin: str
    origin_id: str | None
    submitted_by: str
    is_test: bool
    revision: int
    change: FrbChange
    changed_at: datetime
    changed_by: str
    received_at: datetime
    status: FrbStatus
    status_reason: str | None
    tns_name: str | None
    repeater: bool
    repeater_of: str | None
    time_of_arrival: datetime | None
    time_of_arrival_err_s: float | None
    reference_frequency_mhz: float | None
    importance: float | None
    observation: dict[str, Any] | None = Field(description="The keys of the observation YAML.")
    first: FrbMeasurement | None = Field(description="The first detection; it never changes.")
    latest: FrbMeasurement | None
    votes: FrbVotes
    note: str | None
    raw: BlobRef | None
    measurements: list[MeasurementVersion]
    images: list[BurstImage]
    ratings: list[RatingLine] = Field(description="Every vote ever cast.")
    history: list[ChangeLine]
    notices: list[Delivery] = Field(description="What was told of it, on which channel, and how far that is.")
    coincidences: list[Coincidence] = Field(
        description="Gravitational waves that it may belong to, as last told; RETRACTION: it does not."
    )


class Me(BaseModel):
    """An account."""

    name: str
    roles: list[Role]
