"""A schema with the runtime's tables and one of a service's own, for tests of the runtime on a real database."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import sqlalchemy as sa
from pydantic import SecretStr
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.schema import CreateSchema

from shared.db.pool import create_pool
from shared.db.tables import service_metadata
from shared.settings import DatabaseSettings

SCHEMA = "trial"


async def make_tables(url: str) -> DatabaseSettings:
    """Make the schema `trial`: inbox, outbox, and `facts`, where a handler may write what it did."""
    metadata = service_metadata(SCHEMA)
    sa.Table(
        "facts",
        metadata,
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("word", sa.Text),
    )
    engine = create_async_engine(url.replace("postgresql://", "postgresql+asyncpg://"))
    async with engine.begin() as connection:
        await connection.execute(CreateSchema(SCHEMA))
        await connection.run_sync(metadata.create_all)
    await engine.dispose()
    return DatabaseSettings(url=SecretStr(url), pool_size=4)


@asynccontextmanager
async def open_pool(settings: DatabaseSettings) -> AsyncIterator[asyncpg.Pool]:
    """A pool as the runner makes it."""
    pool = await create_pool(settings, SCHEMA)
    try:
        yield pool
    finally:
        pool.terminate()
