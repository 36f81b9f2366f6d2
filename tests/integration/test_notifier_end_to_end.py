"""Mail, webhooks and notices through the whole notifier: each thing told once, or said to be unknown."""

from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from cli.stack.kafka import KafkaBroker as LocalKafka
from services.notifier.channels.email import EmailChannel, EmailSettings
from services.notifier.channels.gcn import GcnChannel, GcnSettings, KafkaBroker
from services.notifier.channels.webhook import WebhookChannel, WebhookSettings
from shared.blobs.store import FolderBlobs
from shared.settings import DatabaseSettings
from shared.testing import smtp, webhook
from tests.support import notifier_schema
from tests.support.jobs import an_example
from tests.support.notifier import NotifierUnderTest
from tests.support.runtime import a_topic, records

database, pool, short_pauses = notifier_schema.database, notifier_schema.pool, notifier_schema.short_pauses

SITE = "https://tocsin.example"
FIRST, LAST = an_example("frb_event/chime-notice"), an_example("frb_event/chime-withdrawn")


async def run(pool: asyncpg.Pool, database: DatabaseSettings, channel: Any, *expected: str) -> NotifierUnderTest:
    """Tell a burst and its withdrawal, one after the other; return when the deliveries are in these states."""
    notifier = NotifierUnderTest(pool, database, channel)
    async with notifier.sending():
        for count, record in enumerate((FIRST, LAST), start=1):
            await notifier.take("frb.events", record)
            await notifier.until(*expected[:count], channel=channel.name)
    return notifier


@pytest.mark.parametrize(
    "fault",
    [webhook.Fault.LOST_ANSWER, webhook.Fault.ACCEPTED_BUT_504, webhook.Fault.BROKEN, webhook.Fault.GARBAGE],
)
async def test_a_webhook_is_taken_once_whatever_happens(
    pool: asyncpg.Pool, database: DatabaseSettings, fault: webhook.Fault
) -> None:
    async with webhook.standing_receiver() as receiver, httpx.AsyncClient() as http:
        settings = WebhookSettings(name="hook", sandbox_url=receiver.url, secret=webhook.SECRET)
        receiver.faults.append(fault)
        await run(pool, database, WebhookChannel(settings, http=http, site_url=SITE), "CONFIRMED", "CONFIRMED")
    assert receiver.refused == []
    assert [taken.body["type"] for taken in receiver.taken] == ["burst.new", "burst.retraction"]


@pytest.mark.parametrize(
    ("fault", "states"),
    [
        (smtp.Fault.FULL, ("CONFIRMED", "CONFIRMED")),
        (smtp.Fault.LOST_ANSWER, ("UNKNOWN", "CONFIRMED")),
        (smtp.Fault.SPAM, ("FAILED",)),
    ],
)
async def test_a_mail_is_never_sent_twice(
    pool: asyncpg.Pool, database: DatabaseSettings, fault: smtp.Fault, states: tuple[str, ...]
) -> None:
    async with smtp.standing_server() as server:
        settings = EmailSettings(
            name="mail", port=server.port, security="none", sandbox_recipients=("me@observatory.example",)
        )
        server.faults.append(fault)
        mail = EmailChannel(settings, site_url=SITE, observatory="TOCSIN")
        notifier = await run(pool, database, mail, *states)
    subjects = [delivered.mail["Subject"] for delivered in server.delivered]
    first = "[SANDBOX] TOCSIN: burst TOCSIN-FRB-18 (new)"
    assert subjects.count(first) == (fault is not smtp.Fault.SPAM)
    if fault is smtp.Fault.LOST_ANSWER:
        assert "look for it by its Message-ID" in str((await notifier.reasons("mail"))[0])
        first_mail, last_mail = (delivered.mail for delivered in server.delivered)
        assert last_mail["In-Reply-To"] == first_mail["Message-ID"], "it may have arrived, and is answered"


async def test_a_notice_is_confirmed_once_it_came_back(
    pool: asyncpg.Pool, database: DatabaseSettings, kafka_broker: LocalKafka, tmp_path: Path
) -> None:
    topic = a_topic(kafka_broker.address)
    broker = KafkaBroker({"bootstrap.servers": kafka_broker.address}, timeout_s=10)
    channel = GcnChannel(
        GcnSettings(name="notices", burst_topic=topic),
        own=broker,
        gcn=None,
        blobs=FolderBlobs(tmp_path, max_bytes=10**6),
        observatory="TOCSIN",
    )
    await run(pool, database, channel, "CONFIRMED", "CONFIRMED")
    assert len(records(kafka_broker.address, topic)) == 2
