"""The YAML files that a burst is described in."""

from pathlib import Path
from typing import Any

import yaml

from shared.errors import InvalidInputError

MAX_YAML_BYTES = 256 * 1024
# As much as the server reads, and 300 times the documented examples: what is longer is another file by mistake.


class _Loader(yaml.SafeLoader):
    """YAML's plain types, and no key twice: which of two DMs was meant is not for us to guess."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    "in a mapping", node.start_mark, f"the key {key.value} for the second time", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


def read_text(path: Path) -> str:
    """Return what is in a file of at most `MAX_YAML_BYTES` bytes of UTF-8.

    Raises
    ------
    InvalidInputError
        It cannot be read, is longer, or is no text.
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_YAML_BYTES + 1)
    except OSError as error:
        raise InvalidInputError(str(path), error.strerror or str(error), "a readable file") from error
    if len(data) > MAX_YAML_BYTES:
        raise InvalidInputError(str(path), "too long", f"at most {MAX_YAML_BYTES} bytes of YAML")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise InvalidInputError(str(path), f"no UTF-8 at byte {error.start}", "text in UTF-8") from error


def read_mapping(text: str, *, name: str) -> dict[str, Any]:
    """Return the keys and values of a YAML mapping, be it in blocks or in braces; `name` is for complaints.

    Raises
    ------
    InvalidInputError
        It is no YAML (told with line and column), no mapping, has a key twice or a key that is no text.
    """
    try:
        # S506 sees a loader that is not yaml.SafeLoader itself.
        found = yaml.load(text, Loader=_Loader)  # noqa: S506
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"{name}, line {mark.line + 1}, column {mark.column + 1}" if mark else name
        raise InvalidInputError(place, f"malformed ({error.problem})", "YAML") from error
    except (yaml.YAMLError, ValueError) as error:  # a control character; the date 2017-02-31
        raise InvalidInputError(name, " ".join(str(error).split()), "YAML") from error
    except RecursionError as error:
        raise InvalidInputError(name, "nested too deeply", "a mapping of a few levels") from error
    if not isinstance(found, dict):
        what = "empty" if found is None else f"a {type(found).__name__}"
        raise InvalidInputError(name, what, 'a mapping such as {"dm": 411.0, "dm_err": 1.0}')
    for key in found:
        if not isinstance(key, str):
            raise InvalidInputError(f"{name}: the key {key}", f"a {type(key).__name__}", "a name")
    return found
