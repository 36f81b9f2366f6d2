"""Forgets records that nothing was told of, once others have replaced them."""

import asyncio

import asyncpg
import structlog

from shared.db.errors import translated_errors
from shared.db.pool import borrowed
from shared.errors import TransientError
from shared.runner import INBOX_RETENTION_DAYS

INTERVAL_S = 6 * 3600.0
AT_ONCE = 1000

# By topic too: a superevent's alert and its map are both told. What a delivery tells stays with it, for a retry.
_PRUNE = """
DELETE FROM happenings WHERE event_id IN (
    SELECT old.event_id FROM happenings AS old
    WHERE old.seen_at < now() - make_interval(days => $1)
      AND NOT EXISTS (SELECT FROM deliveries AS delivery WHERE delivery.event_id = old.event_id)
      AND EXISTS (SELECT FROM happenings AS newer WHERE newer.subject = old.subject AND newer.topic = old.topic
                  AND newer.ordinal > old.ordinal)
    LIMIT $2)
"""

log = structlog.get_logger(__name__)


class Pruner:
    """Deletes records that were seen long ago, belong to no delivery and are not the newest of their subject."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def run(self) -> None:
        """Prune now and then, for ever."""
        while True:
            try:
                await self.prune()
            except TransientError as error:
                log.warning("pruning.waiting", reason=str(error))
            await asyncio.sleep(INTERVAL_S)

    async def prune(self) -> None:
        """Prune once, a small transaction after the other: whoever decides meanwhile does not wait."""
        done = ""
        while done != "DELETE 0":
            async with borrowed(self._pool) as connection:
                with translated_errors():
                    done = await connection.execute(_PRUNE, INBOX_RETENTION_DAYS, AT_ONCE)
            log.info("pruned", happenings=done)
