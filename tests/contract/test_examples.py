"""The examples are real messages: every version of them, read by every version of the schema."""

import io
import json
from pathlib import Path

import fastavro
import pytest

from shared.events.registry import RECORDS
from shared.schema.codec import decode, encode
from shared.schema.records import newest_schema, schema_versions
from tests.contract.schemas import ALL_EXAMPLES, ALL_VERSIONS, avro_values, example_files

of_every_example = pytest.mark.parametrize(
    ("record", "version", "path"),
    ALL_EXAMPLES,
    ids=[f"{record}-v{version}-{path.stem}" for record, version, path in ALL_EXAMPLES],
)


@pytest.mark.parametrize(("record", "version"), ALL_VERSIONS)
def test_every_version_has_an_example(record: str, version: int) -> None:
    assert example_files(record, version)


@of_every_example
def test_example_written_by_its_own_version_is_read_by_the_newest(record: str, version: int, path: Path) -> None:
    schema = schema_versions(record)[version]
    container = io.BytesIO()
    fastavro.writer(container, schema, [avro_values(path, schema)], validator=True, strict=True)
    model = RECORDS[record]
    assert decode(container.getvalue(), model) == model.model_validate_json(path.read_text("utf-8"))


@of_every_example
def test_example_written_by_the_newest_is_read_by_its_own_version(record: str, version: int, path: Path) -> None:
    event = RECORDS[record].model_validate_json(path.read_text("utf-8"))
    schema = schema_versions(record)[version]
    (read,) = fastavro.reader(io.BytesIO(encode(event)), schema)
    assert read == avro_values(path, schema)


@of_every_example
def test_example_of_the_newest_version_is_written_as_the_model_prints_it(record: str, version: int, path: Path) -> None:
    if schema_versions(record)[version] is not newest_schema(record):
        pytest.skip("only examples of the newest version show every field of the model")
    event = RECORDS[record].model_validate_json(path.read_text("utf-8"))
    assert event.model_dump(mode="json") == json.loads(path.read_text("utf-8"))
