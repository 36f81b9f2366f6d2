"""From the bytes of a sky map to everything that `gw.skymaps` says about it, in one call.

Pure and picklable on both sides, so that it can run in a worker process.
"""

from dataclasses import dataclass
from datetime import datetime

from shared.sky import region
from shared.sky.skymap import ALERT_MAX_MAP_BYTES, ALERT_SUM_TOLERANCE, SkyMap, read_skymap, write_skymap

METHOD_VERSION = "1"
# Raised with every change that can alter a product's numbers or bytes.

MAX_ASCII_BYTES = 64 * 1024
# A longer ASCII MOC is left out of the event: the FITS one is in the blob store anyway.

FITS_MEDIA_TYPE = "application/fits"


@dataclass(frozen=True)
class ParsedSkymap:
    """The figures and files of one sky map; names and units as in the record `Skymap`.

    Attributes
    ----------
    canonical
        Multi-order FITS, cells sorted and normalised; `read_skymap` gives the map back.
    moc_50, moc_90
        Credible regions, IVOA MOC 2.0 FITS.
    moc_50_ascii, moc_90_ascii
        The same as ASCII; None when longer than `MAX_ASCII_BYTES`.
    """

    canonical: bytes
    ra_deg: float
    dec_deg: float
    max_probdensity_per_sr: float
    area_50_deg2: float
    area_90_deg2: float
    moc_50: bytes
    moc_90: bytes
    moc_50_ascii: str | None
    moc_90_ascii: str | None
    distance_mean_mpc: float | None
    distance_std_mpc: float | None
    min_order: int
    max_order: int
    n_pixels: int
    total_probability: float
    sky_coverage: float
    has_distance: bool
    object_name: str | None
    date_obs: datetime | None
    instruments: tuple[str, ...]
    origin: str | None
    creator: str | None
    notes: tuple[str, ...]


def parse(
    data: bytes, *, sum_tolerance: float | None = ALERT_SUM_TOLERANCE, max_bytes: int = ALERT_MAX_MAP_BYTES
) -> ParsedSkymap:
    """Read a sky map, of an alert unless told otherwise, and compute its product.

    Raises
    ------
    InvalidSkyMapError
        Naming the field, its value and what was expected.
    """
    return product(read_skymap(data, sum_tolerance=sum_tolerance, max_bytes=max_bytes))


def product(skymap: SkyMap) -> ParsedSkymap:
    """Everything that is told of a map that has been read."""
    ra_deg, dec_deg = region.most_probable_position_deg(skymap)
    region_50, region_90 = region.credible_regions(skymap, (0.5, 0.9))
    distance = region.distance(skymap)
    return ParsedSkymap(
        canonical=write_skymap(skymap),
        ra_deg=ra_deg,
        dec_deg=dec_deg,
        max_probdensity_per_sr=float(skymap.probdensity.max()),
        area_50_deg2=region_50.area_deg2,
        area_90_deg2=region_90.area_deg2,
        moc_50=region_50.to_fits(),
        moc_90=region_90.to_fits(),
        moc_50_ascii=_short(region_50.to_ascii()),
        moc_90_ascii=_short(region_90.to_ascii()),
        distance_mean_mpc=None if distance is None else distance.mean_mpc,
        distance_std_mpc=None if distance is None else distance.std_mpc,
        min_order=skymap.min_order,
        max_order=skymap.max_order,
        n_pixels=skymap.n_pixels,
        total_probability=skymap.total_probability,
        sky_coverage=skymap.sky_coverage,
        has_distance=distance is not None,
        object_name=skymap.object_name,
        date_obs=skymap.date_obs,
        instruments=skymap.instruments,
        origin=skymap.origin,
        creator=skymap.creator,
        notes=skymap.notes,
    )


def _short(text: str) -> str | None:
    return text if len(text) <= MAX_ASCII_BYTES else None
