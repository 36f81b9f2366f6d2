"""Everybody whom notifier and console talk to, on the loopback address of this process, and the settings for it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from shared.events.frb import FrbEvent
from shared.kafka.message import wire_headers
from shared.outbox.event import outgoing
from shared.testing import slack, smtp, survey, tns, vtp, webhook
from shared.testing.slack import SlackWorkspace
from shared.testing.smtp import SmtpServer
from shared.testing.survey import SkyStandIn
from shared.testing.tns import TnsStandIn
from shared.testing.vtp import ReceivingBroker
from shared.testing.webhook import WebhookReceiver
from tests.support.runtime import send

DEADLINE_S = 20.0
INSTITUTE = "observatory.example"
HOOK = "C0HOOK"
# The Slack channel whose incoming webhook is used.
SECRETS = (slack.TOKEN, slack.SIGNING_SECRET, webhook.SECRET, "/services/" + HOOK, "the tns key")


@dataclass
class StandIns:
    """One of each kind.

    Attributes
    ----------
    world
        Stands at every address of mode PRODUCTION; takes webhooks, and refuses everything else that comes there.
    """

    slack: SlackWorkspace
    tns: TnsStandIn
    smtp: SmtpServer
    broker: ReceivingBroker
    webhook: WebhookReceiver
    world: WebhookReceiver
    sky: SkyStandIn
    loop: asyncio.AbstractEventLoop

    def do(self, action: Callable[[], None]) -> None:
        """Have something done between two requests."""

        async def done() -> None:
            action()

        asyncio.run_coroutine_threadsafe(done(), self.loop).result(DEADLINE_S)

    def channels(self, *names: str, mode: str = "SANDBOX") -> list[dict[str, Any]]:
        """The settings of channels, by name; of all unless some are named."""
        world, brokers = self.world.url, [{"host": "127.0.0.1", "port": self.world.port}]
        ready: dict[str, dict[str, Any]] = {
            "slack": {
                "kind": "slack", "bot_token": slack.TOKEN, "api_url": self.slack.api_url,
                "channel": slack.CHANNEL, "sandbox_channel": slack.SANDBOX,
            },
            "slack-hook": {
                "kind": "slack", "webhook_url": world, "sandbox_webhook_url": self.slack.webhook_url(HOOK),
            },
            "tns": {
                "kind": "tns", "url": world, "sandbox_url": self.tns.url, "api_key": self.tns.api_key,
                "bot_id": self.tns.bot_id, "bot_name": self.tns.bot_name, "reporter": "A. Observer",
                "reporting_group": 5, "first_reply_s": 0.3, "check_after_s": 0.1,
            },
            "voevent": {
                "kind": "voevent", "institute": INSTITUTE, "instrument": "dish",
                "sandbox_brokers": [{"host": "127.0.0.1", "port": self.broker.port}],
                "production_brokers": brokers,
            },
            "gcn": {"kind": "gcn"},
            "email": {
                "kind": "email", "port": self.smtp.port, "security": "none",
                "recipients": ["all@observatory.example"], "sandbox_recipients": ["me@observatory.example"],
            },
            "webhook": {
                "kind": "webhook", "url": world, "sandbox_url": self.webhook.url, "secret": self.webhook.secret,
            },
        }  # fmt: skip
        limits = {"mode": mode, "per_minute": 60_000, "at_once": 1_000}
        return [{"name": name, **limits, **ready[name]} for name in names or ready]


def write_settings(path: Path, channels: list[dict[str, Any]], **notifier: Any) -> str:
    """Write the file that TOCSIN_CONFIG names: everything is told on every channel unless other rules are given."""
    section = {"channels": channels, "rules": [{"channel": each["name"]} for each in channels], **notifier}
    path.write_text(yaml.safe_dump({"notifier": section}), "utf-8")
    return str(path)


def publish(address: str, topic: str, *records: FrbEvent) -> None:
    """Put records on a topic, as the service that owns it does."""
    events = [outgoing(topic, record, is_test=record.is_test, sender="test") for record in records]
    send(address, topic, *((event.key.encode(), event.value, wire_headers(event.headers)) for event in events))


@contextmanager
def standing() -> Iterator[StandIns]:
    """Return the stand-ins, which run in a thread of their own while the block does."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="stand-ins")
    thread.start()

    def run(work: Awaitable[Any]) -> Any:
        async def awaited() -> Any:
            return await work

        return asyncio.run_coroutine_threadsafe(awaited(), loop).result(DEADLINE_S)

    stack = AsyncExitStack()
    try:
        yield run(_enter(stack, loop))
    finally:
        run(stack.aclose())
        loop.call_soon_threadsafe(loop.stop)
        thread.join(DEADLINE_S)
        loop.close()


async def _enter(stack: AsyncExitStack, loop: asyncio.AbstractEventLoop) -> StandIns:
    stand_ins = StandIns(
        slack=await stack.enter_async_context(slack.standing_slack()),
        tns=await stack.enter_async_context(tns.standing_tns(TnsStandIn(api_key=SECRETS[-1], delay_replies=1))),
        smtp=await stack.enter_async_context(smtp.standing_server()),
        broker=await stack.enter_async_context(vtp.receiving_broker()),
        webhook=await stack.enter_async_context(webhook.standing_receiver()),
        world=await stack.enter_async_context(webhook.standing_receiver()),
        sky=await stack.enter_async_context(survey.standing_sky()),
        loop=loop,
    )
    stand_ins.slack.messages[HOOK] = {}
    return stand_ins
