"""What an operator reads of pairs, and decides anew."""

import asyncio
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from cli.coincidence.app import app
from cli.coincidence.reading import score_lines
from cli.migrate import history
from services.coincidence.settings import NAME
from shared.db import migrations
from shared.db.pool import create_pool
from shared.events.frb import FrbStatus
from shared.settings import DatabaseSettings
from shared.sky.skymap import read_skymap
from tests.support.coincidence import HandlerUnderTest, a_burst_record, a_skymap_record, a_wave_map, an_alert


@pytest.fixture(autouse=True)
def _pairs(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One announced, one not, one withdrawn."""
    monkeypatch.setenv("TOCSIN_DATABASE__URL", database_url)
    monkeypatch.setenv("TOCSIN_BLOBS__URL", str(tmp_path / "blobs"))

    async def three(tried: HandlerUnderTest) -> None:
        alert = an_alert()
        await tried.take(alert, a_skymap_record(alert, a_wave_map(), blobs=tried.blobs))
        await tried.take(a_burst_record(frb_id=1), a_burst_record(frb_id=2, repeater=True), a_burst_record(frb_id=3))
        await tried.take(a_burst_record(frb_id=3, revision=2, status=FrbStatus.WITHDRAWN))

    async def prepared() -> None:
        metadata, versions = history(NAME)
        await migrations.upgrade(database_url, metadata=metadata, versions=versions)
        pool = await create_pool(DatabaseSettings.model_validate({"url": database_url}), NAME)
        try:
            await three(HandlerUnderTest(pool, tmp_path / "blobs"))
        finally:
            await pool.close()

    asyncio.run(prepared())


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_list_shows_what_stands_and_with_all_what_does_not_and_why() -> None:
    stands = json.loads(run("list", "--json").stdout)
    every = json.loads(run("list", "--all", "--json").stdout)

    assert [row["coincidence_id"] for row in stands] == ["S261121ab-1"]
    assert {row["coincidence_id"]: row["state"] for row in every} == {
        "S261121ab-1": "ANNOUNCED", "S261121ab-2": "NOT_ANNOUNCED", "S261121ab-3": "WITHDRAWN",
    }  # fmt: skip
    text = run("list", "--all").stdout
    assert max(map(len, text.splitlines())) <= 120
    assert "the burst is of a known repeater" in text
    assert "the burst was withdrawn" in text


@pytest.mark.parametrize(
    ("options", "bursts"),
    [
        (["--burst", "2", "--all"], [2]),
        (["--state", "withdrawn"], [3]),
        (["--superevent", "S000000a", "--all"], []),
        (["--test", "--all"], []),
        (["--since", "2020-01-01", "--all", "--limit", "1"], [None]),
        (["--since", "2200-01-01T00:00:00+02:00", "--all"], []),
    ],
)
def test_the_list_is_filtered(options: list[str], bursts: list[int | None]) -> None:
    rows = json.loads(run("list", *options, "--json").stdout)

    assert len(rows) == len(bursts)
    assert all(expected in (None, row["frb_id"]) for row, expected in zip(rows, bursts, strict=True))


def test_a_pair_is_shown_with_its_scores_lineage_and_files(tmp_path: Path) -> None:
    page = run("show", "S261121ab-1").stdout
    facts = json.loads(run("show", "S261121ab-1", "--json").stdout)
    notice = json.loads(run("show", "S261121ab-1", "--notice").stdout)
    run("show", "S261121ab-1", "--map", tmp_path / "combined.fits")

    for words in (
        "announced",
        "TEST-FRB-1, upload",
        "burst less wave",
        "3.000 s",
        "with the distances",
        "none simulated",
        "GCN notice",
        facts["alert_event_id"],
        facts["map_id"],
    ):
        assert words in page
    assert facts["scores"]["time_offset_s"] == 3.0
    assert [each["told_as"] for each in facts["history"]] == ["1"]
    assert notice["alert_type"] == "initial"
    assert read_skymap((tmp_path / "combined.fits").read_bytes()).probability.sum() == pytest.approx(1)


def test_a_pair_that_no_longer_holds_shows_what_took_it_back_and_the_notice_of_that() -> None:
    page = run("show", "S261121ab-3").stdout
    notice = json.loads(run("show", "S261121ab-3", "--notice").stdout)

    assert page.startswith("S261121ab-3  withdrawn\n  the burst was withdrawn")
    assert [line.split()[1:3] for line in page.splitlines()[-2:]] == [["announced", "1"], ["withdrawn", "2"]]
    assert "Scores" not in page
    assert notice["alert_type"] == "retraction"


def test_a_background_is_shown_with_its_interval_and_what_it_was_counted_from() -> None:
    counted = {
        "rate_per_year": 0.25, "rate_low_per_year": 0.2, "rate_high_per_year": 0.3125, "n_louder": 25, "years": 100.0,
    }  # fmt: skip

    assert "0.25 per year (68 %: 0.2 to 0.3125; 25 in 100 yr)" in "\n".join(score_lines({"background": counted}))


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["show", "S261121ab-9"], "expected a pair that was considered"),
        (["show", "nonsense"], "expected a superevent and a burst's number"),
        (["show", "S261121ab-99999999999999999999"], "expected a superevent and a burst's number"),
        (["show", "S261121ab-1", "--map", "/nowhere/combined.fits"], "expected a file that can be written"),
        (["show", "S261121ab-2", "--notice"], "expected one that is announced"),
        (["rescore"], "expected superevents, or --all"),
        (["rescore", "S000000a"], "expected one with pairs"),
    ],
)
def test_bad_input_is_told_in_one_line(arguments: list[str], complaint: str) -> None:
    result = run(*arguments)

    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert complaint in result.stderr


def test_deciding_anew_under_other_settings_tells_what_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("rescore", "S261121ab").stdout == ""

    monkeypatch.setenv("TOCSIN_COINCIDENCE__ANNOUNCE_REPEATERS", "true")
    told = run("rescore", "--all")

    reason = json.loads(run("show", "S261121ab-2", "--json").stdout)["reason"]
    assert told.stdout == f"S261121ab-2: not announced -> announced, told as revision 1: {reason}\n"
    assert len(json.loads(run("list", "--json").stdout)) == 2
