"""Reading topics outside any group: from beginning to end, since a time, or one record."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from shared.kafka.errors import BrokerUnavailableError, broker_error
from shared.kafka.message import Message

TIMEOUT_S = 10.0


@contextmanager
def _reader(client: dict[str, Any], group: str = "tocsin.cli") -> Iterator[Consumer]:
    # The group is never joined; it only names whose committed offsets are meant.
    consumer = Consumer(client | {"group.id": group, "enable.auto.commit": False, "enable.partition.eof": True})
    try:
        yield consumer
    except KafkaException as exception:
        raise broker_error(exception.args[0], "reading") from exception
    finally:
        consumer.close()


def _ends(consumer: Consumer, topic: str) -> dict[int, tuple[int, int]]:
    metadata = consumer.list_topics(topic, timeout=TIMEOUT_S).topics[topic]
    if metadata.error is not None:
        raise KafkaException(metadata.error)
    return {
        number: consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=TIMEOUT_S)
        for number in metadata.partitions
    }


def record_counts(client: dict[str, Any], topics: Collection[str]) -> dict[str, int]:
    """Return how many records each topic holds."""
    with _reader(client) as consumer:
        return {topic: sum(high - low for low, high in _ends(consumer, topic).values()) for topic in topics}


def committed(client: dict[str, Any], group: str, topic: str) -> dict[int, int]:
    """Return per partition the offset that `group` has committed, the beginning where it has none."""
    with _reader(client, group) as consumer:
        ends = _ends(consumer, topic)
        known = consumer.committed([TopicPartition(topic, number) for number in ends], timeout=TIMEOUT_S)
        return {partition.partition: max(partition.offset, ends[partition.partition][0]) for partition in known}


def commit(client: dict[str, Any], group: str, topic: str, offsets: dict[int, int]) -> None:
    """Set the offsets of `group`, which must have no members."""
    with _reader(client, group) as consumer:
        consumer.commit(
            offsets=[TopicPartition(topic, number, offset) for number, offset in offsets.items()], asynchronous=False
        )


def offsets_since(client: dict[str, Any], topic: str, time: datetime) -> dict[int, int]:
    """Return per partition the offset of the first record not older than `time`, the end where there is none."""
    with _reader(client) as consumer:
        ends = _ends(consumer, topic)
        asked = [TopicPartition(topic, number, int(time.timestamp() * 1000)) for number in ends]
        found = consumer.offsets_for_times(asked, timeout=TIMEOUT_S)
        # The client says -1 where no record is so young.
        return {each.partition: each.offset if each.offset >= 0 else ends[each.partition][1] for each in found}


def read_one(client: dict[str, Any], topic: str, partition: int, *, offset: int) -> Message | None:
    """Return the record at an offset; None when the broker does not hold it, or not any more."""
    with _reader(client) as consumer:
        low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=TIMEOUT_S)
        if not low <= offset < high:
            return None
        consumer.assign([TopicPartition(topic, partition, offset)])
        message = consumer.poll(TIMEOUT_S)
        if message is None:
            raise BrokerUnavailableError(f"no answer within {TIMEOUT_S} s while reading {topic}")
        if message.error() is not None:
            raise KafkaException(message.error())
        return Message.from_client(message)


def read(
    client: dict[str, Any],
    topic: str,
    *,
    start: dict[int, int] | None = None,
    last: int | None = None,
    follow: bool = False,
) -> Iterator[Message]:
    """Yield the records of a topic.

    Parameters
    ----------
    start
        Offsets to begin at; the beginning of the topic without it.
    last
        Begin so many records before the end of each partition instead.
    follow
        Go on with what comes; otherwise end where the topic ended when this began.
    """
    with _reader(client) as consumer:
        ends = _ends(consumer, topic)
        begin = {
            number: max(low, high - last) if last is not None else max((start or {}).get(number, low), low)
            for number, (low, high) in ends.items()
        }
        consumer.assign([TopicPartition(topic, number, offset) for number, offset in begin.items()])
        unread = {number for number, (_, high) in ends.items() if begin[number] < high}
        while unread or follow:
            message = consumer.poll(1.0 if follow else TIMEOUT_S)
            if message is None:
                if follow:
                    continue
                raise BrokerUnavailableError(f"no answer within {TIMEOUT_S} s while reading {topic}")
            error = message.error()
            if error is not None:
                if error.code() == KafkaError._PARTITION_EOF:
                    unread.discard(message.partition())
                    continue
                raise KafkaException(error)
            found = Message.from_client(message)
            if follow or found.offset < ends[found.partition][1]:
                yield found
            else:
                unread.discard(found.partition)
