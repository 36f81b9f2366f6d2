"""What the runner does beside the consumers."""

import asyncio

import pytest

from cli.migrate import migrate
from shared.db.pool import create_pool
from shared.inbox.state import ConsumerState
from shared.runner import INBOX_RETENTION_DAYS, _prune_inbox, _recall_last_events
from shared.settings import DatabaseSettings


@pytest.fixture
def migrated_url(database_url: str) -> str:
    migrate({"TOCSIN_DATABASE__URL": database_url}, ["gw_listener"])
    return database_url


async def test_events_that_no_topic_can_deliver_again_are_forgotten(migrated_url: str) -> None:
    pool = await create_pool(DatabaseSettings(url=migrated_url), "gw_listener")
    await pool.executemany(
        "INSERT INTO inbox (consumer, event_id, handled_at)"
        " VALUES ($1, gen_random_uuid(), now() - make_interval(days => $2))",
        [("old", INBOX_RETENTION_DAYS + 1), ("young", INBOX_RETENTION_DAYS - 1)],
    )
    pruning = asyncio.create_task(_prune_inbox(pool))
    async with asyncio.timeout(10):
        while await pool.fetchval("SELECT count(*) FROM inbox") > 1:
            await asyncio.sleep(0.01)
    pruning.cancel()
    assert await pool.fetchval("SELECT consumer FROM inbox") == "young"
    await pool.close()


async def test_a_consumer_knows_after_a_restart_when_it_last_handled_an_event(migrated_url: str) -> None:
    pool = await create_pool(DatabaseSettings(url=migrated_url), "gw_listener")
    await pool.execute("INSERT INTO inbox (consumer, event_id, handled_at) VALUES ('a', gen_random_uuid(), 'epoch')")
    busy, idle = ConsumerState("a", ("t",)), ConsumerState("b", ("t",))
    await _recall_last_events(pool, [busy, idle])
    assert (busy.last_event_at, idle.last_event_at) == (0.0, None)
    await pool.close()
