"""`tocsin dlq`: what could not be handled, why, and what to do about it.

A dead-letter topic is worked off from its front (`shared.inbox.dead_letter_desk`). What was replayed or dropped stays
readable (`list --all`) until the topic's retention ends.
"""

import asyncio
import json
import re
from collections.abc import Sequence
from typing import Annotated

import typer

from cli.environment import settings
from cli.errors import told_in_one_line
from shared.errors import InvalidInputError
from shared.inbox import dead_letter_desk as desk
from shared.kafka.admin import topic_names
from shared.kafka.message import Message
from shared.kafka.readable import decoded, plain

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
        kafka, letters_of = settings().kafka, desk.all_letters if every else desk.waiting_letters
        letters = [desk.facts_of(letter) for name in _names(topic) for letter in letters_of(kafka, name)]
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
        if topic not in desk.known_topics() or not re.fullmatch("[0-9]{1,18}", offset):
            raise InvalidInputError("ID", letter_id, "TOPIC@OFFSET as `tocsin dlq list` prints it")
        _names(topic)
        letter = desk.letter_at(settings().kafka, topic, int(offset))
        if letter is None:
            raise InvalidInputError("ID", letter_id, "a dead letter that the topic still holds")
    facts = {**desk.facts_of(letter), "content": plain(decoded(letter), shown_bytes=96)}
    typer.echo(json.dumps(facts, indent=2))


@app.command()
def replay(
    topic: Annotated[str, typer.Argument(help="A dead-letter topic.")], maximum: Maximum = 100, dry_run: DryRun = False
) -> None:
    """Publish waiting dead letters once more where they came from, with their original bytes, key and headers."""
    with told_in_one_line():
        front = _front(topic, maximum)
        if not dry_run:
            kafka = settings().kafka
            asyncio.run(desk.republish(kafka, front.letters))
            desk.set_aside(kafka, front)
    _tell(front.letters, "would be replayed" if dry_run else "replayed")


@app.command()
def drop(
    topic: Annotated[str, typer.Argument(help="A dead-letter topic.")], maximum: Maximum = 100, dry_run: DryRun = False
) -> None:
    """Set waiting dead letters aside: they will not be replayed."""
    with told_in_one_line():
        front = _front(topic, maximum)
        if not dry_run:
            desk.set_aside(settings().kafka, front)
    _tell(front.letters, "would be dropped" if dry_run else "dropped")


def _front(topic: str, maximum: int) -> desk.Front:
    _names(topic)
    return desk.front(settings().kafka, topic, maximum)


def _names(topic: str | None) -> Sequence[str]:
    """Return the dead-letter topics that are meant, all of which the broker has."""
    known = desk.known_topics()
    if topic is not None and topic not in known:
        raise InvalidInputError("TOPIC", topic, f"one of {', '.join(known)}")
    there = topic_names(settings().kafka)
    if topic is not None and topic not in there:
        raise InvalidInputError("TOPIC", topic, "a topic of the broker; `tocsin topics --create` makes what it lacks")
    return [name for name in known if name in there] if topic is None else [topic]


def _tell(letters: list[Message], what: str) -> None:
    for letter in letters:
        typer.echo(f"{letter.topic}@{letter.offset} {what}")
    typer.echo(f"{len(letters)} {what}", err=True)
