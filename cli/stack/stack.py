"""The whole local stack: what is to be started here, what is given from outside, and where services find it."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cli.stack.component import Component, ComponentHealth, NotAvailableError, StackError
from cli.stack.influx import InfluxServer, influx_health
from cli.stack.install import INFLUX, JAVA, MAVEN, POSTGRES, install_missing
from cli.stack.kafka import KafkaBroker, kafka_health
from cli.stack.mock_kafka import WARNING, MockKafka
from cli.stack.paths import local_directory
from cli.stack.postgres import PostgresServer, postgres_health
from shared.settings import ServiceSettings

KAFKA_VARIABLE = "TOCSIN_KAFKA__BOOTSTRAP_SERVERS"
DATABASE_VARIABLE = "TOCSIN_DATABASE__URL"
INFLUX_VARIABLE = "TOCSIN_INFLUX__URL"
BLOBS_VARIABLE = "TOCSIN_BLOBS__URL"

PREFERRED_PORTS = {"kafka": 9092, "postgres": 5432, "influxdb": 8086}
# Where people look for these servers first; another is taken where something else sits there.

Progress = Callable[[str], None]


@dataclass(frozen=True)
class External:
    """A server that the environment names: never started or stopped, only asked."""

    name: str
    address: str
    ask: Callable[[], ComponentHealth]

    def start(self) -> None:
        """Only see that it is there; raise `StackError` when it is not."""
        if not (health := self.health()).up:
            raise StackError(f"{self.name}: {health.detail} (given by the environment, so not started here)")

    def stop(self) -> None:
        """Leave it alone: it is somebody else's."""

    def health(self) -> ComponentHealth:
        """What it answers, marked as somebody else's."""
        health = self.ask()
        return ComponentHealth(health.up, f"{health.detail}, external")


class Stack:
    """Kafka, PostgreSQL and InfluxDB below one folder, found again by whoever names the same folder.

    Parameters
    ----------
    directory
        Data, logs, ports and pids; `.local/` without it.
    preferred_ports
        By component name; the well-known ones without it.
    """

    def __init__(self, directory: Path | None = None, *, preferred_ports: Mapping[str, int] = PREFERRED_PORTS) -> None:
        self.directory = (directory or local_directory()).absolute()
        self._ports = preferred_ports
        self._mock_kafka = MockKafka(self.directory / "kafka")
        self.postgres = self._postgres()
        self.influx = self._influx()

    @property
    def kafka(self) -> Component:
        """The broker: the environment's, else the in-memory one if `up` had to take that, else Apache Kafka."""
        if KAFKA_VARIABLE in os.environ:
            config = ServiceSettings().kafka.client_config()
            return External("kafka", os.environ[KAFKA_VARIABLE], lambda: kafka_health(config))
        if self._mock_kafka.process.pid is not None:
            return self._mock_kafka
        return KafkaBroker(self.directory / "kafka", preferred_port=self._ports.get("kafka"))

    @property
    def components(self) -> tuple[Component, ...]:
        """All three, in the order in which they start."""
        return (self.kafka, self.postgres, self.influx)

    def up(self, progress: Progress) -> None:
        """Return when everything answers, saying on the way what is being done.

        Raises
        ------
        StackError
            Kafka or PostgreSQL cannot be had. InfluxDB is optional: without it `progress` is told.
        """
        needed = {JAVA: KAFKA_VARIABLE, MAVEN: KAFKA_VARIABLE, POSTGRES: DATABASE_VARIABLE, INFLUX: INFLUX_VARIABLE}
        install_missing([program for program, given in needed.items() if given not in os.environ], progress)
        for component in self.components:
            progress(f"{component.name}: starting")
            try:
                component.start()
            except NotAvailableError as error:
                self._do_without(component, error, progress)
            else:
                progress(f"{component.name}: {component.health().detail}")

    def _do_without(self, component: Component, error: NotAvailableError, progress: Progress) -> None:
        """Take what stands in for a component that cannot be had; raise when nothing does."""
        if component.name == self._mock_kafka.name:
            progress(f"{error}\n{WARNING}")
            self._mock_kafka.start()
            progress(f"{self._mock_kafka.name}: {self._mock_kafka.health().detail}")
        elif component is self.influx:
            progress(f"{error}; measurements are not kept, everything else works")
        else:
            raise error

    def down(self, progress: Progress) -> None:
        """Stop what runs here; the data stays."""
        for component in reversed(self.components):
            if not isinstance(component, External):
                progress(f"stopping {component.name}")
                component.stop()

    def status(self) -> dict[str, ComponentHealth]:
        """The health of each component, by name."""
        return {component.name: component.health() for component in self.components}

    def environment(self) -> dict[str, str]:
        """The variables by which services and commands find the stack."""
        variables = {
            KAFKA_VARIABLE: self.kafka.address,
            DATABASE_VARIABLE: self.postgres.address,
            BLOBS_VARIABLE: os.environ.get(BLOBS_VARIABLE, str(self.directory / "blobs")),
        }
        if not self.influx_is_absent():
            variables[INFLUX_VARIABLE] = self.influx.address
        return variables

    def influx_is_absent(self) -> bool:
        """Whether there is no InfluxDB and nothing on this machine that could run one."""
        return not isinstance(self.influx, External) and not INFLUX.is_here()

    def _postgres(self) -> Component:
        if url := os.environ.get(DATABASE_VARIABLE):
            return External("postgres", url, lambda: postgres_health(url))
        return PostgresServer(self.directory / "postgres", preferred_port=self._ports.get("postgres"))

    def _influx(self) -> Component:
        if url := os.environ.get(INFLUX_VARIABLE):
            return External("influxdb", url, lambda: influx_health(url))
        return InfluxServer(self.directory / "influxdb", preferred_port=self._ports.get("influxdb"))
