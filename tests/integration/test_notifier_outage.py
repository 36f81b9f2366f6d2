"""All channels fail for ten minutes: nothing grows, uploads are as fast as ever, and then all is told, in order.

A minute is a second here, for the notifier's rests between its tries.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import asyncpg
import httpx
import psutil
from confluent_kafka.admin import AdminClient

from cli.topics import create_missing
from services.notifier.dispatcher import GIVES_WAY_EVERY
from shared.settings import KafkaSettings
from shared.testing import slack, smtp, tns, webhook
from shared.testing.slack import SANDBOX
from shared.testing.vtp import Behaviour
from tests.support.frb_intake import EVENTS, IntakeUnderTest, a_burst
from tests.support.hasty_notifier import TIMES_FASTER
from tests.support.notifier_stand_ins import StandIns, standing, write_settings
from tests.support.runtime import eventually
from tests.support.system import ServiceUnderTest, SystemUnderTest, running_system

CHANNELS = ("slack", "slack-hook", "tns", "voevent", "gcn", "email", "webhook")
OUTAGE_S = 600 / TIMES_FASTER
BURSTS = 100
# Each is uploaded and measured again: two events.
MAX_SNR = 160.0
# Of the first that is measured again; each is quieter than the one before.
LOUD = 10
# So many of them are told on gcn as well, where every notice is read back.
GCN_TOPIC = "gcn.notices.tocsin.frb"
FAULTS = 100_000
MIB = 2**20


def fail(told: StandIns) -> None:
    """Have everybody but the broker refuse everything for the moment."""
    told.slack.faults.extend([(slack.Fault.UNAVAILABLE, None)] * FAULTS)
    told.webhook.faults.extend([webhook.Fault.UNAVAILABLE] * FAULTS)
    told.smtp.faults.extend([smtp.Fault.BUSY] * FAULTS)
    told.tns.trouble["report"].extend([tns.Trouble.UNAVAILABLE] * FAULTS)
    told.broker.usually = Behaviour.DISCONNECT


def recover(told: StandIns) -> None:
    for faults in (told.slack.faults, told.webhook.faults, told.smtp.faults, told.tns.trouble["report"]):
        faults.clear()
    told.broker.usually = Behaviour.ACK


@dataclass
class Outage:
    """A run through an outage, and what was measured."""

    system: SystemUnderTest
    notifier: ServiceUnderTest
    told: StandIns
    http: httpx.Client
    numbers: list[int] = field(default_factory=list)

    def upload(self, bursts: int) -> list[float]:
        """Upload bursts, and measure each again; return how long each request took (s)."""
        took_s = []
        numbers: list[int] = []
        for path, count in ((EVENTS, bursts), ("measurements", bursts)):
            for index in range(count):
                body = a_burst(repeater=False) if path == EVENTS else a_burst(sn=MAX_SNR - index)["measurement"]
                place = path if path == EVENTS else f"{EVENTS}/{numbers[index]}/{path}"
                began = time.perf_counter()
                answer = self.http.post(place, json=body)
                took_s.append(time.perf_counter() - began)
                assert answer.status_code == 201, answer.text
                if path == EVENTS:
                    numbers.append(answer.json()["id"])
        self.numbers = numbers
        return took_s

    def take_away(self, topic: str) -> None:
        client = AdminClient(self.system.client)
        client.delete_topics([topic])[topic].result(10)

    def rows(self, channel: str | None = None) -> list[asyncpg.Record]:
        """The deliveries of the newest uploads, in the order of their decisions."""
        return self.system.rows(
            "SELECT subject, revision, state, attempts FROM notifier.deliveries"
            " WHERE subject = ANY($1) AND ($2::text IS NULL OR channel = $2) ORDER BY id",
            [f"frb/{number}" for number in self.numbers],
            channel,
        )

    def states(self) -> Counter[str]:
        return Counter(row["state"] for row in self.rows())

    def decisions(self, channel: str) -> list[tuple[str, int]]:
        return [(row["subject"], row["revision"]) for row in self.rows(channel)]

    def resident_mib(self) -> float:
        return float(psutil.Process(self.notifier.process.pid).memory_info().rss / MIB)

    def wait_decided(self) -> None:
        eventually(lambda: len(self.rows("webhook")) == 2 * len(self.numbers), "everything decided")

    def wait_told(self, deadline_s: float) -> None:
        def look() -> bool:
            states = self.states()
            return not any(states[state] for state in ("PENDING", "SENDING", "SENT"))

        eventually(look, "everything told", deadline_s=deadline_s)


@contextmanager
def running(folder: Path) -> Iterator[Outage]:
    with standing() as told, running_system(folder) as system:
        channels = {each["name"]: each for each in told.channels(*CHANNELS)}
        channels["tns"] |= {"when": "immediately"}
        channels["gcn"] |= {"timeout_s": 3.0}
        rules = [{"channel": name} for name in CHANNELS if name != "gcn"]
        rules.append({"channel": "gcn", "min_snr": MAX_SNR - LOUD + 1})
        settings = write_settings(folder / "tocsin.yaml", [*channels.values()], rules=rules, max_age_h=1e6)
        system.environment["TOCSIN_CONFIG"] = settings
        service, notifier = system.start("frb_intake"), system.start("notifier", hasty=True)
        service.wait_ready()
        notifier.wait_ready()
        intake = IntakeUnderTest(system, service)
        with closing(intake.client(intake.add_user())) as http:
            yield Outage(system, notifier, told, http)


def test_ten_minutes_without_any_channel_lose_nothing_and_hold_up_nobody(tmp_path: Path) -> None:
    with running(tmp_path) as outage:
        told = outage.told
        well_s = median(outage.upload(BURSTS // 5))
        outage.wait_decided()
        outage.wait_told(30)
        webhooks_before, posts_before = len(told.webhook.taken), len(told.slack.posted(SANDBOX))

        told.do(lambda: fail(told))
        outage.take_away(GCN_TOPIC)
        began, before_mib = time.monotonic(), outage.resident_mib()
        failing_s = median(outage.upload(BURSTS))
        outage.wait_decided()
        eventually(lambda: time.monotonic() > began + OUTAGE_S, "the outage over")
        after_mib = outage.resident_mib()
        assert set(outage.states()) <= {"PENDING", "SENDING", "SUPPRESSED"}
        told.do(lambda: recover(told))
        create_missing(KafkaSettings(bootstrap_servers=outage.system.broker.address))
        submissions_before = told.tns.requests.count("report")
        outage.wait_told(60)

        assert outage.states().keys() == {"CONFIRMED", "SUPPRESSED"}
        assert after_mib < before_mib + 30
        assert failing_s < 2 * well_s
        heard = [(each.body["subject"], each.body["revision"]) for each in told.webhook.taken[webhooks_before:]]
        # One that was tried in vain gives way now and then, for it may be the one that is never taken.
        gave_way = {row["subject"] for row in outage.rows("webhook") if row["attempts"] >= GIVES_WAY_EVERY}
        assert len(gave_way) < BURSTS / 10
        decided = outage.decisions("webhook")
        assert Counter(heard) == Counter(decided)
        assert [each for each in heard if each[0] not in gave_way] == [
            each for each in decided if each[0] not in gave_way
        ]
        assert all(heard.index((subject, 1)) < heard.index((subject, 2)) for subject in gave_way)
        posted = told.slack.posted(SANDBOX)[posts_before:]
        assert len(posted) == BURSTS, "one message for each burst"
        assert Counter(each["internal_name"] for each in told.tns.submissions).most_common(1)[0][1] == 1
        assert len(told.tns.submissions) == BURSTS // 5 + BURSTS
        assert told.tns.requests.count("report") - submissions_before <= 10, "what waited was reported together"
        noticed = [row for row in outage.rows("gcn") if row["state"] == "CONFIRMED"]
        assert len(noticed) == LOUD
        assert max(row["attempts"] for row in noticed) > 1
        told_at_once = [row for row in outage.rows("slack") if row["state"] == "SUPPRESSED"]
        assert len(told_at_once) >= BURSTS - 2, "what nobody had heard of is told as it is now"
