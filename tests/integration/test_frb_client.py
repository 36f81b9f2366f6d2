"""`tocsin frb`, `user` and `token` as people run them, on a running intake."""

import csv
import io
import json
import os
import re
import subprocess
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from astropy.io.votable import parse_single_table

from tests.support.command_line import SCRIPT, Outcome
from tests.support.frb_client import OBSERVATION, RADIO, UPLOAD
from tests.support.runtime import eventually
from tests.support.system import ServiceUnderTest, SystemUnderTest, running_system

TIMEOUT_S = 60
PASSWORD = "a long password"


@dataclass(frozen=True)
class Intake:
    """A running intake, and the commands of people who use it."""

    system: SystemUnderTest
    service: ServiceUnderTest

    def environment(self, **credentials: str) -> dict[str, str]:
        own = {name: value for name, value in os.environ.items() if not name.startswith(("TOCSIN_", "FRB_"))}
        shown = {"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}
        return {**own, **shown, "FRB_SERVER": f"http://127.0.0.1:{self.service.port}", **credentials}

    def frb(self, *arguments: object, **credentials: str) -> Outcome:
        """Run `tocsin frb` as somebody who has no access to the database."""
        return run("frb", *arguments, env=self.environment(**credentials))

    def operator(self, *arguments: object, stdin: str = "") -> Outcome:
        """Run `tocsin` as somebody who has."""
        return run(*arguments, env=self.environment() | self.system.environment, stdin=stdin)

    def token(self, *roles: str) -> str:
        """The token of a new user."""
        name = f"user-{uuid.uuid4().hex[:8]}"
        added = self.operator("user", "add", name, "--role", ",".join(roles), "--password-stdin", stdin=PASSWORD)
        assert added.code == 0, added.err
        return self.operator("token", "create", name).out.strip()

    def upload(self, radio: Path, *arguments: object, token: str) -> int:
        done = self.frb("upload", "-r", radio, "-o", OBSERVATION, *arguments, FRB_TOKEN=token)
        assert done.code == 0, done.err
        return int(done.out)

    def shown(self, burst_id: int) -> dict[str, Any]:
        burst: dict[str, Any] = self.frb("show", burst_id, "--json").json()
        return burst


def run(*arguments: object, env: Mapping[str, str], stdin: str = "") -> Outcome:
    command = [os.fspath(SCRIPT), *map(str, arguments)]
    done = subprocess.run(command, env=env, input=stdin, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    return Outcome(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def intake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Intake]:
    with running_system(tmp_path_factory.mktemp("frb")) as system:
        # Every request pays its hash or question: what an operator changes holds for the next one.
        system.environment["TOCSIN_FRB_INTAKE__CREDENTIAL_CACHE_S"] = "0"
        service = system.start("frb_intake")
        service.wait_ready()
        yield Intake(system, service)


@pytest.fixture(scope="module")
def token(intake: Intake) -> str:
    return intake.token("submit", "rate")


def a_radio_yaml(folder: Path, **changes: Any) -> Path:
    """The example, changed, and a burst that no other test has."""
    values = yaml.safe_load(RADIO.read_text())
    values |= {key: str(UPLOAD / value) for key, value in values.items() if key.endswith("_path")}
    values |= {"version": uuid.uuid4().hex, **changes}
    path = folder / "radio.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def test_the_example_is_stored_with_every_key_and_picture_and_only_once(intake: Intake, token: str) -> None:
    first = intake.frb("upload", "--first", "--radio_yaml", RADIO, "--observation_yaml", OBSERVATION, FRB_TOKEN=token)
    again = intake.frb("upload", "-r", RADIO, "-o", OBSERVATION, FRB_TOKEN=token)

    assert (first.code, again.code) == (0, 0), first.err
    assert re.fullmatch(r"\d+\n", first.out)
    assert again.out == first.out
    assert "stored before" in again.err
    burst = intake.shown(int(first.out))
    radio = yaml.safe_load(RADIO.read_text())
    of_measurement = radio.keys() - {"time_of_arrival", "repeater", "search_path", "image_path", "histogram_path"}
    (measurement,) = burst["measurements"]
    assert measurement["as_submitted"] == {key: radio[key] for key in of_measurement}
    assert burst["observation"] == yaml.safe_load(OBSERVATION.read_text())
    assert burst["time_of_arrival"].startswith("2017-11-17T12:21:38.87")
    assert burst["repeater"] is True
    assert sorted(image["name"] for image in burst["images"]) == ["histogram", "image", "search"]
    for image in burst["images"]:
        picture = intake.service.get(image["url"])
        assert picture.content == (UPLOAD / f"example_{image['name']}.png").read_bytes()
        assert picture.headers["content-type"] == "image/png"
    lines = intake.frb("show", int(first.out)).out
    assert lines.startswith(f"burst {first.out.strip()}  ")
    assert "by user-" in lines
    assert ": dm 411.0, dm_err 1.0, ra 77.01461542" in lines


def test_a_password_does_as_well_and_wrong_credentials_do_not(intake: Intake, tmp_path: Path) -> None:
    intake.operator("user", "add", "craft", "--role", "submit", "--password-stdin", stdin=f"{PASSWORD}\n")
    upload = ("upload", "-r", a_radio_yaml(tmp_path), "-o", OBSERVATION)

    assert intake.frb(*upload, FRB_USER="craft", FRB_PASS=PASSWORD).code == 0
    wrong = intake.frb(*upload, FRB_USER="craft", FRB_PASS="guessed")
    reader = intake.frb(*upload, FRB_TOKEN=intake.token("read"))

    assert (wrong.code, reader.code) == (3, 3)
    assert wrong.err.splitlines()[-1].startswith("error: Unauthorized: ")
    assert "has not the role submit" in reader.err.splitlines()[-1]


def test_a_further_measurement_is_a_version_and_is_not_doubled(intake: Intake, token: str, tmp_path: Path) -> None:
    burst_id = intake.upload(a_radio_yaml(tmp_path), "--test", token=token)
    better = a_radio_yaml(tmp_path, dm=410.5)

    for _ in range(2):
        assert intake.frb("upload", "--update", burst_id, "-r", better, FRB_TOKEN=token).out == f"{burst_id}\n"

    burst = intake.shown(burst_id)
    assert [measurement["dm_pc_cm3"] for measurement in burst["measurements"]] == [411.0, 410.5]
    assert burst["is_test"] is True


def test_what_only_the_server_knows_is_told_in_a_line_too(intake: Intake, token: str, tmp_path: Path) -> None:
    future = a_radio_yaml(tmp_path, time_of_arrival="2117-11-17T12:21:38")

    done = intake.frb("upload", "-r", future, "-o", OBSERVATION, FRB_TOKEN=token)

    assert (done.code, done.out) == (2, "")
    (line,) = [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert re.match(r"error: time_of_arrival is 2117-.*; expected ", line)


def test_an_unknown_burst_is_told(intake: Intake, token: str) -> None:
    for done in (
        intake.frb("show", 999999),
        intake.frb("rate", 999999, "confirm", FRB_TOKEN=token),
        intake.frb("upload", "--update", 999999, "-r", RADIO, FRB_TOKEN=token),
    ):
        assert (done.code, done.out) == (1, "")
        assert "999999" in done.err.splitlines()[-1]


def test_people_vote_and_submitters_withdraw_once(intake: Intake, token: str, tmp_path: Path) -> None:
    burst_id = intake.upload(a_radio_yaml(tmp_path), token=token)
    other = intake.token("submit", "rate")

    assert intake.frb("rate", burst_id, "reject", FRB_TOKEN=token).out.endswith("0 confirm, 1 reject, 0 unsure\n")
    intake.frb("rate", burst_id, "confirm", "--note", "I was wrong.", FRB_TOKEN=token)
    assert intake.frb("rate", burst_id, "unsure", FRB_TOKEN=other).out.endswith("1 confirm, 0 reject, 1 unsure\n")
    assert intake.frb("withdraw", burst_id, "--reason", "not mine", FRB_TOKEN=other).code == 3
    withdrawn = intake.frb("withdraw", burst_id, "--reason", "Interference.", FRB_TOKEN=token)
    again = intake.frb("withdraw", burst_id, "--reason", "Interference.", FRB_TOKEN=token)

    assert withdrawn.out == f"burst {burst_id}: withdrawn\n"
    assert (again.code, again.out) == (1, "")
    burst = intake.shown(burst_id)
    assert (burst["status"], burst["status_reason"]) == ("WITHDRAWN", "Interference.")
    assert [rating["rating"] for rating in burst["ratings"]] == ["reject", "confirm", "unsure"]


def test_bursts_are_found_and_exported_alike(intake: Intake, token: str, tmp_path: Path) -> None:
    ids = [intake.upload(a_radio_yaml(tmp_path, dm=1200.0 + n, ra=200.0, dec=-80.0), token=token) for n in range(3)]
    wanted = ("--dm-min", 1200, "--dm-max", 1201.5, "--cone", "200,-80,1", "--status", "candidate", "--no-test")
    found = sorted(ids[:2], reverse=True)

    listed = intake.frb("list", *wanted, "--json").json()
    table = intake.frb("list", *wanted)
    for form in ("csv", "votable", "json"):
        assert intake.frb("export", *wanted, "--format", form, "--output", tmp_path / form).code == 0

    assert [burst["id"] for burst in listed] == found
    assert [int(line.split()[0]) for line in table.out.splitlines()[1:]] == found
    assert table.err == "2 bursts\n"
    rows = list(csv.DictReader(io.StringIO((tmp_path / "csv").read_text())))
    assert [int(row["id"]) for row in rows] == found
    assert list(parse_single_table(tmp_path / "votable").array["id"]) == found
    assert [burst["id"] for burst in json.loads((tmp_path / "json").read_text())] == found
    assert intake.frb("list", *wanted, "--limit", 1).out.splitlines()[1].split()[0] == str(found[0])
    assert [burst["id"] for burst in intake.frb("list", *wanted, "--sort", "dm", "--asc", "--json").json()] == found[
        ::-1
    ]
    upward = intake.frb("export", *wanted, "--sort", "dm", "--asc", "--format", "json").json()
    assert [burst["id"] for burst in upward] == found[::-1]


def test_a_follower_sees_what_happens(intake: Intake, token: str, tmp_path: Path) -> None:
    errors = (tmp_path / "errors").open("w+")
    command = [os.fspath(SCRIPT), "frb", "follow", "--json", "--count", "2"]
    follower = subprocess.Popen(
        command, env=intake.environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, text=True
    )
    try:
        eventually(lambda: "following" in (tmp_path / "errors").read_text(), "the stream is open")
        burst_id = intake.upload(a_radio_yaml(tmp_path), "--test", token=token)
        intake.frb("rate", burst_id, "confirm", FRB_TOKEN=token)
        out, _ = follower.communicate(timeout=TIMEOUT_S)
    finally:
        follower.kill()
        follower.wait()
        errors.close()

    records = [json.loads(line) for line in out.splitlines()]
    assert [(record["frb_id"], record["change"]) for record in records] == [(burst_id, "CREATED"), (burst_id, "RATED")]


def test_an_upload_outlasts_a_restart_of_the_service(intake: Intake, token: str, tmp_path: Path) -> None:
    radio = a_radio_yaml(tmp_path)
    command = [os.fspath(SCRIPT), "frb", "upload", "-r", str(radio), "-o", str(OBSERVATION), "--retries", "12"]
    intake.service.stop()
    upload = subprocess.Popen(
        command,
        env=intake.environment(FRB_TOKEN=token),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        restarted = intake.system.start("frb_intake", TOCSIN_HTTP__PORT=str(intake.service.port))
        restarted.port = intake.service.port
        out, err = upload.communicate(timeout=TIMEOUT_S)
    finally:
        upload.kill()
        upload.wait()
        intake.service.process = restarted.process

    assert upload.returncode == 0, err
    assert "Connection refused; again in " in err
    assert len(intake.system.rows("SELECT FROM frb_intake.bursts WHERE id = $1", int(out))) == 1


class TestAccounts:
    def test_a_user_is_added_listed_disabled_and_enabled(self, intake: Intake, tmp_path: Path) -> None:
        name = f"user-{uuid.uuid4().hex[:8]}"
        upload = ("upload", "-r", a_radio_yaml(tmp_path), "-o", OBSERVATION)
        credentials = {"FRB_USER": name, "FRB_PASS": PASSWORD}

        def listed() -> dict[str, Any]:
            (user,) = [user for user in intake.operator("user", "list", "--json").json() if user["name"] == name]
            return dict(user)

        added = intake.operator("user", "add", name, "--role", "submit,rate", "--password-stdin", stdin=PASSWORD)
        assert (added.code, added.out) == (0, "")
        assert listed()["roles"] == ["rate", "submit"]
        assert listed()["disabled_at"] is None
        assert f"\n{name}  " in intake.operator("user", "list").out

        assert intake.operator("user", "disable", name).code == 0
        assert listed()["disabled_at"] is not None
        assert intake.frb(*upload, **credentials).code == 3

        assert intake.operator("user", "enable", name).code == 0
        assert intake.frb(*upload, **credentials).code == 0

    def test_a_user_without_a_password_has_tokens(self, intake: Intake, tmp_path: Path) -> None:
        name = f"user-{uuid.uuid4().hex[:8]}"
        upload = ("upload", "-r", a_radio_yaml(tmp_path), "-o", OBSERVATION)

        assert intake.operator("user", "add", name, "--role", "submit", "--no-password").code == 0

        assert intake.frb(*upload, FRB_USER=name, FRB_PASS="").code != 0
        assert intake.frb(*upload, FRB_USER=name, FRB_PASS=PASSWORD).code == 3
        token = intake.operator("token", "create", name).out.strip()
        assert intake.frb(*upload, FRB_TOKEN=token).code == 0

    def test_a_token_is_shown_once_and_can_be_revoked(self, intake: Intake, tmp_path: Path) -> None:
        name = f"user-{uuid.uuid4().hex[:8]}"
        intake.operator("user", "add", name, "--role", "submit", "--password-stdin", stdin=PASSWORD)
        created = intake.operator("token", "create", name, "--expires-days", 30)
        token, upload = created.out.strip(), ("upload", "-r", a_radio_yaml(tmp_path), "-o", OBSERVATION)

        assert created.out == f"{token}\n"
        (known,) = [known for known in intake.operator("token", "list", "--json").json() if known["name"] == name]
        assert known["expires_at"] > known["created_at"]
        assert token not in intake.operator("token", "list").out
        (tmp_path / "token").write_text(token)
        assert intake.frb(*upload, "--token-file", tmp_path / "token").code == 0

        assert intake.operator("token", "revoke", known["id"]).code == 0
        assert intake.frb(*upload, FRB_TOKEN=token).code == 3

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (("user", "add", "x", "--role", "admin", "--password-stdin"), ("--role is admin", "submit")),
            (("user", "add", "two words", "--role", "read", "--password-stdin"), ("NAME is two words",)),
            (("user", "add", "x", "--role", "read"), ("--password-stdin is missing",)),
            (("user", "add", "x", "--role", "read", "--no-password", "--password-stdin"), ("--no-password is given",)),
            (("user", "disable", "nobody"), ("NAME is nobody",)),
            (("token", "create", "nobody"), ("NAME is nobody",)),
            (("token", "revoke", "999999"), ("ID is 999999",)),
        ],
    )
    def test_what_cannot_be_is_refused_in_one_line(
        self, intake: Intake, arguments: tuple[str, ...], words: tuple[str, ...]
    ) -> None:
        assert intake.operator(*arguments, stdin=PASSWORD).is_refused(*words)

    def test_without_tables_the_way_to_them_is_told(self, intake: Intake) -> None:
        server, _, _ = intake.system.environment["TOCSIN_DATABASE__URL"].rpartition("/")

        listed = run("user", "list", env=intake.environment(TOCSIN_DATABASE__URL=f"{server}/postgres"))

        assert listed.is_refused("tocsin migrate", code=1)
