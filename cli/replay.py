"""`tocsin replay`: publishes alert files to the broker exactly as SCiMMA does."""

import asyncio
import uuid
from pathlib import Path
from typing import Annotated

import typer

from cli.broker import require_topic
from cli.environment import settings
from cli.errors import told_in_one_line
from services.gw_listener.alerts import read_alert
from services.gw_listener.sources import ALERT_TOPIC
from shared.errors import InvalidInputError
from shared.events.gw import SupereventKind
from shared.kafka.message import FORMAT_HEADER, ID_HEADER, SENDER_HEADER, TEST_HEADER, OutgoingMessage
from shared.kafka.producer import EventProducer
from shared.settings import KafkaSettings

SENDER = "tocsin-replay"


def replay(
    files: Annotated[list[Path], typer.Argument(exists=True, dir_okay=False, readable=True, help="Alert files.")],
    topic: Annotated[str, typer.Option(help="Where to.")] = ALERT_TOPIC,
    check: Annotated[bool, typer.Option(help="Read each file first and refuse what is no alert.")] = True,
    interval_s: Annotated[float, typer.Option(min=0, help="Pause between two files, seconds.")] = 0.0,
) -> None:
    """Publish alert files (Avro or JSON) to igwn.gwalert of the project's own broker, in the order given.

    Bytes and headers are those of the real stream (`_format`, `_id`, `_sender`), so everything downstream sees what
    it would see from SCiMMA. Mock alerts are marked `_test`.
    """
    with told_in_one_line():
        asyncio.run(publish(files, kafka=settings().kafka, topic=topic, check=check, interval_s=interval_s))


async def publish(
    files: list[Path], *, kafka: KafkaSettings, topic: str = ALERT_TOPIC, check: bool = True, interval_s: float = 0.0
) -> None:
    """Send `files` one after the other, telling each.

    Raises
    ------
    InvalidInputError
        A file is no alert (those before it have been sent), or the broker has no such topic.
    """
    # The producer, made for services, would wait for a broker for ever.
    await asyncio.to_thread(require_topic, kafka, topic)
    async with EventProducer(kafka) as producer:
        for number, file in enumerate(files):
            if number and interval_s:
                await asyncio.sleep(interval_s)
            data = await asyncio.to_thread(file.read_bytes)
            try:
                message = _message(topic, data, check=check)
            except InvalidInputError as error:
                raise InvalidInputError(f"{file.name}: {error.field}", error.value, error.expected) from error
            await producer.send([message])
            typer.echo(f"{file.name}: {len(data)} bytes to {topic}", err=True)


def _message(topic: str, data: bytes, *, check: bool) -> OutgoingMessage:
    is_json = data.lstrip()[:1] in (b"{", b"[")
    headers = [
        (ID_HEADER, uuid.uuid4().bytes),
        (FORMAT_HEADER, b"json" if is_json else b"avro"),
        (SENDER_HEADER, SENDER.encode()),
    ]
    if check and read_alert(data).kind is not SupereventKind.REAL:
        headers.append((TEST_HEADER, b"true"))
    return OutgoingMessage(topic=topic, key=None, value=data, headers=headers)
