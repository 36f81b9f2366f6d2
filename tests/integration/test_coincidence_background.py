"""The simulated background: on all cores, kept by the chunk, gone on with, and told beside every pair."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from cli.coincidence.background import CATALOGUE, plan, read_population, simulate
from cli.database import fetch
from cli.migrate import history
from services.coincidence.settings import NAME
from services.coincidence.slides import CHUNK_SLIDES
from shared.db import migrations
from shared.db.pool import create_pool
from shared.db.unit_of_work import unit_of_work
from shared.errors import InvalidInputError
from shared.settings import DatabaseSettings
from tests.support.coincidence import HandlerUnderTest, a_burst_record, a_skymap_record, a_wave_map, an_alert

YEARS = 200.0
# Of a hundred waves and 485 bursts a year: three chunks of the wide window, so three of the narrow one.


@pytest.fixture
def with_handler(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Callable[[HandlerUnderTest], Awaitable[None]]], None]:
    monkeypatch.setenv("TOCSIN_DATABASE__URL", database_url)
    monkeypatch.setenv("TOCSIN_BLOBS__URL", str(tmp_path))
    metadata, versions = history(NAME)
    asyncio.run(migrations.upgrade(database_url, metadata=metadata, versions=versions))

    @asynccontextmanager
    async def opened() -> AsyncIterator[HandlerUnderTest]:
        pool = await create_pool(DatabaseSettings.model_validate({"url": database_url}), NAME)
        try:
            yield HandlerUnderTest(pool, tmp_path)
        finally:
            await pool.close()

    def run(work: Callable[[HandlerUnderTest], Awaitable[None]]) -> None:
        async def inside() -> None:
            async with opened() as tried:
                await work(tried)

        asyncio.run(inside())

    return run


async def a_pair(tried: HandlerUnderTest) -> None:
    alert = an_alert()
    await tried.take(alert, a_skymap_record(alert, a_wave_map(), blobs=tried.blobs), a_burst_record())
    # Neither retracted waves nor tests are slid.
    mock = an_alert(superevent_id="MS261121ab")
    await tried.take(mock, a_skymap_record(mock, a_wave_map(), blobs=tried.blobs))


def test_a_background_is_gone_on_with_and_told_beside_every_pair(
    with_handler: Callable[[Callable[[HandlerUnderTest], Awaitable[None]]], None],
) -> None:
    with_handler(a_pair)
    population = read_population(CATALOGUE)
    assert [facts.superevent_id for facts, _ in population.waves] == ["S261121ab"]
    assert len(population.bursts) == 536
    todo, done = plan(population, years=YEARS)
    assert (len(todo), done) == (6, 0)

    assert simulate(population, todo[:2], done=0, workers=2) == 2
    rest, done = plan(population, years=YEARS)
    assert (len(rest), done) == (4, 2)
    simulate(population, rest, done=2, workers=2)

    assert plan(population, years=YEARS) == ([], 6)
    rows = fetch(
        "SELECT window_name, sum(n_slides)::int AS n, sum(years) AS years FROM coincidence.background GROUP BY 1"
    )
    assert {row["window_name"]: row["n"] for row in rows} == {"WIDE": 3 * CHUNK_SLIDES, "NARROW": 3 * CHUNK_SLIDES}
    assert next(row["years"] for row in rows if row["window_name"] == "WIDE") >= YEARS

    async def rescored(tried: HandlerUnderTest) -> None:
        async with unit_of_work(tried.pool) as work:
            assert await tried.handler.rescore("S261121ab", work) == 1
        told = (await tried.told())[-1]
        assert told.revision == 2
        assert told.scores is not None
        background = told.scores.background
        assert background is not None
        assert background.background_id == population.background_id
        assert background.rate_low_per_year <= background.rate_per_year <= background.rate_high_per_year
        # Three seconds, on the spot and at the right distance: chance does not do that in years.
        assert background.rate_per_year < 0.01

    with_handler(rescored)


def test_another_population_is_another_background(
    with_handler: Callable[[Callable[[HandlerUnderTest], Awaitable[None]]], None],
) -> None:
    with_handler(a_pair)
    before = read_population(CATALOGUE)

    async def one_more(tried: HandlerUnderTest) -> None:
        alert = an_alert(superevent_id="S261122xy")
        await tried.take(alert, a_skymap_record(alert, a_wave_map(error_deg=9.0), blobs=tried.blobs))

    with_handler(one_more)

    assert read_population(CATALOGUE).background_id != before.background_id


def test_without_waves_there_is_nothing_to_slide(
    with_handler: Callable[[Callable[[HandlerUnderTest], Awaitable[None]]], None],
) -> None:
    assert with_handler is not None
    with pytest.raises(InvalidInputError, match="stored waves is none with a sky map"):
        read_population(CATALOGUE)
