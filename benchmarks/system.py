"""A whole system of its own for measurements: broker, database and services in a temporary folder."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, Message, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from cli.migrate import migrate
from cli.stack.kafka import KafkaBroker
from cli.stack.postgres import PostgresServer
from cli.stack.services import Service, ServiceProcess
from cli.topics import apply
from shared.kafka.producer import producer_config
from shared.settings import MAX_MESSAGE_BYTES, KafkaSettings

DEADLINE_S = 60.0


@dataclass(frozen=True)
class System:
    """What runs, and how to reach it."""

    kafka: KafkaSettings
    environment: dict[str, str]
    services: Sequence[ServiceProcess]

    def create_topic(self, name: str) -> None:
        """Make a topic of one partition that takes alerts."""
        client = AdminClient(self.kafka.client_config())
        topic = NewTopic(name, 1, 1, config={"max.message.bytes": str(MAX_MESSAGE_BYTES)})
        client.create_topics([topic])[name].result(DEADLINE_S)

    def producer(self) -> Producer:
        """Return a bare producer with the project's guarantees."""
        return Producer(producer_config(self.kafka))

    def consumer(self, *topics: str) -> Consumer:
        """Return a bare consumer that has its partitions and waits at their ends."""
        consumer = Consumer(
            self.kafka.client_config()
            | {
                "group.id": f"bench.{'.'.join(topics)}",
                "group.protocol": "consumer",
                "auto.offset.reset": "latest",
                "enable.auto.commit": False,
            }
        )
        consumer.subscribe(list(topics))
        while not consumer.assignment():
            consumer.poll(0.1)
        for _ in range(5):
            consumer.poll(0.1)  # until the first fetch is under way
        return consumer


@contextmanager
def running(*names: str, **variables: str) -> Iterator[System]:
    """Start a broker, a database (durable, as in use) and the named services; stop them at the end.

    `variables` are of the services' environment.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tocsin-bench-")))
        folder.chmod(0o755)
        broker, database = KafkaBroker(folder / "kafka"), PostgresServer(folder / "postgres")
        for component in (broker, database):
            stack.callback(component.stop)
            component.start()
        environment = {
            "TOCSIN_KAFKA__BOOTSTRAP_SERVERS": broker.address,
            "TOCSIN_DATABASE__URL": database.address,
            "TOCSIN_BLOBS__URL": str(folder / "blobs"),
            **variables,
        }
        apply(environment)
        migrate(environment)
        services = [ServiceProcess(Service(name, 0, "measured"), folder / name) for name in names]
        for service in services:
            stack.callback(service.stop)
            service.start(environment)
        yield System(KafkaSettings(bootstrap_servers=broker.address), environment, services)


def next_message(consumer: Consumer) -> Message:
    """Wait for a record."""
    message: Any = consumer.poll(DEADLINE_S)
    if message is None or message.error() is not None:
        raise TimeoutError(f"nothing came: {message and message.error()}")
    return message
