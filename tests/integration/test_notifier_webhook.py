"""Webhooks to a receiver that verifies them, and that is not always well."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from services.notifier.channels.channel import Prepared, TooManyRequestsError, UncertainError
from services.notifier.channels.webhook import WebhookChannel, WebhookSettings
from shared.errors import PermanentError, TransientError
from shared.events.notices import ChannelMode
from shared.testing.webhook import SECRET, Fault, WebhookReceiver, standing_receiver
from tests.support.jobs import EXAMPLES, a_job, an_example, happening_of

PRODUCTION = ChannelMode.PRODUCTION


@pytest.fixture
async def receiver() -> AsyncIterator[WebhookReceiver]:
    async with standing_receiver() as standing:
        yield standing


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient() as client:
        yield client


def a_channel(http: httpx.AsyncClient, receiver: WebhookReceiver, **changes: Any) -> WebhookChannel:
    values = {"name": "hook", "url": receiver.url, "secret": SECRET, "timeout_s": 0.5}
    return WebhookChannel(
        WebhookSettings.model_validate(values | changes), http=http, site_url="https://tocsin.example"
    )


def prepared(hook: WebhookChannel, name: str = "frb_event/chime-notice") -> Prepared:
    made = hook.prepare(a_job(name))
    assert made is not None
    return made


async def test_every_record_is_taken(http: httpx.AsyncClient, receiver: WebhookReceiver) -> None:
    hook = a_channel(http, receiver)
    told = [name for name in EXAMPLES if happening_of(an_example(name)) is not None]
    for name in told:
        await hook.send(prepared(hook, name), mode=PRODUCTION)
    assert receiver.refused == []
    assert [taken.body["data"]["event_id"] for taken in receiver.taken] == [
        str(an_example(name).event_id) for name in told
    ]


async def test_a_receiver_with_another_secret_refuses(http: httpx.AsyncClient, receiver: WebhookReceiver) -> None:
    hook = a_channel(http, receiver, secret="whsec_" + "QUJD" * 8)
    with pytest.raises(PermanentError, match="no signature"):
        await hook.send(prepared(hook), mode=PRODUCTION)


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault.TOO_MANY, TooManyRequestsError),
        (Fault.UNAVAILABLE, TransientError),
        (Fault.BROKEN, TransientError),
        (Fault.GONE, PermanentError),
        (Fault.MOVED, PermanentError),
        (Fault.LOST_ANSWER, UncertainError),
        (Fault.ACCEPTED_BUT_504, UncertainError),
        (Fault.SILENT, UncertainError),
        (Fault.GARBAGE, UncertainError),
    ],
)
async def test_each_misbehaviour_has_its_meaning(
    http: httpx.AsyncClient, receiver: WebhookReceiver, fault: Fault, error: type[Exception]
) -> None:
    hook = a_channel(http, receiver)
    receiver.faults.append(fault)
    with pytest.raises(error) as raised:
        await hook.send(prepared(hook), mode=PRODUCTION)
    assert raised.type is error


@pytest.mark.parametrize("fault", [Fault.LOST_ANSWER, Fault.ACCEPTED_BUT_504, Fault.GARBAGE])
async def test_what_may_have_arrived_is_sent_again_and_taken_once(
    http: httpx.AsyncClient, receiver: WebhookReceiver, fault: Fault
) -> None:
    hook = a_channel(http, receiver)
    told = prepared(hook)
    receiver.faults.append(fault)
    with pytest.raises(UncertainError):
        await hook.send(told, mode=PRODUCTION)
    assert await hook.check(told, mode=PRODUCTION) is None
    await hook.send(told, mode=PRODUCTION)
    assert len(receiver.taken) == 1
    assert len(receiver.duplicates) == (fault is not Fault.GARBAGE)


async def test_a_receiver_that_is_down_has_got_nothing(http: httpx.AsyncClient) -> None:
    async with standing_receiver() as receiver:
        hook = a_channel(http, receiver)
    with pytest.raises(TransientError) as raised:
        await hook.send(prepared(hook), mode=PRODUCTION)
    assert raised.type is TransientError
