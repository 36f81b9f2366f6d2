"""Every service's schema comes from its own migrations, applied any number of times by any number of processes."""

import asyncio
import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest

from cli.migrate import history, migrate
from cli.stack.services import SERVICES
from shared.db import migrations

REPOSITORY = Path(__file__).parents[2]
UPGRADE = "import sys; from cli.migrate import migrate; migrate({'TOCSIN_DATABASE__URL': sys.argv[1]})"


@pytest.mark.parametrize("service", SERVICES)
async def test_the_migrations_make_exactly_the_tables(service: str, database_url: str) -> None:
    metadata, versions = history(service)
    await migrations.upgrade(database_url, metadata=metadata, versions=versions)
    # Raises when alembic would have to add a migration.
    await migrations.check(database_url, metadata=metadata, versions=versions)


def test_a_second_upgrade_changes_nothing(database_url: str) -> None:
    environment = {"TOCSIN_DATABASE__URL": database_url}
    migrate(environment)
    before = _tables(database_url)
    migrate(environment)
    assert _tables(database_url) == before
    assert {schema for schema, _ in before} >= set(SERVICES)


def test_processes_that_upgrade_at_once_take_turns(database_url: str) -> None:
    processes = [
        subprocess.Popen([sys.executable, "-c", UPGRADE, database_url], cwd=REPOSITORY, stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    complaints = [process.communicate(timeout=60)[1].decode() for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], complaints
    versions = [name for _, name in _tables(database_url) if name == "alembic_version"]
    assert len(versions) == len(SERVICES)


def _tables(url: str) -> set[tuple[str, str]]:
    async def ask() -> set[tuple[str, str]]:
        connection = await asyncpg.connect(url)
        try:
            rows = await connection.fetch(
                "SELECT table_schema, table_name FROM information_schema.tables"
                " WHERE table_schema NOT IN ('pg_catalog', 'information_schema')"
            )
        finally:
            await connection.close()
        return {(row["table_schema"], row["table_name"]) for row in rows}

    return asyncio.run(ask())
