"""Reads JSON and YAML that strangers sent: strictly, within limits, and only what PostgreSQL and JSON can hold.

What comes out holds texts, finite numbers, booleans, None, lists, and mappings with texts as keys.
"""

import json
import math
import re
import sys
from typing import Any

import yaml
from yaml.constructor import ConstructorError, SafeConstructor
from yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent, NodeEvent

from shared.errors import InvalidInputError

MAX_DEPTH = 32
MAX_JSON_BYTES = 256 * 1024
# The worst of this size costs 60 ms.
MAX_YAML_BYTES = 64 * 1024

_MAX_DIGITS = 400
# Whatever has more is beyond the largest float; Python would convert them in quadratic time.
_MAX_KEY_SHOWN = 40
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
# Neither PostgreSQL nor UTF-8 has them; JSON can spell them.

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _WrongValueError(Exception):
    """A value that may not be there; `path` grows from the inside out."""

    def __init__(self, value: object, expected: str) -> None:
        super().__init__(value, expected)
        self.value = value
        self.expected = expected
        self.path: list[str] = []


def parse_json(data: bytes, *, field: str = "body", max_bytes: int = MAX_JSON_BYTES, max_depth: int = MAX_DEPTH) -> Any:
    """Return the value of a JSON text in UTF-8.

    Raises
    ------
    InvalidInputError
        It is no JSON (RFC 8259), it holds NaN or Infinity, a number beyond a float's range or a character that cannot
        be stored, a key comes twice in an object, or it is too large or too deep.
    """
    if len(data) > max_bytes:
        raise InvalidInputError(field, f"{len(data)} bytes", f"at most {max_bytes} bytes of JSON")
    try:
        # Python's own reading of bytes lets UTF-16 and lone surrogates in.
        value = json.loads(data.decode(), parse_int=_integer, object_pairs_hook=_unique)
    except RecursionError:
        raise _too_deep(field, max_depth) from None
    except ValueError as error:
        raise InvalidInputError(field, _start(data), f"JSON ({error})") from error
    return _checked(value, field, max_depth)


def _integer(digits: str) -> float:
    return int(digits) if len(digits) <= _MAX_DIGITS else math.inf


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise ValueError(f"{name[:_MAX_KEY_SHOWN]!r} comes twice in one object")
            seen.add(name)
    return found


def _start(data: bytes) -> str:
    return data[:80].decode("utf-8", "replace") or "empty"


def _too_deep(field: str, max_depth: int) -> InvalidInputError:
    return InvalidInputError(field, f"nested more than {max_depth} deep", f"at most {max_depth} levels")


def _checked(value: Any, field: str, max_depth: int) -> Any:
    """Return a value that was looked through.

    Raises
    ------
    InvalidInputError
        Names the place of what may not be there, as `measurement.dm`.
    """
    try:
        _check(value, max_depth)
    except RecursionError:
        raise _too_deep(field, max_depth) from None
    except _WrongValueError as error:
        path = ".".join(reversed(error.path))
        name = path if field == "body" and path else f"{field}.{path}" if path else field
        raise InvalidInputError(name, error.value, error.expected) from None
    return value


def _check(value: Any, levels: int) -> None:
    if isinstance(value, dict | list):
        if levels == 0:
            raise RecursionError
        for key, child in value.items() if isinstance(value, dict) else enumerate(value):
            try:
                if isinstance(value, dict):
                    _check_key(key)
                _check(child, levels - 1)
            except _WrongValueError as error:
                error.path.append(str(key)[:_MAX_KEY_SHOWN])
                raise
    elif isinstance(value, str):
        if _UNSTORABLE.search(value):
            raise _WrongValueError(value, "text without NUL and lone surrogates")
    elif isinstance(value, int | float):
        # Also false for NaN, and exact for integers of any length.
        if not -sys.float_info.max <= value <= sys.float_info.max:
            shown = value if isinstance(value, float) else f"an integer of {value.bit_length()} bits"
            raise _WrongValueError(shown, "a finite number within the range of a float")
    elif value is not None:
        raise _WrongValueError(type(value).__name__, "a text, number, list or mapping")


def _check_key(key: object) -> None:
    if not isinstance(key, str):
        raise _WrongValueError(f"a key that is no text but {type(key).__name__}", "texts as keys")
    if _UNSTORABLE.search(key):
        raise _WrongValueError(key, "a key without NUL and lone surrogates")


class _PlainLoader(_Loader):  # type: ignore[misc, valid-type]
    """Makes times ISO texts, refuses a key that comes twice, and does not compute with numbers of any length."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        found = super().construct_mapping(node, deep=deep)
        if len(found) != len(node.value):
            raise ConstructorError(None, None, "a key comes twice", node.start_mark)
        return dict(found)

    def construct_time(self, node: Any) -> str:
        # Not by way of a datetime: that would cut what is finer than a microsecond.
        match = SafeConstructor.timestamp_regexp.match(node.value)
        assert match is not None, "or it would not have been taken for a time"
        part = match.groupdict()
        date = f"{part['year']}-{part['month']:0>2}-{part['day']:0>2}"
        if part["hour"] is None:
            return date
        fraction = f".{part['fraction']}" if part["fraction"] else ""
        zone = part["tz"] or ""
        if part["tz_sign"]:
            zone = f"{part['tz_sign']}{part['tz_hour']:0>2}:{part['tz_minute'] or '00'}"
        return f"{date}T{part['hour']:0>2}:{part['minute']}:{part['second']}{fraction}{zone}"

    def construct_integer(self, node: Any) -> float:
        value: float = super().construct_yaml_int(node) if len(node.value) <= _MAX_DIGITS else math.inf
        return value


_PlainLoader.add_constructor("tag:yaml.org,2002:timestamp", _PlainLoader.construct_time)
_PlainLoader.add_constructor("tag:yaml.org,2002:int", _PlainLoader.construct_integer)


def parse_yaml(
    data: bytes, *, field: str = "body", max_bytes: int = MAX_YAML_BYTES, max_depth: int = MAX_DEPTH
) -> dict[str, Any]:
    """Return the mapping that a YAML 1.1 text holds; times are ISO 8601 texts, with all their digits.

    Raises
    ------
    InvalidInputError
        It is no YAML, no mapping with texts as keys, uses anchors or tags, a key comes twice, it holds a number that
        is not finite or a character that cannot be stored, or it is too large or too deep.
    """
    if len(data) > max_bytes:
        raise InvalidInputError(field, f"{len(data)} bytes", f"at most {max_bytes} bytes of YAML")
    try:
        _check_events(data, field, max_depth)
        value = yaml.load(data, _PlainLoader)  # noqa: S506  (a safe loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "text"
        raise InvalidInputError(field, where, f"YAML ({error.problem or error.context})") from error
    except (yaml.YAMLError, ValueError) as error:
        raise InvalidInputError(field, _start(data), f"YAML ({str(error).splitlines()[0]})") from error
    if not isinstance(value, dict):
        raise InvalidInputError(field, _start(data), "a YAML mapping, such as {dm: 411.0, ...}")
    checked: dict[str, Any] = _checked(value, field, max_depth)
    return checked


def _check_events(data: bytes, field: str, max_depth: int) -> None:
    """Refuse what is easy to refuse before anything is made of it: depth, references, types of the sender's choice."""
    depth = 0
    for event in yaml.parse(data, _Loader):
        if isinstance(event, AliasEvent) or (isinstance(event, NodeEvent) and event.anchor is not None):
            raise InvalidInputError(field, f"&{event.anchor} or *{event.anchor}", "YAML without anchors and aliases")
        if (tag := getattr(event, "tag", None)) is not None:
            raise InvalidInputError(field, tag, "YAML without tags")
        if isinstance(event, CollectionStartEvent):
            depth += 1
        elif isinstance(event, CollectionEndEvent):
            depth -= 1
        if depth > max_depth:
            raise _too_deep(field, max_depth)
