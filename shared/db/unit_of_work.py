"""One transaction that carries everything an event does: that it was seen, what changed, what is announced.

Inbox, handler and outbox commit together or not at all (invariants 1 and 2). Writes are collected and sent
before the next read or the commit, neighbouring rows of one statement in one round trip: 5 us a row instead
of 100 us, which is what lets a batch of small events keep up with a bare consumer.
"""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import asyncpg

from shared.db.errors import DatabaseUnavailableError, translated_errors
from shared.db.pool import borrowed
from shared.errors import PermanentError
from shared.settings import MAX_MESSAGE_BYTES

_CLAIM = """
INSERT INTO inbox (consumer, event_id)
SELECT $1, event_id FROM unnest($2::uuid[]) AS event_id
ON CONFLICT DO NOTHING
RETURNING event_id
"""
_EMIT = "INSERT INTO outbox (topic, key, event_id, value, headers) VALUES ($1, $2, $3, $4, $5)"
# As the two statements below in one round trip, for the many transactions that announce one event. The row gets its id
# when it is inserted, and that is after the lock was had.
_EMIT_ONE = """
WITH locked AS MATERIALIZED (
    SELECT pg_advisory_xact_lock(hashtextextended($6, 0))::text AS had,
           pg_notify(current_schema() || '_outbox', '')::text AS told
)
INSERT INTO outbox (topic, key, event_id, value, headers)
SELECT $1::text, $2::text, $3::uuid, $4::bytea, $5::jsonb FROM locked WHERE had IS NOT NULL AND told IS NOT NULL
"""
_LOCK_KEYS = """
SELECT pg_advisory_xact_lock(hashtextextended(key, 0)), pg_notify(current_schema() || '_outbox', '')
FROM (SELECT key FROM unnest($1::text[]) AS key ORDER BY key) AS sorted
"""


@dataclass(frozen=True)
class OutgoingEvent:
    """A record on its way to a topic, encoded."""

    topic: str
    key: str
    event_id: uuid.UUID
    value: bytes
    headers: dict[str, str]


class UnitOfWork:
    """An open transaction. Made by `unit_of_work`; handlers get it and never commit themselves."""

    def __init__(self, connection: asyncpg.pool.PoolConnectionProxy) -> None:
        self._connection = connection
        self._writes: list[tuple[str, tuple[Any, ...]]] = []
        self._emitted: list[OutgoingEvent] = []
        self._at_end: list[Callable[[bool], None]] = []

    def at_end(self, tell: Callable[[bool], None]) -> None:
        """Have `tell` called after the transaction, with whether it is known to be committed."""
        self._at_end.append(tell)

    async def claim(self, consumer: str, event_ids: Iterable[uuid.UUID]) -> set[uuid.UUID]:
        """Mark events as handled by `consumer`; return those that were not handled before.

        Another transaction that claims the same event is waited for, so two members of a group can
        never both handle it.
        """
        # Sorted: two members that claim overlapping batches in different orders would deadlock.
        rows = await self.fetch(_CLAIM, consumer, sorted(set(event_ids)))
        return {row["event_id"] for row in rows}

    def write(self, statement: str, *arguments: object) -> None:
        """Add a statement whose result does not matter; it is sent before the next read or the commit."""
        self._writes.append((statement, arguments))

    def emit(self, event: OutgoingEvent) -> None:
        """Announce `event` when the transaction commits."""
        if len(event.value) > MAX_MESSAGE_BYTES:
            raise PermanentError(
                f"a record of {len(event.value)} bytes for {event.topic} exceeds {MAX_MESSAGE_BYTES}; "
                "large contents go to the blob store"
            )
        self._emitted.append(event)

    async def fetch(self, query: str, *arguments: object) -> list[asyncpg.Record]:
        """Return all rows; earlier writes are visible."""
        await self.flush()
        with translated_errors():
            return list(await self._connection.fetch(query, *arguments))

    async def fetch_row(self, query: str, *arguments: object) -> asyncpg.Record | None:
        """Return the first row, or None; earlier writes are visible."""
        await self.flush()
        with translated_errors():
            return await self._connection.fetchrow(query, *arguments)

    async def flush(self) -> None:
        """Send the collected writes, in order."""
        writes, self._writes = self._writes, []
        with translated_errors():
            for statement, group in groupby(writes, key=lambda write: write[0]):
                rows = [arguments for _, arguments in group]
                if len(rows) == 1:
                    await self._connection.execute(statement, *rows[0])
                else:
                    await self._connection.executemany(statement, rows)

    async def _finish(self) -> Sequence[OutgoingEvent]:
        if len(self._emitted) == 1:
            event = self._emitted[0]
            values = (event.topic, event.key, event.event_id, event.value, json.dumps(event.headers))
            self.write(_EMIT_ONE, *values, f"{event.topic} {event.key}")
            await self.flush()
            return self._emitted
        if self._emitted:
            # Rows of one key must get their ids in commit order, because the relay publishes in id order:
            # whoever writes a key holds its lock until the commit (invariant 3).
            await self.fetch(_LOCK_KEYS, sorted({f"{event.topic} {event.key}" for event in self._emitted}))
        for event in self._emitted:
            self.write(_EMIT, event.topic, event.key, event.event_id, event.value, json.dumps(event.headers))
        await self.flush()
        return self._emitted


@asynccontextmanager
async def unit_of_work(pool: asyncpg.Pool, committed: Callable[[], None] = lambda: None) -> AsyncIterator[UnitOfWork]:
    """Open a transaction; commit it when the block ends, roll it back when the block raises.

    `committed` is called after a commit that announced something: it wakes the outbox relay.
    """
    async with borrowed(pool) as connection:
        transaction = connection.transaction()
        with translated_errors():
            await transaction.start()
        work = UnitOfWork(connection)
        is_committed = False
        try:
            try:
                yield work
                emitted = await work._finish()
            except asyncio.CancelledError:
                raise  # the connection is given up, and the server rolls back
            except BaseException:
                # When the connection is lost the server rolls back by itself; what counts is why we are here.
                with suppress(DatabaseUnavailableError), translated_errors():
                    await transaction.rollback()
                raise
            with translated_errors():
                await transaction.commit()
            is_committed = True
        finally:
            for tell in work._at_end:
                tell(is_committed)
        if emitted:
            committed()
