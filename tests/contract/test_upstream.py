"""Our description of the IGWN's alerts reads the real ones that carry a named schema."""

import json
from pathlib import Path

import fastavro
import pytest

from shared.schema.codec import read_container
from shared.schema.records import SCHEMAS
from tests.support.data import SHARED_DATA, needs_shared_data

REAL = sorted(SHARED_DATA.glob("igwn_avro*/*.avro")) if SHARED_DATA else []
WITH_A_NAMED_SCHEMA = [path for path in REAL if path.parent.name == "igwn_avro" or path.stem.endswith("ext-update")]
# Drafts of 2022 and 2023 were written with an ad-hoc schema, which has no name to resolve by.
READER = fastavro.parse_schema(json.loads((SCHEMAS / "external" / "igwn" / "alert.avsc").read_text("utf-8")))


@needs_shared_data
@pytest.mark.parametrize("path", REAL, ids=lambda path: path.stem)
def test_real_alert_of_any_revision_is_one_mapping(path: Path) -> None:
    (alert,) = read_container(path.read_bytes()).records
    assert {"alert_type", "time_created", "superevent_id", "event", "external_coinc", "urls"} == set(alert)


@needs_shared_data
@pytest.mark.parametrize("path", WITH_A_NAMED_SCHEMA, ids=lambda path: path.stem)
def test_described_fields_read_a_real_alert_without_loss(path: Path) -> None:
    container = read_container(path.read_bytes())
    assert container.writer_name == "igwn.alerts.v1_0.Alert"
    with path.open("rb") as file:
        (described,) = fastavro.reader(file, READER)
    (written,) = container.records
    assert_holds(described, written)


def assert_holds(described: object, written: object) -> None:
    """Everything written is in the description's reading; what that has more is absent upstream."""
    if isinstance(written, dict):
        assert isinstance(described, dict)
        for name, value in written.items():
            assert_holds(described[name], value)
        assert all(described[name] is None for name in described.keys() - written.keys())
    else:
        assert described == written
