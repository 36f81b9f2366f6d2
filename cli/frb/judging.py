"""`tocsin frb rate` and `withdraw`: what people think of a burst."""

from enum import StrEnum
from typing import Annotated

import typer

from cli.frb import options
from cli.frb.client import Body, document
from cli.frb.errors import told_line_by_line


class Vote(StrEnum):
    """What somebody says of a burst."""

    CONFIRM = "confirm"
    REJECT = "reject"
    UNSURE = "unsure"


def rate(
    frb_id: options.FrbId,
    vote: Annotated[Vote, typer.Argument(help="Your last vote counts.")],
    note: Annotated[str | None, typer.Option("--note", help="Why, for others to read.")] = None,
    server: options.Server = options.SERVER,
    token_file: options.TokenFile = None,
    timeout_s: options.TimeoutS = options.TIMEOUT_S,
    retries: options.Retries = options.RETRIES,
) -> None:
    """Vote on a burst."""
    with told_line_by_line():
        said = {"rating": vote} if note is None else {"rating": vote, "note": note}
        client = options.writer(server, token_file, timeout_s, retries)
        event = document(client.post(f"/events/{frb_id}/ratings", Body.of_json(said)))
        votes = event.get("votes") or {}
    counted = ", ".join(f"{votes.get(each, 0)} {each}" for each in Vote)
    typer.echo(f"burst {frb_id}: {counted}")


def withdraw(
    frb_id: options.FrbId,
    reason: Annotated[str, typer.Option("--reason", help="What was wrong, for everybody who was told of the burst.")],
    server: options.Server = options.SERVER,
    token_file: options.TokenFile = None,
    timeout_s: options.TimeoutS = options.TIMEOUT_S,
    retries: options.Retries = options.RETRIES,
) -> None:
    """Take a burst back, for good: its submitter may, and operators."""
    with told_line_by_line():
        client = options.writer(server, token_file, timeout_s, retries)
        event = document(client.post(f"/events/{frb_id}/withdrawal", Body.of_json({"reason": reason})))
    typer.echo(f"burst {frb_id}: {str(event.get('status')).lower()}")
