"""The proper door of a running intake: questions, votes, decisions, pictures, and who may do what."""

import asyncio
import base64
import csv
import io
import json
import random
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import astropy.units as u
import httpx
import pytest
from astropy.coordinates import SkyCoord
from astropy.io.votable import parse_single_table
from PIL import Image

from services.frb_intake.accounts import create_token, list_tokens, revoke_token
from services.frb_intake.reading import SORT_KEYS
from shared.db.pool import connect
from shared.settings import DatabaseSettings
from tests.support.frb_intake import EVENTS, PASSWORD, IntakeUnderTest, a_burst, running_intake
from tests.support.runtime import eventually
from tests.support.upstream_client import UPLOAD, example_images, with_text

# Only the bursts of the catalogue have dispersion measures in this range.
DM_MIN, DM_MAX = 2000.0, 3000.0
BEGAN = datetime(2021, 1, 1, tzinfo=UTC)
BURSTS = 60


@pytest.fixture(scope="module")
def intake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IntakeUnderTest]:
    with running_intake(tmp_path_factory.mktemp("v1")) as running:
        yield running


@pytest.fixture(scope="module")
def everybody(intake: IntakeUnderTest) -> httpx.Client:
    """Somebody with all roles."""
    return intake.client(intake.add_user())


@pytest.fixture(scope="module")
def reader(intake: IntakeUnderTest) -> httpx.Client:
    """Somebody without an account."""
    return intake.client(None)


def submitted(client: httpx.Client, **changes: Any) -> int:
    answer = client.post(EVENTS, json=a_burst(**changes))
    assert answer.status_code == 201, answer.text
    return int(answer.json()["id"])


# ---- lists -----------------------------------------------------------------------------------------------------


@dataclass
class Listed:
    """A burst of the catalogue, as it was made."""

    id: int
    time: datetime
    dm: float
    sn: float
    ra: float
    dec: float
    repeater: bool
    is_test: bool
    status: str = "candidate"
    rating: str = "none"
    tns_name: str | None = None

    @property
    def hour(self) -> float:
        return (self.time - BEGAN).total_seconds() / 3600


@pytest.fixture(scope="module")
def catalogue(intake: IntakeUnderTest, everybody: httpx.Client) -> list[Listed]:
    """60 bursts all over the sky, some at its poles and edges, decided and rated in all ways."""
    chance = random.Random(7)
    edges = [(0.0, 90.0), (123.0, -90.0), (0.0, 0.0), (359.999, 0.0), (180.0, 89.9), (0.001, 0.001)]
    places = edges + [(chance.uniform(0, 360), chance.uniform(-90, 90)) for _ in range(BURSTS - len(edges))]
    found = []
    for number, (ra, dec) in enumerate(places):
        burst = Listed(
            id=0,
            # Every third at the same time as the one before: pages go by the number then.
            time=BEGAN + timedelta(hours=number - number % 3),
            dm=chance.uniform(DM_MIN, DM_MAX),
            sn=chance.uniform(5, 60),
            ra=ra,
            dec=dec,
            repeater=number % 4 == 0,
            is_test=number % 7 == 0,
        )
        burst.id = submitted(
            everybody,
            **{name: getattr(burst, name) for name in ("dm", "sn", "ra", "dec", "repeater", "is_test")},
            time_of_arrival=burst.time.isoformat(),
            **({"flux": None, "flux_err": None} if number % 5 == 0 else {}),
        )
        of_burst = f"{EVENTS}/{burst.id}"
        if number % 5:
            burst.rating = ("confirm", "reject", "unsure")[number % 3]
            everybody.post(f"{of_burst}/ratings", json={"rating": burst.rating}).raise_for_status()
        if number % 6 == 0:
            burst.tns_name = f"FRB 202101{number % 28 + 1:02d}{chr(65 + number % 26)}"
            everybody.post(f"{of_burst}/tns-name", json={"tns_name": burst.tns_name}).raise_for_status()
        if number % 3 == 1:
            burst.status = ("confirmed", "rejected")[number % 2]
            decision = {"status": burst.status, "reason": "Looked at."}
            everybody.post(f"{of_burst}/status", json=decision).raise_for_status()
        if number % 10 == 2:
            burst.status = "withdrawn"
            everybody.post(f"{of_burst}/withdrawal", json={"reason": "Interference."}).raise_for_status()
        found.append(burst)
    return sorted(found, key=lambda burst: (burst.time, burst.id), reverse=True)


def listed(client: httpx.Client, *, limit: int = 50, **query: Any) -> list[dict[str, Any]]:
    """All lines of a list, page by page."""
    items: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    while True:
        answer = client.get(EVENTS, params={**query, **cursor, "limit": limit})
        assert answer.status_code == 200, answer.text
        page = answer.json()
        assert len(page["items"]) <= limit
        items += page["items"]
        if page["next"] is None:
            return items
        assert len(page["items"]) == limit
        cursor = {"cursor": page["next"]}


MIDDLE = BEGAN + timedelta(hours=24)
FILTERS: list[tuple[Mapping[str, Any], Callable[[Listed], bool]]] = [
    ({}, lambda b: True),
    ({"since": MIDDLE.isoformat()}, lambda b: b.time >= MIDDLE),
    ({"until": MIDDLE.isoformat()}, lambda b: b.time < MIDDLE),
    ({"since": "2021-01-01 03:00", "until": "2021-01-01T21:00Z"}, lambda b: 3 <= b.hour < 21),
    ({"dm_min": 2400}, lambda b: b.dm >= 2400),
    ({"dm_max": 2400}, lambda b: b.dm <= 2400),
    ({"dm_min": 2400, "dm_max": 2600}, lambda b: 2400 <= b.dm <= 2600),
    ({"sn_min": 20}, lambda b: b.sn >= 20),
    ({"sn_max": 20}, lambda b: b.sn <= 20),
    ({"repeater": "true"}, lambda b: b.repeater),
    ({"repeater": "false"}, lambda b: not b.repeater),
    ({"is_test": "true"}, lambda b: b.is_test),
    ({"is_test": "false"}, lambda b: not b.is_test),
    *(({"status": s}, lambda b, s=s: b.status == s) for s in ("candidate", "confirmed", "rejected", "withdrawn")),
    *(({"rating": r}, lambda b, r=r: b.rating == r) for r in ("confirm", "reject", "unsure", "none")),
    ({"tns_name": "FRB 20210107G"}, lambda b: b.tns_name == "FRB 20210107G"),
    ({"tns_name": "FRB 19990101A"}, lambda b: False),
    ({"status": "candidate", "repeater": "false"}, lambda b: b.status == "candidate" and not b.repeater),
    ({"rating": "confirm", "dm_max": 2700}, lambda b: b.rating == "confirm" and b.dm <= 2700),
]  # fmt: skip


class TestLists:
    @pytest.mark.parametrize(("query", "holds"), FILTERS, ids=[str(query) for query, _ in FILTERS])
    def test_a_filter_gives_what_it_says_newest_first(
        self,
        catalogue: list[Listed],
        reader: httpx.Client,
        query: Mapping[str, Any],
        holds: Callable[[Listed], bool],
    ) -> None:
        found = listed(reader, **{"dm_min": DM_MIN, "dm_max": DM_MAX, **query})
        expected = [burst.id for burst in catalogue if holds(burst)]
        assert [item["id"] for item in found] == expected
        if query and "1999" not in str(query):
            assert 0 < len(expected) < BURSTS  # else nothing was filtered

    @pytest.mark.parametrize(
        ("ra", "dec"), [(0, 0), (359.9, 0.1), (0, 90), (77, -90), (180, 45), (12.5, 89), (300, -60), (360, 30)]
    )
    @pytest.mark.parametrize("radius", [0.01, 1, 11.4, 11.6, 30, 89.9, 179.9, 180])
    def test_a_cone_holds_what_is_within_it(
        self, catalogue: list[Listed], reader: httpx.Client, ra: float, dec: float, radius: float
    ) -> None:
        centre = SkyCoord(ra, dec, unit="deg")
        places = SkyCoord([b.ra for b in catalogue], [b.dec for b in catalogue], unit="deg")
        inside = (places.separation(centre).deg <= radius).tolist()

        found = listed(reader, ra=ra, dec=dec, radius=radius, dm_min=DM_MIN, dm_max=DM_MAX)

        assert [item["id"] for item in found] == [b.id for b, is_in in zip(catalogue, inside, strict=True) if is_in]

    def test_a_line_tells_the_latest_measurement(self, everybody: httpx.Client) -> None:
        burst_id = submitted(everybody, dm=1500.0, sn=9.0)
        better = a_burst(dm=1501.0)["measurement"]
        everybody.post(f"{EVENTS}/{burst_id}/measurements", json=better).raise_for_status()

        assert listed(everybody, dm_min=1499.5, dm_max=1500.5) == []
        (line,) = listed(everybody, dm_min=1500.5, dm_max=1501.5)
        assert (line["id"], line["dm"], line["measurements"], line["revision"]) == (burst_id, 1501.0, 2, 2)
        assert line["internal_name"] == f"TOCSIN-FRB-{burst_id}"

    def test_pages_have_no_gap_and_no_double_while_bursts_come_in(
        self, intake: IntakeUnderTest, catalogue: list[Listed], reader: httpx.Client
    ) -> None:
        busy, over = intake.client(intake.add_user("submit")), threading.Event()

        def add() -> int:
            chance, added = random.Random(8), 0
            while not over.is_set():
                time = BEGAN + timedelta(hours=chance.uniform(-10, BURSTS + 10))
                submitted(busy, time_of_arrival=time.isoformat(), dm=1.0)
                added += 1
            return added

        with ThreadPoolExecutor(1) as pool:
            adding = pool.submit(add)
            try:
                walks = [listed(reader, limit=limit, since="2020-12-31", until="2021-01-05") for limit in (1, 3, 7, 50)]
            finally:
                over.set()
            assert adding.result() > 0
        for items in walks:
            ids = [item["id"] for item in items]
            assert len(set(ids)) == len(ids)
            assert [burst_id for burst_id in ids if burst_id in {b.id for b in catalogue}] == [b.id for b in catalogue]
            places = [(item["time_of_arrival"], item["id"]) for item in items]
            assert places == sorted(places, key=lambda p: (datetime.fromisoformat(p[0]), p[1]), reverse=True)


WITHOUT_DM = 4
ORDERS = [(key, order) for key in SORT_KEYS for order in ("asc", "desc")]


@pytest.fixture(scope="module")
def all_lines(intake: IntakeUnderTest, catalogue: list[Listed]) -> list[dict[str, Any]]:
    """Every burst there is, some without a value to sort by: other observatories do not tell all."""
    everybody = intake.client(intake.add_user())
    unknown = [submitted(everybody, version=f"unknown {number}") for number in range(WITHOUT_DM)]
    nothing = json.dumps(dict.fromkeys(("dm", "dm_excess", "width")))
    intake.system.rows(
        "UPDATE frb_intake.bursts SET dm_pc_cm3 = NULL, dm_excess_pc_cm3 = NULL, width_ms = NULL,"
        f" summary = (summary::jsonb || '{nothing}')::json WHERE id = ANY(ARRAY{unknown}) RETURNING id"
    )
    return listed(everybody)


class TestOrders:
    @pytest.mark.parametrize(("key", "order"), ORDERS)
    @pytest.mark.parametrize("limit", [1, 7, 100])
    def test_pages_in_an_order_are_the_whole_list_sorted(
        self, all_lines: list[dict[str, Any]], reader: httpx.Client, key: str, order: str, limit: int
    ) -> None:
        if limit == 1:
            query = {"since": "2021-01-01", "until": "2021-01-02"}
            lines = [line for line in all_lines if "2021-01-01" <= (line["time_of_arrival"] or "") < "2021-01-02"]
        else:
            query, lines = {}, all_lines
        found = listed(reader, limit=limit, sort=key, order=order, **query)
        assert [line["id"] for line in found] == [line["id"] for line in in_order(lines, key, order)]

    @pytest.mark.parametrize("key", ["dm", "dm_excess", "width"])
    @pytest.mark.parametrize("order", ["asc", "desc"])
    def test_what_has_no_value_comes_last_both_ways(
        self, all_lines: list[dict[str, Any]], reader: httpx.Client, key: str, order: str
    ) -> None:
        found = listed(reader, limit=3, sort=key, order=order)
        assert [line[key] is None for line in found[-WITHOUT_DM - 1 :]] == [False] + [True] * WITHOUT_DM

    def test_a_filter_and_an_order_go_together(self, catalogue: list[Listed], reader: httpx.Client) -> None:
        near = {"ra": 0, "dec": 0, "radius": 80, "dm_min": DM_MIN, "dm_max": DM_MAX}
        found = listed(reader, **near, limit=4)
        assert len(found) > 8
        assert listed(reader, **near, limit=4, sort="sn", order="asc") == in_order(found, "sn", "asc")

    def test_a_cursor_belongs_to_its_order(self, catalogue: list[Listed], reader: httpx.Client) -> None:
        cursor = reader.get(EVENTS, params={"sort": "dm", "limit": 1}).json()["next"]
        for other in ({}, {"sort": "sn"}, {"sort": "dm", "order": "asc"}):
            answer = reader.get(EVENTS, params={**other, "cursor": cursor})
            assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, "cursor")

    @pytest.mark.parametrize(
        ("key", "text"),
        [
            ("dm", "dm.desc nan 1"),
            ("dm", "dm.desc x 1"),
            ("dm", "dm.desc 1.0 0"),
            ("id", "id.desc  1"),
            ("id", "id.desc 9223372036854775808 1"),
            ("confirm", "confirm.desc 2147483648 1"),
            ("time", "time.desc 99999999999999999999 1"),
        ],
    )
    def test_a_cursor_of_ones_own_making_is_refused(self, reader: httpx.Client, key: str, text: str) -> None:
        cursor = base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")
        answer = reader.get(EVENTS, params={"sort": key, "cursor": cursor})
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, "cursor")

    def test_an_unknown_order_is_refused(self, reader: httpx.Client) -> None:
        assert reader.get(EVENTS, params={"sort": "colour"}).status_code == 400


def in_order(lines: list[dict[str, Any]], key: str, order: str) -> list[dict[str, Any]]:
    """The lines as Python sorts them."""

    def value(line: dict[str, Any]) -> Any:
        if key == "time":
            return datetime.fromisoformat(line["time_of_arrival"] or line["received_at"])
        return line["votes"][key] if key in line["votes"] else line[key]

    known = sorted((v for v in lines if value(v) is not None), key=lambda v: (value(v), v["id"]))
    unknown = sorted((v for v in lines if value(v) is None), key=lambda v: v["id"])
    return known + unknown if order == "asc" else known[::-1] + unknown[::-1]


class TestExports:
    QUERY: Mapping[str, Any] = {"dm_min": DM_MIN, "dm_max": DM_MAX}

    def exported(self, reader: httpx.Client, file_format: str) -> httpx.Response:
        answer = reader.get(f"{EVENTS}/export", params={**self.QUERY, "format": file_format})
        assert answer.status_code == 200
        assert f'filename="bursts.{file_format}"' in answer.headers["content-disposition"]
        return answer

    def test_json_has_the_lines_of_the_list(self, catalogue: list[Listed], reader: httpx.Client) -> None:
        answer = self.exported(reader, "json")
        assert answer.headers["content-type"] == "application/json"
        assert answer.json() == listed(reader, **self.QUERY)

    def test_csv_has_the_same_in_columns(self, catalogue: list[Listed], reader: httpx.Client) -> None:
        answer = self.exported(reader, "csv")
        rows = list(csv.DictReader(io.StringIO(answer.text)))
        assert answer.headers["content-type"].startswith("text/csv")
        for row, line in zip(rows, listed(reader, **self.QUERY), strict=True):
            votes = line.pop("votes")
            plain = line | {f"votes_{vote}": count for vote, count in votes.items()}
            assert row == {name: "" if value is None else str(value) for name, value in plain.items()}

    def test_votable_is_read_by_astropy_with_units(self, catalogue: list[Listed], reader: httpx.Client) -> None:
        answer = self.exported(reader, "votable")
        assert answer.headers["content-type"] == "application/x-votable+xml"
        table = parse_single_table(io.BytesIO(answer.content)).to_table()
        lines = listed(reader, **self.QUERY)
        assert table["dm"].unit == u.pc / u.cm**3
        assert (table["ra"].unit, table["width"].unit, table["flux"].unit) == (u.deg, u.ms, u.Jy)
        for name in ("id", "dm", "sn", "ra", "dec", "status", "internal_name", "repeater", "is_test", "z", "revision"):
            assert table[name].tolist() == [line[name] for line in lines], name
        # What is not known is masked (a number) or empty (a text).
        assert table["flux"].mask.tolist() == [line["flux"] is None for line in lines]
        assert any(table["flux"].mask)
        assert table["tns_name"].tolist() == [line["tns_name"] or "" for line in lines]

    @pytest.mark.parametrize("key", SORT_KEYS)
    @pytest.mark.parametrize("order", ["asc", "desc"])
    def test_a_file_has_the_order_of_the_list(
        self, catalogue: list[Listed], reader: httpx.Client, key: str, order: str
    ) -> None:
        wanted = {**self.QUERY, "sort": key, "order": order}
        answer = reader.get(f"{EVENTS}/export", params={**wanted, "format": "json"})
        assert answer.json() == listed(reader, **wanted)
        assert answer.json() == in_order(answer.json(), key, order)

    @pytest.mark.parametrize("file_format", ["csv", "votable", "json"])
    def test_nothing_is_a_whole_file_too(self, reader: httpx.Client, file_format: str) -> None:
        answer = reader.get(f"{EVENTS}/export", params={"dm_min": 99_999, "format": file_format})
        if file_format == "csv":
            assert len(answer.text.splitlines()) == 1
        elif file_format == "votable":
            assert len(parse_single_table(io.BytesIO(answer.content)).array) == 0
        else:
            assert answer.json() == []


# ---- who may what ----------------------------------------------------------------------------------------------

MEASUREMENT = a_burst()["measurement"]
# What is asked, with what, and the roles of which one is enough.
WRITES: list[tuple[str, Mapping[str, Any], set[str]]] = [
    ("", a_burst(), {"submit"}),
    ("/{id}/measurements", MEASUREMENT, {"submit"}),
    ("/{id}/ratings", {"rating": "confirm"}, {"rate"}),
    ("/{id}/status", {"status": "confirmed", "reason": "."}, {"operate"}),
    ("/{id}/withdrawal", {"reason": "."}, {"operate"}),
    ("/{id}/tns-name", {"tns_name": "FRB 20210101A"}, {"operate"}),
]


class TestAccess:
    @pytest.mark.parametrize(("path", "body", "roles"), WRITES, ids=[path or "/" for path, _, _ in WRITES])
    def test_each_role_may_its_own(
        self,
        intake: IntakeUnderTest,
        everybody: httpx.Client,
        reader: httpx.Client,
        path: str,
        body: Mapping[str, Any],
        roles: set[str],
    ) -> None:
        address = (EVENTS + path).replace("{id}", str(submitted(everybody)))

        anonymous = reader.post(address, json=body)
        guessed = reader.post(address, json=body, auth=("nobody", "guessed"))
        made_up = reader.post(address, json=body, headers={"Authorization": "Bearer tocsin_1_guessed"})

        for answer in (anonymous, guessed, made_up):
            assert (answer.status_code, answer.json()["status"]) == (401, 401)
            assert answer.headers["content-type"] == "application/problem+json"
            assert "Basic" in answer.headers["www-authenticate"]
        for role in ("read", "submit", "rate", "operate"):
            answer = intake.client(intake.add_user(role)).post(address, json=body)
            assert answer.status_code == (201 if role in roles else 403), (role, answer.text)

    def test_submitters_withdraw_their_own_bursts(self, intake: IntakeUnderTest) -> None:
        mine, theirs = (intake.client(intake.add_user("submit")) for _ in range(2))
        burst_id = submitted(mine)
        assert theirs.post(f"{EVENTS}/{burst_id}/withdrawal", json={"reason": "."}).status_code == 403
        assert mine.post(f"{EVENTS}/{burst_id}/withdrawal", json={"reason": "."}).status_code == 201

    def test_reading_can_be_closed(self, intake: IntakeUnderTest, everybody: httpx.Client) -> None:
        burst_id = submitted(everybody)
        closed = intake.system.start("frb_intake", TOCSIN_FRB_INTAKE__PUBLIC_READING="false")
        closed.wait_ready()
        try:
            for path in (EVENTS, f"{EVENTS}/export", f"{EVENTS}/{burst_id}", "/api/v1/stream"):
                address = f"http://127.0.0.1:{closed.port}{path}"
                assert httpx.get(address).status_code == 401, path
                assert httpx.get(address, auth=(intake.add_user("submit"), PASSWORD)).status_code == 403, path
                if "stream" not in path:
                    assert httpx.get(address, auth=(intake.add_user("read"), PASSWORD)).status_code == 200, path
            parts: Any = {"radio_measurement": (None, json.dumps(MEASUREMENT)), "search": ("a.jpg", a_jpeg())}
            (image,) = everybody.post(EVENTS, files=parts).raise_for_status().json()["images"]
            picture = f"http://127.0.0.1:{closed.port}{image['url']}"
            private = httpx.get(picture, auth=(intake.add_user("read"), PASSWORD))
            # What not everybody may read, no proxy may keep.
            assert (private.status_code, private.headers["cache-control"].split(",")[0]) == (200, "private")
            # The old script cannot show who reads; its doors are not reading.
            assert httpx.get(f"http://127.0.0.1:{closed.port}/healthz").status_code == 200
        finally:
            closed.stop()

    def test_a_token_does_as_well_as_a_password_until_it_is_revoked(self, intake: IntakeUnderTest) -> None:
        name = intake.add_user("submit", "rate")
        settings = DatabaseSettings(url=intake.system.environment["TOCSIN_DATABASE__URL"])

        async def create(expires_at: datetime | None) -> str:
            async with connect(settings, "frb_intake") as connection:
                return await create_token(connection, name=name, expires_at=expires_at)

        async def revoke() -> None:
            async with connect(settings, "frb_intake") as connection:
                for token in await list_tokens(connection):
                    await revoke_token(connection, token_id=token["id"])

        def status(token: str) -> int:
            headers = {"Authorization": f"Bearer {token}"}
            return intake.client(None).get("/api/v1/me", headers=headers).status_code

        token, expired = asyncio.run(create(None)), asyncio.run(create(datetime.now(UTC) - timedelta(seconds=1)))
        unused = asyncio.run(create(None))
        me = intake.client(None).get("/api/v1/me", headers={"Authorization": f"Bearer {token}"})
        assert me.json() == {"name": name, "roles": ["rate", "submit"]}
        assert status(expired) == 401
        asyncio.run(revoke())
        assert status(unused) == 401

    def test_who_is_nobody_is_told_so(self, reader: httpx.Client) -> None:
        assert reader.get("/api/v1/me").status_code == 401


# ---- one burst -------------------------------------------------------------------------------------------------


class TestRatings:
    def test_the_last_vote_of_each_counts_and_all_are_kept(self, intake: IntakeUnderTest) -> None:
        names = [intake.add_user("submit", "rate") for _ in range(2)]
        one, other = (intake.client(name) for name in names)
        burst_id = submitted(one)
        address = f"{EVENTS}/{burst_id}/ratings"

        assert one.post(address, json={"rating": "reject", "note": "Looks flat."}).json()["votes"]["reject"] == 1
        other.post(address, json={"rating": "unsure"}).raise_for_status()
        burst = one.post(address, json={"rating": "confirm", "note": "No: dispersed."}).json()

        assert burst["votes"] == {"confirm": 1, "reject": 0, "unsure": 1}
        assert [(r["rater"], r["rating"], r["note"]) for r in burst["ratings"]] == [
            (names[0], "reject", "Looks flat."),
            (names[1], "unsure", None),
            (names[0], "confirm", "No: dispersed."),
        ]
        eventually(lambda: len(intake.records_of(burst_id)) == 4, "a record for each vote")
        votes = [record["votes"] for record in intake.records_of(burst_id)]
        assert [tuple(vote.values()) for vote in votes] == [(0, 0, 0), (0, 1, 0), (0, 1, 1), (1, 0, 1)]

    def test_votes_at_once_are_all_counted(self, intake: IntakeUnderTest, everybody: httpx.Client) -> None:
        address = f"{EVENTS}/{submitted(everybody)}/ratings"
        raters = [intake.client(intake.add_user("rate")) for _ in range(6)]
        with ThreadPoolExecutor(6) as pool:
            answers = list(pool.map(lambda rater: rater.post(address, json={"rating": "confirm"}), raters))
        assert {answer.status_code for answer in answers} == {201}
        burst = everybody.get(address.removesuffix("/ratings")).json()
        assert (burst["votes"]["confirm"], burst["revision"]) == (6, 7)
        assert [change["revision"] for change in burst["history"]] == list(range(1, 8))


class TestStatus:
    def test_every_decision_is_an_event_with_who_and_why(self, intake: IntakeUnderTest) -> None:
        name = intake.add_user()
        client = intake.client(name)
        burst_id = submitted(client)
        steps = ["confirmed", "rejected", "candidate", "rejected", "confirmed", "candidate"]

        for step in steps:
            answer = client.post(f"{EVENTS}/{burst_id}/status", json={"status": step, "reason": f"To {step}."})
            assert (answer.status_code, answer.json()["status"]) == (201, step.upper())

        history = client.get(f"{EVENTS}/{burst_id}").json()["history"]
        assert [(line["revision"], line["change"]) for line in history] == [
            (1, "CREATED"),
            *((number, "STATUS_CHANGED") for number in range(2, 8)),
        ]
        assert {line["changed_by"] for line in history} == {name}
        assert [(line["detail"]["to"], line["detail"]["reason"]) for line in history[1:]] == [
            (step, f"To {step}.") for step in steps
        ]
        eventually(lambda: len(intake.records_of(burst_id)) == 7, "a record for each decision")
        records = intake.records_of(burst_id)
        assert [record["status"] for record in records] == ["CANDIDATE", *(step.upper() for step in steps)]
        assert records[-1]["status_reason"] == "To candidate."

    def test_what_it_is_already_it_does_not_become(self, everybody: httpx.Client) -> None:
        answer = everybody.post(f"{EVENTS}/{submitted(everybody)}/status", json={"status": "candidate", "reason": "."})
        assert answer.status_code == 409
        assert answer.json()["errors"][0]["value"] == "candidate"

    def test_withdrawn_is_the_end(self, everybody: httpx.Client) -> None:
        burst_id = submitted(everybody)
        address = f"{EVENTS}/{burst_id}"
        withdrawn = everybody.post(f"{address}/withdrawal", json={"reason": "Interference."})
        assert (withdrawn.status_code, withdrawn.json()["status"]) == (201, "WITHDRAWN")

        for path, body, _ in WRITES[1:]:
            answer = everybody.post((EVENTS + path).replace("{id}", str(burst_id)), json=body)
            assert (answer.status_code, answer.json()["status"]) == (409, 409), path
            assert str(burst_id) in answer.json()["detail"]
        burst = everybody.get(address).json()
        assert (burst["status_reason"], burst["revision"]) == ("Interference.", 2)
        assert len(burst["history"]) == 2

    def test_a_name_is_an_event_and_the_same_name_again_is_none(self, everybody: httpx.Client) -> None:
        burst_id = submitted(everybody)
        for _ in range(2):
            answer = everybody.post(f"{EVENTS}/{burst_id}/tns-name", json={"tns_name": "FRB 20991231Z"})
            assert (answer.status_code, answer.json()["tns_name"]) == (201, "FRB 20991231Z")
        assert [line["change"] for line in answer.json()["history"]] == ["CREATED", "NAMED"]
        assert [line["id"] for line in listed(everybody, tns_name="FRB 20991231Z")] == [burst_id]


class TestIdempotency:
    def test_the_same_key_and_content_is_the_same_burst(self, everybody: httpx.Client) -> None:
        body, key = a_burst(), {"Idempotency-Key": "once"}
        first, again = (everybody.post(EVENTS, json=body, headers=key) for _ in range(2))
        assert (first.status_code, again.status_code) == (201, 200)
        assert first.json() == again.json()
        assert first.headers["location"] == again.headers["location"] == f"{EVENTS}/{first.json()['id']}"

    def test_the_same_key_with_other_content_is_refused(self, everybody: httpx.Client) -> None:
        first, other = (
            everybody.post(EVENTS, json=a_burst(), headers={"Idempotency-Key": "another"}) for _ in range(2)
        )
        assert (first.status_code, other.status_code) == (201, 422)
        assert other.json()["errors"][0]["field"] == "Idempotency-Key"
        assert str(first.json()["id"]) in other.json()["detail"]

    def test_without_a_key_the_content_is_the_key(self, intake: IntakeUnderTest, everybody: httpx.Client) -> None:
        body = a_burst()
        first, again = (everybody.post(EVENTS, json=body) for _ in range(2))
        somebody = intake.client(intake.add_user("submit")).post(EVENTS, json=body)
        assert (first.status_code, again.status_code, somebody.status_code) == (201, 200, 201)
        assert first.json()["id"] == again.json()["id"] != somebody.json()["id"]

    def test_a_key_is_its_owners(self, intake: IntakeUnderTest) -> None:
        answers = [
            intake.client(intake.add_user("submit")).post(EVENTS, json=a_burst(), headers={"Idempotency-Key": "mine"})
            for _ in range(2)
        ]
        assert [answer.status_code for answer in answers] == [201, 201]

    @pytest.mark.parametrize("key", [{"Idempotency-Key": "at once"}, {}], ids=["with a key", "by content"])
    def test_eight_at_once_make_one_burst(self, intake: IntakeUnderTest, key: dict[str, str]) -> None:
        body = a_burst()
        name = intake.add_user("submit")
        clients = [intake.client(name) for _ in range(8)]
        together = threading.Barrier(8)

        def send(client: httpx.Client) -> httpx.Response:
            together.wait()
            return client.post(EVENTS, json=body, headers=key)

        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(send, clients))

        assert sorted(answer.status_code for answer in answers) == [200] * 7 + [201]
        (burst_id,) = {answer.json()["id"] for answer in answers}
        eventually(lambda: intake.records_of(burst_id), "its record")
        assert [record["change"] for record in intake.records_of(burst_id)] == ["CREATED"]


class TestUploads:
    def test_the_yamls_as_they_are_with_pictures(self, everybody: httpx.Client) -> None:
        files = {
            "radio_measurement": ("r.yaml", (UPLOAD / "radio_example.yaml").read_bytes()),
            "observation": ("o.yaml", (UPLOAD / "observation_example.yaml").read_bytes()),
            **{name.removesuffix("_open"): image for name, image in example_images().items()},
        }
        answer = everybody.post(EVENTS, files=files, data={"is_test": "true"})
        assert answer.status_code == 201, answer.text
        burst = answer.json()
        assert (burst["is_test"], burst["repeater"]) == (True, True)
        (measurement,) = burst["measurements"]
        assert measurement["as_submitted"]["eellipse"] == {"a": 0.004, "b": 0.004, "cl": 68.0, "theta": 0.0}
        assert (measurement["as_submitted"]["dmism"], measurement["as_submitted"]["cosmo"]) == (
            123.16007817568256,
            "Planck18",
        )
        assert measurement["dm_budget"]["dm_mw_ism_pc_cm3"] == 123.16007817568256
        assert measurement["localisation"]["semi_major_deg"] == 0.004
        assert {image["name"] for image in burst["images"]} == {"search", "image", "histogram"}

    def test_a_measurement_may_be_yaml(self, everybody: httpx.Client) -> None:
        address = f"{EVENTS}/{submitted(everybody)}/measurements"
        yaml, kind = (UPLOAD / "radio_example.yaml").read_bytes(), {"Content-Type": "application/yaml"}
        first, again = (everybody.post(address, content=yaml, headers=kind) for _ in range(2))
        assert (first.status_code, again.status_code) == (201, 200)
        assert [version["number"] for version in again.json()["measurements"]] == [1, 2]
        assert (again.json()["first"]["number"], again.json()["latest"]["number"]) == (1, 2)


def a_jpeg() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (32, 16), "navy").save(file, "JPEG")
    return file.getvalue()


class TestImages:
    def with_image(self, client: httpx.Client, name: str, file_name: str, data: bytes) -> dict[str, Any]:
        measurement = json.dumps({**MEASUREMENT, "version": "with an image"})
        answer = client.post(
            EVENTS, data={"radio_measurement": measurement}, files={name: (file_name, data, "text/html")}
        )
        assert answer.status_code == 201, answer.text
        burst: dict[str, Any] = answer.json()
        return burst

    def test_it_is_served_as_what_it_is_whatever_it_was_called(
        self, everybody: httpx.Client, reader: httpx.Client
    ) -> None:
        (image,) = self.with_image(everybody, "search", "<b>plot</b>.png.html", a_jpeg())["images"]
        assert (image["media_type"], image["width_px"], image["height_px"]) == ("image/jpeg", 32, 16)
        assert "<" not in image["file_name"]
        answer = reader.get(image["url"])
        assert (answer.content, answer.headers["content-type"]) == (a_jpeg(), "image/jpeg")
        assert answer.headers["cache-control"].startswith("public")
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in answer.headers["content-security-policy"]

    def test_a_burst_has_only_the_pictures_that_came(self, everybody: httpx.Client, reader: httpx.Client) -> None:
        burst = self.with_image(everybody, "image", "a.jpg", with_text(_png(), "only one"))
        assert reader.get(f"{EVENTS}/{burst['id']}/images/search").status_code == 404
        assert reader.get(f"{EVENTS}/{burst['id']}/images/image").status_code == 200

    def test_one_that_cannot_be_decoded_is_dropped_after_a_while_and_that_is_told(
        self, intake: IntakeUnderTest, everybody: httpx.Client, reader: httpx.Client
    ) -> None:
        whole = (UPLOAD / "example_search.png").read_bytes()
        burst = self.with_image(everybody, "search", "cut.png", whole[: len(whole) // 2])
        address = f"{EVENTS}/{burst['id']}"

        eventually(lambda: reader.get(address).json()["images"] == [], "no image")

        changed = reader.get(address).json()
        assert (changed["revision"], changed["change"], changed["changed_by"]) == (2, "IMAGE_DROPPED", "frb_intake")
        assert changed["history"][1]["detail"]["image"] == "search"
        assert reader.get(f"{address}/images/search").status_code == 404
        eventually(lambda: len(intake.records_of(burst["id"])) == 2, "the record of it")
        assert [len(record["images"]) for record in intake.records_of(burst["id"])] == [1, 0]


def _png() -> bytes:
    file = io.BytesIO()
    Image.new("L", (8, 8)).save(file, "PNG")
    return file.getvalue()
