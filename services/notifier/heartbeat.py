"""Signs of life, so that subscribers can tell silence from failure."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

import asyncpg
import structlog

from shared.db.unit_of_work import unit_of_work
from shared.errors import TransientError
from shared.events.ids import event_id
from shared.events.notices import Heartbeat
from shared.outbox.event import outgoing

TOPIC = "notices.heartbeats"

log = structlog.get_logger(__name__)


class Heart:
    """Beats through the outbox: each beat says that database, relay and broker work."""

    def __init__(
        self,
        pool: asyncpg.Pool,
        *,
        service: str,
        interval_s: float,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._pool = pool
        self._service = service
        self._interval_s = interval_s
        self._clock = clock

    async def run(self) -> None:
        """Beat for ever; outages are waited out."""
        while True:
            try:
                await self.beat()
            except TransientError as error:
                log.warning("heartbeat.waiting", reason=str(error))
            await asyncio.sleep(self._interval_s)

    async def beat(self) -> None:
        """Beat once."""
        now = self._clock()
        record = Heartbeat(
            event_id=event_id(TOPIC, self._service, now.isoformat()),
            service=self._service,
            sent_at=now,
            interval_s=self._interval_s,
        )
        async with unit_of_work(self._pool) as work:
            work.emit(outgoing(TOPIC, record, is_test=False, sender=f"tocsin.{self._service}"))
