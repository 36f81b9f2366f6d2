"""Which pairs of a wave and a burst there are, and which of them are told: pure decisions.

What is known of a wave or a burst is a function of the set of records seen, whatever their order, and what is decided
of a pair is a function of what is known of both: so every order of arrival ends in the same state.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TypeVar
from uuid import UUID

from services.coincidence.settings import CoincidenceSection, WaveClassSection
from shared.events.blob import BlobRef
from shared.events.frb import FrbEvent, FrbMeasurement, FrbStatus
from shared.events.gw import AlertType, GwAlert, GwSkymap, MapKind, SkymapState, SupereventState
from shared.events.ids import event_id
from shared.events.mma import (
    Coincidence,
    CoincidenceScores,
    CoincidenceType,
    CoincidenceWindow,
    CoincidentBurst,
    CoincidentWave,
)
from shared.events.record import Part, Timestamp
from shared.physics import rates
from shared.physics.arrival import MAX_DELAY_S, SITES, Site, geocentre_delay_s
from shared.physics.dispersion import dispersion_delay_s

METHOD_VERSION = "1"
# Raised with every change that can alter a pair's numbers.

ERRORS_WIDE = 3.0
# A pair is in a window when its offset is within so many standard errors of it.
UNKNOWN_P_ASTRO = 0.5
# Of waves whose alert gives no classification: those of group Burst.
LOWEST_BAND_MHZ = 400.0
# Bursts of unknown frequency arrive no later than at the lowest band in common use; half of that is their error.
GEOCENTRE_ERR_S = MAX_DELAY_S / 3**0.5
# Standard deviation of a time of travel of which only the largest is known.


class PairState(StrEnum):
    """What became of a pair that was considered."""

    ANNOUNCED = "ANNOUNCED"
    NOT_ANNOUNCED = "NOT_ANNOUNCED"
    WITHDRAWN = "WITHDRAWN"
    OUTSIDE = "OUTSIDE"


class AlertFacts(Part):
    """What an alert says of its wave."""

    event_id: UUID
    alert_type: AlertType
    time_created: Timestamp
    event_time: Timestamp
    group: str
    search: str | None
    pipeline: str
    significant: bool | None
    far_hz: float
    p_astro: float | None


class MapFacts(Part):
    """Which sky map a wave has."""

    event_id: UUID
    alert_event_id: UUID
    alert_time_created: Timestamp
    canonical: BlobRef
    distance_mean_mpc: float | None
    distance_std_mpc: float | None

    @property
    def age_key(self) -> tuple[datetime, UUID]:
        """Greater for a newer map."""
        return self.alert_time_created, self.event_id


class Wave(Part):
    """Everything known of a superevent."""

    superevent_id: str
    is_test: bool
    is_retracted: bool = False
    alert: AlertFacts | None = None
    skymap: MapFacts | None = None

    def with_alert(self, record: GwAlert) -> Wave:
        """Return what is known with one more alert; older alerts change nothing, a retraction is for good."""
        retracted = (
            self.is_retracted
            or record.alert_type is AlertType.RETRACTION
            or record.superevent_state is SupereventState.RETRACTED
        )
        facts = self.alert
        if record.event is not None:
            new = _alert_facts(record)
            if facts is None or (facts.time_created, facts.event_id) < (new.time_created, new.event_id):
                facts = new
        return self.model_copy(update={"is_retracted": retracted, "alert": facts})

    def with_skymap(self, record: GwSkymap) -> Wave:
        """Return what is known with one more record about a sky map; combined maps of others say nothing new."""
        retracted = self.is_retracted or record.state is SkymapState.WITHDRAWN
        newest = self.skymap
        if record.skymap is not None and record.map_kind is MapKind.GW:
            new = MapFacts(
                event_id=record.event_id,
                alert_event_id=record.alert_event_id,
                alert_time_created=record.alert_time_created,
                canonical=record.skymap.canonical,
                distance_mean_mpc=record.skymap.distance_mean_mpc,
                distance_std_mpc=record.skymap.distance_std_mpc,
            )
            newest = new if newest is None or newest.age_key < new.age_key else newest
        return self.model_copy(update={"is_retracted": retracted, "skymap": newest})

    @property
    def facts(self) -> CoincidentWave | None:
        """As records tell it; None before an alert that gives time and rate."""
        if self.alert is None:
            return None
        alert = self.alert
        known = self.skymap
        return CoincidentWave(
            superevent_id=self.superevent_id,
            alert_event_id=alert.event_id,
            alert_type=alert.alert_type,
            alert_time_created=alert.time_created,
            event_time=alert.event_time,
            group=alert.group,
            search=alert.search,
            pipeline=alert.pipeline,
            significant=alert.significant,
            far_hz=alert.far_hz,
            p_astro=alert.p_astro,
            skymap_event_id=known.event_id if known else None,
            skymap=known.canonical if known else None,
            distance_mean_mpc=known.distance_mean_mpc if known else None,
            distance_std_mpc=known.distance_std_mpc if known else None,
        )


def _alert_facts(record: GwAlert) -> AlertFacts:
    event = record.event
    assert event is not None
    terrestrial = event.classification.get("Terrestrial")
    return AlertFacts(
        event_id=record.event_id,
        alert_type=record.alert_type,
        time_created=record.time_created,
        event_time=event.time,
        group=event.group,
        search=event.search,
        pipeline=event.pipeline,
        significant=event.significant,
        far_hz=event.far_hz,
        p_astro=None if terrestrial is None else min(max(1 - terrestrial, 0.0), 1.0),
    )


class Burst(Part):
    """Everything known of a burst that a comparison needs."""

    facts: CoincidentBurst
    is_test: bool
    status: FrbStatus
    status_reason: str | None
    repeater: bool
    importance: float | None
    cosmology: str | None

    @property
    def taken_back(self) -> str | None:
        """Why nothing may rest on it any more."""
        if self.status is FrbStatus.WITHDRAWN:
            return f"the burst was withdrawn: {self.status_reason or 'no reason given'}"
        if self.status is FrbStatus.REJECTED:
            return f"the burst was rejected: {self.status_reason or 'no reason given'}"
        return None


def read_burst(record: FrbEvent, *, upload_site: Site | None) -> Burst | None:
    """Return what a record says of its burst; None for one without a time: it can be compared with nothing.

    The newest measurement counts, and what it leaves out comes from the first.
    """
    timed = _geocentric_time(record, upload_site=upload_site)
    if timed is None:
        return None
    budget = _newest(record, lambda measurement: measurement.dm_budget)
    facts = CoincidentBurst(
        frb_id=record.frb_id,
        revision=record.revision,
        internal_name=record.internal_name,
        origin=record.origin,
        origin_id=record.origin_id,
        tns_name=record.tns_name,
        time=timed.time,
        time_err_s=timed.err_s,
        timing_note=timed.note,
        localisation=_newest(record, lambda measurement: measurement.localisation),
        dm_pc_cm3=_newest(record, lambda measurement: measurement.dm_pc_cm3),
        dm_err_pc_cm3=_newest(record, lambda measurement: measurement.dm_err_pc_cm3),
        dm_excess_pc_cm3=budget.dm_excess_pc_cm3 if budget else None,
        redshift=_newest(record, lambda measurement: measurement.redshift),
        redshift_low=budget.redshift_low if budget else None,
        redshift_high=budget.redshift_high if budget else None,
        snr=_newest(record, lambda measurement: measurement.snr),
    )
    return Burst(
        facts=facts,
        is_test=record.is_test,
        status=record.status,
        status_reason=record.status_reason,
        repeater=record.repeater,
        importance=record.importance,
        cosmology=budget.cosmology if budget else None,
    )


Value = TypeVar("Value")


def _newest(record: FrbEvent, read: Callable[[FrbMeasurement], Value | None]) -> Value | None:
    values = (read(measurement) for measurement in (record.latest, record.first) if measurement is not None)
    return next((value for value in values if value is not None), None)


@dataclass(frozen=True)
class _Timed:
    time: datetime
    err_s: float
    note: str | None


def _geocentric_time(record: FrbEvent, *, upload_site: Site | None) -> _Timed | None:
    """Return when the burst, at infinite frequency, passed the centre of the Earth."""
    notes = []
    dedispersed = _newest(record, _dedispersed)
    if dedispersed is not None:
        time, err_s = dedispersed
    elif record.time_of_arrival is not None:
        dm_pc_cm3 = _newest(record, lambda m: m.dm_pc_cm3) or 0.0
        # It came earlier by an unknown part of this.
        half_s = float(dispersion_delay_s(dm_pc_cm3, LOWEST_BAND_MHZ)) / 2
        time, err_s = record.time_of_arrival - timedelta(seconds=half_s), half_s + (record.time_of_arrival_err_s or 0.0)
        notes.append(f"the frequency is unknown: half the delay at {LOWEST_BAND_MHZ:g} MHz was taken off")
    else:
        return None
    site = upload_site if record.origin == "upload" else SITES.get(record.origin.lower().replace("-", ""))
    position = _newest(record, lambda m: m.localisation)
    if site is None or position is None:
        notes.append("the way to the geocentre is unknown")
        return _Timed(time, math.hypot(err_s, GEOCENTRE_ERR_S), "; ".join(notes))
    delay_s = geocentre_delay_s(site, ra_deg=position.ra_deg, dec_deg=position.dec_deg, time=time)
    return _Timed(time + timedelta(seconds=delay_s), err_s, "; ".join(notes) or None)


def _dedispersed(measurement: FrbMeasurement) -> tuple[datetime, float] | None:
    if measurement.time_of_arrival_inf is None:
        return None
    return measurement.time_of_arrival_inf, measurement.time_of_arrival_inf_err_s or 0.0


def class_name(wave: CoincidentWave) -> str:
    """Return the class of a wave: cbc, or burst for all that is not of a compact binary."""
    return "cbc" if wave.group.upper() == "CBC" else "burst"


def class_of(wave: CoincidentWave, settings: CoincidenceSection) -> WaveClassSection:
    """Return what holds for a wave."""
    return settings.cbc if class_name(wave) == "cbc" else settings.burst


@dataclass(frozen=True)
class Timing:
    """How a burst lies in time to a wave: burst less wave, and the narrowest window that holds it."""

    offset_s: float
    err_s: float
    window: CoincidenceWindow
    low_s: float
    high_s: float


def timing(wave: CoincidentWave, burst: CoincidentBurst, settings: CoincidenceSection) -> Timing | None:
    """Return the timing of a pair, None outside of every window."""
    offset_s = (burst.time - wave.event_time).total_seconds()
    margin_s = ERRORS_WIDE * burst.time_err_s
    own = class_of(wave, settings)
    for window, (low_s, high_s) in ((CoincidenceWindow.NARROW, own.narrow_s), (CoincidenceWindow.WIDE, own.wide_s)):
        if low_s - margin_s <= -offset_s <= high_s + margin_s:
            return Timing(offset_s, burst.time_err_s, window, low_s, high_s)
    return None


@dataclass(frozen=True)
class SkyScores:
    """How well the positions and distances of a pair go together; units as in the record `CoincidenceScores`."""

    overlap_sky: float
    credible_level: float
    probdensity_per_sr: float
    overlap_3d: float | None = None
    wave_distance_mean_mpc: float | None = None
    wave_distance_std_mpc: float | None = None
    burst_distance_low_mpc: float | None = None
    burst_distance_high_mpc: float | None = None


def scores(
    wave: CoincidentWave, *, timed: Timing, sky: SkyScores | None, settings: CoincidenceSection
) -> CoincidenceScores:
    """Return everything that is counted of a pair, but for the background.

    The joint rates are RAVEN's for an untargeted search (docs/decisions). The odds compare a common source with
    chance: the prior fraction of waves with a detectable burst, times the probability that the wave is real, times the
    density in time of such bursts over the rate of all bursts, times the overlap (Ashton et al. 2018, ApJ 860, 6).
    """
    own = class_of(wave, settings)
    length_s = timed.high_s - timed.low_s
    far_time_hz = rates.far_time_hz(wave.far_hz, burst_rate_per_year=settings.burst_rate_per_year, window_s=length_s)
    overlap = far_space_time_hz = distance_factor = None
    if sky is not None:
        overlap = sky.overlap_sky if sky.overlap_3d is None else sky.overlap_3d
        far_space_time_hz = rates.far_space_time_hz(far_time_hz, overlap=sky.overlap_sky)
        if sky.overlap_3d is not None and sky.overlap_sky > 0:
            distance_factor = sky.overlap_3d / sky.overlap_sky
    return CoincidenceScores(
        time_offset_s=timed.offset_s,
        time_offset_err_s=timed.err_s,
        window=timed.window,
        window_low_s=timed.low_s,
        window_high_s=timed.high_s,
        overlap_sky=sky.overlap_sky if sky else None,
        overlap_3d=sky.overlap_3d if sky else None,
        distance_factor=distance_factor,
        credible_level=sky.credible_level if sky else None,
        probdensity_per_sr=sky.probdensity_per_sr if sky else None,
        wave_distance_mean_mpc=sky.wave_distance_mean_mpc if sky else None,
        wave_distance_std_mpc=sky.wave_distance_std_mpc if sky else None,
        burst_distance_low_mpc=sky.burst_distance_low_mpc if sky else None,
        burst_distance_high_mpc=sky.burst_distance_high_mpc if sky else None,
        far_time_hz=far_time_hz,
        far_space_time_hz=far_space_time_hz,
        trials_factor=rates.n_searches(wave.group, wave.search),
        burst_rate_per_year=settings.burst_rate_per_year,
        odds=None if overlap is None else overlap * odds_before_sky(wave, timed.window, own, settings),
        prior_odds=settings.prior_odds,
    )


def odds_before_sky(
    wave: CoincidentWave, window: CoincidenceWindow, own: WaveClassSection, settings: CoincidenceSection
) -> float:
    """Return the odds of a common source from the prior, the wave and the time alone."""
    p_astro = UNKNOWN_P_ASTRO if wave.p_astro is None else wave.p_astro
    density_per_s = (1 - settings.narrow_fraction) / (own.wide_s[1] - own.wide_s[0])
    if window is CoincidenceWindow.NARROW:
        density_per_s += settings.narrow_fraction / (own.narrow_s[1] - own.narrow_s[0])
    return settings.prior_odds * p_astro * density_per_s / (settings.burst_rate_per_year / rates.SECONDS_PER_YEAR)


@dataclass(frozen=True)
class Verdict:
    """What is done about a pair, and why, in words."""

    state: PairState
    reason: str


def judge(wave: Wave, burst: Burst, counted: CoincidenceScores | None, settings: CoincidenceSection) -> Verdict:
    """Decide about a pair; `counted` None: outside of every window, or not counted because a parent is gone."""
    taken_back = "the wave was retracted" if wave.is_retracted else burst.taken_back
    if taken_back:
        return Verdict(PairState.WITHDRAWN, taken_back)
    if counted is None:
        return Verdict(PairState.OUTSIDE, "the times differ by more than any window")
    assert wave.facts is not None
    against = list(_objections(wave.facts, burst, counted, settings))
    if against:
        return Verdict(PairState.NOT_ANNOUNCED, "; ".join(against))
    assert counted.far_space_time_hz is not None
    yearly = counted.far_space_time_hz * rates.SECONDS_PER_YEAR
    return Verdict(
        PairState.ANNOUNCED,
        f"overlap {counted.overlap_sky:.3g}, joint false-alarm rate {yearly:.3g} per year, before trials",
    )


def _objections(
    wave: CoincidentWave, burst: Burst, counted: CoincidenceScores, settings: CoincidenceSection
) -> Iterator[str]:
    threshold = class_of(wave, settings).max_far_per_year
    if burst.repeater and not settings.announce_repeaters:
        yield "the burst is of a known repeater"
    if burst.importance is not None and burst.importance < settings.min_importance:
        origin, least = burst.facts.origin, settings.min_importance
        yield f"{origin} gives the burst importance {burst.importance:.3g}, below {least:g}"
    if burst.facts.localisation is None:
        yield "the burst has no position"
    elif wave.skymap is None:
        yield "the wave has no sky map yet"
    if counted.overlap_sky is None:
        return
    if counted.overlap_sky < settings.min_overlap:
        yield f"the overlap of the positions, {counted.overlap_sky:.3g}, is below {settings.min_overlap:g}"
    elif counted.overlap_3d is not None and counted.overlap_3d < settings.min_overlap:
        yield f"the overlap with the distances, {counted.overlap_3d:.3g}, is below {settings.min_overlap:g}"
    if counted.far_space_time_hz is None:
        yield "the positions exclude each other"
    else:
        n = counted.trials_factor
        far_per_year = n * (n - 1) * counted.far_space_time_hz * rates.SECONDS_PER_YEAR
        if far_per_year > threshold:
            yield f"the joint false-alarm rate with trials, {far_per_year:.3g} per year, is above {threshold:.3g}"
    if counted.background is not None and counted.background.rate_per_year > threshold:
        chance = counted.background.rate_per_year
        yield f"chance pairs as good are measured to come {chance:.3g} times a year, above {threshold:.3g}"


def content_digest(record: Coincidence) -> str:
    """Return what tells whether a record says anything new: not when it was decided, nor under which revision."""
    told = record.model_dump(
        mode="json",
        exclude={
            "event_id": True, "revision": True, "coincidence_type": True, "decided_at": True, "gcn_notice": True,
            "burst": {"revision"},
        },
    )  # fmt: skip
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def coincidence_id(superevent_id: str, frb_id: int) -> str:
    """Return the name of a pair."""
    return f"{superevent_id}-{frb_id}"


def next_record(
    wave: CoincidentWave,
    burst: CoincidentBurst,
    *,
    verdict: Verdict,
    counted: CoincidenceScores | None,
    is_test: bool,
    revision: int,
    is_open: bool,
    now: datetime,
) -> Coincidence:
    """Return the record that tells a verdict, after `revision` records of the pair; `is_open`: the last one stands."""
    name = coincidence_id(wave.superevent_id, burst.frb_id)
    if verdict.state is not PairState.ANNOUNCED:
        kind = CoincidenceType.RETRACTION
    else:
        kind = CoincidenceType.UPDATE if is_open else CoincidenceType.INITIAL
    return Coincidence(
        event_id=event_id("mma.coincidences", name, str(revision + 1)),
        coincidence_id=name,
        revision=revision + 1,
        coincidence_type=kind,
        is_test=is_test,
        decided_at=now,
        method_version=METHOD_VERSION,
        reason=verdict.reason,
        wave=wave,
        burst=burst,
        scores=counted if kind is not CoincidenceType.RETRACTION else None,
    )
