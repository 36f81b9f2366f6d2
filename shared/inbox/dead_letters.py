"""Where messages go that no retry can help: bytes, key and headers untouched, the reason beside them."""

from collections.abc import Mapping
from datetime import UTC, datetime

import structlog

from shared.errors import PermanentError, TransientError
from shared.kafka.consumer import ConsumerHaltedError
from shared.kafka.message import Message, OutgoingMessage
from shared.kafka.producer import EventProducer
from shared.settings import MAX_MESSAGE_BYTES

PREFIX = "dlq-"
MAX_REASON_CHARACTERS = 2000
# Headers travel with every fetch of the topic; a stack trace belongs in the log.
KEPT_BYTES = 64 * 1024
# Of a message too large for any topic, which only a file can be: enough to see what it was.

log = structlog.get_logger(__name__)


def dead_letter(
    message: Message, *, topic: str, error: BaseException, service: str, version: str, failed_at: datetime
) -> OutgoingMessage:
    """Return what goes to the dead-letter topic for `message`."""
    facts = {
        "topic": message.topic,
        "partition": str(message.partition),
        "offset": str(message.offset),
        "error-class": type(error).__name__,
        "error": str(error)[:MAX_REASON_CHARACTERS],
        "service": service,
        "version": version,
        "failed-at": failed_at.isoformat(),
    }
    value = message.value
    if len(value) > MAX_MESSAGE_BYTES:
        facts["cut-from-bytes"] = str(len(value))
        value = value[:KEPT_BYTES]
    return OutgoingMessage(
        topic=topic,
        key=message.key,
        value=value,
        headers=[*message.headers, *((PREFIX + name, _encoded(fact)) for name, fact in facts.items())],
    )


def _encoded(text: str) -> bytes:
    # A reason quotes hostile input, lone surrogates included.
    return text.encode(errors="backslashreplace")


class DeadLetterOffice:
    """Buries messages, and halts the consumer when there are too many in a row or one cannot be written."""

    def __init__(
        self, producer: EventProducer, *, topic_of: Mapping[str, str], service: str, version: str, max_consecutive: int
    ) -> None:
        self._producer = producer
        self._topic_of = topic_of
        self._service = service
        self._version = version
        self._max_consecutive = max_consecutive
        self._consecutive = 0

    def handled_one(self) -> None:
        """Note a message that did well: the row of dead letters is broken."""
        self._consecutive = 0

    async def bury(self, message: Message, error: BaseException) -> None:
        """Write `message` to its dead-letter topic; return when the broker has it.

        Raises
        ------
        ConsumerHaltedError
            The topic did not take it.
        """
        letter = dead_letter(
            message,
            topic=self._topic_of[message.topic],
            error=error,
            service=self._service,
            version=self._version,
            failed_at=datetime.now(UTC),
        )
        try:
            await self._producer.send([letter])
        except (PermanentError, TransientError) as failure:
            raise ConsumerHaltedError(f"a dead letter could not be written: {failure}") from failure
        self._consecutive += 1

    def check(self) -> None:
        """Raise `ConsumerHaltedError` when so many messages in a row failed that the fault is probably ours."""
        if self._consecutive >= self._max_consecutive:
            raise ConsumerHaltedError(
                f"{self._consecutive} messages in a row went to the dead-letter topic; look at their reasons "
                "(tocsin dlq list), mend the cause, restart the service, then tocsin dlq replay"
            )
