"""A HiPS cutout service and a cone search on the loopback address, over one made-up sky, that misbehave when told to.

`python -m shared.testing.survey --port 8094` runs one. Its own reading of CDS's hips2fits and of IVOA Simple Cone
Search 1.03; where a position falls in a picture is for astropy's WCS to say, not for the console.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from enum import StrEnum
from html import escape
from urllib.parse import parse_qsl, urlsplit

import numpy as np
from astropy import units
from astropy.coordinates import SkyCoord
from astropy.wcs import WCS
from PIL import Image

from shared.testing.connections import serving

CUTOUT_PATH, CONE_PATH = "/hips2fits", "/cone"
HUGE_BYTES = 16 * 1024 * 1024
_COLUMNS = (
    ("recno", "meta.record", "int", ""),
    ("Name", "meta.id;meta.main", "char", ""),
    ("RAJ2000", "pos.eq.ra;meta.main", "double", "deg"),
    ("DEJ2000", "pos.eq.dec;meta.main", "double", "deg"),
    ("e_Bmag", "stat.error;phot.mag;em.opt.B", "float", "mag"),
    ("Bmag", "phot.mag;em.opt.B", "float", "mag"),
    ("zhelio", "src.redshift;pos.heliocentric", "float", ""),
    ("dL", "pos.distance;pos.eq", "float", "kpc"),
)
_SIZES = {"char": "*"}


class Fault(StrEnum):
    """What is wrong with every answer, until told otherwise."""

    ERROR = "error"
    GARBAGE = "garbage"
    HUGE = "huge"
    WRONG_TYPE = "wrong type"
    LINK = "link"
    ENTITY = "entity"
    SILENT = "silent"


@dataclass(frozen=True)
class Galaxy:
    """An object of the sky."""

    name: str
    ra_deg: float
    dec_deg: float
    magnitude: float | None = None
    redshift: float | None = None
    distance_kpc: float | None = None


@dataclass
class SkyStandIn:
    """Both services; `standing_sky` starts them.

    Attributes
    ----------
    galaxies
        All there are; a field without any gets some of its own.
    fault
        What is wrong with the answers.
    requests
        Paths of all requests, in order.
    """

    port: int = 0
    galaxies: list[Galaxy] = field(default_factory=list)
    fault: Fault | None = None
    requests: list[str] = field(default_factory=list)
    _spoken: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def settings(self) -> dict[str, str]:
        """What the console's section `survey` says of it."""
        url = f"http://127.0.0.1:{self.port}"
        return {
            "cutout_url": url + CUTOUT_PATH,
            "catalogue_url": f"{url}{CONE_PATH}?cat=galaxies",
            "picture_name": "Made-up Sky Survey",
            "catalogue_name": "Made-up Galaxies",
        }

    def speak(self) -> None:
        """Answer those that wait since it was silent, and be well."""
        self.fault = None
        self._spoken.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection's requests."""
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            if self.fault is Fault.SILENT:
                self._spoken.clear()
                await self._spoken.wait()
            status, media_type, body = self.answer(head.split(" ")[1])
            writer.write(
                f"HTTP/1.1 {status} X\r\nContent-Type: {media_type}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            )
            writer.write(body)
            await writer.drain()

    def answer(self, target: str) -> tuple[int, str, bytes]:
        """Return status, type and content of the answer to a request."""
        path = urlsplit(target).path
        asked = dict(parse_qsl(urlsplit(target).query))
        self.requests.append(path)
        match self.fault:
            case Fault.ERROR:
                return 500, "text/plain", b"not today"
            case Fault.GARBAGE:
                return 200, "image/jpeg", b"\x00\xfe not a picture and not a table"
            case Fault.HUGE:
                return 200, "image/jpeg", b"\xff\xd8\xff" + bytes(HUGE_BYTES)
            case Fault.WRONG_TYPE:
                return 200, "image/jpeg", b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"
        if path == CUTOUT_PATH:
            return 200, "image/jpeg", self._picture(asked)
        if path == CONE_PATH and asked.get("cat") == "galaxies":
            return 200, "application/x-votable+xml", self._table(asked).encode()
        return 404, "text/plain", b"no such service"

    def seen(self, ra_deg: float, dec_deg: float, radius_deg: float) -> list[Galaxy]:
        """Return what is within a distance from a position."""
        centre = SkyCoord(ra_deg, dec_deg, unit="deg")
        everything = self.galaxies or _made_up(centre, radius_deg)
        places = SkyCoord([each.ra_deg for each in everything], [each.dec_deg for each in everything], unit="deg")
        is_near = (places.separation(centre) <= radius_deg * units.deg).tolist()
        return [each for each, near in zip(everything, is_near, strict=True) if near]

    def _picture(self, asked: dict[str, str]) -> bytes:
        width, height, fov_deg = int(asked["width"]), int(asked["height"]), float(asked["fov"])
        ra_deg, dec_deg = float(asked["ra"]), float(asked["dec"])
        wcs = WCS(naxis=2)
        wcs.wcs.ctype = [f"RA---{asked['projection']}", f"DEC--{asked['projection']}"]
        wcs.wcs.crval = [ra_deg, dec_deg]
        wcs.wcs.crpix = [(width + 1) / 2, (height + 1) / 2]
        step_deg = fov_deg / max(width, height)
        wcs.wcs.cdelt = [-step_deg, step_deg]
        rng = np.random.default_rng(0)
        light = rng.normal(18, 6, (height, width))
        for each in self.seen(ra_deg, dec_deg, fov_deg / np.sqrt(2)):
            x, y = (float(value) for value in wcs.all_world2pix(each.ra_deg, each.dec_deg, 0))
            size = width / 130
            across = np.exp(-(((np.arange(width) - x) / size) ** 2) / 2)
            # The first row of a picture is its top, that of a FITS image its bottom.
            down = np.exp(-(((np.arange(height) - (height - 1 - y)) / size) ** 2) / 2)
            light += 200 * np.outer(down, across)
        tint = np.stack([light, 0.93 * light, 0.8 * light], axis=2)
        picture = io.BytesIO()
        Image.fromarray(np.clip(tint, 0, 255).astype(np.uint8)).save(picture, "JPEG", quality=90)
        return picture.getvalue()

    def _table(self, asked: dict[str, str]) -> str:
        found = self.seen(float(asked["RA"]), float(asked["DEC"]), float(asked["SR"]))
        most = int(asked.get("MAXREC", len(found)))
        status = "OVERFLOW" if most < len(found) else "OK"
        fields = "".join(
            f'<FIELD name="{name}" ucd="{ucd}" datatype="{kind}" unit="{unit}" arraysize="{_SIZES.get(kind, 1)}"/>'
            for name, ucd, kind, unit in _COLUMNS
        )
        rows = "".join(
            "<TR>" + "".join(f"<TD>{'' if cell is None else escape(str(cell))}</TD>" for cell in cells) + "</TR>"
            for cells in (
                (number, each.name, each.ra_deg, each.dec_deg, 0.1, each.magnitude, each.redshift, each.distance_kpc)
                for number, each in enumerate(found[:most])
            )
        )
        data = f"<TABLEDATA>{rows}</TABLEDATA>"
        if self.fault is Fault.LINK:
            data = '<BINARY><STREAM href="file:///etc/hostname"/></BINARY>'
        document_type = '<!DOCTYPE VOTABLE [<!ENTITY a "b">]>' if self.fault is Fault.ENTITY else ""
        return (
            f'<?xml version="1.0"?>{document_type}<VOTABLE version="1.4" xmlns="http://www.ivoa.net/xml/VOTable/v1.3">'
            f'<RESOURCE type="results"><INFO name="QUERY_STATUS" value="{status}"/>'
            f"<TABLE>{fields}<DATA>{data}</DATA></TABLE></RESOURCE></VOTABLE>"
        )


def _made_up(centre: SkyCoord, radius_deg: float) -> list[Galaxy]:
    """Return the same galaxies for the same field."""
    rng = np.random.default_rng([round(1e4 * centre.ra.deg), round(1e4 * (centre.dec.deg + 90))])
    count = 40
    angles, distances = rng.uniform(0, 360, count) * units.deg, radius_deg * np.sqrt(rng.uniform(0, 1, count))
    places = centre.directional_offset_by(angles, distances * units.deg)
    redshifts, magnitudes = rng.uniform(0.01, 0.5, count), rng.uniform(14, 21, count)
    return [
        Galaxy(
            name=f"MUG J{places[number].to_string('hmsdms', sep='', precision=1).replace(' ', '')}",
            ra_deg=float(places[number].ra.deg),
            dec_deg=float(places[number].dec.deg),
            magnitude=round(float(magnitudes[number]), 2),
            redshift=round(float(redshifts[number]), 4) if number % 3 else None,
            distance_kpc=round(4.3e6 * float(redshifts[number])) if number % 3 else None,
        )
        for number in range(count)
    ]


@contextlib.asynccontextmanager
async def standing_sky(port: int = 0) -> AsyncIterator[SkyStandIn]:
    """Return both services, at a free port unless one is given, while the block runs."""
    sky = SkyStandIn()
    async with serving(sky.serve, port) as sky.port:
        try:
            yield sky
        finally:
            sky.speak()


async def _run(port: int) -> None:
    async with standing_sky(port) as sky:
        for name, value in sky.settings.items():
            print(f"TOCSIN_CONSOLE__SURVEY__{name.upper()}={value!r}", flush=True)  # noqa: T201
        await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8094, help="where to listen")
    options = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_run(options.port))
