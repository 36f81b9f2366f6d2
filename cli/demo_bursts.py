"""The part of `tocsin demo` about fast radio bursts: one sent as a telescope sends it, notices as GCN sends them."""

import asyncio
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from cli.database import fetch
from cli.environment import settings
from cli.replay import publish
from services.frb_intake.accounts import Role, add_user, create_token, list_users
from shared.db.pool import connect
from shared.errors import TocsinError

_SAMPLES = Path(__file__).parents[1] / "samples"
UPLOAD = _SAMPLES / "frb" / "upload"
RADIO_YAML, OBSERVATION_YAML = UPLOAD / "radio_example.yaml", UPLOAD / "observation_example.yaml"
REFINED_YAML = UPLOAD / "radio_refined.yaml"
NOTICES = [_SAMPLES / "gcn" / f"chime-frb-{kind}.json" for kind in ("detection", "subsequent", "update")]
CATALOGUE = _SAMPLES / "frb" / "catalogue" / "chimefrbcat1.csv"
CATALOGUE_BURSTS = 7
DEADLINE_S = 60.0
USER = "demo"
_STORED = """
SELECT burst.id, summary->>'origin' AS origin, summary->>'status' AS status, summary->>'time_of_arrival' AS arrived,
       (summary->>'dm')::float8 AS dm, (summary->>'ra')::float8 AS ra, (summary->>'dec')::float8 AS dec,
       (summary->>'dm_excess')::float8 AS excess, (summary->>'redshift_mean')::float8 AS redshift,
       EXTRACT(epoch FROM event_time - time_of_arrival_inf)::float8 AS delay_s
FROM frb_intake.bursts AS burst ORDER BY id DESC LIMIT $1
"""


class UploadFailedError(TocsinError):
    """`tocsin frb upload` ended with an error."""


class NoticesLostError(TocsinError):
    """Not all bursts of the notices came to be known in time."""


def send_burst(server: str, say: Callable[[str], None], *, radio_yaml: Path = RADIO_YAML) -> int:
    """Send a burst, the sample unless told, with the command that people use; return its id.

    Raises
    ------
    UploadFailedError
        The command failed.
    """
    return _upload(
        ["--test", "--radio-yaml", radio_yaml, "--observation-yaml", OBSERVATION_YAML], server=server, say=say
    )


def measure_again(burst_id: int, server: str, say: Callable[[str], None]) -> None:
    """Send what a closer look at the sample burst measured.

    Raises
    ------
    UploadFailedError
        The command failed.
    """
    _upload(["--update", str(burst_id), "--radio-yaml", REFINED_YAML], server=server, say=say)


def _upload(options: Sequence[str | Path], *, server: str, say: Callable[[str], None]) -> int:
    shown = [os.path.relpath(option) if isinstance(option, Path) else option for option in options]
    say(f"  $ tocsin frb upload {' '.join(shown)}")
    command = [sys.executable, "-c", "from cli.main import main; main()", "frb", "upload", "--server", server]
    done = subprocess.run(  # noqa: S603  (our own command)
        [*command, *options],
        env={**os.environ, "FRB_TOKEN": asyncio.run(_token())},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    for line in done.stderr.splitlines():
        say(f"    {line}")
    if done.returncode:
        raise UploadFailedError(f"tocsin frb upload ended with {done.returncode}")
    say(f"  {done.stdout.strip()}")
    return int(done.stdout)


def send_notices(say: Callable[[str], None]) -> None:
    """Send notices of CHIME as GCN does, and the first bursts of its catalogue; return when all are known.

    Raises
    ------
    NoticesLostError
        Not within a minute.
    """
    kafka = settings().kafka
    asyncio.run(publish(NOTICES, kafka=kafka))
    asyncio.run(publish([CATALOGUE], kafka=kafka, limit=CATALOGUE_BURSTS))
    expected = 2 + CATALOGUE_BURSTS  # the update is of the first
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        known = fetch("SELECT count(*) AS known FROM frb_intake.bursts WHERE origin = 'CHIME'")[0]["known"]
        if known >= expected:
            say(f"  {known} bursts of CHIME are known")
            return
        time.sleep(0.2)
    raise NoticesLostError(f"{known} of {expected} bursts are known after {DEADLINE_S:.0f} s; see `tocsin dlq list`")


def table(limit: int) -> list[str]:
    """Return the newest bursts as lines of a table."""
    lines = [
        f"{'id':>5} {'origin':<8} {'arrived (UTC)':<27} {'RA, Dec (deg)':<18} {'DM':>7} {'delay (s)':>9}"
        f" {'excess DM':>9} {'z by it':>7} status"
    ]
    for row in fetch(_STORED, limit):
        place = f"{row['ra']:.3f}, {row['dec']:+.3f}" if row["ra"] is not None else "unknown"
        dm, delay_s, excess = (_number(row["dm"], 1), _number(row["delay_s"], 3), _number(row["excess"], 1))
        lines.append(
            f"{row['id']:>5} {row['origin']:<8} {row['arrived'] or 'unknown':<27} {place:<18} {dm:>7} {delay_s:>9}"
            f" {excess:>9} {_number(row['redshift'], 2):>7} {row['status']}"
        )
    return lines


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


async def _token() -> str:
    """Return a new token of the demonstration's own account."""
    async with connect(settings().database, "frb_intake") as connection:
        if not any(user["name"] == USER for user in await list_users(connection)):
            roles = [Role.SUBMIT, Role.RATE]
            # Nobody knows the password: the account is for tokens.
            await add_user(connection, name=USER, roles=roles, password=secrets.token_urlsafe())
        return await create_token(connection, name=USER, expires_at=None)
