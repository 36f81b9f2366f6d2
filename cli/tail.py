"""`tocsin tail`: what is on a topic, decoded."""

import base64
import json
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import typer

from cli.broker import require_topic
from cli.environment import settings
from cli.errors import told_in_one_line
from shared.kafka.message import ID_HEADER, Message
from shared.kafka.reading import read
from shared.schema.codec import UndecodableRecordError, decode_any

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


def decoded(message: Message) -> Any:
    """Return the records of a message; what is no container is said to be so, with its size."""
    try:
        return decode_any(message.value)
    except UndecodableRecordError as error:
        return {"undecodable": str(error), "bytes": message.value}


def header_text(name: str, value: bytes) -> str:
    """Return a header as text; hop's 16-byte `_id` as a UUID."""
    if name == ID_HEADER and len(value) == 16:
        return str(UUID(bytes=value))
    return value.decode("utf-8", "replace")


def plain(value: Any, *, shown_bytes: int | None = None) -> Any:
    """Return a decoded value as JSON knows it: ISO 8601 times; bytes in base64, or cut to `shown_bytes` and counted."""
    match value:
        case dict():
            return {key: plain(part, shown_bytes=shown_bytes) for key, part in value.items()}
        case list() | tuple():
            return [plain(part, shown_bytes=shown_bytes) for part in value]
        case bytes() if shown_bytes is not None and len(value) > shown_bytes:
            return f"{base64.b64encode(value[:shown_bytes]).decode()}… ({len(value)} bytes)"
        case bytes():
            return base64.b64encode(value).decode()
        case datetime():
            return value.isoformat()
        case UUID():
            return str(value)
        case _:
            return value
