"""The real console script, run as a user runs it, on a stack of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cli.stack.paths import DIRECTORY_VARIABLE, local_directory
from cli.stack.process import remembered_port
from cli.stack.services import SERVICES

SCRIPT = Path(sys.executable).with_name("tocsin")
TIMEOUT_S = 180


@dataclass(frozen=True)
class Outcome:
    """What a user sees of a command."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        assert self.code == 0, self.err
        return json.loads(self.out)

    def is_refused(self, *words: str, code: int = 2) -> bool:
        """Whether it ended with one line on stderr that holds `words`, nothing on stdout, and the exit code."""
        (line,) = self.err.splitlines()
        return self.code == code and not self.out and all(word in line for word in words)


def environment(directory: Path, **changes: str) -> dict[str, str]:
    """This process's variables, none of Tocsin's among them but those that lead to the stack in `directory`."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("TOCSIN_")}
    return {**own, DIRECTORY_VARIABLE: str(directory), "COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb", **changes}


def tocsin(*arguments: str | Path, env: Mapping[str, str]) -> Outcome:
    """Run a command to its end."""
    command = [os.fspath(SCRIPT), *map(str, arguments)]
    done = subprocess.run(
        command, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


def at_once(commands: Sequence[Sequence[str]], *, env: Mapping[str, str]) -> list[Outcome]:
    """Run commands that do not mind each other."""
    with ThreadPoolExecutor(max_workers=8) as pool:
        return list(pool.map(lambda command: tocsin(*command, env=env), commands))


def prepare_directory(directory: Path) -> Path:
    """A folder for a stack on ports of its own, which finds the broker's jars where they are cached already."""
    directory.mkdir(parents=True, exist_ok=True)
    jars = local_directory() / "kafka-jars"
    jars.mkdir(parents=True, exist_ok=True)
    (directory / "kafka-jars").symlink_to(jars)
    remembered_port(directory / "kafka", "broker")
    remembered_port(directory / "postgres", "postgres")
    remembered_port(directory / "influxdb", "http")
    for service in SERVICES:
        remembered_port(directory / "services", service)
    return directory
