"""`tocsin`: everything an operator types."""

import typer

from cli import dlq, migrate, replay, superevent, tail, topics
from cli.skymap import skymap
from cli.stack.commands import down, status, up

app = typer.Typer(
    name="tocsin",
    help="Tocsin: an observatory's alarm bell and engine room for multi-messenger astronomy.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

for command in (up, down, status):
    app.command(rich_help_panel="The system on this machine")(command)
app.command("migrate", rich_help_panel="The system on this machine")(migrate.migrate_command)
for command in (topics.topics, tail.tail, replay.replay):
    app.command(rich_help_panel="Events")(command)
app.add_typer(dlq.app, name="dlq", rich_help_panel="Events")
for command in (skymap, superevent.superevent):
    app.command(rich_help_panel="Science")(command)


def main() -> None:
    """Run the command line."""
    app()
