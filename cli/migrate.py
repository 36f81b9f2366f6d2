"""`tocsin migrate`: brings the services' schemas up to date."""

import asyncio
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Annotated

import sqlalchemy as sa
import typer

from cli.database import fetch_from
from cli.environment import settings_from
from cli.errors import told_in_one_line
from cli.stack.services import SERVICES
from cli.stack.stack import Stack
from shared.db import migrations
from shared.errors import InvalidInputError


def history(service: str) -> tuple[sa.MetaData, Path]:
    """Return a service's tables and the folder of its migrations."""
    tables = import_module(f"services.{service}.tables")
    assert tables.__file__ is not None
    return tables.metadata, Path(tables.__file__).with_name("migrations")


def migrate(environment: Mapping[str, str], services: list[str] | None = None) -> None:
    """Apply every missing migration of `services` (all without it)."""
    url = settings_from(environment).database.url.get_secret_value()
    fetch_from(url, "SELECT 1")  # says what is wrong, where alembic would show where
    for service in services or SERVICES:
        metadata, versions = history(service)
        asyncio.run(migrations.upgrade(url, metadata=metadata, versions=versions))


def migrate_command(
    services: Annotated[list[str] | None, typer.Argument(help="Only these services.")] = None,
) -> None:
    """Create or update the database schemas of the services."""
    with told_in_one_line():
        for service in services or ():
            if service not in SERVICES:
                raise InvalidInputError("SERVICES", service, f"one of {', '.join(SERVICES)}")
        migrate(Stack().environment(), services)
    typer.echo(f"up to date: {', '.join(services or SERVICES)}")


def revision(service: str, revision_id: str, message: str) -> None:
    """Write the migration from the newest version, which the database must have, to what `tables.py` says now."""
    metadata, versions = history(service)
    url = settings_from(Stack().environment()).database.url.get_secret_value()
    asyncio.run(
        migrations.write_revision(url, metadata=metadata, versions=versions, message=message, revision_id=revision_id)
    )


if __name__ == "__main__":
    revision(*sys.argv[1:])
