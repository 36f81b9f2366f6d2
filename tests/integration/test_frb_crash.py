"""The intake is killed, its database and its broker restarted, while 16 clients upload and try again.

Whoever was told that a burst is stored finds it: once in the database with its pictures, once on `frb.events`.
"""

import hashlib
import io
import itertools
import os
import signal
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from http.client import HTTPException
from pathlib import Path

import httpx
import pytest
from PIL import Image

from cli.stack.kafka import KafkaBroker
from cli.stack.postgres import PostgresServer
from tests.support.frb_intake import EVENTS, PASSWORD, IntakeUnderTest, a_burst
from tests.support.runtime import eventually, prepared
from tests.support.system import ServiceUnderTest, SystemUnderTest
from tests.support.upstream_client import IMAGES, Answer, UpstreamClient, example_yamls, with_text

UPLOADS, CLIENTS = 500, 16
BEGAN = datetime(2020, 1, 1, tzinfo=UTC)
BUDGET_S = 90.0
OBSERVATION, RADIO = example_yamls()


@pytest.fixture
def intake(tmp_path: Path) -> Iterator[IntakeUnderTest]:
    broker, database = KafkaBroker(tmp_path / "kafka"), PostgresServer(tmp_path / "postgres", durable=True)
    system = SystemUnderTest(tmp_path, broker, database, {})
    try:
        broker.start()
        database.start()
        system.environment = prepared(broker.address, database.address, tmp_path)
        service = system.start("frb_intake")
        service.wait_ready()
        yield IntakeUnderTest(system, service)
    finally:
        for started in system.started:
            started.process.kill()
            started.process.wait()
        broker.stop()
        database.stop()


def a_png(text: str) -> bytes:
    """A small picture that nobody else has."""
    file = io.BytesIO()
    Image.new("L", (16, 16)).save(file, "PNG")
    return with_text(file.getvalue(), text)


class NotStoredError(Exception):
    """No acknowledgement came; the upload is to be tried again."""


@dataclass
class Clients:
    """500 uploads, half through each door; `told` is which ids each upload was acknowledged with."""

    port: int
    user: str
    told: dict[int, set[int]] = field(default_factory=lambda: defaultdict(set))
    done: set[int] = field(default_factory=set)
    failures: Counter[str] = field(default_factory=Counter)

    def run(self) -> None:
        """Return when every upload is acknowledged in full."""
        numbers, lock = itertools.count(), threading.Lock()

        def client() -> None:
            with httpx.Client(base_url=f"http://127.0.0.1:{self.port}", auth=(self.user, PASSWORD), timeout=20) as http:
                while True:
                    with lock:
                        number = next(numbers)
                    if number >= UPLOADS:
                        return
                    self._until_stored(number, self._by_script if number % 2 else lambda n: self._by_json(n, http))

        with ThreadPoolExecutor(CLIENTS) as pool:
            for finished in [pool.submit(client) for _ in range(CLIENTS)]:
                finished.result(BUDGET_S)

    def _until_stored(self, number: int, upload: Callable[[int], None]) -> None:
        end = time.monotonic() + BUDGET_S
        while True:
            try:
                upload(number)
            except (OSError, HTTPException, httpx.TransportError, NotStoredError) as error:
                assert time.monotonic() < end, f"upload {number}: {error!r}"
                self.failures[str(error) if isinstance(error, NotStoredError) else type(error).__name__] += 1
                time.sleep(0.1)  # as any client that tries again
            else:
                self.done.add(number)
                return

    def _by_json(self, number: int, http: httpx.Client) -> None:
        body = a_burst(time_of_arrival=arrival(number).isoformat(), version=f"upload {number}")
        answer = http.post(EVENTS, json=body, headers={"Idempotency-Key": f"upload {number}"})
        if answer.status_code not in (200, 201):
            raise NotStoredError(f"{answer.status_code}")
        self.told[number].add(answer.json()["id"])

    def _by_script(self, number: int) -> None:
        script = UpstreamClient(self.port, self.user, PASSWORD)
        radio = RADIO | {"time_of_arrival": arrival(number).isoformat(), "version": f"upload {number}"}
        images = {f"{name}_open": (f"{name}.png", a_png(f"{name} {number}")) for name in IMAGES}
        observation_id = stored(script.observe(OBSERVATION))["id"]
        burst_id = stored(script.announce(observation_id, radio, images))["id"]
        self.told[number].add(burst_id)
        stored(script.measure(radio, burst_id))


def stored(answer: Answer) -> dict[str, int]:
    if answer.status != 201:
        raise NotStoredError(f"{answer.status}")
    body: dict[str, int] = answer.json()
    return body


def arrival(number: int) -> datetime:
    """When the burst of an upload arrived; no two at once."""
    return BEGAN + timedelta(seconds=number)


def test_what_is_acknowledged_is_there_exactly_once(intake: IntakeUnderTest) -> None:
    system, port = intake.system, intake.service.port
    clients = Clients(port, intake.add_user("submit"))
    uploading = threading.Thread(target=clients.run, daemon=True)

    def restart_service() -> ServiceUnderTest:
        system.started[-1].process.send_signal(signal.SIGKILL)
        system.started[-1].process.wait()
        return system.start("frb_intake", TOCSIN_HTTP__PORT=str(port))

    def restart_database() -> None:
        system.database.stop()
        system.database.start()

    def restart_broker() -> None:
        system.broker.stop()
        system.broker.start()

    began = time.monotonic()
    uploading.start()

    def has_done(uploads: int) -> bool:
        return len(clients.done) >= uploads

    for share, disturb in enumerate((restart_service, restart_database, restart_broker, restart_service), 1):
        eventually(partial(has_done, UPLOADS * share // 5), f"{share} fifths of the uploads")
        disturb()
    uploading.join(BUDGET_S)
    assert clients.done == set(range(UPLOADS)), clients.failures
    eventually(lambda: not system.rows("SELECT FROM frb_intake.outbox"), "an empty outbox")
    taken_s = time.monotonic() - began

    # One id for each upload, whatever became of the connection that first carried it.
    assert {number: len(ids) for number, ids in clients.told.items()} == dict.fromkeys(range(UPLOADS), 1)
    ids = {number: told.copy().pop() for number, told in clients.told.items()}
    bursts = system.rows("SELECT id, event_time, observation_id FROM frb_intake.bursts")
    assert Counter((row["id"], row["event_time"]) for row in bursts) == Counter(
        (burst_id, arrival(number)) for number, burst_id in ids.items()
    )
    measurements = system.rows("SELECT burst_id, as_submitted->>'version' AS version FROM frb_intake.measurements")
    assert Counter((row["burst_id"], row["version"]) for row in measurements) == Counter(
        (burst_id, f"upload {number}") for number, burst_id in ids.items()
    )
    images = system.rows("SELECT burst_id, name, blob->>'sha256' AS sha256 FROM frb_intake.images")
    assert Counter((row["burst_id"], row["name"], row["sha256"]) for row in images) == Counter(
        (ids[number], name, hashlib.sha256(a_png(f"{name} {number}")).hexdigest())
        for number in range(1, UPLOADS, 2)
        for name in IMAGES
    )
    kept = {hashlib.sha256(file.read_bytes()).hexdigest() for file in blobs(system.folder)}
    assert {row["sha256"] for row in images} <= kept
    assert len(system.rows("SELECT FROM frb_intake.observations")) == 1
    records = [record for _, record in system.records("frb.events")]
    assert Counter((record["frb_id"], record["change"]) for record in records) == Counter(
        [(burst_id, "CREATED") for burst_id in ids.values()]
        + [(ids[number], "MEASURED") for number in range(1, UPLOADS, 2)]
    )
    assert max(Counter(record["event_id"] for record in records).values()) == 1
    assert taken_s < BUDGET_S, f"{taken_s:.0f} s; {clients.failures}"
    # Otherwise nothing was disturbed, and nothing proved.
    assert clients.failures


def blobs(folder: Path) -> Iterator[Path]:
    return (Path(root) / name for root, _, names in os.walk(folder / "blobs") for name in names)
