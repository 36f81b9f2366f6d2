"""The local stack: every server starts, keeps its data and its port through anything, and leaves nothing behind."""

import asyncio
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg
import httpx
import psutil
import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from cli.stack import InfluxServer, KafkaBroker, NotAvailableError, PostgresServer, ServiceProcess, Stack, StackError
from cli.stack import kafka as kafka_module
from cli.stack.commands import bring_down, delete_data, survey
from cli.stack.install import INFLUX, Program, install_missing
from cli.stack.kafka import kafka_jars
from cli.stack.mock_kafka import MockKafka
from cli.stack.paths import local_directory
from cli.stack.process import DetachedProcess, remembered_port, wait_until
from cli.stack.services import Service

Server = KafkaBroker | PostgresServer | InfluxServer

needs_influxd = pytest.mark.skipif(not INFLUX.is_here(), reason="influxd is not installed")


@pytest.fixture(params=["kafka", "postgres", pytest.param("influxdb", marks=needs_influxd)])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    made: dict[str, Callable[[], Server]] = {
        "kafka": lambda: KafkaBroker(tmp_path / "kafka"),
        "postgres": lambda: PostgresServer(tmp_path / "postgres"),
        "influxdb": lambda: InfluxServer(tmp_path / "influxdb"),
    }
    server = made[request.param]()
    yield server
    server.stop()


def remember(server: Server, value: str) -> None:
    match server:
        case KafkaBroker():
            produce(server.address, "words", value.encode())
        case PostgresServer():
            query(server.address, "CREATE TABLE IF NOT EXISTS words (word text)")
            query(server.address, f"INSERT INTO words VALUES ('{value}')")
        case InfluxServer():
            line = f'words word="{value}"'
            httpx.post(f"{server.address}/write", params={"db": "tocsin"}, content=line).raise_for_status()


def recall(server: Server) -> list[str]:
    match server:
        case KafkaBroker():
            return [value.decode() for value in consume(server.address, "words", count=2)]
        case PostgresServer():
            return [row["word"] for row in query(server.address, "SELECT word FROM words")]
        case InfluxServer():
            asked = {"db": "tocsin", "q": "SELECT word FROM words"}
            answer = httpx.get(f"{server.address}/query", params=asked).raise_for_status().json()
            return [word for _, word in answer["results"][0]["series"][0]["values"]]


def query(url: str, statement: str) -> list[asyncpg.Record]:
    async def ask() -> list[asyncpg.Record]:
        connection = await asyncpg.connect(url)
        try:
            return list(await connection.fetch(statement))
        finally:
            await connection.close()

    return asyncio.run(ask())


def create_topic(bootstrap_servers: str, name: str) -> None:
    topic = NewTopic(name, num_partitions=1, replication_factor=1)
    admin = AdminClient({"bootstrap.servers": bootstrap_servers})
    for created in admin.create_topics([topic]).values():
        created.result(timeout=10)


def produce(bootstrap_servers: str, topic: str, value: bytes) -> None:
    if topic not in AdminClient({"bootstrap.servers": bootstrap_servers}).list_topics(timeout=10).topics:
        create_topic(bootstrap_servers, topic)
    producer = Producer({"bootstrap.servers": bootstrap_servers, "message.max.bytes": 8 * 1024 * 1024, "acks": "all"})
    errors: list[object] = []
    producer.produce(topic, value, on_delivery=lambda error, _: errors.append(error))
    producer.flush(20)
    assert errors == [None]


def consume(bootstrap_servers: str, topic: str, *, count: int) -> list[bytes]:
    consumer = Consumer({"bootstrap.servers": bootstrap_servers, "group.id": "test", "auto.offset.reset": "earliest"})
    consumer.subscribe([topic])
    values: list[bytes] = []
    try:
        end = time.monotonic() + 20
        while len(values) < count and time.monotonic() < end:
            if (message := consumer.poll(0.2)) is not None and message.error() is None:
                values.append(message.value() or b"")
    finally:
        consumer.close()
    return values


def test_a_server_keeps_data_and_address_through_a_stop_and_through_a_kill(server: Server) -> None:
    server.start()
    address = server.address
    remember(server, "before the stop")
    server.stop()
    assert not server.health().up

    server.start()
    remember(server, "before the kill")
    server.process.kill()
    assert not server.health().up

    server.start()
    assert server.address == address
    assert server.health().up
    assert recall(server) == ["before the stop", "before the kill"]


def test_a_server_that_runs_is_found_by_another_object_and_not_started_twice(tmp_path: Path) -> None:
    first, second = PostgresServer(tmp_path), PostgresServer(tmp_path)
    first.start()
    try:
        second.start()
        assert second.process.pid == first.process.pid
    finally:
        second.stop()
    assert first.process.pid is None


def test_a_stopped_server_leaves_no_process(tmp_path: Path) -> None:
    broker, server = KafkaBroker(tmp_path / "kafka"), PostgresServer(tmp_path / "postgres")
    broker.start()
    server.start()
    roots = [psutil.Process(pid) for pid in (broker.process.pid, server.process.pid) if pid]
    family = [*roots, *(child for root in roots for child in root.children(recursive=True))]
    assert len(family) > 2

    broker.stop()
    server.stop()

    assert wait_until(lambda: not any(process.is_running() for process in family), 5)


def test_kafka_carries_a_message_of_five_mebibytes(kafka_broker: KafkaBroker) -> None:
    value = bytes(5 * 1024 * 1024 - 4) + b"tail"
    produce(kafka_broker.address, "large", value)
    assert consume(kafka_broker.address, "large", count=1) == [value]


def test_kafka_does_not_make_topics_by_themselves(kafka_broker: KafkaBroker) -> None:
    producer = Producer({"bootstrap.servers": kafka_broker.address, "message.timeout.ms": 2000})
    errors: list[object] = []
    producer.produce("misspelt", b"", on_delivery=lambda error, _: errors.append(error))
    producer.flush(10)
    assert errors[0] is not None
    assert "misspelt" not in AdminClient({"bootstrap.servers": kafka_broker.address}).list_topics(timeout=10).topics


async def test_health_can_be_asked_where_an_event_loop_runs(postgres_server: PostgresServer) -> None:
    assert postgres_server.health().up


def test_each_test_has_a_database_of_its_own(postgres_server: PostgresServer, database_url: str) -> None:
    query(database_url, "CREATE TABLE only_here ()")
    other = postgres_server.create_database("other")
    assert query(other, "SELECT FROM pg_tables WHERE tablename = 'only_here'") == []


def test_a_frozen_process_is_stopped_too(tmp_path: Path) -> None:
    process = DetachedProcess(tmp_path, "sleeper")
    process.spawn(["sleep", "600"])
    process.send_signal(signal.SIGSTOP)
    process.stop(deadline_s=5)
    assert process.pid is None


def test_a_process_that_ignores_the_request_is_killed_after_the_deadline(tmp_path: Path) -> None:
    process = DetachedProcess(tmp_path, "stubborn")
    process.spawn(["sh", "-c", "trap '' TERM; echo deaf; while :; do sleep 0.05; done"])
    assert wait_until(lambda: "deaf" in process.log_tail(), 5)
    process.stop(deadline_s=0.3)
    assert process.pid is None


def test_a_pid_that_belongs_to_somebody_else_now_is_left_alone(tmp_path: Path) -> None:
    theirs, ours = DetachedProcess(tmp_path, "theirs"), DetachedProcess(tmp_path, "ours")
    theirs.spawn(["sleep", "600"])
    (tmp_path / "ours.pid").write_text(f"{theirs.pid}\nwhen ours started")

    ours.stop()

    assert theirs.pid is not None
    theirs.kill()


def test_a_server_that_dies_at_once_says_the_end_of_its_log(tmp_path: Path) -> None:
    process = DetachedProcess(tmp_path, "broken")
    process.spawn(["sh", "-c", "echo the reason; exit 3"])
    with pytest.raises(StackError, match="the reason"):
        process.wait_until_ready(lambda: False, deadline_s=5)


def test_a_program_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="no-such-program"):
        DetachedProcess(tmp_path, "x").spawn(["no-such-program"])


def test_a_wanted_port_is_kept_and_a_taken_preferred_one_is_not(
    tmp_path: Path, postgres_server: PostgresServer
) -> None:
    assert remembered_port(tmp_path, "a", 12345) == remembered_port(tmp_path, "a") == 12345
    assert remembered_port(tmp_path, "b", preferred=postgres_server.port) != postgres_server.port


def test_without_root_the_command_to_install_is_said_and_nothing_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    program = Program("brewer", "it makes tea", ("brewer-headless",), lambda: False)
    said: list[str] = []
    assert install_missing([program], said.append) == (program,)
    assert "it makes tea" in said[0]
    assert "brewer-headless" in said[0]


def test_as_root_an_optional_program_that_cannot_come_keeps_no_other_away(monkeypatch: pytest.MonkeyPatch) -> None:
    here: set[str] = set()

    def run(command: list[str], **_: object) -> None:
        if "unknown" in command:
            raise StackError("there is no package unknown")
        here.update(command)

    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr("cli.stack.install.run_to_end", run)
    needed = Program("brewer", "it makes tea", ("kettle",), lambda: "kettle" in here)
    nice = Program("biscuit", "goes with it; optional", ("unknown",), lambda: False, is_optional=True)
    said: list[str] = []

    assert install_missing([nice, needed], said.append) == (nice,)
    assert said[-1] == "there is no package unknown"


def test_the_in_memory_cluster_serves_and_warns(tmp_path: Path) -> None:
    mock = MockKafka(tmp_path)
    mock.start()
    try:
        produce_to_mock = Producer({"bootstrap.servers": mock.address})
        produce_to_mock.produce("any", b"x")
        assert produce_to_mock.flush(10) == 0
        assert "do not outlive" in mock.health().detail
    finally:
        mock.stop()
    assert not mock.health().up


@pytest.fixture
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    for variable in ("KAFKA__BOOTSTRAP_SERVERS", "DATABASE__URL", "INFLUX__URL", "BLOBS__URL"):
        monkeypatch.delenv(f"TOCSIN_{variable}", raising=False)
    # What is missing on this machine is for `make` to install, not for a test.
    monkeypatch.setattr("cli.stack.stack.install_missing", lambda programs, progress: ())
    stack = Stack(tmp_path / "stack", preferred_ports={})
    yield stack
    stack.down(lambda _: None)


def test_up_starts_everything_once_and_down_leaves_the_data(stack: Stack) -> None:
    stack.up(lambda _: None)
    environment = stack.environment()
    assert all(line.state in ("up", "absent") for line in survey(stack) if line.kind == "component")
    create_topic(environment["TOCSIN_KAFKA__BOOTSTRAP_SERVERS"], "kept")

    before = time.monotonic()
    stack.up(lambda _: None)
    assert time.monotonic() - before < 2  # nothing to do but to ask three servers, milliseconds each

    bring_down(stack, progress=lambda _: None)
    assert not any(health.up for health in Stack(stack.directory).status().values())
    again = Stack(stack.directory)
    again.up(lambda _: None)
    assert again.environment() == environment
    admin = AdminClient({"bootstrap.servers": environment["TOCSIN_KAFKA__BOOTSTRAP_SERVERS"]})
    assert "kept" in admin.list_topics(timeout=10).topics

    again.down(lambda _: None)
    delete_data(again)
    assert not (stack.directory / "kafka").exists()


def test_servers_named_by_the_environment_are_asked_but_not_started(
    kafka_broker: KafkaBroker, postgres_server: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOCSIN_KAFKA__BOOTSTRAP_SERVERS", kafka_broker.address)
    monkeypatch.setenv("TOCSIN_DATABASE__URL", postgres_server.address)
    monkeypatch.setenv("TOCSIN_INFLUX__URL", "http://127.0.0.1:1")
    stack = Stack(tmp_path)
    health = stack.status()
    assert health["kafka"].up
    assert health["postgres"].up
    assert "external" in health["postgres"].detail
    assert not health["influxdb"].up
    assert stack.environment()["TOCSIN_INFLUX__URL"] == "http://127.0.0.1:1"
    stack.down(lambda _: None)
    assert postgres_server.health().up
    assert not (tmp_path / "postgres").exists()


def test_the_password_of_an_external_database_is_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOCSIN_DATABASE__URL", "postgresql://somebody:hush@127.0.0.1:1/tocsin")
    health = Stack(tmp_path).status()["postgres"]
    assert not health.up
    assert "hush" not in health.detail


def test_where_kafka_cannot_be_had_the_in_memory_cluster_stands_in_loudly(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_jars(directory: Path) -> Path:
        raise NotAvailableError("kafka: Java 17 or newer is not installed")

    monkeypatch.setattr(kafka_module, "kafka_jars", no_jars)
    said: list[str] = []
    stack.up(said.append)
    assert any("WARNING" in line for line in said)
    assert "IN-MEMORY" in stack.status()["kafka"].detail
    assert Stack(stack.directory).environment() == stack.environment()


def test_the_first_broker_that_stops_leaves_the_next_its_classes_in_one_piece(tmp_path: Path) -> None:
    jars = kafka_jars(local_directory() / "kafka-jars")
    own = tmp_path / "jars" / jars.name
    own.mkdir(parents=True)
    for jar in jars.glob("*.jar"):
        (own / jar.name).symlink_to(jar)
    broker = KafkaBroker(tmp_path / "kafka", jars=own.parent)
    broker.start()
    assert [path.suffix for path in own.glob("classes*")] == []
    broker.stop()
    assert [path.name for path in own.glob("classes*")] == ["classes.jsa"]


def test_a_service_that_cannot_start_is_reported_with_its_log(tmp_path: Path) -> None:
    process = ServiceProcess(Service("no_such_service", 8999, "is not there"), tmp_path)
    with pytest.raises(StackError, match=r"No module named services\.no_such_service"):
        process.start({})
    assert not process.health().up
    assert process.report() == {}
