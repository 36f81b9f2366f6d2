"""Which database failures pass by themselves."""

from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg

from shared.errors import TransientError

_TRANSIENT = (
    asyncpg.PostgresConnectionError,
    asyncpg.exceptions.OperatorInterventionError,  # shutdown, crash recovery, "the database system is starting up"
    asyncpg.exceptions.InsufficientResourcesError,  # too many connections, disk full, out of memory
    asyncpg.exceptions.TransactionRollbackError,  # serialisation failure, deadlock
    asyncpg.exceptions.LockNotAvailableError,
    asyncpg.exceptions.InternalClientError,  # the connection broke in the middle of a protocol exchange
    asyncpg.InterfaceError,  # "connection is closed", "pool is closing"
    ConnectionError,
    TimeoutError,
    OSError,
)


class DatabaseUnavailableError(TransientError):
    """PostgreSQL cannot be reached, or gave a transaction up for a reason of its own."""


@contextmanager
def translated_errors() -> Iterator[None]:
    """Turn what passes by itself into `DatabaseUnavailableError`; leave bugs (a wrong column) as they are.

    Wrap only what speaks to the database: an `OSError` of other origin must not be blamed on it.
    """
    try:
        yield
    except _TRANSIENT as error:
        raise DatabaseUnavailableError(f"PostgreSQL: {type(error).__name__}: {error}") from error
