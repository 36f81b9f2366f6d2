"""`tocsin dlq`: what could not be handled, why, and what to do about it.

A dead-letter topic is worked off from its front: the offsets of the group `tocsin.dlq` say how far. What was
replayed or dropped stays readable (`list --all`) until the topic's retention ends.
"""

import asyncio
import json
from collections.abc import Iterator
from itertools import islice
from typing import Annotated, Any

import typer

from cli.environment import settings
from cli.errors import told_in_one_line
from cli.tail import decoded, header_text, plain
from shared.errors import InvalidInputError
from shared.inbox.dead_letters import PREFIX
from shared.kafka import reading
from shared.kafka.message import Message, OutgoingMessage
from shared.kafka.producer import EventProducer
from shared.schema.topics import dead_letter_topics

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
        letters = [letter for name in _names(topic) for letter in _letters(name, every=every)]
    if as_json:
        typer.echo(json.dumps([_facts(letter) for letter in letters], indent=2))
        return
    for letter in letters:
        facts = _facts(letter)
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
        if topic not in {known.name for known in dead_letter_topics()} or not offset.isdigit():
            raise InvalidInputError("ID", letter_id, "TOPIC@OFFSET as `tocsin dlq list` prints it")
        client = settings().kafka.client_config()
        letter = next((m for m in reading.read(client, topic, start={0: int(offset)}) if m.offset == int(offset)), None)
        if letter is None:
            raise InvalidInputError("ID", letter_id, "a dead letter that the topic still holds")
    typer.echo(json.dumps(_facts(letter) | {"content": plain(decoded(letter), shown_bytes=96)}, indent=2))


@app.command()
def replay(
    topic: Annotated[str, typer.Argument(help="A dead-letter topic.")], maximum: Maximum = 100, dry_run: DryRun = False
) -> None:
    """Publish waiting dead letters once more to the topic they came from, with their original bytes, key and headers."""
    with told_in_one_line():
        letters = list(islice(_letters(_known(topic), every=False), maximum))
        if not dry_run:
            asyncio.run(_republish(letters))
            _set_aside(topic, letters)
    _tell(letters, "would be replayed" if dry_run else "replayed")


@app.command()
def drop(
    topic: Annotated[str, typer.Argument(help="A dead-letter topic.")], maximum: Maximum = 100, dry_run: DryRun = False
) -> None:
    """Set waiting dead letters aside: they will not be replayed."""
    with told_in_one_line():
        letters = list(islice(_letters(_known(topic), every=False), maximum))
        if not dry_run:
            _set_aside(topic, letters)
    _tell(letters, "would be dropped" if dry_run else "dropped")


def waiting_counts() -> dict[str, int]:
    """Return how many dead letters wait in each dead-letter topic."""
    return {name: sum(1 for _ in _letters(name, every=False)) for name in _names(None)}


def original(letter: Message) -> OutgoingMessage:
    """Return the message that became `letter`, as it was.

    Raises
    ------
    InvalidInputError
        Its bytes were too many to be kept whole.
    """
    if letter.header(PREFIX + "cut-from-bytes") is not None:
        raise InvalidInputError(f"{letter.topic}@{letter.offset}", "cut when it was buried", "a whole message")
    topic = letter.header(PREFIX + "topic")
    if topic is None:
        raise InvalidInputError(f"{letter.topic}@{letter.offset}", "without a dlq-topic header", "a dead letter")
    return OutgoingMessage(
        topic=topic.decode(),
        key=letter.key,
        value=letter.value,
        headers=[(name, value) for name, value in letter.headers if not name.startswith(PREFIX)],
    )


async def _republish(letters: list[Message]) -> None:
    async with EventProducer(settings().kafka) as producer:
        await producer.send([original(letter) for letter in letters])


def _letters(topic: str, *, every: bool) -> Iterator[Message]:
    client = settings().kafka.client_config()
    start = None if every else reading.committed(client, GROUP, topic)
    seen = set()
    for letter in reading.read(client, topic, start=start):
        # A crash between burying a message and committing its offset buries it twice.
        origin = tuple(letter.header(PREFIX + part) for part in ("topic", "partition", "offset")), letter.key
        if origin not in seen:
            seen.add(origin)
            yield letter


def _set_aside(topic: str, letters: list[Message]) -> None:
    if letters:
        reading.commit(settings().kafka.client_config(), GROUP, topic, {0: letters[-1].offset + 1})


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
    return [_known(topic)] if topic is not None else [known.name for known in dead_letter_topics()]


def _known(topic: str) -> str:
    names = [known.name for known in dead_letter_topics()]
    if topic not in names:
        raise InvalidInputError("TOPIC", topic, f"one of {', '.join(names)}")
    return topic


def _tell(letters: list[Message], what: str) -> None:
    for letter in letters:
        typer.echo(f"{letter.topic}@{letter.offset} {what}")
    typer.echo(f"{len(letters)} {what}", err=True)
