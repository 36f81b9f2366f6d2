"""Reports to the Transient Name Server, to a stand-in that checks them: named once, whatever goes wrong."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import pytest

from services.notifier.channels.channel import Answer, Prepared, TooManyRequestsError, UncertainError
from services.notifier.channels.tns import TnsChannel, TnsSettings
from shared.errors import PermanentError, TransientError
from shared.events.frb import FrbChange, FrbEvent, FrbStatus
from shared.events.notices import ChannelMode
from shared.settings import DatabaseSettings
from shared.testing.tns import TnsStandIn, Trouble, standing_tns
from tests.support import notifier_schema
from tests.support.jobs import a_job, an_example
from tests.support.notifier import NotifierUnderTest

database, pool, short_pauses = notifier_schema.database, notifier_schema.pool, notifier_schema.short_pauses

SANDBOX = ChannelMode.SANDBOX
NAMED = "FRB 20171117A"


@pytest.fixture
async def tns() -> AsyncIterator[TnsStandIn]:
    async with standing_tns() as stand_in:
        yield stand_in


@asynccontextmanager
async def a_channel(tns: TnsStandIn, **settings: Any) -> AsyncIterator[TnsChannel]:
    defaults: dict[str, Any] = {
        "name": "tns", "mode": "SANDBOX", "url": "http://127.0.0.1:1", "sandbox_url": tns.url, "api_key": "key",
        "bot_id": 1, "bot_name": "bot", "reporter": "A. Observer", "reporting_group": 58, "instrument": 101,
        "filter": 129, "check_after_s": 0.0, "timeout_s": 5.0, "first_reply_s": 0.02, "max_reply_pause_s": 0.05,
    }  # fmt: skip
    async with httpx.AsyncClient() as http:
        yield TnsChannel(TnsSettings.model_validate(defaults | settings), http=http, site_url="https://x.example")


@pytest.fixture
async def channel(tns: TnsStandIn) -> AsyncIterator[TnsChannel]:
    async with a_channel(tns) as opened:
        yield opened


def upload(**changes: Any) -> FrbEvent:
    record: FrbEvent = an_example(
        "frb_event/upload-measured-twice", **({"tns_name": None, "repeater_of": None} | changes)
    )
    return record


def uploads(count: int) -> list[FrbEvent]:
    return [
        upload(event_id=UUID(int=number), frb_id=number, internal_name=f"burst-{number}")
        for number in range(1, count + 1)
    ]


def prepared(channel: TnsChannel, record: FrbEvent | None = None) -> Prepared:
    """As it comes back from a column of JSON."""
    made = channel.prepare(a_job(record or upload(), mode=SANDBOX))
    assert made is not None
    return Prepared(json.loads(json.dumps(made.request)))


async def confirmed(channel: TnsChannel, made: Prepared, answer: Answer) -> Answer:
    """Ask until there is nothing to ask for."""
    async with asyncio.timeout(10):
        while not answer.is_confirmed:
            assert answer.ask_again_s is not None
            await asyncio.sleep(answer.ask_again_s)
            answer = Answer(answer.reference, json.loads(json.dumps(answer.answer)))
            answer = await channel.confirm(made, answer, mode=SANDBOX)
    return answer


async def told(channel: TnsChannel, record: FrbEvent | None = None) -> Answer:
    made = prepared(channel, record)
    return await confirmed(channel, made, await channel.send(made, mode=SANDBOX))


# Names.


@pytest.mark.parametrize("generation", ["2.0", "old"])
async def test_a_report_is_taken_and_named(tns: TnsStandIn, generation: Any) -> None:
    tns.generation = generation
    async with a_channel(tns, generation=generation, proprietary_days=30, proprietary_groups=(58,)) as channel:
        answer = await told(channel)
    assert (answer.reference, answer.tns_name) == ("1", NAMED)
    assert answer.answer["objname"] == "20171117A"
    assert len(tns.submissions) == 1


async def test_the_wrong_generation_is_refused_field_by_field(tns: TnsStandIn) -> None:
    async with a_channel(tns, generation="old") as channel:
        with pytest.raises(PermanentError, match="reporting_group_id: Unknown field"):
            await told(channel)


@pytest.mark.parametrize("name", ["chime-notice", "upload-measured-twice"])
async def test_what_every_example_holds_is_understood(tns: TnsStandIn, name: str) -> None:
    record = an_example(f"frb_event/{name}", tns_name=None)
    async with a_channel(tns, when="immediately", origins=("upload", "CHIME")) as channel:
        assert (await told(channel, record)).tns_name == f"FRB {record.time_of_arrival:%Y%m%d}A"


async def test_an_object_that_was_there_gives_its_name(tns: TnsStandIn, channel: TnsChannel) -> None:
    tns.known["TOCSIN-FRB-17"] = "20171117C"
    answer = await told(channel)
    assert answer.tns_name == "FRB 20171117C"
    assert answer.answer["notes"] == ["Remarks were added."]


async def test_a_repeater_is_linked_to_its_first_burst(tns: TnsStandIn, channel: TnsChannel) -> None:
    first = upload(repeater_of=None, internal_name="TOCSIN-FRB-1")
    await told(channel, first)
    await told(channel, upload(repeater_of=NAMED))
    assert tns.submissions[1]["repeater_of_objid"] == tns.objects[0]["objid"]


async def test_a_repeater_of_something_unknown_is_reported_without_the_link(
    tns: TnsStandIn, channel: TnsChannel
) -> None:
    assert (await told(channel, upload(repeater_of="FRB 20160408A"))).tns_name == NAMED
    (report,) = tns.submissions
    assert "repeater_of_objid" not in report
    assert "Repeats FRB 20160408A." in report["remarks"]


@pytest.mark.parametrize("trouble", [Trouble.ERROR, Trouble.LOST, Trouble.UNAVAILABLE])
async def test_nothing_is_sent_while_it_is_not_known_what_is_repeated(
    tns: TnsStandIn, channel: TnsChannel, trouble: Trouble
) -> None:
    tns.trouble["search"].append(trouble)
    with pytest.raises(TransientError) as raised:
        await told(channel, upload(repeater_of=NAMED))
    assert not isinstance(raised.value, UncertainError)
    assert tns.requests == ["search"]


# Replies.


async def test_a_late_reply_is_waited_for_with_growing_pauses(tns: TnsStandIn) -> None:
    tns.delay_replies = 3
    async with a_channel(tns, first_reply_s=1.0, max_reply_pause_s=3.0) as channel:
        made = prepared(channel)
        answer = await channel.send(made, mode=SANDBOX)
        pauses = [answer.ask_again_s]
        while not answer.is_confirmed:
            answer = await channel.confirm(made, answer, mode=SANDBOX)
            pauses.append(answer.ask_again_s)
    assert pauses == [1.0, 2.0, 3.0, 3.0, None]
    assert answer.tns_name == NAMED


async def test_a_reply_that_never_comes_is_given_up_when_the_burst_is_not_found_either(tns: TnsStandIn) -> None:
    tns.delay_replies = 1000
    async with a_channel(tns, reply_patience_s=0.1) as channel:
        assert (await told(channel)).tns_name == NAMED, "found by its internal name"
        made = prepared(channel, upload(internal_name="TOCSIN-FRB-18"))
        answer = await channel.send(made, mode=SANDBOX)
        tns.objects.clear()
        with pytest.raises(PermanentError, match=r"no reply to report 2 .* nor is it found"):
            await confirmed(channel, made, answer)


async def test_a_refused_field_fails_with_its_name_and_message(tns: TnsStandIn) -> None:
    async with a_channel(tns, keys={"reporter": ""}) as channel:
        with pytest.raises(PermanentError, match="reporter: Required field"):
            await told(channel)


@pytest.mark.parametrize(
    "trouble", [Trouble.ERROR, Trouble.UNAVAILABLE, Trouble.LOST, Trouble.GARBAGE, Trouble.TOO_MANY]
)
async def test_trouble_with_a_reply_says_nothing_of_the_report(
    tns: TnsStandIn, channel: TnsChannel, trouble: Trouble
) -> None:
    made = prepared(channel)
    answer = await channel.send(made, mode=SANDBOX)
    tns.trouble["reply"].append(trouble)
    with pytest.raises(TransientError):
        await channel.confirm(made, answer, mode=SANDBOX)
    assert (await confirmed(channel, made, answer)).tns_name == NAMED


# Reports that may have arrived.


@pytest.mark.parametrize("trouble", [Trouble.ACCEPTED, Trouble.SILENT_BUT_ACCEPTED])
async def test_a_report_that_arrived_without_an_answer_is_found(tns: TnsStandIn, trouble: Trouble) -> None:
    tns.trouble["report"].append(trouble)
    async with a_channel(tns, timeout_s=0.5) as channel:
        made = prepared(channel)
        with pytest.raises(UncertainError):
            await channel.send(made, mode=SANDBOX)
        found = await channel.check(made, mode=SANDBOX)
    assert found is not None
    assert (found.is_confirmed, found.tns_name) == (True, NAMED)


@pytest.mark.parametrize("trouble", [Trouble.LOST, Trouble.ERROR, Trouble.GARBAGE])
async def test_a_report_that_did_not_arrive_is_not_found(
    tns: TnsStandIn, channel: TnsChannel, trouble: Trouble
) -> None:
    tns.trouble["report"].append(trouble)
    made = prepared(channel)
    with pytest.raises(UncertainError):
        await channel.send(made, mode=SANDBOX)
    assert await channel.check(made, mode=SANDBOX) is None


async def test_a_burst_of_another_day_with_our_internal_name_is_not_ours(tns: TnsStandIn, channel: TnsChannel) -> None:
    tns.known["TOCSIN-FRB-17"] = "20180301A"
    assert await channel.check(prepared(channel), mode=SANDBOX) is None


async def test_an_identical_report_is_the_proof_that_it_arrived(tns: TnsStandIn, channel: TnsChannel) -> None:
    await told(channel)
    again = await told(channel)
    assert (again.is_confirmed, again.tns_name) == (True, NAMED)
    assert len(tns.objects) == 1


async def test_an_identical_report_whose_name_is_not_to_be_seen_is_confirmed_without(tns: TnsStandIn) -> None:
    async with a_channel(tns, reply_patience_s=0.1) as channel:
        await told(channel)
        tns.objects.clear()
        again = await told(channel)
    assert (again.is_confirmed, again.tns_name, again.answer["identical"]) == (True, None, True)


# Refusals.


async def test_a_wrong_key_and_a_wrong_marker_are_permanent(tns: TnsStandIn) -> None:
    for settings, code in (({"api_key": "wrong"}, "401"), ({"bot_name": "other"}, "403")):
        async with a_channel(tns, **settings) as channel:
            with pytest.raises(PermanentError, match=code):
                await told(channel)


async def test_too_many_requests_wait_until_the_reset(tns: TnsStandIn, channel: TnsChannel) -> None:
    tns.reset_s = 17
    tns.trouble["report"].append(Trouble.TOO_MANY)
    with pytest.raises(TooManyRequestsError) as raised:
        await told(channel)
    assert raised.value.retry_after_s == 17.0


async def test_a_bad_request_inside_of_a_good_answer_is_permanent(tns: TnsStandIn, channel: TnsChannel) -> None:
    tns.trouble["report"].append(Trouble.BAD_REQUEST)
    with pytest.raises(PermanentError, match="400: Bad request"):
        await told(channel)


async def test_a_slow_answer_is_an_answer(tns: TnsStandIn, channel: TnsChannel) -> None:
    tns.trouble["report"].append(Trouble.SLOW)
    assert (await told(channel)).tns_name == NAMED


async def test_where_nobody_listens_nothing_was_accepted(tns: TnsStandIn) -> None:
    async with a_channel(tns, sandbox_url="http://127.0.0.1:1") as channel:
        with pytest.raises(TransientError) as raised:
            await told(channel)
    assert not isinstance(raised.value, UncertainError)


# With the sender.


def notifier(pool: asyncpg.Pool, database: DatabaseSettings, channel: TnsChannel) -> NotifierUnderTest:
    # A channel is as good as the fake one.
    return NotifierUnderTest(pool, database, channel, timeout_s=5.0)  # type: ignore[arg-type]


@pytest.mark.parametrize("trouble", [*(each for each in Trouble if each is not Trouble.BAD_REQUEST), None])
async def test_each_burst_is_reported_exactly_once_whatever_goes_wrong(
    tns: TnsStandIn, pool: asyncpg.Pool, database: DatabaseSettings, trouble: Trouble | None
) -> None:
    tns.delay_replies = 1
    if trouble is not None:
        tns.trouble["report"].append(trouble)
        tns.trouble["reply"].append(trouble)
    async with a_channel(tns, timeout_s=1.0) as channel:
        under_test = notifier(pool, database, channel)
        async with under_test.sending():
            await under_test.take("frb.events", upload())
            await under_test.until("CONFIRMED", channel="tns")
    assert await pool.fetchval("SELECT tns_name FROM deliveries") == NAMED
    assert len(tns.objects) == 1


async def test_a_process_that_dies_while_sending_reports_once(
    tns: TnsStandIn, pool: asyncpg.Pool, database: DatabaseSettings
) -> None:
    tns.trouble["report"].append(Trouble.SILENT_BUT_ACCEPTED)
    async with a_channel(tns) as channel:
        under_test = notifier(pool, database, channel)
        await under_test.take("frb.events", *uploads(3))
        async with under_test.sending():
            async with asyncio.timeout(10):
                while not tns.objects:
                    await asyncio.sleep(0.02)
        assert await under_test.states("tns") == ["SENDING"] * 3
        async with under_test.sending():
            await under_test.until(*["CONFIRMED"] * 3, channel="tns")
    assert len(tns.submissions) == 3


async def test_after_an_outage_what_waits_is_reported_together_each_once_and_a_bad_one_fails_alone(
    tns: TnsStandIn, pool: asyncpg.Pool, database: DatabaseSettings
) -> None:
    tns.delay_replies = 1
    tns.trouble["report"].extend([Trouble.UNAVAILABLE, Trouble.ACCEPTED])
    bursts = uploads(250)
    # What says nothing is no value. Not among those whose answer is lost: it is not found, and rightly sent again.
    bursts[-1] = bursts[-1].model_copy(update={"internal_name": "none"})
    async with a_channel(tns, first_reply_s=0.2, max_reply_pause_s=1.0) as channel:
        under_test = notifier(pool, database, channel)
        await under_test.take_together("frb.events", *bursts)
        async with under_test.sending():
            await under_test.until(*["CONFIRMED"] * 249, "FAILED", channel="tns")
    assert "internal_name: Invalid value" in str((await under_test.reasons("tns"))[-1])
    assert sorted(each["internal_name"] for each in tns.submissions) == sorted(each.internal_name for each in bursts)
    assert tns.requests.count("report") <= 6
    assert tns.requests.count("reply") <= 20


async def test_which_report_makes_a_submission_refused_is_found_with_fewer_at_once(
    tns: TnsStandIn, pool: asyncpg.Pool, database: DatabaseSettings, channel: TnsChannel
) -> None:
    tns.trouble["report"].extend([Trouble.BAD_REQUEST] * 3)
    under_test = notifier(pool, database, channel)
    await under_test.take_together("frb.events", *uploads(5))
    async with under_test.sending():
        # Five, two and one were refused.
        await under_test.until("FAILED", *["CONFIRMED"] * 4, channel="tns")
    assert len(tns.submissions) == 4


async def test_a_burst_withdrawn_after_its_report_is_left_to_people(
    tns: TnsStandIn, pool: asyncpg.Pool, database: DatabaseSettings, channel: TnsChannel
) -> None:
    under_test = notifier(pool, database, channel)
    withdrawn = upload(
        event_id=UUID(int=1),
        status=FrbStatus.WITHDRAWN,
        change=FrbChange.STATUS_CHANGED,
        revision=9,
        tns_name=NAMED,
    )
    async with under_test.sending():
        await under_test.take("frb.events", upload())
        await under_test.until("CONFIRMED", channel="tns")
        await under_test.take("frb.events", withdrawn)
        await under_test.until("CONFIRMED", "FAILED", channel="tns")
    assert "write to it about FRB 20171117A" in str(await under_test.reasons("tns"))
    assert len(tns.submissions) == 1


async def test_a_burst_withdrawn_before_its_report_is_never_reported(
    tns: TnsStandIn, pool: asyncpg.Pool, database: DatabaseSettings, channel: TnsChannel
) -> None:
    under_test = notifier(pool, database, channel)
    await under_test.take("frb.events", upload())
    withdrawn = upload(
        event_id=UUID(int=1),
        status=FrbStatus.WITHDRAWN,
        change=FrbChange.STATUS_CHANGED,
        revision=9,
    )
    await under_test.take("frb.events", withdrawn)
    async with under_test.sending():
        await under_test.until("SUPPRESSED", "SUPPRESSED", channel="tns")
    assert tns.requests == []
