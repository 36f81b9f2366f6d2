"""Forgets what nobody can ask for any more."""

import asyncio

import asyncpg
import structlog

from shared.db.errors import translated_errors
from shared.db.pool import borrowed
from shared.errors import TransientError

INTERVAL_S = 3600.0
IDEMPOTENCY_KEY_DAYS = 30
# A client that still repeats a request after a month has the natural key of its burst left.

SESSION_DAYS = 1
# A session that ended is not asked for again; but the identity token that began it could come once more.

log = structlog.get_logger(__name__)


class Pruner:
    """Deletes observations whose burst never came, old idempotency keys, and sessions that ended."""

    def __init__(self, pool: asyncpg.Pool, *, staged_hours: float) -> None:
        self._pool = pool
        self._staged_hours = staged_hours

    async def run(self) -> None:
        """Prune now and then, for ever."""
        while True:
            try:
                await self.prune()
            except TransientError as error:
                log.warning("pruning.waiting", reason=str(error))
            await asyncio.sleep(INTERVAL_S)

    async def prune(self) -> None:
        """Prune once."""
        async with borrowed(self._pool) as connection:
            with translated_errors():
                staged = await connection.execute(
                    "DELETE FROM staged_observations WHERE received_at < now() - make_interval(hours => 1) * $1",
                    self._staged_hours,
                )
                keys = await connection.execute(
                    "DELETE FROM idempotency_keys WHERE created_at < now() - make_interval(days => $1)",
                    IDEMPOTENCY_KEY_DAYS,
                )
                sessions = await connection.execute(
                    "DELETE FROM tokens WHERE is_session"
                    " AND least(expires_at, revoked_at) < now() - make_interval(days => $1)",
                    SESSION_DAYS,
                )
        log.info("pruned", staged_observations=staged, idempotency_keys=keys, sessions=sessions)
