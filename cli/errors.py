"""How a command ends when something is wrong: one line on stderr, an exit code, no traceback."""

from collections.abc import Iterator
from contextlib import contextmanager

import typer
from pydantic import ValidationError

from shared.errors import InvalidInputError, TocsinError
from shared.settings import explain

BAD_INPUT = 2
FAILED = 1


@contextmanager
def told_in_one_line() -> Iterator[None]:
    """Exit with 2 for bad input or settings and 1 for any other failure of ours, saying which."""
    try:
        yield
    except TocsinError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(BAD_INPUT if isinstance(error, InvalidInputError) else FAILED) from error
    except ValidationError as error:
        # Of the settings: other models are read behind errors of ours.
        typer.echo(f"error: {'; '.join(explain(error).splitlines())}", err=True)
        raise typer.Exit(BAD_INPUT) from error
