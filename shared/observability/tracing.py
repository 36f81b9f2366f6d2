"""W3C trace context from message to message.

https://www.w3.org/TR/trace-context/: `00-<trace id>-<span id>-<flags>`. Nothing is exported from here; the ids
are in every log line and header, so that one alert's way through the services can be put together again.
"""

import re
import secrets
from contextvars import ContextVar

_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_current: ContextVar[str | None] = ContextVar("traceparent", default=None)


def continue_trace(traceparent: bytes | None) -> str:
    """Make what follows in this task a child of `traceparent`; return the trace's id.

    An absent or malformed header begins a trace.
    """
    parent = (traceparent or b"").decode("ascii", "replace")
    trace_id = parent.split("-")[1] if _TRACEPARENT.fullmatch(parent) else secrets.token_hex(16)
    _current.set(f"00-{trace_id}-{secrets.token_hex(8)}-01")
    return trace_id


def current_traceparent() -> str | None:
    """Return the header for a message that goes out now; None outside a trace."""
    return _current.get()
