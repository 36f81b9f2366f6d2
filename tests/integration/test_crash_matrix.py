"""Any process may be killed at any instant: nothing is lost, nothing happens twice, order holds per superevent.

Every case sends 200 alerts of its own through both services while one of them dies at the point in question and is
started again. What is then in the database and on the topics is compared with what was sent.
"""

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count

import pytest
from confluent_kafka import Producer

from services.gw_listener.alerts import content_id, read_alert
from services.skymap_parser.handlers import product_id
from shared.events.gw import MapKind
from tests.support.alerts import a_skymap, an_alert
from tests.support.runtime import eventually
from tests.support.system import SystemUnderTest, no_services_left, running_system

__all__ = ["no_services_left"]  # a fixture

STAGES = ("EARLYWARNING", "PRELIMINARY", "INITIAL", "UPDATE", "RETRACTION")
SUPEREVENTS = 40
CREATED = datetime(2026, 11, 21, tzinfo=UTC)
SKYMAPS = [a_skymap(peak=peak) for peak in range(12)]

_rounds = count()


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SystemUnderTest]:
    folder = tmp_path_factory.mktemp("crashes")
    with running_system(folder) as running:
        yield running


class Flow:
    """200 alerts: 40 superevents from early warning to retraction, in turns, every seventh sent twice."""

    def __init__(self, system: SystemUnderTest) -> None:
        # Whoever was killed in the case before must have timed out: a group changes its protocol only when empty.
        eventually(lambda: system.has_no_members, "groups without members")
        self.system = system
        number = next(_rounds)
        self.superevents = [f"MS{number:02d}{event:04d}a" for event in range(SUPEREVENTS)]
        self.alerts = [
            an_alert(
                superevent_id=superevent,
                alert_type=stage,
                time_created=CREATED + timedelta(seconds=60 * step),
                skymap=SKYMAPS[(step + event) % 12],
            )
            for step, stage in enumerate(STAGES)
            for event, superevent in enumerate(self.superevents)
        ]
        self.ids = [content_id(read_alert(alert)) for alert in self.alerts]
        # Each alert but the retraction has a map; the retraction withdraws it by a record of its own.
        self.products = [product_id(alert_id, MapKind.GW) for alert_id in self.ids]

    def send(self) -> None:
        producer = Producer(self.system.client | {"enable.idempotence": True})
        for number, alert in enumerate(self.alerts):
            for _ in range(2 if number % 7 == 0 else 1):
                producer.produce("igwn.gwalert", alert)
        assert producer.flush(30) == 0

    def is_through(self) -> bool:
        (row,) = self.system.rows(
            "SELECT (SELECT count(*) FROM gw_listener.alerts WHERE event_id = ANY($1::uuid[])) AS alerts,"
            " (SELECT count(*) FROM skymap_parser.inbox"
            "  WHERE consumer = 'skymap_parser' AND event_id = ANY($1::uuid[])) AS parsed,"
            " (SELECT count(*) FROM gw_listener.outbox) + (SELECT count(*) FROM skymap_parser.outbox) AS unsent",
            self.ids,
        )
        return (row["alerts"], row["parsed"], row["unsent"]) == (len(self.ids), len(self.ids), 0)

    def check(self) -> None:
        eventually(self.is_through, "every alert through both services")
        self._check_database()
        self._check_topic("gw.alerts", self.ids)
        self._check_topic("gw.skymaps", self.products)
        for topic in ("igwn.gwalert.dlq.gw_listener", "gw.alerts.dlq.skymap_parser", "gw.skymaps.dlq.skymap_parser"):
            assert self.system.records(topic) == []

    def _check_database(self) -> None:
        alerts = self.system.rows(
            "SELECT superevent_id, array_agg(alert_type ORDER BY sequence) AS stages,"
            " array_agg(sequence ORDER BY sequence) AS numbers, bool_and(was_current) AS always_newest"
            " FROM gw_listener.alerts WHERE superevent_id = ANY($1) GROUP BY 1",
            self.superevents,
        )
        assert len(alerts) == SUPEREVENTS
        for row in alerts:
            assert (tuple(row["stages"]), row["numbers"]) == (STAGES, [1, 2, 3, 4, 5])
            assert row["always_newest"]
        maps = self.system.rows(
            "SELECT event_id, state FROM skymap_parser.skymaps WHERE superevent_id = ANY($1)", self.superevents
        )
        assert Counter(row["event_id"] for row in maps) == Counter(self.products[:-SUPEREVENTS])
        assert {row["state"] for row in maps} == {"WITHDRAWN"}
        superevents = self.system.rows(
            "SELECT state, alert_count FROM gw_listener.superevents WHERE superevent_id = ANY($1)", self.superevents
        )
        assert [tuple(row) for row in superevents] == [("RETRACTED", 5)] * SUPEREVENTS

    def _check_topic(self, topic: str, expected: list[object]) -> None:
        records = [
            (message, record)
            for message, record in self.system.records(topic)
            if record["superevent_id"] in self.superevents
        ]
        assert Counter(record["event_id"] for _, record in records) == Counter(expected)
        for superevent in self.superevents:
            assert tuple(r["alert_type"] for _, r in records if r["superevent_id"] == superevent) == STAGES


# Before the fourth death comes, some work must be left: the listener handles many alerts in one transaction and batch,
# and what waits in an outbox is sent together.
POINTS = {
    "gw_listener": [("before_commit", 1), ("after_commit", 30), ("before_offset_commit", 1), ("after_produce", 1)],
    "skymap_parser": [("before_commit", 30), ("after_commit", 30), ("before_offset_commit", 30), ("after_produce", 3)],
}


@pytest.mark.parametrize("victim", ["gw_listener", "skymap_parser"])
def test_a_service_killed_at_every_point_in_mid_flow_loses_and_doubles_nothing(
    system: SystemUnderTest, victim: str
) -> None:
    flow = Flow(system)
    survivor = system.start("skymap_parser" if victim == "gw_listener" else "gw_listener")
    first, *others = POINTS[victim]
    dying = system.start(victim, dying=first)
    survivor.wait_ready()
    dying.wait_ready()

    flow.send()
    for point in others:
        dying.wait_killed()
        dying = system.start(victim, dying=point)
    dying.wait_killed()
    system.start(victim)
    flow.check()

    system.stop_services()


@pytest.mark.parametrize("point", ["on_assign", "on_revoke"])
@pytest.mark.parametrize("protocol", ["consumer", "classic"])
def test_a_member_killed_during_a_rebalance_loses_and_doubles_nothing(
    system: SystemUnderTest, protocol: str, point: str
) -> None:
    flow = Flow(system)
    group = {"TOCSIN_KAFKA__GROUP_PROTOCOL": protocol}
    system.start("gw_listener").wait_ready()
    # When the second member joins, the first has to give partitions up: one of them dies then.
    first = system.start("skymap_parser", dying=("on_revoke", 1) if point == "on_revoke" else None, **group)
    first.wait_ready()

    flow.send()
    # on_assign: the index consumer's first assignment may come before that of the alerts; either is a rebalance.
    second = system.start("skymap_parser", dying=("on_assign", 1) if point == "on_assign" else None, **group)
    (first if point == "on_revoke" else second).wait_killed()
    flow.check()

    system.stop_services()
