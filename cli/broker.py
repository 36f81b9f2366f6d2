"""Which topics a command may name."""

from shared.errors import InvalidInputError
from shared.kafka.admin import topic_names
from shared.settings import KafkaSettings


def require_topic(kafka: KafkaSettings, topic: str) -> None:
    """Raise `InvalidInputError` when the broker has no such topic, `BrokerUnavailableError` when it does not answer."""
    if topic not in (names := topic_names(kafka)):
        expected = (
            f"one of {', '.join(sorted(names))}" if names else "a topic, of which `tocsin topics --create` makes some"
        )
        raise InvalidInputError("TOPIC", topic, expected)
