"""One rule for text that others write: no control characters, and none that change the direction of what is shown.

A terminal obeys the former; either can make a text read as another. The doors refuse such a text. From a notice, which
nobody would send again, these characters are left out; its raw bytes are kept. Prose may hold tabs and line feeds.
"""

import re
from typing import Any

_DIRECTION = r"\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
# Unicode's property Bidi_Control (UAX 9, section 2).
_SURROGATES = r"\ud800-\udfff"
# No characters at all; JSON can spell them.
HIDDEN = re.compile(rf"[\x00-\x1f\x7f-\x9f{_SURROGATES}{_DIRECTION}]")
HIDDEN_IN_PROSE = re.compile(rf"[\x00-\x08\x0b-\x1f\x7f-\x9f{_SURROGATES}{_DIRECTION}]")


def visible(value: Any) -> Any:
    """Return a value as JSON has them without the hidden characters of its texts and keys."""
    match value:
        case str():
            return HIDDEN_IN_PROSE.sub("", value)
        case list():
            return [visible(item) for item in value]
        case dict():
            return {visible(name): visible(item) for name, item in value.items()}
    return value
