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
    """Something that has to be on the machine, why, and the Debian packages that bring it.

    Attributes
    ----------
    is_optional
        Without it something less is done, which says so.
    """

    name: str
    why: str
    packages: tuple[str, ...]
    is_here: Callable[[], bool]
    is_optional: bool = False


def _on_path(name: str) -> Callable[[], bool]:
    return lambda: shutil.which(name) is not None


def find_chromium() -> str | None:
    """Return the path of a browser of that family, by the names that it has."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return next((path for name in names if (path := shutil.which(name))), None)


def _postgres_is_here() -> bool:
    try:
        postgres_binaries()
    except NotAvailableError:
        return False
    return True


JAVA = Program("java", "Kafka runs on it", ("default-jre-headless",), _on_path("java"))
MAVEN = Program("mvn", "it fetches Kafka's jars", ("maven",), _on_path("mvn"))
POSTGRES = Program("postgres", "services remember there", ("postgresql",), _postgres_is_here)
INFLUX = Program("influxd", "measurements go there; optional", ("influxdb",), _on_path("influxd"), is_optional=True)
CHROMIUM = Program(
    "chromium", "tests use the console in it; optional", ("chromium",), lambda: find_chromium() is not None,
    is_optional=True,
)  # fmt: skip
PROGRAMS = (JAVA, MAVEN, POSTGRES, INFLUX, CHROMIUM)


def install_missing(programs: Sequence[Program], progress: Callable[[str], None]) -> tuple[Program, ...]:
    """Bring the missing programs here as far as we may; return those that are still missing.

    As root on Debian and its kin they are installed, which `progress` is told before; elsewhere `progress` is told the
    command for a person to run.
    """
    missing = tuple(program for program in programs if not program.is_here())
    if not missing:
        return ()
    reasons = "; ".join(f"{program.name} ({program.why})" for program in missing)
    install = _install(missing)
    if not shutil.which("apt-get"):
        progress(f"missing: {reasons}. Install them with this system's package manager")
        return missing
    if os.geteuid() != 0:
        progress(f"missing: {reasons}. To install them run: sudo {' '.join(install)}")
        return missing
    progress(f"missing: {reasons}. Installing them: {' '.join(install)}")
    # An optional package that this system does not know must not keep the others away.
    batches = [[program for program in missing if not program.is_optional]]
    batches += [[program] for program in missing if program.is_optional]
    for command in (["apt-get", "update", "--quiet"], *(_install(batch) for batch in batches if batch)):
        try:
            environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
            run_to_end(command, purpose=f"run {' '.join(command)}", environment=environment)
        except StackError as error:
            progress(str(error))
    return tuple(program for program in missing if not program.is_here())


def _install(programs: Sequence[Program]) -> list[str]:
    packages = [package for program in programs for package in program.packages]
    return ["apt-get", "install", "--yes", "--no-install-recommends", *packages]
