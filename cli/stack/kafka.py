"""A Kafka broker on this machine: Apache Kafka in KRaft mode, one node, under the system's Java."""

import base64
import hashlib
import os
import shutil
import signal
import uuid
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from cli.stack.component import ComponentHealth, NotAvailableError, StackError
from cli.stack.paths import local_directory
from cli.stack.process import (
    DetachedProcess,
    exclusive,
    give_up_taken_port,
    remembered_port,
    run_to_end,
    write_atomically,
)
from shared.settings import MAX_MESSAGE_BYTES

START_DEADLINE_S = 60
STOP_DEADLINE_S = 30

JVM_FLAGS = (
    "-Xms128m",
    "-Xmx512m",
    # A broker of a handful of topics gains nothing from the second compiler or a parallel collector, and starts sooner.
    "-XX:TieredStopAtLevel=1",
    "-XX:+UseSerialGC",
    # An archive of classes that another Java made is left alone, without a word.
    "-Xlog:cds=off",
    "-Xlog:cds+dynamic=off",
    "-Djava.awt.headless=true",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSS",
)

CLASSES = "classes.jsa"
# The broker's classes as the JVM maps them (JEP 350): beside the jars, the half of a start.


class KafkaBroker:
    """A single-node broker and controller that listens on 127.0.0.1 and keeps topics and offsets in `directory`.

    Parameters
    ----------
    directory
        Its data, configuration, log and pid; made when missing.
    port
        Where to listen; without one a free port is taken at the first start and kept.
    preferred_port
        The one to take if it is free then.
    jars
        Where the jars are kept for every broker of this machine.
    """

    name = "kafka"

    def __init__(
        self, directory: Path, *, port: int | None = None, preferred_port: int | None = None, jars: Path | None = None
    ) -> None:
        self._directory = directory.absolute()
        self._wanted_port = port
        self._preferred_port = preferred_port
        self._jars = jars or local_directory() / "kafka-jars"
        self.process = DetachedProcess(self._directory, "kafka")

    @property
    def address(self) -> str:
        """Bootstrap servers, as Kafka clients want them."""
        port = remembered_port(self._directory, "broker", self._wanted_port, preferred=self._preferred_port)
        return f"127.0.0.1:{port}"

    def start(self) -> None:
        """Return when the broker answers; the first time takes Maven's download and the formatting of its storage."""
        with exclusive(self._directory / "start.lock"):
            if self.process.pid is None:
                give_up_taken_port(self._directory, "broker")
                jars = kafka_jars(self._jars)
                self._write_configuration()
                self._format_storage(jars)
                self.process.spawn([*_java(jars), self._class_archive(jars), "kafka.Kafka", self._configuration])
            admin = _admin({"bootstrap.servers": self.address})
            self.process.wait_until_ready(lambda: _answers(admin), deadline_s=START_DEADLINE_S)

    def stop(self) -> None:
        """Shut down so that the next start finds its log complete."""
        ended = self.process.stop(signal.SIGTERM, deadline_s=STOP_DEADLINE_S)
        for draft in self._jars.glob(f"*/{CLASSES}.{self._own}.draft"):
            if ended:
                draft.replace(draft.with_name(CLASSES))
            else:
                draft.unlink()

    def health(self) -> ComponentHealth:
        """Whether the process lives and answers."""
        if (pid := self.process.pid) is None:
            return ComponentHealth(False, "not running")
        health = kafka_health({"bootstrap.servers": self.address})
        return ComponentHealth(health.up, f"{health.detail}, pid {pid}")

    @property
    def _configuration(self) -> Path:
        return self._directory / "server.properties"

    @property
    def _own(self) -> str:
        """What tells this broker from others that use the same jars."""
        return hashlib.sha256(os.fsencode(self._directory)).hexdigest()[:12]

    def _class_archive(self, jars: Path) -> str:
        """The JVM's option that maps all classes at once; the first broker makes the archive when it is stopped."""
        if (jars / CLASSES).exists():
            return f"-XX:SharedArchiveFile={jars / CLASSES}"
        return f"-XX:ArchiveClassesAtExit={jars / CLASSES}.{self._own}.draft"

    def _write_configuration(self) -> None:
        controller = f"127.0.0.1:{remembered_port(self._directory, 'controller')}"
        settings = {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.bootstrap.servers": controller,
            "controller.listener.names": "CONTROLLER",
            "listeners": f"PLAINTEXT://{self.address},CONTROLLER://{controller}",
            "advertised.listeners": f"PLAINTEXT://{self.address}",
            "log.dirs": self._directory / "data",
            # Topics are made from schemas/topics, never by a typing error.
            "auto.create.topics.enable": "false",
            "message.max.bytes": MAX_MESSAGE_BYTES,
            "replica.fetch.max.bytes": MAX_MESSAGE_BYTES,
            # One node holds the only replica of everything.
            "default.replication.factor": 1,
            "min.insync.replicas": 1,
            "offsets.topic.replication.factor": 1,
            "offsets.topic.num.partitions": 4,
            # Which dead letters were set aside is an offset of a group without members; it must outlive them (90 days).
            "offsets.retention.minutes": 200 * 24 * 60,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "transaction.state.log.num.partitions": 2,
            "share.coordinator.state.topic.replication.factor": 1,
            "share.coordinator.state.topic.min.isr": 1,
            # How long the controller holds a killed broker to be alive, and so keeps its successor waiting.
            "broker.session.timeout.ms": 3000,
            "broker.heartbeat.interval.ms": 500,
            # A first consumer need not wait for others to join.
            "group.initial.rebalance.delay.ms": 0,
            "group.coordinator.rebalance.protocols": "classic,consumer",
            # A killed member's partitions are given to others after this, not after the default 45 s. (Under KIP-848
            # the broker decides; the consumers' own session.timeout.ms counts in classic groups only.)
            "group.consumer.session.timeout.ms": 6000,
            "group.consumer.min.session.timeout.ms": 6000,
            "group.consumer.heartbeat.interval.ms": 1000,
            "group.consumer.min.heartbeat.interval.ms": 1000,
            "num.network.threads": 2,
            "num.io.threads": 4,
            "num.recovery.threads.per.data.dir": 2,
            "background.threads": 2,
        }
        write_atomically(self._configuration, "".join(f"{key}={value}\n" for key, value in settings.items()))

    def _format_storage(self, jars: Path) -> None:
        if (self._directory / "data" / "meta.properties").exists():
            return
        cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        run_to_end(
            [
                *(*_java(jars), "kafka.tools.StorageTool", "format", "--standalone"),
                f"--cluster-id={cluster_id}",  # joined by "=": one id in 64 begins with a dash
                *("--config", os.fspath(self._configuration)),
            ],
            purpose="format Kafka's storage",
        )


def _java(jars: Path) -> list[str]:
    return ["java", *JVM_FLAGS, "-cp", f"{jars}/*"]


def kafka_jars(directory: Path) -> Path:
    """The folder with the broker's jars, fetched by Maven when this machine does not have them yet.

    Raises
    ------
    NotAvailableError
        Java or Maven is missing, or Maven could not fetch them.
    """
    pom = resources.files("cli.stack").joinpath("kafka-pom.xml").read_text()
    wanted = directory.resolve() / hashlib.sha256(pom.encode()).hexdigest()[:12]
    with exclusive(directory / "fetch.lock"):
        if not shutil.which("java"):
            raise NotAvailableError("kafka: Java 17 or newer is not installed")
        if wanted.exists():
            return wanted
        if not shutil.which("mvn"):
            raise NotAvailableError("kafka: Maven, which fetches the broker's jars, is not installed")
        draft = wanted.with_suffix(".draft")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        (draft / "pom.xml").write_text(pom)
        fetch = ["mvn", "--quiet", "--batch-mode", "--file", os.fspath(draft / "pom.xml")]
        fetch += ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={draft}"]
        try:
            run_to_end(fetch, purpose="fetch Kafka's jars")
        except StackError as error:
            raise NotAvailableError(f"kafka: {error}") from error
        draft.rename(wanted)
    return wanted


def kafka_health(client_config: Mapping[str, Any]) -> ComponentHealth:
    """Ask any Kafka cluster for its metadata; `client_config` is librdkafka's, with SASL and TLS where needed."""
    where = client_config["bootstrap.servers"]
    try:
        metadata = _admin(client_config).list_topics(timeout=3)
    except KafkaException as error:
        return ComponentHealth(False, f"{where} does not answer: {error.args[0].str()}")
    topics = sum(not name.startswith("__") for name in metadata.topics)
    return ComponentHealth(True, f"{where}, {topics} topics")


def _admin(client_config: Mapping[str, Any]) -> AdminClient:
    quick = {"reconnect.backoff.ms": 20, "reconnect.backoff.max.ms": 200}
    # librdkafka's log would repeat on stderr, once per attempt, what the answer says.
    return AdminClient({**client_config, **quick, "log_level": 0})


def _answers(admin: AdminClient) -> bool:
    try:
        return bool(admin.list_topics(timeout=0.5).brokers)
    except KafkaException:
        return False
