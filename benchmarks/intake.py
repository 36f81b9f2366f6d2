"""Bursts through the compatible door, as the telescope's old script uploads them, against a bare handler.

`python -m benchmarks.intake PORT DATABASE FOLDER` is that handler: it reads the same three requests, writes their files
with fsync and commits a row for each; it checks nothing, knows nobody and announces nothing.
"""

import asyncio
import itertools
import json
import os
import secrets
import sys
import time
from base64 import b64encode
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median, quantiles
from urllib.parse import urlencode

import asyncpg
import httpx
import psutil
import uvicorn
import uvloop
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from benchmarks.report import Row
from benchmarks.system import DEADLINE_S, System, running
from cli.stack.process import DetachedProcess, remembered_port
from services.frb_intake.accounts import add_user
from shared.db.pool import connect
from shared.events.frb import FrbEvent
from shared.kafka import reading
from shared.schema.codec import decode
from shared.settings import DatabaseSettings
from tests.support.upstream_client import (
    IMAGES,
    MEASUREMENT_BODY,
    OBSERVATION_BODY,
    URLENCODED,
    example_images,
    multipart,
    request_bytes,
    with_text,
)

USER, PASSWORD = "craft", "a long password"
OLD_PER_S = {1: 0.38, 8: 2.31, 16: 2.21}
# Of the application that this replaces, on two such cores, with stand-ins for Slack and the Transient Name Server.
AIM = "at least 30, better 50"
EVENTS, ROUNDS = {1: 60, 8: 240, 16: 240}, 3
IMAGES_BYTES = 325_000
STEADY_S, STEADY_PER_S = 60.0, 20.0
BEGAN = datetime(2018, 1, 1, tzinfo=UTC)

_numbers = itertools.count()


@dataclass(frozen=True)
class Upload:
    """A burst that nobody else has; its pictures are made before the clock runs."""

    arrival: str
    content_type: str
    form: bytes

    @classmethod
    def new(cls) -> "Upload":
        """Return the next burst."""
        number = next(_numbers)
        padding = (IMAGES_BYTES - sum(len(data) for _, data in example_images().values())) // len(IMAGES)
        images = {
            part: (name, with_text(data, secrets.token_hex(padding // 2)))
            for part, (name, data) in example_images().items()
        }
        arrival = (BEGAN + timedelta(seconds=number)).isoformat(sep=" ")
        content_type, form = multipart({"observation": "OBSERVATION", "time_of_arrival": arrival}, images)
        return cls(arrival, content_type, form)


@dataclass
class Target:
    """Who is asked, and what was acknowledged."""

    port: int
    acknowledged: dict[int, str] = field(default_factory=dict)
    taken_s: list[float] = field(default_factory=list)

    async def upload(self, upload: Upload) -> None:
        """Send the three requests, one after the other, each over a connection of its own."""
        began = time.perf_counter()
        observation_id = (await self.post("/observation_create/", OBSERVATION_BODY, URLENCODED))["id"]
        form = upload.form.replace(b"OBSERVATION", str(observation_id).encode(), 1)
        burst_id = (await self.post("/frbevent_create/", form, upload.content_type))["id"]
        measurement = MEASUREMENT_BODY.replace(b"frb=1&", f"frb={burst_id}&".encode())
        await self.post("/radio_measurement_create/", measurement, URLENCODED)
        self.taken_s.append(time.perf_counter() - began)
        self.acknowledged[burst_id] = upload.arrival

    async def post(self, path: str, body: bytes, content_type: str) -> dict[str, int]:
        """Send one request and return the JSON of a 201."""
        authorization = f"Basic {b64encode(f'{USER}:{PASSWORD}'.encode()).decode()}"
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(
                request_bytes(
                    "POST", path, body, content_type=content_type, authorization=authorization, port=self.port
                )
            )
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            answer = await reader.readexactly(length)
        finally:
            writer.close()
        if not head.startswith(b"HTTP/1.1 201"):
            raise ValueError(f"{path}: {head.decode()}{answer.decode()}")
        found: dict[str, int] = json.loads(answer)
        return found


def measure() -> list[Row]:
    """Return the rows."""
    with running("frb_intake") as system:
        url = system.environment["TOCSIN_DATABASE__URL"]
        asyncio.run(_add_user(url))
        service = system.services[0]
        ours = Target(int(service.address.rpartition(":")[2]))
        bare, process = _start_bare(url, Path(system.environment["TOCSIN_BLOBS__URL"]).parent)
        try:
            rows = [row for clients in EVENTS for row in _compare(clients, ours, bare)]
            rows.append(asyncio.run(_decoding(url, ours)))
        finally:
            process.stop()
        rows.append(_memory(service.process.pid, ours))
        while httpx.get(f"{service.address}/status").json()["outbox_depth"]:
            time.sleep(0.1)
        asyncio.run(_verify(system, url, ours))
    return rows


def _compare(clients: int, ours: Target, bare: Target) -> list[Row]:
    rates: dict[int, list[float]] = {ours.port: [], bare.port: []}
    for target in (ours, bare):
        uvloop.run(_rate(target, clients, 2 * clients))  # password, connections, caches
        target.taken_s.clear()
    for _ in range(ROUNDS):
        for target in (ours, bare):
            rates[target.port].append(uvloop.run(_rate(target, clients, EVENTS[clients])))
    rate, bare_rate = (median(rates[target.port]) for target in (ours, bare))
    p95_ms = quantiles(ours.taken_s, n=20)[18] * 1e3
    told = f"{rate:.1f} /s (each {median(ours.taken_s) * 1e3:.0f} ms, 95 % below {p95_ms:.0f})"
    what = f"whole uploads (3 requests, 325 kB of images), {clients} client{'s' if clients > 1 else ''}"
    return [
        Row(what, f"old application {OLD_PER_S[clients]} /s", told, rate / OLD_PER_S[clients], AIM),
        Row("the same", f"bare handler {bare_rate:.1f} /s", f"{rate:.1f} /s", rate / bare_rate, "none"),
    ]


async def _rate(target: Target, clients: int, events: int) -> float:
    uploads = iter([Upload.new() for _ in range(events)])

    async def client() -> None:
        for upload in uploads:
            await target.upload(upload)

    began = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    return events / (time.perf_counter() - began)


async def _decoding(url: str, ours: Target) -> Row:
    """Return how fast the pictures are decoded that the uploads left behind."""
    async with connect(DatabaseSettings(url=url), "frb_intake") as connection:

        async def waiting() -> int:
            return int(await connection.fetchval("SELECT count(*) FROM images WHERE state = 'PENDING'"))

        began, left = time.perf_counter(), await waiting()
        while await waiting():  # noqa: ASYNC110  (what is waited for is in another process)
            await asyncio.sleep(0.05)
        rate = left / len(IMAGES) / (time.perf_counter() - began)
    total = len(IMAGES) * len(ours.acknowledged)
    return Row(
        what="their pictures decoded in full, by the worker behind the requests",
        peer=f"{total} acknowledged",
        ours=f"{total - left} by the last acknowledgement, the rest at {rate:.1f} uploads /s",
        ratio=1 - left / total,
        aim="none",
    )


def _memory(pid: int | None, ours: Target) -> Row:
    """Return resident memory after a minute of uploads against that after half of it."""

    async def flow() -> tuple[float, float]:
        began, middle_mib, sending = time.perf_counter(), 0.0, set()
        for number in range(int(STEADY_S * STEADY_PER_S)):
            await asyncio.sleep(max(0.0, began + number / STEADY_PER_S - time.perf_counter()))
            sending.add(asyncio.create_task(ours.upload(Upload.new())))
            if number == int(STEADY_S * STEADY_PER_S / 2):
                middle_mib = _resident_mib(pid)
        await asyncio.gather(*sending)
        return middle_mib, _resident_mib(pid)

    middle_mib, end_mib = uvloop.run(flow())
    return Row(
        what=f"resident memory of frb_intake after {STEADY_S:.0f} s of {STEADY_PER_S:.0f} uploads a second",
        peer=f"{middle_mib:.0f} MiB after half of them",
        ours=f"{end_mib:.0f} MiB",
        ratio=end_mib / middle_mib,
        aim="flat (about 1)",
    )


def _resident_mib(pid: int | None) -> float:
    process = psutil.Process(pid)
    return float(sum(part.memory_info().rss for part in (process, *process.children(recursive=True))) / 2**20)


async def _add_user(url: str) -> None:
    async with connect(DatabaseSettings(url=url), "frb_intake") as connection:
        await add_user(connection, name=USER, roles=["submit"], password=PASSWORD)


async def _verify(system: System, url: str, ours: Target) -> None:
    """Fail unless everything acknowledged is in the database and on the topic, once."""
    expected = {number: datetime.fromisoformat(arrival) for number, arrival in ours.acknowledged.items()}
    async with connect(DatabaseSettings(url=url), "frb_intake") as connection:
        rows = await connection.fetch("SELECT id, event_time FROM bursts")
        images = await connection.fetchval("SELECT count(*) FROM images")
        measurements = await connection.fetchval("SELECT count(*) FROM measurements")
    there = {row["id"]: row["event_time"] for row in rows}
    if (there, images, measurements) != (expected, 3 * len(expected), len(expected)):
        raise AssertionError(f"{len(expected)} acknowledged, {len(there)}, {images} and {measurements} there")
    topic = reading.read(system.kafka.client_config(), "frb.events")
    told = Counter((event.frb_id, event.revision) for event in (decode(m.value, FrbEvent) for m in topic))
    if told != Counter((number, revision) for number in expected for revision in (1, 2)):
        raise AssertionError(f"{len(expected)} acknowledged, {told.total()} records")


# ---- the bare handler ------------------------------------------------------------------------------------------


def _start_bare(url: str, folder: Path) -> tuple[Target, DetachedProcess]:
    directory = folder / "bare"
    directory.mkdir()
    port = remembered_port(directory, "bare")
    process = DetachedProcess(directory, "bare")
    process.spawn([sys.executable, "-m", "benchmarks.intake", str(port), url, str(directory)])

    def answers() -> bool:
        try:
            asyncio.run(Target(port).post("/observation_create/", OBSERVATION_BODY, URLENCODED))
        except (OSError, EOFError):
            return False
        return True

    process.wait_until_ready(answers, deadline_s=DEADLINE_S)
    return Target(port), process


def _serve(port: int, url: str, folder: Path) -> None:
    names, state = itertools.count(), dict[str, asyncpg.Pool]()

    async def commit(body: str) -> int:
        return int(await state["pool"].fetchval("INSERT INTO bare (body) VALUES ($1) RETURNING id", body))

    async def fields(request: Request) -> JSONResponse:
        return JSONResponse({"id": await commit((await request.body()).decode())}, status_code=201)

    async def files(request: Request) -> JSONResponse:
        body = await request.body()
        _, _, boundary = request.headers["content-type"].partition("boundary=")
        parts = body.split(b"--" + boundary.encode())
        contents = [part.partition(b"\r\n\r\n")[2] for part in parts if b"filename=" in part]
        paths = [folder / str(next(names)) for _ in contents]
        await asyncio.to_thread(_write, list(zip(paths, contents, strict=True)))
        return JSONResponse({"id": await commit(urlencode({"paths": paths}))}, status_code=201)

    async def serve() -> None:
        async with asyncpg.create_pool(url, min_size=1, max_size=10) as pool:
            await pool.execute("CREATE TABLE bare (id serial PRIMARY KEY, body text)")
            state["pool"] = pool
            routes = [Route("/frbevent_create/", files, methods=["POST"])]
            routes += [Route(f"/{n}_create/", fields, methods=["POST"]) for n in ("observation", "radio_measurement")]
            config = uvicorn.Config(Starlette(routes=routes), port=port, log_level="warning", access_log=False)
            await uvicorn.Server(config).serve()

    uvloop.run(serve())


def _write(files: Sequence[tuple[Path, bytes]]) -> None:
    for path, content in files:
        with path.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())


if __name__ == "__main__":
    _serve(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
