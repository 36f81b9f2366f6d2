"""Notices of one burst that several sources bring at the same moment."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest

from cli.migrate import history
from services.frb_intake.feeds.gcn import CHIME_TOPIC, read_gcn
from services.frb_intake.feeds.notice import ReceivedNotice
from services.frb_intake.handlers import FeedHandler
from services.frb_intake.settings import NAME
from shared.db import migrations
from shared.db.pool import create_pool
from shared.db.unit_of_work import unit_of_work
from shared.errors import InvalidInputError
from shared.events.blob import BlobRef
from shared.settings import DatabaseSettings
from tests.support.data import SAMPLES

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TIMES = 8


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[asyncpg.Pool]:
    metadata, versions = history(NAME)
    await migrations.upgrade(database_url, metadata=metadata, versions=versions)
    opened = await create_pool(DatabaseSettings.model_validate({"url": database_url, "pool_size": 10}), NAME)
    yield opened
    await opened.close()


def brought(stage: str, *, source: str = "gcn", **changes: Any) -> ReceivedNotice:
    content = json.loads((SAMPLES / "gcn" / f"chime-frb-{stage}.json").read_bytes()) | changes
    data = json.dumps(content).encode()
    raw = BlobRef(uri=f"file:///{stage}", sha256="0" * 64, size=len(data), media_type="application/json")
    return ReceivedNotice(read_gcn(data), raw, source, CHIME_TOPIC)


async def carry_out(pool: asyncpg.Pool, *notices: ReceivedNotice) -> None:
    """One transaction, as a source's batch."""
    handler = FeedHandler(observatory="TOCSIN", clock=lambda: NOW)
    async with unit_of_work(pool) as work:
        for notice in notices:
            await handler.on_notice(notice, work)


async def test_one_notice_from_many_sources_at_once_is_one_burst(pool: asyncpg.Pool) -> None:
    await asyncio.gather(*(carry_out(pool, brought("detection", source=f"source {n}")) for n in range(TIMES)))

    assert await pool.fetchval("SELECT count(*) FROM bursts") == 1
    assert await pool.fetchval("SELECT count(*) FROM changes") == 1
    assert await pool.fetchval("SELECT count(*) FROM outbox") == 1


async def test_batches_in_opposite_orders_do_not_wait_for_each_other(pool: asyncpg.Pool) -> None:
    notices = [brought("detection", id=str(number)) for number in range(20)]
    await asyncio.wait_for(asyncio.gather(carry_out(pool, *notices), carry_out(pool, *reversed(notices))), 30)

    assert await pool.fetchval("SELECT count(*) FROM bursts") == len(notices)


async def test_detection_and_retraction_at_once_are_one_withdrawn_burst(pool: asyncpg.Pool) -> None:
    for number in range(TIMES):
        stages = [brought(stage, id=str(number)) for stage in ("detection", "update", "retraction")]
        await asyncio.gather(*(carry_out(pool, notice) for notice in stages))

    rows = await pool.fetch("SELECT status, count(*) AS bursts FROM bursts GROUP BY status")
    assert [tuple(row) for row in rows] == [("WITHDRAWN", TIMES)]
    assert await pool.fetchval("SELECT count(*) FROM changes") == 3 * TIMES


async def test_the_same_figures_again_are_no_further_measurement(pool: asyncpg.Pool) -> None:
    await carry_out(pool, brought("detection"), brought("detection", description="Looked at by a person."))

    (first, second) = await pool.fetch("SELECT change, record FROM changes ORDER BY revision")
    assert (first["change"], second["change"]) == ("CREATED", "CORRECTED")
    assert json.loads(second["record"])["note"] == "Looked at by a person."
    assert await pool.fetchval("SELECT count(*) FROM measurements") == 1


async def test_a_corrected_time_of_arrival_moves_the_burst_in_the_list(pool: asyncpg.Pool) -> None:
    later = "2024-09-18T07:20:00+00:00"
    await carry_out(pool, brought("detection"), brought("update", trigger_time=later))

    row = await pool.fetchrow("SELECT event_time, time_of_arrival_inf, record FROM bursts")
    assert row is not None
    assert row["event_time"] == datetime.fromisoformat(later)
    assert row["time_of_arrival_inf"] > datetime(2024, 9, 18, 7, 19, 50, tzinfo=UTC)
    assert json.loads(row["record"])["latest"]["number"] == 2


async def test_a_refused_notice_leaves_nothing_behind_and_may_come_again(pool: asyncpg.Pool) -> None:
    with pytest.raises(InvalidInputError, match="time_of_arrival"):
        await carry_out(pool, brought("detection", trigger_time="2424-09-18T07:19:10Z"))
    assert await pool.fetchval("SELECT count(*) FROM inbox") == 0
    await carry_out(pool, brought("detection"))
    assert await pool.fetchval("SELECT count(*) FROM bursts") == 1


async def test_a_detection_that_comes_after_an_update_fills_in_what_is_missing_and_undoes_nothing(
    pool: asyncpg.Pool,
) -> None:
    update = brought("update", dm=221.2, dm_error=0.4, update_message="By a person.")
    await carry_out(pool, update, brought("detection"), brought("detection", description="Once more.", snr=5.0))

    found = [json.loads(row["record"]) for row in await pool.fetch("SELECT record FROM changes ORDER BY revision")]
    assert [record["change"] for record in found] == ["CREATED", "MEASURED", "CORRECTED"]
    for record in found[1:]:
        assert (record["latest"]["dm_pc_cm3"], record["latest"]["dm_err_pc_cm3"]) == (221.2, 0.4)
        assert record["latest"]["snr"] == 12.698559761047363
        assert record["latest"]["localisation"]["ra_deg"] == 346.77850859547
        assert "By a person." in record["note"]
        assert record["importance"] == 0.9871308604784662
    # Not the detection's time at infinite frequency: that belongs to its dispersion measure.
    assert found[2]["latest"]["time_of_arrival_inf"].startswith("2024-09-18T07:19:05.0")


async def test_another_detection_of_a_burst_measures_it_also_after_an_update(pool: asyncpg.Pool) -> None:
    """DSA-110 gives a subsequent notice the burst's own name."""
    stages = [brought("detection"), brought("update"), brought("subsequent", id="427325191", snr=20.0)]
    await carry_out(pool, *stages)

    record = json.loads(await pool.fetchval("SELECT record FROM bursts"))
    assert (record["change"], record["latest"]["snr"], record["repeater"]) == ("MEASURED", 20.0, True)
