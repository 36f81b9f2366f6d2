"""Drawings from sky maps that are in the blob store: made in worker processes, and kept."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from markupsafe import Markup

from services.console.charts import distance, sky
from services.console.charts.distance import Curve, Range
from services.console.charts.sky import Contours, Ellipse, Layer, Point
from shared.blobs.store import BlobStore
from shared.compute import ComputePool
from shared.errors import TocsinError
from shared.events.blob import BlobRef
from shared.sky.skymap import read_skymap

KEPT = 256
# Drawings of some dozens of kB each.
PRELOAD = ("services.console.charts.maps",)
# For the workers.

_log = structlog.get_logger(__name__)

Map = tuple[BlobRef, str, str]
# A canonical map, what to call it, and its class of the style sheet.


class SkyDrawings:
    """Draws canonical maps (`skymap.canonical` of a record on `gw.skymaps`) with other things on them."""

    def __init__(self, blobs: BlobStore, compute: ComputePool, *, kept: int = KEPT) -> None:
        self._blobs = blobs
        self._compute = compute
        self._kept = _Kept(kept)

    async def draw(
        self, maps: Sequence[Map], above: Sequence[Ellipse | Point] = (), *, title: str, description: str
    ) -> Markup:
        """Return a figure of the whole sky with a close-up; where a map cannot be read, a sentence that says so.

        Parameters
        ----------
        maps
            Drawn first, in turn.
        above
            Drawn over them.
        """
        chosen, over = tuple(maps), tuple(above)
        key = (tuple((reference.sha256, *names) for reference, *names in chosen), over, title, description)

        async def made() -> Markup:
            contents = [
                (await asyncio.to_thread(self._blobs.get, reference), label, style)
                for reference, label, style in chosen
            ]
            return await self._compute.run(draw, contents, over, title=title, description=description)

        return await self._kept.get(key, made, "The sky map cannot be read now")


@dataclass(frozen=True)
class BurstDistance:
    """What is known of a burst's distance, and where to look it up in a map.

    Attributes
    ----------
    low_mpc, high_mpc
        Of the range of its redshifts; equal for a measured one.
    """

    ra_deg: float | None = None
    dec_deg: float | None = None
    dm_excess_pc_cm3: float | None = None
    redshift: float | None = None
    low_mpc: float | None = None
    high_mpc: float | None = None
    cosmology: str = "Planck18"


class DistanceDrawings:
    """Draws what a canonical map and a burst say of distances."""

    def __init__(self, blobs: BlobStore, compute: ComputePool, *, kept: int = KEPT) -> None:
        self._blobs = blobs
        self._compute = compute
        self._kept = _Kept(kept)

    async def draw(
        self, reference: BlobRef | None, burst: BurstDistance, *, title: str, description: str
    ) -> Markup | None:
        """Return a figure; None where neither says anything."""

        async def made() -> Markup:
            data = None if reference is None else await asyncio.to_thread(self._blobs.get, reference)
            return await self._compute.run(draw_distances, data, burst, title=title, description=description)

        key = (None if reference is None else reference.sha256, burst, title, description)
        return await self._kept.get(key, made, "The distances cannot be drawn now") or None


class _Kept:
    """The newest drawings, each made once however many ask."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._drawings: OrderedDict[object, asyncio.Task[Markup]] = OrderedDict()

    async def get(self, key: object, make: Callable[[], Coroutine[Any, Any, Markup]], excuse: str) -> Markup:
        task = self._drawings.get(key)
        if task is None:
            task = self._drawings[key] = asyncio.create_task(make())
        self._drawings.move_to_end(key)
        while len(self._drawings) > self._most:
            self._drawings.popitem(last=False)
        try:
            # Whoever goes away leaves the drawing to the next who asks.
            return await asyncio.shield(task)
        except TocsinError as error:
            if self._drawings.get(key) is task:
                del self._drawings[key]
            _log.warning("console.not_drawn", reason=str(error))
            return Markup('<p class="empty">{}: {}</p>').format(excuse, error)


def draw(
    contents: Sequence[tuple[bytes, str, str]], above: Sequence[Ellipse | Point], *, title: str, description: str
) -> Markup:
    """Return the figure of these maps, as FITS; for a worker."""
    layers: list[Layer] = [Contours(read_skymap(data), label, style) for data, label, style in contents]
    return sky.sky([*layers, *above], title=title, description=description)


def draw_distances(data: bytes | None, burst: BurstDistance, *, title: str, description: str) -> Markup:
    """Return the figure of what a map, as FITS, and a burst say of distances; nothing where they say nothing."""
    found: list[Curve | None] = []
    if data is not None:
        skymap = read_skymap(data)
        if burst.ra_deg is not None and burst.dec_deg is not None:
            found.append(
                distance.along(
                    skymap, ra_deg=burst.ra_deg, dec_deg=burst.dec_deg, label="wave, in the burst's direction"
                )
            )
        found.append(distance.over_all(skymap, label="wave, over the whole sky"))
    if burst.dm_excess_pc_cm3 is not None and burst.redshift is None:
        label = "burst, from its dispersion measure"
        found.append(distance.from_dispersion(burst.dm_excess_pc_cm3, cosmology=burst.cosmology, label=label))
    ranges = []
    if burst.low_mpc is not None and burst.high_mpc is not None:
        label = "burst, 90 % range" if burst.redshift is None else "burst, from the redshift of its host"
        ranges.append(Range(burst.low_mpc, burst.high_mpc, label, "burst"))
    curves = [curve for curve in found if curve is not None]
    if not curves and not ranges:
        return Markup("")
    return distance.distance(curves, ranges, title=title, description=description)
