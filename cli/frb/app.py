"""`tocsin frb`: its commands."""

import typer

from cli.frb import following, judging, reading
from cli.frb.errors import EXIT_CODES
from cli.frb.upload import upload

app = typer.Typer(help="Fast radio bursts: send, read, rate them, over HTTP.", no_args_is_help=True)


def _hyphenated(option: str) -> str:
    """Take --radio_yaml for --radio-yaml: so it was called before."""
    return option.replace("_", "-")


app.command("upload", epilog=EXIT_CODES, context_settings={"token_normalize_func": _hyphenated})(upload)
app.command("list", epilog=EXIT_CODES)(reading.list_bursts)
app.command("show", epilog=EXIT_CODES)(reading.show)
app.command("export", epilog=EXIT_CODES)(reading.export)
app.command("follow", epilog=EXIT_CODES)(following.follow)
app.command("rate", epilog=EXIT_CODES)(judging.rate)
app.command("withdraw", epilog=EXIT_CODES)(judging.withdraw)
