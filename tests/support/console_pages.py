"""Every page that the console has, for tests that look at all of them."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass

from tests.support.browser import Window
from tests.support.console import MERGER, REAL_EVENT, ConsoleUnderTest
from tests.support.runtime import eventually, records, send

ERRORS_FROM = 400
BURIED = "igwn.gwalert.dlq.gw_listener"


@dataclass(frozen=True)
class KnownPage:
    """A page, what it is answered with, and who looks at it: everybody, or somebody with all roles."""

    name: str
    path: str
    status: int = 200
    is_for_all: bool = False


PAGES = (
    KnownPage("now", "/"),
    KnownPage("now-nobody", "/", is_for_all=True),
    KnownPage("superevents", "/gw"),
    KnownPage("superevents-none", "/gw?id=S999999"),
    KnownPage("superevent-mock", f"/gw/{MERGER}"),
    KnownPage("superevent-real", f"/gw/{REAL_EVENT}"),
    KnownPage("bursts", "/frb"),
    KnownPage("bursts-none", "/frb?dm_min=99999"),
    KnownPage("bursts-refused", "/frb?since=yesterday", 400),
    KnownPage("burst", "/frb/{burst}"),
    KnownPage("burst-nobody", "/frb/{burst}", is_for_all=True),
    KnownPage("burst-partner", "/frb/{partner}"),
    KnownPage("burst-notice", "/frb/{burst}/notices/{delivery}"),
    KnownPage("coincidences", "/mma"),
    KnownPage("coincidence", f"/mma/{MERGER}-{{partner}}"),
    KnownPage("system", "/system"),
    KnownPage("dead-letters", "/system/dead-letters"),
    KnownPage("letters", f"/system/dead-letters/{BURIED}"),
    KnownPage("letters-none", "/system/dead-letters/frb.events.dlq.notifier"),
    KnownPage("letter", f"/system/dead-letters/{BURIED}@{{letter}}"),
    KnownPage("deliveries", "/system/deliveries"),
    KnownPage("delivery", "/system/deliveries/{delivery}"),
    KnownPage("topics", "/system/topics"),
    KnownPage("topic", "/system/topics/gw.alerts"),
    KnownPage("audit", "/system/audit"),
    KnownPage("help", "/help", is_for_all=True),
    KnownPage("login", "/login", is_for_all=True),
    KnownPage("problem", "/frb/999999999", 404),
)


def find_places(console: ConsoleUnderTest) -> dict[str, int]:
    """Return what pages are of that have a number; there is a dead letter afterwards."""
    system = console.system
    waiting = len(records(system.broker.address, BURIED))
    send(system.broker.address, "igwn.gwalert", b"this is no alert")
    letters = eventually(lambda: records(system.broker.address, BURIED)[waiting:], "a dead letter")
    subject = f"frb/{console.burst_id}"
    (delivery,) = system.rows("SELECT min(id) AS id FROM notifier.delivery_lines WHERE subject = $1", subject)
    return {
        "burst": console.burst_id,
        "partner": console.partner_id,
        "delivery": delivery["id"],
        "letter": letters[-1].offset,
    }


def look_at(page: KnownPage, places: dict[str, int], window: Window) -> None:
    """Open a page in a window; it is answered as it should be."""
    with window.refused(page.status) if page.status >= ERRORS_FROM else nullcontext():
        assert window.open(page.path.format(**places)) == page.status
