"""Pages about superevents: the table, the page of each with its maps and history, the files behind it."""

from __future__ import annotations

import csv
import html
import io
import itertools
import json
import re
from typing import Any
from uuid import uuid4

import httpx
import pytest

from shared.sky import overlap, region
from shared.sky.skymap import SkyMap, read_skymap
from tests.support.alerts import a_coincidence, a_skymap, an_alert, an_event
from tests.support.console import MERGER, REAL_EVENT, ConsoleUnderTest
from tests.support.data import SAMPLES
from tests.support.runtime import eventually, send

LISTENED = "igwn.gwalert"
NOBODYS_ID = "5f5551fd-d48e-4703-b002-d5124f9c389d"
_numbers = itertools.count(1)


@pytest.fixture
def reader(console: ConsoleUnderTest) -> httpx.Client:
    return console.browser()


def a_name() -> str:
    return f"MS99{next(_numbers):02}{uuid4().hex[:6]}"


def tell(console: ConsoleUnderTest, superevent_id: str, **content: Any) -> None:
    send(console.system.broker.address, LISTENED, an_alert(superevent_id=superevent_id, **content))


def text_of(page: str) -> str:
    """What stands on a page, without its marks and drawings."""
    page = re.sub(r"<svg.*?</svg>", " ", page, flags=re.DOTALL)
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", page)))


def shown(reader: httpx.Client, path: str, *texts: str) -> str:
    """The page once all these texts stand on it."""

    def look() -> str:
        answer = reader.get(path)
        page = answer.text if answer.status_code == 200 else ""
        return page if all(text in text_of(page) for text in texts) else ""

    return eventually(look, f"{texts} on {path}")


def lines(reader: httpx.Client, **query: Any) -> list[str]:
    """The names of the lines of a page of the table."""
    answer = reader.get("/gw", params=query)
    assert answer.status_code == 200, answer.text
    return re.findall(r'<a id="to-\w+" href="/gw/(\w+)">', answer.text)


def exported(reader: httpx.Client, **query: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = reader.get("/gw/export", params={"format": "json", **query}).json()
    return found


def records(console: ConsoleUnderTest, superevent_id: str) -> list[dict[str, Any]]:
    """What went out on gw.skymaps of it."""
    return [record for _, record in console.system.records("gw.skymaps") if record["superevent_id"] == superevent_id]


# The table.


def test_a_line_says_what_the_records_say(console: ConsoleUnderTest, reader: httpx.Client) -> None:
    skymap = records(console, REAL_EVENT)[-1]["skymap"]
    eventually(lambda: any(x["alert_count"] == 3 for x in exported(reader, id=REAL_EVENT)), "the line")
    (line,) = exported(reader, id=REAL_EVENT)
    assert line["area_90_deg2"] == skymap["area_90_deg2"]
    assert line["area_50_deg2"] == skymap["area_50_deg2"]
    assert line["distance_mean_mpc"] == skymap["distance_mean_mpc"]
    alert = json.loads((SAMPLES / "igwn" / "S230518h-Update_alert.json").read_text())
    assert line["far_hz"] == alert["event"]["far"]
    assert (line["source_class"], line["source_probability"]) == ("NSBH", alert["event"]["classification"]["NSBH"])
    assert (line["search_group"], line["pipeline"], line["kind"]) == ("CBC", "pycbc", "REAL")

    row = text_of(reader.get("/gw", params={"id": REAL_EVENT}).text)
    years = 1 / alert["event"]["far"] / (365.25 * 86_400)
    for expected in (
        "2023-05-18 12:59:08 UTC",
        "NSBH 86.4 %",
        f"1 per {years:.3g} yr",
        f"{skymap['area_90_deg2']:.0f} deg²",
        f"{skymap['area_50_deg2']:.0f} deg²",
        f"{skymap['distance_mean_mpc']:.0f} ± {skymap['distance_std_mpc']:.0f} Mpc",
        "1 superevent that matches",
    ):
        assert expected in row, (expected, row)


def test_filters_of_the_form_are_those_of_the_address(reader: httpx.Client) -> None:
    assert lines(reader, id="s230", state="", far_max="", since="", kind="REAL") == [REAL_EVENT]
    assert REAL_EVENT in lines(reader, since="2023-05-18T12:59", until="2023-05-19")
    assert REAL_EVENT not in lines(reader, since="2023-05-18T13:00", until="2023-05-19")
    assert MERGER in lines(reader, kind="MOCK", classification="BNS", far_max="1", area_90_max="31", id="MS18")
    assert lines(reader, id="MS181101ab", area_90_max="30") == []
    page = reader.get("/gw", params={"far_max": "0.5", "kind": "MOCK", "since": "2018-01-01T00:00"}).text
    assert 'value="0.5"' in page
    assert '<option value="MOCK" selected>' in page
    assert 'value="2018-01-01T00:00"' in page


@pytest.mark.parametrize(
    "query",
    ["far_max=nan", "far_max=-1", "since=yesterday", "since=0001-01-01T00:00:00%2B23:00", "sort=password", "order=up",
     "kind=real;", "after=abc", "after=%00", "group=%00", "id=%25", "nothing=1", "area_90_max=1e999"],
)  # fmt: skip
def test_a_wrong_filter_is_told_with_its_name(reader: httpx.Client, query: str) -> None:
    answer = reader.get(f"/gw?{query}")
    assert answer.status_code == 400
    assert query.partition("=")[0] in answer.text
    assert reader.get(f"/gw/export?{query}").status_code == 400


def test_heads_sort_and_say_how(reader: httpx.Client) -> None:
    page = reader.get("/gw?kind=MOCK").text
    assert re.findall(r'aria-sort="(\w+)"', page) == ["descending"]
    address = html.unescape(re.search(r'<a id="by-far" href="([^"]+)"', page)[1])  # type: ignore[index]
    assert address == "/gw?kind=MOCK&sort=far&order=asc"
    page = reader.get(address).text
    assert re.search(r'aria-sort="ascending"><a id="by-far" href="/gw\?kind=MOCK&amp;sort=far', page)


def test_everything_can_be_taken_away_as_csv(reader: httpx.Client) -> None:
    answer = reader.get("/gw/export", params={"kind": "REAL", "sort": "id", "order": "asc"})
    assert answer.headers["content-disposition"] == 'attachment; filename="superevents.csv"'
    assert answer.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [{key: "" if value is None else str(value) for key, value in line.items()} for line in
            exported(reader, kind="REAL", sort="id", order="asc")] == rows  # fmt: skip
    assert exported(reader, id="S000000none") == []


# The page.


def test_the_page_says_what_the_newest_alert_and_map_say(console: ConsoleUnderTest, reader: httpx.Client) -> None:
    skymap = records(console, REAL_EVENT)[-1]["skymap"]
    page = shown(reader, f"/gw/{REAL_EVENT}", "NSBH", "Most probable")
    text = text_of(page)
    for expected in (
        "S230518h open",
        "NSBH a neutron star and a black hole 86.4 %",
        "HasNS one of the two weighs like a neutron star 99.6 %",
        f"50 % area {skymap['area_50_deg2']:.4g} deg²",
        f"90 % area {skymap['area_90_deg2']:.4g} deg²",
        f"right ascension {skymap['ra_deg']:.6g} deg",
        "H1, L1",
        "pycbc",
    ):
        assert expected in text, (expected, text)
    # It comes without its drawing where that takes long, and asks again.
    eventually(lambda: 'role="img"' in reader.get(f"/gw/{REAL_EVENT}").text, "the drawing")
    assert 'href="https://gracedb.ligo.org/superevents/S230518h/view/"' in page
    assert "mock" not in text.lower().split()


def test_the_history_says_what_changed_between_maps(console: ConsoleUnderTest, reader: httpx.Client) -> None:
    def canonical(record: dict[str, Any]) -> SkyMap:
        digest = record["skymap"]["canonical"]["sha256"]
        return read_skymap((console.system.folder / "blobs" / digest[:2] / digest[2:4] / digest).read_bytes())

    old, new = records(console, REAL_EVENT)[:2]
    before, after = canonical(old), canonical(new)
    # What the regions have in common, by mocpy.
    mocs = [region.credible_regions(skymap, (0.9,))[0] for skymap in (before, after)]
    common_deg2 = mocs[0].moc().intersection(mocs[1].moc()).sky_fraction * 41_252.961
    text = text_of(shown(reader, f"/gw/{REAL_EVENT}", "of this map is inside the old region"))
    for expected in (
        f"{new['skymap']['area_90_deg2'] / old['skymap']['area_90_deg2']:.3g} × before",
        f"{common_deg2:.3g} deg²",
        f"{overlap.overlap(before, after):.3g}",
        f"{100 * region.probability_in(after, mocs[0].intervals):.3g} % of this map is inside the old region",
        "the first map",
        "the same map as before",
    ):
        assert expected in text, (expected, text)


def test_another_observatory_bursts_and_notices_stand_on_the_page(
    console: ConsoleUnderTest, reader: httpx.Client
) -> None:
    text = text_of(shown(reader, f"/gw/{MERGER}", "with the other observatory's", "announced"))
    for expected in ("Fermi search GRB", "2.02 s", "524666471", "Mock traffic", f"{MERGER}-{console.partner_id}"):
        assert expected in text, (expected, text)
    told = console.system.rows("SELECT channel FROM notifier.deliveries WHERE subject = $1", f"gw/{MERGER}")
    assert told
    assert all(row["channel"] in text for row in told)


def test_an_older_map_can_be_looked_at(console: ConsoleUnderTest, reader: httpx.Client) -> None:
    first = records(console, REAL_EVENT)[0]
    page = shown(reader, f"/gw/{REAL_EVENT}?map={first['event_id']}", "preliminary alert", "superseded")
    assert f"90 % area {first['skymap']['area_90_deg2']:.0f} deg²" in text_of(page)


def test_an_alert_its_map_and_its_retraction_turn_page_and_line(
    console: ConsoleUnderTest, reader: httpx.Client
) -> None:
    name = a_name()
    tell(console, name, alert_type="INITIAL", skymap=a_skymap(object_name=name))
    page = shown(reader, f"/gw/{name}", "Most probable")
    assert "Retracted" not in text_of(page)
    eventually(lambda: [x["area_90_deg2"] for x in exported(reader, id=name)] not in ([], [None]), "the line's area")
    tell(console, name, alert_type="RETRACTION", time_created=None)
    page = shown(reader, f"/gw/{name}", "Retracted.", "withdrawn")
    assert 'role="alert"' in page
    assert "all maps withdrawn" in text_of(page)
    eventually(lambda: exported(reader, id=name)[0]["state"] == "RETRACTED", "the line's state")
    assert lines(reader, id=name, state="RETRACTED") == [name]
    assert "retracted" in text_of(reader.get("/gw", params={"id": name}).text)


def test_a_retraction_that_is_all_one_heard_of_has_a_page(console: ConsoleUnderTest, reader: httpx.Client) -> None:
    name = a_name()
    tell(console, name, alert_type="RETRACTION")
    text = text_of(shown(reader, f"/gw/{name}", "Retracted.", "No alert that came tells anything of the wave."))
    assert "None" not in text


def test_what_comes_from_outside_is_only_text(console: ConsoleUnderTest, reader: httpx.Client) -> None:
    name, hostile = a_name(), "<script>alert('x')</script><img src=x onerror=alert(1)>\"'{{ 7 * 7 }}"
    event = an_event(group=hostile, pipeline="N" * 1000, search=hostile, classification={hostile: 1.0, "BNS": 0.0})
    tell(console, name, event=event, external_coinc=a_coincidence(observatory=hostile, ivorn=hostile))
    page = shown(reader, f"/gw/{name}", "No map", "onerror")
    eventually(lambda: exported(reader, id=name), "the line")
    for source in (page, reader.get("/gw", params={"id": name}).text):
        assert "<script>alert" not in source
        assert "<img" not in source
        assert "{{ 7 * 7 }}" in html.unescape(source)
    addresses = re.findall(r'href="([^"]*)"', page)
    assert not [each for each in addresses if not each.startswith(("/", "#", "https://example.org/"))]


# Files.


def test_files_are_what_was_sent_and_computed(console: ConsoleUnderTest, reader: httpx.Client) -> None:
    page = shown(reader, f"/gw/{REAL_EVENT}", "Files", "PNG")
    found = dict.fromkeys(re.findall(rf'href="(/gw/{REAL_EVENT}/(?:alerts|maps|pictures)/[^"]+)"', page))
    kinds = [address.rpartition("/")[2] for address in found]
    assert kinds.count("raw") == 3
    assert {"source", "canonical", "moc50", "moc90"} <= set(kinds)
    sent = [path.read_bytes() for path in (SAMPLES / "igwn").glob("S230518h-*")]
    known = [record["skymap"] for record in records(console, REAL_EVENT)]
    for address in found:
        answer = reader.get(address)
        assert answer.status_code == 200, address
        assert answer.headers["x-content-type-options"] == "nosniff"
        if address.endswith(".png"):
            assert answer.headers["content-type"] == "image/png"
            assert answer.content.startswith(b"\x89PNG")
            continue
        assert answer.headers["content-disposition"].startswith(f'attachment; filename="{REAL_EVENT}-')
        if address.endswith("raw"):
            assert answer.content in sent
        else:
            field = {"moc50": "moc_50", "moc90": "moc_90"}.get(address.rpartition("/")[2], address.rpartition("/")[2])
            assert len(answer.content) in {skymap[field]["size"] for skymap in known}


@pytest.mark.parametrize(
    "path",
    [
        "/gw/S999999zz", "/gw/%00", "/gw/" + "S" * 10_000, "/gw/S1%27--", f"/gw/{MERGER.lower()}",
        f"/gw/{MERGER}/alerts/{NOBODYS_ID}/raw", f"/gw/{MERGER}/maps/{NOBODYS_ID}/moc90",
        f"/gw/{MERGER}/pictures/{NOBODYS_ID}.png", f"/gw/S999999zz/alerts/{NOBODYS_ID}/raw",
    ],
)  # fmt: skip
def test_what_is_not_there_is_a_page_that_says_so(reader: httpx.Client, path: str) -> None:
    answer = reader.get(path)
    assert answer.status_code == 404
    assert "Not found" in answer.text
    assert len(answer.text) < 20_000


def test_the_file_of_another_superevent_is_not_had_under_this_ones_name(
    console: ConsoleUnderTest, reader: httpx.Client
) -> None:
    event_id = records(console, REAL_EVENT)[0]["event_id"]
    assert reader.get(f"/gw/{REAL_EVENT}/maps/{event_id}/moc90").status_code == 200
    assert reader.get(f"/gw/{MERGER}/maps/{event_id}/moc90").status_code == 404
