"""How far a transfer is, for people: on stderr, and only where that is a terminal."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn


def tell(line: str) -> None:
    """Say something on the way that is no result."""
    # print, because typer.echo writes past the bar, into its line.
    print(line, file=sys.stderr, flush=True)


@contextmanager
def transfer_bar(what: str, total_bytes: int | None = None) -> Iterator[Callable[[int], None]]:
    """Show a bar, removed at the end; yield the function to be told how many bytes have gone so far."""
    console = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=total_bytes)
        yield lambda done_bytes: progress.update(task, completed=done_bytes)
