"""Reference to bytes that are too large for an event."""

from shared.events.record import Int64, Part


class BlobRef(Part):
    """Bytes kept in the blob store, found by `uri` and proved by `sha256`."""

    uri: str
    sha256: str
    size: Int64
    media_type: str
