"""Works dead-letter topics off from their fronts: what waits, why, and what is done about it.

The offsets of the group `tocsin.dlq` say how far a topic is done. What was replayed or dropped stays readable until
the topic's retention ends. Everything here blocks, but for `republish`.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Consumer, KafkaException, TopicPartition

from shared.errors import InvalidInputError
from shared.inbox.dead_letters import PREFIX
from shared.kafka import reading
from shared.kafka.admin import ANSWER_TIMEOUT_S, topic_names
from shared.kafka.errors import broker_error
from shared.kafka.message import Message, OutgoingMessage
from shared.kafka.producer import EventProducer
from shared.kafka.readable import header_text
from shared.schema.topics import dead_letter_topics
from shared.settings import KafkaSettings

GROUP = "tocsin.dlq"
LOOK_BACK = 200
# Letters before the front among which twins of those behind it are looked for: as many as a crash can bury twice.


@dataclass(frozen=True)
class Bounds:
    """Offsets between which letters wait: what is before `begin` was replayed, dropped or outlived its retention."""

    begin: int
    end: int

    @property
    def waiting(self) -> int:
        """How many wait, those written twice counted twice."""
        return self.end - self.begin


@dataclass(frozen=True)
class Front:
    """The oldest waiting letters of a topic, and the offset from which on others wait."""

    topic: str
    letters: list[Message]
    next_offset: int


def known_topics() -> list[str]:
    """Return the names of all dead-letter topics, whether the broker has them or not."""
    return [topic.name for topic in dead_letter_topics()]


def bounds(kafka: KafkaSettings, topics: Sequence[str]) -> dict[str, Bounds]:
    """Return where the waiting letters of topics begin and end, which the broker has; no message is read.

    Raises
    ------
    BrokerUnavailableError
        It does not answer.
    """
    # The group is never joined; it only names whose committed offsets are meant.
    consumer = Consumer(_client(kafka) | {"group.id": GROUP, "enable.auto.commit": False})
    try:
        partitions = [TopicPartition(topic, 0) for topic in topics]
        done = {known.topic: known.offset for known in consumer.committed(partitions, timeout=ANSWER_TIMEOUT_S)}
        held = {part.topic: consumer.get_watermark_offsets(part, timeout=ANSWER_TIMEOUT_S) for part in partitions}
    except KafkaException as exception:
        raise broker_error(exception.args[0], f"asking what {GROUP} has done") from exception
    finally:
        consumer.close()
    # What was never committed reads as an offset below zero.
    return {topic: Bounds(max(done[topic], low), high) for topic, (low, high) in held.items()}


def waiting_counts(kafka: KafkaSettings) -> dict[str, int]:
    """Return how many letters wait in each dead-letter topic that the broker has; no message is read.

    Raises
    ------
    BrokerUnavailableError
        It does not answer.
    """
    topics = sorted({*known_topics()} & topic_names(kafka))
    return {topic: found.waiting for topic, found in bounds(kafka, topics).items()}


def all_letters(kafka: KafkaSettings, topic: str) -> Iterator[Message]:
    """Yield every letter that a topic still holds, also those that were replayed or dropped."""
    return letters_from(kafka, topic, 0)


def waiting_letters(kafka: KafkaSettings, topic: str) -> Iterator[Message]:
    """Yield the letters that wait, the oldest first; those behind are not read before they are asked for."""
    return _waiting_from(kafka, topic, bounds(kafka, [topic])[topic].begin)


def _waiting_from(kafka: KafkaSettings, topic: str, begin: int) -> Iterator[Message]:
    # Some before `begin` too: a letter written twice may stand on both sides of it.
    read = letters_from(kafka, topic, max(begin - LOOK_BACK, 0))
    return (letter for letter in read if letter.offset >= begin)


def letters_from(kafka: KafkaSettings, topic: str, offset: int) -> Iterator[Message]:
    """Yield the letters from an offset on; those behind are not read before they are asked for."""
    return without_repeats(reading.read(_client(kafka), topic, start={0: offset}))


def letter_at(kafka: KafkaSettings, topic: str, offset: int) -> Message | None:
    """Return the letter at an offset; None when the topic does not hold it, or not any more."""
    return reading.read_one(_client(kafka), topic, 0, offset=offset)


def front(kafka: KafkaSettings, topic: str, maximum: int, *, until: int | None = None) -> Front:
    """Return the oldest waiting letters, `maximum` at most, and none behind the offset `until`."""
    place = bounds(kafka, [topic])[topic]
    letters: list[Message] = []
    for letter in _waiting_from(kafka, topic, place.begin):
        if len(letters) == maximum or (until is not None and letter.offset > until):
            return Front(topic, letters, letter.offset)
        letters.append(letter)
    # Behind the last letter only repeats can follow, which are set aside with it.
    return Front(topic, letters, max(place.end, letters[-1].offset + 1 if letters else 0))


def set_aside(kafka: KafkaSettings, front: Front) -> None:
    """Have the letters of a front, and their repeats, wait no longer."""
    reading.commit(_client(kafka), GROUP, front.topic, {0: front.next_offset})


async def republish(kafka: KafkaSettings, letters: Iterable[Message]) -> None:
    """Publish letters once more where they came from, with their original bytes, key and headers.

    Raises
    ------
    InvalidInputError
        One cannot be made whole again; none was published.
    """
    messages = [original(letter) for letter in letters]
    async with EventProducer(kafka) as producer:
        await producer.send(messages)


def without_repeats(letters: Iterable[Message]) -> Iterator[Message]:
    """Leave out letters written twice, as a crash between burying a message and committing its offset does."""
    seen = set()
    for letter in letters:
        origin = tuple(letter.header(PREFIX + part) for part in ("service", "topic", "partition", "offset"))
        # The content too: offsets begin anew when a topic is made anew.
        identity = origin, letter.key, hashlib.sha256(letter.value).digest()
        if identity not in seen:
            seen.add(identity)
            yield letter


def original(letter: Message) -> OutgoingMessage:
    """Return the message that became `letter`, as it was, for the topic of ours that its dead-letter topic belongs to.

    What came from another broker's topic, or a file, goes to the topic that stands for it here.

    Raises
    ------
    InvalidInputError
        It is no dead letter, or its bytes were too many to be kept whole.
    """
    if letter.header(PREFIX + "cut-from-bytes") is not None:
        raise InvalidInputError(f"{letter.topic}@{letter.offset}", "cut when it was buried", "a whole message")
    if letter.header(PREFIX + "topic") is None:
        raise InvalidInputError(f"{letter.topic}@{letter.offset}", "without a dlq-topic header", "a dead letter")
    return OutgoingMessage(
        topic=letter.topic.rpartition(".dlq.")[0],
        key=letter.key,
        value=letter.value,
        headers=[(name, value) for name, value in letter.headers if not name.startswith(PREFIX)],
    )


def facts_of(letter: Message) -> Mapping[str, Any]:
    """Return what a letter tells of itself, without its content: where it came from, when and why it failed."""
    reasons = {
        name.removeprefix(PREFIX): value.decode("utf-8", "replace")
        for name, value in letter.headers
        if name.startswith(PREFIX)
    }
    return {
        "id": f"{letter.topic}@{letter.offset}",
        **{name: reasons.get(name) for name in ("topic", "partition", "offset", "failed-at", "error-class", "error")},
        "service": reasons.get("service"),
        "size": len(letter.value),
        "key": letter.key.decode("utf-8", "replace") if letter.key is not None else None,
        "headers": {name: header_text(name, value) for name, value in letter.headers if not name.startswith(PREFIX)},
    }


def _client(kafka: KafkaSettings) -> dict[str, Any]:
    # librdkafka's log, a line for every failed attempt to connect, is nothing for people.
    return kafka.client_config() | {"log_level": 0}
