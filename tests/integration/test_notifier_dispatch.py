"""Each thing is told once on each channel, in order, whatever happens; what may have arrived is not sent blindly."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from typer.testing import CliRunner

from cli.notices import app
from services.notifier import dispatcher
from services.notifier.channels.channel import Answer, TooManyRequestsError, UncertainError
from services.notifier.domain import Decision
from services.notifier.happenings import read_happening
from services.notifier.rules import Rule
from services.notifier.store import NotifierStore
from shared.db.unit_of_work import unit_of_work
from shared.errors import PermanentError, TransientError
from shared.events.frb import FrbStatus
from shared.events.gw import AlertType
from shared.events.mma import Coincidence
from shared.events.notices import ChannelMode, Delivery, DeliveryAction
from shared.schema.codec import decode
from shared.settings import DatabaseSettings
from tests.support import notifier_schema
from tests.support.coincidence import a_burst_record, an_alert
from tests.support.notifier import SENT, FakeChannel, NotifierUnderTest

database, pool, short_pauses = notifier_schema.database, notifier_schema.pool, notifier_schema.short_pauses

BURSTS, ALERTS = "frb.events", "gw.alerts"
EXAMPLE = Path(__file__).parents[2] / "schemas" / "examples" / "coincidence" / "v1" / "initial.json"


def told(channel: FakeChannel) -> list[tuple[str, int, str]]:
    return [(request["subject"], request["revision"], request["action"]) for request in channel.received]


async def test_what_happens_is_told_once_and_in_order(pool: asyncpg.Pool, database: DatabaseSettings) -> None:
    fake = FakeChannel()
    notifier = NotifierUnderTest(pool, database, fake)

    async with notifier.sending():
        await notifier.take(BURSTS, a_burst_record(), a_burst_record(), a_burst_record(revision=2))
        await notifier.take(ALERTS, an_alert())
        await notifier.until("CONFIRMED", "CONFIRMED", "CONFIRMED")

    assert told(fake) == [("frb/7", 1, "NEW"), ("frb/7", 2, "UPDATE"), ("gw/S261121ab", 1, "NEW")]
    assert [request["earlier"] for request in fake.received] == [[], ["there"], []]
    assert [state for state in await announced(pool) if state != "PENDING"] == ["CONFIRMED"] * 3


async def announced(pool: asyncpg.Pool) -> list[str]:
    rows = await pool.fetch("SELECT value FROM outbox WHERE topic = 'notices.deliveries' ORDER BY id")
    return [str(decode(row["value"], Delivery).state) for row in rows]


async def test_what_nothing_stands_before_is_being_sent_as_soon_as_it_is_decided(
    pool: asyncpg.Pool, database: DatabaseSettings
) -> None:
    fake = FakeChannel()
    notifier = NotifierUnderTest(pool, database, fake)

    async with notifier.sending():
        await notifier.idle()
        fake.gate = asyncio.Event()
        async with unit_of_work(pool) as work:
            happening = read_happening(BURSTS, a_burst_record())
            assert happening is not None
            await notifier.handler.on_happening(happening, work)
            assert fake.received == [], "nothing leaves before the commit"
        assert await notifier.states() == ["SENDING"]
        await notifier.take(BURSTS, a_burst_record(frb_id=8), a_burst_record(revision=2))
        assert await notifier.states() == ["SENDING", "PENDING", "PENDING"]
        fake.gate.set()
        await notifier.until("CONFIRMED", "CONFIRMED", "CONFIRMED")

    assert told(fake) == [("frb/7", 1, "NEW"), ("frb/8", 1, "NEW"), ("frb/7", 2, "UPDATE")]
    assert await announced(pool) == ["PENDING", "PENDING", "CONFIRMED", "CONFIRMED", "CONFIRMED"]


async def test_what_is_undone_after_it_was_decided_is_not_sent_and_comes_again(
    pool: asyncpg.Pool, database: DatabaseSettings
) -> None:
    fake = FakeChannel()
    notifier = NotifierUnderTest(pool, database, fake)
    happening = read_happening(BURSTS, a_burst_record())
    assert happening is not None

    async with notifier.sending():
        await notifier.idle()
        with pytest.raises(TransientError):
            async with unit_of_work(pool) as work:
                await notifier.handler.on_happening(happening, work)
                raise TransientError("the database went away")
        await notifier.take(BURSTS, a_burst_record())
        await notifier.until("CONFIRMED")

    assert told(fake) == [("frb/7", 1, "NEW")]


async def test_an_outage_delays_nobody_else_and_loses_nothing(pool: asyncpg.Pool, database: DatabaseSettings) -> None:
    down, well = FakeChannel("fake", does=[TransientError("away")] * 14), FakeChannel("well")
    notifier = NotifierUnderTest(pool, database, down, well)

    async with notifier.sending():
        await notifier.take(BURSTS, *(a_burst_record(frb_id=number) for number in range(1, 6)))
        await notifier.until(*["CONFIRMED"] * 5, channel="well")
        await notifier.until(*["CONFIRMED"] * 5)

    assert [request["subject"] for request in down.received] == [f"frb/{number}" for number in range(1, 6)]
    assert max(await pool.fetchval("SELECT array_agg(attempts) FROM deliveries WHERE channel = 'fake'")) > 1


async def test_an_idle_sender_notices_that_its_connection_is_gone(
    pool: asyncpg.Pool, database: DatabaseSettings
) -> None:
    notifier = NotifierUnderTest(pool, database, FakeChannel())

    async with notifier.sending():
        await notifier.take(BURSTS, a_burst_record())
        await notifier.until("CONFIRMED")
        await pool.execute("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'")
        await notifier.take(BURSTS, a_burst_record(frb_id=8))
        await notifier.until("CONFIRMED", "CONFIRMED", deadline_s=dispatcher.IDLE_S / 3)


async def test_one_that_is_never_taken_lets_the_others_through(pool: asyncpg.Pool, database: DatabaseSettings) -> None:
    fake = FakeChannel(refuses="frb/1")
    notifier = NotifierUnderTest(pool, database, fake)

    async with notifier.sending():
        await notifier.take(BURSTS, *(a_burst_record(frb_id=number) for number in range(1, 4)))
        await notifier.until("PENDING", "CONFIRMED", "CONFIRMED")

    assert [request["subject"] for request in fake.received] == ["frb/2", "frb/3"]


async def test_nothing_overtakes_what_waits_of_the_same_subject(pool: asyncpg.Pool, database: DatabaseSettings) -> None:
    fake = FakeChannel(does=[TransientError("away")])
    notifier = NotifierUnderTest(pool, database, fake)
    await notifier.take(BURSTS, a_burst_record(), a_burst_record(revision=2))
    await notifier.take(BURSTS, a_burst_record(frb_id=8))

    async with notifier.sending():
        await notifier.until("CONFIRMED", "CONFIRMED", "CONFIRMED")

    of_seven = [entry for entry in told(fake) if entry[0] == "frb/7"]
    assert of_seven == [("frb/7", 1, "NEW"), ("frb/7", 2, "UPDATE")]


@pytest.mark.parametrize(
    ("found", "state", "times"),
    [
        (SENT, "CONFIRMED", 0),
        (None, "CONFIRMED", 1),
        (UncertainError("nobody can tell"), "UNKNOWN", 0),
        (PermanentError("it never will"), "FAILED", 0),
        (ZeroDivisionError("a bug"), "UNKNOWN", 0),
    ],
)
async def test_an_answer_that_never_came_is_asked_for_and_nothing_is_sent_blindly(
    pool: asyncpg.Pool, database: DatabaseSettings, found: Any, state: str, times: int
) -> None:
    fake = FakeChannel(does=[UncertainError("no answer")], checks=[found])
    notifier = NotifierUnderTest(pool, database, fake)

    async with notifier.sending():
        await notifier.take(BURSTS, a_burst_record())
        await notifier.until(state)

    assert len(fake.received) == times


@pytest.mark.parametrize(("found", "times"), [(SENT, 0), (None, 1)])
async def test_what_was_being_sent_when_the_process_died_is_asked_for(
    pool: asyncpg.Pool, database: DatabaseSettings, found: Any, times: int
) -> None:
    fake = FakeChannel(gate=asyncio.Event())
    notifier = NotifierUnderTest(pool, database, fake)
    async with notifier.sending():
        await notifier.take(BURSTS, a_burst_record())
        await asyncio.wait_for(fake.under_way.wait(), 20)
    assert await notifier.states() == ["SENDING"]

    fake.gate, fake.checks = None, [found]
    async with notifier.sending():
        await notifier.until("CONFIRMED")

    assert len(fake.received) == times


async def test_a_retraction_of_what_was_never_told_silences_both(
    pool: asyncpg.Pool, database: DatabaseSettings
) -> None:
    fake = FakeChannel()
    notifier = NotifierUnderTest(pool, database, fake)
    await notifier.take(BURSTS, a_burst_record(), a_burst_record(revision=2, status=FrbStatus.WITHDRAWN))

    async with notifier.sending():
        await notifier.until("SUPPRESSED", "SUPPRESSED")

    assert fake.received == []


async def test_what_is_sent_and_what_is_silenced_exclude_each_other(
    pool: asyncpg.Pool, database: DatabaseSettings
) -> None:
    fake = FakeChannel()
    await NotifierUnderTest(pool, database, fake).take(BURSTS, a_burst_record())
    retraction = read_happening(BURSTS, a_burst_record(status=FrbStatus.WITHDRAWN, revision=2))
    assert retraction is not None

    async with unit_of_work(pool) as silencing:
        await silencing.fetch("UPDATE deliveries SET state = 'SUPPRESSED'")
        async with unit_of_work(pool) as sending:
            assert await NotifierStore(sending, sender="test").due("fake", at_most=1) == []
        await silencing.fetch("UPDATE deliveries SET state = 'SENDING', attempts = 1")

    with pytest.raises(TransientError, match="decided anew"):
        async with unit_of_work(pool) as silencing:
            store = NotifierStore(silencing, sender="test")
            store.add_happening(retraction)
            needless = [row.delivery_id for row in (await store.earlier(retraction.subject))["fake"]]
            decision = Decision("fake", DeliveryAction.RETRACTION, "nobody heard of it", tuple(needless))
            await store.add(retraction, decision, cause=retraction, channel=fake, mode=ChannelMode.SANDBOX, revision=2)
    assert await pool.fetchval("SELECT count(*) FROM deliveries") == 1


async def test_a_retraction_of_what_may_be_out_follows_it(pool: asyncpg.Pool, database: DatabaseSettings) -> None:
    fake = FakeChannel(gate=asyncio.Event())
    notifier = NotifierUnderTest(pool, database, fake)

    async with notifier.sending():
        await notifier.take(ALERTS, an_alert())
        await asyncio.wait_for(fake.under_way.wait(), 20)
        await notifier.take(ALERTS, an_alert(AlertType.RETRACTION, minute=5))
        fake.gate.set()
        await notifier.until("CONFIRMED", "CONFIRMED")

    assert [action for _, _, action in told(fake)] == ["NEW", "RETRACTION"]


async def test_the_newest_state_replaces_what_waits_where_the_channel_shows_states(
    pool: asyncpg.Pool, database: DatabaseSettings
) -> None:
    fake = FakeChannel(replaces=True)
    notifier = NotifierUnderTest(pool, database, fake)
    await notifier.take(BURSTS, *(a_burst_record(revision=number) for number in range(1, 5)))

    async with notifier.sending():
        await notifier.until("SUPPRESSED", "SUPPRESSED", "SUPPRESSED", "CONFIRMED")

    assert told(fake) == [("frb/7", 4, "NEW")]


@pytest.mark.parametrize(
    ("mode", "superevent", "states", "reason"),
    [
        (ChannelMode.DRY_RUN, "S261121ab", ["SUPPRESSED"], "dry run"),
        (ChannelMode.OFF, "S261121ab", ["SUPPRESSED"], "the channel is off"),
        (ChannelMode.PRODUCTION, "MS261121ab", ["SUPPRESSED"], "test traffic never goes to production"),
        (ChannelMode.SANDBOX, "MS261121ab", ["CONFIRMED"], None),
        (ChannelMode.PRODUCTION, "S261121ab", ["CONFIRMED"], None),
    ],
)
async def test_modes_keep_apart_what_must_not_leave(
    pool: asyncpg.Pool,
    database: DatabaseSettings,
    mode: ChannelMode,
    superevent: str,
    states: list[str],
    reason: str | None,
) -> None:
    fake = FakeChannel()
    notifier = NotifierUnderTest(pool, database, fake, mode=mode)

    async with notifier.sending():
        await notifier.take(ALERTS, an_alert(superevent_id=superevent))
        await notifier.until(*states)

    assert await notifier.reasons() == [reason]
    assert len(fake.received) == (states == ["CONFIRMED"])


async def test_a_dry_run_keeps_what_would_have_been_sent(pool: asyncpg.Pool, database: DatabaseSettings) -> None:
    notifier = NotifierUnderTest(pool, database, FakeChannel(), mode=ChannelMode.DRY_RUN)

    async with notifier.sending():
        await notifier.take(BURSTS, a_burst_record(), a_burst_record(revision=2))
        await notifier.until("SUPPRESSED", "SUPPRESSED")

    actions = await pool.fetch("SELECT request ->> 'action' AS action FROM deliveries ORDER BY id")
    assert [row["action"] for row in actions] == ["NEW", "UPDATE"]


async def test_an_answer_that_comes_later_is_waited_for(pool: asyncpg.Pool, database: DatabaseSettings) -> None:
    accepted = Answer("report 5", {}, ask_again_s=0.05)
    named = Answer("report 5", {"objname": "20171117A"}, is_confirmed=True, tns_name="FRB 20171117A")
    fake = FakeChannel(does=[accepted], confirms=[accepted, TransientError("busy"), named])
    notifier = NotifierUnderTest(pool, database, fake)

    async with notifier.sending():
        await notifier.take(BURSTS, a_burst_record())
        await notifier.until("CONFIRMED")

    assert await pool.fetchval("SELECT tns_name FROM deliveries") == "FRB 20171117A"
    assert len(fake.received) == 1


async def test_a_bug_in_asking_ends_one_delivery_and_not_the_channel(
    pool: asyncpg.Pool, database: DatabaseSettings
) -> None:
    fake = FakeChannel(does=[Answer("report 5", {}, ask_again_s=0.05)], confirms=[ZeroDivisionError("a bug")])
    notifier = NotifierUnderTest(pool, database, fake)

    async with notifier.sending():
        await notifier.take(BURSTS, a_burst_record())
        await notifier.until("UNKNOWN")
        await notifier.take(BURSTS, a_burst_record(frb_id=8))
        await notifier.until("UNKNOWN", "CONFIRMED")


async def test_patience_that_is_asked_for_is_had(pool: asyncpg.Pool, database: DatabaseSettings) -> None:
    fake = FakeChannel(does=[TooManyRequestsError("slow down", retry_after_s=0.5)])
    notifier = NotifierUnderTest(pool, database, fake)
    began = datetime.now(UTC)

    async with notifier.sending():
        await notifier.take(BURSTS, a_burst_record(), a_burst_record(frb_id=8))
        await notifier.until("CONFIRMED", "CONFIRMED")

    assert (datetime.now(UTC) - began).total_seconds() > 0.5


async def test_tries_have_an_end_and_a_refusal_is_one(pool: asyncpg.Pool, database: DatabaseSettings) -> None:
    fake = FakeChannel(does=[TransientError("away"), TransientError("away"), PermanentError("400: ra is wrong")])
    notifier = NotifierUnderTest(pool, database, fake, max_attempts=2)

    async with notifier.sending():
        await notifier.take(BURSTS, a_burst_record(), a_burst_record(frb_id=8))
        await notifier.until("FAILED", "FAILED")

    assert await notifier.reasons() == ["tried 2 times: away", "400: ra is wrong"]


async def test_what_was_told_is_corrected_whatever_the_rule_says(
    pool: asyncpg.Pool, database: DatabaseSettings
) -> None:
    fake = FakeChannel()
    notifier = NotifierUnderTest(pool, database, fake, rules=[Rule(channel="fake", min_snr=10)])

    async with notifier.sending():
        await notifier.take(
            BURSTS, a_burst_record(frb_id=1), a_burst_record(frb_id=1, revision=2, status=FrbStatus.REJECTED)
        )
        await notifier.take(BURSTS, a_burst_record(frb_id=2, latest=None))
        await notifier.until("CONFIRMED", "CONFIRMED")

    assert [subject for subject, _, _ in told(fake)] == ["frb/1", "frb/1"]


async def test_a_burst_whose_state_is_shown_shows_its_coincidences(
    pool: asyncpg.Pool, database: DatabaseSettings
) -> None:
    shows, tells = FakeChannel("fake", replaces=True, gathers=True), FakeChannel("tells")
    notifier = NotifierUnderTest(pool, database, shows, tells)
    pair = Coincidence.model_validate_json(EXAMPLE.read_text("utf-8"))

    async with notifier.sending():
        await notifier.take(BURSTS, a_burst_record(frb_id=pair.burst.frb_id))
        await notifier.until("CONFIRMED")
        await notifier.take("mma.coincidences", pair)
        await notifier.until("CONFIRMED", "CONFIRMED", "CONFIRMED")
        await notifier.until("CONFIRMED", "CONFIRMED", channel="tells")

    burst, mma = f"frb/{pair.burst.frb_id}", f"mma/{pair.coincidence_id}"
    assert sorted(told(shows)) == [(burst, 1, "NEW"), (burst, 2, "UPDATE"), (mma, 1, "NEW")]
    assert [each["related"] for each in shows.received if each["action"] == "UPDATE"] == [[burst, mma]]
    assert told(tells) == [(burst, 1, "NEW"), (mma, 1, "NEW")]


async def test_a_coincidence_that_comes_while_its_burst_is_withdrawn_does_not_bring_the_burst_back(
    pool: asyncpg.Pool, database: DatabaseSettings
) -> None:
    shows = FakeChannel("fake", replaces=True, gathers=True)
    notifier = NotifierUnderTest(pool, database, shows)
    pair = Coincidence.model_validate_json(EXAMPLE.read_text("utf-8"))
    number = pair.burst.frb_id
    withdrawn = read_happening(BURSTS, a_burst_record(frb_id=number, revision=2, status=FrbStatus.WITHDRAWN))
    assert withdrawn is not None

    async with notifier.sending():
        await notifier.take(BURSTS, a_burst_record(frb_id=number))
        await notifier.until("CONFIRMED")
        async with unit_of_work(pool) as work:
            await notifier.handler.on_happening(withdrawn, work)
            await work.flush()
            coming = asyncio.create_task(notifier.take("mma.coincidences", pair))
            # It waits for the burst's lock, which this transaction has.
            await soon_waits(pool)
        await coming
        await notifier.until("CONFIRMED", "CONFIRMED", "CONFIRMED")

    of_burst = [action for subject, _, action in told(shows) if subject == f"frb/{number}"]
    assert of_burst == ["NEW", "RETRACTION"]


async def soon_waits(pool: asyncpg.Pool) -> None:
    """Return when somebody waits for a lock of a subject."""
    async with asyncio.timeout(20):
        while not await pool.fetchval("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"):
            await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("superevent", "today", "state"),
    [
        ("S261121ab", ChannelMode.PRODUCTION, "CONFIRMED"),
        ("MS261121ab", ChannelMode.SANDBOX, "CONFIRMED"),
        ("MS261121ab", ChannelMode.PRODUCTION, "SUPPRESSED"),
        ("S261121ab", ChannelMode.DRY_RUN, "SUPPRESSED"),
    ],
)
async def test_what_is_tried_again_by_hand_goes_as_the_channel_is_today_and_tests_never_to_production(
    pool: asyncpg.Pool,
    database: DatabaseSettings,
    monkeypatch: pytest.MonkeyPatch,
    superevent: str,
    today: ChannelMode,
    state: str,
) -> None:
    before = NotifierUnderTest(pool, database, FakeChannel(), mode=ChannelMode.DRY_RUN)
    async with before.sending():
        await before.take(ALERTS, an_alert(superevent_id=superevent))
        await before.until("SUPPRESSED")
    monkeypatch.setenv("TOCSIN_DATABASE__URL", database.url.get_secret_value())
    delivery_id = await pool.fetchval("SELECT id FROM deliveries")
    result = await asyncio.to_thread(CliRunner().invoke, app, ["retry", str(delivery_id)])
    assert result.exit_code == 0, result.stderr

    fake = FakeChannel()
    after = NotifierUnderTest(pool, database, fake, mode=today)
    async with after.sending():
        await after.until(state)

    assert len(fake.received) == (state == "CONFIRMED")
    assert await pool.fetchval("SELECT mode FROM deliveries") == today
