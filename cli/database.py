"""Questions of commands to the database."""

import asyncio
import json
from typing import Any

import asyncpg

from cli.environment import settings
from shared.db.errors import translated_errors


def fetch(query: str, *arguments: object) -> list[dict[str, Any]]:
    """Return the rows of a query, JSON columns decoded."""
    return asyncio.run(_fetch(settings().database.url.get_secret_value(), query, arguments))


async def _fetch(url: str, query: str, arguments: tuple[object, ...]) -> list[dict[str, Any]]:
    with translated_errors():
        connection = await asyncpg.connect(url)
        try:
            await connection.set_type_codec("jsonb", encoder=json.dumps, decoder=json.loads, schema="pg_catalog")
            return [dict(row) for row in await connection.fetch(query, *arguments)]
        finally:
            await connection.close()
