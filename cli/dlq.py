"""`tocsin dlq`: what could not be handled, why, and what to do about it.

A dead-letter topic is worked off from its front: the offsets of the group `tocsin.dlq` say how far. What was
replayed or dropped stays readable (`list --all`) until the topic's retention ends.
"""

import asyncio
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Annotated, Any

import typer
from confluent_kafka import Consumer, KafkaException, TopicPartition

from cli.broker import ANSWER_TIMEOUT_S, topic_names
from cli.environment import settings
from cli.errors import told_in_one_line
from cli.tail import decoded, header_text, plain
from shared.errors import InvalidInputError
from shared.inbox.dead_letters import PREFIX
from shared.kafka import reading
from shared.kafka.errors import broker_error
from shared.kafka.message import Message, OutgoingMessage
from shared.kafka.producer import EventProducer
from shared.schema.topics import dead_letter_topics
from shared.settings import KafkaSettings

GROUP = "tocsin.dlq"

app = typer.Typer(help="Dead letters: list, show, replay, drop.", no_args_is_help=True)

TopicArgument = Annotated[str | None, typer.Argument(help="A dead-letter topic; all without it.")]
Maximum = Annotated[int, typer.Option("--max", min=1, help="At most so many, the oldest first.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done; do nothing.")]


@app.command("list")
def list_letters(
    topic: TopicArgument = None,
    every: Annotated[bool, typer.Option("--all", help="Also what was replayed or dropped.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """List waiting dead letters, one line each: where, since when, why."""
    with told_in_one_line():
        letters = [_facts(letter) for name in _names(topic) for letter in _letters(name, every=every)]
    if as_json:
        typer.echo(json.dumps(letters, indent=2))
        return
    for facts in letters:
        typer.echo(
            f"{facts['id']}  {facts['failed-at']}  from {facts['topic']}[{facts['partition']}]@{facts['offset']}"
            f"  {facts['size']} B  {facts['error-class']}: {facts['error']}"
        )
    typer.echo(f"{len(letters)} dead letters", err=True)


@app.command()
def show(letter_id: Annotated[str, typer.Argument(metavar="ID", help="As `list` prints it: TOPIC@OFFSET.")]) -> None:
    """Show one dead letter whole: reason, headers, decoded content."""
    with told_in_one_line():
        topic, _, offset = letter_id.rpartition("@")
        # Every number of 18 digits fits an offset, which is an int64.
        if topic not in _known_names() or not re.fullmatch("[0-9]{1,18}", offset):
            raise InvalidInputError("ID", letter_id, "TOPIC@OFFSET as `tocsin dlq list` prints it")
        _names(topic)
        kafka, position, letter = settings().kafka, int(offset), None
        if position < _bounds(kafka, [topic])[topic].end:
            # Retention may have taken it: then the first that is read is a later one.
            first = next(reading.read(kafka.client_config(), topic, start={0: position}), None)
            letter = first if first is not None and first.offset == position else None
        if letter is None:
            raise InvalidInputError("ID", letter_id, "a dead letter that the topic still holds")
    typer.echo(json.dumps(_facts(letter) | {"content": plain(decoded(letter), shown_bytes=96)}, indent=2))


@app.command()
def replay(
    topic: Annotated[str, typer.Argument(help="A dead-letter topic.")], maximum: Maximum = 100, dry_run: DryRun = False
) -> None:
    """Publish waiting dead letters once more where they came from, with their original bytes, key and headers."""
    with told_in_one_line():
        front = _front(topic, maximum)
        if not dry_run:
            asyncio.run(_republish(front.letters))
            _set_aside(topic, front)
    _tell(front.letters, "would be replayed" if dry_run else "replayed")


@app.command()
def drop(
    topic: Annotated[str, typer.Argument(help="A dead-letter topic.")], maximum: Maximum = 100, dry_run: DryRun = False
) -> None:
    """Set waiting dead letters aside: they will not be replayed."""
    with told_in_one_line():
        front = _front(topic, maximum)
        if not dry_run:
            _set_aside(topic, front)
    _tell(front.letters, "would be dropped" if dry_run else "dropped")


def waiting_counts(kafka: KafkaSettings) -> dict[str, int]:
    """Return how many dead letters wait in each dead-letter topic that the broker has; no message is read.

    Raises
    ------
    BrokerUnavailableError
        It does not answer.
    """
    topics = sorted(set(_known_names()) & topic_names(kafka))
    return {topic: bounds.end - bounds.begin for topic, bounds in _bounds(kafka, topics).items()}


@dataclass(frozen=True)
class _Bounds:
    """Offsets between which letters wait: what is before `begin` was replayed, dropped or outlived its retention."""

    begin: int
    end: int


def _bounds(kafka: KafkaSettings, topics: Sequence[str]) -> dict[str, _Bounds]:
    # The group is never joined; it only names whose committed offsets are meant.
    consumer = Consumer(kafka.client_config() | {"group.id": GROUP, "enable.auto.commit": False})
    try:
        partitions = [TopicPartition(topic, 0) for topic in topics]
        done = {known.topic: known.offset for known in consumer.committed(partitions, timeout=ANSWER_TIMEOUT_S)}
        held = {part.topic: consumer.get_watermark_offsets(part, timeout=ANSWER_TIMEOUT_S) for part in partitions}
    except KafkaException as exception:
        raise broker_error(exception.args[0], f"asking what {GROUP} has done") from exception
    finally:
        consumer.close()
    # What was never committed reads as an offset below zero.
    return {topic: _Bounds(max(done[topic], low), high) for topic, (low, high) in held.items()}


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


async def _republish(letters: list[Message]) -> None:
    async with EventProducer(settings().kafka) as producer:
        await producer.send([original(letter) for letter in letters])


@dataclass(frozen=True)
class _Front:
    """The oldest waiting letters of a topic, and the offset from which on others wait."""

    letters: list[Message]
    next_offset: int


def _front(topic: str, maximum: int) -> _Front:
    _names(topic)
    end = _bounds(settings().kafka, [topic])[topic].end
    waiting = _letters(topic, every=False)
    letters = list(islice(waiting, maximum))
    following = next(waiting, None)
    if following is not None:
        return _Front(letters, following.offset)
    # Behind the last letter only repeats can follow, which are set aside with it.
    return _Front(letters, max(end, letters[-1].offset + 1 if letters else 0))


def _letters(topic: str, *, every: bool) -> Iterator[Message]:
    client = settings().kafka.client_config()
    begin = 0 if every else _bounds(settings().kafka, [topic])[topic].begin
    # All are read, also those before `begin`: a letter written twice may stand on both sides of it.
    return (letter for letter in without_repeats(reading.read(client, topic)) if letter.offset >= begin)


def _set_aside(topic: str, front: _Front) -> None:
    reading.commit(settings().kafka.client_config(), GROUP, topic, {0: front.next_offset})


def _facts(letter: Message) -> dict[str, Any]:
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


def _names(topic: str | None) -> list[str]:
    """Return the dead-letter topics that are meant, all of which the broker has."""
    known = _known_names()
    if topic is not None and topic not in known:
        raise InvalidInputError("TOPIC", topic, f"one of {', '.join(known)}")
    there = topic_names(settings().kafka)
    if topic is not None and topic not in there:
        raise InvalidInputError("TOPIC", topic, "a topic of the broker; `tocsin topics --create` makes what it lacks")
    return [name for name in known if name in there] if topic is None else [topic]


def _known_names() -> list[str]:
    return [topic.name for topic in dead_letter_topics()]


def _tell(letters: list[Message], what: str) -> None:
    for letter in letters:
        typer.echo(f"{letter.topic}@{letter.offset} {what}")
    typer.echo(f"{len(letters)} {what}", err=True)
