"""What channels are given to work with."""

from dataclasses import dataclass

import httpx

from shared.blobs.store import BlobStore
from shared.settings import KafkaSettings


@dataclass(frozen=True)
class Tools:
    """What channels share.

    Attributes
    ----------
    site_url
        Where people read about an event; without a slash at the end.
    kafka
        The project's own broker.
    observatory
        Who tells.
    """

    http: httpx.AsyncClient
    blobs: BlobStore
    site_url: str
    kafka: KafkaSettings
    observatory: str
