"""What people ask the broker."""

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from shared.kafka.errors import BrokerUnavailableError
from shared.settings import KafkaSettings

ANSWER_TIMEOUT_S = 4.0
# How long a person waits to be told that nobody is there. The clients made for services wait longer.


def admin(kafka: KafkaSettings) -> AdminClient:
    """Return a client that keeps librdkafka's log, a line for every failed attempt to connect, to itself."""
    return AdminClient(kafka.client_config() | {"log_level": 0})


def topic_names(kafka: KafkaSettings) -> set[str]:
    """Return the names of the broker's topics, without those of its own bookkeeping.

    Raises
    ------
    BrokerUnavailableError
        It does not answer.
    """
    try:
        names = admin(kafka).list_topics(timeout=ANSWER_TIMEOUT_S).topics
    except KafkaException as exception:
        reason = exception.args[0].str()
        raise BrokerUnavailableError(f"no broker answers at {kafka.bootstrap_servers}: {reason}") from exception
    return {name for name in names if not name.startswith("__")}
