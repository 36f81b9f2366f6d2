"""gw_listener as a process, fed by several sources at once."""

import json
import random
import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from cli.stack.kafka import KafkaBroker
from services.gw_listener.alerts import content_id, read_alert
from shared.events.gw import AlertType, GwAlert, SupereventState
from shared.kafka.message import Message
from shared.schema.codec import decode
from tests.support.alerts import EVENT_TIME, a_skymap, alert_content, an_event, as_avro, as_json
from tests.support.runtime import a_topic, eventually, prepared, query, records, send, service

DEAD_LETTERS = "igwn.gwalert.dlq.gw_listener"


@pytest.fixture
def environment(kafka_broker: KafkaBroker, database_url: str, tmp_path: Path) -> dict[str, str]:
    return prepared(kafka_broker.address, database_url, tmp_path)


@pytest.fixture
def superevent_id() -> str:
    """One that no other test uses: the broker is shared."""
    return f"MS{uuid.uuid4().hex[:12]}"


def a_source(broker: str, name: str, topic: str) -> dict[str, Any]:
    return {
        "type": "kafka", "name": name, "topics": [topic], "group_id": topic, "group_protocol": "consumer",
        "broker": {"bootstrap_servers": broker},
    }  # fmt: skip


def with_sources(environment: dict[str, str], *sources: dict[str, Any], **wanted: Any) -> dict[str, str]:
    return environment | {
        "TOCSIN_GW_LISTENER__SOURCES": json.dumps(sources),
        "TOCSIN_GW_LISTENER__OWN_TOPIC": "false",
        "TOCSIN_GW_LISTENER__FILTER": json.dumps(wanted),
    }


def a_history(superevent_id: str) -> list[dict[str, Any]]:
    """Six stages of one superevent, minutes apart; the last is its retraction."""
    stages = ["EARLYWARNING", "PRELIMINARY", "PRELIMINARY", "INITIAL", "UPDATE", "RETRACTION"]
    return [
        alert_content(
            superevent_id=superevent_id,
            alert_type=stage,
            time_created=EVENT_TIME + timedelta(minutes=minutes),
            skymap=a_skymap(peak=minutes),
        )
        for minutes, stage in enumerate(stages)
    ]


def announced(environment: dict[str, str], superevent_id: str) -> list[GwAlert]:
    found = records(environment["TOCSIN_KAFKA__BOOTSTRAP_SERVERS"], "gw.alerts")
    return [decode(message.value, GwAlert) for message in found if message.key == superevent_id.encode()]


def receptions(environment: dict[str, str]) -> set[tuple[uuid.UUID, str]]:
    rows = query(environment["TOCSIN_DATABASE__URL"], "SELECT event_id, source FROM gw_listener.receptions")
    return {(row["event_id"], row["source"]) for row in rows}


def file_source(folder: Path) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    return {"type": "files", "name": "folder", "paths": [str(folder)], "poll_interval_s": 0.1, "settle_s": 0}


def dead_letters(broker: str, key: bytes) -> list[Message]:
    return [letter for letter in records(broker, DEAD_LETTERS) if letter.key == key]


def files_read(environment: dict[str, str]) -> set[str]:
    rows = query(environment["TOCSIN_DATABASE__URL"], "SELECT path FROM gw_listener.files")
    return {Path(row["path"]).name for row in rows}


@pytest.fixture
def topics(kafka_broker: KafkaBroker) -> Iterator[tuple[str, str]]:
    return a_topic(kafka_broker.address), a_topic(kafka_broker.address)


def test_an_alert_from_two_sources_doubled_and_shuffled_is_accepted_once(
    environment: dict[str, str], kafka_broker: KafkaBroker, topics: tuple[str, str], superevent_id: str, tmp_path: Path
) -> None:
    broker, (of_avro, of_json) = kafka_broker.address, topics
    history = a_history(superevent_id)
    ids = {content_id(read_alert(as_avro(content))) for content in history}
    sources = a_source(broker, "scimma", of_avro), a_source(broker, "gcn", of_json)
    # Twice each, reordered on both: the seed only makes a failure repeatable.
    shuffled = random.Random(261121)
    avro = shuffled.sample([as_avro(content) for content in history] * 2, k=12)
    json_ = shuffled.sample([as_json(content) for content in history] * 2, k=12)

    with service("gw_listener", with_sources(environment, *sources), tmp_path):
        send(broker, of_avro, *avro)
        send(broker, of_json, *json_)
        expected = {(event_id, source) for event_id in ids for source in ("scimma", "gcn")}
        # While they race, the one that comes second is a duplicate to the inbox of its own consumer only.
        eventually(lambda: receptions(environment) == expected)
        out = eventually(lambda: len(found := announced(environment, superevent_id)) >= len(ids) and found)

    assert {alert.event_id for alert in out} == ids
    assert len(out) == len(ids)
    url = environment["TOCSIN_DATABASE__URL"]
    assert {row["event_id"] for row in query(url, "SELECT event_id FROM gw_listener.alerts")} == ids
    assert [alert.sequence for alert in out] == list(range(1, len(ids) + 1))
    [superevent] = query(url, "SELECT state, alert_count, newest_alert_type FROM gw_listener.superevents")
    assert dict(superevent) == {"state": "RETRACTED", "alert_count": len(ids), "newest_alert_type": "RETRACTION"}
    assert query(url, "SELECT FROM gw_listener.outbox") == []


def test_after_a_retraction_a_late_older_alert_does_not_reopen_the_superevent(
    environment: dict[str, str], kafka_broker: KafkaBroker, topics: tuple[str, str], superevent_id: str, tmp_path: Path
) -> None:
    broker, (of_avro, of_json) = kafka_broker.address, topics
    _, preliminary, _, initial, _, retraction = a_history(superevent_id)
    sources = a_source(broker, "scimma", of_avro), a_source(broker, "gcn", of_json)

    with service("gw_listener", with_sources(environment, *sources), tmp_path):
        send(broker, of_avro, as_avro(initial), as_avro(retraction))
        eventually(lambda: len(announced(environment, superevent_id)) == 2)
        send(broker, of_json, as_json(preliminary))
        out = eventually(lambda: len(found := announced(environment, superevent_id)) == 3 and found)

    seen = [(alert.alert_type, alert.is_current, alert.superevent_state) for alert in out]
    assert seen == [
        (AlertType.INITIAL, True, SupereventState.OPEN),
        (AlertType.RETRACTION, True, SupereventState.RETRACTED),
        (AlertType.PRELIMINARY, False, SupereventState.RETRACTED),
    ]
    assert all(alert.is_test for alert in out)


def test_a_folder_is_read_a_bad_file_set_aside_and_neither_read_again(
    environment: dict[str, str], kafka_broker: KafkaBroker, superevent_id: str, tmp_path: Path
) -> None:
    folder = tmp_path / "alerts"
    environment = with_sources(environment, file_source(folder))
    first, second, third, *_ = a_history(superevent_id)
    (folder / "1.avro").write_bytes(as_avro(first))
    (folder / "2.avro").write_bytes(b"Obj\x01 and no more")

    with service("gw_listener", environment, tmp_path):
        eventually(lambda: files_read(environment) == {"1.avro", "2.avro"})
        (folder / "3.json").write_bytes(as_json(second))
        eventually(lambda: files_read(environment) == {"1.avro", "2.avro", "3.json"})
    (folder / "4.avro").write_bytes(as_avro(third))
    with service("gw_listener", environment, tmp_path) as again:
        eventually(lambda: "4.avro" in files_read(environment))
        out = eventually(lambda: len(found := announced(environment, superevent_id)) >= 3 and found)
        lines = [json.loads(line) for line in again.process.log_tail(10_000).splitlines() if line.startswith("{")]

    assert [alert.time_created for alert in out] == sorted(alert.time_created for alert in out)
    assert len(out) == 3
    # After the restart only the new file was taken up.
    outcomes = [line["outcome"] for line in lines if line["event"] == "message"]
    assert sorted(outcomes) == ["dead_lettered", "handled", "handled", "handled"]
    [letter] = dead_letters(kafka_broker.address, str(folder / "2.avro").encode())
    assert letter.value == b"Obj\x01 and no more"
    assert b"container" in (letter.header("dlq-error") or b"")


def test_unwanted_alerts_are_passed_over_without_a_trace_on_the_topic(
    environment: dict[str, str], kafka_broker: KafkaBroker, topics: tuple[str, str], superevent_id: str, tmp_path: Path
) -> None:
    broker, topic = kafka_broker.address, topics[0]
    faint, real, wanted = (f"{superevent_id}{letter}" for letter in "abc")
    alerts = [
        alert_content(superevent_id=faint, event=an_event(far=1e-3)),
        alert_content(superevent_id=real.removeprefix("M")),
        alert_content(superevent_id=wanted),
    ]
    environment = with_sources(environment, a_source(broker, "only", topic), kinds=["MOCK"], max_far_hz=1e-6)

    with service("gw_listener", environment, tmp_path):
        send(broker, topic, *map(as_avro, alerts))
        eventually(lambda: announced(environment, wanted))

    rows = query(environment["TOCSIN_DATABASE__URL"], "SELECT superevent_id FROM gw_listener.superevents")
    assert [row["superevent_id"] for row in rows] == [wanted]
    # They were before the wanted one on the only partition, so nothing of them can be under way.
    assert announced(environment, faint) == announced(environment, real.removeprefix("M")) == []


def test_a_drill_with_the_id_of_a_real_superevent_does_not_retract_it(
    environment: dict[str, str], kafka_broker: KafkaBroker, topics: tuple[str, str], superevent_id: str, tmp_path: Path
) -> None:
    broker, topic = kafka_broker.address, topics[0]
    real = superevent_id.removeprefix("M")
    drill = as_avro(alert_content(superevent_id=real, alert_type="RETRACTION"))
    environment = with_sources(environment, a_source(broker, "only", topic))

    with service("gw_listener", environment, tmp_path):
        send(broker, topic, as_avro(alert_content(superevent_id=real)), (None, drill, [("_test", b"true")]))
        send(broker, topic, as_avro(alert_content(superevent_id=superevent_id)))
        eventually(lambda: announced(environment, superevent_id))

    [alert] = eventually(lambda: announced(environment, real))
    assert (alert.superevent_state, alert.is_test) == (SupereventState.OPEN, False)
