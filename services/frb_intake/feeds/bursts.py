"""What a notice says, in the words of a burst."""

from dataclasses import asdict, replace
from typing import Any

from services.frb_intake.domain import NE2001, SMALLEST_AXIS_DEG, SUMMED_MODEL, Measured, NewBurst, to_ellipse
from services.frb_intake.feeds.notice import FrbNotice, NoticeKind, NoticeMeasurement
from shared.events.blob import BlobRef
from shared.events.frb import FrbEvent, FrbMeasurement
from shared.sky.localisation import Ellipse

ONE_SIGMA = 0.68

_GIVEN_TOGETHER: tuple[tuple[str, ...], ...] = (
    ("dm_pc_cm3", "dm_err_pc_cm3"),
    ("snr",),
    ("width_ms",),
    ("flux_jy", "flux_err_jy"),
    ("fluence_jy_ms", "fluence_err_jy_ms"),
    ("rm_rad_m2", "rm_err_rad_m2"),
    ("redshift",),
)
_FACTS = (
    "time_of_arrival",
    "time_of_arrival_err_s",
    "reference_frequency_mhz",
    "importance",
    "observation",
    "tns_name",
    "note",
)


def new_burst(notice: FrbNotice, *, by: str, raw: BlobRef) -> NewBurst:
    """Return the burst that a notice tells of first."""
    known = {name: getattr(notice, name) for name in _FACTS}
    return NewBurst(
        submitted_by=by,
        origin=notice.origin,
        origin_id=notice.origin_id,
        is_test=notice.is_test,
        repeater=_repeats(notice),
        repeater_of=_source(notice),
        raw=raw,
        **known,
    )


def corrections(notice: FrbNotice, *, raw: BlobRef) -> dict[str, Any]:
    """Return the fields of a record that a further notice puts right, none for what it leaves out."""
    said = {name: value for name in _FACTS if (value := getattr(notice, name)) is not None}
    repeats = {"repeater": True} if _repeats(notice) else {}
    source = {"repeater_of": source} if (source := _source(notice)) else {}
    return {**said, **repeats, **source, "raw": raw}


def late_corrections(notice: FrbNotice, burst: FrbEvent, *, raw: BlobRef) -> dict[str, Any]:
    """Return the fields of a record that a notice older than what is known fills in."""
    unknown = {name for name in (*_FACTS, "repeater_of") if getattr(burst, name) is None} | {"repeater", "raw"}
    return {name: value for name, value in corrections(notice, raw=raw).items() if name in unknown}


def measured(notice: FrbNotice) -> Measured | None:
    """Return what a notice measures, None when that is nothing."""
    if notice.measurement is None and notice.time_of_arrival_inf is None:
        return None
    said = notice.measurement or NoticeMeasurement()
    return Measured(
        pipeline=said.pipeline,
        pipeline_version="",
        ellipse=_ellipse(said),
        dm_mw_ism_pc_cm3=said.dm_mw_ism_pc_cm3,
        dm_mw_ism_model=_given(said.dm_mw_ism_model),
        time_of_arrival_inf=notice.time_of_arrival_inf,
        time_of_arrival_inf_err_s=notice.time_of_arrival_inf_err_s,
        **{name: getattr(said, name) for names in _GIVEN_TOGETHER for name in names},
    )


def measured_anew(notice: FrbNotice, burst: FrbEvent) -> Measured | None:
    """Return the measurement of a known burst after a notice, None when the notice measures nothing.

    A notice corrects what it names: what it leaves out stays as it was measured last.
    """
    is_other_time = notice.time_of_arrival not in (None, burst.time_of_arrival)
    said = measured(notice)
    if burst.latest is None or (said is None and not is_other_time):
        return said
    return _completed(said or Measured(pipeline="", pipeline_version=""), burst.latest, is_other_time=is_other_time)


def measured_late(notice: FrbNotice, burst: FrbEvent) -> Measured | None:
    """Return the measurement of a burst after a notice older than what is known, None when it fills no gap."""
    said = measured(notice)
    if said is None or burst.latest is None:
        return said
    known = _completed(Measured(pipeline="", pipeline_version=""), burst.latest, is_other_time=False)
    together = (*_GIVEN_TOGETHER, ("ellipse",), ("dm_mw_ism_pc_cm3", "dm_mw_ism_model"))
    if known.dm_pc_cm3 is None:
        # Else the time belongs to a dispersion measure that has been corrected.
        together = (*together, ("time_of_arrival_inf", "time_of_arrival_inf_err_s"))
    gaps = {
        name: getattr(said, name)
        for names in together
        if getattr(known, names[0]) is None and getattr(said, names[0]) is not None
        for name in names
    }
    return replace(known, **gaps) if gaps else None


def as_submitted(notice: FrbNotice) -> dict[str, Any]:
    """Return what a notice measures by the names of `FrbNotice`, ready for JSON."""
    said = asdict(notice.measurement) if notice.measurement else {}
    times = {name: getattr(notice, name) for name in ("time_of_arrival", "time_of_arrival_inf")}
    errors = {name: getattr(notice, name) for name in ("time_of_arrival_err_s", "time_of_arrival_inf_err_s")}
    stated = {name: time.isoformat() for name, time in times.items() if time is not None}
    return {name: value for name, value in {**said, **stated, **errors}.items() if value not in (None, "")}


def _completed(said: Measured, latest: FrbMeasurement, *, is_other_time: bool) -> Measured:
    kept = {
        name: getattr(latest, name) for names in _GIVEN_TOGETHER if getattr(said, names[0]) is None for name in names
    }
    if said.ellipse is None and latest.localisation is not None:
        kept["ellipse"] = to_ellipse(latest.localisation)
    budget = latest.dm_budget
    # One that we looked up follows from the position, and is looked up again.
    if said.dm_mw_ism_pc_cm3 is None and budget is not None and budget.dm_mw_ism_model != NE2001:
        kept |= {"dm_mw_ism_pc_cm3": budget.dm_mw_ism_pc_cm3, "dm_mw_ism_model": budget.dm_mw_ism_model}
    if said.time_of_arrival_inf is None and said.dm_pc_cm3 is None and not is_other_time:
        kept |= {name: getattr(latest, name) for name in ("time_of_arrival_inf", "time_of_arrival_inf_err_s")}
    return replace(said, pipeline=said.pipeline or latest.pipeline, **kept)


def _ellipse(said: NoticeMeasurement) -> Ellipse | None:
    if said.ra_deg is None or said.dec_deg is None:
        return None
    if None in (said.semi_major_deg, said.semi_minor_deg, said.position_angle_deg, said.confidence_level):
        return Ellipse(said.ra_deg, said.dec_deg, SMALLEST_AXIS_DEG, SMALLEST_AXIS_DEG, 0.0, ONE_SIGMA)
    assert said.semi_major_deg is not None
    assert said.semi_minor_deg is not None
    assert said.position_angle_deg is not None
    assert said.confidence_level is not None
    minor = max(said.semi_minor_deg, SMALLEST_AXIS_DEG)
    return Ellipse(
        ra_deg=said.ra_deg,
        dec_deg=said.dec_deg,
        semi_major_deg=max(said.semi_major_deg, minor),
        semi_minor_deg=minor,
        position_angle_deg=said.position_angle_deg,
        confidence_level=said.confidence_level,
    )


def _given(model: str | None) -> str:
    """Tell a model of the sender's from our own: `NE2001 (given)`."""
    return SUMMED_MODEL if model in (None, SUMMED_MODEL) else f"{model} ({SUMMED_MODEL})"


def _repeats(notice: FrbNotice) -> bool:
    return notice.repeater or notice.kind is NoticeKind.SUBSEQUENT


def _source(notice: FrbNotice) -> str | None:
    """Return the source of a repeating burst by its name, else the notice of the earlier burst that is cited."""
    is_subsequent = notice.kind is NoticeKind.SUBSEQUENT
    return notice.known_source or next(iter(notice.cites if is_subsequent else ()), None)
