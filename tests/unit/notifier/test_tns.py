"""Which bursts the Transient Name Server is told of, and what of them is kept before it leaves."""

import json
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from services.notifier.channels.channel import Answer, Earlier, Prepared, TooManyRequestsError, UncertainError
from services.notifier.channels.tns import TnsChannel, TnsSettings
from services.notifier.happenings import Happening
from shared.errors import InvalidInputError, PermanentError, TransientError
from shared.events.frb import FrbChange, FrbEvent, FrbStatus
from shared.events.notices import ChannelMode, DeliveryAction
from tests.support.jobs import EXAMPLES, a_job, an_example, happening_of

IDENTITY = {"bot_id": 1, "bot_name": "bot", "reporter": "A. Observer", "reporting_group": 58}
NAMED = "FRB 20171117A"
PRODUCTION, SANDBOX = ChannelMode.PRODUCTION, ChannelMode.SANDBOX


def a_channel(answer: Any = None, **settings: Any) -> TnsChannel:
    """A channel; `answer` makes an answer of a request, or raises."""
    defaults = {"name": "tns", "api_key": "key", "check_after_s": 0.0} | IDENTITY
    transport = httpx.MockTransport(answer or (lambda request: httpx.Response(500)))
    return TnsChannel(
        TnsSettings.model_validate(defaults | settings),
        http=httpx.AsyncClient(transport=transport),
        site_url="https://bursts.example",
        now=lambda: 1_800_000_000.0,
    )


def upload(**changes: Any) -> FrbEvent:
    record: FrbEvent = an_example("frb_event/upload-measured-twice", **({"tns_name": None} | changes))
    return record


def wants(channel: TnsChannel, record: Any, *, told_before: bool = False) -> bool:
    happening = happening_of(record)
    return happening is not None and channel.wants(happening, told_before=told_before)


def prepared(channel: TnsChannel, record: FrbEvent | None = None, **job: Any) -> Prepared:
    made = channel.prepare(a_job(record or upload(), **job))
    assert made is not None
    return Prepared(json.loads(json.dumps(made.request, allow_nan=False)))


# What is told.


@pytest.mark.parametrize("name", [name for name in EXAMPLES if not name.startswith("frb_event/")])
def test_only_bursts_are_reported(name: str) -> None:
    assert not wants(a_channel(when="immediately"), an_example(name))


def test_a_candidate_is_reported_only_when_policy_says_at_once() -> None:
    candidate = upload(status=FrbStatus.CANDIDATE)
    assert wants(a_channel(when="immediately"), candidate)
    assert not wants(a_channel(), candidate)
    assert wants(a_channel(), upload(status=FrbStatus.CONFIRMED))


def test_bursts_of_others_are_theirs_to_report() -> None:
    chime = an_example("frb_event/chime-notice")
    assert not wants(a_channel(when="immediately"), chime)
    assert wants(a_channel(when="immediately", origins=("CHIME",)), chime)


@pytest.mark.parametrize(
    "changes", [{"status": FrbStatus.REJECTED}, {"status": FrbStatus.WITHDRAWN}, {"tns_name": "FRB 20171117A"}]
)
def test_what_does_not_stand_or_has_a_name_is_not_reported(changes: dict[str, Any]) -> None:
    assert not wants(a_channel(when="immediately"), upload(**changes))


def test_a_burst_is_reported_once() -> None:
    assert not wants(a_channel(), upload(change=FrbChange.MEASURED), told_before=True)


def test_votes_are_no_reason_to_report() -> None:
    assert not wants(a_channel(), upload(change=FrbChange.RATED))


# What is kept before it leaves.


@pytest.mark.parametrize(
    "changes", [{"status": FrbStatus.REJECTED}, {"status": FrbStatus.WITHDRAWN}, {"tns_name": "FRB 20171117A"}]
)
def test_a_report_that_waited_too_long_is_dropped(changes: dict[str, Any]) -> None:
    newer = upload(revision=9, **changes)
    assert a_channel().prepare(a_job(upload(), related=[newer])) is None


def test_a_test_is_never_prepared_for_production() -> None:
    channel = a_channel()
    assert channel.prepare(a_job(upload(is_test=True))) is None
    assert channel.prepare(a_job(upload(is_test=True), mode=SANDBOX)) is not None


def test_a_prepared_report_holds_no_secret() -> None:
    channel = a_channel(api_key="very-secret", sandbox_api_key="as-secret")
    assert "secret" not in json.dumps(prepared(channel).request)


def test_the_proprietary_period_counts_from_the_decision() -> None:
    report = prepared(a_channel(proprietary_days=30, proprietary_groups=(58,))).request["report"]
    assert (report["end_prop_period"], report["prop_period_groups"]) == ("2026-02-01", [58])


def test_the_page_of_a_burst_is_named_only_when_wanted() -> None:
    assert "public_webpage" not in prepared(a_channel()).request["report"]
    report = prepared(a_channel(public_webpage=True)).request["report"]
    assert report["public_webpage"] == "https://bursts.example/frb/17"


@pytest.mark.parametrize(
    ("tns_name", "reference", "answer", "called"),
    [
        (NAMED, "118273", {}, NAMED),
        (None, "118273", {"objname": "20171117A"}, NAMED),
        (None, "118273", {"objname": "2018cow"}, "2018cow"),
        (None, "118273", {"position": 0}, "report 118273"),
        (None, None, {}, "a report that may have arrived"),
    ],
)
async def test_the_withdrawal_of_a_reported_burst_is_a_failure_that_names_it(
    tns_name: str | None, reference: str | None, answer: dict[str, Any], called: str
) -> None:
    channel = a_channel()
    withdrawn = upload(status=FrbStatus.WITHDRAWN, change=FrbChange.STATUS_CHANGED, tns_name=tns_name)
    assert wants(channel, withdrawn, told_before=True)
    earlier = [Earlier(1, DeliveryAction.NEW, reference, answer)]
    made = prepared(channel, withdrawn, action=DeliveryAction.RETRACTION, revision=2, earlier=earlier)
    for telling in (channel.send, channel.check):
        with pytest.raises(PermanentError, match=rf"write to it about {called} \(TOCSIN-FRB-17\)"):
            await telling(made, mode=SANDBOX)


async def test_a_reply_that_refuses_the_question_is_told_as_it_came() -> None:
    refusal = {"id_code": 400, "id_message": "Bad request", "data": {"report_id": "Invalid"}}
    channel = a_channel(lambda request: httpx.Response(400, json=refusal))
    sent = Answer("5", {"report_id": 5, "position": 0, "waited_s": 0.0, "pause_s": 1.0})
    with pytest.raises(PermanentError, match=r'400: Bad request \(\{"report_id": "Invalid"\}\)'):
        await channel.confirm(prepared(channel), sent, mode=SANDBOX)


def test_nothing_is_taken_back_that_was_not_told() -> None:
    withdrawn = upload(status=FrbStatus.WITHDRAWN, change=FrbChange.STATUS_CHANGED)
    assert a_channel().prepare(a_job(withdrawn, action=DeliveryAction.RETRACTION, revision=2)) is None


# Where it goes, and what answers mean.


@pytest.mark.parametrize(
    ("mode", "host", "key"),
    [(PRODUCTION, "www.wis-tns.org", "key"), (SANDBOX, "sandbox.wis-tns.org", "other")],
)
@pytest.mark.parametrize(("generation", "path"), [("2.0", "/api/set/bulk-report"), ("old", "/api/bulk-report")])
async def test_the_mode_chooses_host_and_key_and_the_generation_the_path(
    mode: ChannelMode, host: str, key: str, generation: str, path: str
) -> None:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, json={"id_code": 200, "data": {"report_id": 118273}})

    channel = a_channel(answer, sandbox_api_key="other", generation=generation)
    sent = await channel.send(prepared(channel, upload(repeater_of=None)), mode=mode)
    assert (sent.reference, sent.is_confirmed, sent.ask_again_s) == ("118273", False, 3.0)
    (request,) = asked
    assert (request.url.host, request.url.path) == (host, path)
    assert request.headers["user-agent"] == 'tns_marker{"tns_id": "1", "type": "bot", "name": "bot"}'
    assert f"api_key={key}&" in request.content.decode()


@pytest.mark.parametrize("mode", [ChannelMode.OFF, ChannelMode.DRY_RUN])
async def test_other_modes_send_nothing(mode: ChannelMode) -> None:
    channel = a_channel()
    with pytest.raises(PermanentError, match="no key for mode"):
        await channel.send(prepared(channel, upload(repeater_of=None)), mode=mode)


def raising(error: Exception) -> Any:
    def answer(request: httpx.Request) -> httpx.Response:
        raise error

    return answer


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (raising(httpx.ConnectError("refused")), TransientError),
        (raising(httpx.ConnectTimeout("slow")), TransientError),
        (raising(httpx.ReadTimeout("slow")), UncertainError),
        (raising(httpx.RemoteProtocolError("gone")), UncertainError),
        (lambda request: httpx.Response(503), TransientError),
        (lambda request: httpx.Response(500), UncertainError),
        (lambda request: httpx.Response(504, text="<html>"), UncertainError),
        (lambda request: httpx.Response(200, text="<html>"), UncertainError),
        (lambda request: httpx.Response(200, json=[]), UncertainError),
        (lambda request: httpx.Response(200, json={"id_code": 200, "data": {}}), UncertainError),
        (lambda request: httpx.Response(401, json={"id_code": 401}), PermanentError),
        (lambda request: httpx.Response(403), PermanentError),
        (lambda request: httpx.Response(404), PermanentError),
        (lambda request: httpx.Response(302, headers={"location": "/"}), PermanentError),
        (lambda request: httpx.Response(400, json={"id_code": 400, "id_message": "Bad request"}), PermanentError),
        (lambda request: httpx.Response(200, json={"id_code": 400, "id_message": "Bad request"}), PermanentError),
        (lambda request: httpx.Response(200, json={"id_code": 504}), UncertainError),
    ],
)
async def test_each_answer_to_a_report_means_one_thing(answer: Any, error: type[Exception]) -> None:
    channel = a_channel(answer)
    with pytest.raises(error) as raised:
        await channel.send(prepared(channel, upload(repeater_of=None)), mode=SANDBOX)
    assert isinstance(raised.value, UncertainError) == (error is UncertainError)


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({"x-rate-limit-reset": "17"}, 17.0),
        ({"x-rate-limit-reset": "17", "x-cone-rate-limit-reset": "40"}, 40.0),
        ({"x-rate-limit-reset": "1800000030"}, 30.0),
        ({"retry-after": "5"}, 5.0),
        ({"x-rate-limit-reset": "9999999"}, 3600.0),
        ({"x-rate-limit-reset": "0"}, 1.0),
        ({"x-rate-limit-reset": "-3"}, 60.0),
        ({"x-rate-limit-reset": "nan"}, 60.0),
        ({"x-rate-limit-reset": "Exceeded"}, 60.0),
        ({}, 60.0),
    ],
)
async def test_patience_is_had_for_as_long_as_is_asked(headers: dict[str, str], wait_s: float) -> None:
    channel = a_channel(lambda request: httpx.Response(429, headers=headers))
    with pytest.raises(TooManyRequestsError) as raised:
        await channel.send(prepared(channel, upload(repeater_of=None)), mode=SANDBOX)
    assert raised.value.retry_after_s == wait_s


async def test_a_search_that_is_refused_leaves_it_unknown_whether_a_report_arrived() -> None:
    channel = a_channel(lambda request: httpx.Response(400, json={"id_code": 400}))
    with pytest.raises(UncertainError, match="does not search"):
        await channel.check(prepared(channel), mode=SANDBOX)


async def test_a_wrong_key_says_nothing_of_a_report_that_was_accepted() -> None:
    channel = a_channel(lambda request: httpx.Response(401))
    with pytest.raises(TransientError):
        await channel.check(prepared(channel), mode=SANDBOX)


async def test_what_a_database_cannot_keep_is_taken_out_of_answers() -> None:
    told = {"id_code": 200, "data": {"report_id": "1\x00\ud800"}}
    channel = a_channel(lambda request: httpx.Response(200, content=json.dumps(told).encode()))
    sent = await channel.send(prepared(channel, upload(repeater_of=None)), mode=SANDBOX)
    assert sent.reference == "1\N{REPLACEMENT CHARACTER}?"


# Settings.


@pytest.mark.parametrize("missing", ["api_key", "bot_id", "bot_name", "reporter", "reporting_group"])
def test_who_sends_must_say_who_they_are(missing: str) -> None:
    complete: dict[str, Any] = {"name": "tns", "api_key": "key"} | IDENTITY
    TnsSettings.model_validate(complete | {"mode": "SANDBOX"})
    incomplete = {name: value for name, value in complete.items() if name != missing}
    TnsSettings.model_validate(incomplete | {"mode": "DRY_RUN"})
    with pytest.raises(InvalidInputError, match=missing):
        TnsSettings.model_validate(incomplete | {"mode": "SANDBOX"})


def test_a_key_of_the_sandbox_alone_does_not_reach_production() -> None:
    with pytest.raises(InvalidInputError, match="api_key"):
        TnsSettings.model_validate({"name": "tns", "mode": "PRODUCTION", "sandbox_api_key": "key"} | IDENTITY)


def test_unknown_paths_and_a_check_that_outlasts_its_time_are_refused() -> None:
    with pytest.raises((InvalidInputError, ValidationError)):
        TnsSettings.model_validate({"name": "tns", "paths": {"repport": "/x"}})
    with pytest.raises(InvalidInputError, match="check_after_s"):
        TnsSettings.model_validate({"name": "tns", "check_after_s": 60, "timeout_s": 60})


def test_a_happening_of_another_kind_is_not_asked_for_its_origin() -> None:
    happening = happening_of(an_example("gw_alert/real-initial"))
    assert isinstance(happening, Happening)
    assert not a_channel().wants(happening, told_before=True)
