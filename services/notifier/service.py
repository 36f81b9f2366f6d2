"""Puts notifier together: four streams that decide, and a sender for each channel."""

from __future__ import annotations

from http import HTTPStatus

import httpx
import structlog
from fastapi import FastAPI

from services.notifier import pictures
from services.notifier.api import router
from services.notifier.by_hand import UnknownDeliveryError, WrongStateError
from services.notifier.channels.channel import Channel
from services.notifier.channels.email import EmailSettings, open_email
from services.notifier.channels.gcn import GcnSettings, open_gcn
from services.notifier.channels.slack import SlackSettings, open_slack
from services.notifier.channels.tns import TnsSettings, open_tns
from services.notifier.channels.tools import Tools
from services.notifier.channels.voevent import VoeventSettings, open_voevent
from services.notifier.channels.webhook import WebhookSettings, open_webhook
from services.notifier.dispatcher import Dispatcher
from services.notifier.handlers import NotifierHandler
from services.notifier.happenings import TOPICS
from services.notifier.heartbeat import Heart
from services.notifier.pruning import Pruner
from services.notifier.settings import NAME, ChannelSettings, NotifierSettings
from shared.compute import WorkerDiedError
from shared.events.blob import BlobRef
from shared.events.notices import ChannelMode
from shared.http.identity import Identities
from shared.http.limits import RequestLimits
from shared.http.problems import install_problem_handlers
from shared.inbox.subscription import Subscription
from shared.runner import Runtime, Service, ServiceDefinition
from shared.schema.topics import dead_letter_topic

MAX_BODY_BYTES = 16 * 1024
BODY_TIMEOUT_S = 10.0

log = structlog.get_logger(__name__)


def define(settings: NotifierSettings) -> ServiceDefinition:
    """Return the service for these settings."""
    return ServiceDefinition(name=NAME, build=lambda runtime: _build(settings, runtime))


def _build(settings: NotifierSettings, runtime: Runtime) -> Service:
    section = settings.notifier

    async def draw(skymap: BlobRef, title: str) -> bytes:
        return await runtime.background.run(pictures.draw_map, settings.blobs, skymap, title)

    async def warm_up() -> None:
        try:
            await runtime.background.run(pictures.warm_up)
        except WorkerDiedError as error:
            log.warning("pictures.not_ready", reason=str(error))

    def configure(app: FastAPI) -> None:
        statuses = {UnknownDeliveryError: HTTPStatus.NOT_FOUND, WrongStateError: HTTPStatus.CONFLICT}
        install_problem_handlers(app, statuses=statuses)
        app.add_middleware(RequestLimits, max_body_bytes=MAX_BODY_BYTES, body_timeout_s=BODY_TIMEOUT_S)

    http = httpx.AsyncClient(follow_redirects=False)
    tools = Tools(
        http=http,
        blobs=runtime.blobs,
        draw=draw,
        site_url=section.site_url.rstrip("/"),
        kafka=settings.kafka,
        observatory=section.observatory,
    )
    channels = {each.name: open_channel(each, tools) for each in section.channels}
    dispatchers = {
        each.name: Dispatcher(channels[each.name], each, pool=runtime.pool, database=settings.database, schema=NAME)
        for each in section.channels
        if each.mode is not ChannelMode.OFF
    }
    handler = NotifierHandler(
        channels=channels,
        modes={each.name: each.mode for each in section.channels},
        dispatchers=dispatchers,
        rules=section.rules,
        max_age_h=section.max_age_h,
        sender=f"tocsin.{NAME}",
    )
    return Service(
        subscriptions=[
            Subscription(
                name=f"{NAME}.{topic}",
                topics=[topic],
                receive=handler.receive,
                handle=handler.on_happening,
                dead_letter_topics={topic: dead_letter_topic(topic, NAME)},
                group=NAME,
            )
            for topic in TOPICS
        ],
        background=[
            *(dispatcher.run for dispatcher in dispatchers.values()),
            *(channel.run for channel in channels.values()),
            Heart(runtime.pool, service=NAME, interval_s=section.heartbeat_s).run,
            Pruner(runtime.pool).run,
            *([warm_up] if any(isinstance(each, SlackSettings) and each.draws for each in section.channels) else []),
        ],
        routers=[router(runtime.pool, Identities(http, section.accounts_url), sender=f"tocsin.{NAME}")],
        configure=configure,
    )


def open_channel(settings: ChannelSettings, tools: Tools) -> Channel:
    """Return the channel that settings describe."""
    match settings:
        case SlackSettings():
            return open_slack(settings, tools)
        case TnsSettings():
            return open_tns(settings, tools)
        case VoeventSettings():
            return open_voevent(settings, tools)
        case GcnSettings():
            return open_gcn(settings, tools)
        case EmailSettings():
            return open_email(settings, tools)
        case WebhookSettings():
            return open_webhook(settings, tools)
