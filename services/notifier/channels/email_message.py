"""What a mail says: a subject, a line for each thing that is known, and where to read more."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from string import Template

from services.notifier.channels.channel import Job
from services.notifier.channels.records import event_url, measured
from services.notifier.happenings import Happening
from shared.events.frb import FrbEvent, FrbLocalisation
from shared.events.gcn import known
from shared.events.gw import GwAlert, GwSkymap
from shared.events.mma import Coincidence
from shared.events.notices import ChannelMode, DeliveryAction

SECONDS_PER_YEAR = 365.25 * 86_400
MAX_SUBJECT_CHARACTERS = 200
SUBJECT = "$marks$observatory: $headline"
TEXT = """$headline
$explanation
$facts

$url

Sent by $observatory to people who asked for it. Nobody reads answers to this mail.
"""
NAMES = frozenset({"marks", "observatory", "headline", "explanation", "facts", "url", "action", "subject"})
# What templates may name.

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_GAP = re.compile(r"\n{3,}")
_ACTIONS = {DeliveryAction.NEW: "new", DeliveryAction.UPDATE: "update", DeliveryAction.RETRACTION: "RETRACTED"}

Fact = tuple[str, str]


@dataclass(frozen=True)
class Mail:
    """The words of a mail."""

    subject: str
    text: str
    html: str


def write_mail(
    job: Job, *, observatory: str, site_url: str, subject_template: str = SUBJECT, text_template: str = TEXT
) -> Mail:
    """Return what a delivery says. What is not known is left out.

    Parameters
    ----------
    subject_template, text_template
        In the form of `string.Template`; they may name `NAMES`.
    """
    happening = job.happening
    headline = f"{_name(happening)} ({_ACTIONS.get(job.action, 'news')})"
    facts = [(label, one_line(value)) for label, value in _facts(job)]
    url = event_url(happening, site_url=site_url)
    explanation = _explanation(happening)
    values = {
        "marks": ("[TEST] " if happening.is_test else "") + ("[SANDBOX] " if job.mode is ChannelMode.SANDBOX else ""),
        "observatory": one_line(observatory),
        "headline": one_line(headline),
        "explanation": one_line(explanation),
        "facts": "\n".join(f"{label}: {value}" for label, value in facts),
        "url": url,
        "action": job.action.lower(),
        "subject": happening.subject,
    }
    warning = "THIS IS A TEST.\n\n" if happening.is_test else ""
    return Mail(
        subject=one_line(Template(subject_template).substitute(values))[:MAX_SUBJECT_CHARACTERS],
        text=warning + _GAP.sub("\n\n", Template(text_template).substitute(values)),
        html=_html(
            values["marks"] + values["headline"],
            values["explanation"],
            facts,
            url=url,
            observatory=values["observatory"],
        ),
    )


def unknown_names(template: str) -> set[str]:
    """Return the names in a template that stand for nothing.

    Raises
    ------
    ValueError
        It is no template: a `$` that names nothing is written `$$`.
    """
    form = Template(template)
    if not form.is_valid():
        raise ValueError("a $ that names nothing")
    return set(form.get_identifiers()) - NAMES


def _html(headline: str, explanation: str, facts: Sequence[Fact], *, url: str, observatory: str) -> str:
    rows = "".join(
        f'<tr><th align="left">{html.escape(label)}</th><td>{html.escape(value)}</td></tr>' for label, value in facts
    )
    why = f"<p>{html.escape(explanation)}</p>" if explanation else ""
    return (
        f"<!DOCTYPE html><html><body><h2>{html.escape(headline)}</h2>{why}"
        f"<table cellpadding='4'>{rows}</table>"
        f'<p><a href="{html.escape(url)}">{html.escape(url)}</a></p>'
        f"<p><small>Sent by {html.escape(observatory)} to people who asked for it. Nobody reads answers to this mail."
        "</small></p></body></html>"
    )


def _name(happening: Happening) -> str:
    record = happening.record
    if isinstance(record, FrbEvent):
        return f"burst {record.tns_name or record.internal_name}"
    if isinstance(record, Coincidence):
        return f"coincidence of {record.wave.superevent_id} and {record.burst.tns_name or record.burst.internal_name}"
    return f"gravitational wave {record.superevent_id}"


def _explanation(happening: Happening) -> str:
    record = happening.record
    if isinstance(record, FrbEvent):
        return record.status_reason or record.note or ""
    if isinstance(record, Coincidence):
        return record.reason
    if happening.is_over:
        return "The IGWN has taken this alert back."
    return ""


def _facts(job: Job) -> Iterator[Fact]:
    happening = job.happening
    record = happening.record
    if isinstance(record, FrbEvent):
        yield from _burst(record)
    elif isinstance(record, Coincidence):
        yield from _coincidence(record)
    else:
        # One mail tells both what the alert says and what its map says, whichever came last.
        same = [record, *(each.record for each in job.related if each.subject == happening.subject)]
        alert = next((each for each in same if isinstance(each, GwAlert)), None)
        skymap = next((each for each in same if isinstance(each, GwSkymap)), None)
        if alert is not None:
            yield from _alert(alert)
        if skymap is not None and not happening.is_over:
            yield from _skymap(skymap)
    for each in job.related:
        if isinstance(each.record, Coincidence) and each.subject != happening.subject and not each.is_over:
            yield "May belong to", f"{_name(each)}: {each.record.reason}"


def _burst(record: FrbEvent) -> Iterator[Fact]:
    yield "Status", record.status.lower()
    yield from _text("Called here", record.internal_name if record.tns_name else None)
    yield "Found by", f"{record.origin} {record.origin_id or ''}".strip()
    yield from _text("Repeats", record.repeater_of)
    yield from _time("Arrival", record.time_of_arrival)
    (infinite,) = measured(record, "time_of_arrival_inf")
    yield from _time("Arrival at infinite frequency", infinite)
    yield from _value("Signal-to-noise ratio", *measured(record, "snr"))
    dm, dm_err = measured(record, "dm_pc_cm3", "dm_err_pc_cm3")
    yield from _value("Dispersion measure", dm, "pc/cm³", error=dm_err)
    (budget,) = measured(record, "dm_budget")
    if budget is not None:
        yield from _value("Beyond the Milky Way", budget.dm_excess_pc_cm3, "pc/cm³")
        if known([budget.redshift_low, budget.redshift_high]):
            yield "Redshift that this allows", f"{budget.redshift_low:.4g} to {budget.redshift_high:.4g} (90 %)"
    yield from _value("Width", measured(record, "width_ms")[0], "ms")
    flux, flux_err = measured(record, "flux_jy", "flux_err_jy")
    yield from _value("Flux density", flux, "Jy", error=flux_err)
    fluence, fluence_err = measured(record, "fluence_jy_ms", "fluence_err_jy_ms")
    yield from _value("Fluence", fluence, "Jy ms", error=fluence_err)
    yield from _place(*measured(record, "localisation"))


def _alert(record: GwAlert) -> Iterator[Fact]:
    yield "Alert", record.alert_type.lower()
    event = record.event
    if event is not None:
        yield from _time("Time", event.time)
        yield from _value("False-alarm rate", event.far_hz * SECONDS_PER_YEAR, "per year")
        if event.significant is not None:
            yield "Significant", "yes" if event.significant else "no"
        yield "Search", " ".join(filter(None, [event.group, event.search, event.pipeline]))
        yield from _text("Detectors", ", ".join(event.instruments))
        likely = sorted(event.classification.items(), key=lambda item: -item[1])
        yield from _text("Source", ", ".join(f"{name} {share:.0%}" for name, share in likely if share >= 0.01))
    yield from _text("GraceDB", record.urls.get("gracedb"))


def _skymap(record: GwSkymap) -> Iterator[Fact]:
    skymap = record.skymap
    if skymap is None:
        return
    yield from _value("Area of 90 %", skymap.area_90_deg2, "deg²")
    yield from _value("Area of 50 %", skymap.area_50_deg2, "deg²")
    if known([skymap.ra_deg, skymap.dec_deg]):
        yield "Most probable position", f"RA {skymap.ra_deg:.4f}°, Dec {skymap.dec_deg:+.4f}°"
    yield from _value("Distance", skymap.distance_mean_mpc, "Mpc", error=skymap.distance_std_mpc)


def _coincidence(record: Coincidence) -> Iterator[Fact]:
    yield from _time("Wave", record.wave.event_time)
    yield from _time("Burst", record.burst.time)
    scores = record.scores
    if scores is not None:
        yield from _value("Burst after wave by", scores.time_offset_s, "s", error=scores.time_offset_err_s)
        yield from _value("Overlap on the sky", scores.overlap_sky)
        yield from _value("Overlap in space", scores.overlap_3d)
        if scores.far_space_time_hz is not None:
            yield from _value("Joint false-alarm rate", scores.far_space_time_hz * SECONDS_PER_YEAR, "per year")
        yield from _value("Odds", scores.odds)
    yield from _place(record.burst.localisation)


def _place(localisation: FrbLocalisation | None) -> Iterator[Fact]:
    if localisation is None or known(list(localisation.model_dump().values())) is None:
        return
    yield (
        "Position",
        f"RA {localisation.ra_deg:.4f}°, Dec {localisation.dec_deg:+.4f}°, within {localisation.semi_major_deg:.3g}° by"
        f" {localisation.semi_minor_deg:.3g}° ({localisation.confidence_level:.0%})",
    )


def _value(label: str, value: float | None, unit: str = "", *, error: float | None = None) -> Iterator[Fact]:
    if known(value) is not None:
        spread = "" if known(error) is None else f" ± {error:.3g}"
        yield label, f"{value:.6g}{spread} {unit}".strip()


def _time(label: str, time: datetime | None) -> Iterator[Fact]:
    if time is not None:
        yield label, f"{time:%Y-%m-%d %H:%M:%S.%f} UTC"


def _text(label: str, value: str | None) -> Iterator[Fact]:
    if value:
        yield label, value


def one_line(text: str) -> str:
    """Return text without control characters: it cannot begin a header or a line of its own."""
    return " ".join(_CONTROL.sub(" ", text).split(" ")).strip()
