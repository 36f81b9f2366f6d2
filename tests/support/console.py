"""The console in front of the whole system, fed with real alerts and a burst, for tests of its pages."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import yaml

from cli.demo import MOCK, REAL
from cli.replay import publish
from shared.settings import KafkaSettings
from shared.testing.slack import SIGNING_SECRET
from tests.support.frb_intake import EVENTS, PASSWORD, IntakeUnderTest, a_burst
from tests.support.notifier_stand_ins import StandIns, standing
from tests.support.runtime import eventually
from tests.support.system import ServiceUnderTest, SystemUnderTest, running_system

MERGER, REAL_EVENT = "MS181101ab", "S230518h"
FED_DEADLINE_S = 90.0
SERVICES = ("gw_listener", "skymap_parser", "frb_intake", "coincidence", "notifier")
CHANNELS = ("slack", "tns", "voevent", "webhook")
CLOSE_BY = {
    "time_of_arrival": "2018-11-01T22:22:49.334",
    "ra": 194.3,
    "dec": -17.9,
    "dm": 130.0,
    "repeater": False,
    "z": None,
}
# Seconds after the mock merger, from where its map says.


@dataclass
class ConsoleUnderTest:
    """The console, everything behind it, and ways to ask it.

    Attributes
    ----------
    burst_id, partner_id
        A burst with everything known of it, and one that coincides with the mock merger `MERGER`.
    """

    system: SystemUnderTest
    service: ServiceUnderTest
    intake: IntakeUnderTest
    stand_ins: StandIns
    services: dict[str, ServiceUnderTest]
    burst_id: int = 0
    partner_id: int = 0
    opened: list[httpx.Client] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.service.port}"

    def browser(self, user: str | None = None) -> httpx.Client:
        """A client with cookies, logged in as somebody or as nobody."""
        client = httpx.Client(base_url=self.address, follow_redirects=False, timeout=30)
        self.opened.append(client)
        if user is not None:
            code = csrf_of(client.get("/login").text)
            answer = client.post("/login", data={"name": user, "password": PASSWORD, "csrf": code, "next": "/"})
            assert answer.status_code == 303, answer.text
        return client

    def add_user(self, *roles: str, name: str | None = None) -> str:
        """Make an account of the intake and return its name; everybody's password is `PASSWORD`."""
        return self.intake.add_user(*roles, name=name)

    def submit(self, **changes: Any) -> int:
        """Send a burst that no other test has, and return its id once the intake told of it."""
        client = self.intake.client(self.add_user())
        answer = client.post(EVENTS, json=a_burst(**changes))
        assert answer.status_code == 201, answer.text
        return int(answer.json()["id"])


def csrf_of(page: str) -> str:
    """The code in the forms of a page."""
    found = re.search(r'name="csrf" value="([0-9a-f]{64})"', page)
    assert found is not None, page[:2000]
    return found[1]


@contextmanager
def running_console(folder: Path, *, feed: bool = True, **console: Any) -> Iterator[ConsoleUnderTest]:
    """Start everything, feed it, and stop it at the end; `console` are settings of the console."""
    with running_system(folder) as system, standing() as stand_ins:
        system.environment["TOCSIN_SKYMAP_PARSER__PICTURES"] = "true"
        channels = stand_ins.channels(*CHANNELS)
        config = folder / "tocsin.yaml"
        rules = [{"channel": each["name"]} for each in channels]
        notifier = {"channels": channels, "rules": rules, "max_age_h": 1e6}
        section: dict[str, Any] = {"notifier": notifier}
        config.write_text(yaml.safe_dump(section), "utf-8")
        system.environment["TOCSIN_CONFIG"] = str(config)
        system.environment["TOCSIN_FRB_INTAKE__SLACK_SIGNING_SECRET"] = SIGNING_SECRET
        # Tests may come from any address; and the console tells the others where its visitors come from.
        system.environment["TOCSIN_HTTP__TRUSTED_PROXIES"] = "127.0.0.1"
        services: dict[str, ServiceUnderTest] = {}
        for name in SERVICES:
            services[name] = system.start(name)
            if name == "frb_intake":
                system.environment["TOCSIN_NOTIFIER__ACCOUNTS_URL"] = f"http://127.0.0.1:{services[name].port}"
        services["frb_intake"].wait_ready()
        addresses = {name: f"http://127.0.0.1:{service.port}" for name, service in services.items()}
        section["console"] = {
            "intake_url": addresses["frb_intake"],
            "notifier_url": addresses["notifier"],
            "services": addresses,
            "survey": stand_ins.sky.settings,
            **console,
        }
        config.write_text(yaml.safe_dump(section), "utf-8")
        service = system.start("console")
        for each in (*services.values(), service):
            each.wait_ready()
        intake = IntakeUnderTest(system, services["frb_intake"])
        running = ConsoleUnderTest(system, service, intake, stand_ins, services)
        try:
            if feed:
                _feed(running)
            yield running
        finally:
            for client in (*running.opened, *intake.opened):
                client.close()


def _feed(console: ConsoleUnderTest) -> None:
    """Send the samples, and wait until each went through every stage."""
    system = console.system
    asyncio.run(publish([*MOCK, *REAL], kafka=KafkaSettings(bootstrap_servers=system.broker.address)))
    console.burst_id = console.submit()
    eventually(
        lambda: system.rows("SELECT count(picture) AS n FROM skymap_parser.skymaps")[0]["n"] >= 9,
        "all maps parsed and drawn",
        deadline_s=FED_DEADLINE_S,
    )
    console.partner_id = console.submit(**CLOSE_BY, is_test=True)
    eventually(
        lambda: system.rows("SELECT FROM coincidence.pairs WHERE record IS NOT NULL"),
        "the coincidence told",
        deadline_s=FED_DEADLINE_S,
    )
    eventually(
        lambda: not system.rows("SELECT FROM notifier.deliveries WHERE state IN ('PENDING', 'SENDING')"),
        "everybody told",
        deadline_s=FED_DEADLINE_S,
    )
