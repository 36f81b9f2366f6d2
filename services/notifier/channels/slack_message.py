"""What Slack is told: a record as Block Kit, as one line of text, and what changed since it was told before.

Everything here is pure. Texts from outside are escaped and cut to what Slack takes; unknown values are left out.
Limits: Slack's reference of Block Kit (header 150 characters, section 3000, field 2000, 10 fields, 50 blocks).
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar
from urllib.parse import quote

from services.notifier.channels.channel import Job
from services.notifier.channels.records import event_url, measured
from services.notifier.happenings import Happening
from shared.events.blob import BlobRef
from shared.events.frb import FrbChange, FrbEvent, FrbStatus
from shared.events.gw import GwAlert, GwSkymap
from shared.events.mma import BackgroundRate, Coincidence
from shared.events.notices import DeliveryAction

MAX_HEADER, MAX_SECTION, MAX_FIELD, MAX_FIELDS, MAX_BLOCKS = 150, 3000, 2000, 10, 50
MAX_VALUE = 900
# Of one fact: its label and the escapes still fit a field, and two of them a line of what changed.
MAX_LISTED = 10
DAY_S = 86_400.0
SECONDS_PER_YEAR = 365.25 * DAY_S

PICTURES = {"search": "FRB search", "image": "FRB radio image", "histogram": "FRB histogram"}
# Titles and order as people know them.
_BUTTONS = (("Confirm", "confirm", "primary"), ("Reject", "reject", "danger"), ("Unsure", "unsure", None))
_CHANGES = {
    FrbChange.CREATED: "New",
    FrbChange.MEASURED: "Measured again",
    FrbChange.CORRECTED: "Corrected",
    FrbChange.RATED: "Voted on",
    FrbChange.STATUS_CHANGED: "Status changed",
    FrbChange.NAMED: "Named",
    FrbChange.IMAGE_DROPPED: "A broken picture was taken out",
    FrbChange.UNKNOWN: "Changed",
}
Known = TypeVar("Known", GwAlert, GwSkymap)
_HALF_AN_ENTITY = re.compile(r"&[a-z]{0,3}\Z")


@dataclass(frozen=True)
class Picture:
    """A picture of a message.

    Attributes
    ----------
    blob
        The picture, or the sky map that it is drawn of.
    path
        Where it is below the address that serves pictures; None: it is at none, but drawn.
    """

    block_id: str
    title: str
    alt_text: str
    blob: BlobRef
    path: str | None


@dataclass(frozen=True)
class Message:
    """What a message says, before it is put in Slack's words.

    Attributes
    ----------
    facts
        By label, as plain text; compared with those told before.
    detail
        Who changed what, for the thread.
    prose
        Reasons and notes, as plain text.
    buttons
        The burst that is voted on; None: no buttons.
    """

    header: str
    facts: Mapping[str, str]
    detail: str
    is_test: bool
    prose: tuple[str, ...] = ()
    pictures: tuple[Picture, ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    buttons: int | None = None

    @property
    def told(self) -> dict[str, str]:
        """What a later message compares itself with."""
        # What a drawn one shows is told by figures.
        names = ", ".join(picture.alt_text for picture in self.pictures if picture.path is not None)
        return {**self.facts, **({"Pictures": names} if names else {})}


def describe(job: Job, *, site_url: str) -> Message | None:
    """Return what a job's record says of its subject; None when there is nothing to say."""
    record = job.happening.record
    url = event_url(job.happening, site_url=site_url)
    if isinstance(record, FrbEvent):
        return _burst(record, job.related, url)
    if isinstance(record, Coincidence):
        return _coincidence(record, url)
    alert = record if isinstance(record, GwAlert) else _newest(job.related, GwAlert)
    skymap = record if isinstance(record, GwSkymap) else _newest(job.related, GwSkymap)
    if alert is None or (isinstance(record, GwSkymap) and record.alert_event_id != alert.event_id):
        return None  # a map of an alert that another has replaced
    over = job.action is DeliveryAction.RETRACTION
    return _alert(alert, skymap, job.related, url, over=over, mapped=record is skymap)


# ---- what each kind of record says -------------------------------------------------------------------------------


def _burst(record: FrbEvent, related: Sequence[Happening], url: str) -> Message:
    withdrawn = record.status is FrbStatus.WITHDRAWN
    status = record.status.lower()
    if record.status is FrbStatus.CANDIDATE:
        header = f"New FRB Event (ID:{record.frb_id})"
    else:
        header = f"FRB Event (ID:{record.frb_id}): {status.upper() if withdrawn else status}"
    votes = record.votes
    coincidences = [each.record for each in related if isinstance(each.record, Coincidence)]
    facts = {
        **_measured_facts(record),
        "Arrived": _time(record.time_of_arrival),
        "Origin": " ".join(filter(None, (record.origin, record.origin_id, f"by {record.submitted_by}"))),
        "Name": record.internal_name,
        "TNS name": record.tns_name,
        "Repeats": f"yes, {record.repeater_of}" if record.repeater_of else "yes" if record.repeater else None,
        "Status": status,
        "Votes": f"{votes.confirm} confirm, {votes.reject} reject, {votes.unsure} unsure",
        "Coincidences": "; ".join(_pair(each) for each in coincidences[:MAX_LISTED]) or None,
    }
    found = {image.name: image.blob for image in record.images}
    return Message(
        header=header,
        facts=_known(facts),
        detail=f"{_CHANGES[record.change]} by {record.changed_by}",
        is_test=record.is_test,
        prose=tuple(filter(None, (record.status_reason, record.note))),
        pictures=tuple(
            Picture(
                block_id=f"{name}-{found[name].sha256}",
                title=title,
                alt_text=name,
                blob=found[name],
                path=f"/api/v1/events/{record.frb_id}/images/{name}",
            )
            for name, title in PICTURES.items()
            if name in found
        ),
        links=(("Everything about it", url),),
        buttons=None if withdrawn else record.frb_id,
    )


def _measured_facts(record: FrbEvent) -> dict[str, str | None]:
    dm, dm_err = measured(record, "dm_pc_cm3", "dm_err_pc_cm3")
    (snr,) = measured(record, "snr")
    (width,) = measured(record, "width_ms")
    (place,) = measured(record, "localisation")
    (budget,) = measured(record, "dm_budget")
    (redshift,) = measured(record, "redshift")
    position = distance = excess = None
    if place is not None:
        position = (
            f"RA {place.ra_deg:.5f}°, Dec {place.dec_deg:+.5f}° (ICRS)"
            f" ± {_angle(place.semi_major_deg)} × {_angle(place.semi_minor_deg)}"  # noqa: RUF001
            f" at {place.position_angle_deg:.0f}° ({place.confidence_level:.0%})"
        )
    if budget is not None:
        excess = (
            f"{budget.dm_excess_pc_cm3:.1f} pc cm⁻³ (beyond {budget.dm_mw_ism_pc_cm3:.1f}, {budget.dm_mw_ism_model},"
            f" and a halo of {budget.dm_mw_halo_pc_cm3:.0f})"
        )
        distance = (
            f"{budget.redshift_mean:.3f} ({budget.redshift_low:.3f} to {budget.redshift_high:.3f}, 90%,"
            f" {budget.cosmology})"
        )
    return {
        "DM": quantity(dm, "pc cm⁻³", dm_err),
        "S/N": quantity(snr),
        "Width": quantity(width, "ms"),
        "Position": position,
        "Excess DM": excess,
        "Redshift by DM": distance,
        "Redshift": quantity(redshift),
        "Flux density": quantity(*_with_unit(measured(record, "flux_jy", "flux_err_jy"), "Jy")),
        "Fluence": quantity(*_with_unit(measured(record, "fluence_jy_ms", "fluence_err_jy_ms"), "Jy ms")),
        "RM": quantity(*_with_unit(measured(record, "rm_rad_m2", "rm_err_rad_m2"), "rad m⁻²")),
    }


def _alert(
    alert: GwAlert, skymap: GwSkymap | None, related: Sequence[Happening], url: str, *, over: bool, mapped: bool
) -> Message:
    event = alert.event
    facts: dict[str, str | None] = {"Stage": alert.alert_type.lower()}
    if event is not None:
        significant = {True: "yes", False: "no", None: None}[event.significant]
        far_per_year = event.far_hz * SECONDS_PER_YEAR
        facts |= {
            "Merger": _time(event.time),
            "False-alarm rate": f"{_rate(far_per_year)} ({event.far_hz:.3g} Hz)",
            "Significant": significant,
            "Found by": " ".join(filter(None, (event.group, event.pipeline, event.search))),
            "Instruments": ", ".join(event.instruments),
            "Classification": _percentages(event.classification),
            "Properties": _percentages(event.properties),
        }
    figures = skymap.skymap if skymap is not None and skymap.alert_event_id == alert.event_id else None
    if figures is not None:
        facts |= {
            "Distance": quantity(figures.distance_mean_mpc, "Mpc", figures.distance_std_mpc),
            "Area": f"{figures.area_50_deg2:.4g} deg² (50%), {figures.area_90_deg2:.4g} deg² (90%)",
            "Densest at": f"RA {figures.ra_deg:.2f}°, Dec {figures.dec_deg:+.2f}° (ICRS)",
        }
    if alert.external_coinc is not None:
        outside = alert.external_coinc
        offset = quantity(outside.time_difference_s, "s")
        facts["With"] = " ".join(filter(None, (outside.observatory, outside.search, offset)))
    coincidences = [each.record for each in related if isinstance(each.record, Coincidence)]
    facts["Coincidences"] = "; ".join(_pair(each) for each in coincidences[:MAX_LISTED]) or None
    stage = "RETRACTED" if over else alert.alert_type.lower()
    gracedb = alert.urls.get("gracedb", "")
    return Message(
        header=f"GW Alert {alert.superevent_id}: {stage}",
        facts=_known(facts),
        detail="Its sky map was read" if mapped else f"Alert of stage {alert.alert_type.lower()}",
        is_test=alert.is_test,
        pictures=() if figures is None else (_sky(figures.canonical, alert.superevent_id, is_test=alert.is_test),),
        links=(("Everything about it", url), *([("GraceDB", gracedb)] if gracedb.startswith("https://") else [])),
    )


def _coincidence(record: Coincidence, url: str) -> Message:
    wave, burst, scores = record.wave, record.burst, record.scores
    over = scores is None
    facts: dict[str, str | None] = {"Status": record.coincidence_type.lower()}
    if scores is not None:
        facts |= {
            "Burst after merger": quantity(scores.time_offset_s, "s", scores.time_offset_err_s),
            "Window": f"{scores.window.lower()}, {scores.window_low_s:g} to {scores.window_high_s:g} s",
            "Joint false-alarm rate": _of_hz(scores.far_space_time_hz),
            "Of time alone": _of_hz(scores.far_time_hz),
            "Trials factor": f"{scores.trials_factor}",
            "Overlap on the sky": quantity(scores.overlap_sky),
            "Overlap in space": quantity(scores.overlap_3d),
            "Burst at credible level": None if scores.credible_level is None else f"{scores.credible_level:.1%}",
            "Odds": quantity(scores.odds),
            "By chance": _background(scores.background),
            "Distance of the merger there": quantity(
                scores.wave_distance_mean_mpc, "Mpc", scores.wave_distance_std_mpc
            ),
            "Distance of the burst": _range(scores.burst_distance_low_mpc, scores.burst_distance_high_mpc, "Mpc"),
        }
    facts |= {
        "Merger": f"{wave.superevent_id}, {_time(wave.event_time)}, {_rate(wave.far_hz * SECONDS_PER_YEAR)}",
        "Burst": f"{_name(record)}, {_time(burst.time)}",
        "DM": quantity(burst.dm_pc_cm3, "pc cm⁻³", burst.dm_err_pc_cm3),
        "Excess DM": quantity(burst.dm_excess_pc_cm3, "pc cm⁻³"),
    }
    combined = None if scores is None else scores.combined_skymap
    # By the burst's lasting name: the map that is shown already keeps its title.
    pair = f"{wave.superevent_id} and {burst.internal_name} combined"
    title = "GW-FRB Coincidence" if not over else "RETRACTED: GW-FRB Coincidence"
    return Message(
        header=f"{title} {wave.superevent_id} and {_name(record)}",
        facts=_known(facts),
        detail=f"{record.coincidence_type.capitalize()}, revision {record.revision}",
        is_test=record.is_test,
        prose=(record.reason,),
        pictures=() if combined is None else (_sky(combined, pair, is_test=record.is_test),),
        links=(("Everything about it", url),),
    )


def _sky(skymap: BlobRef, what: str, *, is_test: bool) -> Picture:
    title = f"{'TEST: ' if is_test else ''}Sky map of {what}"
    return Picture(f"skymap-{skymap.sha256}", title, title, skymap, None)


def _pair(record: Coincidence) -> str:
    pair = f"{record.wave.superevent_id} and {_name(record)}"
    scores = record.scores
    if scores is None:
        return f"{pair}: taken back"
    joint = _of_hz(scores.far_space_time_hz or scores.far_time_hz)
    return f"{pair}: {scores.time_offset_s:+.6g} s, {joint}"


def _name(record: Coincidence) -> str:
    return record.burst.tns_name or record.burst.internal_name


def _background(background: BackgroundRate | None) -> str | None:
    if background is None:
        return None
    low, high = background.rate_low_per_year, background.rate_high_per_year
    return f"{background.rate_per_year:.3g} per year ({low:.3g} to {high:.3g})"


def _newest(related: Sequence[Happening], kind: type[Known]) -> Known | None:
    return next((each.record for each in related if isinstance(each.record, kind)), None)


# ---- numbers -----------------------------------------------------------------------------------------------------


def quantity(value: float | None, unit: str = "", error: float | None = None) -> str | None:
    """Return a value with its error, to two digits of that, and its unit; None for one that is not known."""
    if value is None or not math.isfinite(value):
        return None
    if error is None or not (math.isfinite(error) and error > 0) or abs(value) >= 1e7:
        number = f"{value:.6g}"
    else:
        decimals = min(max(1 - math.floor(math.log10(error)), 0), 9)
        number = f"{value:.{decimals}f} ± {error:.{decimals}f}"
    return f"{number} {unit}".rstrip()


def _with_unit(pair: Sequence[Any], unit: str) -> tuple[float | None, str, float | None]:
    value, error = pair
    return value, unit, error


def _angle(degrees: float) -> str:
    if degrees >= 0.1:
        return f"{degrees:.2g}°"
    arcmin = degrees * 60
    return f"{arcmin:.2g}′" if arcmin >= 0.1 else f"{arcmin * 60:.2g}″"  # noqa: RUF001


def _rate(per_year: float) -> str:
    if not math.isfinite(per_year) or per_year <= 0:
        return "not known"
    return f"{per_year:.3g} per year" if per_year >= 0.1 else f"1 per {1 / per_year:.4g} years"


def _of_hz(hz: float | None) -> str | None:
    return None if hz is None else _rate(hz * SECONDS_PER_YEAR)


def _range(low: float | None, high: float | None, unit: str) -> str | None:
    return None if low is None or high is None else f"{low:.4g} to {high:.4g} {unit}"


def _percentages(parts: Mapping[str, float]) -> str | None:
    ordered = sorted(parts.items(), key=lambda part: -part[1])
    return ", ".join(f"{name} {part:.0%}" for name, part in ordered if part >= 0.005) or None


def _time(time: datetime | None) -> str | None:
    return None if time is None else f"{time:%Y-%m-%d %H:%M:%S}.{time.microsecond // 1000:03d} UTC"


def _known(facts: Mapping[str, str | None]) -> dict[str, str]:
    return {label: text for label, text in facts.items() if text}


# ---- in Slack's words --------------------------------------------------------------------------------------------


def escaped(text: str, limit: int = MAX_VALUE) -> str:
    """Return a text with &, < and > as Slack wants them, at most `limit` characters long."""
    whole = html.escape(text, quote=False)
    if len(whole) <= limit:
        return whole
    return f"{_HALF_AN_ENTITY.sub('', whole[: limit - 1])}…"


def title(message: Message) -> str:
    """Return the header as plain text; test traffic says so first."""
    return f"TEST: {message.header}" if message.is_test else message.header


def fallback(message: Message) -> str:
    """Return the message as one line, for notifications and readers of screens."""
    facts = ", ".join(f"{label} {text}" for label, text in message.facts.items())
    return escaped(f"{title(message)}: {facts}", MAX_SECTION)


def blocks(message: Message, *, images_url: str | None) -> list[dict[str, Any]]:
    """Return the message in Block Kit.

    Parameters
    ----------
    images_url
        Where Slack fetches pictures; without it an image block has no source yet.
    """
    return list(_blocks(message, images_url))[:MAX_BLOCKS]


def _blocks(message: Message, images_url: str | None) -> Iterator[dict[str, Any]]:
    yield {"type": "header", "text": _plain(title(message), MAX_HEADER)}
    if message.is_test:
        yield _context("*This is a test.* Nothing of it happened.")
    fields = [_marked(f"*{label}*\n{escaped(text)}") for label, text in message.facts.items()]
    for first in range(0, len(fields), MAX_FIELDS):
        yield {"type": "section", "fields": fields[first : first + MAX_FIELDS]}
    for prose in message.prose:
        # As plain text: nothing that others write is read as a mark.
        yield {"type": "section", "text": _plain(prose, MAX_SECTION)}
    for picture in message.pictures:
        is_public = images_url is not None and picture.path is not None
        source = {"image_url": f"{str(images_url).rstrip('/')}{picture.path}"} if is_public else {}
        yield {
            "type": "image",
            "block_id": picture.block_id,
            "title": _plain(picture.title, MAX_HEADER),
            "alt_text": picture.alt_text,
            **source,
        }
    if message.buttons is not None:
        yield {
            "type": "actions",
            "elements": [_button(label, rating, style, message.buttons) for label, rating, style in _BUTTONS],
        }
    if message.links:
        yield _context(" · ".join(f"<{_address(url)}|{escaped(label)}>" for label, url in message.links))


def changes(message: Message, before: Mapping[str, str]) -> list[str]:
    """Return what a message says otherwise than the one before did, a marked line for each fact."""
    told = message.told
    found = []
    for label in dict.fromkeys((*told, *before)):
        old, new = before.get(label), told.get(label)
        if old != new:
            # What is taken back has no figures any more: what they were is told.
            said = f"{escaped(old or 'not known')} → {escaped(new)}" if new else f"{escaped(old or '')} (withdrawn)"
            found.append(f"*{escaped(label)}*: {said}")
    return found


def change_blocks(message: Message, found: Sequence[str]) -> list[dict[str, Any]]:
    """Return what changed in Block Kit: who did what, each fact, reasons."""
    lines = [_marked_section(f"*{escaped(message.detail)}*")]
    lines += [_marked_section(line) for line in found[: MAX_BLOCKS - 10]]
    lines += [{"type": "section", "text": _plain(prose, MAX_SECTION)} for prose in message.prose]
    return lines[:MAX_BLOCKS]


def change_text(message: Message, found: Sequence[str]) -> str:
    """Return what changed as one text."""
    start = f"{escaped(title(message))}: {escaped(message.detail)}"
    whole = "; ".join((start, *(line.replace("*", "") for line in found)))
    return whole if len(whole) <= MAX_SECTION else f"{_HALF_AN_ENTITY.sub('', whole[: MAX_SECTION - 1])}…"


def _plain(text: str, limit: int) -> dict[str, Any]:
    return {"type": "plain_text", "text": escaped(text, limit), "emoji": False}


def _marked(text: str) -> dict[str, Any]:
    # verbatim: addresses and names in it are not made links.
    return {"type": "mrkdwn", "text": text, "verbatim": True}


def _marked_section(text: str) -> dict[str, Any]:
    return {"type": "section", "text": _marked(text)}


def _context(text: str) -> dict[str, Any]:
    return {"type": "context", "elements": [_marked(text)]}


def _button(label: str, rating: str, style: str | None, frb_id: int) -> dict[str, Any]:
    return {
        "type": "button",
        "text": _plain(label, 75),
        "action_id": f"action_{rating}",
        "value": str(frb_id),
        **({"style": style} if style else {}),
    }


def _address(url: str) -> str:
    """Return an address in which nothing ends the link."""
    return quote(url, safe=":/?#[]@!$&'()*+,;=%~")[:MAX_FIELD].replace("&", "&amp;")
