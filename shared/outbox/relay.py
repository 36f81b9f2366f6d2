"""Publishes a service's outbox: one relay at a time, in order, and what a crash left half done only once.

A row is deleted when the broker has acknowledged it. A relay that died in between leaves rows that are
already on their topic; since the relay is the only writer of these rows and publishes in order, they are
among the last records there. So a relay that finds rows whose fate it does not know looks at the end of
their topics first and deletes what it sees (`shared.outbox.tail`).
"""

import asyncio
import contextlib
import json
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import asyncpg
import structlog

from shared.db.errors import translated_errors
from shared.db.pool import connect
from shared.errors import TransientError
from shared.kafka.message import OutgoingMessage, wire_headers
from shared.kafka.producer import EventProducer
from shared.observability import metrics
from shared.settings import DatabaseSettings

BATCH_ROWS = 500
# Rows in flight at once, and so the most that can be on a topic without being deleted here.
BATCH_BYTES = 32 * 1024 * 1024
POLL_S = 1.0
# Safety net: commits of this process wake the relay, those of others notify it.
RETRY_S = 1.0

_SELECT = """
SELECT id, topic, key, event_id, value, headers, created_at
FROM (SELECT *, sum(octet_length(value)) OVER (ORDER BY id) AS total FROM outbox ORDER BY id LIMIT $1) AS next
WHERE total <= $2 OR id = (SELECT min(id) FROM outbox)
ORDER BY id
"""

log = structlog.get_logger(__name__)

FindPublished = Callable[[set[str], set[uuid.UUID]], set[uuid.UUID]]
"""Given topics and event ids, returns those among the topics' last records (blocking)."""


class OutboxRelay:
    """The publisher of one service's schema."""

    def __init__(
        self, schema: str, *, database: DatabaseSettings, producer: EventProducer, find_published: FindPublished
    ) -> None:
        self._schema = schema
        self._database = database
        self._producer = producer
        self._find_published = find_published
        self._wake = asyncio.Event()
        self._stopping = False
        self._uncertain = True
        self.depth: int | None = None

    def wake(self) -> None:
        """Tell the relay that something was committed."""
        self._wake.set()

    def stop(self) -> None:
        """Ask the relay to publish what is committed and end."""
        self._stopping = True
        self._wake.set()

    async def run(self) -> None:
        """Publish until stopped; outages of the database or the broker are waited out."""
        while True:
            try:
                async with connect(self._database, self._schema) as connection:
                    await self._publish_while_connected(connection)
                return
            except TransientError as error:
                # What was on its way when it happened may or may not have arrived.
                self._uncertain = True
                log.warning("outbox.relay.waiting", reason=str(error))
                if self._stopping:
                    return
                await asyncio.sleep(RETRY_S)

    async def _publish_while_connected(self, connection: asyncpg.Connection) -> None:
        if not await self._become_the_only_one(connection):
            return
        with translated_errors():
            await connection.add_listener(f"{self._schema}_outbox", lambda *_: self.wake())
        while True:
            self._wake.clear()
            with translated_errors():
                rows = await connection.fetch(_SELECT, BATCH_ROWS, BATCH_BYTES)
            self._report_depth(len(rows))
            if rows:
                await self._publish(connection, rows)
            elif self._stopping:
                return
            else:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), POLL_S)

    async def _become_the_only_one(self, connection: asyncpg.Connection) -> bool:
        """Wait for the lock that the relay of another replica may hold; False when stopped meanwhile."""
        while not self._stopping:
            with translated_errors():
                if await connection.fetchval("SELECT pg_try_advisory_lock(hashtextextended($1, 1))", self._schema):
                    return True
            await asyncio.sleep(POLL_S)
        return False

    async def _publish(self, connection: asyncpg.Connection, rows: Sequence[asyncpg.Record]) -> None:
        unsent = rows
        if self._uncertain:
            ids = {row["event_id"] for row in rows}
            published = await asyncio.to_thread(self._find_published, {row["topic"] for row in rows}, ids)
            unsent = [row for row in rows if row["event_id"] not in published]
            if published:
                log.info("outbox.relay.recovered", already_published=len(published))
        self._uncertain = True
        await self._producer.send(
            [
                OutgoingMessage(
                    topic=row["topic"],
                    key=row["key"].encode(),
                    value=row["value"],
                    headers=wire_headers(json.loads(row["headers"])),
                )
                for row in unsent
            ]
        )
        with translated_errors():
            await connection.execute("DELETE FROM outbox WHERE id = ANY($1::bigint[])", [row["id"] for row in rows])
        self._uncertain = False
        now = datetime.now(UTC)
        for row in unsent:
            metrics.PUBLISHED.labels(row["topic"]).inc()
            metrics.OUTBOX_DELAY.observe((now - row["created_at"]).total_seconds())

    def _report_depth(self, rows: int) -> None:
        self.depth = rows
        metrics.OUTBOX_DEPTH.set(rows)
