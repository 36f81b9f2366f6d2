"""What is in a message, as people read it."""

import base64
from datetime import datetime
from typing import Any
from uuid import UUID

from shared.kafka.message import ID_HEADER, Message
from shared.schema.codec import UndecodableRecordError, decode_any


def decoded(message: Message) -> Any:
    """Return the records of a message; what is no container is said to be so, with its size."""
    try:
        return decode_any(message.value)
    except UndecodableRecordError as error:
        return {"undecodable": str(error), "bytes": message.value}


def header_text(name: str, value: bytes) -> str:
    """Return a header as text; hop's 16-byte `_id` as a UUID."""
    if name == ID_HEADER and len(value) == 16:
        return str(UUID(bytes=value))
    return value.decode("utf-8", "replace")


def plain(value: Any, *, shown_bytes: int | None = None) -> Any:
    """Return a decoded value as JSON knows it: ISO 8601 times; bytes in base64, or cut to `shown_bytes` and counted."""
    match value:
        case dict():
            return {key: plain(part, shown_bytes=shown_bytes) for key, part in value.items()}
        case list() | tuple():
            return [plain(part, shown_bytes=shown_bytes) for part in value]
        case bytes() if shown_bytes is not None and len(value) > shown_bytes:
            return f"{base64.b64encode(value[:shown_bytes]).decode()}… ({len(value)} bytes)"
        case bytes():
            return base64.b64encode(value).decode()
        case datetime():
            return value.isoformat()
        case UUID():
            return str(value)
        case _:
            return value
