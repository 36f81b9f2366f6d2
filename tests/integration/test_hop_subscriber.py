"""What any hop-client user sees of our topics, without any of our code."""

import io
import json
import uuid
from collections.abc import Iterator
from typing import Any, TypeVar

import fastavro
import pytest
from hop import Stream
from hop.io import StartPosition

from cli.stack.kafka import KafkaBroker
from shared.events.frb import FrbEvent
from shared.events.gw import GwSkymap
from shared.events.record import Event
from shared.kafka.errors import BrokerUnavailableError
from shared.kafka.message import OutgoingMessage, wire_headers
from shared.kafka.producer import EventProducer
from shared.kafka.reading import committed
from shared.outbox.event import outgoing
from shared.schema.records import SCHEMAS
from shared.settings import KafkaSettings
from tests.support.runtime import a_topic, eventually, records

SENDERS = {"gw.skymaps": "tocsin.skymap_parser", "frb.events": "tocsin.frb_intake"}

EventType = TypeVar("EventType", bound=Event)


def an_example(name: str, model: type[EventType]) -> EventType:
    path = SCHEMAS / "examples" / model.schema_name / "v1" / f"{name}.json"
    return model.model_validate(json.loads(path.read_text()))


async def publish(address: str, topic: str, *events: Event, is_test: bool, contract: str = "gw.skymaps") -> None:
    """As the outbox relay does, to a topic of this test's own."""
    prepared = [outgoing(contract, event, is_test=is_test, sender=SENDERS[contract]) for event in events]
    async with EventProducer(KafkaSettings(bootstrap_servers=address)) as producer:
        await producer.send(
            [OutgoingMessage(topic, out.key.encode(), out.value, wire_headers(out.headers)) for out in prepared]
        )


@pytest.fixture
def address(kafka_broker: KafkaBroker) -> Iterator[str]:
    return kafka_broker.address


def has_coordinator(address: str, group: str, topic: str) -> bool:
    try:
        return committed({"bootstrap.servers": address}, group, topic) == {0: 0}
    except BrokerUnavailableError:
        return False


def subscribed(address: str, topic: str, *, ignoretest: bool) -> list[tuple[Any, Any]]:
    """Everything on the topic, as `hop subscribe` reads it (until_eos: to the topic's end)."""
    group = f"reader-{uuid.uuid4().hex}"
    # hop-client gives up at the first error, and a broker that has just started has no coordinator for groups yet.
    eventually(lambda: has_coordinator(address, group, topic))
    stream = Stream(auth=False, start_at=StartPosition.EARLIEST, until_eos=True)
    url = f"kafka://{address}/{topic}"
    with stream.open(url, "r", group_id=group, ignoretest=ignoretest) as source:
        return list(source.read(metadata=True, autocommit=False))


async def test_a_hop_client_reads_the_fields_of_a_record(address: str) -> None:
    topic, event = a_topic(address), an_example("real-initial", GwSkymap)
    await publish(address, topic, event, is_test=False)

    [(message, metadata)] = subscribed(address, topic, ignoretest=True)

    content = message.content
    assert isinstance(content, dict)
    assert content["superevent_id"] == event.superevent_id
    assert content["skymap"]["area_90_deg2"] == event.skymap.area_90_deg2
    assert GwSkymap.model_validate(content) == event
    assert metadata.key == event.superevent_id.encode()
    assert ("_sender", b"tocsin.skymap_parser") in metadata.headers


@pytest.mark.parametrize(
    "name", ["upload-without-measurement", "upload-measured-twice", "chime-notice", "chime-withdrawn"]
)
async def test_a_hop_client_and_any_avro_library_read_a_burst_alike(address: str, name: str) -> None:
    topic, event = a_topic(address), an_example(name, FrbEvent)
    await publish(address, topic, event, is_test=event.is_test, contract="frb.events")

    [(message, metadata)] = subscribed(address, topic, ignoretest=False)
    [read] = records(address, topic)
    [record] = fastavro.reader(io.BytesIO(read.value))

    assert message.content == record
    assert FrbEvent.model_validate(record) == event
    assert metadata.key == str(event.frb_id).encode()
    assert (("_test", b"true") in metadata.headers) == event.is_test


async def test_test_traffic_is_passed_over_unless_asked_for(address: str) -> None:
    topic = a_topic(address)
    mock, real = an_example("mock-preliminary", GwSkymap), an_example("real-initial", GwSkymap)
    await publish(address, topic, mock, is_test=True)
    await publish(address, topic, real, is_test=False)

    default = subscribed(address, topic, ignoretest=True)
    everything = subscribed(address, topic, ignoretest=False)

    assert [message.content["superevent_id"] for message, _ in default] == [real.superevent_id]
    assert [message.content["superevent_id"] for message, _ in everything] == [mock.superevent_id, real.superevent_id]


async def test_any_avro_library_reads_the_bytes_alone(address: str) -> None:
    topic, event = a_topic(address), an_example("mock-combined", GwSkymap)
    await publish(address, topic, event, is_test=True)

    [message] = records(address, topic)

    [record] = fastavro.reader(io.BytesIO(message.value))
    assert GwSkymap.model_validate(record) == event
    assert message.header("_id") == event.event_id.bytes
