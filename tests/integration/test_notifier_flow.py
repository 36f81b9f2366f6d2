"""One burst's story from its upload to its withdrawal, with all services and everybody whom the notifier tells."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from lxml import etree

from shared.physics.dispersion import dispersion_delay_s
from shared.testing import slack
from shared.testing.slack import SANDBOX, SIGNING_SECRET
from tests.support.alerts import a_skymap, alert_content, an_event, as_avro, iso
from tests.support.command_line import Outcome, tocsin
from tests.support.frb_intake import EVENTS, PASSWORD, IntakeUnderTest, a_burst
from tests.support.notifier_stand_ins import HOOK, SECRETS, StandIns, standing, write_settings
from tests.support.runtime import eventually, records, send
from tests.support.system import ServiceUnderTest, running_system

SUPEREVENT = "S261121xx"
WAVE = f"gw/{SUPEREVENT}"
CELL_0 = (45.0, 41.8103149)
# Centre of the likeliest cell of the map that `a_skymap` makes.
DM, FREQUENCY_MHZ = 411.0, 1400.0
TNS_NAME = "FRB 20261121A"


@dataclass
class Story:
    """What everybody was told by its end."""

    intake: IntakeUnderTest
    notifier: ServiceUnderTest
    told: StandIns
    http: httpx.Client
    user: str
    number: int = 0
    drilled: Outcome | None = None

    @property
    def burst(self) -> str:
        return f"frb/{self.number}"

    @property
    def pair(self) -> str:
        return f"mma/{SUPEREVENT}-{self.number}"

    def rows_of(self, channel: str, subject: str) -> list[asyncpg.Record]:
        """The deliveries of a subject on a channel, in order."""
        return self.intake.system.rows(
            "SELECT * FROM notifier.deliveries WHERE channel = $1 AND subject = $2 ORDER BY revision", channel, subject
        )

    def is_told(self, subject: str, action: str) -> None:
        """Wait until that is through on every channel. Those that show states may tell a later one instead."""

        def look() -> bool:
            rows = self.intake.system.rows(
                "SELECT channel, action, state FROM notifier.deliveries WHERE subject = $1", subject
            )
            waiting = any(row["state"] in ("PENDING", "SENDING", "SENT") for row in rows)
            return not waiting and ("webhook", action, "CONFIRMED") in map(tuple, rows)

        eventually(look, f"{action} of {subject}", deadline_s=20)

    def records_on(self, topic: str, key: str) -> list[bytes]:
        found = records(self.intake.system.broker.address, topic)
        return [message.value for message in found if (message.key or b"").decode() == key]

    def hears(self, stage: str, *, minute: int, merger: datetime, **content: Any) -> None:
        alert = alert_content(
            superevent_id=SUPEREVENT, alert_type=stage, time_created=merger + timedelta(minutes=minute), **content
        )
        send(self.intake.system.broker.address, "igwn.gwalert", as_avro(alert))

    def run(self) -> None:
        """Let it happen."""
        merger = datetime.now(UTC) - timedelta(minutes=10)
        event = an_event(time=iso(merger), skymap=a_skymap(peak=0, distance_mpc=466.0))
        self.hears("PRELIMINARY", minute=1, merger=merger, event=event)
        self.is_told(WAVE, "UPDATE")

        arrival = merger + timedelta(seconds=3 + float(dispersion_delay_s(DM, FREQUENCY_MHZ)))
        body = a_burst(
            time_of_arrival=arrival.isoformat(), repeater=False, is_test=False, ra=CELL_0[0], dec=CELL_0[1], dm=DM,
            ra_err=0.1, dec_err=0.1, z=0.0982,
        )  # fmt: skip
        self.number = self.posted(EVENTS, body)["id"]
        self.is_told(self.pair, "NEW")
        self.is_told(self.burst, "NEW")

        (message,) = [each for each in self.told.slack.posted(SANDBOX) if "New FRB" in each["text"]]
        press = slack.press("action_confirm", str(self.number), message=message, channel=SANDBOX)
        address = f"http://127.0.0.1:{self.intake.service.port}/slack/interactions"
        assert httpx.post(address, content=press.body, headers=press.headers).status_code == 200
        eventually(lambda: TNS_NAME in self.text_of_burst(), "the name in Slack's message")

        self.posted(f"{EVENTS}/{self.number}/withdrawal", {"reason": "the cables & plugs were swapped"})
        self.is_told(self.burst, "RETRACTION")
        self.is_told(self.pair, "RETRACTION")
        self.hears("RETRACTION", minute=9, merger=merger)
        self.is_told(WAVE, "RETRACTION")

        self.drilled = tocsin("drill", "--server", f"http://127.0.0.1:{self.intake.service.port}", env=self.environment)

    @property
    def environment(self) -> dict[str, str]:
        account = {"FRB_USER": self.user, "FRB_PASS": PASSWORD, "COLUMNS": "200", "NO_COLOR": "1"}
        return {**os.environ, **self.intake.system.environment, **account}

    def posted(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = self.http.post(path, json=body)
        assert answer.status_code == 201, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def text_of_burst(self) -> str:
        """What Slack shows of the burst now, all of it."""
        shown = self.told.slack.posted(SANDBOX)
        return str([each for each in shown if f"ID:{self.number})" in each["text"]])


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    folder: Path = tmp_path_factory.mktemp("flow")
    with standing() as told, running_system(folder) as system:
        world = {**told.channels("webhook", mode="PRODUCTION")[0], "name": "world"}
        system.environment |= {
            "TOCSIN_CONFIG": write_settings(folder / "tocsin.yaml", [*told.channels(), world]),
            "TOCSIN_FRB_INTAKE__SLACK_SIGNING_SECRET": SIGNING_SECRET,
            "TOCSIN_FRB_INTAKE__CONFIRM_VOTES": "1",
            "TOCSIN_FRB_INTAKE__NAMES_FROM_SANDBOX": "true",
        }
        names = ("frb_intake", "notifier", "gw_listener", "skymap_parser", "coincidence")
        services = [system.start(name) for name in names]
        for service in services:
            service.wait_ready()
        intake = IntakeUnderTest(system, services[0])
        user = intake.add_user()
        with closing(intake.client(user)) as http:
            told_story = Story(intake, services[1], told, http, user)
            told_story.run()
            yield told_story


def test_slack_shows_the_newest_state_in_one_message_and_the_changes_in_its_thread(story: Story) -> None:
    workspace = story.told.slack
    (message,) = [each for each in workspace.posted(SANDBOX) if f"ID:{story.number})" in each["text"]]
    assert "WITHDRAWN" in message["text"]
    shown = str(message["blocks"])
    assert TNS_NAME in shown
    assert "1 confirm, 0 reject, 0 unsure" in shown
    assert "actions" not in [block["type"] for block in message["blocks"]], "nobody votes on what is withdrawn"
    thread = [each for each in workspace.replies(SANDBOX) if each["thread_ts"] == message["ts"]]
    changes = " ".join(each["text"] for each in thread)
    assert "candidate → confirmed" in changes
    assert f"TNS name: not known → {TNS_NAME}" in changes
    assert [each["reply_broadcast"] for each in thread][-1] is True, "who read the news must hear of its end"
    assert sum(f"ID:{story.number})" in each["text"] for each in workspace.posted(HOOK)) > 2, (
        "a webhook changes nothing"
    )
    assert not workspace.problems


def test_the_tns_had_the_confirmed_burst_once_and_its_name_came_back(story: Story) -> None:
    (report,) = story.told.tns.submissions
    assert report["internal_name"] == f"TOCSIN-FRB-{story.number}"
    records_of_burst = story.intake.records_of(story.number)
    named = [record for record in records_of_burst if record["change"] == "NAMED"]
    assert [(record["tns_name"], record["changed_by"]) for record in named] == [(TNS_NAME, "tns")]
    rows = story.rows_of("tns", story.burst)
    assert [(row["action"], row["state"]) for row in rows] == [("NEW", "CONFIRMED"), ("RETRACTION", "FAILED")]
    assert rows[0]["tns_name"] == TNS_NAME
    assert TNS_NAME in rows[1]["reason"], "a person takes it back there, and is told which"


def test_voevents_cite_what_they_replace_and_what_they_take_back(story: Story) -> None:
    broker = story.told.broker
    assert broker.refused == []
    packets = [etree.fromstring(data) for data in broker.accepted]
    assert {packet.get("role") for packet in packets} == {"test"}, "the sandbox is told nothing as if it were real"
    for subject, kinds in ((story.burst, ["new", "supersedes", "retraction"]), (story.pair, None)):
        ivorns = [row["reference"] for row in story.rows_of("voevent", subject) if row["state"] == "CONFIRMED"]
        told = [packet for ivorn in ivorns for packet in packets if packet.get("ivorn") == ivorn]
        cited = [{each.get("cite"): each.text for each in packet.iter("EventIVORN")} for packet in told]
        found = [next(iter(each), "new") for each in cited]
        # How often the coincidence was compared again on the way depends on what came first.
        assert found == (kinds or ["new", *["supersedes"] * (len(told) - 2), "retraction"])
        assert {each.text for each in told[-1].iter("EventIVORN")} == set(ivorns[:-1])


def test_mails_of_a_subject_are_one_thread(story: Story) -> None:
    mails = [each.mail for each in story.told.smtp.delivered if each.mail["X-Tocsin-Subject"] == story.burst]
    first, last = mails[0], mails[-1]
    assert "(new)" in first["Subject"]
    assert "In-Reply-To" not in first
    assert "RETRACTED" in last["Subject"]
    assert first["Message-ID"] in last["References"]
    body = last.get_body(("html",))
    assert body is not None
    assert "cables &amp; plugs" in body.get_content(), "what people write is text, not markup"
    assert {each.recipients for each in story.told.smtp.delivered} == {("me@observatory.example",)}


def test_a_webhook_gets_everything_in_order_and_once(story: Story) -> None:
    receiver = story.told.webhook
    assert (receiver.refused, receiver.duplicates) == ([], [])
    for subject, kind in ((story.burst, "burst"), (story.pair, "coincidence"), (WAVE, None)):
        told = [each.body for each in receiver.taken if each.body["subject"] == subject]
        assert [each["revision"] for each in told] == list(range(1, len(told) + 1))
        actions = [each["action"] for each in told]
        assert actions == ["new", *["update"] * (len(told) - 2), "retraction"]
        if kind is not None:
            assert {each["type"].partition(".")[0] for each in told} == {kind}


def test_kafka_notices_say_that_the_sandbox_is_a_test(story: Story) -> None:
    topic = "gcn.notices.tocsin.frb"
    found = records(story.intake.system.broker.address, topic)
    assert all(dict(message.headers)["_test"] == b"true" for message in found)
    told = [value.decode() for value in story.records_on(topic, f"TOCSIN-FRB-{story.number}")]
    assert ['"alert_type": "initial"' in told[0], '"alert_type": "retraction"' in told[-1]] == [True, True]
    assert len(story.records_on("gcn.notices.tocsin.coincidence", f"{SUPEREVENT}-{story.number}")) >= 2


def test_test_traffic_never_reaches_production(story: Story) -> None:
    world = story.told.world
    assert world.refused == []
    assert {each.body["subject"] for each in world.taken} == {WAVE, story.burst, story.pair}, "the real is told"
    assert not any(each.body["is_test"] for each in world.taken)
    assert not any(story.told.slack.messages[slack.CHANNEL].values())


def test_a_drill_tells_how_each_channel_was_reached(story: Story) -> None:
    assert story.drilled is not None
    assert story.drilled.code == 0, story.drilled
    lines = [line.split() for line in story.drilled.out.splitlines()[1:]]
    states = {line[0]: line[2] for line in lines}
    reached = dict.fromkeys(("slack", "slack-hook", "voevent", "gcn", "email", "webhook"), "CONFIRMED")
    assert states == {**reached, "world": "SUPPRESSED"}


def test_what_became_of_each_delivery_is_announced_for_any_reader(story: Story) -> None:
    announced = story.intake.system.records("notices.deliveries")
    rows = story.intake.system.rows("SELECT id, state FROM notifier.deliveries")
    newest = {record["delivery_id"]: record["state"] for _, record in announced}
    assert newest == {row["id"]: row["state"] for row in rows}
    assert max(Counter(record["event_id"] for _, record in announced).values()) == 1
    for message, record in announced:
        assert (dict(message.headers).get("_test") == b"true") == record["is_test"]


def test_no_secret_is_in_a_log_a_delivery_or_a_command(story: Story) -> None:
    logs = {service.name: service.log.read_text() for service in story.intake.system.started}
    kept = "\n".join(str(dict(row)) for row in story.intake.system.rows("SELECT * FROM notifier.deliveries"))
    listed = tocsin("notices", "list", "--json", "--limit", "500", env=story.environment)
    assert len(listed.json()) == len(story.intake.system.rows("SELECT FROM notifier.deliveries"))
    shown = tocsin("notices", "show", str(listed.json()[-1]["id"]), env=story.environment)
    assert "request" in shown.out
    for secret in SECRETS:
        assert [name for name, log in logs.items() if secret in log] == []
        assert secret not in kept + listed.out + shown.out + shown.err
    assert '"level": "error"' not in logs["notifier"]


def test_the_service_says_that_it_is_well(story: Story) -> None:
    status = story.notifier.get("/status").json()
    assert {consumer["topic"] for consumer in status["consumers"]} == {
        "frb.events", "gw.alerts", "gw.skymaps", "mma.coincidences"
    }  # fmt: skip
    assert [consumer["dead_letters"] for consumer in status["consumers"]] == [0] * 4
    assert status["outbox_waiting"] is None
