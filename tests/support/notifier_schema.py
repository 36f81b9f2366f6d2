"""The notifier's tables in a database of the test's own, as fixtures. A module that wants them gives them their names:

database, pool = notifier_schema.database, notifier_schema.pool
"""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from cli.migrate import history
from services.notifier import dispatcher
from services.notifier.settings import NAME
from shared.db import migrations
from shared.db.pool import create_pool
from shared.settings import DatabaseSettings


@pytest.fixture
def database(database_url: str) -> DatabaseSettings:
    return DatabaseSettings.model_validate({"url": database_url, "pool_size": 8})


@pytest.fixture
async def pool(database: DatabaseSettings) -> AsyncIterator[asyncpg.Pool]:
    metadata, versions = history(NAME)
    await migrations.upgrade(database.url.get_secret_value(), metadata=metadata, versions=versions)
    opened = await create_pool(database, NAME)
    yield opened
    await opened.close()


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a sender try again at once, in the whole module."""
    monkeypatch.setattr(dispatcher, "BACKOFF_S", 0.05)
    monkeypatch.setattr(dispatcher, "MAX_BACKOFF_S", 0.2)
