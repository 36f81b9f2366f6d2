"""Hostile and broken alerts through both real services: a dead letter says why, and the next alert goes through."""

import gzip
import json
import threading
import uuid
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pytest
from astropy.io import fits

from cli.stack.kafka import KafkaBroker
from cli.stack.postgres import PostgresServer
from cli.stack.services import ServiceProcess
from shared.events.gw import GwAlert, GwSkymap
from shared.kafka.message import Message
from shared.schema.codec import decode
from tests.support.alerts import a_skymap, alert_content, an_alert, an_event, as_avro, as_json
from tests.support.runtime import eventually, prepared, records, send, service
from tests.support.skymaps import N_PIXELS, a_flat_map, a_multiorder_map, a_sky, a_table

MEGABYTE = 1_000_000
ALERTS = "igwn.gwalert"
OF_LISTENER, OF_PARSER = "igwn.gwalert.dlq.gw_listener", "gw.alerts.dlq.skymap_parser"

DENSITY = a_sky()["PROB"] * N_PIXELS / (4 * np.pi)
UNIQ = np.arange(N_PIXELS) + (4 << 8)


def with_value(values: np.ndarray, index: int, value: float) -> np.ndarray:
    changed = values.copy()
    changed[index] = value
    return changed


def with_card(data: bytes, key: str, value: object) -> bytes:
    """Overwrite one header card, for headers that astropy would not write."""
    at = data.rindex(f"{key:<8}=".encode())
    return data[:at] + f"{key:<8}= {value!s:>20}".encode().ljust(80) + data[at + 80 :]


def a_gzip_bomb(nside: int) -> bytes:
    """A sound flat map of nothing but zeros, in a thousandth of its bytes."""
    table = a_table([fits.Column("PROB", "D", array=np.ones(12))], ORDERING="NESTED", NSIDE=nside)
    header = with_card(table, "NAXIS2", 12 * nside**2)[: len(table) - 2880]
    squeeze = zlib.compressobj(9, wbits=31)
    pieces = [header, *[bytes(MEGABYTE)] * (12 * nside**2 * 8 // MEGABYTE + 1)]
    return b"".join(squeeze.compress(piece) for piece in pieces) + squeeze.flush()


ODD_SCHEMA = {"type": "record", "name": "Weather", "fields": [{"name": "wind", "type": "double"}]}

BAD_ALERTS: dict[str, tuple[Callable[[], bytes], str]] = {
    "truncated-avro": (lambda: an_alert(skymap=a_skymap())[:-5000], "container is 8926 bytes announced"),
    "another-schema": (lambda: as_avro({"wind": 3.5}, ODD_SCHEMA), "superevent_id is missing"),
    "nothing": (lambda: b"", "alert is empty"),
    "text": (lambda: b"hello", "alert is"),
    "eight-megabytes-of-zeros": (lambda: bytes(8 * 1024**2 - 1024), "alert is"),
    "base64-that-is-none": (lambda: as_json(alert_content(event=an_event(skymap="U0lN*"))), "event.skymap is"),
    "rate-not-a-number": (lambda: as_json(alert_content(event=an_event(far=float("nan")))), "event.far is nan"),
    "neither-real-nor-mock": (lambda: an_alert(superevent_id="X261121ab"), "superevent_id is X261121ab"),
}  # fmt: skip

BAD_MAPS: dict[str, tuple[Callable[[], bytes], str]] = {
    "no-fits": (lambda: b"hello" * 1000, "file is"),
    "truncated": (lambda: a_multiorder_map()[:-6000], "NAXIS1 x NAXIS2 is"),
    "huge-naxis": (lambda: with_card(a_multiorder_map(), "NAXIS2", 10**15), "NAXIS1 x NAXIS2 is"),
    "huge-naxis-in-gzip": (lambda: gzip.compress(with_card(a_multiorder_map(), "NAXIS2", 10**7)), "NAXIS1 x NAXIS2 is"),
    "gzip-of-zeros": (lambda: gzip.compress(bytes(200 * MEGABYTE)), "file is"),
    "gzip-bomb-below-the-limit": (lambda: a_gzip_bomb(1024), "sum of PROB is 0"),
    "gzip-bomb-above-the-limit": (lambda: a_gzip_bomb(2048), "NAXIS1 x NAXIS2 is"),
    "not-a-number": (lambda: a_multiorder_map(probdensity=with_value(DENSITY, 7, np.nan)), "PROBDENSITY is"),
    "negative": (lambda: a_multiorder_map(probdensity=with_value(DENSITY, 7, -1e-9)), "PROBDENSITY is"),
    "sums-to-a-fifth": (lambda: a_multiorder_map(probdensity=DENSITY * 0.2), "sum of PROBDENSITY is 0.2"),
    "wrong-ordering": (lambda: a_flat_map(ORDERING="SPIRAL"), "ORDERING is SPIRAL"),
    "uniq-out-of-range": (lambda: a_multiorder_map(uniq=with_value(UNIQ, 0, 3)), "UNIQ is"),
    "uniq-overlapping": (lambda: a_multiorder_map(uniq=with_value(UNIQ, 5, 4)), "UNIQ is"),
}  # fmt: skip


@dataclass
class Sent:
    """A bad input, and the good alert that came after it on the same partition."""

    value: bytes
    position: tuple[int, int]
    superevent_id: str


@dataclass
class Aftermath:
    """What is on the topics after everything bad and everything good was sent."""

    alerts: dict[str, Sent]
    maps: dict[str, Sent]
    file: Path
    good_file: str
    topics: dict[str, list[Message]]
    growth_bytes: int

    def of(self, topic: str, superevent_id: str) -> list[Message]:
        return [message for message in self.topics[topic] if message.key == superevent_id.encode()]

    def letter(self, topic: str, position: tuple[int, int]) -> Message:
        wanted = tuple(map(str, position))
        [found] = [
            letter for letter in self.topics[topic] if (header(letter, "partition"), header(letter, "offset")) == wanted
        ]
        return found


def header(letter: Message, name: str) -> str:
    return (letter.header(f"dlq-{name}") or b"").decode()


def a_superevent_id() -> str:
    return f"MS{uuid.uuid4().hex[:12]}"


def resident_bytes(services: list[ServiceProcess]) -> int:
    """Memory of the services with their workers; pages they share count for each."""
    family = [psutil.Process(service.process.pid) for service in services]
    family += [child for process in family for child in process.children(recursive=True)]
    return sum(process.memory_info().rss for process in family)


class PeakMeter:
    """Watches the memory of the services in a thread while its block runs."""

    def __init__(self, services: list[ServiceProcess]) -> None:
        self._services = services
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.at_rest = self.peak = resident_bytes(services)

    def __enter__(self) -> "PeakMeter":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.01):
            self.peak = max(self.peak, resident_bytes(self._services))


@pytest.fixture(scope="module")
def aftermath(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aftermath]:
    """One system for all cases, everything sent at once: that is also what its memory has to stand."""
    folder = tmp_path_factory.mktemp("bad_input")
    (folder / "alerts").mkdir()
    # A broker of its own: skymap_parser would wait for the blobs of other tests' alerts.
    broker = KafkaBroker(folder / "kafka")
    with ExitStack() as stack:
        stack.callback(broker.stop)
        broker.start()
        database = postgres_server.create_database(f"bad_input_{uuid.uuid4().hex}")
        sources = [{"type": "files", "paths": [str(folder / "alerts")], "poll_interval_s": 0.1, "settle_s": 0.1}]
        environment = prepared(broker.address, database, folder)
        environment["TOCSIN_GW_LISTENER__SOURCES"] = json.dumps(sources)  # beside the broker's own topic
        services = [
            stack.enter_context(service(name, environment, folder)) for name in ("gw_listener", "skymap_parser")
        ]
        send(broker.address, ALERTS, an_alert(superevent_id=(first := a_superevent_id()), skymap=a_multiorder_map()))
        eventually(lambda: any(message.key == first.encode() for message in records(broker.address, "gw.skymaps")))

        with PeakMeter(services) as meter:
            path, good_file = folder / "alerts" / "1-zeros.avro", a_superevent_id()
            # At once, as whoever drops large files should: on a busy machine half of it could pass for all.
            whole = path.with_suffix(".part")
            whole.write_bytes(bytes(50 * MEGABYTE))
            whole.rename(path)
            (folder / "alerts" / "2-good.avro").write_bytes(an_alert(superevent_id=good_file))
            alerts = {case: _sent_alert(broker.address, make()) for case, (make, _) in BAD_ALERTS.items()}
            maps = {case: _sent_map(broker.address, make()) for case, (make, _) in BAD_MAPS.items()}
            expected = {"gw.alerts": {good_file, *(sent.superevent_id for sent in alerts.values())}}
            expected["gw.skymaps"] = {sent.superevent_id for sent in maps.values()}
            for topic, superevents in expected.items():
                wanted = {superevent_id.encode() for superevent_id in superevents}
                eventually(lambda: wanted <= {message.key for message in records(broker.address, topic)}, deadline_s=60)  # noqa: B023
        topics = {name: records(broker.address, name) for name in (ALERTS, OF_LISTENER, OF_PARSER, *expected)}
        yield Aftermath(alerts, maps, path, good_file, topics, meter.peak - meter.at_rest)


def _sent_alert(broker: str, bad: bytes) -> Sent:
    good = an_alert(superevent_id=(superevent_id := a_superevent_id()))
    # One partition, so that the good one waits for the bad one.
    position, _ = send(broker, ALERTS, bad, good, partition=0)
    return Sent(bad, position, superevent_id)


def _sent_map(broker: str, skymap: bytes) -> Sent:
    # One superevent, so that both are on one partition of gw.alerts too.
    bad = an_alert(superevent_id=(superevent_id := a_superevent_id()), skymap=skymap)
    good = an_alert(superevent_id=superevent_id, skymap=a_skymap(), alert_type="UPDATE")
    position, _ = send(broker, ALERTS, bad, good, partition=0)
    return Sent(bad, position, superevent_id)


@pytest.mark.parametrize("case", BAD_ALERTS)
def test_a_bad_alert_becomes_a_dead_letter_and_the_next_goes_through(aftermath: Aftermath, case: str) -> None:
    sent, reason = aftermath.alerts[case], BAD_ALERTS[case][1]

    letter = aftermath.letter(OF_LISTENER, sent.position)
    assert header(letter, "error").startswith(reason)
    assert letter.value == sent.value
    assert header(letter, "topic") == ALERTS
    assert header(letter, "service") == "gw_listener.local"
    assert len(aftermath.of("gw.alerts", sent.superevent_id)) == 1


@pytest.mark.parametrize("case", BAD_MAPS)
def test_a_bad_map_becomes_a_dead_letter_and_the_next_goes_through(aftermath: Aftermath, case: str) -> None:
    sent, reason = aftermath.maps[case], BAD_MAPS[case][1]

    # The alert itself is sound and was announced; its map is what the next service refuses.
    refused, accepted = aftermath.of("gw.alerts", sent.superevent_id)
    letter = aftermath.letter(OF_PARSER, (refused.partition, refused.offset))
    assert header(letter, "error").startswith(reason)
    assert (letter.key, letter.value) == (refused.key, refused.value)
    assert set(refused.headers) <= set(letter.headers)
    assert header(letter, "topic") == "gw.alerts"
    [announced] = aftermath.of("gw.skymaps", sent.superevent_id)
    assert decode(announced.value, GwSkymap).alert_event_id == decode(accepted.value, GwAlert).event_id


def test_nothing_good_became_a_dead_letter(aftermath: Aftermath) -> None:
    assert len(aftermath.topics[OF_LISTENER]) == len(BAD_ALERTS) + 1  # and the file
    assert len(aftermath.topics[OF_PARSER]) == len(BAD_MAPS)


def test_fifty_megabytes_of_zeros_in_a_file_are_cut_and_said_to_be(aftermath: Aftermath) -> None:
    [letter] = [letter for letter in aftermath.topics[OF_LISTENER] if letter.key == str(aftermath.file).encode()]
    assert header(letter, "error").startswith("alert is")
    # Of a file only so much is read as shows that no alert is so large.
    assert int(header(letter, "cut-from-bytes")) > 32 * 1024**2
    assert letter.value == bytes(64 * 1024)
    assert len(aftermath.of("gw.alerts", aftermath.good_file)) == 1


def test_memory_stays_bounded_whatever_comes(aftermath: Aftermath) -> None:
    # 280 MB are seen: the file (33 MB), the large message in client, handler and dead letter (8 MB each), the pictures
    # of the good maps, and what allocators keep. To unfold the larger bomb would take another 400 MB.
    assert aftermath.growth_bytes < 500 * MEGABYTE
