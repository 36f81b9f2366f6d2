"""What happened, in one line for the live feed: a record of a topic, what it is about, and where its page is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

from shared.events.frb import FrbEvent, FrbStatus
from shared.events.gw import AlertType, GwAlert, GwSkymap, SkymapState
from shared.events.mma import Coincidence, CoincidenceType
from shared.events.notices import ChannelMode, Delivery, DeliveryState
from shared.events.record import Event

TOPICS: Mapping[str, type[Event]] = {
    "gw.alerts": GwAlert,
    "gw.skymaps": GwSkymap,
    "frb.events": FrbEvent,
    "mma.coincidences": Coincidence,
    "notices.deliveries": Delivery,
}
# What is followed, and what it carries.


@dataclass(frozen=True)
class Line:
    """A line of the feed.

    Attributes
    ----------
    kind
        alert, skymap, burst, coincidence or notice.
    subjects
        Pages that it changes: `gw/S230518h`, `frb/7`, `mma/S230518h-7`.
    what
        What became of it, in a word or two.
    is_over
        It takes something back.
    is_bad
        Somebody should look at it.
    is_quiet
        Pages change, but it is no news.
    """

    kind: str
    subjects: tuple[str, ...]
    what: str
    detail: str
    at: datetime
    is_test: bool
    is_over: bool = False
    is_bad: bool = False
    is_quiet: bool = False

    @property
    def subject(self) -> str:
        """The page that it is about."""
        return self.subjects[0]

    @property
    def name(self) -> str:
        """What it is about, as people say it."""
        folder, _, name = self.subject.partition("/")
        return f"burst {name}" if folder == "frb" else name

    @property
    def key(self) -> str:
        """The same for the same thing, whether it comes from a topic or from a table: it is shown once."""
        return sha256(repr((self.kind, self.subject, self.what, self.detail, self.at)).encode()).hexdigest()[:16]


def line_of(record: Event) -> Line | None:
    """Return the line that tells a record; None for one that tells nothing."""
    if isinstance(record, GwAlert):
        return alert_line(
            superevent_id=record.superevent_id,
            alert_type=record.alert_type,
            group=None if record.event is None else record.event.group,
            pipeline=None if record.event is None else record.event.pipeline,
            at=record.received_at,
            is_test=record.is_test,
        )
    if isinstance(record, GwSkymap):
        return skymap_line(
            superevent_id=record.superevent_id,
            state=record.state,
            area_90_deg2=None if record.skymap is None else record.skymap.area_90_deg2,
            at=record.processed_at,
            is_test=record.is_test,
        )
    if isinstance(record, FrbEvent):
        return burst_line(
            frb_id=record.frb_id,
            change=record.change,
            status=record.status,
            dm_pc_cm3=None if record.latest is None else record.latest.dm_pc_cm3,
            snr=None if record.latest is None else record.latest.snr,
            at=record.changed_at,
            is_test=record.is_test,
        )
    if isinstance(record, Coincidence):
        return coincidence_line(
            superevent_id=record.wave.superevent_id,
            frb_id=record.burst.frb_id,
            coincidence_type=record.coincidence_type,
            at=record.decided_at,
            is_test=record.is_test,
        )
    if isinstance(record, Delivery):
        return delivery_line(
            subject=record.subject,
            channel=record.channel,
            mode=record.mode,
            action=record.action,
            state=record.state,
            attempts=record.attempts,
            at=record.changed_at,
            is_test=record.is_test,
        )
    return None


def alert_line(
    *, superevent_id: str, alert_type: str, group: str | None, pipeline: str | None, at: datetime, is_test: bool
) -> Line:
    """Return the line of an alert; a retraction has neither group nor pipeline."""
    return Line(
        kind="alert",
        subjects=(f"gw/{superevent_id}",),
        what=_words(alert_type),
        detail=" ".join(filter(None, (group, pipeline))),
        at=at,
        is_test=is_test,
        is_over=alert_type == AlertType.RETRACTION,
    )


def skymap_line(*, superevent_id: str, state: str, area_90_deg2: float | None, at: datetime, is_test: bool) -> Line:
    """Return the line of a sky map, or of its withdrawal."""
    is_over = state == SkymapState.WITHDRAWN
    return Line(
        kind="skymap",
        subjects=(f"gw/{superevent_id}",),
        what="withdrawn" if is_over else "read",
        detail="" if is_over else _facts(("90 % area", area_90_deg2, "deg²")),
        at=at,
        is_test=is_test,
        is_over=is_over,
    )


def burst_line(
    *, frb_id: int, change: str, status: str, dm_pc_cm3: float | None, snr: float | None, at: datetime, is_test: bool
) -> Line:
    """Return the line of a change of a burst."""
    return Line(
        kind="burst",
        subjects=(f"frb/{frb_id}",),
        what=_words(change),
        detail=_facts(("", _words(status), ""), ("DM", dm_pc_cm3, "pc cm⁻³"), ("S/N", snr, "")),
        at=at,
        is_test=is_test,
        is_over=status == FrbStatus.WITHDRAWN,
    )


def coincidence_line(*, superevent_id: str, frb_id: int, coincidence_type: str, at: datetime, is_test: bool) -> Line:
    """Return the line of what was told of a pair."""
    return Line(
        kind="coincidence",
        subjects=(f"mma/{superevent_id}-{frb_id}", f"gw/{superevent_id}", f"frb/{frb_id}"),
        what=_words(coincidence_type),
        detail=f"{superevent_id} and burst {frb_id}",
        at=at,
        is_test=is_test,
        is_over=coincidence_type == CoincidenceType.RETRACTION,
    )


def delivery_line(
    *, subject: str, channel: str, mode: str, action: str, state: str, attempts: int, at: datetime, is_test: bool
) -> Line:
    """Return the line of what became of a notice."""
    told = f"{_words(action)} on {channel}"
    return Line(
        kind="notice",
        subjects=(subject,),
        what="waits for another try" if state == DeliveryState.PENDING else _words(state),
        detail=told if mode == ChannelMode.PRODUCTION else f"{told} ({_words(mode)})",
        at=at,
        is_test=is_test,
        is_bad=state in (DeliveryState.FAILED, DeliveryState.UNKNOWN),
        # That something is about to be told, or not to be, is no news; that it could not be told yet is.
        is_quiet=state in (DeliveryState.SENDING, DeliveryState.SUPPRESSED)
        or (state == DeliveryState.PENDING and attempts == 0),
    )


def _words(symbol: str) -> str:
    return "early warning" if symbol == AlertType.EARLYWARNING else symbol.lower().replace("_", " ")


def _facts(*facts: tuple[str, float | str | None, str]) -> str:
    """Return what is known of them, with units; a number that is none is not known."""
    told = []
    for name, value, unit in facts:
        if isinstance(value, str):
            told.append(f"{name} {value} {unit}".strip())
        elif value is not None and math.isfinite(value):
            text = f"{value:.0f}" if 1e3 <= abs(value) < 1e7 else f"{value:.4g}"
            told.append(f"{name} {text} {unit}".strip())
    return ", ".join(told)
