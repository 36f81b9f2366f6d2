"""One call gives a map's whole product, fit for another process."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from cli.skymap import skymap
from services.skymap_parser import domain
from shared.events.gw import Skymap
from shared.sky.skymap import InvalidSkyMapError, read_skymap
from tests.support.data import SAMPLES
from tests.support.skymaps import a_multiorder_map

APP = typer.Typer()
APP.command()(skymap)
ALERT = SAMPLES / "igwn" / "MS181101ab-preliminary.avro"
GW170817 = SAMPLES / "skymaps" / "GW170817_skymap.fits"


def run(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(APP, [str(argument) for argument in arguments])
    return result.exit_code, result.stdout, result.stderr


def test_the_product_has_everything_that_the_record_tells_and_crosses_processes() -> None:
    product = pickle.loads(pickle.dumps(domain.parse(GW170817.read_bytes())))

    missing = set(Skymap.model_fields) - set(vars(product))
    assert missing == {"source"}  # the reference to the file as received, which its caller knows
    assert (product.min_order, product.max_order, product.n_pixels) == (0, 10, 15030)
    assert product.area_90_deg2 == pytest.approx(16.16, abs=0.005)  # LIGO-P1800381
    assert product.distance_mean_mpc == 37.95970607971848


def test_a_map_without_distance_has_null_and_a_long_region_no_ascii() -> None:
    rng = np.random.default_rng(1)
    scattered = rng.choice(12 << 16, 40_000, replace=False) + (4 << 16)
    density = np.full(40_000, (12 << 16) / (4 * np.pi) / 40_000)
    product = domain.parse(a_multiorder_map(uniq=scattered, probdensity=density))

    assert product.distance_mean_mpc is None
    assert product.distance_std_mpc is None
    assert product.moc_90_ascii is None
    assert len(product.moc_90) > 64 * 1024


def test_a_bad_map_says_the_same_from_another_process() -> None:
    with pytest.raises(InvalidSkyMapError) as raised:
        domain.parse(b"nonsense")

    assert str(pickle.loads(pickle.dumps(raised.value))) == str(raised.value)


def test_the_command_prints_the_user_guides_figures_as_json() -> None:
    code, out, _ = run(ALERT, "--json", "--cone", "194.3,-17.9,5", "--at", "194.3,-17.9")
    facts = json.loads(out)

    assert code == 0
    assert (facts["ra_deg"], facts["dec_deg"]) == (194.30419921874997, -17.856895095545468)
    assert (facts["distance_mean_mpc"], facts["distance_std_mpc"]) == (39.76999609489013, 8.308435058808886)
    assert {"area_50_deg2", "area_90_deg2", "max_order", "n_pixels", "moc_90"} <= set(facts)
    assert 0.7 < facts["cone_probability"] < 0.8
    assert facts["at"]["credible_level"] < 0.1


def test_the_command_reads_bare_maps_and_writes_files(tmp_path: Path) -> None:
    png, fits, moc = tmp_path / "sky.png", tmp_path / "map.fits", tmp_path / "moc.fits"

    code, out, _ = run(GW170817, "--plot", png, "--canonical", fits, "--moc", moc)

    assert code == 0
    assert "90 % area      16.156" in out
    assert png.read_bytes().startswith(b"\x89PNG")
    assert read_skymap(fits.read_bytes()).object_name == "GW170817"
    assert moc.stat().st_size > 2880


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "file is empty; expected"),
        (bytes(1000), "expected a FITS sky map or an IGWN alert"),
        (a_multiorder_map()[:-8000], "NAXIS1 x NAXIS2 is"),
        (b'{"superevent_id": 5}', "expected"),
        ((SAMPLES / "igwn" / "MS181101ab-retraction.avro").read_bytes(), "a retraction carries none"),
    ],
)
def test_bad_input_is_told_in_one_line_with_exit_code_2(tmp_path: Path, content: bytes, complaint: str) -> None:
    path = tmp_path / "input"
    path.write_bytes(content)

    code, out, err = run(path, "--json")

    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"tocsin skymap: {path}: ")
    assert complaint in err


def test_a_missing_file_is_told_in_one_line(tmp_path: Path) -> None:
    code, _, err = run(tmp_path / "none")

    assert code == 2
    assert "file is No such file or directory; expected a readable file" in err
