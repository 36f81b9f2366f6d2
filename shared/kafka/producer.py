"""An asyncio face on confluent-kafka's plain producer.

Not its `AIOProducer`, which refuses headers and buffers for up to a second.
"""

import asyncio
import logging
import threading
from collections.abc import Sequence
from typing import Any

import structlog
from confluent_kafka import KafkaError, KafkaException, Producer

from shared.errors import TocsinError
from shared.kafka.errors import broker_error
from shared.kafka.message import OutgoingMessage
from shared.schema.topics import DEAD_LETTER_HEADROOM_BYTES
from shared.settings import MAX_MESSAGE_BYTES, KafkaSettings

FLUSH_TIMEOUT_S = 5.0
# How long a stop waits for deliveries; what is not delivered by then is still in an outbox.

log = structlog.get_logger(__name__)


def producer_config(settings: KafkaSettings) -> dict[str, Any]:
    """Return librdkafka settings for a producer that neither loses, doubles nor reorders."""
    return settings.client_config() | {
        "enable.idempotence": True,
        "acks": "all",
        "linger.ms": 0,
        "message.max.bytes": MAX_MESSAGE_BYTES + DEAD_LETTER_HEADROOM_BYTES,
        "compression.type": "none",  # sky maps barely compress, small events are not worth the time
        "message.timeout.ms": 0,  # never give up: a message given up in the middle would break the order of its key
    }


class EventProducer:
    """Sends messages and says when the broker has them. Use as an async context manager."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._producer = Producer(producer_config(settings), logger=logging.getLogger("librdkafka.producer"))
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._serve_reports, name="kafka-producer", daemon=True)

    async def __aenter__(self) -> "EventProducer":
        self._thread.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stopping.set()
        await asyncio.to_thread(self._thread.join)

    async def send(self, messages: Sequence[OutgoingMessage]) -> None:
        """Send messages in order; return when the broker has acknowledged every one.

        Raises
        ------
        BrokerUnavailableError
            Some were not acknowledged; whether the broker has them is not known. A broker that is merely
            away is waited for.
        BrokerRefusedError
            The broker will never take one of them.
        ClientFailedError
            No message can be sent any more.
        """
        loop = asyncio.get_running_loop()
        reports: list[asyncio.Future[KafkaError | None]] = []
        failure: TocsinError | None = None
        for message in messages:
            report: asyncio.Future[KafkaError | None] = loop.create_future()
            try:
                await self._enqueue(message, loop, report)
            except TocsinError as error:
                failure = error
                break
            reports.append(report)
        # Also after a failure: who is told of it may look at what arrived, and nothing may be on its way then.
        for message, report in zip(messages, reports, strict=False):
            refusal = await report
            if refusal is not None and failure is None:
                failure = broker_error(refusal, f"sending to {message.topic}")
        if failure is not None:
            raise failure

    async def _enqueue(
        self,
        message: OutgoingMessage,
        loop: asyncio.AbstractEventLoop,
        report: "asyncio.Future[KafkaError | None]",
    ) -> None:
        def deliver(error: KafkaError | None, _: object) -> None:
            loop.call_soon_threadsafe(_resolve, report, error)

        while True:
            try:
                self._producer.produce(
                    message.topic,
                    value=message.value,
                    key=message.key,
                    headers=list(message.headers),
                    on_delivery=deliver,
                )
            except BufferError:
                # The local queue is full: deliveries make room, the reporting thread serves them.
                await asyncio.sleep(0.01)
            except KafkaException as exception:
                raise broker_error(exception.args[0], f"sending to {message.topic}") from exception
            else:
                return

    def _serve_reports(self) -> None:
        while not self._stopping.is_set():
            self._producer.poll(0.1)
        undelivered = self._producer.flush(FLUSH_TIMEOUT_S)
        if undelivered:
            log.error("kafka.producer.undelivered", messages=undelivered)


def _resolve(report: "asyncio.Future[KafkaError | None]", error: KafkaError | None) -> None:
    # Whoever waited may have been cancelled.
    if not report.done():
        report.set_result(error)
