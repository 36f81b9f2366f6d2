"""What pages tell of dead letters, and what people do about them; the desk does it (blocking)."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import islice
from typing import Any

from services.console.system import with_broker
from shared.errors import InvalidInputError, TransientError
from shared.inbox import dead_letter_desk as desk
from shared.kafka.message import Message
from shared.kafka.readable import plain
from shared.schema.codec import UndecodableRecordError, decode_any
from shared.settings import KafkaSettings

LINES = 20
# Letters of a page; they are read whole, and some are megabytes.
PAGE_BYTES = 32 * 1024 * 1024
CHUNK = 20
MAX_AT_ONCE = 200
READ_S, SEND_S = 10.0, 20.0
# Megabytes take their time.
SHOWN_BYTES, SHOWN_CHARACTERS = 96, 60_000
SHOWN_HEX_BYTES = 512
PRINTABLE = re.compile(r"[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f]*")


@dataclass(frozen=True)
class Page:
    """Waiting letters of a topic, without their content.

    Attributes
    ----------
    next_offset
        Where the next page begins; None on the last.
    """

    bounds: desk.Bounds
    letters: list[Letter]
    next_offset: int | None


@dataclass(frozen=True)
class Letter:
    """A dead letter without its content.

    Attributes
    ----------
    facts
        What it tells of itself.
    failed_at
        None when it does not say that in time's own terms.
    """

    offset: int
    facts: Mapping[str, Any]
    failed_at: datetime | None

    @classmethod
    def of(cls, letter: Message) -> Letter:
        """Return what a message of a dead-letter topic tells."""
        facts = desk.facts_of(letter)
        try:
            failed_at = datetime.fromisoformat(facts["failed-at"] or "")
        except ValueError:
            failed_at = None
        return cls(letter.offset, facts, failed_at)


def read_page(kafka: KafkaSettings, topic: str, *, start: int | None) -> Page:
    """Return waiting letters, the oldest first, or from an offset on."""
    bounds = desk.bounds(kafka, [topic])[topic]
    begin = max(bounds.begin, start or 0)
    if begin >= bounds.end:
        return Page(bounds, [], None)
    letters: list[Letter] = []
    size = 0
    for letter in islice(desk.letters_from(kafka, topic, begin), LINES + 1):
        if len(letters) == LINES or size > PAGE_BYTES:
            return Page(bounds, letters, letter.offset)
        letters.append(Letter.of(letter))
        size += len(letter.value)
    return Page(bounds, letters, None)


def read_letter(kafka: KafkaSettings, topic: str, offset: int) -> tuple[Message, desk.Bounds] | None:
    """Return a letter and where its topic's waiting ones are; None when the topic does not hold it."""
    bounds = desk.bounds(kafka, [topic])[topic]
    if offset >= bounds.end:
        return None
    letter = desk.letter_at(kafka, topic, offset)
    return None if letter is None else (letter, bounds)


@dataclass(frozen=True)
class Content:
    """What was in a message, as people read it.

    Attributes
    ----------
    kind
        What it was taken for.
    is_cut
        There is more.
    """

    kind: str
    text: str
    is_cut: bool
    trouble: str | None = None


def content_of(value: bytes) -> Content:
    """Return what is in a message: records of a container as JSON, else text, else the first bytes."""
    trouble = None
    if value.startswith(b"Obj\x01"):
        try:
            records = plain(decode_any(value), shown_bytes=SHOWN_BYTES)
            return _shown("Avro", json.dumps(records, indent=2, ensure_ascii=False))
        except UndecodableRecordError as error:
            trouble = str(error)
    try:
        text = value.decode()
    except UnicodeDecodeError:
        text = None
    if text is not None and PRINTABLE.fullmatch(text):
        return _shown("text", text, trouble)
    return Content("bytes", _hex(value[:SHOWN_HEX_BYTES]), len(value) > SHOWN_HEX_BYTES, trouble)


def _shown(kind: str, text: str, trouble: str | None = None) -> Content:
    return Content(kind, text[:SHOWN_CHARACTERS], len(text) > SHOWN_CHARACTERS, trouble)


def _hex(value: bytes) -> str:
    lines = []
    for place in range(0, len(value), 16):
        part = value[place : place + 16]
        readable = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in part)
        lines.append(f"{place:04x}  {part.hex(' '):<47}  {readable}")
    return "\n".join(lines)


class MovedOnError(InvalidInputError):
    """Somebody else worked on the topic meanwhile."""


class Office:
    """Replays and drops, one order after the other."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._kafka = kafka
        self._lock = asyncio.Lock()

    async def work_off(self, topic: str, *, begin: int, until: int, is_replay: bool) -> int:
        """Replay or drop the letters between two offsets, both included, of which the first is the front.

        Returns how many there were.

        Raises
        ------
        MovedOnError
            The front is not there any more.
        TransientError
            The broker does not answer; those that are done do not wait any more.
        """
        done, expected = 0, begin
        async with self._lock:
            while done < MAX_AT_ONCE:
                bounds = (await with_broker(partial(desk.bounds, self._kafka, [topic])))[topic]
                if bounds.begin != expected:
                    raise MovedOnError("front", f"at {bounds.begin}", f"to be at {expected} still; load the page again")
                if bounds.begin > until or bounds.begin >= bounds.end:
                    break
                front = await with_broker(
                    partial(desk.front, self._kafka, topic, min(CHUNK, MAX_AT_ONCE - done), until=until),
                    within_s=READ_S,
                )
                if is_replay:
                    await self._republish(front.letters)
                await with_broker(partial(desk.set_aside, self._kafka, front), within_s=READ_S)
                done += len(front.letters)
                expected = front.next_offset
        return done

    async def _republish(self, letters: list[Message]) -> None:
        try:
            async with asyncio.timeout(SEND_S):
                await desk.republish(self._kafka, letters)
        except TimeoutError as error:
            raise TransientError(f"the broker did not take them within {SEND_S:g} s") from error
