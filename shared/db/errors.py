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
    asyncpg.exceptions.ReadOnlySQLTransactionError,  # the server was demoted; its successor takes writes
    asyncpg.exceptions.InternalClientError,  # the connection broke in the middle of a protocol exchange
    asyncpg.InterfaceError,  # "connection is closed", "pool is closing"
    OSError,  # with ConnectionError and TimeoutError
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
        raise _unavailable(error) from error


@contextmanager
def connection_errors() -> Iterator[None]:
    """Turn whatever prevents a connection into `DatabaseUnavailableError`.

    A wrong password or a missing database is for an operator to mend; no message deserves to be given up for it.
    """
    try:
        yield
    except (*_TRANSIENT, asyncpg.PostgresError) as error:
        raise _unavailable(error) from error


def _unavailable(error: Exception) -> DatabaseUnavailableError:
    return DatabaseUnavailableError(f"PostgreSQL: {type(error).__name__}: {error}")
