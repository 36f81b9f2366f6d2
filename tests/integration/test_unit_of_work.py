"""One transaction carries everything an event does, whatever happens to it and to its neighbours."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from shared.db.errors import DatabaseUnavailableError
from shared.db.pool import create_pool
from shared.db.unit_of_work import OutgoingEvent, UnitOfWork, unit_of_work
from shared.errors import PermanentError
from shared.settings import MAX_MESSAGE_BYTES, DatabaseSettings
from tests.support.database import SCHEMA, make_tables, open_pool
from tests.support.runtime import soon

CONSUMER = "trial.consumer"


@pytest.fixture
async def settings(database_url: str) -> DatabaseSettings:
    return await make_tables(database_url)


@pytest.fixture
async def pool(settings: DatabaseSettings) -> AsyncIterator[asyncpg.Pool]:
    async with open_pool(settings) as opened:
        yield opened


def an_event(key: str = "S1", value: bytes = b"record") -> OutgoingEvent:
    return OutgoingEvent(topic="trial.topic", key=key, event_id=uuid.uuid4(), value=value, headers={})


async def count(pool: asyncpg.Pool, table: str) -> int:
    return int(await pool.fetchval(f"SELECT count(*) FROM {table}"))


async def test_an_event_is_claimed_once_by_each_consumer(pool: asyncpg.Pool) -> None:
    first, second, third = (uuid.uuid4() for _ in range(3))
    async with unit_of_work(pool) as work:
        assert await work.claim(CONSUMER, [first, second, first]) == {first, second}
        assert await work.claim(CONSUMER, [first]) == set()
    async with unit_of_work(pool) as work:
        assert await work.claim(CONSUMER, [second, third]) == {third}
        assert await work.claim("another", [first]) == {first}


async def test_a_claim_waits_for_the_transaction_that_has_the_event_and_finds_it_done(pool: asyncpg.Pool) -> None:
    event = uuid.uuid4()

    async def claim() -> set[uuid.UUID]:
        async with unit_of_work(pool) as work:
            return await work.claim(CONSUMER, [event])

    async with unit_of_work(pool) as work:
        assert await work.claim(CONSUMER, [event]) == {event}
        second = asyncio.create_task(claim())
        await _until_waiting(pool, 1)
        assert not second.done()
    assert await second == set()


async def test_a_claim_that_is_rolled_back_goes_to_the_one_that_waits(pool: asyncpg.Pool) -> None:
    event = uuid.uuid4()

    async def claim() -> set[uuid.UUID]:
        async with unit_of_work(pool) as work:
            return await work.claim(CONSUMER, [event])

    with pytest.raises(RuntimeError):
        async with unit_of_work(pool) as work:
            await work.claim(CONSUMER, [event])
            second = asyncio.create_task(claim())
            await _until_waiting(pool, 1)
            raise RuntimeError
    assert await second == {event}


async def test_overlapping_claims_in_different_orders_do_not_deadlock(pool: asyncpg.Pool) -> None:
    async def claim(ids: list[uuid.UUID]) -> set[uuid.UUID]:
        async with unit_of_work(pool) as work:
            return await work.claim(CONSUMER, ids)

    for _ in range(20):
        ids = [uuid.uuid4() for _ in range(50)]
        forward, backward = await asyncio.gather(claim(ids), claim(ids[::-1]))
        assert forward | backward == set(ids)
        assert not forward & backward


async def test_writes_are_carried_out_in_order_and_visible_to_reads(pool: asyncpg.Pool) -> None:
    async with unit_of_work(pool) as work:
        for number in range(3):
            work.write("INSERT INTO facts (number) VALUES ($1)", number)
        work.write("UPDATE facts SET word = 'odd' WHERE number % 2 = 1")
        work.write("INSERT INTO facts (number) VALUES ($1)", 3)
        rows = await work.fetch("SELECT number, word FROM facts ORDER BY id")
        # The last one came after the update.
        assert [tuple(row) for row in rows] == [(0, None), (1, "odd"), (2, None), (3, None)]
        work.write("DELETE FROM facts WHERE number > $1", 0)
        row = await work.fetch_row("SELECT count(*) FROM facts")
        assert row is not None
        assert row[0] == 1


async def test_a_failure_undoes_claim_writes_and_announcements_together(pool: asyncpg.Pool) -> None:
    woken: list[bool] = []
    with pytest.raises(ZeroDivisionError):
        async with unit_of_work(pool, lambda: woken.append(True)) as work:
            await work.claim(CONSUMER, [uuid.uuid4()])
            work.write("INSERT INTO facts (number) VALUES (1)")
            work.emit(an_event())
            raise ZeroDivisionError
    assert [await count(pool, table) for table in ("inbox", "facts", "outbox")] == [0, 0, 0]
    assert not woken


async def test_the_relay_is_woken_after_the_commit_when_something_was_announced(pool: asyncpg.Pool) -> None:
    woken: list[bool] = []
    async with unit_of_work(pool, lambda: woken.append(True)) as work:
        work.write("INSERT INTO facts (number) VALUES (1)")
    assert not woken
    async with unit_of_work(pool, lambda: woken.append(True)) as work:
        work.emit(an_event())
    assert woken == [True]
    assert await count(pool, "outbox") == 1


async def test_rows_of_one_key_enter_the_outbox_in_the_order_of_their_commits(pool: asyncpg.Pool) -> None:
    # A transaction that is slow to commit, at the worst instant: its row has its number and is not visible yet.
    await pool.execute("""
        CREATE FUNCTION linger() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN PERFORM pg_advisory_xact_lock(42); RETURN NULL; END $$;
        CREATE CONSTRAINT TRIGGER linger AFTER INSERT ON outbox DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW WHEN (new.value = 'slow') EXECUTE FUNCTION linger();
    """)

    async def announce(key: str, value: bytes) -> None:
        async with unit_of_work(pool) as work:
            work.emit(an_event(key, value))

    async with pool.acquire() as holder:
        await holder.execute("SELECT pg_advisory_lock(42)")
        slow = asyncio.create_task(announce("S1", b"slow"))
        await _until_waiting(pool, 1, holder)
        quick = asyncio.create_task(announce("S1", b"quick"))
        await _until_waiting(pool, 2, holder)
        # Another key is nobody's concern.
        await announce("S2", b"other")
        assert [row["value"] for row in await holder.fetch("SELECT value FROM outbox")] == [b"other"]
        await holder.execute("SELECT pg_advisory_unlock(42)")
    await asyncio.gather(slow, quick)
    rows = await pool.fetch("SELECT value FROM outbox WHERE key = 'S1' ORDER BY id")
    assert [row["value"] for row in rows] == [b"slow", b"quick"]


async def test_writers_of_the_same_keys_in_different_orders_do_not_deadlock(pool: asyncpg.Pool) -> None:
    async def announce(keys: list[str]) -> None:
        async with unit_of_work(pool) as work:
            for key in keys:
                work.emit(an_event(key))

    keys = [f"S{number}" for number in range(20)]
    for _ in range(10):
        await asyncio.gather(announce(keys), announce(keys[::-1]), announce(keys))
    assert await count(pool, "outbox") == 10 * 3 * 20


async def test_a_cancelled_transaction_is_undone_and_its_connection_works_on(pool: asyncpg.Pool) -> None:
    reached = asyncio.Event()

    async def handle() -> None:
        async with unit_of_work(pool) as work:
            await work.claim(CONSUMER, [uuid.uuid4()])
            reached.set()
            await work.fetch("SELECT pg_sleep(60)")

    task = asyncio.create_task(handle())
    await reached.wait()
    await _until_sleeping(pool)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await count(pool, "inbox") == 0
    assert await pool.fetchval("SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'") == 0


async def test_a_lost_connection_is_an_outage_and_the_next_transaction_has_a_new_one(pool: asyncpg.Pool) -> None:
    with pytest.raises(DatabaseUnavailableError):
        async with unit_of_work(pool) as work:
            await _terminate(pool, work)
            await work.fetch("SELECT 1")
    async with unit_of_work(pool) as work:
        assert await work.fetch("SELECT 1")


async def test_what_a_handler_found_wrong_outlives_the_connection(pool: asyncpg.Pool) -> None:
    with pytest.raises(PermanentError, match="no alert"):
        async with unit_of_work(pool) as work:
            await _terminate(pool, work)
            raise PermanentError("no alert")


async def test_a_wrong_argument_is_no_outage(pool: asyncpg.Pool) -> None:
    # Were it one, its message would wait for ever and hold up all that follow.
    with pytest.raises(asyncpg.DataError, match="integer"):
        async with unit_of_work(pool) as work:
            work.write("INSERT INTO facts (number) VALUES ($1)", "seven")


async def test_a_broken_constraint_is_no_outage(pool: asyncpg.Pool) -> None:
    with pytest.raises(asyncpg.NotNullViolationError):
        async with unit_of_work(pool) as work:
            work.write("INSERT INTO facts (number) VALUES ($1)", None)


async def test_a_database_that_lets_nobody_in_is_an_outage(settings: DatabaseSettings) -> None:
    # A wrong name, a changed password: no message deserves the dead-letter topic for it.
    url = settings.url.get_secret_value()
    absent = settings.model_validate({"url": url + "_absent"})
    pool = await create_pool(absent, SCHEMA)
    with pytest.raises(DatabaseUnavailableError, match="does not exist"):
        async with unit_of_work(pool):
            pass
    pool.terminate()


async def test_an_announcement_above_the_topics_limit_is_refused(pool: asyncpg.Pool) -> None:
    with pytest.raises(PermanentError, match="blob store"):
        async with unit_of_work(pool) as work:
            work.emit(an_event(value=bytes(MAX_MESSAGE_BYTES + 1)))
    assert await count(pool, "outbox") == 0


async def _terminate(pool: asyncpg.Pool, work: UnitOfWork) -> None:
    [row] = await work.fetch("SELECT pg_backend_pid() AS pid")
    await pool.execute("SELECT pg_terminate_backend($1, 5000)", row["pid"])


async def _until_waiting(pool: asyncpg.Pool, sessions: int, connection: Any = None) -> None:
    """Return when so many sessions wait for a lock."""
    await _until(
        pool, "SELECT count(*) >= $1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'", sessions, through=connection
    )


async def _until_sleeping(pool: asyncpg.Pool) -> None:
    await _until(pool, "SELECT count(*) = $1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'", 1)


async def _until(pool: asyncpg.Pool, question: str, number: int, *, through: Any = None) -> None:
    asked: list[bool] = []

    async def ask() -> None:
        while True:
            asked.append(await (through or pool).fetchval(question, number))
            await asyncio.sleep(0.01)

    asking = asyncio.create_task(ask())
    try:
        await soon(lambda: any(asked))
    finally:
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
