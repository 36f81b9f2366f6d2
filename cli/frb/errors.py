"""What can go wrong between a client and the intake, and the exit code that tells it to a script."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import typer

from cli.errors import BAD_INPUT, FAILED
from shared.errors import InvalidInputError, PermanentError, TocsinError, TransientError

REFUSED_CREDENTIALS = 3
UNAVAILABLE = 4

EXIT_CODES = (
    "Exit codes: 0 done; 2 bad input, here or according to the server; 3 credentials missing, wrong or not enough;"
    " 4 the server cannot be reached or fails after all retries; 1 anything else."
)


class InvalidInputsError(PermanentError):
    """Several things are wrong with what was to be sent, one line each."""

    def __init__(self, complaints: Sequence[str]) -> None:
        self.complaints = tuple(complaints)
        super().__init__("\n".join(complaints))


class CredentialsError(PermanentError):
    """No credentials, wrong ones, or those of somebody who may not do this."""


class RefusedError(PermanentError):
    """The server says no for another reason: there is no such burst, or it is withdrawn."""


class UnknownAnswerError(PermanentError):
    """Whoever answers is no burst intake."""


class ServerUnavailableError(TransientError):
    """Nobody answers, or only to say that it does not work, after all retries."""


class BrokenOffError(ServerUnavailableError):
    """An answer ended before its end."""


@contextmanager
def told_line_by_line() -> Iterator[None]:
    """Exit as `EXIT_CODES` says, with one line on stderr for each thing that is wrong."""
    try:
        yield
    except TocsinError as error:
        for line in str(error).splitlines():
            typer.echo(f"error: {printable(line)}", err=True)
        raise typer.Exit(_exit_code(error)) from error


def printable(text: str) -> str:
    """Return `text` without what a terminal would obey instead of showing it."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def _exit_code(error: TocsinError) -> int:
    match error:
        case InvalidInputError() | InvalidInputsError():
            return BAD_INPUT
        case CredentialsError():
            return REFUSED_CREDENTIALS
        case TransientError():
            return UNAVAILABLE
        case _:
            return FAILED
