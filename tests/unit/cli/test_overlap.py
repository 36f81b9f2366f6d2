"""`tocsin overlap`, from files alone."""

import json
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from cli.overlap import ONE_SIGMA, overlap_command
from shared.sky.gaussian import localisation_map
from shared.sky.localisation import Ellipse
from shared.sky.overlap import combined, overlap
from shared.sky.skymap import read_skymap, write_skymap
from tests.support.data import SAMPLES, SHARED_DATA, needs_shared_data

APP = typer.Typer()
APP.command()(overlap_command)
GW170817 = SAMPLES / "skymaps" / "GW170817_skymap.fits"
IPN = SAMPLES / "skymaps" / "GRB220617A_IPN_map_hpx.fits.gz"
ALERT = SAMPLES / "igwn" / "MS181101ab-preliminary.avro"


def run(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(APP, [str(argument) for argument in arguments])
    return result.exit_code, result.stdout, result.stderr


def facts(*arguments: object) -> dict[str, object]:
    code, out, err = run(*arguments, "--json")
    assert (code, err) == (0, "")
    found: dict[str, object] = json.loads(out)
    return found


def test_two_maps_give_the_overlap_on_the_sky_and_in_volume() -> None:
    found = facts(ALERT, GW170817)
    back = facts(GW170817, ALERT)
    assert found["overlap_sky"] == pytest.approx(1790.13, rel=1e-5)  # measured once by a merge of ranges
    assert found["overlap_sky"] == pytest.approx(back["overlap_sky"], rel=1e-12)
    assert found["overlap_3d"] == pytest.approx(back["overlap_3d"], rel=1e-6)
    assert found["a"]["name"] == "MS181101ab"  # type: ignore[index]
    assert "credible_level" not in found


def test_a_map_without_distances_has_no_overlap_in_volume() -> None:
    found = facts(GW170817, IPN)
    assert found["overlap_3d"] is None
    assert any("no overlap in 3-D" in note for note in found["notes"])  # type: ignore[attr-defined]


@needs_shared_data
def test_s190425z_and_frb_20190425a() -> None:
    assert SHARED_DATA is not None
    gw = SHARED_DATA / "skymaps" / "skyportal-bayestar.fits.gz"
    found = facts(gw, "255.72,21.52,0.16")
    assert found["credible_level"] == pytest.approx(0.250, abs=5e-4)
    assert found["overlap_at_position"] == pytest.approx(7.26, abs=5e-3)
    assert found["overlap_sky"] == pytest.approx(7.50, abs=5e-3)
    assert found["overlap_3d"] is None
    # A burst with so little dispersion is near, as the wave is.
    assert facts(gw, "255.72,21.52,0.16", "--dm-excess", 79.4)["overlap_3d"] > 7.5  # type: ignore[operator]
    near, far = (facts(gw, "255.72,21.52,0.16", "--redshift", z)["overlap_3d"] for z in (0.031, 0.3))
    assert near > 100 * far  # type: ignore[operator]


def test_the_error_is_the_standard_deviation_along_each_axis() -> None:
    gw = read_skymap(GW170817.read_bytes())
    burst = localisation_map(Ellipse(197.45, -23.38, 2.0, 2.0, 0.0, 1 - np.exp(-0.5)), resolving=gw)
    assert pytest.approx(1 - np.exp(-0.5), rel=1e-15) == ONE_SIGMA
    assert facts(GW170817, "197.45,-23.38,2")["overlap_sky"] == pytest.approx(overlap(gw, burst), rel=1e-12)


def test_the_product_is_written(tmp_path: Path) -> None:
    path = tmp_path / "product.fits"
    code, out, _ = run(GW170817, IPN, "--product", path)
    gw, ipn = (read_skymap(file.read_bytes()) for file in (GW170817, IPN))
    assert code == 0
    assert "on the sky" in out
    assert path.read_bytes() == write_skymap(combined(gw, ipn))


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((GW170817, "1,2"), "RA,DEC,ERR_DEG in degrees"),
        ((GW170817, "1,2,x"), "RA,DEC,ERR_DEG in degrees"),
        ((GW170817, "400,2,1"), "ra_deg is 400.0"),
        ((GW170817, "1,99,1"), "dec_deg is 99.0"),
        ((GW170817, "1,2,0"), "ERR_DEG is 0.0"),
        ((GW170817, "1,2,nan"), "ERR_DEG is nan"),
        ((GW170817, "nothing.fits"), "nothing.fits: file is No such file"),
        (("nothing.fits", GW170817), "nothing.fits: file is No such file"),
        ((GW170817, __file__), "test_overlap.py: file is"),
        ((GW170817, "1,2,3", "--dm-excess", "10", "--redshift", "1"), "one of the two"),
        ((GW170817, "1,2,3", "--redshift", "nan"), "redshift is nan"),
        ((GW170817, "1,2,3", "--dm-excess", "-1"), "--dm-excess is -1.0"),
        ((GW170817, "1,2,3", "--dm-excess", "nan"), "--dm-excess is nan"),
        ((GW170817, "197,-23,3", "--product", "/nowhere/there"), "output /nowhere/there is"),
        ((GW170817, "1,2,3", "--product", "/nowhere/there"), "product of the sky maps is zero everywhere"),
    ],
)
def test_bad_input_is_told_in_one_line_with_exit_code_2(arguments: tuple[object, ...], complaint: str) -> None:
    code, out, err = run(*arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("tocsin overlap: ")
    assert complaint in err
