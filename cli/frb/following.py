"""`tocsin frb follow`: what happens to bursts, as it happens."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from time import sleep
from typing import Annotated, Any

import typer

from cli.frb import options
from cli.frb.client import FrbClient
from cli.frb.errors import BrokenOffError, UnknownAnswerError, printable, told_line_by_line
from cli.frb.progress import tell

PAUSE_S = 1.0
# Between the end of one stream and the next: a server that ends streams at once must not be asked without pause.


@dataclass(frozen=True)
class ServerSentEvent:
    """One event of a stream (HTML standard, section 9.2)."""

    event_id: str
    kind: str
    data: str


def follow(
    last_event_id: Annotated[
        str | None, typer.Option("--last-event-id", metavar="ID", help="Begin behind this one; else with what comes.")
    ] = None,
    count: Annotated[int | None, typer.Option("--count", "-n", min=1, help="End after so many.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The whole record in each line, for machines.")] = False,
    server: options.Server = options.SERVER,
    token_file: options.TokenFile = None,
    timeout_s: options.TimeoutS = options.TIMEOUT_S,
    retries: options.Retries = options.RETRIES,
) -> None:
    """Print a line for every change of any burst, until Ctrl-C; a broken connection is taken up where it broke."""
    with told_line_by_line():
        try:
            client = options.reader(server, token_file, timeout_s, retries)
            for number, event in enumerate(_events(client, last_event_id), 1):
                typer.echo(event.data if as_json else _line(event))
                if number == count:
                    return
        except KeyboardInterrupt:
            raise typer.Exit from None


def parsed(chunks: Iterable[bytes]) -> Iterator[ServerSentEvent]:
    """Yield the events of a stream; comments and an unfinished event are left out.

    An event without data is an id alone: the place from which a follower goes on.
    """
    event_id, seen_id, kind, data = "", "", "", list[str]()
    for line in _lines(chunks):
        if not line:
            if data or event_id != seen_id:
                yield ServerSentEvent(event_id, kind or "message", "\n".join(data))
            seen_id, kind, data = event_id, "", []
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match name:
            case "id":
                event_id = value
            case "event":
                kind = value
            case "data":
                data.append(value)


def _lines(chunks: Iterable[bytes]) -> Iterator[str]:
    """Yield the lines, which end with LF or CR LF only: a note may hold what Python also takes for the end of one."""
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line.removesuffix(b"\r").decode("utf-8", "replace")


def _events(client: FrbClient, last_event_id: str | None) -> Iterator[ServerSentEvent]:
    while True:
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last_event_id} if last_event_id else {})
        try:
            with client.stream("/stream", headers=headers) as answer:
                tell(f"following {client.server}")
                for event in parsed(answer.iter_bytes()):
                    last_event_id = event.event_id or last_event_id
                    if event.data:
                        yield event
        except BrokenOffError as error:
            tell(str(error))
        sleep(PAUSE_S)


def _line(event: ServerSentEvent) -> str:
    try:
        record: dict[str, Any] = json.loads(event.data)
    except ValueError as error:
        raise UnknownAnswerError(f"event {event.event_id} is {event.data[:80]}; expected a burst in JSON") from error
    latest = record.get("latest") or {}
    facts = [
        f"{event.event_id}  {event.kind:<14} burst {record.get('frb_id')}  {str(record.get('status')).lower()}",
        f"arrived {record.get('time_of_arrival')}",
        f"DM {latest.get('dm_pc_cm3')}",
        f"S/N {latest.get('snr')}",
    ]
    return printable("  ".join(facts + (["test"] if record.get("is_test") else [])))
