"""Dead letters as people work them off, without a broker."""

from dataclasses import replace
from typing import Any

import pytest

from shared.errors import InvalidInputError
from shared.inbox.dead_letter_desk import original, without_repeats
from shared.kafka.message import Message


def a_letter(**changes: Any) -> Message:
    """A letter of the topic `t.dlq.s`; `facts` change its dlq headers, None leaves one out."""
    facts = {"service": "s", "topic": "t", "partition": "0", "offset": "7", "error": "why"} | changes.pop("facts", {})
    headers = [
        ("_id", b"0123456789abcdef"),
        *((f"dlq-{name}", value.encode()) for name, value in facts.items() if value),
    ]
    letter = Message(topic="t.dlq.s", partition=0, offset=3, key=b"k", value=b"v", headers=tuple(headers))
    return replace(letter, **changes)


def test_the_original_has_its_topic_key_bytes_and_headers_again() -> None:
    message = original(a_letter())
    assert (message.topic, message.key, message.value) == ("t", b"k", b"v")
    assert message.headers == [("_id", b"0123456789abcdef")]


@pytest.mark.parametrize("facts", [{"cut-from-bytes": "9000000"}, {"topic": None}])
def test_a_letter_that_cannot_be_made_whole_again_is_refused_by_name(facts: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError, match="t.dlq.s@3"):
        original(a_letter(facts=facts))


def test_a_letter_written_twice_counts_once_wherever_the_second_stands() -> None:
    first, other = a_letter(), a_letter(offset=4, facts={"offset": "8"})
    assert list(without_repeats([first, other, a_letter(offset=5)])) == [first, other]


@pytest.mark.parametrize(
    "other",
    [
        a_letter(facts={"service": "gw_listener.another_source"}),
        a_letter(facts={"partition": "1"}),
        a_letter(facts={"offset": "8"}),
        a_letter(key=b"another file"),
        a_letter(value=b"after the topic was made anew"),
    ],
    ids=["source", "partition", "offset", "key", "content"],
)
def test_letters_of_different_origin_are_different_letters(other: Message) -> None:
    assert len(list(without_repeats([a_letter(), other]))) == 2
