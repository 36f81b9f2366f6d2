"""notifier dies at any instant, its database and its broker go away: everything is told once, or is said to be unknown.

Every case tells bursts of its own, each new and corrected, on channels of two kinds. Of most of them the
notifier finds out what arrived, or the other side takes a thing once: each delivery is there once. Slack's webhook and
SMTP do not: a delivery that was under way ends UNKNOWN and is not sent again. The TNS is told of a burst once.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest

from shared.kafka.message import Message
from shared.testing import slack, smtp, webhook
from shared.testing.slack import SANDBOX
from tests.support.coincidence import MERGER, a_burst_record
from tests.support.notifier_stand_ins import HOOK, StandIns, publish, standing, write_settings
from tests.support.runtime import eventually, records
from tests.support.system import SystemUnderTest, no_services_left, running_system

__all__ = ["no_services_left"]  # a fixture

CERTAIN, BLIND = ("slack", "webhook", "tns", "voevent", "gcn"), ("slack-hook", "email")
CHANNELS = (*CERTAIN, *BLIND)
GCN_TOPIC = "gcn.notices.tocsin.frb"
BURSTS = 6
LATER_S = 20.0

_numbers = count(1, BURSTS)


@pytest.fixture(scope="module")
def told() -> Iterator[StandIns]:
    with standing() as stand_ins:
        yield stand_ins


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory, told: StandIns) -> Iterator[SystemUnderTest]:
    folder = tmp_path_factory.mktemp("notifier-crashes")
    with running_system(folder) as running:
        channels = told.channels(*CHANNELS)
        next(each for each in channels if each["name"] == "tns")["when"] = "immediately"
        settings = write_settings(folder / "tocsin.yaml", channels, max_age_h=1e6)
        running.environment["TOCSIN_CONFIG"] = settings
        yield running


class Flow:
    """Some bursts, and what came of them."""

    def __init__(self, system: SystemUnderTest, told: StandIns) -> None:
        # Whoever was killed in the case before must have timed out, or the next one waits for its partitions.
        eventually(lambda: system.has_no_members, "a group without members")
        self.system = system
        self.told = told
        first = next(_numbers)
        self.numbers = range(first, first + BURSTS)
        self.subjects = [f"frb/{number}" for number in self.numbers]

    def send(self, *revisions: int) -> None:
        told = [
            a_burst_record(frb_id=each, revision=revision, time_of_arrival=MERGER)
            for revision in revisions
            for each in self.numbers
        ]
        publish(self.system.broker.address, "frb.events", *told)

    def rows(self) -> list[Any]:
        return self.system.rows(
            "SELECT id, channel, subject, revision, state, request FROM notifier.deliveries WHERE subject = ANY($1)"
            " ORDER BY id",
            self.subjects,
        )

    def states(self, *channels: str) -> Counter[str]:
        return Counter(row["state"] for row in self.rows() if row["channel"] in (channels or CHANNELS))

    def is_through(self, revisions: int) -> bool:
        rows = self.rows()
        decided = Counter(row["channel"] for row in rows)
        done = all(row["state"] in ("CONFIRMED", "SUPPRESSED", "UNKNOWN") for row in rows)
        return done and decided == dict.fromkeys(CHANNELS, BURSTS * revisions) | {"tns": BURSTS}

    def check(self, *, revisions: int = 2) -> None:
        """Wait until everything is through; compare what was told with what is recorded."""
        eventually(lambda: self.is_through(revisions), f"everything through: {self.states()}", deadline_s=40)
        eventually(lambda: not self.system.rows("SELECT FROM notifier.outbox"), "everything announced")
        newest = {record["delivery_id"]: record["state"] for _, record in self.system.records("notices.deliveries")}
        rows = self.rows()
        assert {row["id"]: newest[row["id"]] for row in rows} == {row["id"]: row["state"] for row in rows}
        self._check_webhook()
        self._check_slack()
        self._check_tns()
        self._check_voevent()
        self._check_gcn()
        self._check_blind("slack-hook", [str(each["text"]) for each in self.told.slack.posted(HOOK)])
        self._check_blind("email", [each.mail["Message-ID"] for each in self.told.smtp.delivered])
        assert not self.told.slack.problems
        assert not self.told.webhook.refused

    def _check_webhook(self) -> None:
        taken = [
            (each.body["subject"], each.body["revision"])
            for each in self.told.webhook.taken
            if each.body["subject"] in self.subjects
        ]
        # Sent again with the same id, which receivers take once, if at all.
        assert Counter(taken) == Counter((row["subject"], row["revision"]) for row in self._of("webhook", "CONFIRMED"))
        for subject in self.subjects:
            assert [revision for found, revision in taken if found == subject] == sorted(
                revision for found, revision in taken if found == subject
            )

    def _check_slack(self) -> None:
        messages = self.told.slack.messages[SANDBOX].values()
        of_deliveries = Counter(each["metadata"]["event_payload"]["delivery"] for each in messages)
        expected = [row["request"]["delivery"] for row in self._of("slack", "CONFIRMED")]
        assert {delivery: of_deliveries[delivery] for delivery in expected} == dict.fromkeys(expected, 1)
        posted = Counter(number for each in self.told.slack.posted(SANDBOX) for number in self._named(each["text"]))
        assert posted == dict.fromkeys(self.numbers, 1), "one message for each burst, whatever happens"

    def _check_tns(self) -> None:
        reported = Counter(report["internal_name"] for report in self.told.tns.submissions)
        expected = [row["request"]["internal_name"] for row in self._of("tns", "CONFIRMED")]
        assert {name: reported[name] for name in expected} == dict.fromkeys(expected, 1)
        assert len(expected) == BURSTS

    def _check_voevent(self) -> None:
        # Sent again with the same ivorn, which brokers drop.
        taken = Counter(self.told.broker.ivorns)
        expected = [row["request"]["ivorn"] for row in self._of("voevent", "CONFIRMED")]
        assert {ivorn: taken[ivorn] for ivorn in expected} == dict.fromkeys(expected, 1)

    def _check_gcn(self) -> None:
        found = Counter(dict(message.headers)["_id"].hex() for message in self._gcn_messages())
        expected = [row["request"]["id"] for row in self._of("gcn", "CONFIRMED")]
        assert {each: found[each] for each in expected} == dict.fromkeys(expected, 1)

    def _gcn_messages(self) -> list[Message]:
        return records(self.system.broker.address, GCN_TOPIC)

    def _named(self, text: str) -> list[int]:
        return [number for number in self.numbers if f"(ID:{number})" in text]

    def _check_blind(self, channel: str, arrived: list[str]) -> None:
        times = Counter(arrived)

        def key(row: Any) -> str:
            request = row["request"]
            return str(request["message_id"] if channel == "email" else request["message"]["text"])

        confirmed, unknown = (
            Counter(key(row) for row in self._of(channel, state)) for state in ("CONFIRMED", "UNKNOWN")
        )
        # What follows a delivery of which nobody knows whether it arrived may say the same: each arrived once at most.
        for text in confirmed | unknown:
            assert confirmed[text] <= times[text] <= confirmed[text] + unknown[text], text

    def _of(self, channel: str, state: str) -> list[dict[str, Any]]:
        return [
            {**row, "request": json.loads(row["request"])}
            for row in self.rows()
            if (row["channel"], row["state"]) == (channel, state)
        ]


@pytest.mark.parametrize(
    ("point", "after"), [("decided", 4), ("after_commit", 1), ("before_request", 9), ("answered", 9)]
)
def test_a_notifier_that_dies_tells_nothing_twice_and_loses_nothing(
    system: SystemUnderTest, told: StandIns, point: str, after: int
) -> None:
    flow = Flow(system, told)
    dying = system.start("notifier", dying=(point, after))
    flow.send(1, 2)
    dying.wait_killed()
    interrupted = flow.states()["SENDING"]
    # The others: senders may have been at work on what other batches decided, or not.
    assert interrupted > 0 or point in ("decided", "after_commit")

    restarted = system.start("notifier")
    flow.check()

    assert flow.states(*CERTAIN)["UNKNOWN"] == 0
    assert flow.states(*BLIND)["UNKNOWN"] <= interrupted
    restarted.stop()


def test_a_notifier_that_dies_while_it_waits_for_answers_finds_out_or_says_that_it_cannot(
    system: SystemUnderTest, told: StandIns, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slack, "SLOW_S", LATER_S)
    monkeypatch.setattr(webhook, "SLOW_S", LATER_S)
    flow = Flow(system, told)
    dying = system.start("notifier")
    dying.wait_ready()
    told.do(lambda: told.slack.will(slack.Fault.SLOW, "chat.postMessage"))
    told.do(lambda: told.slack.will(slack.Fault.SLOW, "services"))
    told.do(lambda: told.webhook.faults.append(webhook.Fault.SLOW))
    told.do(lambda: told.smtp.faults.append(smtp.Fault.SILENT))

    def arrived() -> list[int]:
        slacks = [len(told.slack.posted(channel)) for channel in (SANDBOX, HOOK)]
        return [len(told.webhook.taken), len(told.smtp.delivered), *slacks]

    before = arrived()
    flow.send(1)
    eventually(
        lambda: all(now > then for now, then in zip(arrived(), before, strict=True)), "all channels wait for an answer"
    )
    assert flow.states("slack", "webhook", *BLIND)["SENDING"] == 4
    dying.process.kill()
    dying.process.wait()

    restarted = system.start("notifier")
    flow.check(revisions=1)

    assert flow.states(*CERTAIN) == {"CONFIRMED": len(CERTAIN) * BURSTS}
    assert flow.states(*BLIND) == {"CONFIRMED": 2 * (BURSTS - 1), "UNKNOWN": 2}
    restarted.stop()


def test_outages_of_the_database_and_of_the_broker_are_waited_out(system: SystemUnderTest, told: StandIns) -> None:
    flow = Flow(system, told)
    notifier = system.start("notifier")
    notifier.wait_ready()

    flow.send(1)
    eventually(lambda: flow.states()["CONFIRMED"] > 0, "the first ones told")
    system.database.stop()
    flow.send(2)
    system.database.start()
    eventually(lambda: flow.is_through(2), "everything told after the database came back")
    system.broker.stop()
    system.broker.start()
    flow.send(3)
    flow.check(revisions=3)

    assert notifier.is_alive
    notifier.stop()
