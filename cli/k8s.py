"""Manifests that are computed from `schemas/topics` and from nothing else: `python -m cli.k8s`, part of `make docs`.

Strimzi's operator makes topics and users of them. A service may read and write what its topic files say, no more.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from cli.stack.services import SERVICES
from shared.schema.records import SCHEMAS
from shared.schema.topics import Topic, dead_letter_topics, load_topics

KAFKA_FOLDER = SCHEMAS.parent / "k8s" / "base" / "kafka"
NOTICE = "# Made from schemas/topics by `make docs`; edit there.\n"

API_VERSION = "kafka.strimzi.io/v1"
LABELS = {"strimzi.io/cluster": "tocsin"}

OPERATOR = "console"
# On its pages people look into every topic, and send dead letters back to where they came from.


def kubernetes_name(name: str) -> str:
    """A name as Kubernetes takes it: `gw_listener` is `gw-listener` there."""
    return name.replace("_", "-")


def topics_manifest() -> str:
    """A `KafkaTopic` for every topic and dead-letter topic."""
    return _documents(
        {
            "apiVersion": API_VERSION,
            "kind": "KafkaTopic",
            "metadata": {"name": kubernetes_name(topic.name), "labels": LABELS},
            "spec": {
                "topicName": topic.name,
                "partitions": topic.partitions,
                "config": {"retention.ms": topic.retention_ms, "max.message.bytes": topic.max_message_bytes},
            },
        }
        for topic in _all_topics()
    )


def users_manifest() -> str:
    """A `KafkaUser` for every service, with its rights."""
    return _documents(
        {
            "apiVersion": API_VERSION,
            "kind": "KafkaUser",
            "metadata": {"name": kubernetes_name(service), "labels": LABELS},
            "spec": {
                "authentication": {"type": "scram-sha-512"},
                "authorization": {"type": "simple", "acls": _rights(service)},
            },
        }
        for service in SERVICES
    )


MANIFESTS: Mapping[str, Callable[[], str]] = {"topics.yaml": topics_manifest, "users.yaml": users_manifest}


def _all_topics() -> list[Topic]:
    return sorted([*load_topics(), *dead_letter_topics()], key=lambda topic: topic.name)


def _rights(service: str) -> list[dict[str, Any]]:
    group = {"type": "group", "name": service, "patternType": "literal"}
    is_operator = service == OPERATOR
    # Readers outside of any group name one all the same, which is looked up and never joined. How far dead letters are
    # worked off is the offset of such a one.
    unjoined = {"type": "group", "name": "tocsin.", "patternType": "prefix"}
    rights: list[dict[str, Any]] = [
        {"resource": group, "operations": ["Read", "Describe"]},
        {"resource": unjoined, "operations": ["Read", "Describe"] if is_operator else ["Describe"]},
    ]
    for topic in _all_topics():
        writes = service in topic.producers or (is_operator and bool(topic.consumers))
        # After a crash a relay looks at the end of the topics it writes.
        reads = is_operator or service in (*topic.consumers, *topic.followers)
        operations = ["Read"] if writes or reads else []
        operations += ["Write"] if writes else []
        if operations:
            resource = {"type": "topic", "name": topic.name, "patternType": "literal"}
            rights.append({"resource": resource, "operations": [*operations, "Describe"]})
    return rights


def _documents(documents: Iterable[Mapping[str, Any]]) -> str:
    # One dump a document: dumped together, what they share would become YAML anchors.
    return NOTICE + "---\n".join(yaml.safe_dump(dict(document), sort_keys=False) for document in documents)


def write(folder: Path = KAFKA_FOLDER) -> None:
    """Write the manifests."""
    for name, make in MANIFESTS.items():
        (folder / name).write_text(make(), "utf-8")


if __name__ == "__main__":
    write()
