"""Memory of each service under a steady flow of 1 MB alerts: flat, or not."""

import time
from pathlib import Path

import httpx
import psutil

from benchmarks.report import Row
from benchmarks.system import System, running
from services.gw_listener.alerts import read_alert
from tests.support.alerts import an_alert, an_event

SAMPLE = Path(__file__).parents[1] / "samples" / "igwn" / "MS181101ab-preliminary.avro"
WARM_UP, ALERTS, ALERTS_PER_S = 60, 240, 8.0
# The warm-up fills librdkafka's queues, the allocators' arenas and the caches.


def measure() -> list[Row]:
    """Return, per service, resident memory after the flow against that after its first quarter."""
    with running("gw_listener", "skymap_parser") as system:
        _flow(system, 0, WARM_UP)
        before = [_resident_mib(service.process.pid) for service in system.services]
        _flow(system, WARM_UP, ALERTS)
        after = [_resident_mib(service.process.pid) for service in system.services]
        names = [service.name for service in system.services]
    return [
        Row(
            what=f"resident memory of {name} after {ALERTS} alerts of 1 MB more",
            peer=f"{start:.0f} MiB after the first {WARM_UP}",
            ours=f"{end:.0f} MiB",
            ratio=end / start,
            aim="flat (about 1)",
        )
        for name, start, end in zip(names, before, after, strict=True)
    ]


def _flow(system: System, start: int, count: int) -> None:
    skymap = read_alert(SAMPLE.read_bytes()).skymap
    assert skymap is not None
    producer = system.producer()
    for number in range(start, start + count):
        fits = skymap.replace(b"MS181101ab", b"MS%08d" % number)
        # The sample is 0.78 MB; a second map, of an external coincidence, would make it 1.56.
        producer.produce("igwn.gwalert", an_alert(superevent_id=f"MS{number:06d}ab", event=an_event(skymap=fits)))
        producer.poll(0)
        time.sleep(1 / ALERTS_PER_S)
    producer.flush()
    for service in system.services:
        while any(consumer["lag"] for consumer in httpx.get(f"{service.address}/status").json()["consumers"]):
            time.sleep(0.5)


def _resident_mib(pid: int | None) -> float:
    process = psutil.Process(pid)
    return sum(part.memory_info().rss for part in (process, *process.children(recursive=True))) / 2**20
