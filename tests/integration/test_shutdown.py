"""A service that is told to stop finishes what it has in hand; told twice, it ends at once and nothing is lost."""

import time
from pathlib import Path

from confluent_kafka import Producer

from tests.support.alerts import an_alert
from tests.support.runtime import eventually
from tests.support.system import SystemUnderTest, running_system


def alerts_known(system: SystemUnderTest) -> int:
    [row] = system.rows("SELECT count(*) AS n FROM gw_listener.alerts")
    return int(row["n"])


def test_a_second_signal_ends_a_service_at_once_and_what_it_had_in_hand_is_done_later(tmp_path: Path) -> None:
    with running_system(tmp_path) as system:
        listener = system.start("gw_listener")
        listener.wait_ready()
        # In hand, and going to stay there: the database is away.
        system.database.stop()
        producer = Producer(system.client)
        producer.produce("igwn.gwalert", an_alert())
        assert producer.flush(30) == 0
        eventually(lambda: listener.get("/status").json()["consumers"][0]["paused"], "paused")

        listener.process.terminate()
        eventually(lambda: "service.stopping" in listener.log.read_text(), "it has heard")
        assert listener.is_alive
        begin = time.monotonic()
        listener.process.terminate()
        assert listener.process.wait(10) == 1
        # Far less than the grace of 20 s that the first signal gave.
        assert time.monotonic() - begin < 5

        system.database.start()
        system.start("gw_listener")
        eventually(lambda: alerts_known(system) == 1, "the alert that was in hand")
        system.stop_services()
