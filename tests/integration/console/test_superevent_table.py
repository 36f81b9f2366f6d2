"""The table of superevents against a plain search in Python, and how its lines are gathered from the others' tables."""

from __future__ import annotations

import asyncio
import json
import random
import uuid
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from pydantic import SecretStr

from cli.migrate import history
from services.console.superevents import (
    COUNTED_AT_MOST,
    LISTING,
    SECONDS_PER_YEAR,
    Filters,
    Order,
    Sort,
    SupereventTable,
    gather_all,
    gather_one,
)
from shared.db import migrations
from shared.db.pool import create_pool
from shared.db.unit_of_work import unit_of_work
from shared.errors import InvalidInputError
from shared.settings import DatabaseSettings

BEGIN = datetime(2024, 1, 1, tzinfo=UTC)
Line = dict[str, Any]


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[asyncpg.Pool]:
    """Connections to the console's tables, beside them those that its lines are gathered from."""
    for service in ("console", "gw_listener", "skymap_parser"):
        metadata, versions = history(service)
        await migrations.upgrade(database_url, metadata=metadata, versions=versions)
    opened = await create_pool(DatabaseSettings(url=SecretStr(database_url), pool_size=4), "console")
    yield opened
    await opened.close()


def some_lines(n: int, seed: int = 1) -> list[Line]:
    """Lines with every column unknown here and there, and with many equal values."""
    rng = random.Random(seed)

    def maybe(value: Any) -> Any:
        return value if rng.random() < 0.8 else None

    lines = []
    for number in range(n):
        kind = rng.choice(["REAL", "MOCK", "TEST"])
        group = maybe(rng.choice(["CBC", "Burst"]))
        area = maybe(rng.choice([1.5, 30.0, 30.0, rng.uniform(1, 40_000)]))
        lines.append(
            {
                "superevent_id": f"{kind[0].replace('R', '')}S{rng.randrange(100):02}0101{number}",
                "kind": kind,
                "is_test": kind != "REAL",
                "state": rng.choice(["OPEN", "RETRACTED"]),
                "alert_type": rng.choice(["EARLYWARNING", "PRELIMINARY", "INITIAL", "UPDATE", "RETRACTION"]),
                "alert_count": rng.randrange(1, 6),
                "event_time": BEGIN + timedelta(seconds=rng.randrange(n // 2 + 1), microseconds=rng.choice([0, 1])),
                "updated_at": BEGIN,
                "far_hz": maybe(rng.choice([1e-7, 10 ** rng.uniform(-15, -4)])),
                "significant": maybe(rng.choice([True, False])),
                "search_group": group,
                "pipeline": maybe("gstlal"),
                "source_class": maybe(rng.choice(["BNS", "NSBH", "BBH", "Terrestrial"])),
                "source_probability": maybe(rng.random()),
                "area_50_deg2": None if area is None else area / 4,
                "area_90_deg2": area,
                "distance_mean_mpc": maybe(rng.uniform(10, 5000)),
                "distance_std_mpc": maybe(rng.uniform(10, 500)),
            }
        )
    return lines


async def store(pool: asyncpg.Pool, lines: Sequence[Line]) -> None:
    columns = list(lines[0])
    async with pool.acquire() as connection:
        await connection.copy_records_to_table(
            "superevents", schema_name="console", columns=columns, records=[tuple(line.values()) for line in lines]
        )
        await connection.execute("ANALYZE superevents")


def passes(line: Line, filters: Filters) -> bool:
    """What the filters say, in Python."""

    def at_most(value: float | None, limit: float | None) -> bool:
        return limit is None or (value is not None and value <= limit)

    far_max = filters.far_max_per_year
    return (
        (filters.since is None or line["event_time"] >= filters.since)
        and (filters.until is None or line["event_time"] < filters.until)
        and filters.kind in (None, line["kind"])
        and filters.alert_type in (None, line["alert_type"])
        and filters.search_group in (None, line["search_group"])
        and filters.source_class in (None, line["source_class"])
        and (filters.significant is None or line["significant"] is filters.significant)
        and filters.state in (None, line["state"])
        and line["superevent_id"].lower().startswith((filters.prefix or "").lower())
        and at_most(line["far_hz"], None if far_max is None else far_max / SECONDS_PER_YEAR)
        and at_most(line["area_90_deg2"], filters.area_90_max_deg2)
        and at_most(line["distance_mean_mpc"], filters.distance_max_mpc)
    )


def in_order(lines: Sequence[Line], order: Order) -> list[str]:
    """The ids in an order; those with an unknown value last."""
    column = "superevent_id" if order.by is Sort.id else order.by.value

    def rest(line: Line) -> tuple[Any, ...]:
        return line["event_time"], line["superevent_id"]

    known = sorted((x for x in lines if x[column] is not None), key=lambda x: (x[column], *rest(x)))
    unknown = sorted((x for x in lines if x[column] is None), key=rest)
    step = -1 if order.descending else 1
    return [line["superevent_id"] for line in (*known[::step], *unknown[::step])]


async def walked(table: SupereventTable, filters: Filters, order: Order, *, limit: int) -> list[str]:
    """The ids of all pages, one after the other."""
    found: list[str] = []
    cursor: str | None = None
    while True:
        page = await table.page(filters, order, limit=limit, cursor=cursor)
        assert len(page.lines) <= limit
        found += [line["superevent_id"] for line in page.lines]
        cursor = page.cursor
        if cursor is None:
            return found


FILTERS = [
    Filters(),
    Filters(since=BEGIN + timedelta(seconds=40), until=BEGIN + timedelta(seconds=90)),
    Filters(kind="MOCK", state="OPEN"),
    Filters(alert_type="UPDATE", significant=False),
    Filters(search_group="CBC", source_class="NSBH"),
    Filters(far_max_per_year=3.2, area_90_max_deg2=100.0),
    Filters(distance_max_mpc=500.0, significant=True),
    Filters(prefix="s1"),
    Filters(prefix="MS"),
    Filters(source_class="no such class"),
]


async def test_every_filter_order_and_page_is_as_a_plain_search_finds_it(pool: asyncpg.Pool) -> None:
    lines = some_lines(400)
    await store(pool, lines)
    table = SupereventTable(pool)
    for filters in FILTERS:
        wanted = [line for line in lines if passes(line, filters)]
        assert await table.count(filters) == len(wanted)
        for order in (Order(sort, descending=descending) for sort in Sort for descending in (True, False)):
            assert await walked(table, filters, order, limit=17) == in_order(wanted, order), (filters, order)


async def test_a_page_goes_on_where_the_last_ended_whatever_comes_meanwhile(pool: asyncpg.Pool) -> None:
    first, later = some_lines(60), some_lines(200)[60:]
    await store(pool, first)
    table, order = SupereventTable(pool), Order(Sort.area_90)
    page = await table.page(Filters(), order, limit=20)
    await store(pool, later)
    following = await table.page(Filters(), order, limit=200, cursor=page.cursor)
    seen = [line["superevent_id"] for line in (*page.lines, *following.lines)]
    assert len(seen) == len(set(seen))
    assert {line["superevent_id"] for line in first} <= set(seen)


@pytest.mark.parametrize("descending", [True, False])
async def test_names_that_begin_so_are_one_walk_along_an_index(pool: asyncpg.Pool, descending: bool) -> None:
    await store(pool, some_lines(2000))
    query, arguments = LISTING.select(Filters(prefix="Ms"), Order(Sort.id, descending=descending), limit=51)
    plan = "\n".join(row[0] for row in await pool.fetch(f"EXPLAIN {query}", *arguments))
    assert "using ix_superevents_folded_id" in plan
    assert "Sort" not in plan


@pytest.mark.parametrize("cursor", ["", "!", "bnVsbA", "WzEsIDIsIDNd", "W10", "ey8", "é", "WyJcdTAwMDAiXQ"])
async def test_a_place_that_no_page_gave_is_refused(pool: asyncpg.Pool, cursor: str) -> None:
    with pytest.raises(InvalidInputError):
        await SupereventTable(pool).page(Filters(), Order(Sort.far), limit=5, cursor=cursor)


async def test_the_values_to_choose_from_are_those_that_are_there(pool: asyncpg.Pool) -> None:
    table = SupereventTable(pool)
    assert await table.values() == {Sort.group: [], Sort.classification: []}
    await store(pool, some_lines(100))
    assert await table.values() == {
        Sort.group: ["Burst", "CBC"],
        Sort.classification: ["BBH", "BNS", "NSBH", "Terrestrial"],
    }
    assert await table.count(Filters()) == 100 < COUNTED_AT_MOST


# How lines are gathered.


async def tell(
    pool: asyncpg.Pool,
    superevent_id: str,
    sequence: int,
    alert_type: str,
    created: datetime,
    event: dict[str, Any] | None,
    area_90_deg2: float | None = None,
) -> None:
    """Write what gw_listener and skymap_parser write of an alert; the newest created is the current one."""
    event_id, received_at = uuid.uuid4(), created + timedelta(seconds=30)
    await pool.execute(
        "INSERT INTO gw_listener.superevents VALUES ($1, 'REAL', $2, $3, $4, $5, $6, $7, $7)"
        " ON CONFLICT (superevent_id) DO UPDATE SET state = $2, alert_count = $3, newest_event_id = $4,"
        " newest_alert_type = $5, newest_time_created = $6, updated_at = $7",
        superevent_id, "RETRACTED" if event is None else "OPEN", sequence, event_id, alert_type, created, received_at,
    )  # fmt: skip
    await pool.execute(
        "INSERT INTO gw_listener.alerts VALUES ($1, $2, $3, $4, $5, true, $6, 'test', $7)",
        event_id, superevent_id, sequence, alert_type, created, received_at, json.dumps({"event": event}),
    )  # fmt: skip
    if area_90_deg2 is not None:
        await pool.execute(
            "INSERT INTO skymap_parser.skymaps (event_id, superevent_id, alert_event_id, alert_type,"
            " alert_time_created, map_kind, state, is_current, is_test, ra_deg, dec_deg, area_50_deg2, area_90_deg2,"
            " processed_at, record) VALUES ($1, $2, $3, $4, $5, 'GW', 'AVAILABLE', true, false, 1, 2, $6, $7, $8,"
            " '{}')",
            uuid.uuid4(), superevent_id, event_id, alert_type, created, area_90_deg2 / 4, area_90_deg2,
            received_at + timedelta(seconds=1),
        )  # fmt: skip


def an_event(**changes: Any) -> dict[str, Any]:
    return {
        "time": "2024-01-01T00:00:00.5Z",
        "far_hz": 1e-9,
        "significant": True,
        "group": "CBC",
        "pipeline": "gstlal",
        "classification": {"BNS": 0.2, "NSBH": 0.7, "Terrestrial": 0.1},
    } | changes


async def test_a_line_tells_the_newest_alert_and_map_and_keeps_them_when_it_is_retracted(pool: asyncpg.Pool) -> None:
    await tell(pool, "S1", 1, "PRELIMINARY", BEGIN, an_event(far_hz=1e-8), 400.0)
    await tell(pool, "S1", 2, "UPDATE", BEGIN + timedelta(minutes=5), an_event(), 100.0)
    await gather_all(pool)
    before = await pool.fetchrow("SELECT * FROM superevents WHERE superevent_id = 'S1'")
    assert before is not None
    assert dict(before) == {
        "superevent_id": "S1",
        "kind": "REAL",
        "is_test": False,
        "state": "OPEN",
        "alert_type": "UPDATE",
        "alert_count": 2,
        "event_time": BEGIN + timedelta(seconds=0.5),
        "updated_at": BEGIN + timedelta(minutes=5, seconds=31),
        "far_hz": 1e-9,
        "significant": True,
        "search_group": "CBC",
        "pipeline": "gstlal",
        "source_class": "NSBH",
        "source_probability": 0.7,
        "area_50_deg2": 25.0,
        "area_90_deg2": 100.0,
        "distance_mean_mpc": None,
        "distance_std_mpc": None,
        "folded_id": "s1",
    }
    await tell(pool, "S1", 3, "RETRACTION", BEGIN + timedelta(hours=1), None)
    async with unit_of_work(pool) as work:
        await gather_one("S1", work)
    after = await pool.fetchrow("SELECT * FROM superevents WHERE superevent_id = 'S1'")
    assert after is not None
    changed = {name for name in after.keys() if after[name] != before[name]}  # noqa: SIM118  (a Record's own)
    assert changed == {"state", "alert_type", "alert_count", "updated_at"}
    assert (after["state"], after["alert_type"]) == ("RETRACTED", "RETRACTION")


async def test_a_retraction_that_is_all_one_heard_of_makes_a_line(pool: asyncpg.Pool) -> None:
    await tell(pool, "S2", 1, "RETRACTION", BEGIN, None)
    await gather_all(pool)
    line = await pool.fetchrow("SELECT * FROM superevents")
    assert line is not None
    assert (line["event_time"], line["state"], line["far_hz"], line["source_class"]) == (BEGIN, "RETRACTED", None, None)


async def test_gathering_again_writes_nothing_and_takes_texts_of_any_length(pool: asyncpg.Pool) -> None:
    noise = "".join(random.Random(1).choices("abcdefghij0123456789<>", k=10_000))
    await tell(pool, "S3", 1, "UPDATE", BEGIN, an_event(group=noise, pipeline=noise, classification={noise: 1.0}))
    await gather_all(pool)
    before = await pool.fetchrow("SELECT xmin::text, * FROM superevents")
    await asyncio.gather(*(gather_all(pool) for _ in range(3)))
    assert await pool.fetchrow("SELECT xmin::text, * FROM superevents") == before
    assert before is not None
    assert before["search_group"] == noise[:200]
