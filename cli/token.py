"""`tocsin token`: what a program shows instead of a password; written to the burst intake's database."""

import json
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from cli.accounts import on_accounts, to_the_second
from cli.errors import told_in_one_line
from cli.table import columns
from services.frb_intake import accounts
from shared.kafka.readable import plain

app = typer.Typer(help="Tokens of the burst intake's users: create, list, revoke.", no_args_is_help=True)


@app.command()
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose; the token may what this user may.")],
    expires_days: Annotated[
        int | None, typer.Option("--expires-days", min=1, max=36500, help="Refused after so many days; else never.")
    ] = None,
) -> None:
    """Print a new token, for the only time: what is stored cannot be turned back into it."""
    expires_at = None if expires_days is None else datetime.now(UTC) + timedelta(days=expires_days)
    with told_in_one_line():
        token = on_accounts(lambda connection: accounts.create_token(connection, name=name, expires_at=expires_at))
    typer.echo(token)


@app.command("list")
def list_tokens(as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False) -> None:
    """List the tokens, without their secrets."""
    with told_in_one_line():
        tokens = on_accounts(accounts.list_tokens)
    if as_json:
        typer.echo(json.dumps(plain(tokens), indent=2))
    elif tokens:
        typer.echo(columns([_row(token) for token in tokens]))


@app.command()
def revoke(token_id: Annotated[int, typer.Argument(metavar="ID", min=1, help="As `list` prints it.")]) -> None:
    """Refuse a token from now on."""
    with told_in_one_line():
        on_accounts(lambda connection: accounts.revoke_token(connection, token_id=token_id))
    typer.echo(f"token {token_id} is revoked", err=True)


def _row(token: dict[str, Any]) -> dict[str, Any]:
    times = ("created_at", "expires_at", "revoked_at")
    return {"id": token["id"], "name": token["name"], **{time: to_the_second(token[time]) for time in times}}
