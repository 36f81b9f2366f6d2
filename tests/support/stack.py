"""A real broker and a real database for the tests that need them: one of each per run, started when first asked for.

`tests/conftest.py` names this module as a plugin, so every test may ask for these fixtures by name. Tests that
use them live in `tests/integration`, where sockets are allowed. A test that stops or kills a server makes its own
(`KafkaBroker(tmp_path / "kafka")`): these are shared.
"""

import uuid
from collections.abc import Iterator

import pytest

from cli.stack.kafka import KafkaBroker
from cli.stack.postgres import PostgresServer


@pytest.fixture(scope="session")
def kafka_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker]:
    """A running broker; `kafka_broker.address` is its bootstrap servers. Topics are not made by themselves."""
    broker = KafkaBroker(tmp_path_factory.mktemp("kafka"))
    try:
        broker.start()
        yield broker
    finally:
        broker.stop()


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """A running server without fsync; it survives being killed, not a power cut."""
    server = PostgresServer(tmp_path_factory.mktemp("postgres"), durable=False)
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture
def database_url(postgres_server: PostgresServer) -> Iterator[str]:
    """URL of an empty database that only this test uses."""
    name = f"test_{uuid.uuid4().hex}"
    yield postgres_server.create_database(name)
    postgres_server.drop_database(name)
