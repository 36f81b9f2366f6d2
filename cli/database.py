"""Questions of commands to the database."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import asyncpg

from cli.environment import settings
from shared.db.errors import translated_errors
from shared.errors import PermanentError

CONNECT_TIMEOUT_S = 5.0
# How long a person waits to be told that nobody is there.


class DatabaseRefusedError(PermanentError):
    """PostgreSQL answers, and an operator has to do something first."""


@contextmanager
def _told_to_the_operator() -> Iterator[None]:
    """Turn what an operator can mend into an error of ours that says how; leave bugs as they are.

    Raises
    ------
    DatabaseUnavailableError
        Nobody answers.
    DatabaseRefusedError
        The URL is none, the database or the role does not exist, or the tables are not there yet.
    """
    with translated_errors():
        try:
            yield
        except (asyncpg.UndefinedTableError, asyncpg.UndefinedFunctionError, asyncpg.InvalidSchemaNameError) as error:
            raise DatabaseRefusedError(f"PostgreSQL: {error}; `tocsin migrate` makes what is missing") from error
        except (asyncpg.InvalidCatalogNameError, asyncpg.InvalidAuthorizationSpecificationError) as error:
            raise DatabaseRefusedError(f"PostgreSQL: {error}") from error
        except asyncpg.exceptions.ClientConfigurationError as error:
            raise DatabaseRefusedError(f"TOCSIN_DATABASE__URL: {error}") from error


def fetch(query: str, *arguments: object) -> list[dict[str, Any]]:
    """Return the rows of a query, JSON columns decoded."""
    return fetch_from(settings().database.url.get_secret_value(), query, *arguments)


def fetch_from(url: str, query: str, *arguments: object) -> list[dict[str, Any]]:
    """As `fetch`, from the database at `url`."""
    return asyncio.run(_fetch(url, query, arguments))


async def _fetch(url: str, query: str, arguments: tuple[object, ...]) -> list[dict[str, Any]]:
    with _told_to_the_operator():
        connection = await asyncpg.connect(url, timeout=CONNECT_TIMEOUT_S)
        try:
            await connection.set_type_codec("jsonb", encoder=json.dumps, decoder=json.loads, schema="pg_catalog")
            return [dict(row) for row in await connection.fetch(query, *arguments)]
        finally:
            await connection.close()
