"""What runs in a worker process: a sky map from the blob store becomes a picture.

Maps never travel between processes, and nobody who waits for news waits for a picture.
"""

from __future__ import annotations

from functools import cache

from shared.blobs.store import BlobStore, open_store
from shared.events.blob import BlobRef
from shared.settings import BlobSettings
from shared.sky.picture import draw
from shared.sky.skymap import ALERT_MAX_MAP_BYTES, read_skymap


def warm_up() -> None:
    """Nothing; what it takes to draw is imported by then."""


def draw_map(settings: BlobSettings, skymap: BlobRef, title: str) -> bytes:
    """Return the all-sky picture (PNG) of a map in the blob store.

    Raises
    ------
    InvalidSkyMapError
        What is there is no map.
    BlobMissingError, BlobUnavailableError, BlobCorruptError
        It cannot be read.
    """
    return draw(read_skymap(_store(settings).get(skymap), max_bytes=ALERT_MAX_MAP_BYTES), title=title)


@cache
def _store(settings: BlobSettings) -> BlobStore:
    return open_store(settings)
