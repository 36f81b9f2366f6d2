"""Records that nothing was told of are forgotten when they are old and replaced, and no others."""

import asyncpg

from services.notifier.pruning import Pruner
from services.notifier.rules import Rule
from shared.runner import INBOX_RETENTION_DAYS
from shared.settings import DatabaseSettings
from tests.support import notifier_schema
from tests.support.coincidence import a_burst_record
from tests.support.notifier import FakeChannel, NotifierUnderTest

database, pool = notifier_schema.database, notifier_schema.pool


async def seen(pool: asyncpg.Pool, days_ago: int) -> None:
    await pool.execute("UPDATE happenings SET seen_at = now() - make_interval(days => $1)", days_ago)


async def kept(pool: asyncpg.Pool) -> list[tuple[str, int]]:
    rows = await pool.fetch("SELECT subject, record->>'revision' AS revision FROM happenings ORDER BY ordinal")
    return [(row["subject"], int(row["revision"])) for row in rows]


async def test_the_newest_of_each_subject_and_what_was_told_stay(
    pool: asyncpg.Pool, database: DatabaseSettings
) -> None:
    # Of burst 1 nothing is told, of burst 2 everything.
    rule = Rule(channel="fake", min_snr=20)
    notifier = NotifierUnderTest(pool, database, FakeChannel(), rules=[rule])
    for frb_id, snr in ((1, 10.0), (2, 30.0)):
        for revision in (1, 2, 3):
            record = a_burst_record(frb_id=frb_id, revision=revision)
            assert record.latest is not None
            latest = record.latest.model_copy(update={"snr": snr})
            await notifier.take("frb.events", record.model_copy(update={"latest": latest, "first": latest}))
    everything = [(f"frb/{frb_id}", revision) for frb_id in (1, 2) for revision in (1, 2, 3)]

    await seen(pool, INBOX_RETENTION_DAYS - 1)
    await Pruner(pool).prune()
    assert await kept(pool) == everything

    await seen(pool, INBOX_RETENTION_DAYS + 1)
    for _ in range(2):
        await Pruner(pool).prune()
        assert await kept(pool) == [("frb/1", 3), *everything[3:]]
