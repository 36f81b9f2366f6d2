"""Headers on the wire, and the trace that they carry."""

import asyncio
import uuid

import pytest
from confluent_kafka import KafkaError
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import TocsinError
from shared.kafka.errors import BrokerRefusedError, BrokerUnavailableError, ClientFailedError, broker_error
from shared.kafka.message import Message, event_headers, wire_headers
from shared.observability.tracing import continue_trace, current_traceparent

EVENT_ID = uuid.UUID("c9f63c8f-2f4b-5c0e-9a57-6f0c3d1b7e42")
TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01".encode()


class FromClient:
    """What confluent_kafka delivers, as far as we look at it."""

    def __init__(self, *, value: bytes | None, headers: object, timestamp_ms: int) -> None:
        self._value, self._headers, self._timestamp_ms = value, headers, timestamp_ms

    def topic(self) -> str:
        return "t"

    def partition(self) -> int:
        return 1

    def offset(self) -> int:
        return 2

    def key(self) -> bytes | None:
        return None

    def value(self) -> bytes | None:
        return self._value

    def headers(self) -> object:
        return self._headers

    def timestamp(self) -> tuple[int, int]:
        return 1, self._timestamp_ms


def test_headers_are_those_that_hop_client_knows() -> None:
    headers = event_headers(event_id=EVENT_ID, sender="tocsin.gw_listener", is_test=True, traceparent=PARENT.decode())
    assert wire_headers(headers) == [
        ("_format", b"avro"),
        ("_id", EVENT_ID.bytes),
        ("_sender", b"tocsin.gw_listener"),
        ("_test", b"true"),
        ("traceparent", PARENT),
    ]


def test_what_is_real_has_no_test_header_at_all() -> None:
    # Its presence counts, whatever its value.
    headers = event_headers(event_id=EVENT_ID, sender="s", is_test=False, traceparent=None)
    assert headers.keys() == {"_format", "_id", "_sender"}


@pytest.mark.parametrize("value", [b"true", b"false", b""])
def test_the_presence_of_the_test_header_marks_test_traffic(value: bytes) -> None:
    assert Message("t", 0, 0, None, b"", (("_test", value),)).is_test
    assert not Message("t", 0, 0, None, b"", (("test", value),)).is_test


def test_of_headers_of_one_name_the_last_counts() -> None:
    message = Message("t", 0, 0, None, b"", (("a", b"1"), ("a", b"2")))
    assert message.header("a") == b"2"
    assert message.header("b") is None


def test_a_message_without_value_headers_and_time_is_an_empty_one() -> None:
    message = Message.from_client(FromClient(value=None, headers=None, timestamp_ms=-1))
    assert message == Message("t", 1, 2, None, b"")


def test_a_message_keeps_headers_and_time() -> None:
    message = Message.from_client(FromClient(value=b"v", headers=[("a", None), ("b", b"1")], timestamp_ms=1_500))
    assert message.headers == (("a", b""), ("b", b"1"))
    assert message.timestamp is not None
    assert message.timestamp.isoformat() == "1970-01-01T00:00:01.500000+00:00"


def test_a_trace_goes_on_under_a_new_span() -> None:
    assert continue_trace(PARENT) == TRACE
    following = current_traceparent()
    assert following is not None
    version, trace, span, flags = following.split("-")
    assert (version, trace, flags) == ("00", TRACE, "01")
    assert span != "b7ad6b7169203331"


@pytest.mark.parametrize(
    "header",
    [
        None,
        b"",
        b"garbage",
        b"00-" + b"0" * 32 + b"-b7ad6b7169203331-01",
        PARENT + b"-more",
        PARENT.upper(),
        b"\xff" * 55,
    ],
)
def test_without_a_sound_header_a_trace_begins(header: bytes | None) -> None:
    first, second = continue_trace(header), continue_trace(header)
    assert first != second
    assert continue_trace((current_traceparent() or "").encode()) == second


@given(st.binary(max_size=80))
def test_any_header_leads_to_a_trace_that_the_next_service_can_continue(header: bytes) -> None:
    trace = continue_trace(header)
    assert continue_trace((current_traceparent() or "").encode()) == trace


async def test_tasks_have_traces_of_their_own() -> None:
    async def handle() -> tuple[str, str | None]:
        trace = continue_trace(None)
        await asyncio.sleep(0)
        return trace, current_traceparent()

    for trace, parent in await asyncio.gather(handle(), handle()):
        assert trace in (parent or "")


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (KafkaError._ALL_BROKERS_DOWN, BrokerUnavailableError),
        (KafkaError.NOT_ENOUGH_REPLICAS, BrokerUnavailableError),
        (KafkaError.UNKNOWN_TOPIC_OR_PART, BrokerUnavailableError),  # an operator may still make it
        (KafkaError.MSG_SIZE_TOO_LARGE, BrokerRefusedError),
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, BrokerRefusedError),
        (KafkaError._FATAL, ClientFailedError),
    ],
)
def test_what_passes_by_itself_is_told_from_what_does_not(code: int, kind: type[TocsinError]) -> None:
    error = broker_error(KafkaError(code), "sending to t")
    assert type(error) is kind
    assert str(error).startswith("sending to t: ")


def test_an_error_that_librdkafka_calls_fatal_is() -> None:
    assert type(broker_error(KafkaError(KafkaError._FENCED, "fenced", True), "sending")) is ClientFailedError
