"""Coincidences: the table of pairs, the page of each, and what a withdrawal does to it."""

from __future__ import annotations

import csv
import io
import re
from typing import Any

import pytest

from services.coincidence.settings import CoincidenceSection
from tests.support.browser import Visit
from tests.support.console import CLOSE_BY, MERGER, ConsoleUnderTest
from tests.support.frb_intake import EVENTS
from tests.support.runtime import eventually

REASON = "a bird, & nothing else"


def a_pair(console: ConsoleUnderTest, **changes: Any) -> str:
    """Have a burst of this test's own compared with the mock merger, and return the pair's name."""
    burst = console.submit(**CLOSE_BY | {"is_test": True} | changes)
    eventually(lambda: pairs(console, burst), "the pair decided")
    return f"{MERGER}-{burst}"


def pairs(console: ConsoleUnderTest, burst: int) -> list[Any]:
    return console.system.rows(f"SELECT state, is_open FROM coincidence.pair_lines WHERE frb_id = {burst}")


def withdraw(console: ConsoleUnderTest, name: str, reason: str) -> None:
    burst = int(name.split("-")[1])
    client = console.intake.client(console.add_user())
    answer = client.post(f"{EVENTS}/{burst}/withdrawal", json={"reason": reason})
    assert answer.status_code == 201, answer.text
    eventually(lambda: pairs(console, burst)[0]["state"] == "WITHDRAWN", "the pair withdrawn")


def drawn(console: ConsoleUnderTest, name: str) -> str:
    """The page once its drawings are there."""
    client = console.browser()
    texts: list[str] = []

    def is_drawn() -> bool:
        texts.append(client.get(f"/mma/{name}").text)
        return "being drawn" not in texts[-1]

    eventually(is_drawn, "the drawings made", deadline_s=60)
    return texts[-1]


def names_in(page: str) -> list[str]:
    return re.findall(r'id="to-([^"]+)"', page)


def test_the_table_tells_of_every_pair_what_came_of_it(console: ConsoleUnderTest) -> None:
    page = console.browser().get("/mma", params={"burst": console.partner_id})

    assert page.status_code == 200
    assert names_in(page.text) == [f"{MERGER}-{console.partner_id}"]
    assert "announced" in page.text
    assert '<span class="badge test">test</span>' in page.text
    assert "joint false-alarm rate" in page.text
    assert 'aria-sort="descending"' in page.text


def test_filters_leave_out_what_is_not_asked_for(console: ConsoleUnderTest) -> None:
    name = f"{MERGER}-{console.partner_id}"
    client = console.browser()

    for kept in (
        {"superevent": MERGER}, {"state": "ANNOUNCED"}, {"announced": "yes"}, {"test": "yes"}, {"odds_min": "1"},
        {"since": "2018-11-01T22:00", "until": "2018-11-01T23:00"}, {"sort": "odds"}, {"sort": "far", "order": "asc"},
        {"sort": "time"}, {"state": "", "burst": ""},
    ):  # fmt: skip
        assert name in names_in(client.get("/mma", params=kept).text), kept
    others: tuple[dict[str, str | int], ...] = (
        {"superevent": "S1"}, {"state": "OUTSIDE"}, {"announced": "no", "burst": console.partner_id}, {"test": "no"},
        {"odds_min": "1e300"}, {"since": "2018-11-02"}, {"until": "2018-11-01T22:22"},
    )  # fmt: skip
    for left_out in others:
        page = client.get("/mma", params=left_out)
        assert name not in names_in(page.text), left_out
        assert page.status_code == 200
    assert "No pair matches" in client.get("/mma", params={"superevent": "S1"}).text


@pytest.mark.parametrize("sort", ["decided", "time", "odds", "far"])
@pytest.mark.parametrize("order", ["asc", "desc"])
def test_a_file_holds_all_pairs_in_the_order_of_the_table(console: ConsoleUnderTest, sort: str, order: str) -> None:
    client, asked = console.browser(), {"sort": sort, "order": order, "superevent": MERGER}

    told = client.get("/mma/export", params=asked | {"format": "json"}).json()
    text = client.get("/mma/export", params=asked | {"format": "csv"}).text

    assert [line["coincidence_id"] for line in told] == names_in(client.get("/mma", params=asked).text)
    assert [row["coincidence_id"] for row in csv.DictReader(io.StringIO(text))] == [
        line["coincidence_id"] for line in told
    ]
    column = {"decided": "decided_at", "time": "event_time", "odds": "odds", "far": "far_space_time_hz"}[sort]
    values = [line[column] for line in told]
    assert values == sorted(values, reverse=order == "desc")


@pytest.mark.parametrize(
    "address",
    ["/mma?since=x", "/mma?odds_min=nan", "/mma?odds_min=-1", "/mma?state=x", "/mma?after=x", "/mma?burst=1e99",
     "/mma?superevent=%00", "/mma?unknown=1", "/mma?since=0001-01-01", "/mma/export?format=xml"],
)  # fmt: skip
def test_what_cannot_be_asked_is_a_page_that_says_so(console: ConsoleUnderTest, address: str) -> None:
    answer = console.browser().get(address)

    assert 400 <= answer.status_code < 500
    assert "<main" in answer.text


@pytest.mark.parametrize("name", ["x", "S1-1", f"{MERGER}-99999999999999999999", "S1-1%00", "-", "S1-%3Cscript%3E"])
def test_a_pair_that_never_was_is_a_page_that_says_so(console: ConsoleUnderTest, name: str) -> None:
    answer = console.browser().get(f"/mma/{name}")

    assert answer.status_code == 404
    assert "<script>" not in answer.text.replace("<script src=", "")


def test_the_page_shows_both_in_time_on_the_sky_and_in_distance(console: ConsoleUnderTest) -> None:
    page = drawn(console, f"{MERGER}-{console.partner_id}")

    for part in ("in time", "on the sky", "in distance"):
        assert re.search(rf'role="img" aria-labelledby="\w+-t \w+-d"><title id="\w+-t">\S+ {part}</title>', page), part
    assert 'class="region wave r90"' in page
    assert 'class="mark burst"' in page
    assert 'class="curve wave"' in page
    assert f'href="/gw/{MERGER}"' in page
    assert f'href="/frb/{console.partner_id}"' in page
    for unknown in (">None<", ">nan<", ">inf<"):
        assert unknown not in page


def test_every_number_has_its_meaning_and_its_help(console: ConsoleUnderTest) -> None:
    name = f"{MERGER}-{console.partner_id}"
    page = console.browser().get(f"/mma/{name}").text
    record = console.browser().get(f"/mma/{name}/record.json").json()

    # Both ends of a range, and a value and its error, are one number.
    joined = {"time_offset_err_s": "time_offset_s", "window_low_s": "window", "window_high_s": "window",
              "wave_distance_mean_mpc": "wave_distance_mpc", "wave_distance_std_mpc": "wave_distance_mpc",
              "burst_distance_low_mpc": "burst_distance_mpc",
              "burst_distance_high_mpc": "burst_distance_mpc"}  # fmt: skip
    fields = {joined.get(field, field) for field in record["scores"]} - {"combined_skymap"}
    assert fields == set(re.findall(r'href="/help#mma-(\w+)"', page))


def test_the_page_says_by_which_rules_it_was_decided(console: ConsoleUnderTest) -> None:
    page = console.browser().get(f"/mma/{MERGER}-{console.partner_id}").text
    rules = CoincidenceSection()

    assert f"at most {rules.cbc.max_far_per_year:.3g} per yr" in page
    low, high = rules.cbc.wide_s
    assert f"wide: \N{MINUS SIGN}{high:g} to +{-low:g} s" in page
    assert '<span class="badge bad">no</span>' not in page


def test_what_was_told_can_be_taken_along(console: ConsoleUnderTest) -> None:
    client, name = console.browser(), f"{MERGER}-{console.partner_id}"

    notice = client.get(f"/mma/{name}/notice.json")
    combined = client.get(f"/mma/{name}/combined.fits")

    assert notice.json()["id"] == name
    assert notice.headers["content-disposition"] == f'attachment; filename="{name}-notice.json"'
    assert combined.content.startswith(b"SIMPLE")


def test_notices_about_the_pair_are_listed(console: ConsoleUnderTest) -> None:
    page = console.browser().get(f"/mma/{MERGER}-{console.partner_id}").text

    told = page[page.index("Notices about this pair") :]
    assert "webhook" in told
    assert "confirmed" in told


def test_a_burst_far_away_is_not_announced_and_the_page_says_why(console: ConsoleUnderTest) -> None:
    name = a_pair(console, ra=10.0, dec=60.0)

    page = drawn(console, name)

    assert "Why it is not announced" in page
    assert "the overlap of the positions" in page
    assert '<span class="badge bad">no</span>' in page
    assert "Nothing was told of this pair" in page
    assert console.browser().get(f"/mma/{name}/record.json").status_code == 404


def test_a_withdrawal_turns_the_page_without_loading_it_anew(console: ConsoleUnderTest, visit: Visit) -> None:
    name = a_pair(console)
    window = visit()
    window.open(f"/mma/{name}")
    window.sees("Why it is announced")
    window.is_live()
    window.mark()

    withdraw(console, name, REASON)

    window.sees("Retracted.", '[role="alert"]')
    window.sees(REASON, ".reasons")
    window.sees("announced to withdrawn")
    window.sees("these numbers are of the one before")
    assert window.is_the_same


def test_every_decision_is_kept_with_what_changed(console: ConsoleUnderTest) -> None:
    name = a_pair(console)
    withdraw(console, name, "the clock was wrong")

    page = console.browser().get(f"/mma/{name}").text

    history = page[page.index("Every decision") :]
    assert history.index("burst revision 1 to 2; announced to withdrawn; scores no longer counted") < history.index(
        "first decision"
    )
    assert "the clock was wrong" in history
    assert "retraction" in history
    lines = console.browser().get("/mma", params={"burst": name.split("-")[1]}).text
    assert "withdrawn" in lines
