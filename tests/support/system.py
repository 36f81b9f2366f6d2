"""A broker, a database and services as real processes, for tests that stop and kill them."""

import io
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import fastavro
import httpx
import pytest
from confluent_kafka.admin import AdminClient

from cli.stack.kafka import KafkaBroker
from cli.stack.postgres import PostgresServer
from shared.kafka.message import Message
from shared.settings import KafkaSettings
from tests.support.runtime import eventually, prepared, query, records


@dataclass
class ServiceUnderTest:
    """One process of a service."""

    name: str
    port: int
    log: Path
    process: "subprocess.Popen[bytes]"

    def get(self, path: str) -> httpx.Response:
        return httpx.get(f"http://127.0.0.1:{self.port}{path}", timeout=5)

    @property
    def is_ready(self) -> bool:
        with suppress(httpx.HTTPError):
            return self.get("/readyz").status_code == 200
        return False

    @property
    def is_alive(self) -> bool:
        return self.process.poll() is None

    def wait_ready(self) -> None:
        eventually(lambda: self.is_ready or not self.is_alive, f"{self.name} ready")
        assert self.is_alive, self.log.read_text()[-3000:]

    def wait_killed(self) -> None:
        eventually(lambda: not self.is_alive, f"{self.name} killed itself")
        assert self.process.returncode == -signal.SIGKILL, self.log.read_text()[-3000:]

    def stop(self) -> None:
        """SIGTERM, and wait; a process that does not end in time is killed and the test fails."""
        if self.is_alive:
            self.process.terminate()
            try:
                self.process.wait(40)
            except subprocess.TimeoutExpired:
                self.process.kill()
                raise AssertionError(f"{self.name} did not stop:\n{self.log.read_text()[-3000:]}") from None


@dataclass
class SystemUnderTest:
    """What is running, and what it has made of the alerts so far."""

    folder: Path
    broker: KafkaBroker
    database: PostgresServer
    environment: dict[str, str]
    started: list[ServiceUnderTest] = field(default_factory=list)

    @property
    def client(self) -> dict[str, Any]:
        """librdkafka settings that reach the broker."""
        return KafkaSettings(bootstrap_servers=self.broker.address).client_config()

    def start(
        self, service: str, *, dying: tuple[str, int] | None = None, hasty: bool = False, **environment: str
    ) -> ServiceUnderTest:
        """Start a service, or one that dies at (point, after so many); see `tests.support.crashing_service`.

        A hasty one rests between its tries as briefly as `tests.support.hasty_notifier` says.
        """
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        module = (
            [f"services.{service}"] if dying is None else ["tests.support.crashing_service", service, *map(str, dying)]
        )
        module = ["tests.support.hasty_notifier"] if hasty else module
        log = self.folder / f"{service}-{len(self.started)}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", *module],
                env={**os.environ, **self.environment, "TOCSIN_HTTP__PORT": str(port), **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=Path(__file__).parents[2],
            )
        self.started.append(ServiceUnderTest(service, port, log, process))
        return self.started[-1]

    @property
    def has_no_members(self) -> bool:
        """Whether all groups are empty: who was killed stays a member for some seconds."""
        client = AdminClient(self.client)
        groups = {group.group_id for group in client.list_consumer_groups().result().valid}
        described = client.describe_consumer_groups(sorted(groups)).values() if groups else ()
        return not any(group.result().members for group in described)

    def stop_services(self) -> None:
        for service in self.started:
            service.stop()

    def records(self, topic: str) -> list[tuple[Message, dict[str, Any]]]:
        """Every record of a topic, decoded by fastavro alone, as an outside subscriber would."""
        messages = records(self.broker.address, topic)
        return [(message, next(fastavro.reader(io.BytesIO(message.value)))) for message in messages]

    def rows(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        """Ask the database."""
        return query(self.database.address, statement, *arguments)


@pytest.fixture(autouse=True)
def no_services_left(system: SystemUnderTest) -> Iterator[None]:
    """Kill what a case that failed left running: it would take part in the next. A module that wants it imports it."""
    yield
    for service in system.started:
        service.process.kill()


@contextmanager
def running_system(folder: Path) -> Iterator[SystemUnderTest]:
    """Start a broker and a database with topics and tables; stop them and every service at the end."""
    broker, database = KafkaBroker(folder / "kafka"), PostgresServer(folder / "postgres", durable=False)
    system = SystemUnderTest(folder, broker, database, {})
    try:
        broker.start()
        database.start()
        environment = prepared(broker.address, database.address, folder)
        system.environment = environment | {"TOCSIN_SKYMAP_PARSER__PICTURES": "false"}
        yield system
    finally:
        for service in system.started:
            service.process.kill()
            service.process.wait()
        broker.stop()
        database.stop()
