"""`tocsin notices`: what was told to whom, what waits, and what is done about it."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Annotated

import typer

from cli.database import fetch
from cli.environment import settings
from cli.errors import told_in_one_line
from cli.table import columns
from services.notifier import by_hand
from services.notifier.settings import NAME
from services.notifier.store import NotifierStore
from shared.db.pool import create_pool
from shared.db.unit_of_work import unit_of_work
from shared.errors import InvalidInputError
from shared.events.notices import DeliveryState
from shared.kafka.readable import plain

SENDER = f"tocsin.{NAME}"

app = typer.Typer(help="What was told to whom: deliveries of the notifier.", no_args_is_help=True)


@app.command(name="list")
def list_command(
    channel: Annotated[str | None, typer.Option(help="Of this channel.")] = None,
    state: Annotated[DeliveryState | None, typer.Option(case_sensitive=False, help="In this state.")] = None,
    subject: Annotated[str | None, typer.Option(help="About this: frb/7, gw/S230518h, mma/S230518h-7.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest first.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """List deliveries, the newest first."""
    with told_in_one_line():
        rows = plain(
            fetch(
                "SELECT id, channel, mode, subject, revision, action, state, attempts, changed_at, reference, reason"
                " FROM notifier.deliveries WHERE ($1::text IS NULL OR channel = $1)"
                " AND ($2::text IS NULL OR state = $2) AND ($3::text IS NULL OR subject = $3)"
                " ORDER BY id DESC LIMIT $4",
                channel,
                state,
                subject,
                limit,
            )
        )
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
    elif rows:
        typer.echo(columns(rows))
    typer.echo(f"{len(rows)} deliveries", err=True)


@app.command()
def show(
    delivery_id: Annotated[int, typer.Argument(metavar="ID", help="The delivery's number.")],
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Show a delivery whole: what was sent, and what came back."""
    with told_in_one_line():
        rows = plain(fetch("SELECT * FROM notifier.deliveries WHERE id = $1", delivery_id))
        if not rows:
            raise InvalidInputError("ID", delivery_id, "a delivery; see `tocsin notices list`")
    row = rows[0]
    if as_json:
        typer.echo(json.dumps(row, indent=2))
        return
    for name, value in row.items():
        if name not in ("request", "answer"):
            typer.echo(f"{name:<16} {'-' if value is None else value}")
    for name in ("request", "answer"):
        if row[name] is not None:
            typer.echo(f"\n{name}\n{json.dumps(row[name], indent=2, ensure_ascii=False)}")


@app.command()
def retry(
    delivery_ids: Annotated[list[int], typer.Argument(metavar="ID...", help="Deliveries' numbers.")],
    send_again: Annotated[
        bool, typer.Option("--send-again", help="Also what may have arrived: it can be told twice.")
    ] = False,
) -> None:
    """Try deliveries again, now, in the mode that their channel has today: failed, suppressed and waiting ones.

    Test traffic stays away from production all the same.
    """
    with told_in_one_line():
        _each(delivery_ids, lambda store, found: by_hand.retry(store, found, by="hand", send_again=send_again))
    typer.echo(f"{len(delivery_ids)} tried again", err=True)


@app.command()
def suppress(
    delivery_ids: Annotated[list[int], typer.Argument(metavar="ID...", help="Deliveries' numbers.")],
    reason: Annotated[str, typer.Option(help="Why, for the record.")] = "",
) -> None:
    """Do not tell what waits."""
    with told_in_one_line():
        _each(delivery_ids, lambda store, found: by_hand.suppress(store, found, by="hand", reason=reason))
    typer.echo(f"{len(delivery_ids)} suppressed", err=True)


def _each(delivery_ids: list[int], work: Callable[[NotifierStore, int], Awaitable[None]]) -> None:
    """Do something with each delivery, all or none."""

    async def in_one_transaction() -> None:
        pool = await create_pool(settings().database, NAME)
        try:
            async with unit_of_work(pool) as opened:
                store = NotifierStore(opened, sender=SENDER)
                for delivery_id in delivery_ids:
                    await work(store, delivery_id)
        finally:
            await pool.close()

    asyncio.run(in_one_transaction())
