"""The sky around a burst as others see it: a picture from a HiPS cutout service, the objects of a catalogue.

Both are asked by the console, for a burst's own position, never by a browser. The picture comes from a service that
speaks as CDS's hips2fits does (https://alasky.cds.unistra.fr/hips-image-services/hips2fits), the objects from one of
IVOA Simple Cone Search 1.03.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import httpx
import structlog

from services.console import catalogue
from services.console.catalogue import Field, Objects, SurveyError
from services.console.charts import sky, svg
from services.console.settings import SurveySettings
from services.console.superevent_history import soon
from shared.compute import ComputePool
from shared.errors import TocsinError
from shared.sky.localisation import Ellipse

PIXELS = 800
# Twice the close-up's side.
NARROWEST_DEG = 1 / 120
# Half the width of a field: a minute of arc shows what a host looks like.
WIDEST_LISTED_DEG = 1.5
# Half the width, too. Wider fields have too many objects for any of them to mean something.
MOST_ROWS = 10_000
MAX_PICTURE_BYTES = 2 * 1024 * 1024
MAX_LIST_BYTES = 8 * 1024 * 1024
KEPT = 64
# Answers of each service: at most 128 MiB of pictures.
AT_ONCE, MOST_ASKING = 4, 32
# Requests to each service, and those with them that wait.
REST_S = 60.0
# So long a service is left alone that failed.

_SIGNATURES = {b"\xff\xd8\xff": "image/jpeg", b"\x89PNG\r\n\x1a\n": "image/png"}
_log = structlog.get_logger(__name__)

R = TypeVar("R")


@dataclass(frozen=True)
class Picture:
    """A picture of exactly a field."""

    data: bytes
    media_type: str


@dataclass(frozen=True)
class Seen:
    """What a page can show of a field now.

    Attributes
    ----------
    has_picture
        Whether the picture is here.
    troubles
        Why something is not, for who looks at the page.
    is_coming
        Whether more will be here soon.
    """

    has_picture: bool
    objects: Objects | None
    troubles: Sequence[str]
    is_coming: bool


class SkySurvey:
    """Looks at fields, if somebody was named who can."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        compute: ComputePool,
        settings: SurveySettings,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._compute = compute
        self._settings = settings
        self._pictures: _Source[Picture] = _Source(
            http, settings.picture_name, timeout_s=settings.timeout_s, max_bytes=MAX_PICTURE_BYTES, clock=clock
        )
        self._lists: _Source[Objects] = _Source(
            http, settings.catalogue_name, timeout_s=settings.timeout_s, max_bytes=MAX_LIST_BYTES, clock=clock
        )

    def field(self, regions: Sequence[sky.Ellipse]) -> Field | None:
        """Return the field to look at for some regions; None for wide ones, or where nobody is named who can look."""
        around = sky.fit(regions)
        if around is None or (self._settings.cutout_url is None and self._settings.catalogue_url is None):
            return None
        (ra_deg, dec_deg), half_width_deg = around
        return Field(ra_deg % 360, dec_deg, max(half_width_deg, NARROWEST_DEG))

    def name(self, field: Field) -> str:
        """Return what a field's picture is called, the same for the same picture."""
        return svg.identity(self._settings.cutout_url, self._settings.hips, field)

    async def look(self, field: Field, region: Ellipse) -> Seen:
        """Return what is seen of a field now, without waiting long for it."""
        picture, objects = await asyncio.gather(
            soon(_or_error(self.picture(field))), soon(_or_error(self.objects(field, region)))
        )
        return Seen(
            has_picture=isinstance(picture.value, Picture),
            objects=objects.value if isinstance(objects.value, Objects) else None,
            troubles=[str(answer.value) for answer in (picture, objects) if isinstance(answer.value, SurveyError)],
            is_coming=picture.is_coming or objects.is_coming,
        )

    async def picture(self, field: Field) -> Picture | None:
        """Return the picture of a field; None if nobody is named who has any.

        Raises
        ------
        SurveyError
            There is none now.
        """
        if self._settings.cutout_url is None:
            return None
        asked: Mapping[str, str | float] = {
            "hips": self._settings.hips,
            "ra": field.ra_deg,
            "dec": field.dec_deg,
            "fov": 2 * field.half_width_deg,
            "width": PIXELS,
            "height": PIXELS,
            "projection": "ARC",
            "coordsys": "icrs",
            "rotation_angle": 0,
            "format": "jpg",
        }

        async def read(data: bytes) -> Picture:
            for signature, media_type in _SIGNATURES.items():
                if data.startswith(signature):
                    return Picture(data, media_type)
            raise SurveyError("the answer is no picture")

        return await self._pictures.get(field, self._settings.cutout_url, asked, read)

    async def objects(self, field: Field, region: Ellipse) -> Objects | None:
        """Return the objects in a field; None if nobody is named who knows any.

        Raises
        ------
        SurveyError
            They are not known now, or too many.
        """
        if self._settings.catalogue_url is None:
            return None
        if field.half_width_deg > WIDEST_LISTED_DEG:
            raise SurveyError(f"{self._settings.catalogue_name} is not asked about regions as wide as this")
        corner_deg = math.sqrt(2) * field.half_width_deg
        asked = {"RA": field.ra_deg, "DEC": field.dec_deg, "SR": corner_deg, "MAXREC": MOST_ROWS}

        async def read(data: bytes) -> Objects:
            return await self._compute.run(catalogue.read, data, field, region)

        return await self._lists.get((field, region), self._settings.catalogue_url, asked, read)


async def _or_error(asking: Awaitable[R]) -> R | SurveyError:
    try:
        return await asking
    except SurveyError as error:
        return error


class _TooLargeError(SurveyError):
    """It answers, but with too much."""


class _Source(Generic[R]):
    """Somebody else's service: asked once for each thing however many want it, and left alone after a failure."""

    def __init__(
        self, http: httpx.AsyncClient, name: str, *, timeout_s: float, max_bytes: int, clock: Callable[[], float]
    ) -> None:
        self._http = http
        self._name = name
        self._timeout_s = timeout_s
        self._max_bytes = max_bytes
        self._clock = clock
        self._answers: OrderedDict[Hashable, asyncio.Task[R]] = OrderedDict()
        self._free = asyncio.Semaphore(AT_ONCE)
        self._asking = 0
        self._rests_until = -math.inf

    async def get(
        self, key: Hashable, url: str, asked: Mapping[str, str | float], read: Callable[[bytes], Awaitable[R]]
    ) -> R:
        task = self._answers.get(key)
        if task is None or _may_be_tried_again(task):
            self._require_rested()
            if self._asking >= MOST_ASKING:
                raise SurveyError(f"{self._name} is asked too much at once")
            self._asking += 1
            task = self._answers[key] = asyncio.create_task(self._ask(url, asked, read))
            while len(self._answers) > KEPT:
                self._answers.popitem(last=False)
        self._answers.move_to_end(key)
        # Whoever goes away leaves the answer to the next who asks.
        return await asyncio.shield(task)

    def _require_rested(self) -> None:
        if self._clock() < self._rests_until:
            raise SurveyError(f"{self._name} did not answer as it should; it is asked again in a minute")

    async def _ask(self, url: str, asked: Mapping[str, str | float], read: Callable[[bytes], Awaitable[R]]) -> R:
        try:
            async with self._free:
                self._require_rested()
                return await self._answer(url, asked, read)
        finally:
            self._asking -= 1

    async def _answer(self, url: str, asked: Mapping[str, str | float], read: Callable[[bytes], Awaitable[R]]) -> R:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await read(await self._fetch(httpx.URL(url).copy_merge_params(asked)))
        except _TooLargeError:
            raise
        except (TocsinError, httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
            _log.warning("console.survey_failed", service=self._name, reason=str(error) or type(error).__name__)
            self._rests_until = self._clock() + REST_S
            reason = str(error) if isinstance(error, TocsinError) else "no answer"
            raise SurveyError(f"{self._name} is missing now: {reason}") from error

    async def _fetch(self, url: httpx.URL) -> bytes:
        """Return an answer as it came: what is packed may be much larger unpacked."""
        headers = {"Accept-Encoding": "identity"}
        async with self._http.stream("GET", url, headers=headers, timeout=self._timeout_s) as answer:
            if not answer.is_success:
                raise SurveyError(f"it answers {answer.status_code}")
            data = bytearray()
            async for chunk in answer.aiter_raw():
                data += chunk
                if len(data) > self._max_bytes:
                    raise _TooLargeError(f"{self._name} has too much to tell of this field")
            return bytes(data)


def _may_be_tried_again(task: asyncio.Task[R]) -> bool:
    """Whether it failed; what was too large will be."""
    if not task.done():
        return False
    return task.cancelled() or not isinstance(task.exception(), _TooLargeError | None)
