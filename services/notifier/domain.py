"""What is told on which channel: pure decisions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from services.notifier.channels.channel import Channel
from services.notifier.happenings import Happening
from services.notifier.rules import Rule
from shared.events.frb import FrbEvent
from shared.events.gw import GwAlert, GwSkymap
from shared.events.notices import ChannelMode, DeliveryAction, DeliveryState


@dataclass(frozen=True)
class Row:
    """What a decision needs to know of an earlier delivery of the same subject on the same channel."""

    delivery_id: int
    revision: int
    action: DeliveryAction
    state: DeliveryState
    attempts: int
    mode: ChannelMode

    @property
    def was_never_tried(self) -> bool:
        """Nothing of it can have left."""
        return self.state is DeliveryState.PENDING and self.attempts == 0

    @property
    def is_under_way(self) -> bool:
        """What comes after it must wait."""
        return self.state in (DeliveryState.PENDING, DeliveryState.SENDING)

    @property
    def was_told(self) -> bool:
        """It left, or may have, or would have if the channel sent."""
        dry = self.state is DeliveryState.SUPPRESSED and self.mode is ChannelMode.DRY_RUN
        return dry or self.state not in (DeliveryState.SUPPRESSED, DeliveryState.FAILED)


@dataclass(frozen=True)
class Decision:
    """What is done about a happening on a channel.

    Attributes
    ----------
    suppressed
        Why it is not told; None: it is.
    needless
        Deliveries that wait and need not be told any more.
    """

    channel: str
    action: DeliveryAction
    suppressed: str | None = None
    needless: tuple[int, ...] = ()


def decide(
    happening: Happening,
    *,
    channels: Mapping[str, Channel],
    modes: Mapping[str, ChannelMode],
    earlier: Mapping[str, Sequence[Row]],
    rules: Sequence[Rule],
    max_age_h: float,
    now: datetime,
) -> Iterator[Decision]:
    """Yield a decision for each channel that has one to take."""
    is_old = now - happened_at(happening) > timedelta(hours=max_age_h)
    for name, channel in channels.items():
        before = earlier.get(name, ())
        told = [row for row in before if row.was_told]
        fits = any(rule.channel == name and rule.fits(happening) for rule in rules)
        if not channel.wants(happening, told_before=bool(told)) or not (told or fits):
            continue
        action = happening.action(told_before=bool(told))
        if modes[name] is ChannelMode.OFF:
            yield Decision(name, action, "the channel is off")
        elif happening.is_test and modes[name] is ChannelMode.PRODUCTION:
            yield Decision(name, action, "test traffic never goes to production")
        elif happening.is_over and all(row.was_never_tried for row in told):
            # Neither the news nor its retraction: nobody has heard of it.
            needless = tuple(row.delivery_id for row in told)
            yield Decision(name, action, "it was taken back before anything was told", needless)
        elif is_old and not told:
            yield Decision(name, action, f"it happened more than {max_age_h:g} h ago")
        else:
            replaced = [row for row in told if channel.replaces and row.was_never_tried]
            if len(replaced) == len(told):
                action = happening.action(told_before=False)
            yield Decision(name, action, needless=tuple(row.delivery_id for row in replaced))


def happened_at(happening: Happening) -> datetime:
    """Return when the record was made here."""
    record = happening.record
    if isinstance(record, FrbEvent):
        return record.changed_at
    if isinstance(record, GwAlert):
        return record.received_at
    return record.processed_at if isinstance(record, GwSkymap) else record.decided_at
