"""Whatever comes first, wave or burst: the same pairs, scores and announcements, on a real database."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cli.migrate import history
from services.coincidence.settings import NAME, CoincidenceSection, WaveClassSection
from shared.db import migrations
from shared.db.pool import create_pool
from shared.events.frb import FrbStatus
from shared.events.gw import AlertType, MapKind
from shared.events.mma import CoincidenceType, CoincidenceWindow
from shared.events.record import Event
from shared.settings import DatabaseSettings
from tests.support.coincidence import POSITION, HandlerUnderTest, a_burst_record, a_skymap_record, a_wave_map, an_alert

INITIAL, UPDATE, RETRACTION = CoincidenceType.INITIAL, CoincidenceType.UPDATE, CoincidenceType.RETRACTION


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[asyncpg.Pool]:
    metadata, versions = history(NAME)
    await migrations.upgrade(database_url, metadata=metadata, versions=versions)
    opened = await create_pool(DatabaseSettings.model_validate({"url": database_url, "pool_size": 4}), NAME)
    yield opened
    await opened.close()


@pytest.fixture
def tried(pool: asyncpg.Pool, tmp_path: Path) -> HandlerUnderTest:
    return HandlerUnderTest(pool, tmp_path)


def told(records: list[Any]) -> list[tuple[CoincidenceType, int]]:
    return [(record.coincidence_type, record.revision) for record in records]


async def test_a_burst_after_its_wave_is_announced_with_both_parents(tried: HandlerUnderTest) -> None:
    alert = an_alert()
    skymap = a_skymap_record(alert, a_wave_map(), blobs=tried.blobs)

    await tried.take(alert, skymap, a_burst_record())

    (record,) = await tried.told()
    assert (record.coincidence_id, record.coincidence_type, record.revision) == ("S261121ab-7", INITIAL, 1)
    assert (record.wave.alert_event_id, record.wave.skymap_event_id) == (alert.event_id, skymap.event_id)
    assert record.burst.revision == 1
    assert record.scores is not None
    assert record.scores.window is CoincidenceWindow.NARROW
    assert record.scores.time_offset_s == 3.0
    assert (record.scores.overlap_sky or 0) > 100
    assert (record.scores.credible_level or 1) < 0.1
    assert record.scores.combined_skymap is not None
    assert await tried.pool.fetchval("SELECT count(*) FROM outbox WHERE key = 'S261121ab-7'") == 1


async def test_a_wave_after_its_burst_gives_the_same(tried: HandlerUnderTest, tmp_path: Path) -> None:
    alert = an_alert()
    skymap = a_skymap_record(alert, a_wave_map(), blobs=tried.blobs)
    await tried.take(alert, skymap, a_burst_record())
    (first,) = await tried.told()
    await tried.pool.execute("TRUNCATE waves, bursts, pairs, history, map_cells, outbox, inbox")

    await tried.take(a_burst_record(), skymap, alert)

    (second,) = await tried.told()
    ignored = {"decided_at", "gcn_notice"}
    assert second.model_dump(exclude=ignored) == first.model_dump(exclude=ignored)


async def test_an_update_of_either_parent_is_told_and_a_vote_is_not(tried: HandlerUnderTest) -> None:
    alert = an_alert()
    await tried.take(alert, a_skymap_record(alert, a_wave_map(), blobs=tried.blobs), a_burst_record())

    await tried.take(a_burst_record(revision=2))  # nothing that matters is new
    update = an_alert(AlertType.UPDATE, minute=9)
    await tried.take(a_burst_record(revision=3, error_deg=0.5))
    await tried.take(a_skymap_record(update, a_wave_map(error_deg=2.0), blobs=tried.blobs), update)

    records = await tried.told()
    assert told(records) == [(INITIAL, 1), (UPDATE, 2), (UPDATE, 3), (UPDATE, 4)]
    first, *_, last = [record.scores.overlap_sky or 0.0 for record in records if record.scores]
    assert last > 3 * first
    assert records[-1].wave.alert_event_id == update.event_id
    assert await tried.pool.fetchval("SELECT count(DISTINCT map_id) FROM map_cells") == 1


async def test_a_retracted_wave_and_a_withdrawn_burst_leave_nothing_open(tried: HandlerUnderTest) -> None:
    alert = an_alert()
    await tried.take(alert, a_skymap_record(alert, a_wave_map(), blobs=tried.blobs))
    await tried.take(a_burst_record(frb_id=1), a_burst_record(frb_id=2))

    await tried.take(a_burst_record(frb_id=1, revision=2, status=FrbStatus.WITHDRAWN, status_reason="a mistake"))
    retraction = an_alert(AlertType.RETRACTION, minute=20)
    await tried.take(retraction, a_skymap_record(retraction, None, blobs=tried.blobs))

    records = await tried.told()
    assert [(record.burst.frb_id, record.coincidence_type) for record in records] == [
        (1, INITIAL), (2, INITIAL), (1, RETRACTION), (2, RETRACTION)
    ]  # fmt: skip
    assert [record.reason for record in records[2:]] == ["the burst was withdrawn: a mistake", "the wave was retracted"]
    assert await tried.pool.fetchval("SELECT count(*) FROM pairs WHERE is_open") == 0
    assert await tried.pool.fetchval("SELECT count(*) FROM map_cells") == 0
    # The retraction comes twice, by the alert and by the map; it is decided once.
    states = await tried.pool.fetch("SELECT state FROM history WHERE frb_id = 2 ORDER BY id")
    assert [row["state"] for row in states] == ["ANNOUNCED", "WITHDRAWN"]


async def test_a_rejected_burst_that_is_taken_up_again_is_announced_anew(tried: HandlerUnderTest) -> None:
    alert = an_alert()
    await tried.take(alert, a_skymap_record(alert, a_wave_map(), blobs=tried.blobs), a_burst_record())

    await tried.take(a_burst_record(revision=2, status=FrbStatus.REJECTED))
    await tried.take(a_burst_record(revision=3, status=FrbStatus.CONFIRMED))

    assert told(await tried.told()) == [(INITIAL, 1), (RETRACTION, 2), (INITIAL, 3)]


@pytest.mark.parametrize(
    ("burst", "reason"),
    [
        ({"position": (10.0, 40.0)}, "the overlap of the positions, 0, is below 1; the positions exclude each other"),
        ({"dm_excess_pc_cm3": 2500.0}, "the overlap with the distances, "),
        ({"position": None}, "the burst has no position"),
        ({"repeater": True}, "the burst is of a known repeater"),
        ({"importance": 0.1}, "upload gives the burst importance 0.1, below 0.5"),
    ],
)
async def test_a_pair_that_is_not_announced_is_kept_with_the_reason(
    tried: HandlerUnderTest, burst: dict[str, Any], reason: str
) -> None:
    alert = an_alert()
    await tried.take(alert, a_skymap_record(alert, a_wave_map(), blobs=tried.blobs), a_burst_record(**burst))

    pair = await tried.pair()
    assert pair is not None
    assert (pair["state"], pair["is_open"]) == ("NOT_ANNOUNCED", False)
    assert pair["reason"].startswith(reason)
    assert await tried.told() == []


async def test_a_wave_without_a_map_waits_for_it(tried: HandlerUnderTest) -> None:
    await tried.take(an_alert(), a_burst_record())

    pair = await tried.pair()
    assert pair is not None
    assert pair["reason"] == "the wave has no sky map yet"
    assert json.loads(pair["scores"])["far_time_hz"] > 0


async def test_the_threshold_is_a_setting(pool: asyncpg.Pool, tmp_path: Path) -> None:
    strict = HandlerUnderTest(pool, tmp_path, CoincidenceSection(cbc=WaveClassSection(max_far_per_year=1e-12)))
    alert = an_alert()
    await strict.take(alert, a_skymap_record(alert, a_wave_map(), blobs=strict.blobs), a_burst_record())

    pair = await strict.pair()
    assert pair is not None
    assert "the joint false-alarm rate with trials" in pair["reason"]


@pytest.mark.parametrize(
    ("group", "offset_s", "window"),
    [
        ("CBC", 9.0, "NARROW"), ("CBC", -1.5, "NARROW"), ("CBC", -3.0, "WIDE"), ("CBC", 8985.6, "WIDE"),
        ("CBC", 90_000.0, None), ("CBC", -7300.0, None),
        ("Burst", 599.0, "NARROW"), ("Burst", -119.0, "NARROW"), ("Burst", -130.0, "WIDE"),
    ],
)  # fmt: skip
async def test_windows_are_those_of_the_class(
    tried: HandlerUnderTest, group: str, offset_s: float, window: str | None
) -> None:
    alert = an_alert(group=group, classification={})
    await tried.take(alert, a_skymap_record(alert, a_wave_map(), blobs=tried.blobs), a_burst_record(offset_s=offset_s))

    pair = await tried.pair()
    assert (pair and json.loads(pair["scores"])["window"]) == window


async def test_test_traffic_meets_test_traffic_only(tried: HandlerUnderTest) -> None:
    mock = an_alert(superevent_id="MS261121ab")
    await tried.take(mock, a_skymap_record(mock, a_wave_map(), blobs=tried.blobs))

    await tried.take(a_burst_record(frb_id=1), a_burst_record(frb_id=2, is_test=True))

    (record,) = await tried.told()
    assert (record.burst.frb_id, record.is_test) == (2, True)


async def test_combined_maps_of_others_change_nothing(tried: HandlerUnderTest) -> None:
    alert = an_alert()
    await tried.take(alert, a_skymap_record(alert, a_wave_map(), blobs=tried.blobs), a_burst_record())

    await tried.take(a_skymap_record(alert, a_wave_map(error_deg=1.0), blobs=tried.blobs, kind=MapKind.COMBINED))

    assert told(await tried.told()) == [(INITIAL, 1)]


def story(tried: HandlerUnderTest) -> list[Event]:
    """Two superevents and two bursts, updated, one of each taken back."""
    records: list[Event] = []
    for superevent, retracted in (("S261121ab", False), ("S261121cd", True)):
        for minute, (stage, error_deg) in enumerate(
            [(AlertType.PRELIMINARY, 6.0), (AlertType.INITIAL, 4.0), (AlertType.UPDATE, 3.0)]
        ):
            alert = an_alert(stage, superevent_id=superevent, minute=minute, far_hz=1e-10 / (1 + minute))
            records += [alert, a_skymap_record(alert, a_wave_map(error_deg=error_deg), blobs=tried.blobs)]
        if retracted:
            retraction = an_alert(AlertType.RETRACTION, superevent_id=superevent, minute=9)
            records += [retraction, a_skymap_record(retraction, None, blobs=tried.blobs)]
    records += [a_burst_record(frb_id=1), a_burst_record(frb_id=1, revision=2, error_deg=0.3)]
    records += [a_burst_record(frb_id=2), a_burst_record(frb_id=2, revision=2, status=FrbStatus.WITHDRAWN)]
    records += [a_burst_record(frb_id=3, position=(POSITION[0] + 30, POSITION[1]))]
    return records


async def final_state(tried: HandlerUnderTest, records: list[Event]) -> tuple[list[Any], list[Any]]:
    """What the pairs are after records in this order, and which of them are open on the topic."""
    await tried.pool.execute("TRUNCATE waves, bursts, pairs, history, map_cells, outbox, inbox")
    await tried.take(*records)
    pairs = await tried.pool.fetch(
        "SELECT superevent_id, frb_id, state, reason, scores - 'combined_skymap' AS scores, alert_event_id, map_id,"
        " burst_revision, is_open FROM pairs ORDER BY 1, 2"
    )
    last = {record.coincidence_id: record for record in await tried.told()}
    open_records = [
        record.model_dump(exclude={"event_id", "revision", "coincidence_type", "decided_at", "gcn_notice"})
        for _, record in sorted(last.items())
        if record.coincidence_type is not RETRACTION
    ]
    return [tuple(pair) for pair in pairs], open_records


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(data=st.data())
async def test_every_order_of_arrival_ends_in_the_same_state(tried: HandlerUnderTest, data: st.DataObject) -> None:
    records = story(tried)
    expected = await final_state(tried, records)
    assert [pair[2] for pair in expected[0]] == [
        "ANNOUNCED", "WITHDRAWN", "NOT_ANNOUNCED", "WITHDRAWN", "WITHDRAWN", "WITHDRAWN"
    ]  # fmt: skip
    assert len(expected[1]) == 1

    shuffled = data.draw(st.permutations(range(len(records))))

    assert await final_state(tried, [records[place] for place in shuffled]) == expected
