"""From a record on frb.events to the request at a webhook's receiver, idle, against a bare consumer that posts it."""

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import SimpleQueue
from statistics import median
from threading import Thread
from typing import Any

import httpx
import yaml

from benchmarks.report import Row
from benchmarks.system import DEADLINE_S, System, next_message, running
from shared.events.frb import FrbEvent
from shared.kafka.message import wire_headers
from shared.outbox.event import outgoing
from shared.testing.webhook import SECRET
from tests.support.coincidence import a_burst_record

ROUNDS, WARM_UP = 60, 15
BARE_TOPIC = "bench.bare"
IDLE_S = 0.5
# Between two records: what follows a request (its answer is stored and announced) is over.


def measure() -> list[Row]:
    """Return the comparison of the whole path with one consume and one POST of the same record."""
    with tempfile.TemporaryDirectory() as folder, receiver() as (url, arrivals):
        channel = {"kind": "webhook", "name": "hook", "mode": "SANDBOX", "sandbox_url": url, "secret": SECRET}
        section = {"channels": [channel | {"per_minute": 6000}], "rules": [{"channel": "hook"}], "max_age_h": 1e6}
        settings = Path(folder) / "tocsin.yaml"
        settings.write_text(yaml.safe_dump({"notifier": section}), "utf-8")
        with running("notifier", TOCSIN_CONFIG=str(settings)) as system:
            return _measure(system, url, arrivals)


@contextmanager
def receiver() -> Iterator[tuple[str, "SimpleQueue[float]"]]:
    """Return where requests are taken, and when each had come whole."""
    arrivals: SimpleQueue[float] = SimpleQueue()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            arrivals.put(time.perf_counter())
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/hook", arrivals
    finally:
        server.shutdown()
        server.server_close()


def _measure(system: System, url: str, arrivals: "SimpleQueue[float]") -> list[Row]:
    system.create_topic(BARE_TOPIC)
    producer, consumer = system.producer(), system.consumer(BARE_TOPIC)
    bare_s, path_s = [], []

    def publish(topic: str, record: FrbEvent) -> float:
        event = outgoing("frb.events", record, is_test=False, sender="bench")
        time.sleep(IDLE_S)
        began = time.perf_counter()
        producer.produce(topic, event.value, event.key, headers=[*wire_headers(event.headers)])
        producer.poll(0)
        return began

    with httpx.Client() as http:
        for number in range(1, WARM_UP + ROUNDS + 1):
            record = a_burst_record(frb_id=number)
            began = publish(BARE_TOPIC, record)
            message = next_message(consumer)
            http.post(url, content=message.value())
            bare_s.append(arrivals.get(timeout=DEADLINE_S) - began)
            began = publish("frb.events", record)
            path_s.append(arrivals.get(timeout=DEADLINE_S) - began)
            producer.flush()
    consumer.close()
    bare, path = (1000 * median(taken[WARM_UP:]) for taken in (bare_s, path_s))
    return [
        Row(
            what="burst on `frb.events` to the request at a webhook, idle",
            peer=f"bare consume and POST {bare:.1f} ms",
            ours=f"{path:.1f} ms",
            ratio=path / bare,
            aim="at most 1.5",
        )
    ]
