"""Which alerts are wanted, and how the alerts of one superevent add up to its history. Pure: no I/O, no clock."""

import json
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from services.gw_listener.alerts import UpstreamAlert
from shared.events.blob import BlobRef
from shared.events.gw import AlertType, GwAlert, SupereventKind, SupereventState

_STAGES = (
    AlertType.UNKNOWN,
    AlertType.EARLYWARNING,
    AlertType.PRELIMINARY,
    AlertType.INITIAL,
    AlertType.UPDATE,
    AlertType.RETRACTION,
)
"""In the order in which IGWN sends them; a type new to us never outranks a known one of the same instant."""


class AlertFilter(BaseModel):
    """Which alerts this observatory wants; the default is every one.

    An empty set means any value. Names compare without regard to case. What an alert does not say cannot be
    compared: it fails a set of names, it passes a limit.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kinds: frozenset[SupereventKind] = Field(
        default=frozenset({SupereventKind.REAL, SupereventKind.MOCK, SupereventKind.TEST}),
        title="Kinds of superevents",
        description="REAL (S…), MOCK (MS…) and TEST (TS…); mock and test alerts are published with the header `_test`.",
    )
    groups: frozenset[str] = Field(
        default=frozenset(), title="Analysis groups", description="For instance CBC, Burst; empty for all."
    )
    searches: frozenset[str] = Field(
        default=frozenset(), title="Searches", description="For instance AllSky, EarlyWarning, SSM; empty for all."
    )
    pipelines: frozenset[str] = Field(
        default=frozenset(), title="Pipelines", description="For instance gstlal, MBTA, CWB; empty for all."
    )
    significant_only: bool = Field(
        default=False,
        title="Significant alerts only",
        description="Pass over alerts marked as not significant; alerts without the mark, from before 2023, pass.",
    )
    max_far_hz: float | None = Field(
        default=None, gt=0, title="Largest false-alarm rate", description="In hertz; none for no limit."
    )

    def why_passed_over(self, alert: UpstreamAlert, *, marked_test: bool = False) -> str | None:
        """The reason why this alert is not wanted, or None when it is.

        A retraction of a wanted kind always passes: it has no event to compare, and whoever learnt of the superevent
        otherwise must learn of its end.

        Parameters
        ----------
        marked_test
            Whether the message carried the header `_test`. With the id of a real superevent it is never wanted: a
            drill must not enter, let alone retract, what is real.
        """
        if marked_test and alert.kind is SupereventKind.REAL:
            return "marked as test traffic, with the id of a real superevent"
        if alert.kind not in self.kinds:
            return f"kind {alert.kind} is not wanted"
        event = alert.event
        if event is None:
            return None
        named = (("group", event.group, self.groups), ("search", event.search, self.searches),
                 ("pipeline", event.pipeline, self.pipelines))  # fmt: skip
        for what, value, wanted in named:
            if wanted and (value or "").casefold() not in {name.casefold() for name in wanted}:
                return f"{what} {value or 'not given'} is not wanted"
        if self.significant_only and event.significant is False:
            return "not significant"
        if self.max_far_hz is not None and event.far_hz > self.max_far_hz:
            return f"false-alarm rate {event.far_hz:.3g} Hz is above {self.max_far_hz:.3g} Hz"
        return None


@dataclass(frozen=True)
class AlertKey:
    """What decides the place of an alert in the history of its superevent."""

    event_id: UUID
    alert_type: AlertType
    time_created: datetime

    @property
    def rank(self) -> tuple[bool, datetime, int, str]:
        """Of two alerts the one with the higher rank is current, in whatever order they arrive.

        A retraction outranks everything; then the time of creation decides, then the stage (official samples share
        one second between initial and update), then the id, which every process computes alike.
        """
        return (
            self.alert_type is AlertType.RETRACTION,
            self.time_created,
            _STAGES.index(self.alert_type),
            str(self.event_id),
        )


@dataclass(frozen=True)
class SupereventHistory:
    """What is stored of a superevent: how many alerts were accepted, and the one of the highest rank."""

    count: int = 0
    newest: AlertKey | None = None

    @property
    def state(self) -> SupereventState:
        """Retracted for good once a retraction was accepted: nothing that comes later opens the superevent again."""
        if self.newest is not None and self.newest.alert_type is AlertType.RETRACTION:
            return SupereventState.RETRACTED
        return SupereventState.OPEN


@dataclass(frozen=True)
class Placement:
    """Where an accepted alert stands: its number, whether it is current, and the history with it."""

    sequence: int
    is_current: bool
    history: SupereventHistory


def place(alert: AlertKey, history: SupereventHistory) -> Placement:
    """Add an alert, not seen before, to the history of its superevent.

    Every alert is counted. It becomes the newest only when it outranks the one before: a late older alert does not,
    nor does anything but a newer retraction once the superevent is retracted. A retraction that arrives late closes
    the superevent all the same, and one may be the first that is heard of it.
    """
    is_current = history.newest is None or alert.rank > history.newest.rank
    newest = alert if is_current else history.newest
    sequence = history.count + 1
    return Placement(sequence=sequence, is_current=is_current, history=SupereventHistory(sequence, newest))


@dataclass(frozen=True)
class StoredFiles:
    """Where the bytes of an alert were put."""

    raw: BlobRef
    skymap: BlobRef | None = None
    combined_skymap: BlobRef | None = None


def to_record(
    alert: UpstreamAlert,
    *,
    event_id: UUID,
    placement: Placement,
    files: StoredFiles,
    received_at: datetime,
    source: str,
) -> GwAlert:
    """What goes out on `gw.alerts` for an accepted alert; `source` names the one that brought it first."""
    coincidence = alert.external_coinc
    return GwAlert(
        event_id=event_id,
        superevent_id=alert.superevent_id,
        kind=alert.kind,
        is_test=alert.kind is not SupereventKind.REAL,
        alert_type=alert.alert_type,
        time_created=alert.time_created,
        received_at=received_at,
        source=source,
        sequence=placement.sequence,
        is_current=placement.is_current,
        superevent_state=placement.history.state,
        urls=dict(alert.urls),
        event=alert.event,
        external_coinc=coincidence and coincidence.model_copy(update={"combined_skymap": files.combined_skymap}),
        skymap=files.skymap,
        raw=files.raw,
        raw_format=alert.raw_format,
        upstream_schema=alert.upstream_schema,
        unknown_fields=json.dumps(alert.unknown_fields, sort_keys=True) if alert.unknown_fields else None,
    )
