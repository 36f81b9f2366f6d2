"""How much two sky maps agree: for a worker process."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shared.blobs.store import BlobStore
from shared.events.blob import BlobRef
from shared.sky import healpix, region
from shared.sky.overlap import overlap
from shared.sky.skymap import read_skymap


@dataclass(frozen=True)
class Agreement:
    """How much a map agrees with another.

    Attributes
    ----------
    overlap
        4 pi times the integral of the product of the densities: 1 for maps that have nothing to do with each other,
        more where they agree, 0 where they exclude each other.
    common_90_deg2
        Area (deg2) that both 90 % regions have in common.
    kept_probability
        Of the new map, inside the 90 % region of the old one.
    """

    overlap: float
    common_90_deg2: float
    kept_probability: float


def compare(blobs: BlobStore, old: BlobRef, new: BlobRef) -> Agreement:
    """Compare two canonical maps.

    Raises
    ------
    InvalidSkyMapError
        One of them is no map.
    """
    before, after = (read_skymap(blobs.get(reference)) for reference in (old, new))
    old_90, new_90 = (region.credible_regions(skymap, (0.9,))[0].intervals for skymap in (before, after))
    return Agreement(
        overlap=overlap(before, after),
        common_90_deg2=_common_deg2(old_90, new_90),
        kept_probability=region.probability_in(after, old_90),
    )


def _common_deg2(a: healpix.Intervals, b: healpix.Intervals) -> float:
    """Return the area of what two regions have in common."""
    edges = np.unique(np.concatenate((a.start, a.stop, b.start, b.stop)))
    common = (a.find(edges[:-1]) >= 0) & (b.find(edges[:-1]) >= 0)
    n_cells = int((edges[1:] - edges[:-1])[common].sum())
    return n_cells / healpix.N_CELLS_29 * healpix.SKY_SR * healpix.DEG2_PER_SR
