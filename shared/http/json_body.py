"""Reads JSON and YAML that strangers sent: strictly, and within limits."""

import json
import math
import re
from typing import Any, ClassVar

import yaml
from yaml.constructor import ConstructorError
from yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent, NodeEvent

from shared.errors import InvalidInputError

MAX_DEPTH = 32
MAX_JSON_BYTES = 1024 * 1024
MAX_YAML_BYTES = 64 * 1024

_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_BRACKET = re.compile(rb"[\[\]{}]")

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def parse_json(data: bytes, *, field: str = "body", max_bytes: int = MAX_JSON_BYTES, max_depth: int = MAX_DEPTH) -> Any:
    """Return the value of a JSON text.

    Raises
    ------
    InvalidInputError
        It is no JSON (RFC 8259: no NaN, no Infinity), a key comes twice in an object, or it is too large or too deep.
    """
    if len(data) > max_bytes:
        raise InvalidInputError(field, f"{len(data)} bytes", f"at most {max_bytes} bytes of JSON")
    _check_depth(data, field, max_depth)
    try:
        return json.loads(data, parse_constant=_no_constant, parse_float=_finite, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(field, _start(data), f"JSON ({error})") from error


def _check_depth(data: bytes, field: str, max_depth: int) -> None:
    """Refuse deep nesting before a parser meets it; brackets inside strings do not count."""
    depth = 0
    for bracket in _BRACKET.findall(_STRING.sub(b"", data)):
        depth += 1 if bracket in b"[{" else -1
        if depth > max_depth:
            raise InvalidInputError(field, f"nested more than {max_depth} deep", f"at most {max_depth} levels")


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:40]} is too large a number")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice[:40]!r} comes twice in one object")
    return found


def _start(data: bytes) -> str:
    return data[:80].decode("utf-8", "replace") or "empty"


class _TextTimes(_Loader):  # type: ignore[misc, valid-type]
    """Leaves times as text, and refuses a key that comes twice."""

    yaml_implicit_resolvers: ClassVar = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in _Loader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        found = super().construct_mapping(node, deep=deep)
        if len(found) != len(node.value):
            raise ConstructorError(None, None, "a key comes twice", node.start_mark)
        return dict(found)


def parse_yaml(
    data: bytes, *, field: str = "body", max_bytes: int = MAX_YAML_BYTES, max_depth: int = MAX_DEPTH
) -> dict[str, Any]:
    """Return the mapping that a YAML text holds; times stay text.

    Raises
    ------
    InvalidInputError
        It is no YAML, no mapping with texts as keys, uses anchors, a key comes twice, or it is too large or too deep.
    """
    if len(data) > max_bytes:
        raise InvalidInputError(field, f"{len(data)} bytes", f"at most {max_bytes} bytes of YAML")
    try:
        _check_events(data, field, max_depth)
        value = yaml.load(data, _TextTimes)  # noqa: S506  (a safe loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "text"
        raise InvalidInputError(field, where, f"YAML ({error.problem or error.context})") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InvalidInputError(field, _start(data), f"YAML ({str(error).splitlines()[0]})") from error
    if not isinstance(value, dict):
        raise InvalidInputError(field, _start(data), "a YAML mapping, such as {dm: 411.0, ...}")
    for key in value:
        if not isinstance(key, str):
            raise InvalidInputError(field, key, "texts as keys")
    return value


def _check_events(data: bytes, field: str, max_depth: int) -> None:
    depth = 0
    for event in yaml.parse(data, _Loader):
        if isinstance(event, AliasEvent) or (isinstance(event, NodeEvent) and event.anchor is not None):
            raise InvalidInputError(field, f"&{event.anchor} or *{event.anchor}", "YAML without anchors and aliases")
        if isinstance(event, CollectionStartEvent):
            depth += 1
        elif isinstance(event, CollectionEndEvent):
            depth -= 1
        if depth > max_depth:
            raise InvalidInputError(field, f"nested more than {max_depth} deep", f"at most {max_depth} levels")
