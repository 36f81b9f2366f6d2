"""What `tocsin user` and `tocsin token` share: the database of the burst intake, written to by its own functions."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TypeVar

import asyncpg

from cli.database import DatabaseRefusedError
from cli.environment import settings
from shared.db.pool import connect

SCHEMA = "frb_intake"

Result = TypeVar("Result")


def on_accounts(work: Callable[[asyncpg.Connection], Awaitable[Result]]) -> Result:
    """Return what `work` returns on a connection to the accounts.

    Raises
    ------
    DatabaseUnavailableError
        Nobody answers there, or refuses us.
    DatabaseRefusedError
        The tables are not there yet.
    """

    async def connected() -> Result:
        async with connect(settings().database, SCHEMA) as connection:
            try:
                return await work(connection)
            except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError) as error:
                raise DatabaseRefusedError(f"PostgreSQL: {error}; `tocsin migrate` makes what is missing") from error

    return asyncio.run(connected())


def to_the_second(moment: datetime | None) -> str | None:
    """Return a time as people read it, in UTC."""
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}" if moment is not None else None
