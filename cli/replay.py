"""`tocsin replay`: publishes alerts and notices of bursts to the broker exactly as their observatories' brokers do."""

import asyncio
import json
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import chain, islice
from pathlib import Path
from typing import Annotated

import typer

from cli.broker import require_topic
from cli.catalogue import is_catalogue, read_catalogue
from cli.environment import settings
from cli.errors import told_in_one_line
from services.frb_intake.feeds.gcn import topic_of_notice
from services.frb_intake.feeds.subscriptions import is_xml, read_notice
from services.frb_intake.feeds.voevent import VOEVENT_TOPIC
from services.gw_listener.alerts import read_alert
from services.gw_listener.sources import ALERT_TOPIC
from shared.errors import InvalidInputError
from shared.events.gw import SupereventKind
from shared.kafka.message import FORMAT_HEADER, ID_HEADER, SENDER_HEADER, TEST_HEADER, OutgoingMessage
from shared.kafka.producer import EventProducer
from shared.settings import KafkaSettings

SENDER = "tocsin-replay"


@dataclass(frozen=True)
class Pace:
    """How fast to send: a pause before each message but the first, or in `speed_up` times their own rhythm."""

    interval_s: float = 0.0
    speed_up: float | None = None

    def pause_s(self, before: datetime | None, now: datetime | None) -> float:
        """Return how long to wait between two messages of these times (None: the message has none)."""
        if self.speed_up is None or before is None or now is None:
            return self.interval_s
        return max((now - before).total_seconds(), 0.0) / self.speed_up


@dataclass(frozen=True)
class _Item:
    name: str
    data: bytes
    time: datetime | None = None


def replay(
    files: Annotated[list[Path], typer.Argument(exists=True, dir_okay=False, readable=True, help="What to send.")],
    topic: Annotated[str | None, typer.Option(help="Where to; without it the topic that each belongs on.")] = None,
    check: Annotated[bool, typer.Option(help="Read each first and refuse what cannot be read.")] = True,
    interval_s: Annotated[float, typer.Option(min=0, help="Pause between two messages, seconds.")] = 0.0,
    rate: Annotated[float | None, typer.Option(min=1e-6, help="Messages per second at most.")] = None,
    speed_up: Annotated[
        float | None, typer.Option(min=1e-6, help="A catalogue's bursts in their own rhythm, so many times faster.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Send no more messages than this.")] = None,
) -> None:
    """Publish alerts, notices of bursts and a catalogue of bursts to the project's own broker, in the order given.

    Alerts (Avro or JSON) go to igwn.gwalert, notices in GCN's unified schema to the topic of their observatory,
    VOEvents to voevent.frb, and the bursts of the CHIME/FRB catalogue 1 (CSV), in the order of their arrival, as
    notices to gcn.notices.chime.frb. Bytes and headers are those of the real streams. Mock alerts and everything about
    bursts are marked `_test`.
    """
    paces = {"--interval-s": interval_s, "--rate": rate, "--speed-up": speed_up}
    given = [name for name, value in paces.items() if value]
    with told_in_one_line():
        if len(given) > 1:
            raise InvalidInputError(given[1], f"given with {given[0]}", "one of them")
        pace = Pace(interval_s=1 / rate if rate else interval_s, speed_up=speed_up)
        asyncio.run(publish(files, kafka=settings().kafka, topic=topic, check=check, pace=pace, limit=limit))


async def publish(
    files: list[Path],
    *,
    kafka: KafkaSettings,
    topic: str | None = None,
    check: bool = True,
    pace: Pace | None = None,
    limit: int | None = None,
) -> None:
    """Send what is in `files` one after the other, telling each.

    Raises
    ------
    InvalidInputError
        Something cannot be read (what is before it has been sent), or the broker has no such topic.
    """
    pace = pace or Pace()
    # The producer, made for services, would wait for a broker for ever.
    known = {topic or ALERT_TOPIC}
    await asyncio.to_thread(require_topic, kafka, topic or ALERT_TOPIC)
    async with EventProducer(kafka) as producer:
        before: _Item | None = None
        for item in islice(_items(files), limit):
            if before is not None:
                await asyncio.sleep(pace.pause_s(before.time, item.time))
            try:
                message = to_message(item.data, topic=topic, check=check)
            except InvalidInputError as error:
                raise InvalidInputError(f"{item.name}: {error.field}", error.value, error.expected) from error
            if message.topic not in known:
                await asyncio.to_thread(require_topic, kafka, message.topic)
                known.add(message.topic)
            await producer.send([message])
            typer.echo(f"{item.name}: {len(item.data)} bytes to {message.topic}", err=True)
            before = item


def to_message(data: bytes, *, topic: str | None = None, check: bool = True) -> OutgoingMessage:
    """Return an alert or notice as its observatory's broker carries it, on the topic it belongs on.

    Raises
    ------
    InvalidInputError
        It cannot be read, and `check` asks that it can.
    """
    # An alert of gravitational waves names no schema; a notice of a burst that names another's is refused as an alert.
    own = VOEVENT_TOPIC if is_xml(data) else topic_of_notice(data) if b'"$schema"' in data else None
    is_test = own is not None
    if own is not None and check:
        if read_notice(data) is None:
            raise InvalidInputError("packet", "about something else", "a VOEvent about a burst")
    elif check:
        is_test = read_alert(data).kind is not SupereventKind.REAL
    kind = b"voevent" if own == VOEVENT_TOPIC else b"json" if data.lstrip()[:1] in (b"{", b"[") else b"avro"
    headers = [(ID_HEADER, uuid.uuid4().bytes), (FORMAT_HEADER, kind), (SENDER_HEADER, SENDER.encode())]
    if is_test:
        headers.append((TEST_HEADER, b"true"))
    return OutgoingMessage(topic=topic or own or ALERT_TOPIC, key=None, value=data, headers=headers)


def _items(files: Iterable[Path]) -> Iterator[_Item]:
    return chain.from_iterable(map(_in_file, files))


def _in_file(file: Path) -> Iterator[_Item]:
    data = file.read_bytes()
    if not is_catalogue(data):
        yield _Item(file.name, data)
        return
    for burst in read_catalogue(data):
        yield _Item(str(burst.notice["id"]), json.dumps(burst.notice).encode(), burst.time_of_arrival)
