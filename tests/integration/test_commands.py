"""Every operator command, through the real console script, on a running system."""

import base64
import json
import re
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from cli.database import fetch_from
from cli.stack.kafka import KafkaBroker
from cli.stack.postgres import PostgresServer
from cli.stack.services import SERVICES, ServiceProcess
from services.gw_listener.alerts import read_alert
from shared.kafka.message import Message
from shared.kafka.reading import read
from shared.sky import region
from shared.sky.skymap import SkyMap, read_skymap
from tests.support.alerts import an_alert
from tests.support.command_line import SCRIPT, Outcome, at_once, environment, prepare_directory, tocsin
from tests.support.data import SAMPLES

IGWN = SAMPLES / "igwn"
MOCK = [
    IGWN / f"MS181101ab-{kind}.avro"
    for kind in ("earlywarning", "preliminary", "initial", "update", "ext-update", "retraction")
]
REAL = [IGWN / f"S230518h-{kind}_alert.json" for kind in ("Preliminary", "Initial", "Update")]
ALERTS = [*MOCK, *REAL]
N_MAPS = 9  # five of the mock alerts have one, one of them a combined one too; the real alerts have one each

ALERT_LETTERS = "igwn.gwalert.dlq.gw_listener"
MAP_LETTERS = "gw.alerts.dlq.skymap_parser"
DEADLINE_S = 60


@dataclass(frozen=True)
class System:
    """A whole system of this module's own, found through its folder alone."""

    directory: Path

    def tocsin(self, *arguments: str | Path, **changes: str) -> Outcome:
        return tocsin(*arguments, env=environment(self.directory, **changes))

    def at_once(self, commands: Sequence[Sequence[str]]) -> list[Outcome]:
        return at_once(commands, env=environment(self.directory))

    def fetch(self, query: str) -> list[dict[str, Any]]:
        return fetch_from(PostgresServer(self.directory / "postgres").address, query)

    @property
    def bootstrap_servers(self) -> str:
        return KafkaBroker(self.directory / "kafka").address

    def messages(self, topic: str) -> list[Message]:
        return list(read({"bootstrap.servers": self.bootstrap_servers}, topic))

    def waiting(self, topic: str) -> list[dict[str, Any]]:
        letters: list[dict[str, Any]] = self.tocsin("dlq", "list", topic, "--json").json()
        return letters

    def bury(self, topic: str, send: Callable[[], object], *, count: int = 1) -> list[dict[str, Any]]:
        """Set aside what waits on `topic`, `send`, and return the letters that come of it."""
        assert self.tocsin("dlq", "drop", topic, "--max", "1000").code == 0
        before = len(self.messages(topic))
        send()
        wait_for(lambda: len(self.messages(topic)) >= before + count)
        return self.waiting(topic)

    def produce(self, *values: bytes, key: bytes, headers: Sequence[tuple[str, bytes]]) -> None:
        producer = Producer({"bootstrap.servers": self.bootstrap_servers})
        for value in values:
            producer.produce("igwn.gwalert", value, key=key, headers=list(headers))
        assert producer.flush(10) == 0


def wait_for(condition: Callable[[], bool]) -> None:
    """Ask until it is so, rarely enough to leave the processors to those who make it so."""
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Up, and through with all the shipped alerts."""
    system = System(prepare_directory(tmp_path_factory.mktemp("commands") / "stack"))
    try:
        up = system.tocsin("up")
        assert up.code == 0, up.err
        replayed = system.tocsin("replay", *ALERTS)
        assert replayed.code == 0, replayed.err
        assert [line.split(":")[0] for line in replayed.err.splitlines()] == [file.name for file in ALERTS]
        searchable = (
            "SELECT count(*) AS n, count(*) FILTER (WHERE state = 'WITHDRAWN') AS withdrawn FROM skymap_parser.skymaps"
            " JOIN (SELECT DISTINCT event_id FROM skymap_parser.skymap_cells) AS cells USING (event_id)"
            " WHERE picture IS NOT NULL"
        )
        wait_for(lambda: system.fetch(searchable) == [{"n": N_MAPS, "withdrawn": 6}])
        yield system
    finally:
        assert system.tocsin("down").code == 0


@pytest.fixture(scope="module")
def real_map() -> SkyMap:
    """The current map of the real superevent."""
    content = read_alert(REAL[-1].read_bytes()).skymap
    assert content is not None
    return read_skymap(content)


# replay


def test_replayed_alerts_have_the_bytes_and_the_headers_of_the_real_stream(system: System) -> None:
    messages = system.messages("igwn.gwalert")[: len(ALERTS)]
    ids = set()
    for message, file in zip(messages, ALERTS, strict=True):
        headers = dict(message.headers)
        assert message.value == file.read_bytes()
        assert message.key is None
        assert headers.pop("_format") == (b"json" if file.suffix == ".json" else b"avro")
        assert headers.pop("_sender") == b"tocsin-replay"
        assert headers.pop("_test", None) == (b"true" if file in MOCK else None)
        ids.add(uuid.UUID(bytes=headers.pop("_id")))
        assert not headers
    assert len(ids) == len(ALERTS)


def test_a_file_that_is_no_alert_is_refused_and_named(system: System, tmp_path: Path) -> None:
    file = tmp_path / "letter.avro"
    file.write_bytes(b"dear observatory")
    before = len(system.messages("igwn.gwalert"))
    assert system.tocsin("replay", file).is_refused("letter.avro", "dear observatory", "expected")
    assert len(system.messages("igwn.gwalert")) == before


def test_a_topic_that_the_broker_has_not_is_refused_at_once(system: System) -> None:
    assert system.tocsin("replay", "--topic", "igwn.gwalerts", MOCK[0]).is_refused("igwn.gwalerts", "igwn.gwalert,")


def test_a_notice_of_a_burst_goes_to_the_topic_of_its_observatory_as_a_test(system: System) -> None:
    sent = {
        "gcn.notices.chime.frb": SAMPLES / "gcn" / "chime-frb-detection.json",
        "gcn.notices.dsa110.frb": SAMPLES / "gcn" / "dsa110-frb-detection.json",
        "voevent.frb": SAMPLES / "voevent" / "FRB20180916B-detection.xml",
    }
    assert system.tocsin("replay", *sent.values()).code == 0
    for topic, file in sent.items():
        message = system.messages(topic)[-1]
        assert message.value == file.read_bytes()
        assert dict(message.headers)["_test"] == b"true"


def test_a_catalogue_of_bursts_is_replayed_as_far_as_is_asked(system: System) -> None:
    catalogue = SAMPLES / "frb" / "catalogue" / "chimefrbcat1.csv"
    before = len(system.messages("gcn.notices.chime.frb"))
    done = system.tocsin("replay", catalogue, "--limit", "3", "--rate", "100")
    assert done.code == 0
    names = ["FRB20180725A", "FRB20180727A", "FRB20180729A"]
    assert [line.split(":")[0] for line in done.err.splitlines()] == names
    assert len(system.messages("gcn.notices.chime.frb")) == before + 3


# topics, tail


def test_topics_say_who_writes_and_reads_them_and_what_they_hold(system: System) -> None:
    rows = {row["topic"]: row for row in system.tocsin("topics", "--json").json()}
    assert rows["gw.alerts"]["written_by"] == "gw_listener"
    assert rows["gw.alerts"]["read_by"] == "coincidence, skymap_parser, notifier, console"
    assert rows["gw.alerts"]["records"] >= len(ALERTS)
    assert rows[ALERT_LETTERS]["record"] is None
    text = system.tocsin("topics").out
    assert [line.split()[0] for line in text.splitlines()] == ["topic", *rows]


def test_tail_prints_one_json_object_per_record(system: System) -> None:
    done = system.tocsin("tail", "gw.skymaps", "--json")
    records = [json.loads(line) for line in done.out.splitlines()]
    assert done.code == 0
    assert len(records) >= N_MAPS
    for record in records:
        (skymap,) = record["records"]
        assert record["key"] == skymap["superevent_id"]
        assert uuid.UUID(record["headers"]["_id"]) == uuid.UUID(skymap["event_id"])
        assert record["headers"]["_format"] == "avro"


def test_tail_shows_the_last_records_with_long_bytes_cut(system: System) -> None:
    whole = system.tocsin("tail", "igwn.gwalert", "--json").out.splitlines()[1]
    (content,) = json.loads(whole)["records"]
    assert base64.b64decode(content["event"]["skymap"]) == read_alert(MOCK[1].read_bytes()).skymap
    shown = system.tocsin("tail", "gw.alerts", "--last", "1")
    assert shown.code == 0
    # The alerts of two superevents lie in one or two of the four partitions.
    assert 1 <= shown.out.count("── gw.alerts[") <= 4


def test_tail_of_an_unknown_topic_names_those_there_are(system: System) -> None:
    assert system.tocsin("tail", "gw.skymap").is_refused("gw.skymap", "gw.skymaps", "igwn.gwalert")


def test_tail_follows_until_it_is_interrupted(system: System) -> None:
    command = [str(SCRIPT), "tail", "igwn.gwalert", "--last", "1", "--follow", "--json"]
    with subprocess.Popen(
        command, env=environment(system.directory), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as tail:
        assert tail.stdout is not None
        assert json.loads(tail.stdout.readline())["topic"] == "igwn.gwalert"
        assert system.tocsin("replay", MOCK[-1]).code == 0
        new = json.loads(tail.stdout.readline())
        assert new["records"][0]["alert_type"] == "RETRACTION"
        tail.send_signal(signal.SIGINT)
        _, err = tail.communicate(timeout=20)
    assert (tail.returncode, err) == (0, "")


# superevent


def test_a_superevent_is_told_whole(system: System) -> None:
    known = system.tocsin("superevent", "MS181101ab", "--json").json()
    assert known["state"] == "RETRACTED"
    assert known["kind"] == "MOCK"
    assert [alert["alert_type"] for alert in known["alerts"]] == [
        "EARLYWARNING", "PRELIMINARY", "INITIAL", "UPDATE", "UPDATE", "RETRACTION",
    ]  # fmt: skip
    assert [alert["sequence"] for alert in known["alerts"]] == [1, 2, 3, 4, 5, 6]
    assert all(reception["source"] == "local" for alert in known["alerts"] for reception in alert["receptions"])
    assert all(len(alert["receptions"]) == 1 for alert in known["alerts"])
    announced = [found for found in known["skymaps"] if found["skymap"] is not None]
    assert {found["state"] for found in announced} == {"WITHDRAWN"}
    assert sorted(found["map_kind"] for found in announced) == ["COMBINED"] + 5 * ["GW"]
    (preliminary,) = [found["skymap"] for found in announced if found["alert_type"] == "PRELIMINARY"]
    # The figures of the published preliminary alert, to the last digit: they are the same operations on the same bytes.
    assert (preliminary["ra_deg"], preliminary["dec_deg"]) == (194.30419921874997, -17.856895095545468)
    assert preliminary["distance_mean_mpc"] == 39.76999609489013
    assert preliminary["distance_std_mpc"] == 8.308435058808886


def test_an_open_superevent_has_one_current_map(system: System) -> None:
    known = system.tocsin("superevent", "S230518h", "--json").json()
    assert (known["state"], known["kind"]) == ("OPEN", "REAL")
    assert [found["is_current"] for found in known["skymaps"]] == [False, False, True]
    assert "real, open, 3 alerts" in system.tocsin("superevent", "S230518h").out


def test_a_superevent_never_heard_of_is_said_to_be_so(system: System) -> None:
    assert system.tocsin("superevent", "S991231zz").is_refused("S991231zz")


# skymaps


def test_stored_maps_answer_for_a_position_as_the_map_itself_does(system: System, real_map: SkyMap) -> None:
    ra_deg, dec_deg = 100.25, -20.5
    itself = region.at_points(real_map, [ra_deg], [dec_deg])
    level = float(itself.credible_level[0])
    asked = [["--level", "1"], ["--level", f"{level - 1e-4}"], ["--level", "1", "--all"]]
    (row,), below, all_maps = (
        outcome.json()
        for outcome in system.at_once([["skymaps", "--at", f"{ra_deg},{dec_deg}", "--json", *more] for more in asked])
    )
    assert row["superevent_id"] == "S230518h"
    assert row["probdensity"] == pytest.approx(itself.probdensity_per_sr[0], rel=1e-12)
    # Stored in single precision: 24 bits.
    assert row["credible_level"] == pytest.approx(level, rel=2**-23)
    assert below == []
    assert [found["alert_type"] for found in all_maps if found["is_current"]] == ["UPDATE"]
    assert len(all_maps) == 3


def test_stored_maps_answer_for_cones_as_the_map_itself_does(system: System, real_map: SkyMap) -> None:
    # The first had a quarter too much area when cells around its own cell's centre were taken whole.
    cones = [(0.0, 0.0, 30.0), (95.7, -11.0, 3.0), (90.0, -20.0, 10.0), (95.7, -11.0, 120.0)]
    asked = [["skymaps", "--cone", ",".join(map(str, cone)), "--json"] for cone in cones]
    for cone, outcome in zip(cones, system.at_once(asked), strict=True):
        ra_deg, dec_deg, radius_deg = cone
        itself = region.probability_in_cone(real_map, ra_deg=ra_deg, dec_deg=dec_deg, radius_deg=radius_deg)
        (row,) = outcome.json()
        # In SQL a cell on the edge is in or out as a whole: the area is right to 2e-4, and the density along the edge
        # is of the order of the mean inside.
        assert row["probability"] == pytest.approx(itself, rel=1e-3), cone


def test_all_maps_are_listed_with_what_became_of_them(system: System) -> None:
    rows = system.tocsin("skymaps", "--all", "--json").json()
    mock = [row for row in rows if row["superevent_id"] == "MS181101ab"]
    assert {row["state"] for row in mock} == {"WITHDRAWN"}
    assert len(mock) == 6
    assert "S230518h" in system.tocsin("skymaps").out


def test_a_place_that_is_not_on_the_sky_is_refused(system: System) -> None:
    refused = {
        ("--at", "12"): ("--at", "RA,DEC"),
        ("--at", "12,-91"): ("dec_deg", "-91"),
        ("--at", "nan,0"): ("ra_deg", "nan"),
        ("--cone", "0,0,181"): ("radius_deg", "181"),
        ("--cone", "0,100,1"): ("dec_deg", "100"),
        ("--cone", "0,0,1", "--at", "0,0"): ("--cone", "one of the two"),
    }
    outcomes = system.at_once([("skymaps", *arguments) for arguments in refused])
    for (arguments, words), outcome in zip(refused.items(), outcomes, strict=True):
        assert outcome.is_refused(*words), arguments


# dlq


def test_an_undecodable_alert_becomes_a_dead_letter_and_replay_sends_the_very_same_message(system: System) -> None:
    value, key = f"no alert {uuid.uuid4()}".encode(), b"a key of theirs"
    headers = [("_id", uuid.uuid4().bytes), ("_format", b"avro"), ("theirs", b"\xff\x00")]
    (letter,) = system.bury(ALERT_LETTERS, lambda: system.produce(value, key=key, headers=headers))
    assert letter["topic"] == "igwn.gwalert"
    assert letter["error"].startswith("alert is b'no alert")
    assert letter["key"] == key.decode()
    shown = system.tocsin("dlq", "show", letter["id"]).json()
    assert shown["error"] == letter["error"]
    assert base64.b64decode(shown["content"]["bytes"]) == value

    dry = system.tocsin("dlq", "replay", ALERT_LETTERS, "--dry-run")
    assert (dry.code, dry.out) == (0, f"{letter['id']} would be replayed\n")
    assert system.waiting(ALERT_LETTERS) == [letter]
    buried = len(system.messages(ALERT_LETTERS))
    done = system.tocsin("dlq", "replay", ALERT_LETTERS)
    assert (done.code, done.out) == (0, f"{letter['id']} replayed\n")

    first, again = [message for message in system.messages("igwn.gwalert") if message.value == value]
    assert again.key == first.key == key
    assert again.headers == first.headers == tuple(headers)
    wait_for(lambda: len(system.messages(ALERT_LETTERS)) == buried + 1)  # no better than before
    (second,) = system.waiting(ALERT_LETTERS)
    assert second["id"] != letter["id"]
    everything = system.tocsin("dlq", "list", ALERT_LETTERS, "--all", "--json").json()
    assert {letter["id"], second["id"]} <= {known["id"] for known in everything}


def test_an_alert_with_a_broken_sky_map_becomes_a_dead_letter_of_the_parser(system: System, tmp_path: Path) -> None:
    file = tmp_path / "broken.avro"
    file.write_bytes(an_alert(superevent_id="S261121bm", skymap=b"SIMPLE  = and nothing more"))
    (letter,) = system.bury(MAP_LETTERS, lambda: system.tocsin("replay", file))
    assert letter["key"] == "S261121bm"
    assert "FITS header" in letter["error"]
    text = system.tocsin("dlq", "list").out
    assert letter["id"] in text
    assert "FITS header" in text
    assert system.tocsin("dlq", "show", letter["id"]).json()["content"][0]["superevent_id"] == "S261121bm"


def test_letters_are_dropped_from_the_oldest_at_most_so_many_at_a_time(system: System) -> None:
    values = [f"nonsense {number} {uuid.uuid4()}".encode() for number in range(3)]
    letters = system.bury(ALERT_LETTERS, lambda: system.produce(*values, key=b"", headers=[]), count=3)
    ids = [letter["id"] for letter in letters]
    assert len(ids) == 3
    assert system.tocsin("dlq", "drop", ALERT_LETTERS, "--max", "2", "--dry-run").out.count("would be dropped") == 2
    assert len(system.waiting(ALERT_LETTERS)) == 3
    assert system.tocsin("dlq", "drop", ALERT_LETTERS, "--max", "2").out == f"{ids[0]} dropped\n{ids[1]} dropped\n"
    assert [letter["id"] for letter in system.waiting(ALERT_LETTERS)] == ids[2:]
    (gw_listener,) = [line for line in system.tocsin("status", "--json").json() if line["name"] == "gw_listener"]
    assert [consumer["dead_letters_waiting"] for consumer in gw_listener["consumers"]] == [1]
    assert "1 dead letters waiting" in system.tocsin("status").out


def test_a_letter_written_twice_is_dropped_with_its_twin(system: System) -> None:
    value = f"twice {uuid.uuid4()}".encode()
    system.bury(ALERT_LETTERS, lambda: system.produce(value, key=b"", headers=[]))
    letter = system.messages(ALERT_LETTERS)[-1]
    producer = Producer({"bootstrap.servers": system.bootstrap_servers})
    producer.produce(ALERT_LETTERS, letter.value, key=letter.key, headers=list(letter.headers))
    assert producer.flush(10) == 0
    assert len(system.waiting(ALERT_LETTERS)) == 1
    assert system.tocsin("dlq", "drop", ALERT_LETTERS, "--max", "1").out.count("dropped") == 1
    assert system.waiting(ALERT_LETTERS) == []
    (gw_listener,) = [line for line in system.tocsin("status", "--json").json() if line["name"] == "gw_listener"]
    assert gw_listener["consumers"][0]["dead_letters_waiting"] == 0


def test_a_letter_or_topic_that_is_not_there_is_refused(system: System) -> None:
    refused = {
        ("list", "gw.alerts"): ("gw.alerts", MAP_LETTERS),
        ("drop", "nothing"): ("nothing", MAP_LETTERS),
        ("replay", "nothing"): ("nothing", MAP_LETTERS),
        ("show", "7"): ("7", "TOPIC@OFFSET"),
        ("show", f"{MAP_LETTERS}@123456"): ("123456", "still holds"),
        ("show", f"{MAP_LETTERS}@{10**30}"): ("TOPIC@OFFSET",),
    }
    outcomes = system.at_once([("dlq", *arguments) for arguments in refused])
    for (arguments, words), outcome in zip(refused.items(), outcomes, strict=True):
        assert outcome.is_refused(*words), arguments


# status


def test_status_is_content_while_all_is_well_and_fails_while_a_service_is_down(system: System) -> None:
    states = {line["name"]: line["state"] for line in system.tocsin("status", "--json").json()}
    assert states.pop("influxdb") in ("up", "absent")
    assert states == dict.fromkeys(("kafka", "postgres", *SERVICES), "up")
    text = system.tocsin("status").out
    assert re.search(
        r"^gw_listener +up +igwn.gwalert, lag \d+, \d+ dead letters waiting, last event", text, re.MULTILINE
    )

    ServiceProcess(SERVICES["skymap_parser"], system.directory / "services").stop()
    try:
        down = system.tocsin("status", "--json")
        assert down.code == 1
        assert {line["name"]: line["state"] for line in json.loads(down.out)}["skymap_parser"] == "down"
        assert system.tocsin("status").code == 1
    finally:
        assert system.tocsin("up", "--service", "skymap_parser").code == 0
    assert system.tocsin("status").code == 0


# skymap


def test_skymap_reads_an_alert_and_draws_it_without_any_server(tmp_path: Path) -> None:
    picture = tmp_path / "sky.png"
    facts = tocsin("skymap", MOCK[1], "--json", "--plot", picture, env=environment(tmp_path)).json()
    assert (facts["ra_deg"], facts["dec_deg"]) == (194.30419921874997, -17.856895095545468)
    assert {
        "area_50_deg2",
        "area_90_deg2",
        "distance_mean_mpc",
        "distance_std_mpc",
        "max_order",
        "n_pixels",
        "moc_90",
    } <= {*facts}
    assert picture.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert [path.name for path in tmp_path.iterdir()] == ["sky.png"]


def test_skymap_refuses_what_is_no_map_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / "truncated.avro"
    file.write_bytes(MOCK[1].read_bytes()[:5000])
    assert tocsin("skymap", file, env=environment(tmp_path)).is_refused("truncated.avro", "expected")


# what is not there


def test_a_broker_that_is_not_there_is_one_line_within_seconds(tmp_path: Path) -> None:
    commands = [
        ["topics"],
        ["tail", "gw.skymaps"],
        ["tail", "gw.skymaps", "--follow"],
        ["replay", str(MOCK[0])],
        ["dlq", "list"],
        ["dlq", "show", f"{MAP_LETTERS}@0"],
        ["dlq", "replay", MAP_LETTERS],
        ["dlq", "drop", MAP_LETTERS],
    ]
    env = environment(tmp_path, TOCSIN_KAFKA__BOOTSTRAP_SERVERS="127.0.0.1:1")
    for command, outcome in zip(commands, at_once(commands, env=env), strict=True):
        assert outcome.is_refused("127.0.0.1:1", code=1), command


def test_a_database_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    commands = [["superevent", "S230518h"], ["skymaps"], ["migrate"]]
    for url, words in {
        "postgresql://x@127.0.0.1:1/x": ("127.0.0.1", "1"),
        "nonsense": ("TOCSIN_DATABASE__URL",),
    }.items():
        env = environment(tmp_path, TOCSIN_DATABASE__URL=url)
        for command, outcome in zip(commands, at_once(commands, env=env), strict=True):
            assert outcome.is_refused(*words, code=1), command


def test_a_database_without_the_tables_says_which_command_makes_them(system: System) -> None:
    empty = PostgresServer(system.directory / "postgres").url("postgres")
    outcome = system.tocsin("skymaps", TOCSIN_DATABASE__URL=empty)
    assert outcome.is_refused("tocsin migrate", code=1)


def test_a_setting_that_is_wrong_is_named_as_in_the_environment(tmp_path: Path) -> None:
    outcome = tocsin("topics", env=environment(tmp_path, TOCSIN_KAFKA__SECURITY_PROTOCOL="TLS"))
    assert outcome.is_refused("TOCSIN_KAFKA__SECURITY_PROTOCOL", "SASL_SSL")
