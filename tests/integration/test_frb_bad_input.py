"""Hostile and broken requests at both doors: an answer says what is wrong, and nothing of them is kept."""

import json
import re
import struct
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import pytest

from services.frb_intake.tables import metadata
from tests.support.frb_intake import EVENTS, IntakeUnderTest, a_burst, running_intake
from tests.support.runtime import eventually
from tests.support.upstream_client import (
    JSON,
    URLENCODED,
    Answer,
    UpstreamClient,
    example_images,
    example_yamls,
    exchange,
    measurement_fields,
    multipart,
    observation_fields,
    request_bytes,
)

MEGABYTE = 1_000_000
BODY_TIMEOUT_S = 2.0
OBSERVATION, RADIO = example_yamls()
FIRST, SECOND, THIRD = "/observation_create/", "/frbevent_create/", "/radio_measurement_create/"
UNKNOWN, FUTURE, SCRIPT = 999_999_999, "2117-11-17T12:21:38", "v1'<script>alert(1)</script>"
LONG = "x" * 100_000
DEEP = b'{"a":' * 100_000 + b"1" + b"}" * 100_000
HTML, SVG = b"<!doctype html><script>alert(1)</script>", b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>'


@dataclass(frozen=True)
class Known:
    """What is there, and whose requests are refused."""

    intake: IntakeUnderTest
    script: UpstreamClient
    observation_id: int
    burst_id: int

    def kept(self) -> dict[str, Any]:
        """How much is in every table and in the blob store; who was let in is noted, whatever came of it."""
        eventually(lambda: not self.intake.system.rows("SELECT FROM frb_intake.outbox"), "an empty outbox")
        tables = metadata.tables.keys() - {"frb_intake.audit_log", "frb_intake.inbox"}
        count = " UNION ALL ".join(f"SELECT '{table}', count(*) FROM {table}" for table in sorted(tables))
        blobs = (self.intake.system.folder / "blobs").rglob("*")
        return dict(map(tuple, self.intake.system.rows(count))) | {"files": sorted(blobs)}


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Known]:
    with running_intake(
        tmp_path_factory.mktemp("bad"), TOCSIN_FRB_INTAKE__BODY_TIMEOUT_S=str(BODY_TIMEOUT_S)
    ) as running:
        script = running.script(running.add_user())
        observation_id = script.observe(OBSERVATION | {"beam": 2}).json()["id"]
        burst_id = script.first(OBSERVATION, RADIO, example_images())
        eventually(lambda: len(running.records_of(burst_id)) == 2, "both records")
        yield Known(running, script, observation_id, burst_id)


def a_png(*, width: int = 8, height: int = 8, data: bytes = b"") -> bytes:
    """A picture's beginning, of any size that its header likes."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", data)


def in_utf_7(part: str) -> tuple[str, bytes]:
    """A form whose encoding can spell half a character."""
    content_type, body = multipart({part: "+2AA-"}, {})
    return f"{content_type}; charset=utf-7", body


@dataclass(frozen=True)
class Bad:
    """A request, and what must be said of it: the status, the field, the value, what was expected."""

    path: str
    send: Callable[[Known], tuple[str, bytes]]
    status: int
    field: str
    value: str
    expected: str = "."
    headers: tuple[tuple[str, str], ...] = ()


# ---- the old door ----------------------------------------------------------------------------------------------


def old(path: str, told: str, value: str, expected: str = ".", **changes: object) -> Bad:
    """A form with changed fields."""

    def send(known: Known) -> tuple[str, bytes]:
        if path == FIRST:
            return URLENCODED, urlencode(observation_fields(OBSERVATION) | changes).encode()
        if path == THIRD:
            return URLENCODED, urlencode(measurement_fields(RADIO, known.burst_id) | changes).encode()
        files: Any = {name: value for name, value in changes.items() if name.endswith("_open")}
        texts = {name: value for name, value in changes.items() if name not in files}
        fields = {"observation": known.observation_id, "time_of_arrival": "2020-01-02T03:04:05", "repeater": "False"}
        return multipart(fields | texts, example_images() | files)

    return Bad(path, send, 400, told, value, expected)


def old_body(path: str, content_type: str, body: bytes, status: int, said: str) -> Bad:
    return Bad(path, lambda _: (content_type, body), status, "detail", said)


OLD: dict[str, Bad] = {
    "ra-nan": old(THIRD, "ra", "nan", "finite|between|greater", ra="nan"),
    "ra-infinite": old(THIRD, "ra", "inf", ra="inf"),
    "ra-9999": old(THIRD, "ra", "9999", "360", ra="9999"),
    "dec-91": old(THIRD, "dec", "91", "90", dec="91"),
    "gl-nan": old(THIRD, "gl", "nan", "360", gl="nan"),
    "gb-9999": old(THIRD, "gb", "9999", "90", gb="9999"),
    "dm-beyond-doubles": old(THIRD, "dm", "inf", dm="1e400"),
    "dm-beyond-reason": old(THIRD, "dm", "1e\\+?20", dm="1e20"),
    "negative-error": old(THIRD, "dm_err", "-1", "0", dm_err="-1"),
    "negative-position-error": old(THIRD, "ra_pos_error", "-0.05", "0", ra_pos_error="-0.05"),
    "negative-sn": old(THIRD, "sn", "-5", "0", sn="-5"),
    "no-width": old(THIRD, "width", "0", "0", width="0"),
    "rm-nan": old(THIRD, "rm", "nan", rm="nan"),
    "unknown-burst": old(THIRD, "frb", str(UNKNOWN), "does not exist", frb=UNKNOWN),
    "burst-beyond-integers": old(THIRD, "frb", "9{19}", "does not exist", frb="9" * 19),
    "burst-of-10^5-digits": old(THIRD, "frb", "", frb="9" * 100_000),
    "negative-burst": old(THIRD, "frb", "-1", frb="-1"),
    "script-in-version": old(THIRD, "version", "<script>", "plain text", version=SCRIPT),
    "nul-in-version": old(THIRD, "version", "Null characters", version="v\x001"),
    "other-direction-in-version": old(THIRD, "version", "v\u202e1", "direction", version="v\u202e1"),
    "line-break-in-version": old(THIRD, "version", "v\n1", "control", version="v\n1"),
    "long-version": old(THIRD, "version", "64 characters", version=LONG),
    "long-number": old(THIRD, "dm", "too large", dm="1" * 100_000),
    "script-in-source": old(THIRD, "source", "<script>", "valid choice", source="<script>"),
    "script-in-hms": old(THIRD, "ra_hms", "<script>", ra_hms="<script>alert(1)</script>"),
    "gain-nan": old(FIRST, "gain", "nan", gain="nan"),
    "negative-tsys": old(FIRST, "tsys", "-50", "0", tsys="-50"),
    "nchan-beyond-integers": old(FIRST, "nchan", "1{30}", nchan="1" * 30),
    "nchan-of-10^5-digits": old(FIRST, "nchan", "too large", nchan="1" * 100_000),
    "script-in-backend": old(FIRST, "backend", "<script>", "plain text", backend="<script>"),
    "nul-in-backend": old(FIRST, "backend", "Null characters", backend="a\x00b"),
    "future": old(SECOND, "time_of_arrival", "2117", "to now", time_of_arrival=FUTURE),
    "before-radio-astronomy": old(SECOND, "time_of_arrival", "1066", "to now", time_of_arrival="1066-10-14T09:00:00"),
    "year-one-east": old(SECOND, "time_of_arrival", "wrong format", time_of_arrival="0001-01-01T00:00:00+14:00"),
    "unknown-observation": old(SECOND, "observation", str(UNKNOWN), "does not exist", observation=UNKNOWN),
    "html-as-image": old(SECOND, "search_open", "HTML", "PNG or JPEG", search_open=("a.png", HTML)),
    "svg-as-image": old(SECOND, "image_open", "SVG", "PNG or JPEG", image_open=("a.png", SVG)),
    "nothing-as-image": old(SECOND, "histogram_open", "empty", "PNG or JPEG", histogram_open=("a.png", b"")),
    "zeros-as-image": old(SECOND, "search_open", "begins with", "PNG or JPEG", search_open=("a.png", bytes(9000))),
    "huge-area": old(
        SECOND, "search_open", "2147483647 x 8 pixels", "50000000 pixels", search_open=("a.png", a_png(width=2**31 - 1))
    ),
    "nine-megabytes": old(
        SECOND, "search_open", "90000\\d\\d bytes", "at most", search_open=("a.png", a_png(data=bytes(9 * MEGABYTE)))
    ),
    "deep-json": old_body(FIRST, JSON, DEEP, 400, "600001 bytes"),
    "deep-list": old_body(FIRST, JSON, b"[" * 100_000, 400, "deep"),
    "cut-json": old_body(FIRST, JSON, b'{"gain": 3', 400, "JSON parse error"),
    "nan-in-json": old_body(FIRST, JSON, b'{"gain": NaN}', 400, "nan .*finite"),
    "no-utf-8-in-json": old_body(FIRST, JSON, b'{"gain": "\xff"}', 400, "JSON parse error"),
    "lone-surrogate-in-json": old_body(FIRST, JSON, b'{"gain": "\\ud800"}', 400, "JSON parse error"),
    "lone-surrogate-as-key": old_body(THIRD, JSON, b'{"\\ud800": 1}', 400, "JSON parse error"),
    "form-without-boundary": old_body(SECOND, "multipart/form-data", b"--x\r\n", 400, "boundary"),
    "form-that-is-none": old_body(SECOND, "multipart/form-data; boundary=x", b"hello", 400, "."),
    "lone-surrogate-in-utf-7": Bad(THIRD, lambda _: in_utf_7("source"), 400, "source", "."),
    "thousand-fields": old_body(FIRST, URLENCODED, b"&".join([b"a=1"] * 1000), 400, "fields"),
}


# ---- the proper door -------------------------------------------------------------------------------------------


def new(told: str, value: str, expected: str = ".", *, status: int = 400, **changes: object) -> Bad:
    """The example as JSON, changed."""
    return Bad(EVENTS, lambda _: (JSON, json.dumps(a_burst(**changes)).encode()), status, told, value, expected)


def new_body(
    body: bytes, told: str, value: str, expected: str = ".", *, path: str = EVENTS, content_type: str = JSON,
    status: int = 400, headers: tuple[tuple[str, str], ...] = (),
) -> Bad:  # fmt: skip
    return Bad(path, lambda _: (content_type, body), status, told, value, expected, headers)


def new_form(told: str, value: str, expected: str = ".", **parts: Any) -> Bad:
    """YAML and images, some of them changed."""
    yaml = (json.dumps({**RADIO, "version": "of a form"})).encode()

    def send(_: Known) -> tuple[str, bytes]:
        files = {name: part for name, part in parts.items() if isinstance(part, tuple)}
        texts = {name: part for name, part in parts.items() if name not in files}
        return multipart({"radio_measurement": yaml.decode()} | texts, files)

    return Bad(EVENTS, send, 400, told, value, expected)


def about(path: str, body: object, told: str, value: str, expected: str = ".", *, status: int = 400) -> Bad:
    """Something about a burst."""
    of_burst = f"{EVENTS}/{{burst_id}}/{path}"
    return Bad(of_burst, lambda _: (JSON, json.dumps(body).encode()), status, told, value, expected)


def unknown(path: str, body: object) -> Bad:
    sent = (JSON, json.dumps(body).encode())
    return Bad(f"{EVENTS}/{UNKNOWN}/{path}", lambda _: sent, 404, "id", str(UNKNOWN), "the id of a burst")


def asked(query: str, told: str, value: str, expected: str = ".", *, status: int = 400) -> Bad:
    return Bad(f"GET {EVENTS}{query}", lambda _: ("", b""), status, told, value, expected)


MEASUREMENT = a_burst()["measurement"]
ELLIPSE = {"a": 0.1, "b": 0.1, "cl": 68, "theta": 0}
NEW: dict[str, Bad] = {
    "nan-as-text": new("measurement.dm", "nan", "0|finite", dm="nan"),
    "nan": new_body(json.dumps(a_burst(dm=float("nan"))).encode(), "measurement.dm", "nan", "finite"),
    "infinity": new_body(json.dumps(a_burst(ra=float("inf"))).encode(), "measurement.ra", "inf", "finite"),
    "beyond-doubles": new_body(
        json.dumps(a_burst(dm=-7)).replace("-7", "1e400").encode(), "measurement.dm", "inf", "finite"
    ),
    "ra-9999": new("measurement.ra", "9999", "360", ra=9999),
    "dec-minus-91": new("measurement.dec", "-91", "-90", dec=-91),
    "negative-error": new("measurement.dm_err", "-1", "0", dm_err=-1),
    "ellipse-of-nothing": new("measurement.eellipse.a", "0", "greater", eellipse=ELLIPSE | {"a": 0}),
    "ellipse-at-100-percent": new("measurement.eellipse.cl", "100", "less", eellipse=ELLIPSE | {"cl": 100}),
    "ellipse-that-is-none": new("measurement.eellipse", "round", eellipse="round"),
    "negative-redshift": new("measurement.z", "-0.1", "0", z=-0.1),
    "yes-as-number": new("measurement.dm", "True|true", "number", dm=True),
    "list-as-number": new("measurement.dm", r"\[", "number", dm=[411]),
    "word-as-number": new("measurement.dm", "dense", "number", dm="dense"),
    "number-as-text": new("measurement.version", "7", "string", version=7),
    "part-of-a-channel": new("observation.nchan", "3.5", "integer", observation=OBSERVATION | {"nchan": 3.5}),
    "script-in-version": new("measurement.version", "<script>", "plain text", version=SCRIPT),
    "script-in-backend": new(
        "observation.backend", "<script>", "plain text", observation=OBSERVATION | {"backend": SCRIPT}
    ),
    "script-in-name": new("repeater_of", "<script>", "plain text", repeater_of=SCRIPT),
    "script-in-cosmology": new("measurement.cosmo", "<script>", "plain text", cosmo=SCRIPT),
    "unknown-cosmology": new("cosmo", "Ptolemy", ".", cosmo="Ptolemy"),
    "nul": new("measurement.version", "a.b", "NUL", version="a\x00b"),
    "lone-surrogate": new("measurement.version", ".", ".", version="a\ud800b"),
    "long-text": new("measurement.version", "x…|x{50}", "64|128", version=LONG),
    "future": new("time_of_arrival", "2117", "to now", time_of_arrival=FUTURE),
    "no-time": new("time_of_arrival", "soon", "ISO", time_of_arrival="soon"),
    "time-as-number": new("time_of_arrival", "17", "ISO", time_of_arrival=17),
    "year-one-east": new("time_of_arrival", "0001", ".", time_of_arrival="0001-01-01T00:00:00+14:00"),
    "no-measurement": new_body(b"{}", "measurement", "missing", "a value"),
    "measurement-of-nothing": new("measurement.dm", "missing", "a value", measurement={}),
    "a-list": new_body(b"[]", "body", r"\[\]", "."),
    "nothing": new_body(b"", "body", "empty", "JSON"),
    "cut": new_body(b'{"measurement": ', "body", "measurement", "JSON"),
    "no-utf-8": new_body(b'{"repeater_of": "\xff"}', "body", ".", "JSON"),
    "twice-the-same-key": new_body(b'{"repeater": true, "repeater": false}', "body", ".", "twice"),
    "deep": new_body(DEEP, "body", "600001 bytes", "262144"),
    "deep-list": new_body(b"[" * 100_000, "body", "deep", "32"),
    "two-megabytes-of-json": new_body(b'"' + bytes(2 * MEGABYTE) + b'"', "detail", "at most 1048576 bytes", status=413),
    "long-key": new_body(
        json.dumps(a_burst()).encode(), "idempotency-key", "k{20}", "255", headers=(("Idempotency-Key", "k" * 256),)
    ),
    "malformed-yaml": new_form("radio_measurement", "line", "YAML", radio_measurement="{dm: 411.0, ra: [}"),
    "yaml-bomb": new_form("radio_measurement", ".", "anchors", radio_measurement="a: &a [1]\nb: [*a, *a]"),
    "yaml-of-python": new_form(
        "radio_measurement", ".", "YAML", radio_measurement="!!python/object/apply:os.getpid []"
    ),
    "yaml-text": new_form("radio_measurement", "hello", "mapping", radio_measurement="hello"),
    "deep-yaml": new_form("radio_measurement", "deep|bytes", ".", radio_measurement="[" * 50_000),
    "yaml-nan": new_form(
        "radio_measurement.dm",
        "nan",
        "finite",
        radio_measurement=json.dumps(RADIO | {"dm": "x"}).replace('"x"', ".nan"),
    ),
    "malformed-observation": new_form("observation", "line", "YAML", observation="{gain: "),
    "negative-gain-in-yaml": new_form(
        "observation.gain", "-3", "0", observation=json.dumps(OBSERVATION | {"gain": -3})
    ),
    "html-as-image": new_form("search", "HTML", "PNG or JPEG", search=("a.png", HTML)),
    "svg-as-image": new_form("image", "SVG", "PNG or JPEG", image=("a.svg", SVG)),
    "text-as-image": new_form("histogram", "hello", "PNG or JPEG", histogram="hello"),
    "huge-area": new_form(
        "search", "100000 x 100000 pixels", "50000000 pixels", search=("a.png", a_png(width=100_000, height=100_000))
    ),
    "lone-surrogate-in-utf-7": Bad(EVENTS, lambda _: in_utf_7("radio_measurement"), 400, "radio_measurement", "."),
    "zero-is-no-boolean": new("is_test", "0", "boolean", is_test=0),
    "text-is-no-boolean": new("repeater", "True", "boolean", repeater="True"),
    "zero-is-no-boolean-in-a-form": new_form("is_test", "0", "boolean", is_test="0"),
    "a-file-is-no-boolean": new_form("is_test", "a file", "boolean", is_test=("a.txt", b"true")),
    "other-direction-in-note": about("ratings", {"rating": "confirm", "note": "a\u202eb"}, "note", ".", "direction"),
    "escape-in-reason": about("withdrawal", {"reason": "a\x1b[2Jb"}, "reason", ".", "control"),
    "perhaps-a-test": new_form("is_test", "perhaps", "boolean", is_test="perhaps"),
    "no-form": new_body(b"hello", "body|detail", ".", content_type="multipart/form-data; boundary=x"),
    "no-boundary": new_body(b"hello", "body|detail", "boundary", content_type="multipart/form-data"),
    "eleven-files": Bad(
        EVENTS, lambda _: multipart({}, {f"f{n}": ("a", b"") for n in range(11)}), 400, "body|detail", "files"
    ),
    "measurement-of-unknown": unknown("measurements", MEASUREMENT),
    "rating-of-unknown": unknown("ratings", {"rating": "confirm"}),
    "status-of-unknown": unknown("status", {"status": "confirmed", "reason": "."}),
    "withdrawal-of-unknown": unknown("withdrawal", {"reason": "."}),
    "name-of-unknown": unknown("tns-name", {"tns_name": "FRB 20171117A"}),
    "rating": about("ratings", {"rating": "maybe"}, "rating", "maybe", "confirm"),
    "script-in-note": about("ratings", {"rating": "confirm", "note": SCRIPT}, "note", "<script>", "plain text"),
    "long-note": about("ratings", {"rating": "confirm", "note": LONG}, "note", "x", "10000"),
    "status": about("status", {"status": "withdrawn", "reason": "."}, "status", "withdrawn", "confirmed"),
    "no-reason": about("status", {"status": "confirmed"}, "reason", "missing", "a value"),
    "script-in-reason": about("withdrawal", {"reason": SCRIPT}, "reason", "<script>", "plain text"),
    "nul-in-reason": about("withdrawal", {"reason": "a\x00b"}, "reason", ".", "control"),
    "name": about("tns-name", {"tns_name": "GRB 170817A"}, "tns_name", "GRB 170817A", "FRB"),
    "measurement-ra-9999": about("measurements", MEASUREMENT | {"ra": 9999}, "ra", "9999", "360"),
    "measurement-in-yaml": new_body(
        b"{dm: [}", "body", "line", "YAML", path=f"{EVENTS}/{{burst_id}}/measurements", content_type="application/yaml"
    ),
    "list-ra-9999": asked("?ra=9999&dec=0&radius=1", "ra", "9999", "360"),
    "list-half-a-cone": asked("?ra=99&dec=0", "radius", "missing|None", "together"),
    "list-nan": asked("?dm_min=nan", "dm_min", "nan", "finite"),
    "list-limit": asked("?limit=501", "limit", "501", "500"),
    "list-cursor": asked("?cursor=%F0%9F%90%88", "cursor", "🐈", "next"),
    "list-cursor-of-garbage": asked("?cursor=garbage", "cursor", "garbage", "next"),
    "list-time": asked("?since=soon", "since", "soon", "ISO"),
    "list-unknown-filter": asked("?colour=red", "colour", "red", "."),
    "list-nul": asked("?tns_name=%00", "tns_name", ".", "."),
    "export-format": asked("/export?format=xls", "format", "xls", "csv"),
    "unknown-burst": asked(f"/{UNKNOWN}", "id", str(UNKNOWN), "the id of a burst", status=404),
    "burst-beyond-integers": asked(f"/{2**63}", "burst_id", "9223372036854775808", "less"),
    "burst-of-letters": asked("/seven", "burst_id", "seven", "integer"),
    "burst-of-10^4-digits": asked(f"/{'9' * 10_000}", "burst_id", "9{20}", "."),
    "unknown-image": asked("/{burst_id}/images/passwd", "name", "passwd", "search"),
}


def ask(known: Known, bad: Bad) -> Answer:
    path = bad.path.replace("{burst_id}", str(known.burst_id))
    method, _, path = path.rpartition(" ")
    content_type, body = bad.send(known)
    request = request_bytes(
        method or "POST", path, body, content_type=content_type, authorization=known.script.authorization,
        port=known.script.port,
    )  # fmt: skip
    extra = "".join(f"{name}: {value}\r\n" for name, value in bad.headers).encode()
    return exchange(known.script.port, [request.replace(b"\r\n", b"\r\n" + extra, 1)])


@pytest.mark.parametrize("name", OLD)
def test_the_old_door_refuses_in_its_words_and_keeps_nothing(known: Known, name: str) -> None:
    before, bad = known.kept(), OLD[name]

    answer = ask(known, bad)

    assert answer.status == bad.status, answer.body[:500]
    told = answer.json()[bad.field]
    message = told if isinstance(told, str) else " ".join(told)
    assert re.search(bad.value, message, re.DOTALL), message
    assert re.search(bad.expected, message), message
    assert len(answer.body) < 2000
    assert known.kept() == before


@pytest.mark.parametrize("name", NEW)
def test_the_proper_door_names_field_value_and_expectation_and_keeps_nothing(known: Known, name: str) -> None:
    before, bad = known.kept(), NEW[name]

    answer = ask(known, bad)

    assert answer.status == bad.status, answer.body[:500]
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == bad.status
    if "detail" in bad.field:
        assert re.search(bad.value, problem["detail"])
    else:
        found = [error for error in problem["errors"] if re.fullmatch(bad.field, error["field"], re.IGNORECASE)]
        assert found, problem
        assert re.search(bad.value, found[0]["value"]), problem
        assert re.search(bad.expected, found[0]["expected"]), problem
    assert len(answer.body) < 20_000
    assert known.kept() == before


PART = b'--x\r\nContent-Disposition: form-data; name="search"; filename="a.png"\r\n\r\n'


def streamed(known: Known, path: str, pieces: Iterable[bytes], **headers: str) -> Answer:
    """A body that comes bit by bit, without its length unless that is among the headers."""
    lines = {
        "Host": "127.0.0.1",
        "Authorization": known.script.authorization,
        "Content-Type": "multipart/form-data; boundary=x",
        **({} if "Content-Length" in headers else {"Transfer-Encoding": "chunked"}),
        **headers,
    }
    head = f"POST {path} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items())

    def whole() -> Iterator[bytes]:
        yield head.encode() + b"\r\n"
        for piece in pieces:
            yield piece if "Content-Length" in headers else f"{len(piece):x}\r\n".encode() + piece + b"\r\n"
        if "Content-Length" not in headers:
            yield b"0\r\n\r\n"

    return exchange(known.script.port, whole())


def two_hundred_megabytes() -> Iterator[bytes]:
    yield PART
    for _ in range(15):
        yield bytes(13 * MEGABYTE + 333_333)


@pytest.mark.parametrize("path", [SECOND, EVENTS])
@pytest.mark.parametrize("headers", [{}, {"Content-Length": str(len(PART) + 15 * 13_333_333)}], ids=["chunked", "long"])
def test_200_megabytes_are_not_read_to_their_end(known: Known, path: str, headers: dict[str, str]) -> None:
    before = known.kept()

    answer = streamed(known, path, two_hundred_megabytes(), **headers)

    assert answer.status == 413, answer.body[:500]
    assert "33554432" in answer.body.decode()
    assert known.kept() == before


@pytest.mark.parametrize("path", [SECOND, EVENTS])
def test_a_body_that_trickles_is_given_up(known: Known, path: str) -> None:
    before = known.kept()

    def trickle() -> Iterator[bytes]:
        yield PART
        while time.monotonic() < end:
            time.sleep(BODY_TIMEOUT_S / 20)
            yield b"x"

    began = time.monotonic()
    end = began + 3 * BODY_TIMEOUT_S
    answer = streamed(known, path, trickle())

    assert answer.status == 408, answer.body[:500]
    assert BODY_TIMEOUT_S <= time.monotonic() - began < 2 * BODY_TIMEOUT_S
    assert "time" in answer.json()["detail"]
    assert known.kept() == before


@pytest.mark.parametrize("name", ["%E2%82%AC", "%0d%0aX-Evil:%201", "%00", "..%2fsearch"])
def test_the_old_addresses_of_images_lead_to_images_alone(known: Known, name: str) -> None:
    answer = known.script.ask("GET", f"/media/candidates/{known.burst_id}/{name}/a.png")
    assert answer.status in (400, 404), answer.body[:500]
    assert "x-evil" not in answer.headers


def test_it_is_well_after_all_of_this(known: Known) -> None:
    assert known.script.measure(RADIO | {"version": "after"}, known.burst_id).status == 201
