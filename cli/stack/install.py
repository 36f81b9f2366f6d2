"""The programs that the stack is made of: which are missing here, and how they come here."""

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cli.stack.component import NotAvailableError, StackError
from cli.stack.postgres import postgres_binaries
from cli.stack.process import run_to_end


@dataclass(frozen=True)
class Program:
    """Something that has to be on the machine, why, and the Debian packages that bring it."""

    name: str
    why: str
    packages: tuple[str, ...]
    is_here: Callable[[], bool]


def _on_path(name: str) -> Callable[[], bool]:
    return lambda: shutil.which(name) is not None


def _postgres_is_here() -> bool:
    try:
        postgres_binaries()
    except NotAvailableError:
        return False
    return True


JAVA = Program("java", "Kafka runs on it", ("default-jre-headless",), _on_path("java"))
MAVEN = Program("mvn", "it fetches Kafka's jars", ("maven",), _on_path("mvn"))
POSTGRES = Program("postgres", "services remember there", ("postgresql",), _postgres_is_here)
INFLUX = Program("influxd", "measurements go there; optional", ("influxdb",), _on_path("influxd"))
PROGRAMS = (JAVA, MAVEN, POSTGRES, INFLUX)


def install_missing(programs: Sequence[Program], progress: Callable[[str], None]) -> tuple[Program, ...]:
    """Bring the missing programs here as far as we may; return those that are still missing.

    As root on Debian and its kin they are installed, which `progress` is told before; elsewhere `progress` is told the
    command for a person to run.
    """
    missing = tuple(program for program in programs if not program.is_here())
    if not missing:
        return ()
    reasons = "; ".join(f"{program.name} ({program.why})" for program in missing)
    packages = [package for program in missing for package in program.packages]
    install = ["apt-get", "install", "--yes", "--no-install-recommends", *packages]
    if not shutil.which("apt-get"):
        progress(f"missing: {reasons}. Install them with this system's package manager")
        return missing
    if os.geteuid() != 0:
        progress(f"missing: {reasons}. To install them run: sudo {' '.join(install)}")
        return missing
    progress(f"missing: {reasons}. Installing them: {' '.join(install)}")
    try:
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        run_to_end(["apt-get", "update", "--quiet"], purpose="update the list of packages", environment=environment)
        run_to_end(install, purpose=f"install {' '.join(packages)}", environment=environment)
    except StackError as error:
        progress(str(error))
    return tuple(program for program in missing if not program.is_here())
