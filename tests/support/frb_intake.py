"""A running burst intake with people who use it, for the tests of its doors."""

import asyncio
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from services.frb_intake.accounts import Role, add_user
from shared.db.pool import connect
from shared.settings import DatabaseSettings
from tests.support.system import ServiceUnderTest, SystemUnderTest, running_system
from tests.support.upstream_client import UpstreamClient, example_yamls

PASSWORD = "a long password"
ALL_ROLES = tuple(Role)
EVENTS = "/api/v1/events"


@dataclass
class IntakeUnderTest:
    """The service, what it stands on, and ways to ask it."""

    system: SystemUnderTest
    service: ServiceUnderTest
    opened: list[httpx.Client] = field(default_factory=list)

    def add_user(self, *roles: str, name: str | None = None) -> str:
        """Make an account and return its name; everybody's password is the same."""
        name = name or f"user-{uuid.uuid4().hex[:8]}"

        async def add() -> None:
            settings = DatabaseSettings(url=self.system.environment["TOCSIN_DATABASE__URL"])
            async with connect(settings, "frb_intake") as connection:
                await add_user(connection, name=name, roles=roles or ALL_ROLES, password=PASSWORD)

        asyncio.run(add())
        return name

    def script(self, user: str) -> UpstreamClient:
        """The old upload script of a user."""
        return UpstreamClient(self.service.port, user, PASSWORD)

    def client(self, user: str | None) -> httpx.Client:
        """A client of the proper door, of a user or of nobody."""
        address = f"http://127.0.0.1:{self.service.port}"
        self.opened.append(httpx.Client(base_url=address, auth=(user, PASSWORD) if user else None, timeout=30))
        return self.opened[-1]

    def records_of(self, burst_id: int) -> list[dict[str, Any]]:
        """What is on `frb.events` about a burst now, in order."""
        return [record for _, record in self.system.records("frb.events") if record["frb_id"] == burst_id]


@contextmanager
def running_intake(folder: Path, **environment: str) -> Iterator[IntakeUnderTest]:
    """Start the service on a broker and a database of its own; stop everything at the end."""
    with running_system(folder) as system:
        system.environment |= environment
        service = system.start("frb_intake")
        service.wait_ready()
        intake = IntakeUnderTest(system, service)
        try:
            yield intake
        finally:
            for client in intake.opened:
                client.close()


def a_burst(**changes: Any) -> dict[str, Any]:
    """The example as JSON for the proper door, changed, and one that no other test has."""
    observation, radio = example_yamls()
    body: dict[str, Any] = {name: radio.pop(name) for name in ("time_of_arrival", "repeater")}
    measurement = {name: value for name, value in radio.items() if not name.endswith("_path")}
    of_burst = {name: changes.pop(name) for name in list(changes) if name not in measurement}
    version = {"version": uuid.uuid4().hex}
    return {**body, "observation": observation, "measurement": measurement | version | changes, **of_burst}
