"""Which broker failures pass by themselves."""

from confluent_kafka import KafkaError

from shared.errors import PermanentError, TocsinError, TransientError

_PERMANENT = frozenset(
    {
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.INVALID_MSG_SIZE,
        KafkaError.RECORD_LIST_TOO_LARGE,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.INVALID_RECORD,
        KafkaError.POLICY_VIOLATION,
    }
)


class BrokerUnavailableError(TransientError):
    """The broker did not take or answer something; it may, later."""


class BrokerRefusedError(PermanentError):
    """The broker will never take this."""


class ClientFailedError(TocsinError):
    """librdkafka cannot go on; the service must be restarted."""


def broker_error(error: KafkaError, doing: str) -> TocsinError:
    """Return the exception that says what `doing` ran into."""
    kind: type[TocsinError] = BrokerUnavailableError
    if error.fatal() or error.code() == KafkaError._FATAL:
        kind = ClientFailedError
    elif error.code() in _PERMANENT:
        kind = BrokerRefusedError
    return kind(f"{doing}: {error.name()}: {error.str()}")
