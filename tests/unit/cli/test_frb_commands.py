"""`tocsin frb list`, `show`, `export`, `follow`, `rate` and `withdraw` against a server inside the process."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from cli.frb.following import ServerSentEvent, parsed
from tests.support.frb_client import TOKEN, FakeIntake, a_problem

SUMMARY: dict[str, Any] = {
    "id": 7, "internal_name": "TOCSIN-FRB-7", "status": "CANDIDATE", "is_test": True, "dm": 411.0, "sn": 50.0,
    "ra": 77.01461542, "dec": 26.06069556, "time_of_arrival": "2017-11-17T12:21:38.870000Z", "repeater": True,
    "tns_name": None, "votes": {"confirm": 2, "reject": 0, "unsure": 1},
}  # fmt: skip


def a_page(*ids: int, following: str | None = None) -> httpx.Response:
    return httpx.Response(200, json={"items": [SUMMARY | {"id": id_} for id_ in ids], "next": following})


class BrokenOff(httpx.SyncByteStream):
    """A body whose connection breaks after its first bytes."""

    def __init__(self, *chunks: bytes) -> None:
        self._chunks = chunks

    def __iter__(self) -> Iterator[bytes]:
        yield from self._chunks
        raise httpx.RemoteProtocolError("peer closed connection without sending complete message body")


class TestList:
    def test_one_line_per_burst_and_how_many(self, intake: FakeIntake) -> None:
        intake.will(a_page(9, 7))

        done = intake.run("list")

        assert done.stdout.splitlines() == [
            "id  time_of_arrival              dm     sn    ra       dec      status          yes/no/?  repeater  name",
            *(
                f"{id_}   2017-11-17T12:21:38.870000Z  411.0  50.0  77.0146  26.0607  candidate test  2/0/1   "
                "  yes       TOCSIN-FRB-7"
                for id_ in (9, 7)
            ),
        ]
        assert done.stderr == "2 bursts\n"

    def test_filters_reach_the_server_as_it_names_them(self, intake: FakeIntake) -> None:
        intake.will(a_page())

        done = intake.run(
            "list", "--since", "2017-11-17T00:00:00", "--until", "2018-01-01", "--dm-min", "100", "--dm-max", "500.5",
            "--sn-min", "9", "--sn-max", "90", "--cone", "77.0,-26.5,0.5", "--no-repeater", "--status", "confirmed",
            "--rating", "none", "--tns-name", "FRB 20171117A", "--test",
        )  # fmt: skip

        assert done.exit_code == 0, done.stderr
        assert dict(intake.requests[0].url.params) == {
            "since": "2017-11-17T00:00:00", "until": "2018-01-01", "dm_min": "100.0", "dm_max": "500.5",
            "sn_min": "9.0", "sn_max": "90.0", "ra": "77.0", "dec": "-26.5", "radius": "0.5", "repeater": "false",
            "status": "confirmed", "rating": "none", "tns_name": "FRB 20171117A", "is_test": "true",
            "sort": "time", "order": "desc", "limit": "50",
        }  # fmt: skip

    def test_pages_are_followed_until_there_are_enough(self, intake: FakeIntake) -> None:
        intake.will(a_page(5, 4, following="p2"), a_page(3, 2, following="p3"), a_page(1))

        shown = json.loads(intake.run("list", "--json", "--limit", "3").stdout)

        assert [burst["id"] for burst in shown] == [5, 4, 3]
        assert [request.url.params.get("cursor") for request in intake.requests] == [None, "p2"]

    def test_no_page_is_larger_than_the_server_gives(self, intake: FakeIntake) -> None:
        intake.will(a_page(5))

        intake.run("list", "--limit", "100000")

        assert intake.requests[0].url.params["limit"] == "500"

    def test_reading_needs_no_credentials_and_shows_them_where_there_are(self, intake: FakeIntake) -> None:
        intake.will(a_page())

        assert intake.run("list", FRB_TOKEN="").exit_code == 0
        assert intake.run("list").exit_code == 0

        assert "Authorization" not in intake.requests[0].headers
        assert intake.requests[1].headers["Authorization"] == f"Bearer {TOKEN}"

    @pytest.mark.parametrize(
        ("option", "value"), [("--cone", "1,2"), ("--cone", "a,b,c"), ("--since", "yesterday"), ("--until", "13:00")]
    )
    def test_what_is_no_filter_is_not_asked(self, intake: FakeIntake, option: str, value: str) -> None:
        done = intake.run("list", option, value)

        assert (done.exit_code, intake.requests) == (2, [])
        assert done.stderr.startswith(f"error: {option} is {value}; expected ")

    def test_a_name_is_shown_and_not_obeyed(self, intake: FakeIntake) -> None:
        intake.will(httpx.Response(200, json={"items": [SUMMARY | {"tns_name": "\x1b[2J"}], "next": None}))

        assert "\x1b" not in intake.run("list").stdout


class TestShow:
    EVENT = SUMMARY | {
        "submitted_by": "craft", "observation": {"tsys": 50.0, "bandwidth": 300.0, "beam": None},
        "measurements": [
            {
                "number": 1, "made_at": "2026-11-21T07:49:54Z", "made_by": "craft",
                "as_submitted": {"width": 5, "dm": 411.0, "eellipse": {"a": 0.004}},
                "time_of_arrival_inf": "2017-11-17T12:21:38Z", "time_of_arrival_inf_err_s": 0.0021193,
                "localisation": {
                    "ra_deg": 77.01461542, "dec_deg": 26.06069556, "semi_major_deg": 0.004, "semi_minor_deg": 0.003,
                    "position_angle_deg": 10.0, "confidence_level": 0.68,
                },
                "dm_budget": {
                    "dm_excess_pc_cm3": 237.0399, "redshift_mean": 0.256129, "redshift_low": 0.1, "redshift_high": 0.4,
                    "cosmology": "Planck18",
                },
            },
            {"number": 2, "made_at": "2026-11-21T08:00:00Z", "made_by": "chime", "dm_pc_cm3": 410.5},
        ],
        "images": [
            {"name": "search", "media_type": "image/png", "width_px": 760, "height_px": 342, "url": "/images/search"}
        ],
        "ratings": [{"rater": "eve", "rating": "confirm", "note": "Clear.", "rated_at": "2026-11-21T07:50:00Z"}],
        "history": [
            {"revision": 3, "change": "STATUS_CHANGED", "changed_at": "2026-11-21T08:10:00Z", "changed_by": "eve"}
        ],
        "coincidences": [
            {
                "coincidence_id": "S190425z-7", "coincidence_type": "UPDATE", "revision": 2,
                "decided_at": "2026-11-21T08:05:00Z", "reason": "overlap 7.5",
                "scores": {
                    "time_offset_s": 8985.6, "overlap_sky": 7.5, "overlap_3d": None, "far_space_time_hz": 8.7e-14,
                    "odds": 0.18,
                },
            },
            {
                "coincidence_id": "S261121ab-7", "coincidence_type": "RETRACTION", "revision": 3,
                "decided_at": "2026-11-21T08:06:00Z", "reason": "the wave was retracted", "scores": None,
            },
        ],
    }  # fmt: skip

    def test_people_get_lines(self, intake: FakeIntake) -> None:
        intake.will(httpx.Response(200, json=self.EVENT))

        shown = intake.run("show", "7").stdout

        assert shown.splitlines() == [
            "burst 7  TOCSIN-FRB-7  candidate, test",
            "  arrived       2017-11-17T12:21:38.870000Z",
            "  sent by       craft",
            "  repeater      yes",
            "  observed      bandwidth 300.0, tsys 50.0",
            "  measured 1    2026-11-21T07:49:54Z by craft: dm 411.0, width 5, eellipse (a 0.004)",
            "                  position: RA 77.01462 deg, Dec +26.06070 deg, within 0.004 x 0.003 deg at 10 deg"
            " (0.68 confidence)",
            "                  arrival at infinite frequency: 2017-11-17T12:21:38Z +/- 0.0021 s",
            "                  excess DM: 237.04 pc cm^-3; redshift 0.256 (0.1 to 0.4, Planck18)",
            "  measured 2    2026-11-21T08:00:00Z by chime: dm_pc_cm3 410.5",
            "  picture       search, image/png, 760 x 342 px, /images/search",
            "  vote          2026-11-21T07:50:00Z eve says confirm: Clear.",
            "  coincidence   2026-11-21T08:05:00Z S190425z-7 update, revision 2: offset (s) 8986, overlap 7.5,"
            " joint rate (Hz) 8.7e-14, odds 0.18",
            "  coincidence   2026-11-21T08:06:00Z S261121ab-7 retraction, revision 3: the wave was retracted",
            "  revision 3    2026-11-21T08:10:00Z status changed by eve",
        ]

    def test_machines_get_everything(self, intake: FakeIntake) -> None:
        intake.will(httpx.Response(200, json=self.EVENT))

        assert json.loads(intake.run("show", "7", "--json").stdout) == self.EVENT

    def test_an_unknown_burst_is_a_failure(self, intake: FakeIntake) -> None:
        intake.will(a_problem(404, title="Not found", detail="There is no burst 9."))

        done = intake.run("show", "9")

        assert (done.exit_code, done.stderr) == (1, "error: Not found: There is no burst 9.\n")


class TestExport:
    def test_the_bytes_go_to_the_file_as_they_come(self, intake: FakeIntake, tmp_path: Path) -> None:
        intake.will(httpx.Response(200, content=b"id,dm\n7,411.0\n"))
        file = tmp_path / "bursts.csv"

        done = intake.run("export", "--dm-min", "100", "--output", file)

        assert (done.exit_code, done.stdout) == (0, "")
        assert file.read_bytes() == b"id,dm\n7,411.0\n"
        assert dict(intake.requests[0].url.params) == {
            "dm_min": "100.0",
            "sort": "time",
            "order": "desc",
            "format": "csv",
        }
        assert intake.requests[0].url.path == "/api/v1/events/export"

    def test_without_a_file_they_go_to_standard_output(self, intake: FakeIntake) -> None:
        intake.will(httpx.Response(200, content=b"<VOTABLE/>"))

        assert intake.run("export", "--format", "votable").stdout == "<VOTABLE/>"

    def test_what_breaks_off_leaves_no_file_and_an_older_one_as_it_was(
        self, intake: FakeIntake, tmp_path: Path
    ) -> None:
        file = tmp_path / "bursts.csv"
        file.write_text("older")
        intake.will(httpx.Response(200, stream=BrokenOff(b"id,dm\n")))

        done = intake.run("export", "--output", file)

        assert done.exit_code == 4
        assert "broke off" in done.stderr
        assert [path.read_text() for path in tmp_path.iterdir()] == ["older"]

    def test_a_folder_that_is_not_there_is_bad_input(self, intake: FakeIntake, tmp_path: Path) -> None:
        intake.will(httpx.Response(200, content=b"id\n"))

        done = intake.run("export", "--output", tmp_path / "none" / "bursts.csv")

        assert done.exit_code == 2
        assert "expected a file that can be written" in done.stderr

    def test_a_refusal_is_told_and_leaves_no_file(self, intake: FakeIntake, tmp_path: Path) -> None:
        intake.will(a_problem(422, ("dm_min", "1e99", "at most 100000")))

        done = intake.run("export", "--dm-min", "1e99", "--output", tmp_path / "bursts.csv")

        assert (done.exit_code, done.stderr) == (2, "error: dm_min is 1e99; expected at most 100000\n")
        assert not list(tmp_path.iterdir())


class TestJudging:
    def test_a_vote_is_sent_and_the_count_told(self, intake: FakeIntake) -> None:
        intake.will(httpx.Response(201, json=SUMMARY))

        done = intake.run("rate", "7", "confirm", "--note", "Clear sweep.")

        assert done.stdout == "burst 7: 2 confirm, 0 reject, 1 unsure\n"
        assert intake.requests[0].url.path == "/api/v1/events/7/ratings"
        assert json.loads(intake.requests[0].content) == {"rating": "confirm", "note": "Clear sweep."}

    def test_a_vote_needs_no_note_and_is_one_of_three(self, intake: FakeIntake) -> None:
        intake.will(httpx.Response(201, json=SUMMARY))

        assert intake.run("rate", "7", "unsure").exit_code == 0
        assert intake.run("rate", "7", "maybe").exit_code == 2

        assert [json.loads(request.content) for request in intake.requests] == [{"rating": "unsure"}]

    def test_a_withdrawal_has_a_reason(self, intake: FakeIntake) -> None:
        intake.will(httpx.Response(201, json=SUMMARY | {"status": "WITHDRAWN"}))

        assert intake.run("withdraw", "7").exit_code == 2
        done = intake.run("withdraw", "7", "--reason", "Interference.")

        assert done.stdout == "burst 7: withdrawn\n"
        (request,) = intake.requests
        assert request.url.path == "/api/v1/events/7/withdrawal"
        assert json.loads(request.content) == {"reason": "Interference."}

    def test_writing_needs_credentials(self, intake: FakeIntake) -> None:
        assert intake.run("rate", "7", "confirm", FRB_TOKEN="").exit_code == 3
        assert intake.run("withdraw", "7", "--reason", "x", FRB_TOKEN="").exit_code == 3
        assert not intake.requests


class TestFollow:
    @staticmethod
    def an_event(event_id: int, change: str) -> bytes:
        record = {"frb_id": 7, "status": "CANDIDATE", "is_test": True, "latest": {"dm_pc_cm3": 411.0, "snr": 50.0}}
        return f"id: {event_id}\nevent: {change}\ndata: {json.dumps(record)}\n\n".encode()

    def test_a_line_per_change(self, intake: FakeIntake) -> None:
        intake.will(httpx.Response(200, content=b": hello\n\n" + self.an_event(3, "created")))

        done = intake.run("follow", "--count", "1")

        assert done.stdout == "3  created        burst 7  candidate  arrived None  DM 411.0  S/N 50.0  test\n"

    def test_a_broken_connection_is_taken_up_where_it_broke(self, intake: FakeIntake) -> None:
        half = self.an_event(5, "rated")[:20]
        intake.will(
            httpx.Response(200, stream=BrokenOff(self.an_event(3, "created"), self.an_event(4, "measured"), half)),
            httpx.Response(200, content=self.an_event(5, "rated")),
        )

        done = intake.run("follow", "--json", "--count", "3", "--last-event-id", "2")

        assert done.exit_code == 0
        assert len([json.loads(line) for line in done.stdout.splitlines()]) == 3
        assert [request.headers["Last-Event-ID"] for request in intake.requests] == ["2", "4"]

    def test_a_server_that_stays_away_ends_it(self, intake: FakeIntake) -> None:
        intake.will(httpx.Response(200, stream=BrokenOff(self.an_event(3, "created"))), httpx.ConnectError("refused"))

        done = intake.run("follow", "--retries", "1")

        assert (done.exit_code, len(done.stdout.splitlines()), len(intake.requests)) == (4, 1, 3)

    def test_streams_are_read_as_the_standard_says(self) -> None:
        lines = [
            ": a comment", "", "id: 7", "", "data: one", "data:two\u2028three", "", "id: 8", "event: rated", "data: {}",
            "retry: 10", "", "event: lost", "", "data: unfinished",
        ]  # fmt: skip

        for line_end, size in (("\n", 10_000), ("\r\n", 1)):
            stream = line_end.join(lines).encode()
            chunks = [stream[start : start + size] for start in range(0, len(stream), size)]
            assert list(parsed(chunks)) == [
                ServerSentEvent("7", "message", ""),
                ServerSentEvent("7", "message", "one\ntwo\u2028three"),
                ServerSentEvent("8", "rated", "{}"),
            ]

    def test_a_server_may_say_where_its_stream_begins(self, intake: FakeIntake) -> None:
        begin = httpx.Response(200, stream=BrokenOff(b"id: 2\n\n"))
        intake.will(begin, httpx.Response(200, content=self.an_event(3, "created")))

        assert intake.run("follow", "--count", "1").stdout.startswith("3  created")
        assert intake.requests[1].headers["Last-Event-ID"] == "2"
