"""The page Now: what happened is there, what happens comes, and tests can be told from what is real."""

import re

import pytest

from services.console import bursts
from services.console.happenings import line_of
from services.console.now import Fresh
from services.console.pages import superevents
from shared.events.frb import FrbEvent
from shared.schema.codec import decode
from tests.support.browser import Visit
from tests.support.console import MERGER, REAL_EVENT, ConsoleUnderTest
from tests.support.runtime import eventually

FEED = "ul.feed"


def lines_of(page: str) -> list[str]:
    return re.findall(r'<li class="line.*?</li>', page, re.DOTALL)


def keys_of(page: str) -> list[str]:
    return re.findall(r'data-line="(\w+)"', page)


def test_what_happened_is_there_in_order(console: ConsoleUnderTest) -> None:
    console.submit()
    page = console.browser().get("/").text
    times = re.findall(r'<time class="age" datetime="([^"]+)"', page)
    assert times == sorted(times, reverse=True)
    found = lines_of(page)
    assert 0 < len(found) <= 50
    assert len(set(keys_of(page))) == len(found)


def test_each_kind_of_happening_has_lines(console: ConsoleUnderTest) -> None:
    # The notices of the mock merger may have pushed its alerts out; those of the real event are among the others.
    page = console.browser().get("/").text + console.browser().get("/?tests=hide").text
    for kind in ("alert", "skymap", "burst", "coincidence", "notice"):
        assert f'data-kind="{kind}"' in page, kind
    assert f'<a href="/mma/{MERGER}-{console.partner_id}">' in page


def test_a_line_of_the_page_is_the_line_of_the_feed(console: ConsoleUnderTest) -> None:
    burst_id = console.submit()
    records = [message for message, record in console.system.records("frb.events") if record["frb_id"] == burst_id]
    line = line_of(decode(records[0].value, FrbEvent))
    assert line is not None
    assert line.key in keys_of(console.browser().get("/").text)


def test_test_traffic_is_marked_and_can_be_hidden(console: ConsoleUnderTest) -> None:
    browser = console.browser()
    shown, hidden = browser.get("/").text, browser.get("/?tests=hide").text
    of_merger = [line for line in lines_of(shown) if MERGER in line]
    assert of_merger
    assert all('<span class="badge test">test</span>' in line for line in of_merger)
    assert not any(MERGER in line or "badge test" in line for line in lines_of(hidden))
    assert any(REAL_EVENT in line for line in lines_of(hidden))
    assert '<a href="/?tests=hide">Hide it</a>' in shown
    assert '<a href="/">Show it</a>' in hidden
    assert 'hx-get="/?tests=hide"' in hidden


def test_what_happened_is_counted_with_tests_apart(console: ConsoleUnderTest) -> None:
    table = console.browser().get("/").text.partition("What happened lately")[2].partition("</table>")[0]
    rows = dict(re.findall(r'<a href="/\S*">(\w+)</a>.*?</th>(.*?)</tr>', table, re.DOTALL))
    assert rows.keys() == {"Alerts", "Bursts", "Coincidences", "Notices"}
    alerts = re.findall(r'<td class="number">(\d+) <span class="badge test">\+(\d+) test</span></td>', rows["Alerts"])
    assert len(alerts) == 3
    assert all(int(real) >= 1 and int(test) >= 5 for real, test in alerts)
    assert re.findall(r"\+\d+ test", rows["Coincidences"])


def test_steps_are_timed(console: ConsoleUnderTest) -> None:
    table = console.browser().get("/").text.partition("How long each step took")[2].partition("</table>")[0]
    parsed = table.partition("Received to sky map parsed")[2].partition("</tr>")[0]
    figures = re.findall(r'<span class="num">([\d.]+)<', parsed)
    assert len(figures) == 2
    assert 0 < float(figures[0]) <= float(figures[1]) < 120
    # The samples were made years ago.
    assert "not known" in table.partition("Alert sent to received")[2].partition("</tr>")[0]


def test_every_explanation_that_a_page_points_to_is_there(console: ConsoleUnderTest) -> None:
    browser = console.browser()
    anchors = set(re.findall(r'\sid="([^"]+)"', browser.get("/help").text))
    pages = ["/", "/gw", f"/gw/{MERGER}", "/frb", f"/frb/{console.burst_id}", "/mma"]
    pages += [f"/mma/{MERGER}-{console.partner_id}", "/system", "/system/deliveries"]
    wanted = {
        (path, anchor) for path in pages for anchor in re.findall(r'href="/help#([^"]+)"', browser.get(path).text)
    }
    assert {(path, anchor) for path, anchor in wanted if anchor not in anchors} == set()
    assert wanted


def test_no_two_explanations_share_a_place(console: ConsoleUnderTest) -> None:
    found = re.findall(r'\sid="([^"]+)"', console.browser().get("/help").text)
    assert sorted(found) == sorted(set(found))


def test_each_column_is_explained(console: ConsoleUnderTest) -> None:
    page = console.browser().get("/help").text
    for name in (*(column.name for column in superevents.COLUMNS), *(column.name for column in bursts.COLUMNS)):
        assert f">{name}</dt><dd>" in page, name


@pytest.mark.parametrize("tests", ["", "show", "<script>", "hide" * 5000])
def test_what_the_choice_does_not_know_shows_all(console: ConsoleUnderTest, tests: str) -> None:
    answer = console.browser().get("/", params={"tests": tests})
    assert answer.status_code == 200
    assert "Hide it" in answer.text
    assert "<script>" not in answer.text


async def test_figures_are_found_out_once_for_all_who_ask_meanwhile() -> None:
    asked, now = 0, 0.0

    async def find() -> int:
        nonlocal asked
        asked += 1
        return asked

    fresh: Fresh[int] = Fresh(find, fresh_s=5, clock=lambda: now)
    assert [await fresh.get() for _ in range(3)] == [1, 1, 1]
    now = 6.0
    assert await fresh.get() == 2


def test_a_burst_appears_without_a_reload_and_once(console: ConsoleUnderTest, visit: Visit) -> None:
    window = visit()
    window.open("/")
    window.is_live()
    window.mark()
    burst_id = console.submit()
    window.waits_for(f'{FEED} a[href="/frb/{burst_id}"]')
    keys = window.evaluate("[...document.querySelectorAll('[data-line]')].map((each) => each.dataset.line)")
    assert len(keys) == len(set(keys))
    assert window.is_the_same
    # A screen reader is told in one sentence, some seconds later.
    window.sees("New: ", within="#feed-news")


def test_tests_that_come_stay_hidden(console: ConsoleUnderTest, visit: Visit) -> None:
    window = visit()
    window.open("/")
    window.click("Hide it", "link")
    window.is_at(re.compile(r"\?tests=hide$"))
    window.is_live()
    hidden_id = console.submit(is_test=True)
    shown_id = console.submit()
    window.waits_for(f'{FEED} a[href="/frb/{shown_id}"]')
    assert f"burst {hidden_id}" not in window.text(FEED)
    window.click("Show it", "link")
    window.waits_for(f'{FEED} a[href="/frb/{hidden_id}"]')


def test_a_page_that_missed_too_much_loads_its_lines_anew(console: ConsoleUnderTest, visit: Visit) -> None:
    window = visit()
    window.open("/")
    window.is_live()
    window.mark()
    window.evaluate("document.querySelectorAll('ul.feed li').forEach((each) => each.remove())")
    assert window.count(f"{FEED} li") == 0
    window.evaluate("place = 'deadbeef-1'; feed.rest(); feed.wake(); true")
    eventually(lambda: window.count(f"{FEED} li") > 0, "the lines again", deadline_s=20)
    assert window.is_the_same
    window.is_live()


def test_a_hidden_page_gives_its_connection_back_and_misses_nothing(console: ConsoleUnderTest, visit: Visit) -> None:
    window = visit()
    window.open("/")
    window.is_live()
    # As the browser says it when another tab is chosen, after the time that a page then waits.
    window.evaluate(
        "Object.defineProperty(document, 'hidden', {get: () => window.isHidden ?? false}); window.isHidden = true;"
        " feed.rest(); true"
    )
    burst_id = console.submit()
    window.evaluate("window.isHidden = false; document.dispatchEvent(new Event('visibilitychange')); true")
    window.waits_for(f'{FEED} a[href="/frb/{burst_id}"]')
    window.is_live()
