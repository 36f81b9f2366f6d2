"""Who changed what of the system's own affairs: written before it is done, and how it ended after."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

import asyncpg
import structlog

from shared.db.errors import translated_errors
from shared.db.pool import borrowed
from shared.errors import TransientError

DONE = "done"
MAX_OUTCOME_CHARACTERS = 500

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Entry:
    """What somebody did.

    Attributes
    ----------
    address
        Where the request came from; None when that is not known.
    outcome
        `done`, or why not; None while it is under way, or when a process died meanwhile.
    """

    id: int
    at: datetime
    who: str
    action: str
    target: str
    detail: str
    outcome: str | None
    address: str | None


class Audit:
    """The entries, in PostgreSQL."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    @asynccontextmanager
    async def record(
        self, *, who: str, address: str | None, action: str, target: str, detail: str = ""
    ) -> AsyncIterator[None]:
        """Note that somebody does something, and after the block, how it ended.

        Raises
        ------
        DatabaseUnavailableError
            It cannot be noted, and the block is not entered.
        """
        number = await self._value(
            "INSERT INTO audit (who, address, action, target, detail) VALUES ($1, $2, $3, $4, $5) RETURNING id",
            who,
            address,
            action,
            target,
            detail,
        )
        outcome = "cut off"
        try:
            yield
            outcome = DONE
        except Exception as error:
            outcome = str(error)[:MAX_OUTCOME_CHARACTERS] or type(error).__name__
            raise
        finally:
            log.info("audit", who=who, address=address, action=action, target=target, detail=detail, outcome=outcome)
            await self._value("UPDATE audit SET outcome = $2 WHERE id = $1", number, outcome.replace("\x00", "?"))

    async def entries(self, *, before: int | None = None, target: str | None = None, limit: int) -> list[Entry]:
        """Return entries, the newest first.

        Parameters
        ----------
        before
            Only those older than this one.
        """
        async with borrowed(self._pool) as connection:
            with translated_errors():
                rows = await connection.fetch(
                    "SELECT * FROM audit WHERE ($1::bigint IS NULL OR id < $1) AND ($2::text IS NULL OR target = $2)"
                    " ORDER BY id DESC LIMIT $3",
                    before,
                    target,
                    limit,
                )
        return [Entry(**dict(row)) for row in rows]

    async def latest(self, *, target: str | None = None, limit: int) -> list[Entry] | None:
        """Return the newest entries; None while the database does not answer, for pages that have more to tell."""
        try:
            return await self.entries(target=target, limit=limit)
        except TransientError:
            return None

    async def _value(self, query: str, *arguments: object) -> object:
        async with borrowed(self._pool) as connection:
            with translated_errors():
                return await connection.fetchval(query, *arguments)
