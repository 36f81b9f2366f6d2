"""Pages about bursts: the table, one burst with everything, votes, decisions, withdrawal, files."""

import csv
import html
import io
import itertools
import json
import re
import uuid
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit
from xml.etree import ElementTree

import httpx
import pytest
from markupsafe import escape

from tests.support.browser import PHONE, WIDE, Visit
from tests.support.console import ConsoleUnderTest, csrf_of
from tests.support.frb_intake import EVENTS, a_burst
from tests.support.runtime import eventually
from tests.support.upstream_client import example_images

DM_MIN, DM_MAX = 7000.0, 8000.0
# Only the bursts of `listed` have dispersion measures in this range.
ROW = re.compile(r'<th scope="row" class="number"><a href="/frb/(\d+)">')
LONG = "<script>alert(1)</script>'\"&" + "N" * 10_000
HOSTILE = "<script>alert('x')</script><img src=x onerror=alert(1)>\"'{{ 7 * 7 }}"


@pytest.fixture(scope="module")
def listed(console: ConsoleUnderTest) -> list[int]:
    """Bursts all over the sky, rated and decided in some ways."""
    everybody = console.intake.client(console.add_user())
    found = []
    for number in range(12):
        sent = a_burst(
            dm=DM_MIN + 40 * ((5 * number) % 12),
            sn=10.0 + number % 4,
            width=1.0 + (7 * number) % 12,
            ra=30.0 * number,
            dec=-80.0 + 14 * number,
            repeater=number % 3 == 0,
            is_test=number % 2 == 0,
            time_of_arrival=f"2015-03-{1 + number:02d}T00:00:00",
        )
        burst_id = int(everybody.post(EVENTS, json=sent).raise_for_status().json()["id"])
        of_burst = f"{EVENTS}/{burst_id}"
        if number % 3 == 1:
            everybody.post(f"{of_burst}/ratings", json={"rating": "confirm"}).raise_for_status()
        if number % 4 == 1:
            decision = {"status": "confirmed", "reason": "Looked at."}
            everybody.post(f"{of_burst}/status", json=decision).raise_for_status()
        if number == 5:
            everybody.post(f"{of_burst}/tns-name", json={"tns_name": "FRB 20150306Q"}).raise_for_status()
        found.append(burst_id)
    return found


@pytest.fixture
def reader(console: ConsoleUnderTest) -> httpx.Client:
    """Somebody who did not log in."""
    return console.browser()


def numbers(page: httpx.Response) -> list[int]:
    """The bursts of a table, in its order."""
    assert page.status_code == 200, page.text[:2000]
    return [int(number) for number in ROW.findall(page.text)]


def walk(client: httpx.Client, address: str) -> list[int]:
    """All bursts of a table, page by page."""
    found: list[int] = []
    for _ in range(50):
        page = client.get(address)
        found += numbers(page)
        following = re.search(r'<a href="([^"]+)" rel="next">', page.text)
        if following is None:
            return found
        address = html.unescape(following[1])
    raise AssertionError("pages without end")


RANGE = {"dm_min": DM_MIN, "dm_max": DM_MAX}
FILTERS: list[dict[str, Any]] = [
    {},
    {"since": "2015-03-04", "until": "2015-03-09"},
    {"dm_min": 7200},
    {"sn_min": 11, "sn_max": 12},
    {"ra": 0, "dec": -90, "radius": 40},
    {"repeater": "true"},
    {"repeater": "false", "is_test": "true"},
    {"status": "confirmed"},
    {"status": "withdrawn"},
    {"rating": "confirm"},
    {"rating": "none"},
    {"tns_name": "FRB 20150306Q"},
    {"tns_name": "nobody's"},
]


class TestTable:
    @pytest.mark.parametrize("query", FILTERS, ids=str)
    def test_filters_give_exactly_what_the_intake_gives(
        self, console: ConsoleUnderTest, listed: list[int], reader: httpx.Client, query: dict[str, Any]
    ) -> None:
        wanted = RANGE | query
        api = console.intake.client(None).get(EVENTS, params=wanted).raise_for_status().json()["items"]
        assert numbers(reader.get("/frb", params=wanted)) == [line["id"] for line in api]
        if "nobody" not in str(query) and query != {"status": "withdrawn"}:
            assert api

    @pytest.mark.parametrize("sort", ["id", "time", "dm", "dm_excess", "sn", "width", "confirm", "reject"])
    @pytest.mark.parametrize("order", ["asc", "desc"])
    def test_pages_of_an_order_are_the_whole_list_sorted(
        self, console: ConsoleUnderTest, listed: list[int], reader: httpx.Client, sort: str, order: str
    ) -> None:
        lines = console.intake.client(None).get(EVENTS, params=RANGE | {"limit": 500}).json()["items"]

        def place(line: dict[str, Any]) -> tuple[Any, int]:
            name = {"time": "time_of_arrival"}.get(sort, sort)
            return (line["votes"][sort] if sort in line["votes"] else line[name], line["id"])

        expected = [line["id"] for line in sorted(lines, key=place, reverse=order == "desc")]
        address = httpx.URL("/frb", params=RANGE | {"sort": sort, "order": order, "limit": 5})
        assert walk(reader, str(address)) == expected

    def test_every_head_that_leads_somewhere_sorts_by_it(self, listed: list[int], reader: httpx.Client) -> None:
        page = reader.get("/frb", params=RANGE)
        heads = [html.unescape(link) for link in re.findall(r'<th scope="col"[^>]*><a [^>]*href="([^"]+)"', page.text)]
        assert len(heads) == 8
        assert page.text.count('aria-sort="descending"') == 1
        for link in heads:
            sorted_page = reader.get(link)
            assert sorted(numbers(sorted_page)) == sorted(listed)
            assert sorted_page.text.count("aria-sort=") == 1

    def test_a_row_tells_what_the_old_table_told_with_errors_and_units(
        self, console: ConsoleUnderTest, reader: httpx.Client
    ) -> None:
        burst_id = console.submit(dm=8123.0, version="v8123", fluence=45.5, fluence_err=5.0)
        page = reader.get("/frb", params={"dm_min": 8122.5, "dm_max": 8123.5})
        assert numbers(page) == [burst_id]
        text = as_text(page.text)
        for told in ("77.01462 ± 0.004 °", "26.0607 ± 0.004 °", "8123 ± 1 pc cm⁻³", "50", "5 ms", "0.0982",
                     "−613 ± 2 rad m⁻²", "45.5 ± 5 Jy ms", "35 ± 3 Jy", "MB", "v8123"):  # fmt: skip
            assert told in text, told
        assert "None" not in text
        assert "nan" not in text

    def test_test_traffic_is_marked(self, listed: list[int], reader: httpx.Client) -> None:
        page = reader.get("/frb", params=RANGE)
        assert page.text.count('<span class="badge test">') == 6

    @pytest.mark.parametrize(
        ("query", "field"),
        [
            ({"dm_min": "nan"}, "dm_min"),
            ({"dm_min": "1e999"}, "dm_min"),
            ({"ra": "1"}, "radius"),
            ({"since": HOSTILE}, "since"),
            ({"sort": "colour"}, "sort"),
            ({"cursor": "garbage"}, "cursor"),
            ({"tns_name": LONG}, "tns_name"),
        ],
    )
    def test_what_cannot_be_asked_is_told_beside_the_form(
        self, reader: httpx.Client, query: dict[str, str], field: str
    ) -> None:
        page = reader.get("/frb", params=query)
        assert page.status_code == 400
        assert f"<b>{field}</b>" in page.text
        assert "<script>alert" not in page.text
        assert '<form class="filters"' in page.text

    def test_nothing_found_says_so_and_leads_on(self, reader: httpx.Client) -> None:
        page = reader.get("/frb", params={"dm_min": 99_000})
        assert numbers(page) == []
        assert "No burst passes these filters" in page.text
        assert '<a href="/frb">All bursts</a>' in page.text

    @pytest.mark.parametrize("form", ["csv", "votable", "json"])
    def test_an_export_is_the_intakes_with_the_same_filters_and_order(
        self, console: ConsoleUnderTest, listed: list[int], reader: httpx.Client, form: str
    ) -> None:
        asked = RANGE | {"repeater": "true", "sort": "width", "order": "asc"}
        page = reader.get("/frb", params=asked)
        links = [html.unescape(link) for link in re.findall(r'<a href="(/frb/export[^"]+)"', page.text)]
        (link,) = (link for link in links if f"format={form}" in link)
        answer = reader.get(link)
        api = console.intake.client(None).get(f"{EVENTS}/export", params=asked | {"format": form})
        assert answer.content == api.content
        for name in ("content-type", "content-disposition"):
            assert answer.headers[name] == api.headers[name]
        if form == "csv":
            rows = list(csv.DictReader(io.StringIO(answer.text)))
            assert [int(row["id"]) for row in rows] == numbers(page)

    def test_an_export_that_cannot_be_is_a_page(self, reader: httpx.Client) -> None:
        answer = reader.get("/frb/export", params={"format": "xls"})
        assert (answer.status_code, answer.headers["content-type"].split(";")[0]) == (400, "text/html")


@pytest.fixture(scope="module")
def measured_thrice(console: ConsoleUnderTest) -> int:
    """A burst with dispersion measures 8201, 8202 and 8203."""
    burst_id, client = console.submit(dm=8201.0), console.intake.client(console.add_user())
    for dm in (8202.0, 8203.0):
        client.post(f"{EVENTS}/{burst_id}/measurements", json=a_burst(dm=dm)["measurement"]).raise_for_status()
    return burst_id


class TestRows:
    ADDRESS = "/frb?dm_min=8201&dm_max=8203"

    def test_the_number_of_measurements_opens_them_beneath_the_row(
        self, console: ConsoleUnderTest, measured_thrice: int, visit: Visit
    ) -> None:
        window = visit()
        window.open(self.ADDRESS)
        button = f'button[aria-controls="versions-{measured_thrice}"]'
        window.find(lambda page: page.locator(button), lambda it: it.focus())
        for key, shown in (("Enter", "true"), ("Space", "false"), ("Enter", "true")):
            window.press(key)
            window.waits_for(f'{button}[aria-expanded="{shown}"]')
            window.waits_for("tbody.versions tr:visible", count=3 if shown == "true" else 0)
        assert [dm.split()[0] for dm in window.texts("tbody.versions td:nth-child(5)")] == ["8203", "8202", "8201"]
        assert "first detection" in window.texts("tbody.versions th")[-1]
        # As wide as the rows above.
        assert window.count("tbody:not(.versions) td, tbody:not(.versions) th") == 23
        assert window.count("tbody.versions tr:first-child td") + 6 == 23

    def test_it_leads_to_the_page_without_javascript(
        self, console: ConsoleUnderTest, measured_thrice: int, visit: Visit
    ) -> None:
        window = visit(java_script_enabled=False)
        window.open(self.ADDRESS)
        window.click(f"3 measurements of burst {measured_thrice}")
        window.is_at(re.compile(rf"/frb/{measured_thrice}\?#versions"))
        window.sees("Every measurement")


def test_filters_are_one_line_on_a_phone_that_says_what_is_set(console: ConsoleUnderTest, visit: Visit) -> None:
    window = visit()
    for address, field, told in (
        ("/frb?dm_min=300&status=confirmed", "DM to", "Filters: DM from (pc cm⁻³) 300; Status confirmed"),
        ("/gw?id=S23&significant=yes", "Name begins with", "Filters: Name begins with S23; Significant yes"),
        ("/mma?superevent=S23&announced=no", "Odds at least", "Filters: Announced no; Superevent S23"),
        ("/system/deliveries?state=FAILED", "Channel", "Filters: State failed"),
        ("/gw", "Name begins with", "Filters: none"),
    ):
        window.resize(PHONE)
        window.open(address)
        assert window.text("details.filters summary") == told
        for shown in (False, True):
            hidden = window.find(lambda page, field=field: page.get_by_label(field), lambda it: it.is_hidden())  # type: ignore[misc]
            assert hidden is not shown, address
            window.find(lambda page: page.locator("details.filters summary"), lambda it: it.click())
        window.resize(WIDE)
        assert not window.find(lambda page, field=field: page.get_by_label(field), lambda it: it.is_hidden())  # type: ignore[misc]


def as_text(page: str) -> str:
    """What a person reads of a page."""
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", "", page)))


class TestOneBurst:
    def test_it_has_everything_that_is_known(self, console: ConsoleUnderTest, reader: httpx.Client) -> None:
        page = reader.get(f"/frb/{console.burst_id}")
        assert page.status_code == 200
        text = as_text(page.text)
        for part in ("First detection and latest measurement", "Where it came from", "Where its dispersion comes from",
                     "Who voted", "Coincidences", "What was told of it", "Observation", "Every measurement",
                     "Time line", "VOEvent XML", "Milky Way's halo: 50.0", "Cosmic web", "centre frequency",
                     "N up, E left"):  # fmt: skip
            assert part.lower() in text.lower(), part
        assert " None" not in text
        assert 'style="' not in page.text

    def test_the_first_detection_stands_beside_the_latest(
        self, console: ConsoleUnderTest, reader: httpx.Client
    ) -> None:
        burst_id = console.submit(dm=600.0, sn=11.0)
        later = a_burst(dm=601.5, sn=11.0, source="HT")["measurement"] | {"ra": 77.3}
        console.intake.client(console.add_user()).post(
            f"{EVENTS}/{burst_id}/measurements", json=later
        ).raise_for_status()

        page = reader.get(f"/frb/{burst_id}").text

        changed = re.findall(r'<tr class="changed"><th scope="row">([^<]+)</th>', page)
        assert {"DM", "Source (pipeline)", "RA (ICRS)", "Excess DM"} <= {*changed}
        assert not {"S/N", "Width", "Dec (ICRS)"} & {*changed}
        assert "Latest, number 2" in page
        assert "First detection (68 %)" in html.unescape(page)
        assert page.count("keys and values") == 2

    def test_one_that_is_not_there_is_a_page_that_says_so(self, reader: httpx.Client) -> None:
        for number in ("999999999", "0", "abc", "9" * 40, "7%00"):
            page = reader.get(f"/frb/{number}")
            assert page.status_code == 404, number
            assert "<h1>" in page.text
        assert reader.get("/frb/999999999/images/search").status_code == 404

    def test_a_coincidence_leads_to_its_page(self, console: ConsoleUnderTest, reader: httpx.Client) -> None:
        page = reader.get(f"/frb/{console.partner_id}").text
        links = re.findall(r'href="(/mma/[^"]+)"', page)
        assert links
        assert all(link.endswith(f"-{console.partner_id}") for link in links)

    def test_links_lead_to_what_else_is_near(self, console: ConsoleUnderTest, reader: httpx.Client) -> None:
        page = reader.get(f"/frb/{console.partner_id}").text
        near = html.unescape(re.findall(r'href="(/frb\?ra=[^"]+)"', page)[0])
        assert console.partner_id in walk(reader, near)


@pytest.fixture(scope="module")
def with_images(console: ConsoleUnderTest) -> int:
    files: dict[str, Any] = {
        "radio_measurement": (None, json.dumps({**a_burst()["measurement"], "version": uuid.uuid4().hex})),
        **{name.removesuffix("_open"): image for name, image in example_images().items()},
    }
    answer = console.intake.client(console.add_user()).post(EVENTS, files=files)
    assert answer.status_code == 201, answer.text
    return int(answer.json()["id"])


class TestFiles:
    def test_images_are_served_as_pictures_and_kept_for_this_person_alone(
        self, console: ConsoleUnderTest, with_images: int, reader: httpx.Client
    ) -> None:
        page = reader.get(f"/frb/{with_images}").text
        addresses = re.findall(r'<img src="([^"]+)"', page)
        assert len(addresses) == 3
        for address in addresses:
            answer = reader.get(address)
            api = console.intake.client(None).get(address.replace("/frb/", f"{EVENTS}/"))
            assert answer.content == api.content
            assert answer.headers["content-type"] == "image/png"
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["cache-control"].startswith("private")
        assert reader.get(f"/frb/{with_images}/images/other").status_code == 404
        assert reader.get(f"/frb/{console.partner_id}/images/search").status_code == 404

    def test_the_voevent_is_the_packet_that_went_out(self, console: ConsoleUnderTest, reader: httpx.Client) -> None:
        page = reader.get(f"/frb/{console.burst_id}").text
        (address,) = re.findall(r'href="([^"]+/voevent)"', page)
        answer = reader.get(address)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/xml")
        assert "attachment" in answer.headers["content-disposition"]
        assert ElementTree.fromstring(answer.content).attrib["version"] == "2.0"
        # That of another burst is none of this one's.
        assert reader.get(address.replace(f"/{console.burst_id}/", f"/{console.partner_id}/")).status_code == 404

    def test_what_was_sent_to_the_name_server_is_for_who_may_read_it(self, console: ConsoleUnderTest) -> None:
        burst_id, name = console.submit(), console.add_user("operate")
        operator = console.browser(name)
        decision = {"status": "confirmed", "reason": "Seen by two."}
        console.intake.client(name).post(f"{EVENTS}/{burst_id}/status", json=decision).raise_for_status()
        eventually(lambda: "TNS report" in operator.get(f"/frb/{burst_id}").text, "a report")
        (address,) = re.findall(r'<a href="([^"]+)">TNS report</a>', operator.get(f"/frb/{burst_id}").text)
        report = operator.get(address)
        assert report.status_code == 200
        assert "galactic_max_dm" in report.text
        assert "/api/set/bulk-report" in report.text
        assert console.browser().get(address).headers["location"].startswith("/login")
        assert console.browser(console.add_user("rate")).get(address).status_code == 403
        assert operator.get(f"{address}0").status_code == 404


class Form:
    """A person's forms on the page of a burst."""

    def __init__(self, console: ConsoleUnderTest, *roles: str, name: str | None = None) -> None:
        self.name = name or console.add_user(*roles)
        self.client = console.browser(self.name)

    def page(self, burst_id: int) -> str:
        return self.client.get(f"/frb/{burst_id}").text

    def post(self, burst_id: int, path: str, **values: str) -> httpx.Response:
        return self.client.post(f"/frb/{burst_id}/{path}", data={"csrf": csrf_of(self.page(burst_id)), **values})


class TestRating:
    def test_a_vote_counts_and_the_last_of_each_alone(self, console: ConsoleUnderTest) -> None:
        burst_id, form = console.submit(), Form(console, "rate")
        assert form.post(burst_id, "rating", rating="reject", note="Looks flat.").headers["location"] == (
            f"/frb/{burst_id}"
        )
        assert form.post(burst_id, "rating", rating="confirm", note="No: dispersed.").status_code == 303

        text = as_text(form.page(burst_id))
        assert "1 confirm, 0 reject, 0 unsure" in text
        assert "Your vote: confirm" in text
        assert "earlier: reject" in text
        api = console.intake.client(None).get(f"{EVENTS}/{burst_id}").json()
        assert [(vote["rater"], vote["rating"], vote["note"]) for vote in api["ratings"]] == [
            (form.name, "reject", "Looks flat."),
            (form.name, "confirm", "No: dispersed."),
        ]

    @pytest.mark.parametrize("roles", [("read",), ("submit",), ("operate",)])
    def test_without_the_role_there_are_no_buttons_and_no_way(
        self, console: ConsoleUnderTest, roles: tuple[str, ...]
    ) -> None:
        form = Form(console, *roles)
        page = form.page(console.burst_id)
        assert f"/frb/{console.burst_id}/rating" not in page
        answer = form.post(console.burst_id, "rating", rating="confirm")
        assert answer.status_code == 403
        assert "has not the role rate" in answer.text
        assert not self.votes(console, form.name)

    def test_nobody_is_sent_to_log_in(self, console: ConsoleUnderTest, reader: httpx.Client) -> None:
        page = reader.get(f"/frb/{console.burst_id}").text
        assert "<textarea" not in page
        answer = reader.post(f"/frb/{console.burst_id}/rating", data={"rating": "confirm"})
        assert (answer.status_code, urlsplit(answer.headers["location"]).path) == (303, "/login")

    def test_a_form_of_elsewhere_does_nothing(self, console: ConsoleUnderTest) -> None:
        form = Form(console, "rate")
        address = f"/frb/{console.burst_id}/rating"
        code = csrf_of(form.page(console.burst_id))
        for data, headers in (
            ({"rating": "confirm"}, {}),
            ({"rating": "confirm", "csrf": "0" * 64}, {}),
            ({"rating": "confirm", "csrf": code}, {"Origin": "https://evil.example"}),
            ({"rating": "confirm", "csrf": code}, {"Sec-Fetch-Site": "cross-site"}),
        ):
            assert form.client.post(address, data=data, headers=headers).status_code == 403
        assert not self.votes(console, form.name)

    @pytest.mark.parametrize("note", [HOSTILE, "N" * 10_001, "a\x00b"])
    def test_what_the_intake_refuses_is_told_beside_the_form_which_stays_filled_in(
        self, console: ConsoleUnderTest, note: str
    ) -> None:
        form = Form(console, "rate")
        answer = form.post(console.burst_id, "rating", rating="confirm", note=note)
        assert answer.status_code in (400, 422)
        assert "<b>note</b>" in answer.text
        (typed,) = re.findall(r"<textarea name=\"note\"[^>]*>(.*?)</textarea>", answer.text, re.DOTALL)
        assert html.unescape(typed) == note
        assert "<script>alert" not in answer.text
        assert not self.votes(console, form.name)

    def votes(self, console: ConsoleUnderTest, name: str) -> list[Any]:
        return console.system.rows("SELECT FROM frb_intake.ratings WHERE rater = $1", name)


class TestDecisions:
    def test_an_operator_decides_with_a_reason(self, console: ConsoleUnderTest) -> None:
        burst_id, form = console.submit(), Form(console, "operate")
        assert form.post(burst_id, "status", status="confirmed", reason="Seen by two.").status_code == 303
        text = as_text(form.page(burst_id))
        assert "Confirmed: Seen by two." in text
        assert "to: confirmed; reason: Seen by two." in text

        again = form.post(burst_id, "status", status="confirmed", reason="Once more.")
        assert again.status_code == 409
        assert 'role="alert"' in again.text
        assert "Once more." in again.text

    def test_others_do_not(self, console: ConsoleUnderTest) -> None:
        burst_id, form = console.submit(), Form(console, "rate", "submit", "read")
        assert f"/frb/{burst_id}/status" not in form.page(burst_id)
        assert form.post(burst_id, "status", status="confirmed", reason="Me.").status_code == 403

    def test_a_withdrawal_is_confirmed_and_is_the_end(self, console: ConsoleUnderTest) -> None:
        burst_id, form = console.submit(), Form(console, "operate", "rate")
        unsure = form.post(burst_id, "withdrawal", reason="Interference.")
        assert unsure.status_code == 400
        assert "tick the box" in unsure.text
        assert "Interference." in unsure.text
        assert form.post(burst_id, "withdrawal", reason="Interference.", confirmed="yes").status_code == 303

        page = form.page(burst_id)
        assert "Withdrawn." in page
        assert "Interference." in page
        assert f'action="/frb/{burst_id}/' not in page
        code = csrf_of(form.client.get("/frb").text)
        late = form.client.post(f"/frb/{burst_id}/rating", data={"csrf": code, "rating": "confirm"})
        assert late.status_code == 409
        assert 'role="alert"' in late.text

    def test_people_withdraw_their_own(self, console: ConsoleUnderTest) -> None:
        owner = Form(console, "submit")
        answer = console.intake.client(owner.name).post(EVENTS, json=a_burst())
        burst_id, other = int(answer.json()["id"]), Form(console, "submit")
        assert f"/frb/{burst_id}/withdrawal" not in other.page(burst_id)
        assert other.post(burst_id, "withdrawal", reason="Not mine.", confirmed="yes").status_code == 403
        assert f"/frb/{burst_id}/withdrawal" in owner.page(burst_id)
        assert owner.post(burst_id, "withdrawal", reason="Mine.", confirmed="yes").status_code == 303


TEXTS = {
    "internal_name", "tns_name", "origin", "origin_id", "submitted_by", "changed_by", "status_reason", "repeater_of",
    "note", "made_by", "pipeline", "pipeline_version", "dm_mw_ism_model", "cosmology", "backend", "beam", "source",
    "version", "reason", "rater", "cosmo", "superevent_id", "coincidence_id",
}  # fmt: skip
COLUMNS = (
    ("bursts", "id", ("summary", "record")),
    ("measurements", "burst_id", ("record", "as_submitted")),
    ("changes", "burst_id", ("detail",)),
    ("coincidences", "burst_id", ("record",)),
)
PLAIN = (("changes", "changed_by"), ("ratings", "rater"), ("ratings", "note"), ("images", "file_name"))


def filled(value: Any, text: str, name: str = "") -> Any:
    """The same with this text wherever a text stands."""
    if isinstance(value, dict):
        return {key: filled(each, text, key) for key, each in value.items()}
    if isinstance(value, list):
        return [filled(each, text, name) for each in value]
    return text if name in TEXTS else value


class TestHostileTexts:
    @pytest.fixture(params=[HOSTILE, LONG], ids=["markup", "long"])
    def hostile(self, console: ConsoleUnderTest, request: pytest.FixtureRequest) -> Iterator[tuple[int, str]]:
        """A burst with this text in every field, put past the intake, which lets none of it in."""
        burst_id = console.submit(dm=8500.0, is_test=True)
        console.intake.client(console.add_user()).post(
            f"{EVENTS}/{burst_id}/ratings", json={"rating": "unsure", "note": "-"}
        ).raise_for_status()
        rows = console.system.rows
        eventually(lambda: rows("SELECT FROM notifier.deliveries WHERE subject = $1", f"frb/{burst_id}"), "a notice")
        (kept,) = rows("SELECT summary, record FROM frb_intake.bursts WHERE id = $1", burst_id)
        for table, key, columns in COLUMNS:
            for row in rows(f"SELECT ctid::text AS place, * FROM frb_intake.{table} WHERE {key} = $1", burst_id):
                for column in columns:
                    text = json.dumps(filled(json.loads(row[column]), request.param))
                    rows(f"UPDATE frb_intake.{table} SET {column} = $1 WHERE {key} = $2", text, burst_id)
        for table, column in PLAIN:
            rows(f"UPDATE frb_intake.{table} SET {column} = $1 WHERE burst_id = $2", request.param, burst_id)
        rows(
            "UPDATE notifier.deliveries SET reason = $1, reference = $1, channel = $1 || id WHERE subject = $2",
            request.param, f"frb/{burst_id}",
        )  # fmt: skip
        yield burst_id, request.param
        rows(
            "UPDATE frb_intake.bursts SET summary = $1, record = $2 WHERE id = $3",
            kept["summary"], kept["record"], burst_id,
        )  # fmt: skip
        rows("DELETE FROM notifier.deliveries WHERE subject = $1", f"frb/{burst_id}")

    def test_they_are_text_and_nothing_else(
        self, console: ConsoleUnderTest, reader: httpx.Client, hostile: tuple[int, str]
    ) -> None:
        burst_id, text = hostile
        plain = reader.get(f"/frb/{console.burst_id}").text
        for address in (f"/frb/{burst_id}", "/frb?dm_min=8499.5&dm_max=8500.5"):
            page = reader.get(address)
            assert page.status_code == 200
            assert page.text.count("<script") == plain.count("<script")
            assert "<img src=x" not in page.text
            assert str(escape(text))[:40] in page.text
            assert "onerror=" not in re.sub(r"&lt;.*?&gt;", "", page.text)

    def test_a_browser_runs_none_of_it_and_the_page_stays_in_its_frame(
        self, hostile: tuple[int, str], visit: Visit
    ) -> None:
        burst_id, _ = hostile
        for size in (PHONE, (1280, 900)):
            window = visit(size=size)
            window.open(f"/frb/{burst_id}")
            assert window.overflow <= 0
            window.open("/frb?dm_min=8499.5&dm_max=8500.5")
            assert window.overflow <= 0


class TestLive:
    def test_a_vote_shows_on_everybodys_page_without_reload(self, console: ConsoleUnderTest, visit: Visit) -> None:
        burst_id = console.submit()
        rater, watcher = console.add_user("rate", "read"), visit()
        watcher.open(f"/frb/{burst_id}")
        watcher.is_live()
        watcher.mark()
        mine = visit(rater)
        mine.open(f"/frb/{burst_id}")
        mine.is_live()
        mine.mark()

        mine.fill("Note", "Clear sweep.")
        mine.click("Confirm")

        mine.sees("Your vote: confirm")
        watcher.sees("1 confirm", within="#votes")
        watcher.sees("Clear sweep.", within="#details")
        assert watcher.is_the_same
        assert mine.is_the_same

    def test_a_refusal_is_told_without_reload_and_what_was_typed_stays(
        self, console: ConsoleUnderTest, visit: Visit
    ) -> None:
        window = visit(console.add_user("rate", "read"))
        window.open(f"/frb/{console.burst_id}")
        window.mark()
        window.fill("Note", "<b>markup</b>")
        with window.refused(400):
            window.click("Reject")
            window.sees("plain text", within="#acts")
        assert window.is_the_same
        assert window.find(lambda page: page.get_by_label("Note"), lambda it: it.input_value()) == "<b>markup</b>"

    def test_a_withdrawal_turns_the_page(self, console: ConsoleUnderTest, visit: Visit) -> None:
        burst_id, watcher = console.submit(), visit()
        watcher.open(f"/frb/{burst_id}")
        watcher.is_live()
        watcher.mark()
        Form(console, "operate").post(burst_id, "withdrawal", reason="A radar.", confirmed="yes")
        watcher.sees("Nobody should use this burst any more: A radar.", within="#summary")
        assert watcher.is_the_same

    def test_voting_works_without_javascript(self, console: ConsoleUnderTest, visit: Visit) -> None:
        burst_id = console.submit()
        window = visit(console.add_user("rate", "read"), java_script_enabled=False)
        window.open(f"/frb/{burst_id}")
        window.fill("Note", "By hand.")
        window.click("Unsure")
        window.sees("0 confirm, 0 reject, 1 unsure")

    @pytest.mark.parametrize(("size", "dark"), [*itertools.product([PHONE, (1280, 900)], [False, True])])
    def test_pages_fit_the_window(
        self, console: ConsoleUnderTest, visit: Visit, size: tuple[int, int], dark: bool
    ) -> None:
        window = visit(console.add_user(), size=size, dark=dark)
        for path in ("/frb", f"/frb/{console.burst_id}", f"/frb/{console.partner_id}"):
            window.open(path)
            assert window.overflow <= 0, path
