"""A stand-in for the broker where Java or Maven cannot be had: librdkafka's own in-memory test cluster.

It speaks enough Kafka for the services, but makes any topic that is named and forgets all of them when it stops.
"""

import signal
import sys
from pathlib import Path

from cli.stack.component import ComponentHealth
from cli.stack.kafka import kafka_health
from cli.stack.process import DetachedProcess, exclusive

WARNING = (
    "WARNING: this is not Apache Kafka but librdkafka's in-memory test cluster. Topics are lost when it stops, "
    "retention and topic settings do not exist, and any topic that is named springs into being."
)

START_DEADLINE_S = 20


class MockKafka:
    """The in-memory cluster in a process of its own, with the life cycle of the real broker."""

    name = "kafka"

    def __init__(self, directory: Path) -> None:
        self._directory = directory.absolute()
        self._address_path = self._directory / "mock.address"
        self.process = DetachedProcess(self._directory, "kafka-mock")

    @property
    def address(self) -> str:
        """Bootstrap servers; the cluster picks its port anew at every start."""
        return self._address_path.read_text()

    def start(self) -> None:
        """Return when the cluster has an address."""
        with exclusive(self._directory / "start.lock"):
            if self.process.pid is not None:
                return
            self._address_path.unlink(missing_ok=True)
            self.process.spawn([sys.executable, "-m", "cli.stack.mock_cluster", self._address_path])
            self.process.wait_until_ready(self._address_path.exists, deadline_s=START_DEADLINE_S)

    def stop(self) -> None:
        """End it, and all topics with it."""
        self.process.stop(signal.SIGTERM)

    def health(self) -> ComponentHealth:
        """Whether it answers; says that it is not the real broker."""
        if self.process.pid is None:
            return ComponentHealth(False, "not running")
        health = kafka_health({"bootstrap.servers": self.address})
        return ComponentHealth(health.up, f"{health.detail}; IN-MEMORY TEST CLUSTER, topics do not outlive it")
