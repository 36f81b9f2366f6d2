"""What nobody can ask for any more is forgotten, and nothing else."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from cli.migrate import history
from services.frb_intake import domain
from services.frb_intake.domain import NewBurst
from services.frb_intake.pruning import IDEMPOTENCY_KEY_DAYS, SESSION_DAYS, Pruner
from services.frb_intake.settings import NAME
from services.frb_intake.store import BurstStore
from shared.db import migrations
from shared.db.pool import create_pool
from shared.db.unit_of_work import unit_of_work
from shared.settings import DatabaseSettings

STAGED_HOURS = 1.5


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[asyncpg.Pool]:
    metadata, versions = history(NAME)
    await migrations.upgrade(database_url, metadata=metadata, versions=versions)
    opened = await create_pool(DatabaseSettings.model_validate({"url": database_url, "pool_size": 2}), NAME)
    yield opened
    await opened.close()


async def kept(pool: asyncpg.Pool, table: str) -> list[str]:
    rows = await pool.fetch(f"SELECT submitted_by FROM {table} ORDER BY submitted_by")
    return [row["submitted_by"] for row in rows]


async def test_observations_without_a_burst_and_old_keys_are_forgotten(pool: asyncpg.Pool) -> None:
    now = datetime.now(UTC)
    async with unit_of_work(pool) as work:
        burst = domain.create(NewBurst(submitted_by="ada", origin="upload"), frb_id=1, observatory="T", now=now)
        await BurstStore(work).add(burst, detail={})
        for name, hours in (("new", STAGED_HOURS - 0.1), ("old", STAGED_HOURS + 0.1)):
            work.write(
                "INSERT INTO staged_observations (submitted_by, digest, parameters, received_at)"
                " VALUES ($1, $2, $3, $4)",
                name, b"1", "{}", now - timedelta(hours=hours),
            )  # fmt: skip
        for name, days in (("new", IDEMPOTENCY_KEY_DAYS - 1), ("old", IDEMPOTENCY_KEY_DAYS + 1)):
            work.write(
                "INSERT INTO idempotency_keys (submitted_by, key, digest, burst_id, created_at)"
                " VALUES ($1, $2, $3, 1, $4)",
                name, "k", b"1", now - timedelta(days=days),
            )  # fmt: skip

    for _ in range(2):
        await Pruner(pool, staged_hours=STAGED_HOURS).prune()

        assert await kept(pool, "staged_observations") == ["new"]
        assert await kept(pool, "idempotency_keys") == ["new"]
    assert await pool.fetchval("SELECT count(*) FROM bursts") == 1


async def test_sessions_that_ended_are_forgotten_and_tokens_of_programs_are_not(pool: asyncpg.Pool) -> None:
    now = datetime.now(UTC)
    long_ago, ago, later = (now + timedelta(days=days) for days in (-SESSION_DAYS - 1, -SESSION_DAYS / 2, 1))
    user_id = await pool.fetchval(
        "INSERT INTO users (name, password_hash, roles) VALUES ('ada', '', '{}') RETURNING id"
    )
    for name, is_session, expires_at, revoked_at in (
        ("a program's, expired", False, long_ago, long_ago),
        ("a session", True, later, None),
        ("expired a moment ago", True, ago, None),
        ("expired", True, long_ago, None),
        ("revoked a moment ago", True, later, ago),
        ("revoked", True, later, long_ago),
    ):
        await pool.execute(
            "INSERT INTO tokens (user_id, digest, is_session, expires_at, revoked_at) VALUES ($1, $2, $3, $4, $5)",
            *(user_id, name.encode(), is_session, expires_at, revoked_at),
        )

    await Pruner(pool, staged_hours=STAGED_HOURS).prune()

    rows = await pool.fetch("SELECT digest FROM tokens ORDER BY id")
    assert [row["digest"].decode() for row in rows] == [
        "a program's, expired",
        "a session",
        "expired a moment ago",
        "revoked a moment ago",
    ]
