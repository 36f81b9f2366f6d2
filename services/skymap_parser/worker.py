"""What runs in a worker process: maps from the blob store, products and pictures into it.

Maps never travel between processes; a megabyte through a pipe costs as much as parsing it.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache

import numpy as np

from services.skymap_parser import domain
from shared.blobs.store import BlobStore, open_store
from shared.events.blob import BlobRef
from shared.events.gw import Skymap
from shared.settings import BlobSettings
from shared.sky.picture import draw
from shared.sky.region import credible_levels
from shared.sky.skymap import read_skymap

MOC_MEDIA_TYPE = "application/fits"
PICTURE_MEDIA_TYPE = "image/png"
CELLS_PER_PART = 48
# Four arrays of 48 values make a row of 1.4 kB, below the 2 kB above which PostgreSQL moves values out of line.


@dataclass(frozen=True)
class CellPart:
    """Neighbouring cells of a map, as a row of `skymap_cells`."""

    starts: list[int]
    stops: list[int]
    probdensity: list[float]
    credible_level: list[float]


@dataclass(frozen=True)
class SearchableMap:
    """What the second look at a map gives: its cells for the index, its picture for people."""

    parts: list[CellPart]
    picture: BlobRef | None


def make_product(settings: BlobSettings, source: BlobRef) -> Skymap:
    """Parse the map that `source` refers to; keep the canonical map and the MOCs; return the record.

    Raises
    ------
    InvalidSkyMapError
        The map breaks its contract.
    """
    store = _store(settings)
    parsed = domain.parse(store.get(source))
    files = (parsed.canonical, parsed.moc_50, parsed.moc_90)
    canonical, moc_50, moc_90 = _writers().map(lambda data: store.put(data, domain.FITS_MEDIA_TYPE), files)
    return Skymap(
        source=source,
        canonical=canonical,
        moc_50=moc_50,
        moc_90=moc_90,
        **{
            name: getattr(parsed, name)
            for name in Skymap.model_fields
            if name not in ("source", "canonical", "moc_50", "moc_90")
        },
    )


def make_searchable(settings: BlobSettings, canonical: BlobRef, title: str | None) -> SearchableMap:
    """Return the cells of a canonical map for the index, and draw its picture if it has a title."""
    store = _store(settings)
    skymap = read_skymap(store.get(canonical))
    picture = None if title is None else store.put(draw(skymap, title=title), PICTURE_MEDIA_TYPE)
    columns = (
        skymap.cells.start,
        skymap.cells.stop,
        skymap.probdensity,
        credible_levels(skymap).astype(np.float32),
    )
    edges = range(0, skymap.n_pixels, CELLS_PER_PART)
    parts = [CellPart(*(column[edge : edge + CELLS_PER_PART].tolist() for column in columns)) for edge in edges]
    return SearchableMap(parts, picture)


@cache
def _store(settings: BlobSettings) -> BlobStore:
    return open_store(settings)


@cache
def _writers() -> ThreadPoolExecutor:
    # Each write waits for the disk; together they wait once.
    return ThreadPoolExecutor(3, thread_name_prefix="blobs")
