"""`tocsin topics`: what topics there are, and making them."""

import json
from collections.abc import Mapping
from typing import Annotated, Any

import typer
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.cimpl import NewTopic

from cli.environment import settings, settings_from
from cli.errors import told_in_one_line
from shared.kafka.admin import admin, topic_names
from shared.kafka.errors import broker_error
from shared.kafka.reading import record_counts
from shared.schema.topics import Topic, dead_letter_topics, load_topics
from shared.settings import KafkaSettings

TIMEOUT_S = 10.0


def all_topics() -> list[Topic]:
    """Return every topic with its dead-letter topics, by name."""
    return sorted([*load_topics(), *dead_letter_topics()], key=lambda topic: topic.name)


def apply(environment: Mapping[str, str]) -> list[str]:
    """Create the topics that the broker lacks; return their names. Existing ones are left as they are."""
    return create_missing(settings_from(environment).kafka)


def create_missing(kafka: KafkaSettings) -> list[str]:
    """As `apply`, for the broker of `kafka`."""
    there = topic_names(kafka)
    missing = [topic for topic in all_topics() if topic.name not in there]
    client = admin(kafka)  # kept: its requests end with it
    futures = client.create_topics(
        [
            NewTopic(
                topic.name,
                num_partitions=topic.partitions,
                replication_factor=kafka.replication_factor,
                config={
                    "max.message.bytes": str(topic.max_message_bytes),
                    "retention.ms": str(topic.retention_ms),
                },
            )
            for topic in missing
        ],
        operation_timeout=TIMEOUT_S,
    ) if missing else {}  # fmt: skip
    for name, future in futures.items():
        try:
            future.result(TIMEOUT_S)
        except KafkaException as exception:
            if exception.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise broker_error(exception.args[0], f"creating {name}") from exception
    return [topic.name for topic in missing]


def topics(
    create: Annotated[bool, typer.Option("--create", help="Create those that the broker lacks.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """List the topics: who writes and reads them, and how many records the broker holds."""
    with told_in_one_line():
        kafka = settings().kafka
        if create:
            for name in create_missing(kafka):
                typer.echo(f"created {name}", err=True)
        rows = _rows(kafka)
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    lines = [list(rows[0]), *(["-" if value is None else str(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        typer.echo("  ".join(f"{text:<{width}}" for text, width in zip(line, widths, strict=True)).rstrip())


def _rows(kafka: KafkaSettings) -> list[dict[str, Any]]:
    counts = record_counts(kafka.client_config(), {topic.name for topic in all_topics()} & topic_names(kafka))
    return [
        {
            "topic": topic.name,
            "records": counts.get(topic.name, "missing"),
            "record": topic.record,
            "key": topic.key,
            "written_by": ", ".join(topic.producers),
            "read_by": ", ".join(topic.consumers) or None,
        }
        for topic in all_topics()
    ]
