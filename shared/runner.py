"""Runs a service: settings, logs, database, consumers, outbox relay, HTTP, signals. Every `__main__` calls `run`."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import asyncpg
import structlog
import uvicorn
import uvloop
from fastapi import APIRouter, FastAPI

from shared.blobs.store import BlobStore, open_store
from shared.compute import ComputePool
from shared.db.pool import create_pool
from shared.errors import TocsinError
from shared.http.app import create_app
from shared.http.protocol import PatientProtocol
from shared.inbox.dead_letters import DeadLetterOffice
from shared.inbox.feed import FeedLoop
from shared.inbox.processor import Processor
from shared.inbox.state import ConsumerState
from shared.inbox.subscription import Subscription
from shared.kafka.consumer import ConsumerLoop, consumer_config
from shared.kafka.producer import EventProducer
from shared.observability.logging import configure_logging
from shared.outbox.relay import OutboxRelay
from shared.outbox.tail import find_published
from shared.settings import ServiceSettings

DATABASE_ANSWER_S = 2.0
PUBLISH_GRACE_S = 5.0
# How long a stop waits for the relay after the consumers; what it does not publish waits in the outbox.
HTTP_GRACE_S = 3
BACKGROUND_NICENESS = 19
INBOX_RETENTION_DAYS = 200
# An event can come again for as long as its topic keeps it (90 days), and then its dead letter (90 days).
PRUNE_INTERVAL_S = 6 * 3600.0

_NO_ANSWER = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Runtime:
    """What a service is built from: the resources that the runner opens and closes.

    Attributes
    ----------
    compute
        For what an event waits for.
    background
        For what follows an event (pictures): worker processes of its own, which step back behind the others.
    """

    pool: asyncpg.Pool
    blobs: BlobStore
    compute: ComputePool
    background: ComputePool


@dataclass(frozen=True)
class Service:
    """What a service consists of.

    Attributes
    ----------
    background
        Coroutines that run beside the consumers (a folder watcher); cancelled at shutdown.
    configure
        Finishes the HTTP application: middleware, handlers of errors.
    sources
        Lines of /status about outside sources, given the consumers' states by name.
    """

    subscriptions: Sequence[Subscription[Any]] = ()
    background: Sequence[Callable[[], Awaitable[None]]] = ()
    routers: Sequence[APIRouter] = ()
    configure: Callable[[FastAPI], None] = lambda _: None
    sources: Callable[[Mapping[str, ConsumerState]], list[dict[str, Any]]] = lambda _: []


@dataclass(frozen=True)
class ServiceDefinition:
    """A service before it runs: its name, how to build it, what its worker processes import."""

    name: str
    build: Callable[[Runtime], Service]
    preload: tuple[str, ...] = ()


@dataclass
class _Status:
    service: str
    version: str
    pool: asyncpg.Pool
    relay: OutboxRelay
    describe_sources: Callable[[Mapping[str, ConsumerState]], list[dict[str, Any]]]
    consumers: list[ConsumerState] = field(default_factory=list)

    @property
    def relay_waiting(self) -> str | None:
        return self.relay.waiting_reason

    async def outbox_depth(self) -> int | None:
        try:
            async with asyncio.timeout(DATABASE_ANSWER_S):
                depth: int = await self.pool.fetchval("SELECT count(*) FROM outbox")
        except _NO_ANSWER:
            return None
        return depth

    def sources(self) -> list[dict[str, Any]]:
        return self.describe_sources({state.name: state for state in self.consumers})


def run(definition: ServiceDefinition, settings: ServiceSettings) -> None:
    """Run a service until SIGTERM or SIGINT; a second signal ends it at once.

    Exits with 1 when a consumer can no longer work.
    """
    configure_logging(settings.log, definition.name)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(definition, settings))
    except* TocsinError as group:
        for error in group.exceptions:
            log.critical("service.failed", error=str(error), exc_info=error)
        raise SystemExit(1) from None
    log.info("service.stopped")


async def _serve(definition: ServiceDefinition, settings: ServiceSettings) -> None:
    release = version("tocsin")
    log.info("service.starting", version=release)
    async with contextlib.AsyncExitStack() as resources:
        pool = await create_pool(settings.database, definition.name)
        resources.push_async_callback(_close_pool, pool)
        producer = await resources.enter_async_context(EventProducer(settings.kafka))
        compute = ComputePool(workers=settings.consumer.compute_workers, preload=definition.preload)
        background = ComputePool(workers=1, preload=definition.preload, niceness=BACKGROUND_NICENESS)
        resources.callback(compute.close)
        resources.callback(background.close)
        if definition.preload:
            await compute.warm_up()
        client = settings.kafka.client_config()
        relay = OutboxRelay(
            definition.name,
            database=settings.database,
            producer=producer,
            find_published=lambda topics, ids: find_published(client, topics, ids),
        )
        service = definition.build(
            Runtime(pool=pool, blobs=open_store(settings.blobs), compute=compute, background=background)
        )
        status = _Status(definition.name, release, pool, relay, service.sources)
        loops = []
        for subscription in service.subscriptions:
            state = ConsumerState(subscription.name, tuple(subscription.topics), is_outside=subscription.is_outside)
            status.consumers.append(state)
            loops.append(_consumer(subscription, state, settings, pool, producer, relay, release))
        await _recall_last_events(pool, status.consumers)
        app = create_app(status, service.routers)
        service.configure(app)
        server = _Server(
            uvicorn.Config(
                app,
                host=settings.http.host,
                port=settings.http.port,
                log_config=None,
                access_log=False,
                http=PatientProtocol,
                ws="none",
                forwarded_allow_ips=settings.http.trusted_proxies,
                timeout_graceful_shutdown=HTTP_GRACE_S,
            )
        )
        await _until_stopped(loops, relay, server, [*service.background, lambda: _prune_inbox(pool)])


async def _prune_inbox(pool: asyncpg.Pool) -> None:
    """Forget events that no topic can deliver again."""
    while True:
        try:
            pruned = await pool.execute(
                "DELETE FROM inbox WHERE handled_at < now() - make_interval(days => $1)", INBOX_RETENTION_DAYS
            )
            log.info("inbox.pruned", result=pruned)
        except (
            OSError,
            TimeoutError,
            asyncpg.PostgresError,
            asyncpg.InterfaceError,
            asyncpg.InternalClientError,
        ) as error:
            log.warning("inbox.not_pruned", reason=str(error))
        await asyncio.sleep(PRUNE_INTERVAL_S)


async def _recall_last_events(pool: asyncpg.Pool, consumers: Sequence[ConsumerState]) -> None:
    """Tell each consumer when it last handled an event, so that a restart does not look like silence."""
    try:
        async with asyncio.timeout(DATABASE_ANSWER_S):
            rows = await pool.fetch(
                "SELECT consumer, EXTRACT(epoch FROM max(handled_at))::float8 AS at FROM inbox GROUP BY consumer"
            )
    except _NO_ANSWER:
        log.warning("service.history.unknown", reason="the database does not answer")
        return
    handled_at = {row["consumer"]: row["at"] for row in rows}
    for consumer in consumers:
        consumer.last_event_at = handled_at.get(consumer.name)


async def _until_stopped(
    loops: Sequence[ConsumerLoop | FeedLoop],
    relay: OutboxRelay,
    server: "_Server",
    background: Sequence[Callable[[], Awaitable[None]]],
) -> None:
    stopping = asyncio.Event()
    _on_signals(stopping)
    async with asyncio.TaskGroup() as group:
        serving = group.create_task(server.serve())
        relaying = group.create_task(relay.run())
        consuming = [group.create_task(loop.run()) for loop in loops]
        watching = [group.create_task(_forever(work)) for work in background]
        await stopping.wait()
        log.info("service.stopping")
        for task in watching:
            task.cancel()
        for loop in loops:
            loop.stop()
        # Consumers first: what they still commit is published by the relay. They watch over their grace themselves.
        if consuming:
            await asyncio.wait(consuming)
        relay.stop()
        await asyncio.wait([relaying], timeout=PUBLISH_GRACE_S)
        relaying.cancel()
        server.should_exit = True
        await serving


async def _forever(work: Callable[[], Awaitable[None]]) -> None:
    await work()


def _consumer(
    subscription: Subscription[Any],
    state: ConsumerState,
    settings: ServiceSettings,
    pool: asyncpg.Pool,
    producer: EventProducer,
    relay: OutboxRelay,
    release: str,
) -> ConsumerLoop | FeedLoop:
    office = DeadLetterOffice(
        producer,
        topic_of=subscription.dead_letter_topics,
        service=subscription.name,
        version=release,
        max_consecutive=settings.consumer.max_consecutive_dead_letters,
    )
    processor = Processor(
        subscription,
        pool=pool,
        dead_letters=office,
        committed=relay.wake,
        state=state,
        settings=settings.consumer,
    )
    if subscription.feed is not None:
        return FeedLoop(subscription.feed, process=processor, state=state)
    config = consumer_config(
        dict(subscription.client) if subscription.client is not None else settings.kafka.client_config(),
        group=subscription.group,
        start_at=subscription.start_at,
        group_protocol=subscription.group_protocol or settings.kafka.group_protocol,
        settings=settings.consumer,
    )
    return ConsumerLoop(
        name=subscription.name,
        topics=subscription.topics,
        config=config,
        process=processor,
        observer=state,
        settings=settings.consumer
        if subscription.batch_size is None
        else settings.consumer.model_copy(update={"batch_size": subscription.batch_size}),
    )


class _Server(uvicorn.Server):
    """uvicorn without its own signal handlers: the runner stops everything in order."""

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        yield

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        if self.started:
            ports = [socket.getsockname()[1] for server in self.servers for socket in server.sockets]
            log.info("service.listening", host=self.config.host, port=ports[0])


def _on_signals(stopping: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _stop_or_exit, stopping)


def _stop_or_exit(stopping: asyncio.Event) -> None:
    if stopping.is_set():
        # At once means without a word to anybody; the runtime is made to be killed.
        os._exit(1)
    stopping.set()


async def _close_pool(pool: asyncpg.Pool) -> None:
    # A server that does not answer must not hold the shutdown up.
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(pool.close(), 5)
