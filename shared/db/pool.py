"""Connections to PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from shared.db.errors import connection_errors
from shared.settings import DatabaseSettings

COMMAND_TIMEOUT_S = 60.0
# No statement of ours runs for minutes; one that hangs (a half-open connection) must not hold a partition for ever.


@asynccontextmanager
async def connect(settings: DatabaseSettings, schema: str) -> AsyncIterator[asyncpg.Connection]:
    """Open one connection whose unqualified names mean `schema`."""
    with connection_errors():
        connection = await asyncpg.connect(
            settings.url.get_secret_value(),
            command_timeout=COMMAND_TIMEOUT_S,
            server_settings={"search_path": schema, "application_name": f"tocsin {schema}"},
        )
    try:
        yield connection
    finally:
        if not connection.is_closed():
            connection.terminate()


async def create_pool(settings: DatabaseSettings, schema: str) -> asyncpg.Pool:
    """Return a pool that opens connections when they are first needed.

    It can be made while PostgreSQL is away: a service that starts during an outage waits instead of dying.
    """
    pool = asyncpg.create_pool(
        settings.url.get_secret_value(),
        min_size=0,
        max_size=settings.pool_size,
        command_timeout=COMMAND_TIMEOUT_S,
        server_settings={"search_path": schema, "application_name": f"tocsin {schema}"},
        reset=_keep_session,
    )
    await pool
    return pool


@asynccontextmanager
async def borrowed(pool: asyncpg.Pool) -> AsyncIterator[asyncpg.pool.PoolConnectionProxy]:
    """Lend a connection of the pool.

    One whose borrower is cancelled is not given to the next: asyncpg may have been between two messages of a query,
    and the server in the middle of a transaction.
    """
    with connection_errors():
        connection = await pool.acquire()
    try:
        yield connection
    except asyncio.CancelledError:
        connection.terminate()
        raise
    finally:
        await pool.release(connection)


async def _keep_session(connection: asyncpg.Connection) -> None:
    """Spare the round trip that resets a session: a unit of work leaves nothing behind in it."""
