"""The table of pairs, on the database alone: every filter, order and page."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from pydantic import SecretStr

from cli.migrate import history
from services.console.coincidences import Filters, Order, PairTable, Sort
from shared.db import migrations
from shared.db.pool import create_pool
from shared.settings import DatabaseSettings

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
STATES = ("ANNOUNCED", "NOT_ANNOUNCED", "WITHDRAWN", "OUTSIDE")
FILTERS = (
    Filters(),
    Filters(since=NOW, until=NOW + timedelta(days=2)),
    Filters(state="WITHDRAWN", is_test=False),
    Filters(is_announced=True),
    Filters(is_announced=False, odds_min=0.5),
    Filters(superevent_id="S3"),
    Filters(frb_id=4),
)


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[asyncpg.Pool]:
    for service in ("console", "coincidence"):
        metadata, versions = history(service)
        await migrations.upgrade(database_url, metadata=metadata, versions=versions)
    opened = await create_pool(DatabaseSettings(url=SecretStr(database_url), pool_size=4), "console")
    yield opened
    await opened.close()


async def fill(pool: asyncpg.Pool, *, waves: int, bursts: int, seed: int = 1) -> list[dict[str, Any]]:
    """Every wave with every burst, many values equal, some not counted; returned as a plain search would see them."""
    rng = random.Random(seed)
    times = {f"S{n}": NOW + timedelta(days=rng.randrange(4)) for n in range(waves)}
    await pool.executemany(
        "INSERT INTO coincidence.waves (superevent_id, is_test, is_retracted, event_time, state)"
        " VALUES ($1, false, false, $2, '{}')",
        list(times.items()),
    )
    await pool.executemany(
        "INSERT INTO coincidence.bursts (frb_id, revision, is_test, time, state) VALUES ($1, 1, false, $2, $3)",
        [(n, NOW, json.dumps({"facts": {"internal_name": f"B{n}", "tns_name": None}})) for n in range(bursts)],
    )
    lines: list[dict[str, Any]] = [
        {
            "superevent_id": wave, "frb_id": burst, "event_time": at, "state": rng.choice(STATES),
            "is_test": rng.random() < 0.5, "is_open": rng.random() < 0.3,
            "odds": rng.choice([None, 0.0, 0.5, 1e-300, 7.0]),
            "far_space_time_hz": rng.choice([None, 1e-12, 0.1 + 0.2]),
            "decided_at": NOW + timedelta(seconds=rng.randrange(6)),
        }
        for wave, at in times.items()
        for burst in range(bursts)
    ]  # fmt: skip
    await pool.executemany(
        "INSERT INTO coincidence.pairs (superevent_id, frb_id, is_test, state, reason, scores, odds, alert_event_id,"
        " burst_revision, method_version, decided_at, revision, is_open, decided_digest)"
        " VALUES ($1, $2, $3, $4, 'why', $5, $6, gen_random_uuid(), 1, '1', $7, 0, $8, '')",
        [
            (
                line["superevent_id"], line["frb_id"], line["is_test"], line["state"],
                json.dumps({"far_space_time_hz": line["far_space_time_hz"]}), line["odds"], line["decided_at"],
                line["is_open"],
            )
            for line in lines
        ],
    )  # fmt: skip
    return lines


def wanted(line: dict[str, Any], filters: Filters) -> bool:
    return (
        (filters.since is None or line["event_time"] >= filters.since)
        and (filters.until is None or line["event_time"] < filters.until)
        and (filters.state is None or line["state"] == filters.state)
        and (filters.is_announced is None or line["is_open"] == filters.is_announced)
        and (filters.is_test is None or line["is_test"] == filters.is_test)
        and (filters.odds_min is None or (line["odds"] is not None and line["odds"] >= filters.odds_min))
        and (filters.superevent_id is None or line["superevent_id"] == filters.superevent_id)
        and (filters.frb_id is None or line["frb_id"] == filters.frb_id)
    )


async def test_every_filter_order_and_page_is_as_a_plain_search_finds_it(pool: asyncpg.Pool) -> None:
    lines = await fill(pool, waves=6, bursts=7)
    table = PairTable(pool)

    for filters in FILTERS:
        chosen = [line for line in lines if wanted(line, filters)]
        assert await table.count(filters) == len(chosen)
        for order in (Order(sort, descending=down) for sort in Sort for down in (True, False)):
            known = [line for line in chosen if line[order.by.value] is not None]
            known.sort(key=lambda line: [line[column] for column in order.columns], reverse=order.descending)
            found: list[Any] = []
            cursor = None
            while True:
                page = await table.page(filters, order, limit=5, cursor=cursor)
                found += [tuple(line[column] for column in order.columns) for line in page.lines]
                cursor = page.cursor
                if cursor is None:
                    break
            assert found == [tuple(line[column] for column in order.columns) for line in known]


async def test_a_file_is_all_pages_in_turn(pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.console.listing.EXPORT_ROWS_AT_ONCE", 10)
    lines = await fill(pool, waves=5, bursts=5)

    told = [line async for batch in PairTable(pool).all_lines(Filters(), Order()) for line in batch]

    assert len({line["coincidence_id"] for line in told}) == len(told) == len(lines)


async def test_a_burst_that_lost_its_time_leaves_its_pairs(pool: asyncpg.Pool) -> None:
    await fill(pool, waves=1, bursts=1)
    await pool.execute("UPDATE coincidence.bursts SET time = NULL, state = NULL")

    (line,) = (await PairTable(pool).page(Filters(), Order(), limit=5)).lines

    assert line["burst_time"] is None
    assert line["internal_name"] is None
