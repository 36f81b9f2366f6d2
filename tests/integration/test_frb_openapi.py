"""Whatever a generator makes of the OpenAPI document, the intake does as the document says and never fails."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import schemathesis

from tests.support.frb_intake import EVENTS, PASSWORD, IntakeUnderTest, a_burst, running_intake

SCHEMATHESIS = Path(sys.executable).with_name("st")
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)
ENDLESS = "/api/v1/stream"
SEED, EXAMPLES, TIMEOUT_S = 20171117, 60, 240


@pytest.fixture(scope="module")
def intake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IntakeUnderTest]:
    with running_intake(tmp_path_factory.mktemp("openapi")) as running:
        yield running


def test_the_document_is_sound_and_names_every_door(intake: IntakeUnderTest) -> None:
    document = intake.service.get("/openapi.json").json()

    schemathesis.openapi.from_dict(document).validate()
    of_bursts = ("", "/export", *(f"/{{burst_id}}{part}" for part in ("", "/measurements", "/ratings", "/status")))
    assert {EVENTS + path for path in of_bursts} <= document["paths"].keys()
    assert {"/observation_create/", "/frbevent_create/", "/radio_measurement_create/"} <= document["paths"].keys()
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if path.startswith("/api/") and method == "post":
                problem = operation["responses"]["400"]["content"]["application/problem+json"]
                assert problem["schema"] == {"$ref": "#/components/schemas/Problem"}
                assert problem["example"]["status"] == 400


@pytest.mark.parametrize("about", ["any burst", "one burst"])
def test_no_request_makes_it_fail_or_answer_otherwise_than_documented(
    intake: IntakeUnderTest, tmp_path: Path, about: str
) -> None:
    user = intake.add_user()
    arguments = ["--exclude-path", ENDLESS]
    if about == "one burst":
        # A made-up number is seldom one that is there.
        burst_id = intake.client(user).post(EVENTS, json=a_burst()).json()["id"]
        (tmp_path / "schemathesis.toml").write_text(f'[parameters]\n"path.burst_id" = {burst_id}\n')
        arguments = ["--include-path-regex", r"\{burst_id\}", "--exclude-path-regex", "withdrawal"]

    done = subprocess.run(
        [
            *(SCHEMATHESIS, "run", f"http://127.0.0.1:{intake.service.port}/openapi.json"),
            *("--auth", f"{user}:{PASSWORD}", "--checks", ",".join(CHECKS), *arguments),
            *("--phases", "examples,coverage,fuzzing", "--max-examples", str(EXAMPLES), "--seed", str(SEED)),
            *("--continue-on-failure", "--no-color", "--generation-database", "none"),
        ],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )

    assert done.returncode == 0, done.stdout
    assert "http.failed" not in intake.service.log.read_text()
