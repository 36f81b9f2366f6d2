"""What is read of the YAML files that describe a burst."""

import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from cli.frb.yaml_file import MAX_YAML_BYTES, read_mapping, read_text
from shared.errors import InvalidInputError
from tests.support.frb_client import OBSERVATION, RADIO

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters(codec="ascii"))


def test_the_documented_radio_measurement_is_read_with_braces_comments_and_trailing_commas() -> None:
    text = RADIO.read_text()
    assert text.startswith("{")
    assert re.search(r"^ *# Required$", text, re.MULTILINE)
    assert re.search(r",\s*}\s*$", text)

    found = read_mapping(text, name="radio")

    assert found == {
        "time_of_arrival": "2017-11-17T12:21:38.87", "repeater": True, "search_path": "example_search.png",
        "image_path": "example_image.png", "histogram_path": "example_histogram.png", "dm": 411.0, "dm_err": 1.0,
        "ra": 77.01461542, "ra_err": 0.05, "dec": 26.06069556, "dec_err": 0.05, "sn": 50, "width": 5, "flux": 35,
        "flux_err": 3, "source": "MB", "version": "v1.0", "fluence": 45, "fluence_err": 5,
        "dmism": 123.16007817568256, "rm": -613.0, "rm_err": 2.0, "cosmo": "Planck18",
        "eellipse": {"a": 0.004, "b": 0.004, "cl": 68.0, "theta": 0.0}, "z": 0.0982,
    }  # fmt: skip


def test_the_documented_observation_is_read() -> None:
    found = read_mapping(OBSERVATION.read_text(), name="observation")

    assert len(found) == 13
    assert (found["centre_frequency"], found["backend"], found["beam"]) == (1400, "Multibeam", 1)


@given(st.dictionaries(st.text(st.characters(codec="ascii"), min_size=1), SCALARS), st.booleans())
def test_reads_what_yaml_itself_reads_in_braces_and_in_blocks(mapping: dict[str, object], in_braces: bool) -> None:
    text = yaml.safe_dump(mapping, default_flow_style=in_braces)

    assert read_mapping(text, name="file") == yaml.safe_load(text)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{dm: 1,\n  dm: 2}", "file, line 2, column 3 is malformed (the key dm for the second time); expected YAML"),
        ("a: {b: 1, b: 1}", "file, line 1, column 11 is malformed (the key b for the second time); expected YAML"),
        ("{dm: 1,\n x: [2}", "file, line 2, column 7 is malformed"),
        ("dm: 411.0\n  sn: 50", "file, line 2, column 5 is malformed (mapping values are not allowed here)"),
        ("dm: !!python/object:os.system {}", "file, line 1, column 5 is malformed"),
        ("dm: *nowhere", "line 1, column 5"),
        ("a: \x01", "special characters are not allowed"),
        ("a: 2017-02-31", "file is"),
        ("[" * 10_000, "nested too deeply"),
        ("[1, 2]", "file is a list; expected a mapping"),
        ("411.0", "file is a float; expected a mapping"),
        ("# only a comment", "file is empty; expected a mapping"),
        ("{1: 2}", "file: the key 1 is a int; expected a name"),
    ],
)
def test_says_where_a_file_is_no_mapping(text: str, complaint: str) -> None:
    with pytest.raises(InvalidInputError, match=re.escape(complaint)):
        read_mapping(text, name="file")


def test_a_file_that_cannot_be_text_of_a_burst_is_not_read_whole(tmp_path: Path) -> None:
    long, binary = tmp_path / "long.yaml", tmp_path / "binary.yaml"
    long.write_bytes(b"#" * (MAX_YAML_BYTES + 1))
    binary.write_bytes(b"dm: \xff")

    with pytest.raises(InvalidInputError, match="too long; expected at most"):
        read_text(long)
    with pytest.raises(InvalidInputError, match="no UTF-8 at byte 4"):
        read_text(binary)
    with pytest.raises(InvalidInputError, match="No such file"):
        read_text(tmp_path / "missing.yaml")
    with pytest.raises(InvalidInputError, match="Is a directory"):
        read_text(tmp_path)
