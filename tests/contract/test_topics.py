"""Every topic has somebody who answers for it, and somewhere for what cannot be handled."""

from collections.abc import Iterator

import pytest
from pydantic import ValidationError

from shared.events.registry import RECORDS
from shared.schema.codec import MAX_CONTAINER_BYTES
from shared.schema.records import SCHEMAS
from shared.schema.topics import Topic, dead_letter_topic, dead_letter_topics, load_topics

SERVICES = {path.name for path in (SCHEMAS.parent / "services").iterdir() if (path / "__init__.py").exists()}
OURS = [topic for topic in load_topics() if not topic.external]


def everyone_on(topic: Topic) -> Iterator[str]:
    if not topic.external:
        yield topic.owner
        yield from topic.producers
    yield from topic.consumers
    yield from topic.followers


@pytest.mark.parametrize("topic", load_topics(), ids=lambda topic: topic.name)
def test_owner_producers_and_consumers_exist(topic: Topic) -> None:
    assert set(everyone_on(topic)) <= SERVICES


@pytest.mark.parametrize("topic", OURS, ids=lambda topic: topic.name)
def test_our_topic_carries_a_known_record_under_one_of_its_fields(topic: Topic) -> None:
    assert topic.record is not None
    assert topic.record in RECORDS
    assert topic.key in RECORDS[topic.record].model_fields
    assert topic.compatibility == "FULL_TRANSITIVE"
    assert topic.owner in topic.producers


def test_every_record_has_a_topic() -> None:
    assert {topic.record for topic in OURS} == set(RECORDS)


@pytest.mark.parametrize("topic", load_topics(), ids=lambda topic: topic.name)
def test_every_consumer_has_a_dead_letter_topic_kept_for_a_month(topic: Topic) -> None:
    dead = {letters.name: letters for letters in dead_letter_topics()}
    for service in topic.consumers:
        letters = dead[dead_letter_topic(topic.name, service)]
        assert letters.retention_days >= 30
        assert letters.max_message_bytes > topic.max_message_bytes, "the reason must fit beside the message"


@pytest.mark.parametrize("topic", [*load_topics(), *dead_letter_topics()], ids=lambda topic: topic.name)
def test_every_topic_takes_the_largest_container(topic: Topic) -> None:
    assert topic.max_message_bytes >= MAX_CONTAINER_BYTES


def a_topic(**changes: object) -> Topic:
    values = {
        "name": "gw.sample",
        "description": "Nothing but a sample of a topic.",
        "owner": "gw_listener",
        "record": "gw_alert",
        "key": "superevent_id",
        "partitions": 4,
        "retention_days": 7,
        "max_message_bytes": MAX_CONTAINER_BYTES,
        "compatibility": "FULL_TRANSITIVE",
        "producers": ["gw_listener"],
        "consumers": [],
    }
    return Topic.model_validate(values | changes)


def test_a_topic_knows_its_retention_in_the_brokers_unit() -> None:
    assert a_topic(retention_days=7).retention_ms == 604_800_000


@pytest.mark.parametrize(
    "change",
    [
        {"owner": ""},
        {"producers": []},
        {"max_message_bytes": 1_000_000},
        {"partitions": 0},
        {"key": None},
        {"record": None},
        {"compatibility": "NONE"},
        {"name": "Gw Sample"},
        {"retention": 7},
    ],
    ids=str,
)
def test_a_topic_file_that_breaks_the_format_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        a_topic(**change)
