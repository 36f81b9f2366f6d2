"""What channels are given to work with."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import httpx

from shared.blobs.store import BlobStore
from shared.events.blob import BlobRef
from shared.settings import KafkaSettings


@dataclass(frozen=True)
class Tools:
    """What channels share.

    Attributes
    ----------
    site_url
        Where people read about an event; without a slash at the end.
    draw
        The picture (PNG) of a canonical sky map, given a title; takes about half a second, in another process.
    kafka
        The project's own broker.
    observatory
        Who tells.
    """

    http: httpx.AsyncClient
    blobs: BlobStore
    draw: Callable[[BlobRef, str], Awaitable[bytes]]
    site_url: str
    kafka: KafkaSettings
    observatory: str
