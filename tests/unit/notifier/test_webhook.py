"""Webhooks: what they say, how they are signed, and what an answer means."""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from pydantic import SecretStr, ValidationError

from services.notifier.channels.channel import TooManyRequestsError, UncertainError
from services.notifier.channels.webhook import WebhookChannel, WebhookSettings
from services.notifier.channels.webhook_message import read_secret, sign
from shared.errors import InvalidInputError, PermanentError, TransientError
from shared.events.frb import FrbChange
from shared.events.notices import ChannelMode, DeliveryAction
from tests.support.jobs import EXAMPLES, a_job, an_example, happening_of

KEY = b"0123456789abcdef0123456789abcdef"
SECRET = "whsec_" + base64.b64encode(KEY).decode()
NOW = 1_700_000_000.0
PRODUCTION = ChannelMode.PRODUCTION
TOLD = [name for name in EXAMPLES if happening_of(an_example(name)) is not None]


def some_settings(**changes: Any) -> WebhookSettings:
    values = {"name": "hook", "url": "https://receiver.example/hook", "secret": SECRET}
    return WebhookSettings.model_validate(values | changes)


def channel(answer: Callable[[httpx.Request], httpx.Response], **changes: Any) -> WebhookChannel:
    http = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    return WebhookChannel(some_settings(**changes), http=http, site_url="https://tocsin.example", now=lambda: NOW)


def of_status(status: int, **kwargs: Any) -> WebhookChannel:
    return channel(lambda _: httpx.Response(status, **kwargs))


def body_of(name: str, **kwargs: Any) -> dict[str, Any]:
    prepared = of_status(200).prepare(a_job(name, **kwargs))
    assert prepared is not None
    body: dict[str, Any] = json.loads(prepared.request["body"], parse_constant=pytest.fail)
    return body


# What is said.


@pytest.mark.parametrize("name", TOLD)
def test_every_record_is_told_whole_but_for_what_is_not_known(name: str) -> None:
    body = body_of(name)
    record = an_example(name)
    assert body["data"]["event_id"] == str(record.event_id)
    assert body["subject"] == happening_of(record).subject  # type: ignore[union-attr]
    assert "null" not in json.dumps(body)
    assert body["data"].keys() == record.model_dump(exclude_none=True).keys()


@pytest.mark.parametrize("name", TOLD)
def test_no_message_says_where_files_lie_in_our_store(name: str) -> None:
    text = json.dumps(body_of(name))
    assert not any(address in text for address in ('"uri"', "file:", "s3:"))


def test_a_message_says_which_files_there_are() -> None:
    skymap = body_of("gw_skymap/real-initial")["data"]["skymap"]
    assert skymap["canonical"].keys() == {"sha256", "size", "media_type"}


def test_a_message_says_what_happened_to_what() -> None:
    body = body_of("frb_event/chime-withdrawn", revision=2)
    assert body["type"] == "burst.retraction"
    assert (body["action"], body["revision"], body["delivery_id"]) == ("retraction", 2, 7)
    assert body["url"] == "https://tocsin.example/frb/18"
    assert body_of("gw_alert/mock-preliminary")["is_test"] is True


def test_numbers_that_are_none_are_left_out() -> None:
    record = an_example("frb_event/chime-notice", importance=float("nan"), time_of_arrival_err_s=float("inf"))
    prepared = of_status(200).prepare(a_job(record))
    assert prepared is not None
    assert json.loads(prepared.request["body"])["data"].keys().isdisjoint({"importance", "time_of_arrival_err_s"})


def test_the_id_is_the_deliverys_whenever_it_is_made() -> None:
    hook = of_status(200)
    ids = [
        prepared.request["id"]
        for prepared in (
            hook.prepare(a_job("frb_event/chime-notice", revision=revision, delivery_id=delivery_id))
            for revision, delivery_id in ((1, 7), (1, 8), (2, 7))
        )
        if prepared is not None
    ]
    assert ids[0] == ids[1] != ids[2]
    assert "." not in ids[0], "a dot would let one message's signature stand for another's"


def test_votes_are_no_news() -> None:
    happening = happening_of(an_example("frb_event/chime-notice", change=FrbChange.RATED))
    assert happening is not None
    assert not of_status(200).wants(happening, told_before=True)


# How it is signed.


def test_the_signature_is_that_of_the_standards_own_example() -> None:
    key = read_secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    signature = sign(key, message_id="msg_p5jXN8AQM9LWM0D4loKWxJek", timestamp=1614265330, body=b'{"test": 2432232314}')
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


async def test_what_is_sent_is_what_was_signed() -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(202, text="thanks")

    hook = channel(answer)
    prepared = hook.prepare(a_job("frb_event/chime-notice"))
    assert prepared is not None
    told = await hook.send(prepared, mode=PRODUCTION)
    (request,) = seen
    assert request.method == "POST"
    assert request.headers["webhook-timestamp"] == str(int(NOW))
    signed = f"{prepared.request['id']}.{int(NOW)}.".encode() + request.content
    expected = base64.b64encode(hmac.digest(KEY, signed, hashlib.sha256)).decode()
    assert request.headers["webhook-signature"] == f"v1,{expected}"
    assert told.is_confirmed
    assert told.answer == {"status": 202, "text": "thanks"}
    assert SECRET not in json.dumps(prepared.request)


async def test_while_secrets_change_both_sign() -> None:
    seen: list[httpx.Request] = []
    hook = channel(
        lambda request: seen.append(request) or httpx.Response(204),  # type: ignore[func-returns-value]
        previous_secret="whsec_" + base64.b64encode(b"x" * 24).decode(),
    )
    prepared = hook.prepare(a_job("frb_event/chime-notice"))
    assert prepared is not None
    await hook.send(prepared, mode=PRODUCTION)
    assert len(seen[0].headers["webhook-signature"].split(" ")) == 2


# What an answer means.


async def sent(hook: WebhookChannel) -> None:
    prepared = hook.prepare(a_job("frb_event/chime-notice"))
    assert prepared is not None
    await hook.send(prepared, mode=PRODUCTION)


@pytest.mark.parametrize(
    ("status", "error", "words"),
    [
        (301, PermanentError, "redirects are not followed"),
        (307, PermanentError, "redirects are not followed"),
        (400, PermanentError, "answer 400"),
        (404, PermanentError, "answer 404"),
        (410, PermanentError, "wants no more messages"),
        (408, TransientError, "answer 408"),
        (429, TransientError, "answer 429"),
        (500, TransientError, "answer 500"),
        (503, TransientError, "answer 503"),
        (502, UncertainError, "answer 502"),
        (504, UncertainError, "answer 504"),
    ],
)
async def test_a_refusal_is_told_apart_from_an_outage(status: int, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words) as raised:
        await sent(of_status(status))
    assert raised.type is error


@pytest.mark.parametrize(
    ("header", "wait_s"),
    [("7", 7.0), ("Tue, 14 Nov 2023 22:14:20 GMT", 60.0), ("Tue, 14 Nov 2023 22:00:00 GMT", 0.0), ("999999", 3600.0)],
)
@pytest.mark.parametrize("status", [429, 503])
async def test_a_receiver_may_say_how_long_to_wait(status: int, header: str, wait_s: float) -> None:
    with pytest.raises(TooManyRequestsError) as raised:
        await sent(of_status(status, headers={"retry-after": header}))
    assert raised.value.retry_after_s == wait_s


@pytest.mark.parametrize("header", ["soon", "", "-1", "Tue, 14 Nov 2023 22:14:20"])
async def test_a_wait_that_makes_no_sense_is_not_obeyed(header: str) -> None:
    with pytest.raises(TransientError) as raised:
        await sent(of_status(503, headers={"retry-after": header}))
    assert raised.type is TransientError


@pytest.mark.parametrize(
    ("error", "meaning"),
    [
        (httpx.ConnectError("refused"), TransientError),
        (httpx.ConnectTimeout("nobody there"), TransientError),
        (httpx.ReadTimeout("no answer"), UncertainError),
        (httpx.RemoteProtocolError("nonsense"), UncertainError),
        (httpx.WriteError("broken pipe"), UncertainError),
    ],
)
async def test_what_may_have_arrived_is_told_apart_from_what_did_not(
    error: Exception, meaning: type[Exception]
) -> None:
    def fail(_: httpx.Request) -> httpx.Response:
        raise error

    with pytest.raises(meaning) as raised:
        await sent(channel(fail))
    assert raised.type is meaning


async def test_what_may_have_arrived_may_be_sent_again() -> None:
    hook = of_status(200)
    prepared = hook.prepare(a_job("frb_event/chime-notice"))
    assert prepared is not None
    assert await hook.check(prepared, mode=PRODUCTION) is None


async def test_of_a_long_answer_the_beginning_is_kept() -> None:
    hook = of_status(200, content=b"\x00" + b"a" * 10_000)
    prepared = hook.prepare(a_job("frb_event/chime-notice"))
    assert prepared is not None
    told = await hook.send(prepared, mode=PRODUCTION)
    assert len(told.answer["text"]) == 2_000
    assert "\x00" not in told.answer["text"], "PostgreSQL keeps no NUL"


async def test_a_sandbox_has_an_address_of_its_own() -> None:
    seen: list[str] = []
    hook = channel(
        lambda request: seen.append(str(request.url)) or httpx.Response(204),  # type: ignore[func-returns-value]
        sandbox_url="https://sandbox.example/hook",
        mode="SANDBOX",
    )
    prepared = hook.prepare(a_job("frb_event/chime-notice", DeliveryAction.NEW, mode=ChannelMode.SANDBOX))
    assert prepared is not None
    await hook.send(prepared, mode=ChannelMode.SANDBOX)
    assert seen == ["https://sandbox.example/hook"]


# Settings.


@pytest.mark.parametrize(
    "url", ["ftp://receiver.example", "file:///etc/passwd", "https://user:word@receiver.example/", "receiver.example"]
)
def test_only_plain_http_addresses_are_called(url: str) -> None:
    with pytest.raises(ValidationError):
        some_settings(url=url)


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_c2hvcnQ=", "not base64!", "whsec_" + "QUJD" * 30])
def test_a_secret_that_is_none_is_refused_and_not_told(secret: str) -> None:
    with pytest.raises(InvalidInputError) as raised:
        some_settings(secret=SecretStr(secret))
    assert raised.value.value == "(hidden)"


@pytest.mark.parametrize("mode", ["PRODUCTION", "SANDBOX"])
def test_a_mode_needs_its_address(mode: str) -> None:
    with pytest.raises(InvalidInputError, match="missing"):
        some_settings(url=None, mode=mode)
