"""A channel that does as it is told, and the notifier around it without a broker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from services.notifier.channels.channel import Answer, Job, Prepared
from services.notifier.channels.common import CommonSettings
from services.notifier.dispatcher import Dispatcher
from services.notifier.handlers import NotifierHandler
from services.notifier.happenings import Happening, read_happening
from services.notifier.rules import Rule
from services.notifier.settings import NAME
from shared.db.unit_of_work import unit_of_work
from shared.errors import TransientError
from shared.events.notices import ChannelMode
from shared.events.record import Event
from shared.settings import DatabaseSettings

SENT = Answer("there", {"ok": True}, is_confirmed=True)


@dataclass
class FakeChannel:
    """Answers with what it is given, in turn, and remembers what reached it.

    Attributes
    ----------
    does
        What `send` does: an answer to give, or an error to raise; with nothing left it succeeds.
    refuses
        Subject that is never taken.
    """

    name: str = "fake"
    kind: str = "webhook"
    replaces: bool = False
    gathers: bool = False
    does: list[Answer | Exception] = field(default_factory=list)
    confirms: list[Answer | Exception] = field(default_factory=list)
    checks: list[Answer | Exception | None] = field(default_factory=list)
    received: list[dict[str, Any]] = field(default_factory=list)
    gate: asyncio.Event | None = None
    refuses: str | None = None
    under_way: asyncio.Event = field(default_factory=asyncio.Event)

    def wants(self, happening: Happening, *, told_before: bool) -> bool:
        return True

    def prepare(self, job: Job) -> Prepared | None:
        return Prepared(
            {
                "subject": job.happening.subject,
                "revision": job.revision,
                "action": job.action,
                "earlier": [each.reference for each in job.earlier],
                "related": sorted({each.subject for each in job.related}),
            }
        )

    async def send(self, prepared: Prepared, *, mode: ChannelMode) -> Answer:
        self.under_way.set()
        if self.gate is not None:
            await self.gate.wait()
        if prepared.request["subject"] == self.refuses:
            raise TransientError("not this one")
        outcome = self.does.pop(0) if self.does else SENT
        if isinstance(outcome, Exception):
            raise outcome
        self.received.append(prepared.request)
        return outcome

    async def confirm(self, prepared: Prepared, answer: Answer, *, mode: ChannelMode) -> Answer:
        outcome = self.confirms.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def check(self, prepared: Prepared, *, mode: ChannelMode) -> Answer | None:
        outcome = self.checks.pop(0) if self.checks else None
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def run(self) -> None:
        return


class NotifierUnderTest:
    """Decides and sends, on a database."""

    def __init__(
        self,
        pool: asyncpg.Pool,
        database: DatabaseSettings,
        *channels: FakeChannel,
        mode: ChannelMode = ChannelMode.SANDBOX,
        rules: Sequence[Rule] | None = None,
        **common: Any,
    ) -> None:
        self.pool = pool
        self.channels = {channel.name: channel for channel in channels}
        self.settings = {name: CommonSettings(name=name, mode=mode, **common) for name in self.channels}
        self.dispatchers: dict[str, Dispatcher] = {}
        self.handler = NotifierHandler(
            channels=self.channels,
            modes=dict.fromkeys(self.channels, mode),
            dispatchers=self.dispatchers,
            rules=rules if rules is not None else [Rule(channel=name) for name in self.channels],
            max_age_h=1e6,
            sender="test",
        )
        self.database = database

    async def take(self, topic: str, *records: Event) -> None:
        """Handle records, each in a transaction of its own."""
        for record in records:
            happening = read_happening(topic, record)
            assert happening is not None
            async with unit_of_work(self.pool) as work:
                if await work.claim("test", [happening.event_id]):
                    await self.handler.on_happening(happening, work)

    async def take_together(self, topic: str, *records: Event) -> None:
        """Handle records in one transaction."""
        async with unit_of_work(self.pool) as work:
            for record in records:
                happening = read_happening(topic, record)
                assert happening is not None
                await self.handler.on_happening(happening, work)

    @asynccontextmanager
    async def sending(self) -> AsyncIterator[None]:
        """Senders of all channels, until the block ends: cancelled then, as if the process died."""
        self.dispatchers.update(
            {
                name: Dispatcher(channel, self.settings[name], pool=self.pool, database=self.database, schema=NAME)
                for name, channel in self.channels.items()
            }
        )
        tasks = [asyncio.create_task(each.run()) for each in self.dispatchers.values()]
        try:
            yield
        finally:
            self.dispatchers.clear()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def idle(self, deadline_s: float = 20.0) -> None:
        """Wait until every sender waits for something to do."""
        async with asyncio.timeout(deadline_s):
            while not all(dispatcher.is_idle for dispatcher in self.dispatchers.values()):
                await asyncio.sleep(0.02)

    async def states(self, channel: str = "fake") -> list[str]:
        """What became of the deliveries of a channel, in order."""
        rows = await self.pool.fetch("SELECT state FROM deliveries WHERE channel = $1 ORDER BY id", channel)
        return [row["state"] for row in rows]

    async def until(self, *expected: str, channel: str = "fake", deadline_s: float = 20.0) -> None:
        """Wait until the deliveries of a channel are in these states."""
        async with asyncio.timeout(deadline_s):
            while await self.states(channel) != list(expected):
                await asyncio.sleep(0.02)

    async def reasons(self, channel: str = "fake") -> list[str | None]:
        """Why they are there."""
        rows = await self.pool.fetch("SELECT reason FROM deliveries WHERE channel = $1 ORDER BY id", channel)
        return [row["reason"] for row in rows]
