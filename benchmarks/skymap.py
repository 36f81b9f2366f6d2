"""How fast a sky map is parsed and searched, beside the usual tools: ``python benchmarks/skymap.py [ALERT]``.

Ours and theirs take turns in one process; medians and their ratios are printed.
"""

import io
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import astropy_healpix
import fastavro
import numpy as np
from astropy.coordinates import Latitude, Longitude
from astropy.table import Table
from astropy.units import deg
from ligo.skymap.postprocess.util import find_greedy_credible_levels
from mocpy import MOC

from services.gw_listener.alerts import read_alert
from services.skymap_parser import domain
from shared.sky import region
from shared.sky.skymap import read_skymap

DEFAULT_ALERT = Path(__file__).parents[1] / "samples" / "igwn" / "MS181101ab-preliminary.avro"
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


def compare(name: str, mine: Callable[[], object], theirs: Callable[[], object], *, rounds: int, target: float) -> None:
    """Print both medians and how many times faster ours is."""
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds + 3):
        for function, taken in zip((mine, theirs), times, strict=True):
            begin = time.perf_counter()
            function()
            if number >= 3:
                taken.append(time.perf_counter() - begin)
    a, b = (statistics.median(taken) * 1e3 for taken in times)
    print(f"{name:<52} {a:9.3f} {b:9.3f} {b / a:7.2f}   >= {target}")


def main(path: Path) -> None:
    """Measure on one alert."""
    alert_bytes = path.read_bytes()
    data = read_alert(alert_bytes).skymap
    if data is None:
        raise SystemExit(f"{path} holds no sky map")
    print(f"{path.name}: {len(data)} bytes of sky map")
    print(f"{'':<52} {'ours ms':>9} {'theirs ms':>9} {'ratio':>7}   target")
    compare("map bytes -> position, areas, MOCs", lambda: ours(data), lambda: recipe(data), rounds=40, target=2.5)
    compare(
        "alert bytes -> the same", lambda: ours(read_alert(alert_bytes).skymap or b""),
        lambda: recipe(next(fastavro.reader(io.BytesIO(alert_bytes)))["event"]["skymap"]), rounds=40, target=2.5,
    )  # fmt: skip
    compare("  ... ours also writing MOC files and canonical map", lambda: domain.parse(data), lambda: recipe(data),
            rounds=40, target=2.5)  # fmt: skip
    rng = np.random.default_rng(1)
    ra, dec = rng.uniform(0, 360, N_POINTS), np.degrees(np.arcsin(rng.uniform(-1, 1, N_POINTS)))
    region_90 = region.credible_regions(read_skymap(data), (0.9,))[0]
    moc = region_90.moc()

    def inside_by_mocpy() -> object:
        return moc.contains_lonlat(Longitude(ra, deg), Latitude(dec, deg))

    assert np.array_equal(region_90.contains(ra, dec), inside_by_mocpy())
    compare(f"{N_POINTS} points in the 90 % region", lambda: region_90.contains(ra, dec), inside_by_mocpy,
            rounds=9, target=1.0)  # fmt: skip
    near_ra, near_dec = _points_near(moc)

    def near_by_mocpy() -> object:
        return moc.contains_lonlat(Longitude(near_ra, deg), Latitude(near_dec, deg))

    compare(f"{N_POINTS} points, all near the region", lambda: region_90.contains(near_ra, near_dec), near_by_mocpy,
            rounds=9, target=1.0)  # fmt: skip


def _points_near(moc: MOC) -> tuple[np.ndarray, np.ndarray]:
    centre = moc.barycenter().icrs
    rng = np.random.default_rng(2)
    ra = (centre.ra.deg + rng.normal(0, 6, N_POINTS)) % 360
    return ra, np.clip(centre.dec.deg + rng.normal(0, 6, N_POINTS), -90, 90)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT_ALERT)
