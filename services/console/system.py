"""How everything is: what runs, what is behind, what waits for a person."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import partial
from typing import TypeVar

import asyncpg
import httpx
from confluent_kafka import KafkaException
from pydantic import BaseModel, ValidationError
from starlette.types import ASGIApp

from shared.db.errors import translated_errors
from shared.db.pool import borrowed
from shared.errors import TocsinError, TransientError
from shared.inbox import dead_letter_desk as desk
from shared.kafka.admin import admin
from shared.kafka.errors import broker_error
from shared.schema.topics import dead_letter_topic
from shared.settings import KafkaSettings

ANSWER_S, BROKER_ANSWER_S = 4.0, 5.0
# Of a healthy component on a busy machine; who looks at 3 a.m. does not wait for the others.
FRESH_S = 2.0
# A look so young serves everybody who asks.
STALE_S = 20.0
# Until then the look before is shown while a new one is on its way: pages ask again every few seconds.
RECENT_H = 24
LAGGING_MESSAGES = 1000
MAX_REPORT_BYTES = 1024 * 1024

_COUNTS = """
SELECT state, count(*) AS number, count(*) FILTER (WHERE changed_at > now() - make_interval(hours => $1)) AS recent
FROM notifier.delivery_lines WHERE state IN ('PENDING', 'SENDING', 'FAILED', 'UNKNOWN') GROUP BY state
"""

_broker_threads = ThreadPoolExecutor(max_workers=4, thread_name_prefix="broker")
# Apart from the others: what waits for a broker that is away must not keep anybody else waiting.

R = TypeVar("R")


class State(StrEnum):
    """How a component is."""

    UP = "up"
    WAITING = "waiting"
    DOWN = "down"
    ABSENT = "absent"


@dataclass(frozen=True)
class Component:
    """A store or the broker."""

    name: str
    state: State
    detail: str


@dataclass(frozen=True)
class Consumer:
    """A consumer of a service.

    Attributes
    ----------
    trouble
        Why no messages flow; None when they do.
    word
        reading, paused, halted or waiting.
    dead_letters
        How many wait for a person; None when that is not known.
    """

    service: str
    name: str
    topics: tuple[str, ...]
    word: str
    trouble: str | None
    is_outside: bool
    partitions: int
    lag: int | None
    last_event_at: datetime | None
    dead_letters: int | None


@dataclass(frozen=True)
class Source:
    """An outside source of a service."""

    service: str
    name: str
    is_connected: bool
    last_message_at: datetime | None
    last_heartbeat_at: datetime | None


@dataclass(frozen=True)
class ServiceHealth:
    """A service, as it tells of itself.

    Attributes
    ----------
    detail
        What it waits for, or why nobody knows.
    """

    name: str
    state: State
    detail: str
    version: str | None = None
    outbox_depth: int | None = None
    consumers: Sequence[Consumer] = ()
    sources: Sequence[Source] = ()


@dataclass(frozen=True)
class DeadLetters:
    """A dead-letter topic."""

    topic: str
    origin: str
    service: str
    bounds: desk.Bounds

    @property
    def waiting(self) -> int:
        """How many wait."""
        return max(self.bounds.waiting, 0)


@dataclass(frozen=True)
class Trouble:
    """Something that a person may have to look at.

    Attributes
    ----------
    address
        The page to look at.
    """

    what: str
    detail: str
    address: str
    is_grave: bool = True


@dataclass(frozen=True)
class Survey:
    """How everything was at a moment.

    Attributes
    ----------
    dead_letters
        None while the broker does not answer.
    deliveries
        How many are in each unfinished or failed state; None while the database does not answer.
    """

    at: datetime
    components: Sequence[Component]
    services: Sequence[ServiceHealth]
    dead_letters: Sequence[DeadLetters] | None
    deliveries: Mapping[str, int] | None
    troubles: Sequence[Trouble]

    @property
    def consumers(self) -> list[Consumer]:
        """Of all services."""
        return [consumer for service in self.services for consumer in service.consumers]

    @property
    def sources(self) -> list[Source]:
        """Of all services."""
        return [source for service in self.services for source in service.sources]

    @property
    def waiting_letters(self) -> list[DeadLetters]:
        """The topics where dead letters wait."""
        return [each for each in self.dead_letters or () if each.waiting]


class Surveyor:
    """Looks how everything is, at most every two seconds however many ask.

    Parameters
    ----------
    services
        Addresses by name.
    """

    def __init__(
        self,
        *,
        services: Mapping[str, str],
        http: httpx.AsyncClient,
        pool: asyncpg.Pool,
        kafka: KafkaSettings,
        influx_url: str | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._services = {name: (http, address.rstrip("/")) for name, address in services.items()}
        self._http = http
        self._pool = pool
        self._kafka = kafka
        self._influx_url = influx_url
        self._clock = clock
        self._last: tuple[Survey, float] | None = None
        self._looking: asyncio.Task[Survey] | None = None

    def include(self, name: str, app: ASGIApp) -> None:
        """Look at a service of this very process, too, whatever its address."""
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        self._services[name] = httpx.AsyncClient(transport=transport), f"http://{name}"

    async def look(self) -> Survey:
        """Return how everything is, or was a moment ago."""
        if self._last is not None:
            age_s = self._clock() - self._last[1]
            if age_s >= FRESH_S:
                self._start()
            if age_s < STALE_S:
                return self._last[0]
        # Shielded: others wait for the same look, who did not go away.
        return await asyncio.shield(self._start())

    def _start(self) -> asyncio.Task[Survey]:
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())
        return self._looking

    async def _look(self) -> Survey:
        asked = [self._ask(name, *place) for name, place in self._services.items()]
        services, (database, deliveries, recent), (broker, letters), influx = await asyncio.gather(
            asyncio.gather(*asked), self._ask_database(), self._ask_broker(), self._ask_influx()
        )
        waiting = {each.topic: each.waiting for each in letters or ()}
        healths = [_health(name, told, waiting) for name, told in services]
        components = [database, broker, influx]
        survey = Survey(
            datetime.now(UTC), components, healths, letters, deliveries, troubles(components, healths, letters, recent)
        )
        self._last = survey, self._clock()
        return survey

    async def _ask(self, name: str, http: httpx.AsyncClient, address: str) -> tuple[str, _Told | str]:
        """Return what a service tells of itself, or why it does not."""
        try:
            async with asyncio.timeout(ANSWER_S):
                status, ready = await asyncio.gather(http.get(address + "/status"), http.get(address + "/readyz"))
            if max(len(status.content), len(ready.content)) > MAX_REPORT_BYTES:
                return name, "answers too much"
            report = _Report.model_validate_json(status.raise_for_status().content)
            return name, _Told(report, _Ready.model_validate_json(ready.content))
        except TimeoutError:
            return name, f"no answer within {ANSWER_S:g} s"
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return name, str(error) or type(error).__name__
        except ValidationError:
            return name, "answers as none of our services does"

    async def _ask_database(self) -> tuple[Component, Mapping[str, int] | None, Mapping[str, int]]:
        began = time.perf_counter()
        try:
            async with asyncio.timeout(ANSWER_S):
                async with borrowed(self._pool) as connection:
                    with translated_errors():
                        version = await connection.fetchval("SHOW server_version")
                        took_ms = (time.perf_counter() - began) * 1000
                        rows = await connection.fetch(_COUNTS, RECENT_H)
        except TimeoutError:
            return Component("PostgreSQL", State.DOWN, f"no answer within {ANSWER_S:g} s"), None, {}
        except TransientError as error:
            return Component("PostgreSQL", State.DOWN, str(error)), None, {}
        except asyncpg.PostgresError as error:
            # The notifier's tables are not there yet.
            return Component("PostgreSQL", State.UP, str(error)), None, {}
        component = Component("PostgreSQL", State.UP, f"version {version.split()[0]}, answers in {took_ms:.0f} ms")
        counts = {row["state"]: row["number"] for row in rows}
        return component, counts, {row["state"]: row["recent"] for row in rows}

    async def _ask_broker(self) -> tuple[Component, Sequence[DeadLetters] | None]:
        try:
            return await with_broker(partial(_survey_broker, self._kafka))
        except TocsinError as error:
            # Also when it refuses to tell.
            return Component("Kafka", State.DOWN, str(error)), None

    async def _ask_influx(self) -> Component:
        if self._influx_url is None:
            return Component("InfluxDB", State.ABSENT, "no address is set; optional")
        try:
            async with asyncio.timeout(ANSWER_S):
                answer = await self._http.get(self._influx_url.rstrip("/") + "/ping")
        except TimeoutError:
            return Component("InfluxDB", State.DOWN, f"no answer within {ANSWER_S:g} s")
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return Component("InfluxDB", State.DOWN, str(error) or type(error).__name__)
        version = answer.headers.get("x-influxdb-version", "")
        # Any answer is one of somebody who is there; what we may ask is another question.
        return Component("InfluxDB", State.UP, f"version {version}".strip() if version else "answers")


async def with_broker(ask: Callable[[], R], *, within_s: float = BROKER_ANSWER_S) -> R:
    """Return what the broker answers to a blocking question.

    Raises
    ------
    TransientError
        It does not answer in time.
    """
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(within_s):
            return await loop.run_in_executor(_broker_threads, ask)
    except TimeoutError as error:
        raise TransientError(f"the broker does not answer within {within_s:g} s") from error


def troubles(
    components: Sequence[Component],
    services: Sequence[ServiceHealth],
    letters: Sequence[DeadLetters] | None,
    recent: Mapping[str, int],
) -> list[Trouble]:
    """Return what a person may have to look at, the gravest first.

    Parameters
    ----------
    recent
        Deliveries that came to each state lately.
    """
    found = [Trouble(f"{each.name} is down", each.detail, "/system") for each in components if each.state is State.DOWN]
    for service in services:
        if service.state is not State.UP:
            found.append(Trouble(f"{service.name} is {service.state}", service.detail, "/system"))
        for consumer in service.consumers:
            if consumer.trouble is None and not consumer.is_outside and (consumer.lag or 0) > LAGGING_MESSAGES:
                what = f"{consumer.name} is {consumer.lag} messages behind"
                found.append(Trouble(what, "it reads, and catches up", "/system#consumers", is_grave=False))
    for state, word in (("FAILED", "failed"), ("UNKNOWN", "may or may not have arrived")):
        if recent.get(state):
            what = f"{recent[state]} notice{'' if recent[state] == 1 else 's'} {word}, within a day"
            found.append(Trouble(what, "", f"/system/deliveries?state={state}", is_grave=False))
    for each in letters or ():
        if each.waiting:
            what = f"{each.waiting} dead letters wait" if each.waiting != 1 else "1 dead letter waits"
            address = f"/system/dead-letters/{each.topic}"
            found.append(Trouble(what, f"{each.service} could not handle them", address, is_grave=False))
    return sorted(found, key=lambda trouble: not trouble.is_grave)


class _Consumer(BaseModel):
    name: str
    topic: str = ""
    connected: bool = False
    partitions: int = 0
    lag: int | None = None
    paused: bool = False
    paused_reason: str | None = None
    halted: str | None = None
    last_event_age_s: float | None = None


class _Source(BaseModel):
    name: str
    connected: bool = False
    last_message_age_s: float | None = None
    last_heartbeat_age_s: float | None = None


class _Report(BaseModel):
    service: str
    version: str
    ready: bool
    consumers: list[_Consumer] = []
    outbox_depth: int | None = None
    outbox_waiting: str | None = None
    sources: list[_Source] = []


class _Ready(BaseModel):
    waiting_for: dict[str, str]


@dataclass(frozen=True)
class _Told:
    report: _Report
    ready: _Ready


def _health(name: str, told: _Told | str, waiting: Mapping[str, int]) -> ServiceHealth:
    if isinstance(told, str):
        return ServiceHealth(name, State.DOWN, told)
    report = told.report
    reasons = told.ready.waiting_for
    sources = [
        Source(name, each.name, each.connected, _ago(each.last_message_age_s), _ago(each.last_heartbeat_age_s))
        for each in report.sources
    ]
    outside = {f"{name}.{source.name}" for source in sources}
    return ServiceHealth(
        name,
        State.WAITING if reasons else State.UP,
        "; ".join(f"{what}: {why}" for what, why in reasons.items()),
        version=report.version,
        outbox_depth=report.outbox_depth,
        consumers=[_consumer(name, each, waiting, is_outside=each.name in outside) for each in report.consumers],
        sources=sources,
    )


def _consumer(service: str, told: _Consumer, waiting: Mapping[str, int], *, is_outside: bool) -> Consumer:
    topics = tuple(told.topic.split(",")) if told.topic else ()
    if told.halted is not None:
        word, trouble = "halted", told.halted
    elif told.paused:
        word, trouble = "paused", told.paused_reason or "an outage"
    elif not told.connected:
        word, trouble = "waiting", "not connected"
    elif told.partitions == 0:
        word, trouble = "waiting", "no partitions assigned"
    else:
        word, trouble = "reading", None
    counts = [waiting.get(dead_letter_topic(topic, service)) for topic in topics]
    known = [count for count in counts if count is not None]
    return Consumer(
        service,
        told.name,
        topics,
        word,
        trouble,
        is_outside,
        told.partitions,
        told.lag,
        _ago(told.last_event_age_s),
        sum(known) if known else None,
    )


def _ago(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.now(UTC) - timedelta(seconds=seconds)


def _survey_broker(kafka: KafkaSettings) -> tuple[Component, list[DeadLetters]]:
    try:
        metadata = admin(kafka).list_topics(timeout=ANSWER_S)
    except KafkaException as error:
        raise broker_error(error.args[0], f"no broker answers at {kafka.bootstrap_servers}") from error
    there = [topic for topic in desk.known_topics() if topic in metadata.topics]
    bounds = desk.bounds(kafka, there)
    number = len(metadata.brokers)
    detail = f"{number} broker{'' if number == 1 else 's'}, {len(metadata.topics)} topics"
    letters = []
    for topic in there:
        origin, _, service = topic.rpartition(".dlq.")
        letters.append(DeadLetters(topic, origin, service, bounds[topic]))
    return Component("Kafka", State.UP, detail), letters
