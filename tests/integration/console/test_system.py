"""What runs, what is behind, what waits for a person, and what they do about it."""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from cli.replay import to_message
from shared.inbox import dead_letter_desk as desk
from shared.inbox.dead_letters import dead_letter
from shared.kafka.message import Message, OutgoingMessage
from shared.schema.records import newest_schema
from shared.schema.topics import load_topics
from shared.settings import KafkaSettings
from shared.testing.webhook import Fault
from tests.support.alerts import an_alert
from tests.support.console import ConsoleUnderTest, csrf_of
from tests.support.runtime import eventually, send

ALERTS, ALERT_LETTERS = "igwn.gwalert", "igwn.gwalert.dlq.gw_listener"
MAP_LETTERS = "gw.alerts.dlq.skymap_parser"
QUIET_LETTERS = "frb.events.dlq.notifier"
# Nobody's tests make any there.
HOSTILE = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def operator(console: ConsoleUnderTest) -> httpx.Client:
    return console.browser(console.add_user("operate", "read"))


@pytest.fixture(scope="module")
def reader(console: ConsoleUnderTest) -> httpx.Client:
    return console.browser(console.add_user("read"))


@pytest.fixture
def kafka(console: ConsoleUnderTest) -> KafkaSettings:
    return KafkaSettings(bootstrap_servers=console.system.broker.address)


@contextmanager
def nothing_left(kafka: KafkaSettings, *topics: str) -> Iterator[None]:
    """Nothing waits before, nor after the block."""

    def clear() -> None:
        for topic in topics:
            end = desk.bounds(kafka, [topic])[topic].end
            desk.set_aside(kafka, desk.Front(topic, [], end))

    clear()
    try:
        yield
    finally:
        clear()


def waiting(kafka: KafkaSettings, topic: str) -> list[Message]:
    return list(desk.waiting_letters(kafka, topic))


def buried(topic: str, message: OutgoingMessage | bytes, *, error: str = "a bad release") -> tuple[Any, ...]:
    """A message as the service would have buried it."""
    value = message if isinstance(message, bytes) else message.value
    key, headers = (b"k", ()) if isinstance(message, bytes) else (message.key, tuple(message.headers))
    origin, _, service = topic.rpartition(".dlq.")
    found = Message(origin, 0, int(time.time_ns() % 10**9), key, value, headers)
    letter = dead_letter(
        found, topic=topic, error=ValueError(error), service=service, version="0", failed_at=datetime.now(UTC)
    )
    return letter.key, letter.value, letter.headers


def post(client: httpx.Client, path: str, page: str, **fields: Any) -> httpx.Response:
    """Send a form of a page, which was loaded before."""
    return client.post(path, data={"csrf": csrf_of(client.get(page).text), **fields})


def test_the_page_tells_how_everything_is(console: ConsoleUnderTest) -> None:
    browser = console.browser()

    def page_of_all_up() -> str:
        answer = browser.get("/system")
        assert answer.status_code == 200
        return answer.text if answer.text.count('<span class="badge good">up</span>') >= 8 else ""

    # A test before may have stopped one of them.
    page = eventually(page_of_all_up, "eight components are up")
    for name in (*console.services, "console", "PostgreSQL", "Kafka", "InfluxDB"):
        assert f'<th scope="row">{name}</th>' in page
    for name in ("gw_listener", "skymap_parser", "notifier.frb.events", "console.gw.alerts"):
        assert re.search(rf'<th scope="row">{re.escape(name)}[^<]*</th>', page)
    assert page.count('<span class="badge good">reading</span>') >= 5
    assert 'hx-trigger="every 5s"' in page
    assert "None" not in re.sub("None waits", "", page)


@pytest.mark.parametrize("path", ["/system/deliveries", "/system/dead-letters", "/system/topics", "/system/audit"])
def test_every_part_of_the_system_has_its_page(operator: httpx.Client, path: str) -> None:
    answer = operator.get(path)
    assert answer.status_code == 200
    assert f'<a href="{path}" aria-current="page">' in answer.text


# --- dead letters


def test_a_bad_message_is_shown_with_its_reason_and_what_was_in_it(
    console: ConsoleUnderTest, operator: httpx.Client, kafka: KafkaSettings
) -> None:
    with nothing_left(kafka, MAP_LETTERS):
        alert = to_message(an_alert(superevent_id="S261121dl", skymap=b"SIMPLE  = and nothing more"))
        send(kafka.bootstrap_servers, ALERTS, (alert.key, alert.value, alert.headers))
        (letter,) = eventually(lambda: waiting(kafka, MAP_LETTERS), "the letter")
        listed = operator.get(f"/system/dead-letters/{MAP_LETTERS}").text
        assert "FITS header" in listed
        assert "S261121dl" in listed
        eventually(lambda: "1 dead letter waits" in operator.get("/system").text, "the overview tells", deadline_s=20)
        page = operator.get(f"/system/dead-letters/{MAP_LETTERS}@{letter.offset}").text
        assert "FITS header" in page
        assert "&#34;superevent_id&#34;: &#34;S261121dl&#34;" in page
        assert "Avro" in page
        raw = operator.get(f"/system/dead-letters/{MAP_LETTERS}@{letter.offset}/content")
        assert raw.content == letter.value
        assert raw.headers["content-type"] == "application/octet-stream"
        assert raw.headers["content-disposition"].startswith("attachment")


def test_a_letter_that_is_replayed_from_its_page_is_handled(
    console: ConsoleUnderTest, operator: httpx.Client, kafka: KafkaSettings
) -> None:
    with nothing_left(kafka, ALERT_LETTERS):
        alert = to_message(an_alert(superevent_id="S261121rp"))
        send(kafka.bootstrap_servers, ALERT_LETTERS, buried(ALERT_LETTERS, alert))
        (letter,) = waiting(kafka, ALERT_LETTERS)
        page = f"/system/dead-letters/{ALERT_LETTERS}@{letter.offset}"
        begin = re.search(r'name="begin" value="(\d+)"', operator.get(page).text)
        assert begin is not None
        path = f"/system/dead-letters/{ALERT_LETTERS}/replay"
        answer = post(operator, path, page, begin=begin[1], until=letter.offset)
        assert (answer.status_code, answer.headers["location"]) == (303, f"/system/dead-letters/{ALERT_LETTERS}")
        eventually(
            lambda: console.system.rows("SELECT FROM gw_listener.superevents WHERE superevent_id = 'S261121rp'"),
            "the replayed alert is handled",
        )
        assert waiting(kafka, ALERT_LETTERS) == []
        after = operator.get(answer.headers["location"]).text
        assert "None waits" in after
        # And who did it stands there.
        assert re.search(r"replayed</td>.*?done</span>", after, re.DOTALL)
        assert "It was replayed or dropped" in operator.get(page).text
        assert ALERT_LETTERS in operator.get("/system/audit").text


def test_from_where_something_was_done_is_for_operators(
    operator: httpx.Client, reader: httpx.Client, kafka: KafkaSettings
) -> None:
    with nothing_left(kafka, QUIET_LETTERS):
        send(kafka.bootstrap_servers, QUIET_LETTERS, buried(QUIET_LETTERS, b"nonsense"))
        (letter,) = waiting(kafka, QUIET_LETTERS)
        fields = {"begin": letter.offset, "until": letter.offset, "csrf": csrf_of(operator.get("/system").text)}
        somewhere = {"X-Forwarded-For": "198.51.100.23"}
        path = f"/system/dead-letters/{QUIET_LETTERS}"
        assert operator.post(f"{path}/drop", data=fields, headers=somewhere).status_code == 303
        for page in ("/system", "/system/audit", path):
            assert f'<a href="{path}">' in reader.get(page).text
            assert "198.51.100.23" in operator.get(page).text
            assert "198.51.100.23" not in reader.get(page).text


def test_letters_are_worked_off_from_the_front_and_nobody_works_on_what_another_did(
    operator: httpx.Client, kafka: KafkaSettings
) -> None:
    with nothing_left(kafka, QUIET_LETTERS):
        values = [f"nonsense {number} {uuid.uuid4()}".encode() for number in range(5)]
        send(kafka.bootstrap_servers, QUIET_LETTERS, *(buried(QUIET_LETTERS, value) for value in values))
        first, second, third, *_ = waiting(kafka, QUIET_LETTERS)
        page = f"/system/dead-letters/{QUIET_LETTERS}@{second.offset}"
        assert "Drop it and the 1 before it" in operator.get(page).text
        path = f"/system/dead-letters/{QUIET_LETTERS}/drop"
        assert post(operator, path, page, begin=first.offset, until=second.offset).status_code == 303
        assert [letter.value for letter in waiting(kafka, QUIET_LETTERS)] == values[2:]
        again = post(
            operator, path, page.replace(str(second.offset), str(third.offset)), begin=first.offset, until=third.offset
        )
        assert again.status_code == 409
        assert "load the page again" in again.text
        assert len(waiting(kafka, QUIET_LETTERS)) == 3
        bad = post(operator, path, f"/system/dead-letters/{QUIET_LETTERS}", begin=third.offset, until=first.offset)
        assert bad.status_code == 400


def test_a_topic_of_many_letters_is_read_from_its_front_a_page_at_a_time(
    operator: httpx.Client, kafka: KafkaSettings
) -> None:
    with nothing_left(kafka, QUIET_LETTERS):
        filler = b"x" * 1000
        send(
            kafka.bootstrap_servers,
            QUIET_LETTERS,
            *(buried(QUIET_LETTERS, b"%d " % number + filler) for number in range(2000)),
        )
        begin = desk.bounds(kafka, [QUIET_LETTERS])[QUIET_LETTERS].begin
        page = operator.get(f"/system/dead-letters/{QUIET_LETTERS}").text
        assert "2000 wait" in page
        places = [int(place) for place in re.findall(rf'{QUIET_LETTERS}@(\d+)">', page)]
        assert places == list(range(begin, begin + 20))
        following = re.search(r'href="([^"]*)" rel="next"', page)
        assert following is not None
        places = [int(place) for place in re.findall(rf'{QUIET_LETTERS}@(\d+)">', operator.get(following[1]).text)]
        assert places == list(range(begin + 20, begin + 40))
        last = operator.get(f"/system/dead-letters/{QUIET_LETTERS}@{begin + 1999}").text
        assert "1999 wait before it" in last


@pytest.mark.parametrize("change", ["replay", "drop"])
def test_readers_see_no_buttons_and_change_nothing(
    console: ConsoleUnderTest, reader: httpx.Client, kafka: KafkaSettings, change: str
) -> None:
    with nothing_left(kafka, QUIET_LETTERS):
        send(kafka.bootstrap_servers, QUIET_LETTERS, buried(QUIET_LETTERS, b"nonsense"))
        (letter,) = waiting(kafka, QUIET_LETTERS)
        pages = [f"/system/dead-letters/{QUIET_LETTERS}", f"/system/dead-letters/{QUIET_LETTERS}@{letter.offset}"]
        for page in pages:
            assert "<button>Replay" not in reader.get(page).text
        assert "nonsense" in reader.get(pages[1]).text
        fields = {"begin": letter.offset, "until": letter.offset}
        path = f"/system/dead-letters/{QUIET_LETTERS}/{change}"
        refused = post(reader, path, "/system", **fields)
        assert refused.status_code == 403
        assert "has not the role operate" in refused.text
        assert console.browser().post(path, data=fields).headers["location"].startswith("/login")
        assert len(waiting(kafka, QUIET_LETTERS)) == 1


def test_a_form_of_another_site_or_without_its_code_replays_nothing(
    operator: httpx.Client, kafka: KafkaSettings
) -> None:
    with nothing_left(kafka, QUIET_LETTERS):
        send(kafka.bootstrap_servers, QUIET_LETTERS, buried(QUIET_LETTERS, b"nonsense"))
        (letter,) = waiting(kafka, QUIET_LETTERS)
        path = f"/system/dead-letters/{QUIET_LETTERS}/drop"
        fields: dict[str, Any] = {"begin": letter.offset, "until": letter.offset}
        assert operator.post(path, data=fields).status_code == 403
        fields["csrf"] = csrf_of(operator.get("/system").text)
        foreign = operator.post(path, data=fields, headers={"Origin": "https://elsewhere.example"})
        assert foreign.status_code == 403
        assert len(waiting(kafka, QUIET_LETTERS)) == 1


def test_what_was_in_a_letter_is_for_those_who_may_read(console: ConsoleUnderTest, kafka: KafkaSettings) -> None:
    with nothing_left(kafka, QUIET_LETTERS):
        send(kafka.bootstrap_servers, QUIET_LETTERS, buried(QUIET_LETTERS, b"for subscribers only"))
        (letter,) = waiting(kafka, QUIET_LETTERS)
        page = f"/system/dead-letters/{QUIET_LETTERS}@{letter.offset}"
        for somebody, status in ((console.browser(), 303), (console.browser(console.add_user("submit")), 403)):
            assert somebody.get(page).status_code == somebody.get(f"{page}/content").status_code == status


def test_whatever_a_letter_holds_is_text_on_its_page(operator: httpx.Client, kafka: KafkaSettings) -> None:
    with nothing_left(kafka, QUIET_LETTERS):
        messages = [
            buried(
                QUIET_LETTERS,
                OutgoingMessage("x", HOSTILE.encode(), HOSTILE.encode(), [(HOSTILE, HOSTILE.encode())]),
                error=HOSTILE,
            ),
            buried(QUIET_LETTERS, b"\x00\xff" * 2000),
            buried(QUIET_LETTERS, b""),
            buried(QUIET_LETTERS, b"Obj\x01 and no more", error="x" * 10_000),
            (None, b"not made by any of our services", [("dlq-failed-at", b"yesterday"), ("dlq-partition", b"\xff")]),
        ]
        send(kafka.bootstrap_servers, QUIET_LETTERS, *messages)
        listed = operator.get(f"/system/dead-letters/{QUIET_LETTERS}")
        assert (listed.status_code, HOSTILE in listed.text) == (200, False)
        for letter in waiting(kafka, QUIET_LETTERS):
            answer = operator.get(f"/system/dead-letters/{QUIET_LETTERS}@{letter.offset}")
            assert (answer.status_code, HOSTILE in answer.text) == (200, False)
        last = waiting(kafka, QUIET_LETTERS)[-1]
        path, page = f"/system/dead-letters/{QUIET_LETTERS}/replay", f"/system/dead-letters/{QUIET_LETTERS}"
        begin = desk.bounds(kafka, [QUIET_LETTERS])[QUIET_LETTERS].begin
        refused = post(operator, path, page, begin=begin, until=last.offset)
        assert refused.status_code == 400
        assert "without a dlq-topic header" in refused.text
        # All or none.
        assert len(waiting(kafka, QUIET_LETTERS)) == len(messages)


@pytest.mark.parametrize(
    "name",
    [
        "nothing",
        "gw.alerts",
        f"{QUIET_LETTERS}@x",
        f"{QUIET_LETTERS}@",
        f"{QUIET_LETTERS}@{10**17}",
        f"{QUIET_LETTERS}@{'9' * 30}",
        "%00",
        HOSTILE.replace("/", ""),
    ],
)
def test_a_letter_that_is_not_there_is_a_page_that_says_so(operator: httpx.Client, name: str) -> None:
    answer = operator.get(f"/system/dead-letters/{name}")
    assert (answer.status_code, "<h1>" in answer.text) == (404, True)


# --- deliveries


def of_webhook(console: ConsoleUnderTest, burst_id: int) -> dict[str, Any]:
    found = console.system.rows(
        "SELECT id, state FROM notifier.deliveries WHERE subject = $1 AND channel = 'webhook' ORDER BY id",
        f"frb/{burst_id}",
    )
    return dict(found[0]) if found else {}


def a_failed_delivery(console: ConsoleUnderTest) -> tuple[int, int]:
    """A burst whose webhook was refused for good, and the delivery."""
    receiver = console.stand_ins.webhook
    console.stand_ins.do(lambda: receiver.faults.append(Fault.GONE))
    burst_id = console.submit()
    eventually(lambda: of_webhook(console, burst_id).get("state") == "FAILED", "the delivery failed")
    return burst_id, of_webhook(console, burst_id)["id"]


def test_a_failed_delivery_is_tried_again_from_its_page_and_arrives(
    console: ConsoleUnderTest, operator: httpx.Client, reader: httpx.Client
) -> None:
    burst_id, number = a_failed_delivery(console)
    page, path = f"/system/deliveries/{number}", f"/system/deliveries/{number}/retry"
    assert f'href="{page}"' in operator.get("/system").text
    told = [
        message.body for message in console.stand_ins.webhook.taken if f"frb/{burst_id}" in json.dumps(message.body)
    ]
    assert told == []
    assert ">Try again</button>" in operator.get(page).text
    assert ">Try again</button>" not in reader.get(page).text
    assert post(reader, path, "/system").status_code == 403
    assert console.browser().post(path).headers["location"].startswith("/login")
    assert operator.post(path).status_code == 403
    assert of_webhook(console, burst_id)["state"] == "FAILED"

    answer = post(operator, path, page)
    assert (answer.status_code, answer.headers["location"]) == (303, page)
    eventually(lambda: of_webhook(console, burst_id)["state"] in ("SENT", "CONFIRMED"), "it arrived")
    assert any(f"frb/{burst_id}" in json.dumps(message.body) for message in console.stand_ins.webhook.taken)
    after = operator.get(page).text
    assert re.search(r"tried again</td>.*?done</span>", after, re.DOTALL)
    assert "What was sent" in after
    # Once is enough.
    assert post(operator, path, page).status_code == 409


def test_what_may_have_arrived_is_sent_again_only_on_purpose(console: ConsoleUnderTest, operator: httpx.Client) -> None:
    burst_id, number = a_failed_delivery(console)
    console.system.rows("UPDATE notifier.deliveries SET state = 'UNKNOWN' WHERE id = $1", number)
    page, path = f"/system/deliveries/{number}", f"/system/deliveries/{number}/retry"
    assert 'name="send_again"' in operator.get(page).text
    assert post(operator, path, page).status_code == 409
    assert post(operator, path, page, send_again="true").status_code == 303
    eventually(lambda: of_webhook(console, burst_id)["state"] in ("SENT", "CONFIRMED"), "it arrived")


def test_what_waits_is_suppressed_with_a_reason(console: ConsoleUnderTest, operator: httpx.Client) -> None:
    burst_id, number = a_failed_delivery(console)
    console.system.rows(
        "UPDATE notifier.deliveries SET state = 'PENDING', next_attempt_at = now() + interval '1 hour' WHERE id = $1",
        number,
    )
    page = f"/system/deliveries/{number}"
    answer = post(operator, f"{page}/suppress", page, reason=f"a satellite {HOSTILE}")
    assert answer.status_code == 303
    assert of_webhook(console, burst_id)["state"] == "SUPPRESSED"
    after = operator.get(page).text
    assert "a satellite &lt;script&gt;" in after
    assert HOSTILE not in after


def test_deliveries_are_found_by_state_channel_and_subject(console: ConsoleUnderTest, operator: httpx.Client) -> None:
    burst_id, number = a_failed_delivery(console)
    found = operator.get("/system/deliveries", params={"subject": f" frb/{burst_id} ", "channel": "webhook"}).text
    assert re.findall(r'<th scope="row"><a href="/system/deliveries/(\d+)">', found) == [str(number)]
    failed = operator.get("/system/deliveries", params={"state": "FAILED", "test": "", "channel": "", "subject": ""})
    assert f'href="/system/deliveries/{number}"' in failed.text
    confirmed = operator.get("/system/deliveries", params={"state": "CONFIRMED"}).text
    assert f'href="/system/deliveries/{number}"' not in confirmed
    assert "None fits" in operator.get("/system/deliveries", params={"subject": "frb/0"}).text
    tests = operator.get("/system/deliveries", params={"test": "only"}).text
    assert tests.count('<span class="badge test">') == tests.count('<th scope="row">') > 0


def test_pages_of_deliveries_follow_one_another_in_both_orders(
    console: ConsoleUnderTest, operator: httpx.Client
) -> None:
    numbers = [row["id"] for row in console.system.rows("SELECT id FROM notifier.deliveries ORDER BY id")]
    for order, expected in (("oldest", numbers), ("newest", numbers[::-1])):
        address: str | None = f"/system/deliveries?order={order}"
        seen: list[int] = []
        while address is not None:
            page = operator.get(address).text
            seen += map(int, re.findall(r'<th scope="row"><a href="/system/deliveries/(\d+)">', page))
            following = re.search(r'href="([^"]*)" rel="next"', page)
            address = following[1].replace("&amp;", "&") if following else None
        assert [number for number in seen if number in {*numbers}] == expected


@pytest.mark.parametrize(
    "query", ["state=NO", "cursor=0", "cursor=x", "order=x", "subject=%00", f"subject={'x' * 201}", f"cursor={2**63}"]
)
def test_a_filter_that_makes_no_sense_is_a_page_that_says_so(operator: httpx.Client, query: str) -> None:
    answer = operator.get(f"/system/deliveries?{query}")
    assert (answer.status_code, "<h1>" in answer.text) == (400, True)


def test_what_was_sent_is_for_those_who_may_read(console: ConsoleUnderTest, reader: httpx.Client) -> None:
    (row,) = console.system.rows(
        "SELECT id FROM notifier.deliveries WHERE channel = 'webhook' AND state = 'CONFIRMED' ORDER BY id LIMIT 1"
    )
    page = f"/system/deliveries/{row['id']}"
    assert "What came back" in reader.get(page).text
    for somebody in (console.browser(), console.browser(console.add_user("submit"))):
        assert "shown to who is logged in" in somebody.get(page).text
        assert "What came back" not in somebody.get(page).text
    assert reader.get("/system/deliveries/999999999").status_code == 404


# --- topics


@pytest.mark.parametrize("topic", load_topics(), ids=lambda topic: topic.name)
def test_every_topic_is_explained_field_by_field(console: ConsoleUnderTest, topic: Any) -> None:
    client = console.browser()
    assert f'href="/system/topics/{topic.name}"' in client.get("/system/topics").text
    page = client.get(f"/system/topics/{topic.name}")
    assert page.status_code == 200
    assert "None" not in page.text
    if topic.record is not None:
        for field in newest_schema(topic.record)["fields"]:
            assert f"<code>{field['name']}</code>" in page.text
        assert "Example" in page.text
        schema = client.get(f"/system/topics/{topic.name}/v1.avsc")
        assert schema.json()["type"] == "record"
        assert client.get(f"/system/topics/{topic.name}/v99.avsc").status_code == 404


def test_a_topic_that_is_not_there_is_a_page_that_says_so(console: ConsoleUnderTest) -> None:
    assert console.browser().get("/system/topics/nothing").status_code == 404


# --- outages


@pytest.fixture(scope="module")
def cut_off(console: ConsoleUnderTest) -> Iterator[Callable[..., httpx.Client]]:
    """Another console of the same system, for which nobody listens where the broker and the services should."""
    nobody = "http://127.0.0.1:1"
    process = console.system.start(
        "console",
        TOCSIN_KAFKA__BOOTSTRAP_SERVERS="127.0.0.1:1",
        TOCSIN_CONSOLE__SERVICES=json.dumps({"gw_listener": nobody, "notifier": "nonsense"}),
        TOCSIN_CONSOLE__NOTIFIER_URL=nobody,
        TOCSIN_INFLUX__URL=nobody,
    )
    clients: list[httpx.Client] = []

    def client(of: httpx.Client | None = None) -> httpx.Client:
        cookies = of.cookies if of is not None else None
        clients.append(httpx.Client(base_url=f"http://127.0.0.1:{process.port}", cookies=cookies, timeout=30))
        return clients[-1]

    def answers() -> bool:
        try:
            return client().get("/healthz").status_code == 200
        except httpx.HTTPError:
            return False

    try:
        eventually(answers, "the console without a broker answers")
        yield client
    finally:
        for each in clients:
            each.close()
        process.stop()


def test_what_is_down_is_shown_as_such_and_the_rest_is_still_there(cut_off: Callable[..., httpx.Client]) -> None:
    began = time.monotonic()
    page = cut_off().get("/system")
    assert page.status_code == 200
    assert time.monotonic() - began < 8
    for name in ("Kafka", "gw_listener", "notifier", "InfluxDB"):
        assert f"{name} is down" in page.text
    assert page.text.count('<span class="badge down">') == 0
    assert "The broker does not answer" in page.text
    assert "PostgreSQL is down" not in page.text
    assert "Everybody was told" in page.text or "The oldest that wait" in page.text
    began = time.monotonic()
    cut_off().get("/system")
    assert time.monotonic() - began < 1.5


def test_dead_letters_without_a_broker_are_a_page_that_says_so(
    cut_off: Callable[..., httpx.Client], operator: httpx.Client
) -> None:
    client = cut_off(operator)
    for path in ("/system/dead-letters", f"/system/dead-letters/{ALERT_LETTERS}"):
        answer = client.get(path)
        assert (answer.status_code, "The broker does not answer" in answer.text) == (200, True)
    letter = client.get(f"/system/dead-letters/{ALERT_LETTERS}@0")
    assert (letter.status_code, "<h1>" in letter.text) == (503, True)
    refused = post(client, f"/system/dead-letters/{ALERT_LETTERS}/replay", "/system", begin=0, until=0)
    assert refused.status_code == 503
    # That it was tried is on record, and that it was not done.
    assert "not done" in client.get("/system/audit").text


def test_without_the_notifier_nothing_is_tried_again_and_the_page_says_so(
    console: ConsoleUnderTest, cut_off: Callable[..., httpx.Client], operator: httpx.Client
) -> None:
    burst_id, number = a_failed_delivery(console)
    client = cut_off(operator)
    assert f'href="/system/deliveries/{number}"' in client.get("/system/deliveries").text
    answer = post(client, f"/system/deliveries/{number}/retry", "/system/deliveries")
    assert (answer.status_code, "<h1>" in answer.text) == (503, True)
    assert of_webhook(console, burst_id)["state"] == "FAILED"
