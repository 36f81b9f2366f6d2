"""Publishes a service's outbox: one relay at a time, in order, and what a crash left half done only once.

A row is deleted when the broker has acknowledged it. A relay that died in between leaves rows that are
already on their topic; since the relay is the only writer of these rows and publishes in order, they are
among the last records there. So a relay that takes over, or has failed, looks at the end of the topics first
and deletes the rows that it sees there (`shared.outbox.tail`).
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
from shared.errors import PermanentError, TransientError
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
        self.waiting_reason: str | None = None

    def wake(self) -> None:
        """Tell the relay that something was committed."""
        self._wake.set()

    def stop(self) -> None:
        """Ask the relay to publish what is committed and end."""
        self._stopping = True
        self._wake.set()

    async def run(self) -> None:
        """Publish until stopped.

        Outages are waited out, and so is a refusal of the broker: no row may be passed over, for the sake of the
        order, and operators see the reason in /status.

        Raises
        ------
        ClientFailedError
            Nothing can be published by this process any more.
        """
        while True:
            try:
                async with connect(self._database, self._schema) as connection:
                    await self._publish_while_connected(connection)
            except (TransientError, PermanentError) as error:
                self.waiting_reason = str(error)
                log.warning("outbox.relay.waiting", reason=self.waiting_reason)
                if self._stopping:
                    return
                await asyncio.sleep(RETRY_S)
            else:
                return

    async def _publish_while_connected(self, connection: asyncpg.Connection) -> None:
        if not await self._become_the_only_one(connection):
            return
        with translated_errors():
            await connection.add_listener(f"{self._schema}_outbox", lambda *_: self.wake())
        is_settled = False
        while True:
            self._wake.clear()
            with translated_errors():
                rows = await connection.fetch(_SELECT, BATCH_ROWS, BATCH_BYTES)
            if rows and is_settled:
                # Should it fail, nobody knows what arrived: the exception leads back to where nothing is settled.
                await self._publish(connection, rows)
            elif rows:
                await self._settle(connection)
            elif self._stopping:
                return
            else:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), POLL_S)
            is_settled = True
            self.waiting_reason = None

    async def _become_the_only_one(self, connection: asyncpg.Connection) -> bool:
        """Wait for the lock that the relay of another replica may hold; False when stopped meanwhile."""
        while not self._stopping:
            with translated_errors():
                if await connection.fetchval("SELECT pg_try_advisory_lock(hashtextextended($1, 1))", self._schema):
                    return True
            self.waiting_reason = None
            await asyncio.sleep(POLL_S)
        return False

    async def _settle(self, connection: asyncpg.Connection) -> None:
        """Delete the rows that are on their topic already."""
        with translated_errors():
            rows = await connection.fetch("SELECT topic, event_id FROM outbox")
        topics, ids = {row["topic"] for row in rows}, {row["event_id"] for row in rows}
        published = await asyncio.to_thread(self._find_published, topics, ids)
        if published:
            log.info("outbox.relay.recovered", already_published=len(published))
            with translated_errors():
                await connection.execute("DELETE FROM outbox WHERE event_id = ANY($1::uuid[])", list(published))

    async def _publish(self, connection: asyncpg.Connection, rows: Sequence[asyncpg.Record]) -> None:
        await self._producer.send(
            [
                OutgoingMessage(
                    topic=row["topic"],
                    key=row["key"].encode(),
                    value=row["value"],
                    headers=wire_headers(json.loads(row["headers"])),
                )
                for row in rows
            ]
        )
        with translated_errors():
            await connection.execute("DELETE FROM outbox WHERE id = ANY($1::bigint[])", [row["id"] for row in rows])
        now = datetime.now(UTC)
        for row in rows:
            metrics.PUBLISHED.labels(row["topic"]).inc()
            metrics.OUTBOX_DELAY.observe((now - row["created_at"]).total_seconds())
