"""Messages give their alert, also the offloaded ones, and nothing is asked of strangers."""

from collections.abc import Callable

import httpx
import pytest
from hop import bson
from hop.models import AvroBlob, ExternalMessage, JSONBlob
from hypothesis import given
from hypothesis import strategies as st

from services.gw_listener.offload import MAX_BSON_BYTES, OffloadStore, bson_binary, unwrap
from shared.errors import InvalidInputError, PermanentError, TransientError
from tests.support.alerts import alert_content, alert_schema, an_alert, as_json

URL = "https://offload.scimma.org/msg/0b8e"
HEADERS = [("_format", b"external"), ("_id", bytes(16))]


def offloaded(message: bytes) -> bytes:
    """What SCiMMA's archive answers, written by hop-client's own encoder."""
    headers = [["_format", b"avro"], ["_id", bytes(16)]]
    document = {"metadata": {"headers": headers, "timestamp": 1795230245, "key": None}, "message": message}
    encoded: bytes = bson.dumps(document)
    return encoded


def archive(message: bytes) -> httpx.Response:
    return httpx.Response(200, stream=httpx.ByteStream(offloaded(message)))


def placeholder(url: str = URL) -> bytes:
    return bytes(ExternalMessage(url=url))


def answering(
    respond: Callable[[httpx.Request], httpx.Response], hosts: tuple[str, ...] = ("scimma.org",)
) -> OffloadStore:
    client = httpx.AsyncClient(transport=httpx.MockTransport(respond), auth=("anna", "secret"))
    return OffloadStore(client, hosts=hosts)


def never(request: httpx.Request) -> httpx.Response:
    raise AssertionError(f"{request.url} must not be asked")


@pytest.mark.parametrize("message_format", ["avro", "AVRO", "json", "blob", None])
async def test_ordinary_messages_are_taken_as_they_are(message_format: str | None) -> None:
    headers = [] if message_format is None else [("_format", message_format.encode())]

    assert await unwrap(b"the alert", headers) == b"the alert"


async def test_what_hop_client_publishes_is_taken_as_it_is() -> None:
    for blob in (AvroBlob(alert_content(), schema=alert_schema()), JSONBlob({"superevent_id": "S230518h"})):
        packed = blob.serialize()

        assert await unwrap(packed["content"], [("_format", packed["format"].encode())]) == packed["content"]


@pytest.mark.parametrize("message_format", ["voevent", "circular", "\xff"])
async def test_other_formats_are_refused_by_name(message_format: str) -> None:
    with pytest.raises(InvalidInputError, match="_format"):
        await unwrap(b"x", [("_format", message_format.encode("latin-1"))])


async def test_an_offloaded_message_is_fetched() -> None:
    asked: list[httpx.Request] = []

    def respond(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return archive(an_alert())

    assert await unwrap(placeholder(), HEADERS, offload=answering(respond)) == an_alert()
    assert [str(request.url) for request in asked] == [URL]


async def test_no_credential_is_sent_even_when_the_client_has_one() -> None:
    def respond(request: httpx.Request) -> httpx.Response:
        assert "authorization" not in request.headers
        return archive(b"x")

    assert await unwrap(placeholder(), HEADERS, offload=answering(respond)) == b"x"


@pytest.mark.parametrize(
    "url",
    [
        "https://example.org/msg/1",
        "http://offload.scimma.org/msg/1",
        "https://evilscimma.org/msg/1",
        "https://scimma.org.example.org/msg/1",
        "https://scimma.org@example.org/msg/1",
        "https://anna:secret@offload.scimma.org/msg/1",
        "https://example.org\\.scimma.org/msg/1",
        "https://example.org#.scimma.org",
        "https://example.org/\t.scimma.org",
        "https://127.0.0.1/latest/meta-data",
        "file:///etc/passwd",
        "//scimma.org/msg",
        "offload.scimma.org",
        "https://[::1",
        "",
    ],
)
async def test_strangers_are_not_asked(url: str) -> None:
    with pytest.raises(PermanentError):
        await unwrap(placeholder(url), HEADERS, offload=answering(never))


@pytest.mark.parametrize("url", ["https://scimma.org/x", "https://my.hop.scimma.org:8443/x"])
async def test_a_domain_allows_what_is_below_it(url: str) -> None:
    def respond(request: httpx.Request) -> httpx.Response:
        return archive(b"x")

    assert await unwrap(placeholder(url), HEADERS, offload=answering(respond)) == b"x"


async def test_a_whole_origin_may_be_allowed() -> None:
    def respond(request: httpx.Request) -> httpx.Response:
        return archive(b"x")

    store = answering(respond, hosts=("http://127.0.0.1:8080",))

    assert await store.fetch("http://127.0.0.1:8080/msg/1") == b"x"
    with pytest.raises(InvalidInputError):
        await store.fetch("http://127.0.0.1:8081/msg/1")


async def test_a_source_without_offload_hosts_refuses_to_fetch() -> None:
    with pytest.raises(InvalidInputError, match="offload_hosts"):
        await unwrap(placeholder(), HEADERS)


@pytest.mark.parametrize("status", [500, 502, 503, 504, 429, 408])
async def test_an_outage_of_the_host_is_transient(status: int) -> None:
    with pytest.raises(TransientError, match=str(status)):
        await unwrap(placeholder(), HEADERS, offload=answering(lambda request: httpx.Response(status)))


@pytest.mark.parametrize("error", [httpx.ReadTimeout, httpx.ConnectError, httpx.RemoteProtocolError])
async def test_a_broken_connection_is_transient(error: type[httpx.TransportError]) -> None:
    def respond(request: httpx.Request) -> httpx.Response:
        raise error("broken", request=request)

    with pytest.raises(TransientError):
        await unwrap(placeholder(), HEADERS, offload=answering(respond))


@pytest.mark.parametrize("status", [204, 301, 302, 401, 403, 404, 410])
async def test_a_refusal_or_a_redirection_is_permanent(status: int) -> None:
    elsewhere = {"location": "https://example.org/"}

    with pytest.raises(PermanentError, match=str(status)):
        await unwrap(placeholder(), HEADERS, offload=answering(lambda _: httpx.Response(status, headers=elsewhere)))


async def test_an_endless_answer_is_cut_off() -> None:
    class Endless(httpx.AsyncByteStream):
        sent = 0

        async def __aiter__(self):  # type: ignore[no-untyped-def]
            while True:
                self.sent += 2**20
                yield bytes(2**20)

    endless = Endless()
    with pytest.raises(InvalidInputError, match="offloaded message"):
        await unwrap(placeholder(), HEADERS, offload=answering(lambda _: httpx.Response(200, stream=endless)))
    assert endless.sent <= MAX_BSON_BYTES + 2**20


@pytest.mark.parametrize("value", [b"", b"{}", b"[]", b'{"url": 5}', b"\xff", b"[" * 100000, an_alert()])
async def test_a_placeholder_without_an_address_is_refused(value: bytes) -> None:
    with pytest.raises(InvalidInputError):
        await unwrap(value, HEADERS, offload=answering(never))


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"\x05\x00\x00\x00\x00",
        offloaded(b"x" * 100)[:-50],
        bson.dumps({"message": "a text"}),
        bson.dumps({"metadata": {"message": b"x"}}),
        b"\x20\x00\x00\x00\x05message\x00\xff\xff\xff\xff\x00\x00",
        b"\x20\x00\x00\x00\x02a\x00\xf0\xff\xff\xff\x00\x00",
        b"\x20\x00\x00\x00\x7fa\x00\x00",
        as_json({"message": "x"}),
    ],
    ids=repr,
)
def test_a_damaged_document_is_refused(document: bytes) -> None:
    with pytest.raises(InvalidInputError):
        bson_binary(document, "message")


VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(), st.text(max_size=9), st.binary(max_size=9)
)
NAMES = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=8)


@given(st.dictionaries(NAMES, VALUES | st.lists(VALUES, max_size=3), max_size=5), st.binary())
def test_the_message_is_found_among_whatever_else_hop_client_encodes(others: dict[str, object], message: bytes) -> None:
    assert bson_binary(bson.dumps(others | {"message": message}), "message") == message


@given(st.binary(max_size=60))
def test_any_bytes_are_a_document_or_refused(document: bytes) -> None:
    try:
        assert isinstance(bson_binary(document, "message"), bytes)
    except InvalidInputError as refusal:
        assert refusal.expected
