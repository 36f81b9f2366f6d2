"""Decoded records as JSON."""

import base64
import json
from datetime import UTC, datetime
from uuid import UUID

import pytest

from cli.skymap import numbers
from shared.errors import InvalidInputError
from shared.kafka.message import Message
from shared.kafka.readable import decoded, header_text, plain

AN_ID = UUID("3b1ce126-11c0-5860-9e98-59d65941ca63")


def test_everything_that_avro_knows_becomes_json() -> None:
    value = {"time": datetime(2026, 11, 21, tzinfo=UTC), "id": AN_ID, "more": [b"\x00\xff", None, 1.5, True, ("a",)]}
    assert json.loads(json.dumps(plain(value))) == {
        "time": "2026-11-21T00:00:00+00:00",
        "id": str(AN_ID),
        "more": ["AP8=", None, 1.5, True, ["a"]],
    }


def test_long_bytes_are_cut_and_counted_where_people_read() -> None:
    content = bytes(range(100))
    assert plain({"map": content}, shown_bytes=3) == {"map": f"{base64.b64encode(content[:3]).decode()}… (100 bytes)"}
    assert plain(content[:3], shown_bytes=3) == base64.b64encode(content[:3]).decode()


def test_the_id_of_an_event_is_shown_as_a_uuid_and_other_headers_as_text() -> None:
    assert header_text("_id", AN_ID.bytes) == str(AN_ID)
    assert header_text("_id", b"short") == "short"
    assert header_text("theirs", b"\xff") == "\ufffd"


def test_what_cannot_be_decoded_is_said_to_be_so_with_its_bytes() -> None:
    told = decoded(Message(topic="t", partition=0, offset=0, key=None, value=b"no container"))
    assert told["bytes"] == b"no container"
    assert "no container" in told["undecodable"]


@pytest.mark.parametrize("text", ["", "1", "1,2,3", "1,x", "1;2"])
def test_numbers_of_an_option_are_as_many_as_expected(text: str) -> None:
    with pytest.raises(InvalidInputError, match="RA,DEC"):
        numbers("--at", text, "RA,DEC")
