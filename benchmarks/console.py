"""Pages of the console among 10^3 and 10^5 bursts, against the question behind each; and browsers that follow."""

import asyncio
import itertools
import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median, quantiles
from threading import Event, Thread
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import numpy as np

from benchmarks import listing
from benchmarks.report import Row
from benchmarks.system import System, running
from cli.stack.services import Service, ServiceProcess
from services.console import coincidences, superevents
from services.console.pages import coincidences as coincidence_pages
from services.console.pages import deliveries as delivery_pages
from services.console.pages import superevents as superevent_pages
from services.frb_intake.accounts import Role, add_user
from shared.db.pool import connect
from shared.settings import DatabaseSettings
from tests.support.frb_intake import a_burst

SIZES = (1_000, 100_000)
# Bursts and deliveries; a tenth as many superevents and pairs.
PAGE, ROUNDS, WARM_UP = 50, 7, 2
BROWSERS, SECONDS, DEADLINE_S = 200, 30, 60.0
USER, PASSWORD = "telescope", "a long password"
CHANNELS = ("slack", "tns", "voevent", "webhook", "gcn")
AIM = "at most 5"

BURSTS: Sequence[Mapping[str, Any]] = (
    {},
    {"since": "2025-11-01"},
    {"until": "2016-02-01"},
    {"dm_min": 1500},
    {"dm_max": 150},
    {"sn_min": 100},
    {"ra": 77, "dec": 26, "radius": 0.1},
    {"ra": 180, "dec": 0, "radius": 30},
    {"repeater": "true"},
    {"status": "confirmed"},
    {"rating": "unsure"},
    {"tns_name": "FRB 20200101A"},
    {"is_test": "false"},
    {"dm_min": 400, "status": "withdrawn"},
    *({"sort": by, "order": way} for by in ("dm", "sn", "width", "confirm") for way in ("asc", "desc")),
)
WAVES: Sequence[Mapping[str, Any]] = (
    {},
    {"since": "2025-11-01T00:00"},
    {"until": "2016-02-01T00:00"},
    {"id": "s0"},
    {"id": "ms00", "sort": "id", "order": "asc"},
    {"kind": "REAL"},
    {"type": "RETRACTION"},
    {"group": "Burst"},
    {"classification": "NSBH"},
    {"significant": "yes"},
    {"state": "RETRACTED"},
    {"far_max": 0.01},
    {"area_90_max": 5},
    {"distance_max": 40},
    {"classification": "BNS", "area_90_max": 30},
    *({"sort": each.name, "order": way} for each in superevents.Sort for way in ("asc", "desc")),
)
PAIRS: Sequence[Mapping[str, Any]] = (
    {},
    {"since": "2025-11-01T00:00"},
    {"state": "WITHDRAWN"},
    {"announced": "yes"},
    {"test": "no"},
    {"odds_min": 10},
    {"superevent": "S000007"},
    {"burst": 7},
    *({"sort": by, "order": way} for by in ("decided", "time", "odds", "far") for way in ("asc", "desc")),
)
DELIVERIES: Sequence[Mapping[str, Any]] = (
    {},
    {"state": "FAILED"},
    {"channel": "tns"},
    {"subject": "frb/7"},
    {"test": "without"},
    {"test": "only"},
    {"state": "FAILED", "channel": "gcn"},
    {"order": "oldest"},
)


def measure() -> list[Row]:
    """Return the rows."""
    with running("frb_intake") as system, tempfile.TemporaryDirectory() as folder:
        intake = system.services[0].address
        console = ServiceProcess(Service("console", 0, "measured"), Path(folder))
        addresses = {
            "TOCSIN_CONSOLE__INTAKE_URL": intake,
            "TOCSIN_CONSOLE__SERVICES": json.dumps({"frb_intake": intake}),
        }
        try:
            console.start(system.environment | addresses)
            # Before other bursts are put beside the sequence of their numbers.
            followed = asyncio.run(_browsers(system, console.address))
            return asyncio.run(_pages(system, console.address)) + followed
        finally:
            console.stop()


# Pages.


@dataclass(frozen=True)
class Asked:
    """A page with some filters, and the question behind it."""

    table: str
    path: str
    params: Mapping[str, Any]
    bare: Callable[[], Any]
    bare_s: list[float] = field(default_factory=list)
    page_s: list[float] = field(default_factory=list)

    @property
    def name(self) -> str:
        return ", ".join(f"{name} {value}" for name, value in self.params.items()) or "all"

    @property
    def ratio(self) -> float:
        return median(self.page_s) / median(self.bare_s)


async def _pages(system: System, address: str) -> list[Row]:
    settings = DatabaseSettings(url=system.environment["TOCSIN_DATABASE__URL"])
    of_size: dict[int, list[Asked]] = {}
    async with (
        httpx.AsyncClient(base_url=address, timeout=60) as browser,
        httpx.AsyncClient(base_url=system.services[0].address, timeout=60) as intake,
        connect(settings, "console") as connection,
    ):
        for size in SIZES:
            async with connect(settings, "frb_intake") as of_bursts:
                await listing.fill(of_bursts, size)
            await _fill(connection, size)
            of_size[size] = _questions(connection, intake, browser)
            for number in range(WARM_UP + ROUNDS):
                for asked in of_size[size]:
                    bare_s, page_s = await _taken_s(asked.bare), await _taken_s(_page(browser, asked))
                    if number >= WARM_UP:
                        asked.bare_s.append(bare_s)
                        asked.page_s.append(page_s)
    rows = [_slowest(size, table, of_size[size]) for size in SIZES for table in _tables(of_size[size])]
    return rows + [_growth(table, of_size) for table in _tables(of_size[SIZES[-1]])]


def _questions(connection: asyncpg.Connection, intake: httpx.AsyncClient, browser: httpx.AsyncClient) -> list[Asked]:
    """Return every page with what it is compared with: the API that it asks, or the query and an empty answer."""

    def of_api(params: Mapping[str, Any]) -> Callable[[], Any]:
        async def ask() -> None:
            (await intake.get("/api/v1/events", params=dict(params))).raise_for_status()

        return ask

    def of_query(query: str, arguments: Sequence[Any]) -> Callable[[], Any]:
        async def ask() -> None:
            await connection.fetch(query, *arguments)
            (await browser.get("/healthz")).raise_for_status()

        return ask

    found = [Asked("bursts", "/frb", params, of_api(params)) for params in BURSTS]
    for params in WAVES:
        waves = superevent_pages.TableQuery.model_validate(params)
        question = superevents.LISTING.select(waves.filters, waves.table_order, limit=PAGE + 1)
        found.append(Asked("superevents", "/gw", params, of_query(*question)))
    for params in PAIRS:
        pairs = coincidence_pages.TableQuery.model_validate(params)
        question = coincidences.LISTING.select(pairs.filters, pairs.table_order, limit=PAGE + 1)
        found.append(Asked("coincidences", "/mma", params, of_query(*question)))
    for params in DELIVERIES:
        statement = delivery_pages.select(delivery_pages.DeliveryQuery.model_validate(params), PAGE)
        found.append(Asked("deliveries", "/system/deliveries", params, of_query(statement.sql, statement.arguments)))
    now = "SELECT * FROM frb_intake.change_lines WHERE is_test = false ORDER BY changed_at DESC LIMIT 50"
    return [*found, *(Asked("Now", "/", params, of_query(now, ())) for params in ({}, {"tests": "hide"}))]


def _page(browser: httpx.AsyncClient, asked: Asked) -> Callable[[], Any]:
    async def ask() -> None:
        (await browser.get(asked.path, params=dict(asked.params))).raise_for_status()

    return ask


async def _taken_s(ask: Callable[[], Any]) -> float:
    began = time.perf_counter()
    await ask()
    return time.perf_counter() - began


def _tables(found: Sequence[Asked]) -> list[str]:
    return list(dict.fromkeys(asked.table for asked in found))


def _slowest(size: int, table: str, found: Sequence[Asked]) -> Row:
    of_table = [asked for asked in found if asked.table == table]
    worst = max(of_table, key=lambda asked: asked.ratio)
    peer = "the intake's API" if table == "bursts" else "its query and an empty answer"
    all_s = [median(asked.page_s) for asked in of_table]
    return Row(
        what=f"page of {table} among {size:,} bursts, the worst of {len(of_table)} filters and orders ({worst.name})",
        peer=f"{peer} {median(worst.bare_s) * 1e3:.1f} ms",
        ours=f"{median(worst.page_s) * 1e3:.1f} ms (median of all {median(all_s) * 1e3:.1f},"
        f" {sum(asked.ratio > 5 for asked in of_table)} over the aim)",
        ratio=worst.ratio,
        aim="none" if table == "Now" else AIM,
    )


def _growth(table: str, of_size: Mapping[int, Sequence[Asked]]) -> Row:
    small, large = (
        median(median(asked.page_s) for asked in of_size[size] if asked.table == table)
        for size in (SIZES[0], SIZES[-1])
    )
    return Row(
        what=f"page of {table}, {SIZES[-1]:,} against {SIZES[0]:,} bursts, median of filters and orders",
        peer=f"{small * 1e3:.1f} ms",
        ours=f"{large * 1e3:.1f} ms",
        ratio=large / small,
        aim="flat (about 1)",
    )


async def _fill(connection: asyncpg.Connection, size: int) -> None:
    """Put so many deliveries and changes there, a tenth as many superevents and pairs, and nothing else."""
    chance = np.random.default_rng(size)
    await _fill_waves(connection, size // 10, chance)
    await _fill_pairs(connection, size // 10, chance)
    await _fill_deliveries(connection, size, chance)
    await connection.execute(
        "INSERT INTO frb_intake.changes (burst_id, revision, change, changed_at, changed_by, detail, record)"
        " SELECT id, 1, 'CREATED', event_time, 'craft', '{}',"
        " json_build_object('is_test', is_test, 'status', status, 'latest',"
        " json_build_object('dm_pc_cm3', dm_pc_cm3, 'snr', snr)) FROM frb_intake.bursts",
        timeout=listing.FILL_S,
    )
    await connection.execute("VACUUM ANALYZE frb_intake.changes", timeout=listing.FILL_S)


def _moments(chance: np.random.Generator, number: int) -> list[datetime]:
    began = listing.BEGAN
    return [began + timedelta(seconds=s) for s in chance.uniform(0, listing.YEARS * 365 * 86400, number).tolist()]


async def _fill_waves(connection: asyncpg.Connection, number: int, chance: np.random.Generator) -> None:
    kinds = chance.choice(["REAL", "MOCK"], number, p=[0.2, 0.8]).tolist()
    types = chance.choice(["PRELIMINARY", "INITIAL", "UPDATE", "RETRACTION"], number, p=[0.3, 0.2, 0.4, 0.1]).tolist()
    groups = chance.choice(["CBC", "Burst"], number, p=[0.95, 0.05]).tolist()
    classes = chance.choice(["BNS", "NSBH", "BBH", "Terrestrial"], number, p=[0.3, 0.1, 0.4, 0.2]).tolist()
    rates, areas = (10 ** chance.uniform(low, high, number) for low, high in ((-16, -5), (0, 4)))
    times = _moments(chance, number)
    rows = (
        (
            f"{'S' if kinds[n] == 'REAL' else 'MS'}{n:06d}", kinds[n], kinds[n] != "REAL",
            "RETRACTED" if types[n] == "RETRACTION" else "OPEN", types[n], 3, times[n], times[n], float(rates[n]),
            bool(rates[n] < 3.9e-7), groups[n], "gstlal", classes[n], 0.9, float(areas[n] / 4), float(areas[n]),
            float(10 + n % 3000), 30.0,
        )
        for n in range(number)
    )  # fmt: skip
    await connection.execute("TRUNCATE superevents")
    await connection.copy_records_to_table(
        "superevents",
        columns=(
            "superevent_id", "kind", "is_test", "state", "alert_type", "alert_count", "event_time", "updated_at",
            "far_hz", "significant", "search_group", "pipeline", "source_class", "source_probability", "area_50_deg2",
            "area_90_deg2", "distance_mean_mpc", "distance_std_mpc",
        ),
        records=rows,
    )  # fmt: skip
    await connection.execute("VACUUM ANALYZE superevents")


async def _fill_pairs(connection: asyncpg.Connection, number: int, chance: np.random.Generator) -> None:
    times = _moments(chance, number)
    states = chance.choice(["ANNOUNCED", "NOT_ANNOUNCED", "WITHDRAWN", "OUTSIDE"], number, p=[0.02, 0.9, 0.03, 0.05])
    odds = (10 ** chance.uniform(-8, 3, number)).tolist()
    await connection.execute("TRUNCATE coincidence.pairs, coincidence.waves, coincidence.bursts")
    copy = connection.copy_records_to_table
    await copy(
        "waves",
        schema_name="coincidence",
        columns=("superevent_id", "is_test", "is_retracted", "event_time", "state"),
        records=((f"S{n:06d}", n % 5 != 0, False, times[n], "{}") for n in range(number)),
    )
    await copy(
        "bursts",
        schema_name="coincidence",
        columns=("frb_id", "revision", "is_test", "time", "state"),
        records=(
            (n, 1, n % 5 != 0, times[n], json.dumps({"facts": {"internal_name": f"TOCSIN-FRB-{n}"}}))
            for n in range(number)
        ),
    )
    scores = [
        json.dumps(
            {
                "time_offset_s": 1.5, "time_offset_err_s": 0.01, "window": "NARROW", "overlap_sky": 3.2,
                "overlap_3d": 7.7, "credible_level": 0.4, "far_time_hz": 1e-9, "far_space_time_hz": 1e-10 / value,
                "odds": value,
            }
        )
        for value in odds
    ]  # fmt: skip
    await copy(
        "pairs",
        schema_name="coincidence",
        columns=(
            "superevent_id", "frb_id", "is_test", "state", "reason", "scores", "odds", "alert_event_id",
            "burst_revision", "method_version", "decided_at", "revision", "is_open", "decided_digest",
        ),
        records=(
            (
                f"S{n:06d}", n, n % 5 != 0, str(states[n]), "chance does as well", scores[n], odds[n], UUID(int=n), 1,
                "1", times[n], 1, states[n] == "ANNOUNCED", "",
            )
            for n in range(number)
        ),
    )  # fmt: skip
    for table in ("pairs", "waves", "bursts"):
        await connection.execute(f"VACUUM ANALYZE coincidence.{table}")


async def _fill_deliveries(connection: asyncpg.Connection, number: int, chance: np.random.Generator) -> None:
    states = chance.choice(
        ["CONFIRMED", "SENT", "SUPPRESSED", "FAILED", "UNKNOWN"], number, p=[0.6, 0.2, 0.19, 0.0099, 0.0001]
    )
    times = sorted(_moments(chance, number))
    await connection.execute("TRUNCATE notifier.deliveries, notifier.happenings")
    await connection.execute(
        "INSERT INTO notifier.happenings (event_id, topic, subject, record) VALUES ($1, 'frb.events', 'frb/1', '{}')",
        UUID(int=0),
    )
    await connection.copy_records_to_table(
        "deliveries",
        schema_name="notifier",
        timeout=listing.FILL_S,
        columns=(
            "channel", "channel_kind", "mode", "subject", "revision", "event_id", "cause_id", "cause_topic", "action",
            "is_test", "state", "attempts", "decided_at", "changed_at",
        ),
        records=(
            (
                CHANNELS[n % 5], CHANNELS[n % 5], "PRODUCTION", f"frb/{n // 5}", 1, UUID(int=0), UUID(int=n),
                "frb.events", "NEW", n % 10 == 0, str(states[n]), 1, times[n], times[n],
            )
            for n in range(number)
        ),
    )  # fmt: skip
    await connection.execute("VACUUM ANALYZE notifier.deliveries", timeout=listing.FILL_S)


# Browsers.


@dataclass
class Arrivals:
    """When who heard of each burst."""

    heard: dict[int, list[float]] = field(default_factory=dict)

    def note(self, frb_id: int) -> None:
        self.heard.setdefault(frb_id, []).append(time.perf_counter())

    def have(self, wanted: Sequence[int], number: int) -> bool:
        return all(len(self.heard.get(frb_id, ())) >= number for frb_id in wanted)


async def _browsers(system: System, address: str) -> list[Row]:
    settings = DatabaseSettings(url=system.environment["TOCSIN_DATABASE__URL"])
    async with connect(settings, "frb_intake") as connection:
        await add_user(connection, name=USER, roles=[Role.SUBMIT], password=PASSWORD)
    of_reader, stopping = Arrivals(), Event()
    reader = Thread(target=_read, args=(system, of_reader, stopping), daemon=True)
    reader.start()
    # In a process of their own: what they do with what comes is not the time of an upload.
    context = get_context("spawn")
    here, there = context.Pipe()
    browsers = context.Process(target=_be_browsers, args=(address, BROWSERS, there), daemon=True)
    try:
        async with httpx.AsyncClient(
            base_url=system.services[0].address, auth=(USER, PASSWORD), timeout=60
        ) as telescope:
            for _ in range(WARM_UP):
                await _upload(telescope)
            alone = [await _upload(telescope) for _ in range(SECONDS)]
            browsers.start()
            await _until(here.poll, "every browser connected")
            here.recv()
            watched = [await _upload(telescope) for _ in range(SECONDS)]
        wanted = [frb_id for frb_id, _, _ in watched]
        here.send(wanted)
        await _until(here.poll, "every browser heard of all")
        of_browsers = Arrivals(here.recv())
        await _until(lambda: of_reader.have(wanted, 1), "the bare consumer heard of all")
    finally:
        stopping.set()
        reader.join(DEADLINE_S)
        if browsers.pid is not None:
            browsers.terminate()
    return _browser_rows(alone, watched, of_reader, of_browsers)


def _be_browsers(address: str, number: int, pipe: Connection) -> None:
    """Be so many browsers: say when all follow, and when each heard of the bursts that are then asked for."""

    async def be() -> None:
        arrivals = Arrivals()
        tasks = [asyncio.create_task(_follow(address, arrivals)) for _ in range(number)]
        await _until(lambda: _is_connected(tasks), "every browser connected")
        pipe.send(None)
        wanted = await asyncio.to_thread(pipe.recv)
        await _until(lambda: arrivals.have(wanted, number), "every browser heard of all")
        pipe.send(arrivals.heard)
        await asyncio.gather(*tasks)

    asyncio.run(be())


def _browser_rows(
    alone: "Sequence[Upload]", watched: "Sequence[Upload]", of_reader: Arrivals, of_browsers: Arrivals
) -> list[Row]:
    reader_s = [of_reader.heard[frb_id][0] - began for frb_id, began, _ in watched]
    last_s = [max(of_browsers.heard[frb_id]) - began for frb_id, began, _ in watched]
    behind_s = [last - read for last, read in zip(last_s, reader_s, strict=True)]
    taken = [[taken_s for _, _, taken_s in each] for each in (alone, watched)]
    return [
        Row(
            what=f"upload of a burst to the last of {BROWSERS} browsers, one a second for {SECONDS} s",
            peer=f"to a bare consumer of `frb.events` {median(reader_s) * 1e3:.1f} ms",
            ours=f"{median(last_s) * 1e3:.1f} ms (behind the consumer {median(behind_s) * 1e3:.1f},"
            f" 95 % below {quantiles(behind_s, n=20)[-1] * 1e3:.0f})",
            ratio=median(last_s) / median(reader_s),
            aim="none",
        ),
        Row(
            what=f"upload of a burst while {BROWSERS} browsers follow",
            peer=f"nobody follows {median(taken[0]) * 1e3:.1f} ms",
            ours=f"{median(taken[1]) * 1e3:.1f} ms",
            ratio=median(taken[1]) / median(taken[0]),
            aim="the same (about 1)",
        ),
    ]


Upload = tuple[int, float, float]
"""The burst's number, when the upload began, and how long it took (s)."""


async def _upload(telescope: httpx.AsyncClient) -> Upload:
    """Send a burst, and wait until a second is over."""
    began = time.perf_counter()
    answer = (await telescope.post("/api/v1/events", json=a_burst())).raise_for_status()
    taken_s = time.perf_counter() - began
    await asyncio.sleep(max(0.0, 1 - taken_s))
    return int(answer.json()["id"]), began, taken_s


def _read(system: System, arrivals: Arrivals, stopping: Event) -> None:
    consumer = system.consumer("frb.events")
    while not stopping.is_set():
        message = consumer.poll(0.1)
        if message is not None and message.error() is None:
            arrivals.note(int(message.key() or b""))
    consumer.close()


_connected: set[int] = set()
_numbers = itertools.count()


async def _follow(address: str, arrivals: Arrivals) -> None:
    """Be a browser, without what a page costs."""
    host, _, port = address.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(b"GET /live HTTP/1.1\r\nHost: console\r\nAccept: text/event-stream\r\n\r\n")
        while True:
            line = await reader.readline()
            if not line:
                raise ConnectionError("the feed ended")
            if line.startswith(b"event: state"):
                _connected.add(next(_numbers))
            elif line.startswith(b"event: changed-frb-"):
                arrivals.note(int(line[19:]))
    finally:
        writer.close()


def _is_connected(tasks: Sequence["asyncio.Task[None]"]) -> bool:
    for task in tasks:
        if task.done():
            task.result()
    return len(_connected) >= len(tasks)


async def _until(look: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + DEADLINE_S
    while not look():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {DEADLINE_S:.0f} s: {what}")
        await asyncio.sleep(0.05)
