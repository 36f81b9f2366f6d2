"""coincidence is killed, its database and its broker go away: pairs end as if nothing had happened.

Every case brings waves, maps and bursts of its own, with updates, retractions and withdrawals, in mid-flow of which the
service dies or waits. What is decided then is compared with what follows from the newest records alone.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from datetime import timedelta
from itertools import count
from typing import Any
from uuid import UUID

import pytest
from confluent_kafka import Producer

from services.coincidence import domain
from services.coincidence.cells import Comparison, cell_parts, compare
from services.coincidence.domain import PairState, Wave, read_burst
from services.coincidence.handlers import hint_of
from services.coincidence.settings import CoincidenceSection
from shared.events.frb import FrbEvent, FrbStatus
from shared.events.gw import AlertType, GwAlert, GwSkymap
from shared.events.mma import Coincidence, CoincidenceScores, CoincidenceType
from shared.events.record import Event
from shared.kafka.message import wire_headers
from shared.outbox.event import outgoing
from shared.settings import BlobSettings
from shared.sky.skymap import SkyMap
from tests.support.coincidence import MERGER, a_burst_record, a_skymap_record, a_wave_map, an_alert
from tests.support.runtime import eventually
from tests.support.system import SystemUnderTest, no_services_left, running_system

__all__ = ["no_services_left"]  # a fixture

WAVES = 24
APART = timedelta(days=3)
# Pairs of waves and of their bursts, a minute from each other; between them is more than any window.
ELSEWHERE = (10.0, 40.0)
TOPICS: dict[type[Event], str] = {GwAlert: "gw.alerts", GwSkymap: "gw.skymaps", FrbEvent: "frb.events"}
SETTINGS = CoincidenceSection()
KINDS = (CoincidenceType.INITIAL, CoincidenceType.UPDATE, CoincidenceType.RETRACTION)

_rounds = count()


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SystemUnderTest]:
    with running_system(tmp_path_factory.mktemp("coincidence-crashes")) as running:
        yield running


class Flow:
    """24 waves and as many bursts; of every six of each, some are updated, retracted, withdrawn or moved."""

    def __init__(self, system: SystemUnderTest) -> None:
        # Whoever was killed in the case before must have timed out, or the first of this one gets no partitions.
        eventually(lambda: system.has_no_members, "groups without members")
        self.system = system
        number = next(_rounds)
        blobs = BlobSettings(url=system.environment["TOCSIN_BLOBS__URL"])
        self.maps: dict[UUID, SkyMap] = {}
        self.ids = [(f"S{number:02d}{wave:04d}a", 1000 * number + wave) for wave in range(WAVES)]
        began: list[Event] = []
        ended: list[Event] = []
        for wave, (superevent_id, frb_id) in enumerate(self.ids):
            after = timedelta(days=400 * number) + wave // 2 * APART + wave % 2 * timedelta(minutes=1)
            offset_s = (after + timedelta(seconds=3)).total_seconds()

            def alert(stage: AlertType, minute: int, *, of: str = superevent_id, at: Any = MERGER + after) -> GwAlert:
                return an_alert(stage, superevent_id=of, minute=minute, time=at)

            def with_map(alert: GwAlert, error_deg: float) -> tuple[GwAlert, GwSkymap]:
                skymap = a_wave_map(error_deg=error_deg)
                record = a_skymap_record(alert, skymap, blobs=blobs)
                self.maps[record.event_id] = skymap
                return alert, record

            began += [
                *with_map(alert(AlertType.PRELIMINARY, 0), 5.0),
                a_burst_record(frb_id=frb_id, offset_s=offset_s),
            ]
            again: dict[str, Any] = {"frb_id": frb_id, "offset_s": offset_s, "revision": 2}
            match wave % 6:
                case 1:
                    ended += with_map(alert(AlertType.UPDATE, 9), 2.0)
                case 2:
                    retraction = alert(AlertType.RETRACTION, 20)
                    ended += [retraction, a_skymap_record(retraction, None, blobs=blobs)]
                case 3:
                    ended.append(a_burst_record(**again, status=FrbStatus.WITHDRAWN, status_reason="a mistake"))
                case 4:
                    ended.append(a_burst_record(**again, position=ELSEWHERE))
                case 5:
                    ended += [*with_map(alert(AlertType.UPDATE, 9), 3.0), a_burst_record(**again, error_deg=0.5)]
        self.began: Sequence[Event] = began
        self.ended: Sequence[Event] = ended

    def send(self, records: Sequence[Event]) -> None:
        producer = Producer(self.system.client | {"enable.idempotence": True})
        for number, record in enumerate(records):
            out = outgoing(TOPICS[type(record)], record, is_test=False, sender="test")
            for _ in range(2 if number % 7 == 0 else 1):
                producer.produce(
                    TOPICS[type(record)], out.value, out.key.encode(), headers=list(wire_headers(out.headers))
                )
        assert producer.flush(60) == 0

    def is_through(self) -> bool:
        ids = [record.event_id for record in (*self.began, *self.ended)]
        (row,) = self.system.rows(
            "SELECT (SELECT count(*) FROM coincidence.inbox WHERE event_id = ANY($1::uuid[])) AS handled,"
            " (SELECT count(*) FROM coincidence.outbox) AS unsent",
            ids,
        )
        return (row["handled"], row["unsent"]) == (len(set(ids)), 0)

    def check(self) -> None:
        eventually(self.is_through, "every record handled, and every decision told")
        told = self._check_topic()
        # Otherwise nothing was decided, and nothing proved.
        assert {record.coincidence_type for records in told.values() for record in records} == set(KINDS)
        self._check_pairs(told)
        for topic in TOPICS.values():
            assert self.system.records(f"{topic}.dlq.coincidence") == []

    def _check_topic(self) -> dict[str, list[Coincidence]]:
        """What is told of each pair, in order, is a history without gaps."""
        told = defaultdict(list)
        superevents = {superevent_id for superevent_id, _ in self.ids}
        for message, content in self.system.records("mma.coincidences"):
            record = Coincidence.model_validate(content)
            if record.wave.superevent_id in superevents:
                assert message.key == record.coincidence_id.encode()
                told[record.coincidence_id].append(record)
        for name, records in told.items():
            assert [record.revision for record in records] == list(range(1, len(records) + 1)), name
            before = "RETRACTION"
            for record in records:
                assert (record.coincidence_type == "INITIAL") == (before == "RETRACTION"), name
                before = record.coincidence_type
        kept = self.system.rows(
            "SELECT record->>'event_id' AS id FROM coincidence.history WHERE superevent_id = ANY($1)"
            " AND record IS NOT NULL",
            sorted(superevents),
        )
        sent = [str(record.event_id) for records in told.values() for record in records]
        assert Counter(row["id"] for row in kept) == Counter(sent)
        assert max(Counter(sent).values()) == 1
        return told

    def _check_pairs(self, told: dict[str, list[Coincidence]]) -> None:
        """Each pair is where its newest records alone would have it."""
        rows = {
            (row["superevent_id"], row["frb_id"]): row
            for row in self.system.rows(
                "SELECT * FROM coincidence.pairs WHERE superevent_id = ANY($1)", [name for name, _ in self.ids]
            )
        }
        expected = self._expected()
        assert {row["state"] for row in rows.values()} == {"ANNOUNCED", "NOT_ANNOUNCED", "WITHDRAWN"}
        assert rows.keys() == expected.keys()
        for pair, (verdict, scores) in expected.items():
            row, records = rows[pair], told.get(domain.coincidence_id(*pair), [])
            assert (row["state"], row["reason"]) == (verdict.state, verdict.reason), pair
            assert row["is_open"] == (verdict.state is PairState.ANNOUNCED)
            assert row["revision"] == len(records)
            if scores is not None:
                assert row["odds"] == pytest.approx(scores.odds, rel=1e-9, abs=0)
            if records:
                assert (records[-1].coincidence_type == "RETRACTION") == (not row["is_open"])
                assert Coincidence.model_validate_json(row["record"]) == records[-1]

    def _expected(self) -> dict[tuple[str, int], tuple[domain.Verdict, CoincidenceScores | None]]:
        waves: dict[str, Wave] = {}
        bursts: dict[int, domain.Burst] = {}
        for record in (*self.began, *self.ended):
            if isinstance(record, FrbEvent):
                burst = read_burst(record, upload_site=None)
                assert burst is not None
                bursts[record.frb_id] = burst
                continue
            assert isinstance(record, GwAlert | GwSkymap)
            name = record.superevent_id
            wave = waves.get(name) or Wave(superevent_id=name, is_test=False)
            waves[name] = wave.with_alert(record) if isinstance(record, GwAlert) else wave.with_skymap(record)
        expected = {}
        for at, (superevent_id, _) in enumerate(self.ids):
            wave = waves[superevent_id]
            for _, frb_id in self.ids[at // 2 * 2 : at // 2 * 2 + 2]:
                counted = self._scores(wave, bursts[frb_id])
                verdict = domain.judge(wave, bursts[frb_id], counted, SETTINGS)
                expected[superevent_id, frb_id] = (verdict, counted)
        return expected

    def _scores(self, wave: Wave, burst: domain.Burst) -> CoincidenceScores | None:
        if wave.is_retracted or burst.taken_back is not None:
            return None
        assert wave.facts is not None
        assert wave.skymap is not None
        assert burst.facts.localisation is not None
        timing = domain.timing(wave.facts, burst.facts, SETTINGS)
        assert timing is not None
        cells = [part.packed for part in cell_parts(self.maps[wave.skymap.event_id])]
        (sky,) = compare(Comparison(burst.facts.localisation, hint_of(burst), [cells]))
        return domain.scores(wave.facts, timed=timing, sky=sky, settings=SETTINGS)


def _decisions(system: SystemUnderTest) -> int:
    return int(system.rows("SELECT count(*) AS n FROM coincidence.history")[0]["n"])


def test_killed_at_every_point_in_mid_flow_it_decides_everything_once(system: SystemUnderTest) -> None:
    flow = Flow(system)
    records = [*flow.began, *flow.ended]
    points = (("before_commit", 5), ("after_produce", 2), ("after_commit", 5), ("before_offset_commit", 5))
    share = len(records) // len(points)

    # One after the other in one flow: after each death the group takes six seconds to notice.
    for number, dying in enumerate(points):
        victim = system.start("coincidence", dying=dying)
        flow.send(records[number * share : (number + 1) * share])
        victim.wait_killed()
    flow.send(records[len(points) * share :])
    system.start("coincidence")
    flow.check()

    system.stop_services()


def test_killed_during_a_rebalance_it_decides_everything_once(system: SystemUnderTest) -> None:
    flow = Flow(system)
    first = system.start("coincidence", dying=("on_revoke", 1))
    first.wait_ready()

    flow.send(flow.began)
    # When others join, the first has to give partitions up, and dies; the third dies when it gets some.
    system.start("coincidence")
    third = system.start("coincidence", dying=("on_assign", 1))
    first.wait_killed()
    flow.send(flow.ended)
    third.wait_killed()
    flow.check()

    system.stop_services()


def test_without_its_database_and_without_its_broker_it_waits(system: SystemUnderTest) -> None:
    flow = Flow(system)
    service = system.start("coincidence")
    service.wait_ready()
    before = _decisions(system)
    flow.send(flow.began)
    eventually(lambda: _decisions(system) > before + 5, "some decisions")

    system.database.stop()
    eventually(lambda: service.get("/readyz").status_code == 503, "not ready without its database")
    assert service.get("/healthz").status_code == 200
    half = len(flow.ended) // 2
    flow.send(flow.ended[:half])
    system.database.start()
    eventually(lambda: service.is_ready, "ready again")

    system.broker.stop()
    eventually(lambda: service.get("/readyz").status_code == 503, "not ready without its broker")
    assert service.get("/healthz").status_code == 200
    system.broker.start()
    flow.send(flow.ended[half:])
    flow.check()

    assert service.is_alive
    eventually(lambda: service.is_ready, "ready again")
    system.stop_services()
