"""A topic of dead letters is worked off from its front, and no more of it is read than is asked for."""

from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from cli.stack.kafka import KafkaBroker
from shared.inbox import dead_letter_desk as desk
from shared.inbox.dead_letters import dead_letter
from shared.kafka.message import Message
from shared.settings import KafkaSettings
from tests.support.runtime import a_topic, send


@pytest.fixture
def kafka(kafka_broker: KafkaBroker) -> KafkaSettings:
    return KafkaSettings(bootstrap_servers=kafka_broker.address)


def bury(kafka: KafkaSettings, topic: str, *values: str) -> None:
    """Put letters on a topic; the same value is the same message buried again."""
    for value in values:
        message = Message("t", 0, hash(value), value.encode(), value.encode())
        letter = dead_letter(
            message, topic=topic, error=ValueError("why"), service="s", version="0", failed_at=datetime.now(UTC)
        )
        send(kafka.bootstrap_servers, topic, (letter.key, letter.value, letter.headers))


def values(letters: Sequence[Message]) -> list[str]:
    return [letter.value.decode() for letter in letters]


def test_the_front_moves_on_and_what_it_left_can_still_be_read(kafka: KafkaSettings) -> None:
    topic = a_topic(kafka.bootstrap_servers)
    assert desk.front(kafka, topic, 10) == desk.Front(topic, [], 0)
    bury(kafka, topic, "a", "b", "c", "d")
    assert desk.bounds(kafka, [topic]) == {topic: desk.Bounds(0, 4)}
    front = desk.front(kafka, topic, 2)
    assert (values(front.letters), front.next_offset) == (["a", "b"], 2)
    desk.set_aside(kafka, front)
    assert values(list(desk.waiting_letters(kafka, topic))) == ["c", "d"]
    assert values(list(desk.all_letters(kafka, topic))) == ["a", "b", "c", "d"]
    until = desk.front(kafka, topic, 10, until=2)
    assert (values(until.letters), until.next_offset) == (["c"], 3)
    letter = desk.letter_at(kafka, topic, 0)
    assert letter is not None
    assert letter.value == b"a"
    assert desk.letter_at(kafka, topic, 4) is None


def test_letters_written_twice_go_with_the_first(kafka: KafkaSettings) -> None:
    topic = a_topic(kafka.bootstrap_servers)
    bury(kafka, topic, "a", "b", "a", "b", "c")
    assert values(list(desk.waiting_letters(kafka, topic))) == ["a", "b", "c"]
    front = desk.front(kafka, topic, 1)
    assert (values(front.letters), front.next_offset) == (["a"], 1)
    desk.set_aside(kafka, front)
    # The second a stands behind the front, the first before it.
    assert values(list(desk.waiting_letters(kafka, topic))) == ["b", "c"]
    desk.set_aside(kafka, desk.front(kafka, topic, 1))
    assert values(list(desk.waiting_letters(kafka, topic))) == ["c"]
    desk.set_aside(kafka, desk.front(kafka, topic, 10))
    assert desk.bounds(kafka, [topic])[topic].waiting == 0
