"""A stand-in for the broker where Java or Maven cannot be had: librdkafka's own in-memory test cluster.

It speaks enough Kafka for the services, but makes any topic that is named and forgets all of them when it stops.
"""

import os
import signal
import sys
from pathlib import Path

from confluent_kafka import Producer

from cli.stack.component import ComponentHealth
from cli.stack.kafka import kafka_health
from cli.stack.process import DetachedProcess, exclusive, write_atomically
from shared.settings import MAX_MESSAGE_BYTES

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
            self.process.spawn([sys.executable, "-m", "cli.stack.mock_kafka", self._address_path])
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


def serve(address_path: Path) -> None:
    """Run the cluster until SIGTERM and write its bootstrap servers to `address_path`."""
    stop_signals = {signal.SIGTERM, signal.SIGINT}
    # Before librdkafka starts its threads, so that they inherit the mask and the signal waits for us.
    signal.pthread_sigmask(signal.SIG_BLOCK, stop_signals)
    # The cluster lives inside the client that asks for it.
    client = Producer({"test.mock.num.brokers": 1, "bootstrap.servers": "", "message.max.bytes": MAX_MESSAGE_BYTES})
    brokers = client.list_topics(timeout=10).brokers.values()
    write_atomically(address_path, ",".join(f"{broker.host}:{broker.port}" for broker in brokers))
    print(f"{os.getpid()}: {WARNING}", flush=True)
    signal.sigwait(stop_signals)


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
