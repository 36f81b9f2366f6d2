"""The published upload script against a running intake: what it sends is taken, what it reads is what it knows."""

import json
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from threading import Barrier
from typing import Any
from urllib.parse import parse_qsl, urlencode

import pytest

from tests.support.frb_intake import IntakeUnderTest, running_intake
from tests.support.runtime import eventually
from tests.support.upstream_client import (
    IMAGES,
    JSON,
    MEASUREMENT_BODY,
    OBSERVATION_BODY,
    UPLOAD,
    UpstreamClient,
    example_images,
    example_yamls,
    exchange,
    measurement_fields,
    multipart,
    observation_fields,
    request_bytes,
)

OBSERVATION, RADIO = example_yamls()
FIRST, SECOND, THIRD = "/observation_create/", "/frbevent_create/", "/radio_measurement_create/"
DOORS = (FIRST, SECOND, THIRD)
REQUIRED = "This field is required."
WRONG_TIME = (
    "Datetime has wrong format. Use one of these formats instead: YYYY-MM-DDThh:mm[:ss[.uuuuuu]][+HH:MM|-HH:MM|Z]."
)


@pytest.fixture(scope="module")
def intake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IntakeUnderTest]:
    with running_intake(tmp_path_factory.mktemp("compat")) as running:
        yield running


@pytest.fixture
def script(intake: IntakeUnderTest) -> UpstreamClient:
    """The script of somebody who sent nothing yet, and may only submit."""
    return intake.script(intake.add_user("submit"))


@pytest.fixture(scope="module")
def observer(intake: IntakeUnderTest) -> UpstreamClient:
    """The script of somebody whose requests are refused for what is in them."""
    return intake.script(intake.add_user("submit"))


@pytest.fixture(scope="module")
def burst_id(observer: UpstreamClient) -> int:
    return observer.first(OBSERVATION, RADIO, example_images())


@pytest.fixture(scope="module")
def observation_id(observer: UpstreamClient) -> int:
    return int(observer.observe(OBSERVATION).json()["id"])


def a_measurement(burst_id: int, **changes: object) -> dict[str, Any]:
    return measurement_fields(RADIO, burst_id) | changes


class TestWhatTheScriptSends:
    def test_its_bodies_are_those_recorded(self) -> None:
        assert urlencode(observation_fields(OBSERVATION)).encode() == OBSERVATION_BODY
        fields, recorded = measurement_fields(RADIO, 1), dict(parse_qsl(MEASUREMENT_BODY.decode()))
        assert list(fields) == list(recorded)
        for name, value in fields.items():
            # Another version of astropy rounds the last digit of galactic coordinates otherwise.
            expected = pytest.approx(float(recorded[name]), rel=1e-14) if name in ("gl", "gb") else recorded[name]
            assert (value if name in ("gl", "gb") else str(value)) == expected, name

    def test_its_form_names_files_and_no_types(self) -> None:
        content_type, body = multipart({"observation": 1, "repeater": True}, {"search_open": ("a.png", b"\x89PNG")})
        (boundary,) = re.fullmatch("multipart/form-data; boundary=([0-9a-f]{32})", content_type).groups()  # type: ignore[union-attr]
        assert body == (
            f'--{boundary}\r\nContent-Disposition: form-data; name="observation"\r\n\r\n1\r\n'
            f'--{boundary}\r\nContent-Disposition: form-data; name="repeater"\r\n\r\nTrue\r\n'
            f'--{boundary}\r\nContent-Disposition: form-data; name="search_open"; filename="a.png"\r\n\r\n'
        ).encode() + b"\x89PNG\r\n--" + boundary.encode() + b"--\r\n"  # fmt: skip


class TestFirst:
    def test_the_three_recorded_requests_are_answered_field_by_field(self, script: UpstreamClient) -> None:
        one = script.post(FIRST, OBSERVATION_BODY)
        observation_id = one.json()["id"]
        two = script.announce(observation_id, RADIO, example_images())
        burst_id = two.json()["id"]
        before = datetime.now(UTC)
        three = script.post(THIRD, MEASUREMENT_BODY.replace(b"frb=1&", f"frb={burst_id}&".encode()))

        for answer in (one, two, three):
            assert (answer.status, answer.headers["content-type"]) == (201, "application/json")
        assert type(observation_id) is int
        assert type(burst_id) is int
        assert one.json() == {
            "data": {
                "id": observation_id, "beam_semi_major_axis": 0.2, "beam_semi_minor_axis": 0.3,
                "beam_rotation_angle": 45.0, "sampling_time": 0.1, "bandwidth": 300.0, "nchan": 3000,
                "centre_frequency": 1400.0, "npol": 2, "bits_per_sample": 8, "gain": 3.0, "tsys": 50.0,
                "backend": "Multibeam", "beam": 1,
            },
            "id": observation_id,
        }  # fmt: skip
        assert '"beam_rotation_angle":45.0' in one.body.decode().replace(" ", "")
        paths = {name: two.json()["data"].pop(f"{name}_path") for name in IMAGES}
        data = dict(two.json()["data"])
        for name in IMAGES:
            assert data.pop(f"{name}_path").startswith("/media/candidates/")
            assert paths[name].endswith(f"example_{name}.png")
        assert two.json()["id"] == burst_id
        assert data == {
            "id": burst_id, "tns_name": None, "time_of_arrival": "2017-11-17T12:21:38.870000Z", "repeater": True,
            "observation": observation_id,
        }  # fmt: skip
        measured = dict(three.json()["data"])
        assert three.json().keys() == {"data"}
        assert type(measured.pop("id")) is int
        written = measured.pop("datetime")
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", written)
        assert before <= datetime.fromisoformat(written) <= datetime.now(UTC)
        assert measured == {
            "ra": 77.01461542, "dec": 26.06069556, "ra_hms": "5h08m03.5077008s", "dec_dms": "26d03m38.504016s",
            "gl": 177.76768559169042, "gb": -8.523065557461571, "ra_pos_error": 0.05, "dec_pos_error": 0.05,
            "source": "MB", "version": "v1.0", "dm": 411.0, "dm_err": 1.0, "sn": 50.0, "width": 5.0, "z": 0.0982,
            "rm": -613.0, "rm_err": 2.0, "fluence": 45.0, "fluence_err": 5.0, "flux": 35.0, "flux_err": 3.0,
            "frb": burst_id,
        }  # fmt: skip

    def test_its_pictures_are_where_the_answer_says(self, script: UpstreamClient) -> None:
        answer = script.announce(script.observe(OBSERVATION).json()["id"], RADIO, example_images())

        for name in IMAGES:
            moved = script.ask("GET", answer.json()["data"][f"{name}_path"])
            picture = script.ask("GET", moved.headers["location"])
            assert picture.body == (UPLOAD / f"example_{name}.png").read_bytes()
            assert picture.headers["content-type"] == "image/png"

    def test_the_id_is_printed_before_the_measurement_is_sent(
        self, intake: IntakeUnderTest, script: UpstreamClient
    ) -> None:
        there = []

        def look() -> None:
            rows = intake.system.rows("SELECT id, record FROM frb_intake.bursts WHERE submitted_by = $1", script.user)
            there.extend([f"{row['id']}\n" for row in rows])

        burst_id = script.first(OBSERVATION, RADIO, example_images(), before_third=look)

        assert script.printed == there == [f"{burst_id}\n"]

    def test_the_whole_sequence_again_gives_the_same_ids_and_no_second_row(
        self, intake: IntakeUnderTest, script: UpstreamClient
    ) -> None:
        answers = []
        for _ in range(2):
            observation = script.observe(OBSERVATION)
            burst = script.announce(observation.json()["id"], RADIO, example_images())
            answers.append((observation, burst, script.measure(RADIO, burst.json()["id"])))

        for once, again in zip(*answers, strict=True):
            assert (again.status, again.json()) == (once.status, once.json())
        burst_id = answers[0][1].json()["id"]
        eventually(lambda: len(intake.records_of(burst_id)) == 2, "both records")
        (row,) = intake.system.rows("SELECT id FROM frb_intake.bursts WHERE submitted_by = $1", script.user)
        assert row["id"] == burst_id
        assert len(intake.system.rows("SELECT FROM frb_intake.measurements WHERE burst_id = $1", burst_id)) == 1
        assert len(intake.system.rows("SELECT FROM frb_intake.images WHERE burst_id = $1", burst_id)) == 3
        assert len(intake.system.rows("SELECT FROM frb_intake.changes WHERE burst_id = $1", burst_id)) == 2

    def test_the_same_sequence_from_many_at_once_is_one_burst(self, intake: IntakeUnderTest) -> None:
        user, at_once = intake.add_user("submit"), 8
        scripts, together = [intake.script(user) for _ in range(at_once)], Barrier(at_once)

        def upload(script: UpstreamClient) -> int:
            together.wait()
            return script.first(OBSERVATION, RADIO, example_images())

        with ThreadPoolExecutor(at_once) as pool:
            (burst_id,) = set(pool.map(upload, scripts))

        (row,) = intake.system.rows("SELECT id FROM frb_intake.bursts WHERE submitted_by = $1", user)
        assert row["id"] == burst_id
        eventually(lambda: len(intake.records_of(burst_id)) >= 2, "both records")
        eventually(lambda: not intake.system.rows("SELECT FROM frb_intake.outbox"), "an empty outbox")
        assert [record["change"] for record in intake.records_of(burst_id)] == ["CREATED", "MEASURED"]
        assert len(intake.system.rows("SELECT FROM frb_intake.images WHERE burst_id = $1", burst_id)) == len(IMAGES)

    def test_the_records_say_what_was_sent(self, intake: IntakeUnderTest, script: UpstreamClient) -> None:
        burst_id = script.first(OBSERVATION, RADIO, example_images())

        eventually(lambda: len(intake.records_of(burst_id)) == 2, "both records")
        created, measured = intake.records_of(burst_id)
        assert (created["revision"], created["change"], created["first"]) == (1, "CREATED", None)
        assert (measured["revision"], measured["change"]) == (2, "MEASURED")
        for record in (created, measured):
            assert record["submitted_by"] == record["changed_by"] == script.user
            assert (record["origin"], record["status"], record["is_test"]) == ("upload", "CANDIDATE", False)
            assert record["time_of_arrival"] == datetime(2017, 11, 17, 12, 21, 38, 870000, tzinfo=UTC)
            assert record["repeater"] is True
            assert record["observation"] == {
                "beam_semi_major_axis_arcmin": 0.2, "beam_semi_minor_axis_arcmin": 0.3, "beam_rotation_angle_deg": 45,
                "sampling_time_ms": 0.1, "bandwidth_mhz": 300, "nchan": 3000, "centre_frequency_mhz": 1400, "npol": 2,
                "bits_per_sample": 8, "gain_k_jy": 3, "tsys_k": 50, "backend": "Multibeam", "beam": "1",
            }  # fmt: skip
            assert {image["name"] for image in record["images"]} == set(IMAGES)
        assert measured["first"] == measured["latest"]
        latest = measured["latest"]
        expected = {
            "number": 1, "made_by": script.user, "pipeline": "MB", "pipeline_version": "v1.0", "dm_pc_cm3": 411.0,
            "dm_err_pc_cm3": 1.0, "snr": 50, "width_ms": 5, "flux_jy": 35, "flux_err_jy": 3, "fluence_jy_ms": 45,
            "fluence_err_jy_ms": 5, "rm_rad_m2": -613, "rm_err_rad_m2": 2, "redshift": 0.0982,
        }  # fmt: skip
        assert {name: latest[name] for name in expected} == expected
        assert latest["localisation"]["ra_deg"] == 77.01461542
        assert latest["localisation"]["dec_deg"] == 26.06069556
        # The script's own galactic coordinates, by astropy; the service computes its own.
        assert latest["gl_deg"] == pytest.approx(177.76768559169042, abs=1e-6)
        assert latest["gb_deg"] == pytest.approx(-8.523065557461571, abs=1e-6)
        # 411 / (2.41e-4 1400^2) s, with the constant that pulsar software agrees on (Kulkarni 2020, arXiv:2007.02886).
        delay = measured["time_of_arrival"] - latest["time_of_arrival_inf"]
        assert delay.total_seconds() == pytest.approx(0.870099, abs=2e-6)

    def test_a_burst_needs_no_time(self, script: UpstreamClient) -> None:
        content_type, body = multipart({"observation": script.observe(OBSERVATION).json()["id"]}, example_images())
        answer = script.post(SECOND, body, content_type)
        assert (answer.status, answer.json()["data"]["time_of_arrival"]) == (201, None)
        assert answer.json()["data"]["repeater"] is False


class TestUpdate:
    def test_it_adds_a_version_and_the_first_detection_stays(
        self, intake: IntakeUnderTest, script: UpstreamClient
    ) -> None:
        burst_id = script.first(OBSERVATION, RADIO, example_images())
        first = script.ask("GET", f"/api/v1/events/{burst_id}").json()["first"]

        answer = script.measure(RADIO | {"dm": 410.5, "version": "v2.0", "source": "HT"}, burst_id)

        assert (answer.status, answer.json()["data"]["dm"], answer.json()["data"]["frb"]) == (201, 410.5, burst_id)
        burst = script.ask("GET", f"/api/v1/events/{burst_id}").json()
        assert burst["first"] == first
        assert (burst["latest"]["number"], burst["latest"]["pipeline_version"]) == (2, "v2.0")
        assert [version["dm_pc_cm3"] for version in burst["measurements"]] == [411.0, 410.5]
        eventually(lambda: len(intake.records_of(burst_id)) == 3, "three records")
        _, measured, updated = intake.records_of(burst_id)
        assert updated["first"] == measured["first"] == measured["latest"]
        assert (updated["latest"]["number"], updated["latest"]["dm_pc_cm3"]) == (2, 410.5)

    def test_the_same_measurement_again_is_the_same_version(self, script: UpstreamClient) -> None:
        burst_id = script.first(OBSERVATION, RADIO, example_images())
        answers = [script.measure(RADIO | {"dm": 410.0}, burst_id) for _ in range(2)]
        assert answers[0].json() == answers[1].json()
        assert len(script.ask("GET", f"/api/v1/events/{burst_id}").json()["measurements"]) == 2

    def test_optional_keys_may_be_missing(self, script: UpstreamClient) -> None:
        burst_id = script.first(OBSERVATION, RADIO, example_images())
        optional = ("z", "rm", "rm_err", "fluence", "fluence_err", "flux", "flux_err")
        fields = {name: value for name, value in a_measurement(burst_id).items() if name not in optional}

        answer = script.post_fields(THIRD, fields)

        assert answer.status == 201
        assert {name: answer.json()["data"][name] for name in optional} == dict.fromkeys(optional)


class TestForms:
    @pytest.mark.parametrize(
        ("sent", "told"),
        [
            ("2017-11-17T12:21:38.87", "2017-11-17T12:21:38.870000Z"),
            ("2017-11-17 12:21:38.870000", "2017-11-17T12:21:38.870000Z"),
            ("2017-11-17 12:21:38.870000+00:00", "2017-11-17T12:21:38.870000Z"),
            ("2017-11-17T12:21:38.87Z", "2017-11-17T12:21:38.870000Z"),
            ("2017-11-17T23:21:38.87+11:00", "2017-11-17T12:21:38.870000Z"),
            ("2017-11-17 12:21", "2017-11-17T12:21:00Z"),
        ],
    )
    def test_times_come_with_t_or_space_with_or_without_zone(
        self, script: UpstreamClient, sent: str, told: str
    ) -> None:
        radio = RADIO | {"time_of_arrival": sent}
        answer = script.announce(script.observe(OBSERVATION).json()["id"], radio, example_images())
        assert (answer.status, answer.json()["data"]["time_of_arrival"]) == (201, told)

    @pytest.mark.parametrize(
        ("value", "words"),
        [
            (True, ("t", "T", "y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON", "1")),
            (False, ("f", "F", "n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF", "0")),
        ],
    )
    def test_all_words_for_yes_and_no_are_known(
        self, script: UpstreamClient, value: bool, words: tuple[str, ...]
    ) -> None:
        observation_id = script.observe(OBSERVATION).json()["id"]
        for word in words:
            answer = script.announce(observation_id, RADIO | {"repeater": word}, example_images())
            assert (answer.status, answer.json()["data"]["repeater"]) == (201, value), word

    def test_json_is_taken_where_no_files_are_needed(self, script: UpstreamClient) -> None:
        observation = script.post(FIRST, _json(OBSERVATION), JSON)
        burst_id = script.announce(observation.json()["id"], RADIO, example_images()).json()["id"]
        measurement = script.post(THIRD, _json(a_measurement(burst_id)), JSON)

        assert (observation.status, measurement.status) == (201, 201)
        assert observation.json() == script.observe(OBSERVATION).json()
        assert measurement.json() == script.measure(RADIO, burst_id).json()

    def test_a_form_does_as_well_as_urlencoded_fields(self, script: UpstreamClient) -> None:
        content_type, body = multipart(observation_fields(OBSERVATION), {})
        assert script.post(FIRST, body, content_type).json() == script.observe(OBSERVATION).json()

    def test_texts_are_trimmed_and_other_fields_ignored(self, script: UpstreamClient) -> None:
        plain = script.observe(OBSERVATION)
        more = script.post_fields(FIRST, OBSERVATION | {"backend": "  Multibeam ", "dish": "Parkes", "id": 12})
        assert more.json() == plain.json()

    def test_whole_numbers_may_be_written_as_others(self, script: UpstreamClient) -> None:
        answer = script.post_fields(FIRST, OBSERVATION | {"nchan": "3000.0", "gain": " 3e0 "})
        assert answer.json() == script.observe(OBSERVATION).json()

    def test_an_observation_needs_no_beam(self, script: UpstreamClient) -> None:
        for observation in (OBSERVATION | {"beam": None}, OBSERVATION | {"beam": ""}):
            assert script.observe(observation).json()["data"]["beam"] is None


# Request, what is changed or (None) left out, the old server's answer.
REFUSALS: list[tuple[str, Mapping[str, Any], dict[str, list[str]]]] = [
    (FIRST, {"gain": None}, {"gain": [REQUIRED]}),
    (FIRST, {"gain": "three"}, {"gain": ["A valid number is required."]}),
    (FIRST, {"gain": ""}, {"gain": ["A valid number is required."]}),
    (FIRST, {"nchan": "3000.5"}, {"nchan": ["A valid integer is required."]}),
    (FIRST, {"backend": "  "}, {"backend": ["This field may not be blank."]}),
    (FIRST, {"backend": "m" * 129}, {"backend": ["Ensure this field has no more than 128 characters."]}),
    (
        FIRST,
        {"gain": None, "tsys": "x"},
        {"gain": [REQUIRED], "tsys": ["A valid number is required."]},
    ),
    (SECOND, {"observation": None}, {"observation": [REQUIRED]}),
    (SECOND, {"observation": "9" * 10}, {"observation": [f'Invalid pk "{"9" * 10}" - object does not exist.']}),
    (SECOND, {"observation": "one"}, {"observation": ["Incorrect type. Expected pk value, received str."]}),
    (SECOND, {"repeater": "maybe"}, {"repeater": ["Must be a valid boolean."]}),
    (SECOND, {"time_of_arrival": "yesterday"}, {"time_of_arrival": [WRONG_TIME]}),
    (THIRD, {"source": "XX"}, {"source": ['"XX" is not a valid choice.']}),
    (THIRD, {"frb": "999999999"}, {"frb": ['Invalid pk "999999999" - object does not exist.']}),
    (THIRD, {"ra": None}, {"ra": [REQUIRED]}),
    (THIRD, {"gb": "south"}, {"gb": ["A valid number is required."]}),
    (THIRD, {"version": "v" * 65}, {"version": ["Ensure this field has no more than 64 characters."]}),
    (THIRD, {"dm": "dense"}, {"dm": ["A valid number is required."]}),
]


class TestRefusals:
    @pytest.mark.parametrize(("path", "changes", "told"), REFUSALS, ids=[f"{p[1:-1]}-{c}" for p, c, _ in REFUSALS])
    def test_a_wrong_field_is_told_in_the_old_words(
        self,
        observer: UpstreamClient,
        burst_id: int,
        observation_id: int,
        path: str,
        changes: Mapping[str, Any],
        told: dict[str, list[str]],
    ) -> None:
        of_burst = {"observation": observation_id, "time_of_arrival": RADIO["time_of_arrival"], "repeater": True}
        fields = {FIRST: observation_fields(OBSERVATION), SECOND: of_burst, THIRD: a_measurement(burst_id)}[path]
        sent = {name: value for name, value in {**fields, **changes}.items() if value is not None}
        content_type, body = multipart(sent, example_images() if path == SECOND else {})

        answer = observer.post(path, body, content_type)

        assert (answer.status, answer.json()) == (400, told)
        assert answer.headers["content-type"] == "application/json"

    def test_null_in_json_is_told_as_such(self, observer: UpstreamClient) -> None:
        answer = observer.post(FIRST, _json(OBSERVATION | {"gain": None}), JSON)
        assert (answer.status, answer.json()) == (400, {"gain": ["This field may not be null."]})

    def test_a_list_is_no_dictionary(self, observer: UpstreamClient) -> None:
        answer = observer.post(FIRST, b"[]", JSON)
        told = {"non_field_errors": ["Invalid data. Expected a dictionary, but got list."]}
        assert (answer.status, answer.json()) == (400, told)

    @pytest.mark.parametrize("missing", IMAGES)
    def test_a_missing_file_is_told_in_a_bare_string(
        self, observer: UpstreamClient, observation_id: int, missing: str
    ) -> None:
        images = {name: image for name, image in example_images().items() if name != f"{missing}_open"}
        answer = observer.announce(observation_id, RADIO, images)
        assert (answer.status, answer.body) == (400, f'"Missing {missing} file"'.encode())

    @pytest.mark.parametrize("path", DOORS)
    def test_a_wrong_password_is_forbidden(self, intake: IntakeUnderTest, observer: UpstreamClient, path: str) -> None:
        for user, password in ((observer.user, "guessed"), ("nobody", observer.password)):
            answer = UpstreamClient(observer.port, user, password).post(path, OBSERVATION_BODY)
            assert (answer.status, answer.json()) == (403, {"detail": "Invalid username/password."})

    @pytest.mark.parametrize("path", DOORS)
    def test_nobody_may_write(self, observer: UpstreamClient, path: str) -> None:
        answer = observer.ask("POST", path, OBSERVATION_BODY, content_type="application/x-www-form-urlencoded")
        assert (answer.status, answer.json()) == (401, {"detail": "Authentication credentials were not provided."})
        assert answer.headers["www-authenticate"].startswith("Basic ")

    @pytest.mark.parametrize("path", DOORS)
    def test_who_only_rates_may_not_write(self, intake: IntakeUnderTest, path: str) -> None:
        answer = intake.script(intake.add_user("rate")).post(path, OBSERVATION_BODY)
        assert (answer.status, answer.json()) == (
            403,
            {"detail": "You do not have permission to perform this action."},
        )

    @pytest.mark.parametrize("path", DOORS)
    @pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
    def test_nothing_but_post_is_known(self, observer: UpstreamClient, path: str, method: str) -> None:
        answer = observer.ask(method, path, authorization=observer.authorization)
        assert (answer.status, answer.json()) == (405, {"detail": f'Method "{method}" not allowed.'})
        assert "POST" in answer.headers["allow"]

    @pytest.mark.parametrize("path", DOORS)
    def test_without_the_slash_there_is_nothing_and_no_redirect(self, observer: UpstreamClient, path: str) -> None:
        answer = observer.post(path.rstrip("/"), OBSERVATION_BODY)
        assert answer.status == 404
        assert "location" not in answer.headers

    def test_other_media_types_are_not_taken(self, observer: UpstreamClient) -> None:
        answer = observer.post(FIRST, b"gain: 3", "text/yaml")
        assert (answer.status, answer.json()) == (415, {"detail": 'Unsupported media type "text/yaml" in request.'})

    def test_a_burst_of_somebody_elses_observation_is_one_of_ones_own(
        self, script: UpstreamClient, observation_id: int
    ) -> None:
        assert script.announce(observation_id, RADIO, example_images()).status == 201


def test_many_requests_of_one_right_password_at_once_are_all_let_in(
    intake: IntakeUnderTest, script: UpstreamClient
) -> None:
    """The script does not ask again: whom a limit on guesses turns away after a restart has lost an upload."""
    restarted = intake.system.start("frb_intake")
    restarted.wait_ready()
    try:
        fresh = UpstreamClient(restarted.port, script.user, script.password)
        with ThreadPoolExecutor(80) as pool:
            answers = list(pool.map(lambda _: fresh.observe(OBSERVATION), range(80)))
    finally:
        restarted.stop()
    assert {answer.status for answer in answers} == {201}


def test_a_request_may_come_in_small_pieces(observer: UpstreamClient) -> None:
    request = request_bytes(
        "POST", FIRST, OBSERVATION_BODY, content_type="application/x-www-form-urlencoded",
        authorization=observer.authorization, port=observer.port,
    )  # fmt: skip
    slowly = [request[i : i + 97] for i in range(0, len(request), 97)]
    assert exchange(observer.port, slowly).status == 201


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value).encode()
