"""What happens when a record comes: it is remembered, and what is to be told of it is put down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from services.notifier.channels.channel import Channel
from services.notifier.dispatcher import Dispatcher
from services.notifier.domain import decide
from services.notifier.happenings import TOPICS, Happening, read_happening
from services.notifier.rules import Rule
from services.notifier.store import NotifierStore, revision_after
from shared.db.unit_of_work import UnitOfWork
from shared.events.notices import ChannelMode
from shared.inbox.subscription import Received
from shared.kafka.message import Message
from shared.schema.codec import decode


class NotifierHandler:
    """Decides; nothing leaves from here, but what nothing stands before is given to its sender at once."""

    def __init__(
        self,
        *,
        channels: Mapping[str, Channel],
        modes: Mapping[str, ChannelMode],
        dispatchers: Mapping[str, Dispatcher],
        rules: Sequence[Rule],
        max_age_h: float,
        sender: str,
    ) -> None:
        self._channels = channels
        self._modes = modes
        self._dispatchers = dispatchers
        self._rules = rules
        self._max_age_h = max_age_h
        self._sender = sender

    async def receive(self, message: Message) -> Received[Happening] | None:
        """Decode a record; None when nobody is told of it."""
        happening = read_happening(message.topic, decode(message.value, TOPICS[message.topic]))
        return None if happening is None else Received(happening.event_id, happening)

    async def on_happening(self, happening: Happening, work: UnitOfWork) -> None:
        """Put down what is told of it on each channel; a burst's or a wave's shown state takes its coincidences in."""
        store = NotifierStore(work, sender=self._sender)
        store.add_happening(happening)
        await self._decide(happening, work, store, cause=happening, channels=self._channels, rules=self._rules)
        showing = {name: channel for name, channel in self._channels.items() if channel.gathers}
        for subject in happening.parents:
            parent = await store.newest(subject)
            if parent is not None and not parent.is_over:
                # Without rules: only what was told is brought up to date.
                await self._decide(parent, work, store, cause=happening, channels=showing, rules=())

    async def _decide(
        self,
        happening: Happening,
        work: UnitOfWork,
        store: NotifierStore,
        *,
        cause: Happening,
        channels: Mapping[str, Channel],
        rules: Sequence[Rule],
    ) -> None:
        earlier = await store.earlier(happening.subject)
        decisions = decide(
            happening,
            channels=channels,
            modes=self._modes,
            earlier=earlier,
            rules=rules,
            max_age_h=self._max_age_h,
            now=datetime.now(UTC),
        )
        for decision in decisions:
            before = earlier.get(decision.channel, ())
            row = await store.add(
                happening,
                decision,
                cause=cause,
                channel=channels[decision.channel],
                mode=self._modes[decision.channel],
                revision=revision_after(before),
            )
            if row is None:
                continue
            dispatcher = self._dispatchers.get(decision.channel)
            is_next = not any(each.is_under_way for each in before)
            if not (dispatcher and is_next and await dispatcher.take(row, happening, work, store)):
                store.queue(row, happening)
