"""The first page of a list among 10^3, 10^4 and 10^5 bursts, with every filter and every two, against SELECT 1."""

import asyncio
import itertools
import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import Any

import asyncpg
import httpx
import numpy as np

from benchmarks.report import Row
from benchmarks.system import running
from services.frb_intake import domain
from services.frb_intake.models import BurstIn, MeasurementIn
from services.frb_intake.reading import Cone, Filters, select
from shared.db.pool import connect
from shared.settings import DatabaseSettings
from shared.sky import healpix
from tests.support.frb_intake import a_burst

SIZES, PAGE, ROUNDS = (1_000, 10_000, 100_000), 50, 15
BEGAN, YEARS = datetime(2016, 1, 1, tzinfo=UTC), 10
FILL_S = 600.0
OLD_PAGE_S = 4.5
# The old table page, at 2,005 events.

FILTERS: Mapping[str, Mapping[str, Any]] = {
    "nothing": {},
    "since, the last month": {"since": BEGAN + timedelta(days=365 * YEARS - 30)},
    "until, the first month": {"until": BEGAN + timedelta(days=30)},
    "a night": {"since": BEGAN + timedelta(days=2000), "until": BEGAN + timedelta(days=2001)},
    "dm_min 1500": {"dm_min": 1500.0},
    "dm_max 150": {"dm_max": 150.0},
    "dm 411 to 412": {"dm_min": 411.0, "dm_max": 412.0},
    "sn_min 10": {"sn_min": 10.0},
    "sn_min 100": {"sn_min": 100.0},
    "sn_max 8": {"sn_max": 8.0},
    "cone of 0.1 deg": {"cone": Cone(77.0, 26.0, 0.1)},
    "cone of 5 deg": {"cone": Cone(0.1, -45.0, 5.0)},
    "cone of 5 deg at the pole": {"cone": Cone(0.0, 89.0, 5.0)},
    "cone of 15 deg": {"cone": Cone(180.0, 0.0, 15.0)},
    "cone of 30 deg": {"cone": Cone(180.0, 0.0, 30.0)},
    "cone of 120 deg": {"cone": Cone(20.0, 50.0, 120.0)},
    "repeater": {"repeater": True},
    "no repeater": {"repeater": False},
    "candidate": {"status": "candidate"},
    "confirmed": {"status": "confirmed"},
    "withdrawn": {"status": "withdrawn"},
    "rated confirm": {"rating": "confirm"},
    "rated unsure": {"rating": "unsure"},
    "not rated": {"rating": "none"},
    "a TNS name": {"tns_name": "FRB 20200101A"},
    "tests": {"is_test": True},
    "no tests": {"is_test": False},
}


def measure() -> list[Row]:
    """Return the rows."""
    with running("frb_intake") as system:
        url = system.environment["TOCSIN_DATABASE__URL"]
        of_size = {size: asyncio.run(_times_s(url, size)) for size in SIZES}
        page_s = _through_http_s(system.services[0].address)
    return [
        *(_row(size, *of_size[size]) for size in SIZES),
        _growth(*(of_size[size][1] for size in (SIZES[0], SIZES[-1]))),
        Row(
            what=f"first page of {PAGE} among 10^5 bursts through HTTP",
            peer=f"table page of the old application, {OLD_PAGE_S} s at 2,005 bursts",
            ours=f"{page_s * 1e3:.1f} ms",
            ratio=OLD_PAGE_S / page_s,
            aim="none",
        ),
    ]


def _row(size: int, bare_s: float, times_s: Mapping[str, float]) -> Row:
    worst = max(times_s, key=lambda name: times_s[name])
    over = sum(taken > 50 * bare_s for taken in times_s.values())
    return Row(
        what=f"first page of {PAGE} among {size:,} bursts, the slowest of {len(times_s)} filters and pairs ({worst})",
        peer=f"SELECT 1, {bare_s * 1e3:.2f} ms",
        ours=f"{times_s[worst] * 1e3:.2f} ms (median of all {median(times_s.values()) * 1e3:.2f}; {over} over the aim)",
        ratio=times_s[worst] / bare_s,
        aim="at most 50",
    )


def _growth(small: Mapping[str, float], large: Mapping[str, float]) -> Row:
    return Row(
        what=f"the same, {SIZES[-1]:,} against {SIZES[0]:,} bursts, median of filters and pairs",
        peer=f"{median(small.values()) * 1e3:.2f} ms",
        ours=f"{median(large.values()) * 1e3:.2f} ms",
        ratio=median(large.values()) / median(small.values()),
        aim="flat (about 1)",
    )


async def _times_s(url: str, size: int) -> tuple[float, dict[str, float]]:
    """Return the median time of SELECT 1, and of the first page with each filter and pair, over one connection."""
    async with connect(DatabaseSettings(url=url), "frb_intake") as connection:
        await fill(connection, size)
        names = {name: values for name, values in FILTERS.items() if values}
        pairs = {f"{a} + {b}": {**names[a], **names[b]} for a, b in itertools.combinations(names, 2) if _differ(a, b)}
        wanted = {**FILTERS, **pairs}
        bare: list[float] = []
        times: dict[str, list[float]] = {name: [] for name in wanted}
        for _ in range(ROUNDS):
            for name, values in wanted.items():
                query, arguments = select(Filters(**values), None, PAGE + 1)
                bare.append(await _taken_s(connection, "SELECT 1"))
                times[name].append(await _taken_s(connection, query, *arguments))
    return median(bare), {name: median(taken) for name, taken in times.items()}


def _differ(a: str, b: str) -> bool:
    return not FILTERS[a].keys() & FILTERS[b].keys()


async def _taken_s(connection: asyncpg.Connection, query: str, *arguments: object) -> float:
    began = time.perf_counter()
    await connection.fetch(query, *arguments)
    return time.perf_counter() - began


def _through_http_s(address: str) -> float:
    taken = []
    with httpx.Client(base_url=address) as client:
        for _ in range(ROUNDS):
            began = time.perf_counter()
            assert len(client.get("/api/v1/events").raise_for_status().json()["items"]) == PAGE
            taken.append(time.perf_counter() - began)
    return median(taken)


async def fill(connection: asyncpg.Connection, size: int) -> None:
    """Put so many bursts there, and nothing else, with figures like those of the first CHIME/FRB catalogue."""
    chance = np.random.default_rng(size)
    sent = a_burst()
    burst, measured = BurstIn.model_validate(sent), MeasurementIn.model_validate(sent["measurement"])
    template = domain.create(
        domain.uploaded_burst(burst, submitted_by="craft", images=()),
        frb_id=1, observatory="TOCSIN", now=BEGAN, measured=domain.to_measured(measured),
    )  # fmt: skip
    record, summary = template.model_dump_json(), domain.summary(template)
    times = [BEGAN + timedelta(seconds=s) for s in chance.uniform(0, YEARS * 365 * 86400, size).tolist()]
    dms = chance.lognormal(np.log(500), 0.6, size).tolist()
    sns = (7.5 * (1 - chance.uniform(size=size)) ** (-1 / 1.5)).tolist()
    ras = chance.uniform(0, 360, size)
    decs = np.degrees(np.arcsin(chance.uniform(-1, 1, size)))
    cells = healpix.lonlat_to_nest29(ras, decs).tolist()
    states = chance.choice(["CANDIDATE", "CONFIRMED", "REJECTED", "WITHDRAWN"], size, p=[0.7, 0.2, 0.09, 0.01])
    votes = chance.uniform(size=(size, 3)) < [0.2, 0.1, 0.05]
    repeaters, tests, named = (chance.uniform(size=size) < share for share in (0.05, 0.1, 0.3))
    columns = (
        "id", "internal_name", "origin", "submitted_by", "is_test", "received_at", "event_time", "status", "tns_name",
        "repeater", "votes_confirm", "votes_reject", "votes_unsure", "dm_pc_cm3", "snr", "ra_deg", "dec_deg", "nest29",
        "region", "time_of_arrival_inf", "summary", "record",
    )  # fmt: skip
    rows = (
        (
            n, f"TOCSIN-FRB-{n}", "upload", "craft", bool(tests[n]), times[n], times[n], str(states[n]),
            f"FRB {times[n]:%Y%m%d}{chr(65 + n % 26)}" if named[n] else None, bool(repeaters[n]),
            *(int(vote) for vote in votes[n]), dms[n], sns[n], float(ras[n]), float(decs[n]), cells[n],
            [asyncpg.Range(cells[n] >> 20 << 20, (cells[n] >> 20) + 1 << 20)], times[n],
            json.dumps(summary | {"id": n, "dm": dms[n], "sn": sns[n], "ra": float(ras[n]), "dec": float(decs[n])}),
            record,
        )
        for n in range(size)
    )  # fmt: skip
    await connection.execute("TRUNCATE bursts CASCADE")
    copy = connection.copy_records_to_table
    await copy("bursts", schema_name="frb_intake", columns=columns, records=rows, timeout=FILL_S)
    await connection.execute("VACUUM ANALYZE bursts", timeout=FILL_S)
