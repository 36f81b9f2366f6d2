"""`tocsin frb upload` against a server inside the process."""

import base64
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from cli.frb.client import LONGEST_PAUSE_S
from tests.support.frb_client import OBSERVATION, RADIO, TOKEN, UPLOAD, FakeIntake, a_problem, parts

STORED = httpx.Response(201, json={"id": 7, "status": "CANDIDATE"})
DOWN = httpx.Response(503)


def a_radio_yaml(folder: Path, changes: Mapping[str, Any]) -> Path:
    """The example, some keys changed, those that are None left out; its pictures stay where they are."""
    values = yaml.safe_load(RADIO.read_text())
    values |= {key: str(UPLOAD / value) for key, value in values.items() if key.endswith("_path")}
    values |= changes
    path = folder / "radio.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in values.items() if value is not None}))
    return path


def test_prints_only_the_id_on_standard_output(intake: FakeIntake) -> None:
    intake.will(STORED)

    done = intake.upload()

    assert (done.exit_code, done.stdout) == (0, "7\n")
    assert "burst 7: stored" in done.stderr


def test_sends_the_files_as_they_are_in_one_request(intake: FakeIntake) -> None:
    intake.will(STORED)

    intake.upload()

    (request,) = intake.requests
    assert (request.method, request.url.path) == ("POST", "/api/v1/events")
    assert request.headers["Authorization"] == f"Bearer {TOKEN}"
    assert int(request.headers["Content-Length"]) == len(request.content)
    sent = parts(request)
    assert sent.keys() == {"radio_measurement", "observation", "is_test", "search", "image", "histogram"}
    assert sent["radio_measurement"][1] == RADIO.read_bytes()
    assert sent["observation"][1] == OBSERVATION.read_bytes()
    assert sent["is_test"][1] == b"false"
    for name in ("search", "image", "histogram"):
        headers, content = sent[name]
        assert content == (UPLOAD / f"example_{name}.png").read_bytes()
        assert headers["Content-Type"] == "image/png"
        assert f'filename="example_{name}.png"' in headers["Content-Disposition"]


@pytest.mark.parametrize(
    "flags", [("--radio_yaml", "--observation_yaml", "--first"), ("-r", "-o", "-f"), ("--radio-yaml", "-o", "-f")]
)
def test_the_flags_that_users_know_do_the_same(intake: FakeIntake, flags: tuple[str, str, str]) -> None:
    intake.will(STORED)
    radio, observation, first = flags

    done = intake.run("upload", first, radio, RADIO, observation, OBSERVATION)

    assert (done.exit_code, done.stdout) == (0, "7\n")


@pytest.mark.parametrize("flags", [("--update", "3", "--radio_yaml"), ("-u", "3", "-r")])
def test_an_update_sends_the_measurement_alone_to_its_burst(intake: FakeIntake, flags: tuple[str, ...]) -> None:
    intake.will(httpx.Response(201, json={"id": 3}))

    done = intake.run("upload", *flags, RADIO)

    (request,) = intake.requests
    assert (done.exit_code, done.stdout) == (0, "3\n")
    assert request.url.path == "/api/v1/events/3/measurements"
    assert request.headers["Content-Type"] == "application/yaml"
    assert request.content == RADIO.read_bytes()


def test_a_test_says_so(intake: FakeIntake) -> None:
    intake.will(STORED)

    intake.upload("--test")

    assert parts(intake.requests[0])["is_test"][1] == b"true"


def test_json_prints_the_answer_instead_of_the_id(intake: FakeIntake) -> None:
    intake.will(STORED)

    assert json.loads(intake.upload("--json").stdout) == {"id": 7, "status": "CANDIDATE"}


def test_a_burst_that_is_known_already_is_a_success(intake: FakeIntake) -> None:
    intake.will(httpx.Response(200, json={"id": 7}))

    done = intake.upload()

    assert (done.exit_code, done.stdout) == (0, "7\n")
    assert "stored before" in done.stderr


class TestTryingAgain:
    @pytest.mark.parametrize(
        "trouble",
        [
            DOWN,
            httpx.Response(500, text="<html>"),
            httpx.Response(504),
            httpx.Response(429),
            httpx.Response(408),
            httpx.ConnectError("Connection refused"),
            httpx.ReadTimeout(""),
            httpx.RemoteProtocolError("Server disconnected without sending a response."),
            httpx.ReadError(""),
        ],
        ids=lambda trouble: str(getattr(trouble, "status_code", type(trouble).__name__)),
    )
    def test_what_passes_is_tried_again_with_the_same_bytes_and_key(
        self, intake: FakeIntake, trouble: httpx.Response | Exception
    ) -> None:
        intake.will(trouble, trouble, STORED)

        done = intake.upload()

        assert (done.exit_code, done.stdout) == (0, "7\n")
        assert len(intake.requests) == 3
        assert len({(request.headers["Idempotency-Key"], request.content) for request in intake.requests}) == 1

    def test_pauses_grow_and_differ(self, intake: FakeIntake) -> None:
        intake.will(*[DOWN] * 4, STORED)

        intake.upload()

        assert all(
            longest / 2 <= pause <= longest for pause, longest in zip(intake.pauses_s, (0.5, 1, 2, 4), strict=True)
        )

    @pytest.mark.parametrize("status", [429, 503])
    def test_the_server_says_how_long_to_wait(self, intake: FakeIntake, status: int) -> None:
        intake.will(httpx.Response(status, headers={"Retry-After": "17"}), STORED)

        intake.upload()

        assert intake.pauses_s == [17]

    def test_a_time_to_wait_until_may_be_a_date_or_nonsense(self, intake: FakeIntake) -> None:
        for header in ("Wed, 21 Oct 2015 07:28:00 GMT", "soon"):
            intake.pauses_s.clear()
            intake.will(httpx.Response(503, headers={"Retry-After": header}), STORED)

            assert intake.upload().exit_code == 0
            assert intake.pauses_s[0] <= 0.5

    def test_nobody_waits_for_an_hour(self, intake: FakeIntake) -> None:
        intake.will(httpx.Response(429, headers={"Retry-After": "3600"}))

        done = intake.upload()

        assert (done.exit_code, intake.pauses_s) == (4, [])
        assert "asked to wait 3600 s" in done.stderr
        assert LONGEST_PAUSE_S < 3600

    def test_it_ends_after_the_last_retry(self, intake: FakeIntake) -> None:
        intake.will(httpx.ConnectError("[Errno 111] Connection refused"))

        done = intake.upload("--retries", "2", "--server", "http://intake.example:8000/")

        assert (done.exit_code, done.stdout, len(intake.requests)) == (4, "", 3)
        expected = "error: http://intake.example:8000: [Errno 111] Connection refused; gave up after 3 tries"
        assert done.stderr.splitlines()[-1] == expected

    def test_no_retry_is_one_try(self, intake: FakeIntake) -> None:
        intake.will(httpx.ReadTimeout(""))

        done = intake.upload("--retries", "0", "--timeout-s", "1.5")

        assert (done.exit_code, len(intake.requests), intake.pauses_s) == (4, 1, [])
        assert "no answer within 1.5 s; gave up after 1 try" in done.stderr

    def test_what_the_server_refuses_is_not_tried_again(self, intake: FakeIntake) -> None:
        for status in (400, 401, 403, 404, 409, 413, 415, 422, 302):
            intake.requests.clear()
            intake.will(httpx.Response(status))
            intake.upload()
            assert len(intake.requests) == 1


class TestTheKey:
    def key(self, intake: FakeIntake, *arguments: str | Path, radio: Path = RADIO) -> str:
        intake.requests.clear()
        intake.will(STORED)
        assert intake.upload(*arguments, radio=radio).exit_code == 0
        return intake.requests[0].headers["Idempotency-Key"]

    def test_the_same_files_elsewhere_have_the_same_key(self, intake: FakeIntake, tmp_path: Path) -> None:
        copied = shutil.copytree(UPLOAD, tmp_path / "copy")

        assert self.key(intake) == self.key(intake) == self.key(intake, radio=copied / RADIO.name)

    def test_another_picture_is_another_key(self, intake: FakeIntake, tmp_path: Path) -> None:
        copied = shutil.copytree(UPLOAD, tmp_path / "copy")
        (copied / "example_image.png").write_bytes((copied / "example_search.png").read_bytes())

        assert self.key(intake) != self.key(intake, radio=copied / RADIO.name)

    def test_another_measurement_or_being_a_test_is_another_key(self, intake: FakeIntake, tmp_path: Path) -> None:
        changed = a_radio_yaml(tmp_path, {"dm": 412.0})

        assert len({self.key(intake), self.key(intake, radio=changed), self.key(intake, "--test")}) == 3

    def test_a_server_takes_it(self, intake: FakeIntake) -> None:
        key = self.key(intake)

        # 70: the longest boundary of RFC 2046, 5.1.1.
        assert len(key) <= 70
        assert key.replace("-", "").isalnum()

    def test_the_same_measurement_of_another_burst_has_another_key(self, intake: FakeIntake) -> None:
        intake.will(STORED)
        for number in ("3", "4", "3"):
            intake.run("upload", "--update", number, "-r", RADIO)

        third, fourth, again = (request.headers["Idempotency-Key"] for request in intake.requests)
        assert third == again != fourth


class TestWhatIsRefused:
    def test_every_field_that_the_server_complains_about_has_a_line(self, intake: FakeIntake) -> None:
        intake.will(a_problem(422, ("dm", "nan", "a finite number"), ("ra", 9999, "0 to 360"), ("z", None, "a number")))

        done = intake.upload()

        assert (done.exit_code, done.stdout) == (2, "")
        assert done.stderr.splitlines()[-3:] == [
            "error: dm is nan; expected a finite number",
            "error: ra is 9999; expected 0 to 360",
            "error: z is null; expected a number",
        ]

    @pytest.mark.parametrize(
        ("status", "code"),
        [(400, 2), (413, 2), (415, 2), (422, 2), (401, 3), (403, 3), (404, 1), (409, 1), (410, 1), (418, 1)],
    )
    def test_the_exit_code_tells_what_kind_of_no_it_is(self, intake: FakeIntake, status: int, code: int) -> None:
        intake.will(a_problem(status, title="Not so", detail="Because."))

        done = intake.upload()

        assert (done.exit_code, done.stdout) == (code, "")
        assert done.stderr.splitlines()[-1] == "error: Not so: Because."

    def test_a_refusal_without_words_has_its_status(self, intake: FakeIntake) -> None:
        intake.will(httpx.Response(422, text="<html>no</html>"))

        assert intake.upload().stderr.splitlines()[-1] == "error: 422 Unprocessable Entity"

    def test_a_server_elsewhere_gets_neither_burst_nor_password(self, intake: FakeIntake) -> None:
        intake.will(httpx.Response(307, headers={"Location": "https://elsewhere.example/api/v1/events"}))

        done = intake.upload()

        assert (done.exit_code, len(intake.requests)) == (1, 1)
        assert "https://elsewhere.example/api/v1/events; expected it in --server" in done.stderr

    @pytest.mark.parametrize("answer", [httpx.Response(200, text="<html>"), httpx.Response(201, json=[1])])
    def test_who_answers_something_else_is_no_intake(self, intake: FakeIntake, answer: httpx.Response) -> None:
        intake.will(answer)

        done = intake.upload()

        assert (done.exit_code, done.stdout) == (1, "")
        assert "expected the JSON of a burst intake" in done.stderr

    def test_an_answer_without_an_id_is_no_success(self, intake: FakeIntake) -> None:
        intake.will(httpx.Response(201, json={"id": None}))

        assert intake.upload().exit_code == 1

    def test_a_terminal_obeys_nothing_that_a_server_says(self, intake: FakeIntake) -> None:
        intake.will(a_problem(422, ("version", "\x1b[2Jv1\nerror: forged", "plain text")))

        (line,) = [line for line in intake.upload().stderr.splitlines() if line.startswith("error")]

        assert "\x1b" not in line


class TestCredentials:
    def authorization(self, intake: FakeIntake, *arguments: str | Path, **environment: str) -> str:
        intake.requests.clear()
        intake.will(STORED)
        done = intake.run("upload", "-r", RADIO, "-o", OBSERVATION, *arguments, **environment)
        assert done.exit_code == 0, done.stderr
        return intake.requests[0].headers["Authorization"]

    def test_a_file_wins_over_the_environment_and_a_token_over_a_password(
        self, intake: FakeIntake, tmp_path: Path
    ) -> None:
        file = tmp_path / "token"
        file.write_text("tocsin_of_the_file\n")
        user = {"FRB_USER": "craft", "FRB_PASS": "päss word"}
        basic = "Basic " + base64.b64encode("craft:päss word".encode()).decode()

        assert self.authorization(intake, "--token-file", file, **user) == "Bearer tocsin_of_the_file"
        assert self.authorization(intake, **user) == f"Bearer {TOKEN}"
        assert self.authorization(intake, FRB_TOKEN="", **user) == basic

    @pytest.mark.parametrize(
        ("environment", "complaint"),
        [
            ({"FRB_TOKEN": ""}, "no credentials; expected --token-file, FRB_TOKEN, or FRB_USER and FRB_PASS"),
            ({"FRB_TOKEN": "", "FRB_USER": "craft"}, "FRB_PASS is not set; expected FRB_USER and FRB_PASS"),
            ({"FRB_TOKEN": "", "FRB_PASS": "secret"}, "FRB_USER is not set; expected FRB_USER and FRB_PASS"),
            ({"FRB_TOKEN": "two words"}, "FRB_TOKEN holds no token"),
        ],
    )
    def test_without_them_nothing_is_sent(
        self, intake: FakeIntake, environment: dict[str, str], complaint: str
    ) -> None:
        intake.will(STORED)

        done = intake.run("upload", "-r", RADIO, "-o", OBSERVATION, **environment)

        assert (done.exit_code, intake.requests) == (3, [])
        assert done.stderr.splitlines()[-1].startswith(f"error: {complaint}")
        assert "two words" not in done.stderr

    def test_a_token_file_that_is_not_there_is_bad_input(self, intake: FakeIntake, tmp_path: Path) -> None:
        assert intake.upload("--token-file", tmp_path / "none").exit_code == 2


class TestBeforeAnythingIsSent:
    def complaints(self, intake: FakeIntake, *arguments: str | Path, radio: Path = RADIO) -> list[str]:
        intake.will(STORED)
        done = intake.upload(*arguments, radio=radio)
        assert (done.exit_code, done.stdout, intake.requests) == (2, "", [])
        return [line.removeprefix("error: ") for line in done.stderr.splitlines() if line.startswith("error: ")]

    def test_every_wrong_value_has_a_line(self, intake: FakeIntake, tmp_path: Path) -> None:
        changes = {"dm": float("nan"), "ra": 9999, "sn": None, "version": "<script>", "eellipse": {"a": -1}}
        radio = a_radio_yaml(tmp_path, changes)

        fields = [line.removeprefix(f"{radio}: ") for line in self.complaints(intake, radio=radio)]

        assert [field.split(";")[0] for field in fields] == [
            "dm is nan", "ra is 9999", "sn is missing", "version is <script>", "eellipse.a is -1",
            "eellipse.b is missing", "eellipse.theta is missing",
        ]  # fmt: skip

    def test_both_files_and_the_pictures_are_looked_at_in_one_go(self, intake: FakeIntake, tmp_path: Path) -> None:
        radio = a_radio_yaml(tmp_path, {"dm": "much", "search_path": "none.png", "image_path": str(RADIO)})
        observation = tmp_path / "observation.yaml"
        observation.write_text("{")

        lines = self.complaints(intake, "--observation-yaml", observation, radio=radio)

        assert [
            line.startswith(str(path)) for line, path in zip(lines, (radio, observation, radio, radio), strict=True)
        ]
        assert "dm is much" in lines[0]
        assert "line 1, column 2 is malformed" in lines[1]
        assert "search_path: none.png is missing; expected a PNG or JPEG file" in lines[2]
        assert "is neither PNG nor JPEG" in lines[3]

    def test_a_missing_file_is_told(self, intake: FakeIntake, tmp_path: Path) -> None:
        (line,) = self.complaints(intake, radio=tmp_path / "none.yaml")

        assert line == f"{tmp_path / 'none.yaml'} is No such file or directory; expected a readable file"

    def test_a_new_burst_needs_an_observation(self, intake: FakeIntake) -> None:
        done = intake.run("upload", "-r", RADIO)

        assert done.exit_code == 2
        assert "--observation-yaml is missing" in done.stderr

    @pytest.mark.parametrize("other", ["--first", "--test"])
    def test_an_update_is_no_new_burst(self, intake: FakeIntake, other: str) -> None:
        (line,) = self.complaints(intake, "--update", "3", other)

        assert line == f"--update is given with {other}; expected one of the two"

    @pytest.mark.parametrize("server", ["intake.example", "ftp://intake.example", "http://", "http://[::1"])
    def test_a_server_is_a_url(self, intake: FakeIntake, server: str) -> None:
        (line,) = self.complaints(intake, "--server", server)

        assert line.startswith(f"--server is {server}; expected a URL")

    def test_a_dry_run_sends_nothing_and_needs_no_credentials(self, intake: FakeIntake) -> None:
        done = intake.run("upload", "-r", RADIO, "-o", OBSERVATION, "--dry-run", FRB_TOKEN="")

        assert (done.exit_code, done.stdout, intake.requests) == (0, "", [])
        assert done.stderr.splitlines()[-1].startswith("nothing is sent; would be ")
        assert done.stderr.splitlines()[-1].endswith("bytes to http://127.0.0.1:8000/api/v1/events")

    def test_a_dry_run_finds_what_is_wrong(self, intake: FakeIntake, tmp_path: Path) -> None:
        self.complaints(intake, "--dry-run", radio=a_radio_yaml(tmp_path, {"dec": 91}))

    def test_a_key_that_nobody_reads_is_told(self, intake: FakeIntake, tmp_path: Path) -> None:
        intake.will(STORED)

        done = intake.upload(radio=a_radio_yaml(tmp_path, {"fluense": 45}))

        assert done.exit_code == 0
        assert "the server does not read fluense" in done.stderr


class TestPictures:
    def test_they_are_sought_beside_the_yaml_file_then_in_the_working_directory(
        self, intake: FakeIntake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        intake.will(STORED)
        (beside := tmp_path / "beside").mkdir()
        (here := tmp_path / "here").mkdir()
        radio = a_radio_yaml(beside, {"search_path": "s.png", "image_path": "i.png", "histogram_path": None})
        shutil.copy(UPLOAD / "example_search.png", beside / "s.png")
        shutil.copy(UPLOAD / "example_search.png", here / "i.png")
        shutil.copy(UPLOAD / "example_image.png", here / "s.png")
        monkeypatch.chdir(here)

        done = intake.upload(radio=radio)

        sent = parts(intake.requests[0])
        assert sent["search"][1] == (UPLOAD / "example_search.png").read_bytes()
        assert sent.keys() == {"radio_measurement", "observation", "is_test", "search", "image"}
        assert "s.png (beside the YAML file)" in done.stderr
        assert "i.png (in the working directory)" in done.stderr
        assert "histogram: none (histogram_path is not given)" in done.stderr

    def test_what_they_are_is_seen_from_their_bytes(self, intake: FakeIntake, tmp_path: Path) -> None:
        intake.will(STORED)
        (tmp_path / "really.png").write_bytes(b"\xff\xd8\xff\xe0 a JPEG")

        intake.upload(radio=a_radio_yaml(tmp_path, {"search_path": "really.png"}))

        assert parts(intake.requests[0])["search"][0]["Content-Type"] == "image/jpeg"
