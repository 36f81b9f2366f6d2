"""`tocsin user`: who may send, rate and operate; written to the burst intake's database."""

import json
import sys
from typing import Annotated, Any

import typer

from cli.accounts import on_accounts, to_the_second
from cli.errors import told_in_one_line
from cli.table import columns
from services.frb_intake import accounts
from shared.errors import InvalidInputError
from shared.kafka.readable import plain

app = typer.Typer(help="Users of the burst intake: add, list, disable, enable.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="As in FRB_USER.")]


@app.command()
def add(
    name: Name,
    role: Annotated[
        str, typer.Option("--role", metavar="ROLES", help="Of submit, rate, operate and read, with commas between.")
    ],
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from standard input instead of asking.")
    ] = False,
    no_password: Annotated[
        bool, typer.Option("--no-password", help="For who logs in at the OpenID provider, or has tokens alone.")
    ] = False,
) -> None:
    """Add a user."""
    with told_in_one_line():
        if no_password and password_stdin:
            raise InvalidInputError("--no-password", "given", "no --password-stdin beside it")
        password = None if no_password else _password(from_stdin=password_stdin)
        roles = [part.strip() for part in role.split(",")]
        on_accounts(lambda connection: accounts.add_user(connection, name=name, roles=roles, password=password))
    typer.echo(f"{name} may {', '.join(roles)}", err=True)


@app.command("list")
def list_users(as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False) -> None:
    """List the users and what each may do."""
    with told_in_one_line():
        users = on_accounts(accounts.list_users)
    if as_json:
        typer.echo(json.dumps(plain(users), indent=2))
    elif users:
        typer.echo(columns([_row(user) for user in users]))


@app.command()
def disable(name: Name) -> None:
    """Refuse a user's password and tokens from now on, and end their sessions; what they sent stays."""
    _set_disabled(name, disabled=True)


@app.command()
def enable(name: Name) -> None:
    """Accept a disabled user's password and tokens again."""
    _set_disabled(name, disabled=False)


def _set_disabled(name: str, *, disabled: bool) -> None:
    with told_in_one_line():
        on_accounts(lambda connection: accounts.set_disabled(connection, name=name, disabled=disabled))
    typer.echo(f"{name} is {'disabled' if disabled else 'enabled'}", err=True)


def _password(*, from_stdin: bool) -> str:
    if from_stdin:
        # Without the end of the line, which `echo` adds; a password may end in blanks.
        return sys.stdin.read().removesuffix("\n").removesuffix("\r")
    if not sys.stdin.isatty():
        raise InvalidInputError("--password-stdin", "missing", "it, where no terminal is there to ask")
    password: str = typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    return password


def _row(user: dict[str, Any]) -> dict[str, str | None]:
    return {
        "name": user["name"],
        "roles": ",".join(user["roles"]),
        "created_at": to_the_second(user["created_at"]),
        "disabled_at": to_the_second(user["disabled_at"]),
    }
