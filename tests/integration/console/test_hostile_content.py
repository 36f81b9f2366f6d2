"""Whatever others write, pages show it as it was written: it runs nothing, breaks nothing and hides nothing."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import count
from typing import Any, TypeVar
from uuid import uuid4

import httpx
import pytest

from shared.events.frb import FrbEvent
from shared.events.mma import Coincidence
from shared.events.record import Event
from shared.schema.codec import encode
from shared.schema.reference import example_files
from tests.integration.console.test_stories import is_shown, letters, publish
from tests.support.alerts import a_coincidence, a_skymap, alert_content, an_alert, an_event, as_json
from tests.support.browser import PHONE, Visit, Window
from tests.support.browser import WIDE as WINDOW
from tests.support.console import ConsoleUnderTest
from tests.support.frb_intake import EVENTS, a_burst
from tests.support.runtime import eventually, records, send
from tests.support.upstream_client import example_images

RUNS = "window.ran = true"
SCRIPTS = (
    f"<script>{RUNS}</script>",
    f'"><img src=x onerror="{RUNS}">',
    f"' autofocus onfocus='{RUNS}' x='",
    f"</title></style><svg/onload={RUNS}>",
    f'<div hx-on:load="{RUNS}" hx-trigger="load" hx-get="/logout">',
    f"javascript:{RUNS}",
    "{{ 7 * 7 }}${7*7}",
)
ALL_SCRIPTS = " ".join(SCRIPTS)
LONG = "W" * 10_000
WIDE = "W" * 1000
# A word as long as services accept, which is therefore shown.
TURNED = "\u202e\u2066gpj.exe\u2069\u200b\ufeff"
CONTROL = "bell\x07 escape\x1b[31m null\x00 tab\t line\n"
PLOT = example_images()["search_open"]
Harmless = Callable[..., Window]
E = TypeVar("E", bound=Event)
HOSTILE = {"scripts": ALL_SCRIPTS, "long": LONG, "wide": WIDE, "turned": TURNED, "control": CONTROL}


@pytest.fixture
def harmless(visit: Visit, reader: str) -> Harmless:
    """Looks at a page, wide and on a phone: nothing may have happened there."""
    window: Window = visit(reader)

    def look(path: str, *shown: str) -> Window:
        assert window.open(path) == 200, path
        window.is_live()
        for text in shown:
            assert text in window.text("body"), (path, text)
        is_harmless(window, path)
        return window

    return look


def is_harmless(window: Window, path: str) -> None:
    """Nothing happened in a window, wide and on a phone."""
    assert window.evaluate("window.ran === undefined"), path
    assert window.count("main script, main iframe, [onerror], [onfocus], [onload]") == 0, path
    assert window.count('a[href^="javascript:" i]') == 0, path
    assert window.overflow == 0, path
    window.resize(PHONE)
    assert window.overflow == 0, path
    window.resize(WINDOW)
    assert window.overflow == 0, path


@pytest.mark.parametrize("kind", HOSTILE)
def test_alerts_of_others_do_nothing(kind: str, console: ConsoleUnderTest, harmless: Harmless) -> None:
    text = HOSTILE[kind]
    name = f"MS261121{letters()}"
    event = an_event(
        group=text, pipeline=text, search=text, instruments=["H1", text],
        classification={text: 0.5, "BNS": 0.5}, properties={text: 1.0},
    )  # fmt: skip
    external = a_coincidence(observatory=text, search=text, ivorn=text)
    alert = an_alert(superevent_id=name, event=event, skymap=a_skymap(object_name="x"), external_coinc=external)
    harmless("/")
    buried = waiting(console)

    publish(console, alert)

    where = eventually(lambda: place_of(console, name, buried), f"what became of {name}")
    for path in ("/", "/gw", f"/gw/{name}", "/gw?id=" + name) if where == "shown" else ("/system/dead-letters", where):
        harmless(path)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, 1e308, -1e-320])
def test_numbers_that_are_none_are_shown_as_unknown(
    number: float, console: ConsoleUnderTest, harmless: Harmless
) -> None:
    name = f"MS261121{letters()}"
    event = an_event(
        far=number,
        duration=number,
        central_frequency=number,
        classification={"BNS": number},
        properties={"HasNS": number},
    )
    external = a_coincidence(time_difference=number, time_coincidence_far=number)
    buried = waiting(console)
    publish(console, an_alert(superevent_id=name, event=event, external_coinc=external))

    where = eventually(lambda: place_of(console, name, buried), f"what became of {name}")
    for path in ("/gw", f"/gw/{name}") if where == "shown" else (where,):
        words = harmless(path).text("main").split()
        assert not {"nan", "inf", "-inf", "NaN", "Infinity", "None"} & {*words} or where != "shown"


def test_names_of_superevents_and_addresses_that_are_scripts_do_nothing(
    console: ConsoleUnderTest, harmless: Harmless
) -> None:
    buried = waiting(console)
    content = json.loads(an_address_alert(f"MS261121{letters()}"))
    publish(
        console, json.dumps(content).encode(), an_alert(superevent_id=ALL_SCRIPTS), ALL_SCRIPTS.encode(), LONG.encode()
    )
    name = content["superevent_id"]
    eventually(lambda: is_shown(console, name), name)
    eventually(lambda: waiting(console) >= buried + 3, "three dead letters")

    harmless(f"/gw/{name}")
    harmless("/system/dead-letters/igwn.gwalert.dlq.gw_listener")
    for offset in range(buried, buried + 3):
        harmless(f"/system/dead-letters/igwn.gwalert.dlq.gw_listener@{offset}")


def test_dead_letters_with_hostile_keys_and_headers_do_nothing(console: ConsoleUnderTest, harmless: Harmless) -> None:
    topic = "gw.skymaps.dlq.coincidence"
    for text in HOSTILE.values():
        facts = ("topic", "partition", "offset", "error-class", "error", "service", "version", "failed-at")
        headers = [*((f"dlq-{fact}", text.encode()) for fact in facts), (text.replace("\x00", "")[:200], text.encode())]
        ((_, offset),) = send(console.system.broker.address, topic, (text.encode(), text.encode(), headers))
        harmless(f"/system/dead-letters/{topic}")
        harmless(f"/system/dead-letters/{topic}@{offset}")
    harmless("/system")


def test_uploads_and_votes_do_nothing(console: ConsoleUnderTest, harmless: Harmless) -> None:
    client = console.intake.client(console.add_user())
    for text in HOSTILE.values():
        for field, sent in hostile_bursts(text).items():
            answer = client.post(EVENTS, content=json.dumps(sent), headers={"content-type": "application/json"})
            assert answer.status_code in (201, 400, 422), (field, answer.text[:500])
    burst = console.submit()
    accepted = 0
    for text in (*SCRIPTS, *HOSTILE.values(), "5 < 6 & 7 > 6 \"quoted\" 'single'"):
        for path, body in (
            ("ratings", {"rating": "unsure", "note": text}),
            ("status", {"status": "confirmed", "reason": text}),
        ):
            answer = client.post(f"{EVENTS}/{burst}/{path}", json=body)
            assert answer.status_code in (200, 201, 400, 409, 422), answer.text[:500]
            accepted += answer.status_code < 400
    assert accepted

    harmless("/frb")
    harmless(f"/frb/{burst}", "5 < 6 & 7 > 6")
    harmless("/")


def test_names_of_uploaded_files_do_nothing(console: ConsoleUnderTest, harmless: Harmless) -> None:
    client = console.intake.client(console.add_user())
    names = iter([*SCRIPTS, WIDE, TURNED, CONTROL, "../../../etc/passwd", "a.png\r\nX-Evil: 1"])
    images = example_images()
    while batch := dict(zip(images, names, strict=False)):
        parts: dict[str, Any] = {"radio_measurement": (None, json.dumps(a_burst()["measurement"]))}
        parts |= {part.removesuffix("_open"): (name, images[part][1]) for part, name in batch.items()}
        answer = client.post(EVENTS, files=parts)
        assert answer.status_code == 201, answer.text[:500]
        window = harmless(f"/frb/{answer.json()['id']}")
        assert window.count("figure img") == len(batch)


def test_records_on_our_own_topics_do_nothing_in_the_feed(console: ConsoleUnderTest, harmless: Harmless) -> None:
    """A service that lets something through has none of it run in every open browser."""
    window, numbers = harmless("/"), count(10**6)
    subjects = []
    for text in (*SCRIPTS, WIDE, TURNED, CONTROL.replace("\x00", "")):
        burst, pair = a_hostile_burst(text, next(numbers)), a_hostile_pair(text, next(numbers))
        for topic, key, record in (
            ("frb.events", f"{burst.frb_id}", burst),
            ("mma.coincidences", pair.coincidence_id, pair),
        ):
            send(console.system.broker.address, topic, (key.encode(), encode(record), ()))
        window.waits_for(f'ul.feed a[href="/frb/{burst.frb_id}"]')
        window.waits_for(f'ul.feed a[href$="-{pair.burst.frb_id}"]')
        subjects.append(f"mma/{pair.wave.superevent_id}-{pair.burst.frb_id}")
    is_harmless(window, "/")

    def told() -> list[int]:
        statement = "SELECT min(id) AS id FROM notifier.deliveries WHERE subject = ANY($1) GROUP BY subject"
        found = console.system.rows(statement, subjects)
        return [row["id"] for row in found] if len(found) == len(subjects) else []

    harmless("/system/deliveries")
    for delivery in eventually(told, "what is to be told of them"):
        harmless(f"/system/deliveries/{delivery}")


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_is_in_the_database_is_no_more_trusted(kind: str, console: ConsoleUnderTest, harmless: Harmless) -> None:
    """Had a check of the intake a hole, or came text by another door, pages would still show it as it is."""
    text = HOSTILE[kind].replace("\x00", "")
    client = console.intake.client(console.add_user())
    parts: dict[str, Any] = {"radio_measurement": (None, json.dumps(a_burst()["measurement"])), "search": PLOT}
    answer = client.post(EVENTS, files=parts)
    assert answer.status_code == 201, answer.text
    burst, system = answer.json()["id"], console.system
    answer = client.post(f"{EVENTS}/{burst}/ratings", json={"rating": "unsure", "note": "to be replaced"})
    assert answer.status_code == 201, answer.text
    system.rows("UPDATE frb_intake.ratings SET note = $1, rater = $1 WHERE burst_id = $2", text, burst)
    system.rows("UPDATE frb_intake.images SET file_name = $1 WHERE burst_id = $2", text, burst)
    # A name is unique, and indexes take no 10^4 characters.
    system.rows(
        "UPDATE frb_intake.bursts SET internal_name = $1 || id, submitted_by = $1, origin_id = $1, tns_name = $1,"
        " summary = replace(summary::text, to_json(internal_name)::text, to_json($1::text)::text)::json WHERE id = $2",
        text[:2000], burst,
    )  # fmt: skip
    try:
        harmless(f"/frb/{burst}", *SCRIPTS[:1] if kind == "scripts" else ())
        harmless("/frb")
    finally:
        system.rows("UPDATE frb_intake.bursts SET event_time = '1990-01-01' WHERE id = $1", burst)


def test_addresses_that_somebody_was_sent_do_nothing(console: ConsoleUnderTest, visit: Visit) -> None:
    window = visit()
    for path in (
        "/login?next=",
        "/frb?since=",
        "/gw?id=",
        "/gw?since=",
        "/system/dead-letters/",
        "/frb/",
        "/gw/",
        "/mma/",
        "/mma?since=",
    ):
        for text in (*SCRIPTS, LONG[:6000], TURNED, CONTROL, "//evil.example", "https://evil.example"):
            address = path + str(httpx.QueryParams({"": text}))[1:].replace("+", "%20")
            status = console.browser().get(address).status_code
            assert status < 500, (address, status)
        address = path + str(httpx.QueryParams({"": ALL_SCRIPTS}))[1:].replace("+", "%20")
        status = console.browser().get(address).status_code
        if status >= 400:
            with window.refused(status):
                window.open(address)
        else:
            window.open(address)
        window.is_live()
        assert window.evaluate("window.ran === undefined"), address
        assert window.overflow == 0, address


def hostile_bursts(text: str) -> dict[str, dict[str, Any]]:
    """Bursts with this text in a field each, and with numbers that are none."""
    sent: dict[str, dict[str, Any]] = {}
    for field in ("version", "cosmo", "source"):
        sent[field] = a_burst(**{field: text})
    for field in ("repeater_of", "time_of_arrival"):
        sent[field] = a_burst() | {field: text}
    sent["backend"] = a_burst()
    sent["backend"]["observation"] = {**sent["backend"]["observation"], "backend": text}
    for number in (math.nan, math.inf, -math.inf):
        sent[f"dm {number}"] = a_burst(dm=number)
        sent[f"tsys {number}"] = a_burst()
        sent[f"tsys {number}"]["observation"] = {**sent["backend"]["observation"], "tsys": number, "backend": "x"}
    return sent


def a_hostile_burst(text: str, number: int) -> FrbEvent:
    """A record of a burst that nobody sent, with this text wherever there is one."""
    record = an_example(FrbEvent, "upload-without-measurement.json")
    names = ("internal_name", "origin", "origin_id", "submitted_by", "changed_by", "status_reason", "tns_name")
    return record.model_copy(
        update={**dict.fromkeys(names, text), "frb_id": number, "changed_at": datetime.now(UTC), "event_id": uuid4()}
    )


def a_hostile_pair(text: str, number: int) -> Coincidence:
    """A record of a pair that nobody scored, with this text wherever there is one."""
    record = an_example(Coincidence, "initial.json")
    wave = {**dict.fromkeys(("superevent_id", "group", "search", "pipeline"), text), "skymap": None}
    names = ("internal_name", "origin", "origin_id", "tns_name", "timing_note")
    assert record.scores is not None
    return record.model_copy(
        update={
            "event_id": uuid4(),
            "coincidence_id": f"{text}-{number}",
            "decided_at": datetime.now(UTC),
            "reason": text,
            "wave": record.wave.model_copy(update=wave),
            "burst": record.burst.model_copy(update={**dict.fromkeys(names, text), "frb_id": number}),
            "scores": record.scores.model_copy(update={"combined_skymap": None}),
            "gcn_notice": None,
        }
    )


def an_example(kind: type[E], name: str) -> E:
    (path,) = (path for path in example_files(kind.schema_name) if path.name == name)
    return kind.model_validate_json(path.read_bytes())


def an_address_alert(name: str) -> bytes:
    """An alert whose links are scripts."""
    content = alert_content(superevent_id=name)
    content["urls"] = {f"link{number}": text for number, text in enumerate(SCRIPTS)} | {
        ALL_SCRIPTS: "javascript:alert(1)"
    }
    return as_json(content)


def waiting(console: ConsoleUnderTest) -> int:
    """The offset of the next dead letter of the listener."""
    found = records(console.system.broker.address, "igwn.gwalert.dlq.gw_listener")
    return found[-1].offset + 1 if found else 0


def place_of(console: ConsoleUnderTest, name: str, buried: int) -> str:
    """Where an alert is to be seen: `shown`, or the address of its dead letter; empty as long as nowhere."""
    if is_shown(console, name):
        return "shown"
    return f"/system/dead-letters/igwn.gwalert.dlq.gw_listener@{buried}" if waiting(console) > buried else ""
