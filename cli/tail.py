"""`tocsin tail`: what is on a topic, decoded."""

import json
from typing import Annotated, Any

import typer

from cli.broker import require_topic
from cli.environment import settings
from cli.errors import told_in_one_line
from shared.kafka.message import Message
from shared.kafka.readable import decoded, header_text, plain
from shared.kafka.reading import read

SHOWN_BYTES = 48


def tail(
    topic: Annotated[str, typer.Argument(help="For example gw.skymaps; see `tocsin topics`.")],
    last: Annotated[int | None, typer.Option("--last", "-n", min=1, help="Only so many per partition.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes, until Ctrl-C.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per line, nothing cut.")] = False,
) -> None:
    """Print the records of a topic, decoded, with their headers."""
    with told_in_one_line():
        try:
            kafka = settings().kafka
            require_topic(kafka, topic)
            for message in read(kafka.client_config(), topic, last=last, follow=follow):
                typer.echo(json.dumps(_as_json(message)) if as_json else _as_text(message))
        except KeyboardInterrupt:
            raise typer.Exit from None


def _as_json(message: Message) -> dict[str, Any]:
    return {
        "topic": message.topic,
        "partition": message.partition,
        "offset": message.offset,
        "time": message.timestamp.isoformat() if message.timestamp else None,
        "key": message.key.decode("utf-8", "replace") if message.key is not None else None,
        "headers": {name: header_text(name, value) for name, value in message.headers},
        "records": plain(decoded(message)),
    }


def _as_text(message: Message) -> str:
    described = _as_json(message)
    headers = " ".join(f"{name}={value}" for name, value in described["headers"].items())
    records = json.dumps(plain(decoded(message), shown_bytes=SHOWN_BYTES), indent=2, ensure_ascii=False)
    return (
        f"── {message.topic}[{message.partition}]@{message.offset}  {described['time']}  key {described['key']}\n"
        f"   {headers}\n{records}"
    )
