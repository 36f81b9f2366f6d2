"""`tocsin coincidence`: pairs of waves and bursts, what became of them, and how often chance does as well."""

import typer

from cli.coincidence.background import background
from cli.coincidence.reading import list_command, show
from cli.coincidence.rescore import rescore

app = typer.Typer(help="Pairs of gravitational waves and bursts.", no_args_is_help=True)
app.command(name="list")(list_command)
app.command()(show)
app.command()(rescore)
app.command()(background)
