"""What a burst is and how it changes. Every function gives a new record, one revision on; nothing here does I/O."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from services.frb_intake.models import BurstIn, MeasurementIn, ObservationIn
from shared.errors import InvalidInputError
from shared.events.blob import BlobRef
from shared.events.frb import (
    FrbChange,
    FrbDmBudget,
    FrbEvent,
    FrbImage,
    FrbLocalisation,
    FrbMeasurement,
    FrbObservation,
    FrbStatus,
    FrbVotes,
)
from shared.events.ids import event_id
from shared.physics.dispersion import infinite_frequency_time
from shared.physics.galactic_dm import DM_HALO_PC_CM3, galactic_deg, ne2001_max_dm_pc_cm3
from shared.physics.macquart import redshift_range
from shared.sky.localisation import Ellipse

UPLOAD = "upload"
EARLIEST_YEAR = 1967
# The first pulsar; no radio pulse of an older date was ever recorded.
CLOCK_TOLERANCE_S = 60.0
SMALLEST_AXIS_DEG = 1e-6
# 4 milliarcseconds, below every published localisation: an error given as 0 means "not stated".
DEFAULT_COSMOLOGY = "Planck18"
VOTE_RULE = "rule:votes"
# Who changed a status that votes decided; no account can have this name.
SUMMED_MODEL = "given"
NE2001 = "NE2001"


class WithdrawnError(InvalidInputError):
    """A withdrawn burst does not change any more."""


class TransitionError(InvalidInputError):
    """The status machine has no such step."""


TRANSITIONS: Mapping[FrbStatus, frozenset[FrbStatus]] = {
    FrbStatus.CANDIDATE: frozenset({FrbStatus.CONFIRMED, FrbStatus.REJECTED, FrbStatus.WITHDRAWN}),
    FrbStatus.CONFIRMED: frozenset({FrbStatus.CANDIDATE, FrbStatus.REJECTED, FrbStatus.WITHDRAWN}),
    FrbStatus.REJECTED: frozenset({FrbStatus.CANDIDATE, FrbStatus.CONFIRMED, FrbStatus.WITHDRAWN}),
    FrbStatus.WITHDRAWN: frozenset(),
}


@dataclass(frozen=True)
class Measured:
    """What was measured, whichever door it came through; units as in `FrbMeasurement`.

    Attributes
    ----------
    dm_mw_ism_pc_cm3
        What the sender says that the Milky Way contributes, by `dm_mw_ism_model`; None to look it up.
    time_of_arrival_inf, time_of_arrival_inf_err_s
        When the sender computed it; else it is computed here.
    """

    pipeline: str
    pipeline_version: str
    dm_pc_cm3: float | None = None
    dm_err_pc_cm3: float | None = None
    ellipse: Ellipse | None = None
    snr: float | None = None
    width_ms: float | None = None
    flux_jy: float | None = None
    flux_err_jy: float | None = None
    fluence_jy_ms: float | None = None
    fluence_err_jy_ms: float | None = None
    rm_rad_m2: float | None = None
    rm_err_rad_m2: float | None = None
    redshift: float | None = None
    cosmology: str = DEFAULT_COSMOLOGY
    dm_mw_ism_pc_cm3: float | None = None
    dm_mw_ism_model: str = SUMMED_MODEL
    time_of_arrival_inf: datetime | None = None
    time_of_arrival_inf_err_s: float | None = None


@dataclass(frozen=True)
class NewBurst:
    """What is known of a burst when it comes in."""

    submitted_by: str
    origin: str
    origin_id: str | None = None
    is_test: bool = False
    repeater: bool = False
    repeater_of: str | None = None
    time_of_arrival: datetime | None = None
    time_of_arrival_err_s: float | None = None
    reference_frequency_mhz: float | None = None
    importance: float | None = None
    observation: FrbObservation | None = None
    images: tuple[FrbImage, ...] = ()
    note: str | None = None
    tns_name: str | None = None
    raw: BlobRef | None = None


def check_time(time: datetime | None, now: datetime) -> None:
    """Refuse a time of arrival at which no burst can have been seen.

    Raises
    ------
    InvalidInputError
        It is in the future, or before radio pulses were recorded.
    """
    if time is None:
        return
    if time - now > timedelta(seconds=CLOCK_TOLERANCE_S) or time.year < EARLIEST_YEAR:
        raise InvalidInputError(
            "time_of_arrival", time.isoformat(), f"a time from {EARLIEST_YEAR} to now, {now.isoformat()}"
        )


def uploaded_burst(
    sent: BurstIn, *, submitted_by: str, images: Sequence[FrbImage], observation: ObservationIn | None = None
) -> NewBurst:
    """Return the burst that an upload describes; the time of arrival is taken at the centre of the band."""
    observation = observation or sent.observation
    return NewBurst(
        submitted_by=submitted_by,
        origin=UPLOAD,
        is_test=sent.is_test,
        repeater=sent.repeater,
        repeater_of=sent.repeater_of,
        time_of_arrival=sent.time_of_arrival,
        # A sample is how well an upload knows its time.
        time_of_arrival_err_s=observation.sampling_time / 1000 if observation and sent.time_of_arrival else None,
        reference_frequency_mhz=observation.centre_frequency if observation else None,
        observation=to_observation(observation) if observation else None,
        images=tuple(images),
    )


def to_observation(sent: ObservationIn) -> FrbObservation:
    """Return an observation in the words of the record."""
    return FrbObservation(
        beam_semi_major_axis_arcmin=sent.beam_semi_major_axis,
        beam_semi_minor_axis_arcmin=sent.beam_semi_minor_axis,
        beam_rotation_angle_deg=sent.beam_rotation_angle,
        sampling_time_ms=sent.sampling_time,
        bandwidth_mhz=sent.bandwidth,
        nchan=sent.nchan,
        centre_frequency_mhz=sent.centre_frequency,
        npol=sent.npol,
        bits_per_sample=sent.bits_per_sample,
        gain_k_jy=sent.gain,
        tsys_k=sent.tsys,
        backend=sent.backend,
        beam=None if sent.beam is None else str(sent.beam),
    )


def to_measured(sent: MeasurementIn) -> Measured:
    """Return a measurement in the words of the record; an ellipse goes before the two errors of the position."""
    if sent.eellipse is None:
        ellipse = Ellipse.from_axis_errors(
            ra_deg=sent.ra % 360,
            dec_deg=sent.dec,
            ra_err_deg=max(sent.ra_err, SMALLEST_AXIS_DEG),
            dec_err_deg=max(sent.dec_err, SMALLEST_AXIS_DEG),
            confidence_level=0.68,
        )
    else:
        ellipse = Ellipse.from_clockwise_theta(
            ra_deg=sent.ra % 360,
            dec_deg=sent.dec,
            a_deg=sent.eellipse.a,
            b_deg=sent.eellipse.b,
            theta_deg=sent.eellipse.theta,
            confidence_level=sent.eellipse.cl / 100,
        )
    return Measured(
        pipeline=sent.source,
        pipeline_version=sent.version,
        dm_pc_cm3=sent.dm,
        dm_err_pc_cm3=sent.dm_err,
        ellipse=ellipse,
        snr=sent.sn,
        width_ms=sent.width,
        flux_jy=sent.flux,
        flux_err_jy=sent.flux_err,
        fluence_jy_ms=sent.fluence,
        fluence_err_jy_ms=sent.fluence_err,
        rm_rad_m2=sent.rm,
        rm_err_rad_m2=sent.rm_err,
        redshift=sent.z,
        cosmology=sent.cosmo or DEFAULT_COSMOLOGY,
        dm_mw_ism_pc_cm3=sent.dmism,
    )


def create(
    new: NewBurst, *, frb_id: int, observatory: str, now: datetime, measured: Measured | None = None
) -> FrbEvent:
    """Return the first record of a burst."""
    record = FrbEvent(
        event_id=record_id(frb_id, now, 1),
        frb_id=frb_id,
        internal_name=f"{observatory}-FRB-{frb_id}",
        origin=new.origin,
        origin_id=new.origin_id,
        submitted_by=new.submitted_by,
        is_test=new.is_test,
        revision=1,
        change=FrbChange.CREATED,
        changed_at=now,
        changed_by=new.submitted_by,
        received_at=now,
        status=FrbStatus.CANDIDATE,
        tns_name=new.tns_name,
        repeater=new.repeater,
        repeater_of=new.repeater_of,
        time_of_arrival=new.time_of_arrival,
        time_of_arrival_err_s=new.time_of_arrival_err_s,
        reference_frequency_mhz=new.reference_frequency_mhz,
        importance=new.importance,
        observation=new.observation,
        images=new.images,
        votes=FrbVotes(confirm=0, reject=0, unsure=0),
        note=new.note,
        raw=new.raw,
    )
    if measured is None:
        return record
    first = measurement(record, measured, by=new.submitted_by, now=now)
    return record.model_copy(update={"first": first, "latest": first})


def measurement(burst: FrbEvent, measured: Measured, *, by: str, now: datetime) -> FrbMeasurement:
    """Return the next measurement of a burst, with what follows from it: arrival at infinite frequency, distance."""
    ellipse, dm = measured.ellipse, measured.dm_pc_cm3
    time_inf, time_inf_err_s = measured.time_of_arrival_inf, measured.time_of_arrival_inf_err_s
    if time_inf is None and None not in (burst.time_of_arrival, burst.reference_frequency_mhz, dm):
        assert burst.time_of_arrival is not None
        assert burst.reference_frequency_mhz is not None
        assert dm is not None
        dedispersed = infinite_frequency_time(
            burst.time_of_arrival,
            dm_pc_cm3=dm,
            frequency_mhz=burst.reference_frequency_mhz,
            dm_err_pc_cm3=measured.dm_err_pc_cm3 or 0.0,
            time_err_s=burst.time_of_arrival_err_s or 0.0,
        )
        time_inf, time_inf_err_s = dedispersed.time, dedispersed.error_s
    gl_deg, gb_deg = galactic_deg(ellipse.ra_deg, ellipse.dec_deg) if ellipse else (None, None)
    return FrbMeasurement(
        number=burst.latest.number + 1 if burst.latest else 1,
        made_at=now,
        made_by=by,
        pipeline=measured.pipeline,
        pipeline_version=measured.pipeline_version,
        dm_pc_cm3=dm,
        dm_err_pc_cm3=measured.dm_err_pc_cm3,
        snr=measured.snr,
        width_ms=measured.width_ms,
        flux_jy=measured.flux_jy,
        flux_err_jy=measured.flux_err_jy,
        fluence_jy_ms=measured.fluence_jy_ms,
        fluence_err_jy_ms=measured.fluence_err_jy_ms,
        rm_rad_m2=measured.rm_rad_m2,
        rm_err_rad_m2=measured.rm_err_rad_m2,
        redshift=measured.redshift,
        time_of_arrival_inf=time_inf,
        time_of_arrival_inf_err_s=time_inf_err_s,
        localisation=to_localisation(ellipse) if ellipse else None,
        gl_deg=None if gl_deg is None else float(gl_deg),
        gb_deg=None if gb_deg is None else float(gb_deg),
        dm_budget=dm_budget(measured),
    )


def to_localisation(ellipse: Ellipse) -> FrbLocalisation:
    """Return an ellipse in the words of the record."""
    return FrbLocalisation(
        ra_deg=ellipse.ra_deg,
        dec_deg=ellipse.dec_deg,
        semi_major_deg=ellipse.semi_major_deg,
        semi_minor_deg=ellipse.semi_minor_deg,
        position_angle_deg=ellipse.position_angle_deg,
        confidence_level=ellipse.confidence_level,
    )


def to_ellipse(localisation: FrbLocalisation) -> Ellipse:
    """Return the localisation of a record as a region on the sky."""
    return Ellipse(
        ra_deg=localisation.ra_deg,
        dec_deg=localisation.dec_deg,
        semi_major_deg=localisation.semi_major_deg,
        semi_minor_deg=localisation.semi_minor_deg,
        position_angle_deg=localisation.position_angle_deg,
        confidence_level=localisation.confidence_level,
    )


def dm_budget(measured: Measured) -> FrbDmBudget | None:
    """Divide a dispersion measure between the Milky Way and what is beyond; None without one or without a position.

    Raises
    ------
    InvalidInputError
        The cosmology is not known.
    """
    if measured.dm_pc_cm3 is None:
        return None
    ism, model = measured.dm_mw_ism_pc_cm3, measured.dm_mw_ism_model
    if ism is None:
        if measured.ellipse is None:
            return None
        ism, model = float(ne2001_max_dm_pc_cm3(measured.ellipse.ra_deg, measured.ellipse.dec_deg)), NE2001
    excess = measured.dm_pc_cm3 - ism - DM_HALO_PC_CM3
    redshift = redshift_range(excess, cosmology=measured.cosmology)
    return FrbDmBudget(
        dm_mw_ism_pc_cm3=ism,
        dm_mw_ism_model=model,
        dm_mw_halo_pc_cm3=DM_HALO_PC_CM3,
        dm_excess_pc_cm3=excess,
        redshift_low=redshift.low,
        redshift_mean=redshift.mean,
        redshift_high=redshift.high,
        cosmology=measured.cosmology,
    )


def with_measurement(burst: FrbEvent, measured: Measured, *, by: str, now: datetime) -> FrbEvent:
    """Return a burst with one more measurement. The first detection stays what it was.

    Raises
    ------
    WithdrawnError
        The burst is withdrawn.
    """
    _require_standing(burst)
    latest = measurement(burst, measured, by=by, now=now)
    return _changed(burst, FrbChange.MEASURED, by=by, now=now, first=burst.first or latest, latest=latest)


def with_status(burst: FrbEvent, status: FrbStatus, *, reason: str, by: str, now: datetime) -> FrbEvent:
    """Return a burst with a new status.

    Raises
    ------
    WithdrawnError
        The burst is withdrawn.
    TransitionError
        It has that status already.
    """
    _require_standing(burst)
    if status not in TRANSITIONS[burst.status]:
        possible = ", ".join(sorted(TRANSITIONS[burst.status])).lower()
        raise TransitionError("status", status.lower(), f"one of {possible}, from {burst.status.lower()}")
    return _changed(burst, FrbChange.STATUS_CHANGED, by=by, now=now, status=status, status_reason=reason)


def with_vote(burst: FrbEvent, rating: str, *, previous: str | None, by: str, now: datetime) -> FrbEvent:
    """Return a burst with somebody's vote, in place of that person's previous one."""
    _require_standing(burst)
    counts = burst.votes.model_dump()
    if previous is not None:
        counts[previous] -= 1
    counts[rating] += 1
    return _changed(burst, FrbChange.RATED, by=by, now=now, votes=FrbVotes(**counts))


@dataclass(frozen=True)
class VoteRule:
    """When votes decide about a candidate: enough for it, and not too many against; None: they never do."""

    confirm_votes: int | None = None
    max_reject_votes: int = 0
    reject_votes: int | None = None
    max_confirm_votes: int = 0

    def decision(self, burst: FrbEvent) -> tuple[FrbStatus, str] | None:
        """Return what the votes make of a candidate, and why; None when it stays one.

        What somebody decided is not decided otherwise by votes.
        """
        if burst.status is not FrbStatus.CANDIDATE:
            return None
        votes = burst.votes
        counts = f"{votes.confirm} confirm, {votes.reject} reject, {votes.unsure} unsure"
        for status, wanted, votes_for, votes_against, most_against in (
            (FrbStatus.CONFIRMED, self.confirm_votes, votes.confirm, votes.reject, self.max_reject_votes),
            (FrbStatus.REJECTED, self.reject_votes, votes.reject, votes.confirm, self.max_confirm_votes),
        ):
            if wanted is not None and votes_for >= wanted and votes_against <= most_against:
                asked = f"the rule asks for {wanted}, with at most {most_against} against"
                return status, f"By votes: {counts}; {asked}."
        return None


def with_name(burst: FrbEvent, tns_name: str, *, by: str, now: datetime) -> FrbEvent:
    """Return a burst with its name at the Transient Name Server."""
    _require_standing(burst)
    return _changed(burst, FrbChange.NAMED, by=by, now=now, tns_name=tns_name)


def with_correction(burst: FrbEvent, *, by: str, now: datetime, **updates: Any) -> FrbEvent:
    """Return a burst with other facts than measurements corrected (a note, that it repeats, the raw notice)."""
    return _changed(burst, FrbChange.CORRECTED, by=by, now=now, **updates)


def without_image(burst: FrbEvent, name: str, *, by: str, now: datetime) -> FrbEvent:
    """Return a burst without an image that turned out to be broken."""
    kept = tuple(image for image in burst.images if image.name != name)
    return _changed(burst, FrbChange.IMAGE_DROPPED, by=by, now=now, images=kept)


def warm_up() -> None:
    """Compute the tables of distances and electrons, so that the first burst does not wait a second for them."""
    dm_budget(Measured(pipeline="", pipeline_version="", dm_pc_cm3=1.0, ellipse=Ellipse(0, 0, 1, 1, 0, 0.5)))


def record_id(frb_id: int, received_at: datetime, revision: int) -> UUID:
    """Return the id of one revision's record; the numbers of a database that was begun anew are not those of before."""
    return event_id("frb.events", str(frb_id), received_at.isoformat(), str(revision))


def digest(*contents: object) -> bytes:
    """Return the sha256 of contents, equal for equal contents whatever the order of their keys."""
    canonical = json.dumps(contents, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(canonical.encode()).digest()


def summary(record: FrbEvent) -> dict[str, Any]:
    """Return the line of a burst in lists and exports: what the latest measurement says."""
    latest = record.latest
    place = latest.localisation if latest else None
    budget = latest.dm_budget if latest else None

    def of_latest(name: str) -> Any:
        return getattr(latest, name) if latest else None

    return {
        "id": record.frb_id,
        "internal_name": record.internal_name,
        "tns_name": record.tns_name,
        "origin": record.origin,
        "status": record.status.lower(),
        "is_test": record.is_test,
        "time_of_arrival": _iso(record.time_of_arrival),
        "time_of_arrival_inf": _iso(of_latest("time_of_arrival_inf")),
        "dm": of_latest("dm_pc_cm3"),
        "dm_err": of_latest("dm_err_pc_cm3"),
        "dm_excess": budget.dm_excess_pc_cm3 if budget else None,
        "redshift_mean": budget.redshift_mean if budget else None,
        "redshift_low": budget.redshift_low if budget else None,
        "redshift_high": budget.redshift_high if budget else None,
        "sn": of_latest("snr"),
        "width": of_latest("width_ms"),
        "flux": of_latest("flux_jy"),
        "flux_err": of_latest("flux_err_jy"),
        "fluence": of_latest("fluence_jy_ms"),
        "fluence_err": of_latest("fluence_err_jy_ms"),
        "rm": of_latest("rm_rad_m2"),
        "rm_err": of_latest("rm_err_rad_m2"),
        "z": of_latest("redshift"),
        "ra": place.ra_deg if place else None,
        "dec": place.dec_deg if place else None,
        "error_semi_major": place.semi_major_deg if place else None,
        "error_semi_minor": place.semi_minor_deg if place else None,
        "error_position_angle": place.position_angle_deg if place else None,
        "confidence_level": place.confidence_level if place else None,
        "repeater": record.repeater,
        "votes": record.votes.model_dump(),
        "measurements": latest.number if latest else 0,
        "source": of_latest("pipeline"),
        "version": of_latest("pipeline_version"),
        "measured_at": _iso(of_latest("made_at")),
        "received_at": _iso(record.received_at),
        "revision": record.revision,
    }


def _iso(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat().replace("+00:00", "Z")


def _require_standing(burst: FrbEvent) -> None:
    if burst.status is FrbStatus.WITHDRAWN:
        raise WithdrawnError("id", burst.frb_id, "a burst that is not withdrawn")


def _changed(burst: FrbEvent, change: FrbChange, *, by: str, now: datetime, **updates: Any) -> FrbEvent:
    revision = burst.revision + 1
    return burst.model_copy(
        update={
            "event_id": record_id(burst.frb_id, burst.received_at, revision),
            "revision": revision,
            "change": change,
            "changed_by": by,
            # Clocks of two replicas may disagree; a history goes forward.
            "changed_at": max(now, burst.changed_at),
            **updates,
        }
    )
