"""What other observatories say of bursts, from a message on a topic to the record on `frb.events`."""

import asyncio
import json
import threading
import uuid
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest

from cli.catalogue import read_catalogue
from cli.replay import to_message
from services.frb_intake.feeds.gcn import CHIME_TOPIC, DSA_110_TOPIC
from services.frb_intake.feeds.voevent import VOEVENT_TOPIC
from shared.blobs.store import FolderBlobs
from shared.events.blob import BlobRef
from shared.schema.topics import dead_letter_topic
from shared.testing.vtp import VtpBroker, standing_broker
from tests.support.data import SAMPLES
from tests.support.frb_intake import EVENTS, IntakeUnderTest, running_intake
from tests.support.runtime import eventually, records, send
from tests.support.voevents import a_packet

GCN = SAMPLES / "gcn"
VOEVENT = SAMPLES / "voevent"

T = TypeVar("T")


def a_notice(stage: str, burst: str, *, observatory: str = "chime", **changes: Any) -> bytes:
    """An official example, about another burst; a change to None leaves the key out."""
    notice = json.loads((GCN / f"{observatory}-frb-{stage}.json").read_bytes()) | {"id": burst} | changes
    return json.dumps({name: value for name, value in notice.items() if value is not None}).encode()


def a_name() -> str:
    """What no other test calls a burst."""
    return uuid.uuid4().hex


@dataclass
class Standing:
    """The stand-in of a VOEvent broker, in an event loop of its own."""

    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    broker: VtpBroker = field(default_factory=VtpBroker)

    def run(self, action: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(action, self.loop).result(30)


@contextmanager
def voevent_broker() -> Iterator[Standing]:
    standing = Standing()
    thread = threading.Thread(target=standing.loop.run_forever, daemon=True)
    thread.start()
    serving = standing_broker()
    standing.broker = standing.run(serving.__aenter__())
    try:
        yield standing
    finally:
        standing.run(serving.__aexit__(None, None, None))
        standing.loop.call_soon_threadsafe(standing.loop.stop)
        thread.join(10)
        standing.loop.close()


@dataclass
class Feeds:
    """A running intake and the sources that it reads."""

    intake: IntakeUnderTest
    folder: Path
    standing: Standing

    def send(self, topic: str, *notices: Any) -> None:
        send(self.intake.system.broker.address, topic, *notices)

    def records_of(self, name: str) -> list[dict[str, Any]]:
        """What is on `frb.events` about the bursts of that name now, burst by burst."""
        found = [record for _, record in self.intake.system.records("frb.events") if record["origin_id"] == name]
        return sorted(found, key=lambda record: (record["frb_id"], record["revision"]))

    def wait(self, name: str, count: int) -> list[dict[str, Any]]:
        """The records about the bursts of that name, once there are so many."""
        return eventually(lambda: found if len(found := self.records_of(name)) >= count else None, name) or []

    def full(self, record: dict[str, Any]) -> Any:
        """Everything about a burst, as the service answers."""
        answer = self.intake.client(None).get(f"{EVENTS}/{record['frb_id']}")
        assert answer.status_code == 200
        return answer.json()

    def raw(self, reference: dict[str, Any]) -> bytes:
        """Bytes that were kept."""
        store = FolderBlobs(Path(self.intake.system.environment["TOCSIN_BLOBS__URL"]), max_bytes=10**8)
        return store.get(BlobRef.model_validate(reference))


@pytest.fixture(scope="module")
def feeds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Feeds]:
    folder = tmp_path_factory.mktemp("notices")
    incoming = folder / "incoming"
    incoming.mkdir()
    with voevent_broker() as standing:
        sources = [
            {"type": "files", "paths": [str(incoming)], "poll_interval_s": 0.2, "settle_s": 0.1},
            {"type": "voevent", "host": "127.0.0.1", "port": standing.broker.port},
        ]
        with running_intake(folder, TOCSIN_FRB_INTAKE__SOURCES=json.dumps(sources)) as intake:
            yield Feeds(intake, incoming, standing)


def test_a_detection_becomes_a_burst_that_can_be_asked_for(feeds: Feeds) -> None:
    name = a_name()
    data = a_notice("detection", name)
    feeds.send(CHIME_TOPIC, data)
    (record,) = feeds.wait(name, 1)

    assert (record["origin"], record["status"], record["change"]) == ("CHIME", "CANDIDATE", "CREATED")
    assert (record["submitted_by"], record["is_test"], record["repeater"]) == (CHIME_TOPIC, False, False)
    assert record["time_of_arrival"].isoformat() == "2024-09-18T07:19:10.765268+00:00"
    latest = record["latest"]
    assert latest["time_of_arrival_inf"].isoformat() == "2024-09-18T07:19:03.518831+00:00"
    assert latest["dm_budget"]["dm_mw_ism_model"] == "NE2001 (given)"
    assert latest["dm_budget"]["dm_mw_ism_pc_cm3"] == 37.78909399600771
    place = latest["localisation"]
    # The first axis has angle 0 and is the shorter one.
    assert (place["semi_major_deg"], place["position_angle_deg"]) == (0.598921231135782, 90)
    assert place["confidence_level"] == 0.9
    assert record["reference_frequency_mhz"] == 400
    assert feeds.raw(record["raw"]) == data
    full = feeds.full(record)
    assert full["observation"]["centre_frequency_mhz"] == 600
    assert full["measurements"][0]["as_submitted"]["snr"] == 12.698559761047363
    assert full["history"][0]["detail"]["source"] == "local"
    listed = feeds.intake.client(None).get(EVENTS, params={"ra": 346.8, "dec": 12.6, "radius": 1, "limit": 500})
    assert record["frb_id"] in [line["id"] for line in listed.json()["items"]]


def test_a_notice_sent_twice_is_one_burst_whichever_sources_bring_it(feeds: Feeds) -> None:
    name = a_name()
    notice = a_notice("detection", name)
    # The keys in another order are the same notice.
    again = json.dumps(dict(reversed(json.loads(notice).items())), indent=4).encode()
    feeds.send(CHIME_TOPIC, notice, notice, again)
    (feeds.folder / f"{name}.json").write_bytes(notice)
    eventually(
        lambda: feeds.intake.system.rows("SELECT FROM frb_intake.files WHERE path LIKE '%' || $1 || '.json'", name),
        "the file is read",
    )
    feeds.send(CHIME_TOPIC, a_notice("update", name))

    created, corrected = feeds.wait(name, 2)
    assert (created["revision"], corrected["revision"]) == (1, 2)
    assert len(feeds.full(corrected)["history"]) == 2


def test_detection_update_and_retraction_are_one_withdrawn_burst_with_all_its_bytes(feeds: Feeds) -> None:
    name = a_name()
    sent = [a_notice(stage, name) for stage in ("detection", "update", "retraction")]
    feeds.send(CHIME_TOPIC, *sent)
    found = feeds.wait(name, 3)

    assert len({record["frb_id"] for record in found}) == 1
    assert [record["change"] for record in found] == ["CREATED", "CORRECTED", "STATUS_CHANGED"]
    assert [record["status"] for record in found] == ["CANDIDATE", "CANDIDATE", "WITHDRAWN"]
    assert "221.2 +/- 0.4" in found[1]["note"]
    # What is said in prose alone is not measured.
    assert found[2]["latest"] == found[0]["latest"]
    assert "Retraction of detection alert" in found[2]["status_reason"]
    assert [feeds.raw(record["raw"]) for record in found] == sent
    history = feeds.full(found[2])["history"]
    assert [change["detail"]["notice"] for change in history] == ["detection", "update", "retraction"]
    assert [feeds.raw(change["detail"]["raw"]) for change in history] == sent


def test_an_update_of_one_figure_leaves_the_others_as_they_were_measured(feeds: Feeds) -> None:
    name = a_name()
    feeds.send(CHIME_TOPIC, a_notice("detection", name), a_notice("update", name, dm=221.2, dm_error=0.4))
    created, measured = feeds.wait(name, 2)

    assert measured["change"] == "MEASURED"
    assert (measured["first"], measured["latest"]["number"]) == (created["first"], 2)
    assert (measured["latest"]["dm_pc_cm3"], measured["latest"]["dm_err_pc_cm3"]) == (221.2, 0.4)
    for kept in ("localisation", "snr", "gl_deg"):
        assert measured["latest"][kept] == created["latest"][kept]
    assert measured["latest"]["dm_budget"]["dm_mw_ism_model"] == "NE2001 (given)"
    # By the new dispersion measure: 4.149378e3 * 221.2 / 400^2 s before 400 MHz; the sender gave none for it.
    early_s = (measured["time_of_arrival"] - measured["latest"]["time_of_arrival_inf"]).total_seconds()
    assert early_s == pytest.approx(5.7365, abs=2e-3)
    submitted = feeds.full(measured)["measurements"][1]["as_submitted"]
    assert (submitted["dm_pc_cm3"], "ra_deg" in submitted) == (221.2, False)


def test_another_detection_of_a_known_source_is_a_burst_that_repeats(feeds: Feeds) -> None:
    first, second = a_name(), a_name()
    feeds.send(CHIME_TOPIC, a_notice("detection", first), a_notice("subsequent", second))
    (one,), (other,) = feeds.wait(first, 1), feeds.wait(second, 1)

    assert one["frb_id"] != other["frb_id"]
    assert (one["repeater"], other["repeater"], other["repeater_of"]) == (False, True, "FRB 20231013B")
    assert feeds.full(other)["history"][0]["detail"]["unmapped"] == {"association_probability": 0.932}


def test_a_retraction_that_comes_first_keeps_a_late_detection_from_standing(feeds: Feeds) -> None:
    name = a_name()
    feeds.send(DSA_110_TOPIC, *(a_notice(stage, name, observatory="dsa110") for stage in ("retraction", "detection")))
    withdrawn, late = feeds.wait(name, 2)

    assert (withdrawn["change"], withdrawn["status"]) == ("CREATED", "WITHDRAWN")
    assert (late["change"], late["status"], late["latest"]) == ("CORRECTED", "WITHDRAWN", None)
    assert feeds.full(late)["history"][1]["detail"]["notice"] == "detection"


def test_a_drill_about_a_burst_is_not_about_the_real_one(feeds: Feeds) -> None:
    name = a_name()
    feeds.send(CHIME_TOPIC, a_notice("detection", name), (None, a_notice("retraction", name), [("_test", b"true")]))
    real, drill = feeds.wait(name, 2)

    assert (real["is_test"], real["status"]) == (False, "CANDIDATE")
    assert (drill["is_test"], drill["status"]) == (True, "WITHDRAWN")
    (message,) = [m for m, record in feeds.intake.system.records("frb.events") if record["frb_id"] == drill["frb_id"]]
    assert message.is_test


def test_two_observatories_may_use_one_name(feeds: Feeds) -> None:
    name = a_name()
    feeds.send(CHIME_TOPIC, a_notice("detection", name))
    feeds.send(DSA_110_TOPIC, a_notice("detection", name, observatory="dsa110"))
    found = feeds.wait(name, 2)

    assert {record["origin"] for record in found} == {"CHIME", "DSA-110"}
    assert len({record["frb_id"] for record in found}) == 2


def test_broken_notices_are_dead_lettered_by_the_field_that_is_wrong_and_no_other_is_lost(feeds: Feeds) -> None:
    names = [a_name() for _ in range(4)]
    broken = {
        b"snr": a_notice("detection", a_name(), snr="loud"),
        b"trigger_time": a_notice("detection", a_name(), trigger_time=None),
        b"time_of_arrival": a_notice("detection", a_name(), trigger_time="2424-09-18T07:19:10.765268Z"),
        b"alert_type": a_notice("detection", a_name(), alert_type="rumour"),
    }
    for name, notice in zip(names, broken.values(), strict=True):
        feeds.send(CHIME_TOPIC, notice, a_notice("detection", name))
    for name in names:
        feeds.wait(name, 1)

    letters = records(feeds.intake.system.broker.address, dead_letter_topic(CHIME_TOPIC, "frb_intake"))
    reasons = {letter.value: letter.header("dlq-error") or b"" for letter in letters}
    for field_name, notice in broken.items():
        assert field_name in reasons[notice]
    assert feeds.intake.service.is_ready


def test_packets_of_a_voevent_broker_are_bursts_and_are_acknowledged(feeds: Feeds) -> None:
    names = ["FRB20180916B-detection", "FRB20181019A-subsequent", "FRB20180916B-update", "FRB20180916B-retraction"]
    eventually(lambda: feeds.standing.broker.connections, "connected")
    for name in names:
        feeds.standing.run(feeds.standing.broker.send((VOEVENT / f"{name}.xml").read_bytes()))
    eventually(lambda: len(feeds.standing.broker.acknowledged) >= len(names), "acknowledged")

    rows = feeds.intake.system.rows("SELECT record FROM frb_intake.bursts WHERE origin = 'samples.tocsin' ORDER BY id")
    repeater, other = (json.loads(row["record"]) for row in rows)
    assert (repeater["status"], repeater["revision"], repeater["is_test"]) == ("WITHDRAWN", 3, True)
    assert (other["status"], other["repeater"], other["is_test"]) == ("CANDIDATE", True, True)
    assert repeater["latest"]["number"] == 2
    assert repeater["first"]["redshift"] is None
    assert repeater["latest"]["redshift"] is not None


def test_files_are_read_whatever_their_format(feeds: Feeds) -> None:
    name = a_name()
    ivorn = f"ivo://org.example/dish#FRB{name}"
    (feeds.folder / f"{name}-1.json").write_bytes(a_notice("detection", name))
    (feeds.folder / f"{name}-2.xml").write_bytes(a_packet(ivorn=f"{ivorn}/59658.41"))

    assert feeds.wait(name, 1)[0]["origin"] == "CHIME"
    (packet,) = feeds.wait(ivorn, 1)
    assert (packet["origin"], packet["submitted_by"]) == ("org.example", VOEVENT_TOPIC)


def test_the_sources_tell_whether_they_live(feeds: Feeds) -> None:
    lines = feeds.intake.service.get("/status").json()["sources"]
    assert [line["name"] for line in lines] == ["files", "voevent", "local"]
    assert all(line["connected"] for line in lines)


def test_the_chime_catalogue_replays_as_notices(feeds: Feeds) -> None:
    bursts = read_catalogue((SAMPLES / "frb" / "catalogue" / "chimefrbcat1.csv").read_bytes())
    messages = [to_message(json.dumps(burst.notice).encode()) for burst in bursts]
    feeds.send(CHIME_TOPIC, *((message.key, message.value, message.headers) for message in messages))
    last = str(bursts[-1].notice["id"])
    feeds.wait(last, 1)

    found = {
        row["origin_id"]: json.loads(row["record"])
        for row in feeds.intake.system.rows(
            "SELECT origin_id, record FROM frb_intake.bursts WHERE is_test AND origin_id LIKE 'FRB20%'"
        )
    }
    assert len(found) == len(bursts) > 530
    # FRB 20190425A as published: RA 255.72, Dec 21.52, DM 128.16, excess over NE2001 79.4 (less our halo of 50).
    burst = found["FRB20190425A"]["latest"]
    assert burst["dm_pc_cm3"] == pytest.approx(128.16, abs=0.05)
    assert burst["localisation"]["ra_deg"] == pytest.approx(255.72, abs=0.01)
    assert burst["dm_budget"]["dm_excess_pc_cm3"] == pytest.approx(29.4, abs=0.1)
