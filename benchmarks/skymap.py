"""How fast a sky map is parsed and searched, beside the usual tools."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import astropy_healpix
import fastavro
import numpy as np
from astropy.coordinates import Latitude, Longitude
from astropy.table import Table
from astropy.units import deg
from ligo.skymap.postprocess.util import find_greedy_credible_levels
from mocpy import MOC

from benchmarks.report import Row, interleaved_medians_s
from services.gw_listener.alerts import read_alert
from services.skymap_parser import domain
from shared.sky import region
from shared.sky.healpix import FloatArray
from shared.sky.skymap import read_skymap

ALERT = Path(__file__).parents[1] / "samples" / "igwn" / "MS181101ab-preliminary.avro"
N_POINTS = 1_000_000


def recipe(data: bytes) -> tuple[object, ...]:
    """Position, areas and both regions, by the alert user guide, ligo.skymap and mocpy."""
    table = Table.read(io.BytesIO(data))
    order, ipix = astropy_healpix.uniq_to_level_ipix(table["UNIQ"])
    best = int(np.argmax(table["PROBDENSITY"]))
    position = astropy_healpix.healpix_to_lonlat(ipix[best], 1 << int(order[best]), order="nested")
    area = 4 * np.pi / (12 * 4.0**order)
    probability = np.asarray(table["PROBDENSITY"]) * area
    levels = find_greedy_credible_levels(probability, np.asarray(table["PROBDENSITY"]))
    areas = [area[levels <= level].sum() * (180 / np.pi) ** 2 for level in (0.5, 0.9)]
    uniq = np.asarray(table["UNIQ"]).astype(np.uint64)
    depth = int(order.max())
    mocs = [MOC.from_valued_healpix_cells(uniq, probability, depth, cumul_to=level) for level in (0.5, 0.9)]
    return position, areas, mocs


def ours(data: bytes) -> tuple[object, ...]:
    """The same figures and regions."""
    sky_map = read_skymap(data)
    regions = region.credible_regions(sky_map, (0.5, 0.9))
    return region.most_probable_position_deg(sky_map), [r.area_deg2 for r in regions], [r.moc() for r in regions]


def theirs_from_alert(alert: bytes) -> tuple[object, ...]:
    record: Any = next(fastavro.reader(io.BytesIO(alert)))
    return recipe(record["event"]["skymap"])


def measure() -> list[Row]:
    """Return the comparisons."""
    alert = ALERT.read_bytes()
    data = read_alert(alert).skymap or b""
    rng = np.random.default_rng(1)
    ra, dec = rng.uniform(0, 360, N_POINTS), np.degrees(np.arcsin(rng.uniform(-1, 1, N_POINTS)))
    region_90 = region.credible_regions(read_skymap(data), (0.9,))[0]
    moc = region_90.moc()
    centre = moc.barycenter().icrs
    near_ra = (centre.ra.deg + rng.normal(0, 6, N_POINTS)) % 360
    near_dec = np.clip(centre.dec.deg + rng.normal(0, 6, N_POINTS), -90, 90)

    def by_mocpy(lon: FloatArray, lat: FloatArray) -> Any:
        return moc.contains_lonlat(Longitude(lon, deg), Latitude(lat, deg))

    for lon, lat in ((ra, dec), (near_ra, near_dec)):
        if not np.array_equal(region_90.contains(lon, lat), by_mocpy(lon, lat)):
            raise AssertionError("ours and mocpy disagree; there is nothing to compare")
    return [
        _row("sky map to position, areas, MOCs", lambda: recipe(data), lambda: ours(data), 40, 2.5),
        _row(
            "alert to position, areas, MOCs",
            lambda: theirs_from_alert(alert),
            lambda: ours(read_alert(alert).skymap or b""),
            40,
            2.5,
        ),
        _row("sky map to the whole product with its files", lambda: recipe(data), lambda: domain.parse(data), 40, 2.5),
        _row("10^6 points over the sky in the 90 % region", lambda: by_mocpy(ra, dec),
             lambda: region_90.contains(ra, dec), 9, 1.0),
        _row("10^6 points near the 90 % region", lambda: by_mocpy(near_ra, near_dec),
             lambda: region_90.contains(near_ra, near_dec), 9, 1.0),
    ]  # fmt: skip


def _row(what: str, theirs: Callable[[], object], mine: Callable[[], object], rounds: int, aim: float) -> Row:
    their_s, our_s = interleaved_medians_s([theirs, mine], rounds=rounds)
    return Row(what, f"{their_s * 1e3:.2f} ms", f"{our_s * 1e3:.2f} ms", their_s / our_s, f"at least {aim}")
