"""The database or the broker goes away in mid-flow: everything waits, nothing dies, nothing is lost or doubled."""

import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import psutil
import pytest
from confluent_kafka import Producer

from services.gw_listener.alerts import content_id, read_alert
from services.skymap_parser.handlers import product_id
from shared.events.gw import MapKind
from tests.support.alerts import a_skymap, an_alert
from tests.support.runtime import eventually
from tests.support.system import ServiceUnderTest, SystemUnderTest, running_system

DATABASE_OUTAGE_S = 15.0
CREATED = datetime(2026, 11, 21, tzinfo=UTC)


@pytest.fixture
def system(tmp_path: pytest.TempPathFactory) -> Iterator[SystemUnderTest]:
    with running_system(tmp_path) as running:
        yield running


def a_flow(count: int, *, start: int = 0) -> list[bytes]:
    return [
        an_alert(
            superevent_id=f"MS{number:06d}a",
            time_created=CREATED + timedelta(seconds=number),
            skymap=a_skymap(peak=number % 12),
        )
        for number in range(start, start + count)
    ]


def send(producer: Producer, alerts: list[bytes]) -> None:
    for alert in alerts:
        producer.produce("igwn.gwalert", alert)
    assert producer.flush(60) == 0


def both_ready(system: SystemUnderTest) -> list[ServiceUnderTest]:
    services = [system.start("gw_listener"), system.start("skymap_parser")]
    for service in services:
        service.wait_ready()
    return services


def processes(services: list[ServiceUnderTest]) -> list[tuple[int, float]]:
    """Which processes these are: a restarted one has another pid or start."""
    return [(service.process.pid, psutil.Process(service.process.pid).create_time()) for service in services]


def expected_ids(alerts: list[bytes]) -> list[UUID]:
    return [content_id(read_alert(alert)) for alert in alerts]


def check_everything_once(system: SystemUnderTest, alerts: list[bytes]) -> None:
    ids = expected_ids(alerts)

    def is_through() -> bool:
        (row,) = system.rows(
            "SELECT (SELECT count(*) FROM gw_listener.alerts) AS alerts,"
            " (SELECT count(*) FROM skymap_parser.skymaps) AS maps,"
            " (SELECT count(*) FROM gw_listener.outbox) + (SELECT count(*) FROM skymap_parser.outbox) AS unsent"
        )
        return (row["alerts"], row["maps"], row["unsent"]) == (len(ids), len(ids), 0)

    eventually(is_through, "every alert through both services")
    assert Counter(r["event_id"] for _, r in system.records("gw.alerts")) == Counter(ids)
    assert Counter(r["event_id"] for _, r in system.records("gw.skymaps")) == Counter(
        product_id(alert_id, MapKind.GW) for alert_id in ids
    )
    for topic in ("igwn.gwalert.dlq.gw_listener", "gw.alerts.dlq.skymap_parser", "gw.skymaps.dlq.skymap_parser"):
        assert system.records(topic) == []


def test_a_database_that_is_away_for_15_s_pauses_everything_and_costs_nothing(system: SystemUnderTest) -> None:
    services = both_ready(system)
    before = processes(services)
    producer = Producer(system.client | {"enable.idempotence": True})
    alerts = a_flow(60)
    send(producer, alerts[:30])

    system.database.stop()
    went = time.monotonic()
    send(producer, alerts[30:])
    listener = services[0]
    eventually(lambda: listener.get("/status").json()["consumers"][0]["paused"], "the listener says that it is paused")
    assert 'tocsin_consumer_paused{consumer="gw_listener.local"} 1.0' in listener.get("/metrics").text
    for service in services:
        eventually(lambda service=service: service.get("/readyz").status_code == 503, f"{service.name} not ready")
    # The condition is the length of the outage itself; all the while nobody may look dead.
    while time.monotonic() - went < DATABASE_OUTAGE_S:
        assert [service.get("/healthz").status_code for service in services] == [200, 200]
        time.sleep(0.5)
    system.database.start()

    check_everything_once(system, alerts)
    for service in services:
        eventually(lambda service=service: service.is_ready, f"{service.name} ready again")
    assert processes(services) == before
    assert 'tocsin_consumer_paused{consumer="gw_listener.local"} 0.0' in listener.get("/metrics").text
    system.stop_services()


def test_a_broker_restarted_in_mid_flow_costs_nothing(system: SystemUnderTest) -> None:
    services = both_ready(system)
    before = processes(services)
    producer = Producer(system.client | {"enable.idempotence": True})
    alerts = a_flow(60)
    send(producer, alerts[:30])

    system.broker.stop()
    for service in services:
        eventually(lambda service=service: service.get("/readyz").status_code == 503, f"{service.name} not ready")
        assert service.get("/healthz").status_code == 200
    system.broker.start()
    send(producer, alerts[30:])

    check_everything_once(system, alerts)
    for service in services:
        eventually(lambda service=service: service.is_ready, f"{service.name} ready again")
    assert processes(services) == before
    system.stop_services()


def test_a_service_that_starts_while_the_database_is_away_waits_for_it(system: SystemUnderTest) -> None:
    system.database.stop()
    listener = system.start("gw_listener")
    eventually(lambda: '"service.listening"' in listener.log.read_text(), "the service listens")
    assert listener.get("/healthz").status_code == 200
    assert listener.get("/readyz").status_code == 503
    send(Producer(system.client), a_flow(3))

    system.database.start()

    eventually(lambda: listener.is_ready, "ready")
    eventually(
        lambda: system.rows("SELECT count(*) AS n FROM gw_listener.alerts")[0]["n"] == 3, "the alerts that had waited"
    )
    assert listener.is_alive
    system.stop_services()
