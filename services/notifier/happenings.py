"""What happened, in one form for every channel: a record, what it is about, and what it does to those before it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from shared.events.frb import FrbEvent, FrbStatus
from shared.events.gw import AlertType, GwAlert, GwSkymap, MapKind, SkymapState, SupereventState
from shared.events.mma import Coincidence, CoincidenceType
from shared.events.notices import DeliveryAction
from shared.events.record import Event

Record = FrbEvent | GwAlert | GwSkymap | Coincidence


class Kind(StrEnum):
    """What a notice can be about."""

    BURST = "burst"
    ALERT = "alert"
    SKYMAP = "skymap"
    COINCIDENCE = "coincidence"


TOPICS: Mapping[str, type[Event]] = {
    "frb.events": FrbEvent,
    "gw.alerts": GwAlert,
    "gw.skymaps": GwSkymap,
    "mma.coincidences": Coincidence,
}
# What is heard, and what it carries.


@dataclass(frozen=True)
class Happening:
    """One record that something may be told about.

    Attributes
    ----------
    subject
        `frb/7`, `gw/S230518h` or `mma/S230518h-7`; what is told of one subject on one channel is told in order.
    is_over
        The record takes its subject back.
    """

    event_id: UUID
    topic: str
    kind: Kind
    subject: str
    is_test: bool
    is_over: bool
    record: Record

    @property
    def parents(self) -> tuple[str, ...]:
        """Subjects that it belongs to: a coincidence's superevent and burst."""
        if not isinstance(self.record, Coincidence):
            return ()
        return f"gw/{self.record.wave.superevent_id}", f"frb/{self.record.burst.frb_id}"

    def action(self, *, told_before: bool) -> DeliveryAction:
        """Return what telling it does to what was told before."""
        if self.is_over:
            return DeliveryAction.RETRACTION
        return DeliveryAction.UPDATE if told_before else DeliveryAction.NEW


def read_happening(topic: str, record: Event) -> Happening | None:
    """Return what a record says happened; None for one that nobody is told of."""
    if isinstance(record, FrbEvent):
        kind, subject, is_over = Kind.BURST, f"frb/{record.frb_id}", record.status is FrbStatus.WITHDRAWN
    elif isinstance(record, GwAlert):
        over = record.alert_type is AlertType.RETRACTION or record.superevent_state is SupereventState.RETRACTED
        kind, subject, is_over = Kind.ALERT, f"gw/{record.superevent_id}", over
    elif isinstance(record, Coincidence):
        retracted = record.coincidence_type is CoincidenceType.RETRACTION
        kind, subject, is_over = Kind.COINCIDENCE, f"mma/{record.coincidence_id}", retracted
    else:
        assert isinstance(record, GwSkymap), record
        # The retraction of an alert is told by the alert's own record.
        if record.map_kind is not MapKind.GW or record.state is not SkymapState.AVAILABLE:
            return None
        kind, subject, is_over = Kind.SKYMAP, f"gw/{record.superevent_id}", False
    return Happening(record.event_id, topic, kind, subject, record.is_test, is_over, record)
