"""What runs in a worker process: maps from the blob store, comparisons, files of announced pairs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from services.coincidence.cells import CellPart, Comparison, as_skymap, cell_parts, compare, ellipse_of, unpacked
from services.coincidence.domain import SkyScores
from services.coincidence.notice import gcn_notice
from shared.blobs.store import BlobStore, open_store
from shared.events.blob import BlobRef
from shared.events.mma import Coincidence
from shared.settings import BlobSettings
from shared.sky.gaussian import localisation_map
from shared.sky.overlap import combined
from shared.sky.skymap import read_skymap, write_skymap
from shared.sky.volume import distance_weight

FITS_MEDIA_TYPE = "application/fits"
JSON_MEDIA_TYPE = "application/json"


def read_cells(settings: BlobSettings, canonical: BlobRef) -> list[CellPart]:
    """Return the rows of a canonical map."""
    return cell_parts(read_skymap(_store(settings).get(canonical)))


def warm_up() -> None:
    """Make the tables of distances, two thirds of a second, so that the first pair need not wait for them."""
    distance_weight(0.0)


def compare_all(comparisons: Sequence[Comparison]) -> list[list[SkyScores]]:
    """Return the scores of each burst with each of its maps."""
    return [compare(comparison) for comparison in comparisons]


def with_files(settings: BlobSettings, record: Coincidence, packed: Sequence[bytes], *, mission: str) -> Coincidence:
    """Return a record with its combined map and its notice, both in the blob store."""
    store = _store(settings)
    multiplied = None
    localisation = record.burst.localisation
    if record.scores is not None and localisation is not None and packed:
        wave = as_skymap(unpacked(packed))
        multiplied = write_skymap(combined(wave, localisation_map(ellipse_of(localisation), resolving=wave)))
        reference = store.put(multiplied, FITS_MEDIA_TYPE)
        scores = record.scores.model_copy(update={"combined_skymap": reference})
        record = record.model_copy(update={"scores": scores})
    notice = store.put(gcn_notice(record, multiplied, mission=mission), JSON_MEDIA_TYPE)
    return record.model_copy(update={"gcn_notice": notice})


@cache
def _store(settings: BlobSettings) -> BlobStore:
    return open_store(settings)
