"""What happened, in one line for the live feed: a record of a topic, what it is about, and where its page is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from shared.events.frb import FrbEvent
from shared.events.gw import AlertType, GwAlert, GwSkymap, SkymapState
from shared.events.mma import Coincidence, CoincidenceType
from shared.events.notices import Delivery
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
    is_over
        It takes something back.
    """

    kind: str
    subjects: tuple[str, ...]
    what: str
    detail: str
    at: datetime
    is_test: bool
    is_over: bool = False

    @property
    def subject(self) -> str:
        """The page that it is about."""
        return self.subjects[0]

    @property
    def name(self) -> str:
        """What it is about, as people say it."""
        return self.subject.partition("/")[2]


def line_of(record: Event) -> Line | None:
    """Return the line that tells a record; None for one that tells nothing."""
    if isinstance(record, GwAlert):
        return _alert(record)
    if isinstance(record, GwSkymap):
        return _skymap(record)
    if isinstance(record, FrbEvent):
        return _burst(record)
    if isinstance(record, Coincidence):
        return _coincidence(record)
    if isinstance(record, Delivery):
        return _delivery(record)
    return None


def _alert(record: GwAlert) -> Line:
    return Line(
        "alert",
        (f"gw/{record.superevent_id}",),
        f"Alert {record.alert_type.lower().replace('_', ' ')}",
        "" if record.event is None else f"{record.event.group} {record.event.pipeline}",
        record.received_at,
        record.is_test,
        record.alert_type is AlertType.RETRACTION,
    )


def _skymap(record: GwSkymap) -> Line:
    over = record.state is SkymapState.WITHDRAWN
    area = "" if record.skymap is None else f"90 % area {record.skymap.area_90_deg2:.0f} deg²"
    what = "Sky map withdrawn" if over else "Sky map"
    return Line("skymap", (f"gw/{record.superevent_id}",), what, area, record.processed_at, record.is_test, over)


def _burst(record: FrbEvent) -> Line:
    latest = record.latest
    facts = [] if latest is None else [_fact("DM", latest.dm_pc_cm3, "pc cm⁻³"), _fact("S/N", latest.snr, "")]
    return Line(
        "burst",
        (f"frb/{record.frb_id}",),
        f"Burst: {record.change.lower().replace('_', ' ')}",
        ", ".join(fact for fact in facts if fact),
        record.changed_at,
        record.is_test,
        record.status == "WITHDRAWN",
    )


def _coincidence(record: Coincidence) -> Line:
    over = record.coincidence_type is CoincidenceType.RETRACTION
    return Line(
        "coincidence",
        (f"mma/{record.coincidence_id}", f"gw/{record.wave.superevent_id}", f"frb/{record.burst.frb_id}"),
        f"Coincidence: {record.coincidence_type.lower()}",
        f"{record.wave.superevent_id} and burst {record.burst.frb_id}",
        record.decided_at,
        record.is_test,
        over,
    )


def _delivery(record: Delivery) -> Line:
    return Line(
        "notice",
        (record.subject,),
        f"Notice {record.state.lower()}",
        f"{record.action.lower()} on {record.channel}",
        record.changed_at,
        record.is_test,
    )


def _fact(name: str, value: float | None, unit: str) -> str:
    return "" if value is None else f"{name} {value:.4g} {unit}".strip()
