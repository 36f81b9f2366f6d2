"""The part of `tocsin demo` about people: who is told, who votes, who looks at it, and what waits to be mended."""

import asyncio
import os
import secrets
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import yaml

from cli.database import fetch
from cli.environment import settings
from cli.replay import publish
from cli.stack.paths import local_directory
from cli.stack.services import SERVICES, ServiceProcess
from services.frb_intake.accounts import Role, add_user, create_token, list_users
from services.gw_listener.sources import ALERT_TOPIC
from shared.db.pool import connect
from shared.errors import TocsinError
from shared.inbox.dead_letter_desk import waiting_counts
from shared.schema.topics import dead_letter_topic

CONFIG_VARIABLE = "TOCSIN_CONFIG"
OBSERVER, SECOND = "observer", "demo"
DEADLINE_S = 60.0
TOKEN_HOLDS = timedelta(minutes=10)
BROKEN_BYTES = 4000
# Of an alert: its schema and not much else.
WITHOUT_AGE_H = 1e6
# The samples are of 2018 and 2023, which is no news elsewhere.
EXAMPLES: list[dict[str, Any]] = [
    {"kind": "slack", "name": "slack"},
    {"kind": "tns", "name": "tns", "when": "immediately"},
    {"kind": "voevent", "name": "voevent", "institute": "observatory.example", "instrument": "telescope"},
    {"kind": "gcn", "name": "kafka", "mode": "SANDBOX"},
    {"kind": "email", "name": "mail"},
    {"kind": "webhook", "name": "partner", "secret": "whsec_YSBzZWNyZXQgZm9yIHRyaWFscywgbm90IGZvciB1c2U="},
]
# All but one in DRY_RUN: written, kept, and sent to nobody. The one writes to the own broker.
_WAITING = """
SELECT count(*) FILTER (WHERE state IN ('PENDING', 'SENDING')) AS waiting,
       count(DISTINCT revision) FILTER (WHERE subject = $1) AS told
FROM notifier.deliveries
"""


class NotToldError(TocsinError):
    """The notifier did not come to an end in time."""


def use_examples(directory: Path) -> bool:
    """Have the notifier tell example channels, unless it runs already or somebody has settings of their own.

    Must come before the services start.
    """
    notifier = ServiceProcess(SERVICES["notifier"], directory / "services")
    if CONFIG_VARIABLE in os.environ or notifier.process.pid is not None:
        return False
    console = ServiceProcess(SERVICES["console"], directory / "services")
    section = {
        "site_url": console.address,
        "max_age_h": WITHOUT_AGE_H,
        "channels": EXAMPLES,
        "rules": [{"channel": channel["name"]} for channel in EXAMPLES],
    }
    path = _folder() / "tocsin.yaml"
    path.write_text(yaml.safe_dump({"notifier": section}, sort_keys=False), "utf-8")
    os.environ[CONFIG_VARIABLE] = str(path)
    return True


def make_account() -> str | None:
    """Make the account of whoever looks, unless it is there, and return its password if anybody knows it."""
    return asyncio.run(_make_account())


async def _make_account() -> str | None:
    known = _folder() / f"{OBSERVER}.password"
    async with connect(settings().database, "frb_intake") as connection:
        names = {user["name"] for user in await list_users(connection)}
        if OBSERVER in names:
            return known.read_text("utf-8") if known.exists() else None
        password = secrets.token_urlsafe(9)
        await add_user(connection, name=OBSERVER, roles=list(Role), password=password)
    known.touch(mode=0o600)
    known.write_text(password, "utf-8")
    return password


def vote(server: str, burst_id: int, partner_id: int, say: Callable[[str], None]) -> None:
    """Have two people vote on the bursts of the demonstration."""
    votes = [
        (OBSERVER, burst_id, "confirm", "in three beams, and nothing like it off the source"),
        (SECOND, burst_id, "confirm", None),
        (OBSERVER, partner_id, "unsure", "simulated from the wave's map"),
    ]
    known = {(row["rater"], row["burst_id"]) for row in fetch("SELECT rater, burst_id FROM frb_intake.ratings")}
    for name, frb_id, rating, note in votes:
        if (name, frb_id) in known:
            say(f"  {name} has voted on burst {frb_id}")
            continue
        httpx.post(
            f"{server}/api/v1/events/{frb_id}/ratings",
            json={"rating": rating, "note": note},
            headers={"Authorization": f"Bearer {asyncio.run(_token(name))}"},
            timeout=DEADLINE_S,
        ).raise_for_status()
        say(f"  {name} on burst {frb_id}: {rating}" + (f" ({note})" if note else ""))


def send_broken(alert: Path, say: Callable[[str], None]) -> None:
    """Send an alert that breaks off, unless one of before still waits among the dead letters; return when it does.

    Raises
    ------
    NotToldError
        Not within a minute.
    """
    kafka, letters = settings().kafka, dead_letter_topic(ALERT_TOPIC, "gw_listener")
    if waiting_counts(kafka)[letters] == 0:
        broken = _folder() / "broken.avro"
        broken.write_bytes(alert.read_bytes()[:BROKEN_BYTES])
        asyncio.run(publish([broken], kafka=kafka, check=False))
    end = time.monotonic() + DEADLINE_S
    while waiting_counts(kafka)[letters] == 0:
        if time.monotonic() > end:
            raise NotToldError(f"{letters} is empty after {DEADLINE_S:.0f} s; look at `tocsin status`")
        time.sleep(0.3)
    say(f"  it waits in {letters}, with the reason, to be sent again or dropped")


def wait_told(pair: str) -> None:
    """Return when the example channels have been told of everything, up to the retraction of a pair.

    Raises
    ------
    NotToldError
        Not within a minute.
    """
    end = time.monotonic() + DEADLINE_S
    while True:
        (row,) = fetch(_WAITING, f"mma/{pair}")
        if row["told"] >= 2 and row["waiting"] == 0:
            return
        if time.monotonic() > end:
            raise NotToldError(f"{row['waiting']} notices wait after {DEADLINE_S:.0f} s; see `tocsin notices list`")
        time.sleep(0.1)


def deliveries() -> list[str]:
    """Return what became of the notices on each channel, as lines."""
    rows = fetch(
        "SELECT channel, string_agg(number || ' ' || what, ', ' ORDER BY number DESC) AS what FROM ("
        " SELECT channel, count(*) AS number, coalesce(split_part(reason, ';', 1), lower(state)) AS what"
        " FROM notifier.deliveries GROUP BY channel, what) AS counted GROUP BY channel ORDER BY channel"
    )
    return [f"{row['channel']:<8} {row['what']}" for row in rows]


async def _token(name: str) -> str:
    async with connect(settings().database, "frb_intake") as connection:
        return await create_token(connection, name=name, expires_at=datetime.now(UTC) + TOKEN_HOLDS)


def _folder() -> Path:
    folder = local_directory() / "demo"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
