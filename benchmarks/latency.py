"""From an alert published to its sky map delivered, on an idle system, against the bare operations it contains."""

import time
from pathlib import Path
from statistics import median

from benchmarks.report import Row
from benchmarks.system import System, next_message, running
from services.gw_listener.alerts import read_alert
from services.skymap_parser.domain import parse
from tests.support.alerts import an_alert, an_event

SAMPLE = Path(__file__).parents[1] / "samples" / "igwn" / "MS181101ab-preliminary.avro"
ROUNDS, WARM_UP = 40, 10
BARE_TOPIC = "bench.bare"
IDLE_S = 1.0
# Between two alerts: the picture of the one before is drawn, the system is idle again.


def measure() -> list[Row]:
    """Return the comparison of the whole path with one round trip of the same bytes plus one parse."""
    with running("gw_listener", "skymap_parser") as system:
        return _measure(system)


def _measure(system: System) -> list[Row]:
    system.create_topic(BARE_TOPIC)
    skymap = read_alert(SAMPLE.read_bytes()).skymap
    assert skymap is not None
    producer = system.producer()
    bare_consumer, map_consumer = system.consumer(BARE_TOPIC), system.consumer("gw.skymaps")
    bare_s, parse_s, path_s = [], [], []
    for number in range(WARM_UP + ROUNDS):
        # A map of its own each time: a known one would be found in the blob store and not be written.
        fits = skymap.replace(b"MS181101ab", b"MS%08d" % number)
        alert = an_alert(superevent_id=f"MS{number:06d}ab", event=an_event(skymap=fits))
        durations = []
        for topic, consumer in ((BARE_TOPIC, bare_consumer), ("igwn.gwalert", map_consumer)):
            time.sleep(IDLE_S)
            began = time.perf_counter()
            producer.produce(topic, alert)
            producer.poll(0)
            next_message(consumer)
            durations.append(time.perf_counter() - began)
            producer.flush()
        began = time.perf_counter()
        parse(fits)
        parse_s.append(time.perf_counter() - began)
        bare_s.append(durations[0])
        path_s.append(durations[1])
    for consumer in (bare_consumer, map_consumer):
        consumer.close()
    bare, parsing, path = (1000 * median(taken[WARM_UP:]) for taken in (bare_s, parse_s, path_s))
    return [
        Row(
            what=f"alert ({len(alert) // 1000} kB) published to `gw.skymaps` delivered, idle",
            peer=f"round trip {bare:.1f} ms + parse {parsing:.1f} ms",
            ours=f"{path:.1f} ms",
            ratio=path / (bare + parsing),
            aim="at most 1.5",
        )
    ]
