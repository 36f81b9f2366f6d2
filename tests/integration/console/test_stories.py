"""What people do in the console, as they do it: by reading, clicking and typing in a browser."""

from __future__ import annotations

import json
import re
import uuid
from datetime import UTC, datetime
from typing import Any

import httpx

from shared.inbox.dead_letters import PREFIX
from shared.testing.slack import SANDBOX, press
from tests.support.alerts import a_skymap, an_alert
from tests.support.browser import Visit, Window
from tests.support.console import ConsoleUnderTest
from tests.support.frb_intake import EVENTS, PASSWORD, a_burst
from tests.support.runtime import eventually, send

LISTENED, BURIED = "igwn.gwalert", "igwn.gwalert.dlq.gw_listener"


def test_somebody_logs_in_and_out_again(console: ConsoleUnderTest, visit: Visit) -> None:
    name = console.add_user("read")
    window = visit()

    assert window.open("/") == 200
    window.click("Log in", "link")
    log_in(window, name)
    window.sees(name, "header")
    window.is_live()

    window.click("Log out")
    window.sees("Log in", "header")


def test_a_wrong_password_is_told_beside_the_form(console: ConsoleUnderTest, visit: Visit) -> None:
    window = visit()
    window.open("/login")
    with window.refused(401):
        log_in(window, console.add_user("read"), "not this one")
        window.sees("name or password is wrong", '[role="alert"]')


def test_a_vote_is_seen_by_others_and_in_slack_without_reloading(console: ConsoleUnderTest, visit: Visit) -> None:
    burst, voter = console.submit(), console.add_user("rate")
    assert "0 confirm" in json.dumps(in_slack(console, burst))
    other = visit()
    other.open(f"/frb/{burst}")
    other.sees("Nobody yet")
    other.is_live()
    other.mark()
    window = visit()
    window.open("/frb")
    window.click(f"{burst}", "link", "main")
    window.click("Log in", "link", "main")
    log_in(window, voter)

    window.fill("Note", "a clear sweep & nothing else", "main")
    window.click("Confirm")

    window.sees("1 confirm", "#votes")
    window.sees("Your vote: confirm")
    other.sees("1 confirm", "#votes")
    other.sees("a clear sweep & nothing else", "main")
    assert other.is_the_same
    eventually(lambda: "1 confirm" in json.dumps(in_slack(console, burst)), "the vote in Slack")


def test_a_button_pressed_in_slack_is_seen_on_the_page_without_reloading(
    console: ConsoleUnderTest, visit: Visit
) -> None:
    burst = console.submit()
    pressed = press("action_unsure", f"{burst}", user="nora", message=in_slack(console, burst), channel=SANDBOX)
    window = visit()
    window.open(f"/frb/{burst}")
    window.is_live()
    window.mark()

    intake = f"http://127.0.0.1:{console.intake.service.port}"
    answer = httpx.post(f"{intake}/slack/interactions", content=pressed.body, headers=pressed.headers)
    assert answer.status_code == 200

    window.sees("1 unsure", "#votes")
    window.sees("slack:nora", "main")
    assert window.is_the_same


def test_a_retraction_turns_the_page_that_somebody_looks_at(console: ConsoleUnderTest, visit: Visit) -> None:
    superevent = a_superevent(console)
    window = visit()
    window.open(f"/gw/{superevent}")
    window.is_live()
    assert window.count(".banner.bad") == 0
    window.mark()

    publish(console, an_alert(superevent_id=superevent, alert_type="RETRACTION"))

    window.sees("Retracted", ".banner.bad")
    window.sees("retracted", "h1")
    assert window.is_the_same
    window.open(f"/gw?id={superevent}")
    window.sees("retracted", "tbody")


def test_what_happens_appears_in_the_feed_without_reloading(console: ConsoleUnderTest, visit: Visit) -> None:
    window = visit()
    window.open("/")
    window.is_live()
    window.mark()
    burst = console.submit(is_test=True)

    line = f'ul.feed li:has(a[href="/frb/{burst}"])'
    window.waits_for(line)
    assert window.is_the_same
    assert "test" in window.text(line)
    window.find(lambda page: page.locator(line).get_by_role("link").first, lambda it: it.click())
    window.sees(f"Burst {burst}", "h1")


def test_a_dead_letter_is_replayed_from_the_system_page(console: ConsoleUnderTest, visit: Visit) -> None:
    superevent = f"MS261121{letters()}"
    why = f"the database forgot {superevent}"
    facts = {
        "topic": LISTENED, "partition": "0", "offset": "0", "error-class": "BugError", "error": why,
        "service": "gw_listener", "version": "0.0.1", "failed-at": datetime.now(UTC).isoformat(),
    }  # fmt: skip
    headers = [(PREFIX + name, value.encode()) for name, value in facts.items()]
    letter = (superevent.encode(), an_alert(superevent_id=superevent), headers)
    send(console.system.broker.address, BURIED, letter)
    window = visit(console.add_user("operate"))
    window.open("/")
    window.click("System", "link", "header")
    window.click("Dead letters", "link", 'nav[aria-label="System"]')
    window.click(BURIED, "link", "main")
    window.sees(why, "main")

    # Those of other tests go with it, and come back.
    window.click("Replay", within="main", exact=False)

    window.sees("replayed", "main")
    eventually(lambda: is_shown(console, superevent), "the alert of the dead letter")
    window.open(f"/gw/{superevent}")
    window.sees(superevent, "h1")


def test_somebody_without_a_mouse_logs_in_and_votes(console: ConsoleUnderTest, visit: Visit) -> None:
    burst, voter = console.submit(), console.add_user("rate")
    window = visit()
    window.open(f"/login?next=/frb/{burst}")
    window.type(voter)
    window.press("Tab")
    window.type(PASSWORD)
    window.press("Enter")
    window.sees(f"Burst {burst}", "h1")

    window.press("Tab")
    assert window.focus.startswith("Skip to the content")
    window.press("Enter")
    for _ in range(10):
        window.press("Tab")
        if window.focus.startswith("Note"):
            break
    window.type("without a mouse")
    window.press("Tab", "Tab")
    assert window.focus == "Reject"
    window.press("Enter")

    window.sees("1 reject", "#votes")
    window.sees("without a mouse", "main")


def test_pages_work_without_scripts(console: ConsoleUnderTest, visit: Visit) -> None:
    burst, voter = console.submit(dm=723.25), console.add_user("rate")
    window = visit(java_script_enabled=False)
    window.open(f"/login?next=/frb/{burst}")
    log_in(window, voter)
    window.fill("Note", "by a plain form", "main")
    window.click("Confirm")
    window.sees("1 confirm", "#votes")
    window.sees("by a plain form", "main")

    window.click("Bursts", "link", "header")
    window.fill("DM from", "723.2")
    window.fill("DM to", "723.3")
    window.click("Show")
    window.is_at(re.compile(r"dm_min=723\.2"))
    assert window.count("tbody tr") == 1
    assert window.text("tbody tr th") == f"{burst}"

    window.click("Log out")
    window.sees("Log in", "header")


def test_bursts_are_filtered_sorted_and_paged_by_clicking(console: ConsoleUnderTest, visit: Visit) -> None:
    client = console.intake.client(console.add_user())
    figures = {901.5: 30, 902.5: 10, 903.5: 20}
    found = [client.post(EVENTS, json=a_burst(dm=dm, sn=sn)) for dm, sn in figures.items()]
    first, second, third = (f"{answer.json()['id']}" for answer in found)
    window = visit()
    window.open("/frb")
    window.fill("DM from", "901")
    window.fill("DM to", "904")
    window.click("Show")
    window.waits_for("tbody tr", count=3)
    # Nobody can choose so few, but for the address.
    window.open("/frb?dm_min=901&dm_max=904&limit=2")

    window.click("S/N", "link", "thead", exact=False)
    window.waits_for('th[aria-sort]:has-text("S/N")')
    pages = [window.texts("tbody tr th")]
    window.click("Next page", "link")
    window.is_at(re.compile("cursor="))
    pages.append(window.texts("tbody tr th"))
    direction = window.find(lambda page: page.locator("th[aria-sort]"), lambda it: it.get_attribute("aria-sort"))
    up = [[second, third], [first]]
    down = [[first, third], [second]]
    assert pages == (up if direction == "ascending" else down)

    window.click("S/N", "link", "thead", exact=False)
    other = "descending" if direction == "ascending" else "ascending"
    window.waits_for(f'th[aria-sort="{other}"]')
    assert window.texts("tbody tr th") == (down if direction == "ascending" else up)[0]

    window.fill("DM from", "903")
    window.click("Show")
    window.waits_for("tbody tr", count=1)
    window.click("All bursts", "link")
    window.is_at(re.compile("/frb$"))


def test_superevents_are_filtered_and_sorted_by_clicking(console: ConsoleUnderTest, visit: Visit) -> None:
    window = visit()
    window.open("/")
    window.click("Superevents", "link", "header")
    window.fill("Name begins with", "S230518")
    window.click("Show")
    window.waits_for("tbody tr", count=1)
    assert "S230518h" in window.text("tbody tr")
    window.click("Show all", "link")
    window.find(lambda page: page.locator("#by-far"), lambda it: it.click())
    window.waits_for("th[aria-sort]:has(#by-far)")
    window.click("S230518h", "link", "tbody")
    window.sees("S230518h", "h1")


def test_a_withdrawal_needs_a_reason_and_a_tick_and_turns_the_page(console: ConsoleUnderTest, visit: Visit) -> None:
    burst = console.submit()
    other = visit()
    other.open(f"/frb/{burst}")
    other.is_live()
    other.mark()
    window = visit(console.add_user("operate"))
    window.open(f"/frb/{burst}")
    window.find(lambda page: page.get_by_text("Withdraw it"), lambda it: it.click())
    window.fill("Why it is withdrawn", "a microwave oven", "main")
    window.click("Withdraw")
    assert "Withdrawn." not in window.text("main")
    window.find(lambda page: page.get_by_label(f"Withdraw burst {burst} for good"), lambda it: it.check())
    window.click("Withdraw")

    for each in (window, other):
        each.sees("Withdrawn.", ".banner.bad")
        each.sees("a microwave oven", "main")
    assert other.is_the_same
    assert window.count('button:has-text("Confirm")') == 0


def test_who_logged_out_elsewhere_is_asked_to_log_in_and_led_back(console: ConsoleUnderTest, visit: Visit) -> None:
    burst, name = console.submit(), console.add_user("rate")
    window = visit(name)
    window.open(f"/frb/{burst}")
    cookies = window.cookies
    elsewhere = window.another()
    elsewhere.open("/")
    elsewhere.click("Log out")
    elsewhere.sees("Log in", "header")
    # As if it had been another computer, where the same session was.
    window.keep(cookies)

    window.click("Confirm")

    window.waits_for('input[name="password"]')
    log_in(window, name)
    window.sees(name, "header")
    assert console.browser().get(f"/frb/{burst}").text.count("1 confirm") == 0


def log_in(window: Window, name: str, password: str = PASSWORD) -> None:
    window.fill("Name", name, "main")
    window.fill("Password", password, "main")
    window.click("Log in", within="main")


def in_slack(console: ConsoleUnderTest, burst: int) -> dict[str, Any]:
    """Slack's message of a burst as it stands now, once it is there."""

    def found() -> list[dict[str, Any]]:
        return [each for each in console.stand_ins.slack.posted(SANDBOX) if f"ID:{burst})" in each["text"]]

    return dict(eventually(found, f"burst {burst} in Slack")[0])


def publish(console: ConsoleUnderTest, *alerts: bytes) -> None:
    send(console.system.broker.address, LISTENED, *alerts)


def letters() -> str:
    """The end of a superevent's name that no other test has."""
    return "".join(chr(ord("a") + int(digit, 16)) for digit in uuid.uuid4().hex[:8])


def a_superevent(console: ConsoleUnderTest) -> str:
    """The name of a superevent of nobody else, once it is shown with its map."""
    name = f"MS261121{letters()}"
    publish(console, an_alert(superevent_id=name, skymap=a_skymap(object_name=name)))
    eventually(lambda: is_shown(console, name), f"{name} shown")
    return name


def is_shown(console: ConsoleUnderTest, superevent: str) -> bool:
    return console.browser().get(f"/gw/{superevent}").status_code == 200
