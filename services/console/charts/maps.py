"""Drawings of sky maps that are in the blob store: made in worker processes, and kept."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence

import structlog
from markupsafe import Markup

from services.console.charts import sky
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
        self._kept = kept
        self._drawings: OrderedDict[object, asyncio.Task[Markup]] = OrderedDict()

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
        key = (tuple((reference.sha256, *names) for reference, *names in maps), tuple(above), title, description)
        task = self._drawings.get(key)
        if task is None:
            made = self._drawn(tuple(maps), tuple(above), title=title, description=description)
            task = self._drawings[key] = asyncio.create_task(made)
        self._drawings.move_to_end(key)
        while len(self._drawings) > self._kept:
            self._drawings.popitem(last=False)
        try:
            # Whoever goes away leaves the drawing to the next who asks.
            return await asyncio.shield(task)
        except TocsinError as error:
            if self._drawings.get(key) is task:
                del self._drawings[key]
            _log.warning("console.sky.not_drawn", title=title, reason=str(error))
            return Markup('<p class="empty">The sky map cannot be read now: {}</p>').format(error)

    async def _drawn(
        self, maps: tuple[Map, ...], above: tuple[Ellipse | Point, ...], *, title: str, description: str
    ) -> Markup:
        contents = [
            (await asyncio.to_thread(self._blobs.get, reference), label, style) for reference, label, style in maps
        ]
        return await self._compute.run(draw, contents, above, title=title, description=description)


def draw(
    contents: Sequence[tuple[bytes, str, str]], above: Sequence[Ellipse | Point], *, title: str, description: str
) -> Markup:
    """Return the figure of these maps, as FITS; for a worker."""
    layers: list[Layer] = [Contours(read_skymap(data), label, style) for data, label, style in contents]
    return sky.sky([*layers, *above], title=title, description=description)
