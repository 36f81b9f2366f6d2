"""The Milky Way's part of dispersion measures, against astropy and the CHIME catalogue."""

import csv

import numpy as np
import pytest
from astropy.coordinates import SkyCoord

from shared.physics.galactic_dm import galactic_deg, ne2001_max_dm_pc_cm3
from tests.support.data import SHARED_DATA, needs_shared_data


def test_galactic_coordinates_are_those_of_astropy() -> None:
    rng = np.random.default_rng(1)
    ra = np.append(rng.uniform(0, 360, 1000), [0, 360, 266.405, 192.859508])
    dec = np.append(np.degrees(np.arcsin(rng.uniform(-1, 1, 1000))), [90, -90, -28.936, 27.128336])
    gl, gb = galactic_deg(ra, dec)
    ours, theirs = SkyCoord(gl, gb, unit="deg", frame="galactic"), SkyCoord(ra, dec, unit="deg").galactic
    # 1e-9 deg: far below any localisation, far above rounding.
    assert ours.separation(theirs).deg.max() < 1e-9
    assert gl.min() >= 0
    assert gl.max() < 360


@needs_shared_data
def test_excesses_are_those_that_chime_found_with_the_same_model() -> None:
    assert SHARED_DATA is not None
    with (SHARED_DATA / "frb" / "chimefrbcat1.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    ra, dec, dm, excess = (
        np.array([float(row[name]) for row in rows]) for name in ("ra", "dec", "dm_fitb", "dm_exc_ne2001")
    )
    ratio = ne2001_max_dm_pc_cm3(ra, dec) / (dm - excess)
    assert len(rows) > 500
    # Measured: half within 0.2 %, 90 % within 0.8 %. What is left is interpolation over 3.7 deg, and CHIME's positions;
    # the model itself is good to tens of percent.
    low, median, high = np.percentile(ratio, [5, 50, 95])
    assert median == pytest.approx(1, abs=0.003)
    assert low > 0.985
    assert high < 1.015
    assert 0.9 < ratio.min() < ratio.max() < 1.1
