"""How fast sky maps are compared, beside ligo-raven and a merge of ranges by hand."""

import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from astropy.table import Table
from astropy.units import sr

from benchmarks.report import Row, interleaved_medians_s
from services.gw_listener.alerts import read_alert
from shared.sky.gaussian import localisation_map
from shared.sky.localisation import Ellipse
from shared.sky.overlap import overlap
from shared.sky.skymap import SkyMap, read_skymap

with warnings.catch_warnings():
    # Of ligo.skymap, which it imports.
    warnings.simplefilter("ignore", DeprecationWarning)
    from ligo.raven.search import skymap_overlap_integral as raven

SAMPLES = Path(__file__).parents[1] / "samples"
ALERT = SAMPLES / "igwn" / "MS181101ab-ext-update.avro"
GW170817 = SAMPLES / "skymaps" / "GW170817_skymap.fits"
BURST = Ellipse(194.4, -17.9, 0.16, 0.16, 0.0, 0.68)
ROUNDS = 25


def by_hand(one: Table, other: Table) -> float:
    """Cut the sky at every edge of either map, look each piece up in both, and add up."""
    sides = []
    for table in (one, other):
        uniq = np.asarray(table["UNIQ"])
        order = (np.log2(uniq / 4) / 2).astype(np.int64)
        start = (uniq - np.left_shift(4, 2 * order)) << 2 * (29 - order)
        rank = np.argsort(start)
        stop = start + np.left_shift(1, 2 * (29 - order))
        sides.append((start[rank], stop[rank], np.asarray(table["PROBDENSITY"])[rank]))
    cuts = np.unique(np.concatenate([edges for start, stop, _ in sides for edges in (start, stop)]))
    product = np.diff(cuts) * (4 * np.pi / (12 << 58))
    for start, stop, density in sides:
        cell = np.searchsorted(start, cuts[:-1], side="right") - 1
        product = product * np.where((cell >= 0) & (cuts[:-1] < stop[cell]), density[cell], 0)
    return float(4 * np.pi * product.sum())


def by_raven(one: Table, other: Table) -> float:
    """The same integral by the nearest centre of a cell: exact where both maps have the same cells."""
    return float(raven(one["PROBDENSITY"], other["PROBDENSITY"], one["UNIQ"], other["UNIQ"]))


def measure() -> list[Row]:
    """Return the comparisons."""
    alert = read_alert(ALERT.read_bytes())
    wave, both = read_skymap(alert.skymap or b""), read_skymap(alert.combined_skymap or b"")
    other, burst = read_skymap(GW170817.read_bytes()), localisation_map(BURST)
    before = partial(by_raven, _table(wave), _table(burst))
    return [
        *_rows("overlap of two maps of the same cells", wave, both),
        *_rows("overlap of two maps of other cells", wave, other),
        *_rows("overlap of a burst's Gaussian of 0.16 deg and a map", wave, burst, aim="at least 50"),
        _row(
            "the same, the Gaussian made from the ellipse each time",
            "ligo-raven, made before",
            before,
            lambda: overlap(wave, localisation_map(BURST)),
            "none",
        ),
    ]


def _rows(what: str, a: SkyMap, b: SkyMap, *, aim: str = "at least 1") -> list[Row]:
    tables, mine = (_table(a), _table(b)), partial(overlap, a, b)
    if not np.isclose(by_hand(*tables), mine(), rtol=1e-9):
        raise AssertionError("the merge by hand and ours disagree; there is nothing to compare")
    what = f"{what}, {len(a.start):,} and {len(b.start):,}"
    theirs = partial(by_raven, *tables)
    off = theirs() / mine() - 1
    return [
        _row(what, "merge of ranges by hand", partial(by_hand, *tables), mine, "at least 1"),
        _row("the same", f"ligo-raven, off by {off:+.1e}", theirs, mine, aim),
    ]


def _table(sky_map: SkyMap) -> Table:
    return Table({"UNIQ": sky_map.uniq, "PROBDENSITY": sky_map.probdensity / sr})


def _row(what: str, peer: str, theirs: Callable[[], object], mine: Callable[[], object], aim: str) -> Row:
    their_s, our_s = interleaved_medians_s([theirs, mine], rounds=ROUNDS)
    return Row(what, f"{peer} {their_s * 1e3:.2f} ms", f"{our_s * 1e3:.2f} ms", their_s / our_s, aim)
