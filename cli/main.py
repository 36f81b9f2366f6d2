"""`tocsin`: everything an operator types."""

import sys
from collections.abc import Iterable
from importlib import import_module
from typing import NamedTuple

import typer

SYSTEM, EVENTS, SCIENCE, BURSTS = "The system on this machine", "Events", "Science", "Fast radio bursts"


class _Command(NamedTuple):
    module: str
    function: str
    panel: str


COMMANDS = {
    "up": _Command("cli.stack.commands", "up", SYSTEM),
    "down": _Command("cli.stack.commands", "down", SYSTEM),
    "status": _Command("cli.stack.commands", "status", SYSTEM),
    "demo": _Command("cli.demo", "demo", SYSTEM),
    "migrate": _Command("cli.migrate", "migrate_command", SYSTEM),
    "topics": _Command("cli.topics", "topics", EVENTS),
    "tail": _Command("cli.tail", "tail", EVENTS),
    "replay": _Command("cli.replay", "replay", EVENTS),
    "dlq": _Command("cli.dlq", "app", EVENTS),
    "notices": _Command("cli.notices", "app", EVENTS),
    "drill": _Command("cli.drill", "drill", EVENTS),
    "skymap": _Command("cli.skymap", "skymap", SCIENCE),
    "overlap": _Command("cli.overlap", "overlap_command", SCIENCE),
    "superevent": _Command("cli.superevent", "superevent", SCIENCE),
    "skymaps": _Command("cli.skymaps", "skymaps", SCIENCE),
    "coincidence": _Command("cli.coincidence.app", "app", SCIENCE),
    "frb": _Command("cli.frb.app", "app", BURSTS),
    "user": _Command("cli.user", "app", BURSTS),
    "token": _Command("cli.token", "app", BURSTS),
}


def build(names: Iterable[str] = COMMANDS) -> typer.Typer:
    """Return the command line with the named commands.

    Only their modules are imported: a service's image has not what every command needs, and nobody waits for
    astronomy before `tocsin status`.
    """
    app = typer.Typer(
        name="tocsin", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, callback=_tocsin
    )
    for name in names:
        command = COMMANDS[name]
        settings: dict[str, bool] = {}
        try:
            found = getattr(import_module(command.module), command.function)
        except ModuleNotFoundError as error:
            found, settings = _unavailable(name, error), {"allow_extra_args": True, "ignore_unknown_options": True}
        if isinstance(found, typer.Typer):
            app.add_typer(found, name=name, rich_help_panel=command.panel)
        else:
            app.command(name, rich_help_panel=command.panel, context_settings=settings)(found)
    return app


def main() -> None:
    """Run the command line."""
    asked = sys.argv[1:2]
    build(asked if asked and asked[0] in COMMANDS else COMMANDS)()


def _tocsin() -> None:
    """Tocsin: an observatory's alarm bell and engine room for multi-messenger astronomy."""


def _unavailable(name: str, error: ModuleNotFoundError) -> object:
    def missing() -> None:
        """Not available here: a Python package is missing."""
        typer.echo(f"error: `tocsin {name}` needs {error.name}; install Tocsin with all its extras", err=True)
        raise typer.Exit(1)

    return missing
