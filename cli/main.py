"""`tocsin`: everything an operator types."""

import typer

from cli import demo, dlq, migrate, replay, skymaps, tail, topics
from cli.skymap import skymap
from cli.stack.commands import down, status, up
from cli.superevent import superevent

app = typer.Typer(
    name="tocsin",
    help="Tocsin: an observatory's alarm bell and engine room for multi-messenger astronomy.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

SYSTEM, EVENTS, SCIENCE = "The system on this machine", "Events", "Science"

app.command(rich_help_panel=SYSTEM)(up)
app.command(rich_help_panel=SYSTEM)(down)
app.command(rich_help_panel=SYSTEM)(status)
app.command(rich_help_panel=SYSTEM)(demo.demo)
app.command("migrate", rich_help_panel=SYSTEM)(migrate.migrate_command)
app.command(rich_help_panel=EVENTS)(topics.topics)
app.command(rich_help_panel=EVENTS)(tail.tail)
app.command(rich_help_panel=EVENTS)(replay.replay)
app.add_typer(dlq.app, name="dlq", rich_help_panel=EVENTS)
app.command(rich_help_panel=SCIENCE)(skymap)
app.command(rich_help_panel=SCIENCE)(superevent)
app.command(rich_help_panel=SCIENCE)(skymaps.skymaps)


def main() -> None:
    """Run the command line."""
    app()
