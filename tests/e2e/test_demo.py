"""`tocsin demo`, on a stack of its own: what a newcomer sees first."""

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from astropy.io import fits
from bs4 import BeautifulSoup

from cli.stack.process import wait_until
from cli.stack.stack import Stack
from tests.support.command_line import SCRIPT, environment, prepare_directory, tocsin

pytestmark = pytest.mark.enable_socket  # looks for free ports


def left_running(directory: Path) -> list[str]:
    """Processes that somebody started for the stack in `directory`."""
    found = []
    for process in psutil.process_iter(["cmdline", "environ"]):
        command, variables = process.info["cmdline"] or [], process.info["environ"] or {}
        if variables.get("TOCSIN_STACK__DIRECTORY") == str(directory) or any(
            str(directory) in part for part in command
        ):
            found.append(" ".join(command))
    return found


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    directory = prepare_directory(tmp_path / "stack")
    yield directory
    tocsin("down", env=environment(directory))


def test_the_demonstration_tells_all_knows_it_all_the_second_time_and_leaves_nothing_running(directory: Path) -> None:
    first = tocsin("demo", "--once", env=environment(directory))
    assert (first.code, first.err.count("Traceback")) == (0, 0), first.err
    summary = first.out[first.out.index("What came in") :]
    rows = [line.split()[:2] for line in summary.splitlines() if line.startswith(("  MS181101ab", "  S230518h"))]
    # The update with a coincident gamma-ray burst has two maps, and so two lines.
    assert sorted(kind for name, kind in rows if name == "MS181101ab") == sorted(
        ["earlywarning", "preliminary", "initial", "update", "update", "update", "retraction"]
    )
    assert sorted(kind for name, kind in rows if name == "S230518h") == ["initial", "preliminary", "update"]
    assert "194.304, -17.857" in summary
    assert "39.8 +/- 8.3" in summary
    server = f"127.0.0.1:{(directory / 'kafka' / 'broker.port').read_text()}"
    assert f"kafka://{server}/gw.skymaps" in summary
    assert len(list((directory / "pictures").glob("*.png"))) == 9
    check_coincidence(first.out, directory)
    check_people(first.out)
    assert left_running(directory) == []

    code, second = demo_until_interrupted(directory)
    assert code == 0
    # Sent once more, recognised, and neither accepted nor published a second time.
    again = second[second.index("What came in") :]
    # But for the broken one, which is sent once as long as it waits among the dead letters.
    assert re.search(r"igwn\.gwalert +19 records", again)
    own = re.compile(r"  (gw|frb|mma)\..* records")
    assert list(filter(own.match, again.splitlines())) == list(filter(own.match, summary.splitlines()))
    assert told_of_pair(again) == told_of_pair(summary)
    assert "stopping" in again
    assert wait_until(lambda: left_running(directory) == [], 5), left_running(directory)


def check_coincidence(told: str, directory: Path) -> None:
    """The burst beside the mock merger is announced with its scores and files, and taken back with the merger."""
    pair = told[told.index("announced, ") : told.index("7  Taking")]
    # 2.4 s after the merger, dedispersed; within the time of travel to the geocentre that nobody knows.
    assert "+2.40 s, in the narrow window" in pair
    name = told_of_pair(told)[0].split()[0]
    kept = directory / "coincidences"
    assert os.path.relpath(kept / f"{name}-1.json") in pair
    notice = json.loads((kept / f"{name}-1.json").read_bytes())
    assert (notice["alert_type"], notice["alert_tense"], notice["ref_ID"]) == ("initial", "test", "MS181101ab")
    assert fits.getheader(kept / f"{name}-1.multiorder.fits", 1)["PIXTYPE"] == "HEALPIX"
    assert [line.split()[1:3] for line in told_of_pair(told)] == [["1", "initial"], ["2", "retraction"]]


def check_people(told: str) -> None:
    """Votes, a dead letter, and notices on every example channel, none of which left."""
    people = told[told.index("8  Voting") : told.index("What came in")]
    assert people.count(": confirm") == 2
    assert "it waits in igwn.gwalert.dlq.gw_listener" in people
    for channel in ("mail", "partner", "slack", "tns", "voevent"):
        assert re.search(rf"^  {channel} +.*\d+ dry run", people, re.MULTILINE), people
    assert re.search(r"^  kafka +\d+ confirmed$", people, re.MULTILINE), people


def check_pages(told: str) -> None:
    """Every page is there for who has the address, name and password that the demonstration tells, and has content."""
    found = re.search(r"^  (http://127\.0\.0\.1:\d+)\n  log in as (\S+) with the password (\S+)$", told, re.MULTILINE)
    assert found is not None, told[-500:]
    address, name, password = found.groups()
    pair = told_of_pair(told)[0].split()[0]
    partner = pair.partition("-")[2]
    content = {
        "/": ["MS181101ab", pair],
        "/gw": ["MS181101ab", "S230518h"],
        "/gw/MS181101ab": ["etracted"],
        "/gw/S230518h": ["<svg"],
        "/frb": [f"/frb/{partner}", "/frb/1"],
        "/frb/1": ["nothing like it off the source", "411", "410.62"],
        f"/frb/{partner}": ["MS181101ab"],
        "/mma": [pair],
        f"/mma/{pair}": ["etracted", "<svg"],
        "/system": ["igwn.gwalert.dlq.gw_listener", "skymap_parser"],
        "/help": ["False alarms"],
    }
    with httpx.Client(base_url=address, timeout=30) as browser:
        code = re.search(r'name="csrf" value="([0-9a-f]+)"', browser.get("/login").text)
        assert code is not None
        answer = browser.post("/login", data={"name": name, "password": password, "csrf": code[1], "next": "/"})
        assert answer.status_code == 303, answer.text
        for path, expected in content.items():
            page = browser.get(path)
            assert page.status_code == 200, (path, page.text)
            assert name in page.text, path
            for text in expected:
                assert text in page.text, (path, text)
            empty = BeautifulSoup(page.text, "html.parser").select(".empty:not([hidden])")
            # One event may have no coincidence; a list has lines.
            assert path not in ("/", "/gw", "/frb", "/mma") or [each.text for each in empty] == [], path


def told_of_pair(told: str) -> list[str]:
    """The lines about the records on mma.coincidences."""
    _, _, rest = told.partition("What was told of the pair on mma.coincidences\n")
    return rest.split("\n\n", 1)[0].splitlines()


def demo_until_interrupted(directory: Path) -> tuple[int, str]:
    """Run the demonstration until it waits for Ctrl-C, and press that; return the exit code and what it told."""
    with subprocess.Popen(
        [str(SCRIPT), "demo"],
        env=environment(directory),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as demo:
        assert demo.stdout is not None
        told = ""
        for line in demo.stdout:
            told += line
            if "Ctrl-C stops everything" in line:
                break
        try:
            assert all(health.up for name, health in Stack(directory).status().items() if name != "influxdb"), told
            check_pages(told)
        except AssertionError:
            demo.kill()
            raise
        # As good as Ctrl-C, which comes when a key is pressed.
        demo.send_signal(signal.SIGTERM)
        rest, _ = demo.communicate(timeout=60)
    assert "Traceback" not in told + rest
    return demo.returncode, told + rest
