"""An InfluxDB server on this machine, run from the system's `influxd` (1.x)."""

import shutil
import signal
from pathlib import Path

import httpx

from cli.stack.component import ComponentHealth, NotAvailableError
from cli.stack.process import DetachedProcess, exclusive, give_up_taken_port, remembered_port, write_atomically

DATABASE = "tocsin"

START_DEADLINE_S = 30
REQUEST_TIMEOUT_S = 3


class InfluxServer:
    """A server that listens on 127.0.0.1 and keeps its measurements in `directory`; parameters as `KafkaBroker`."""

    name = "influxdb"

    def __init__(self, directory: Path, *, port: int | None = None, preferred_port: int | None = None) -> None:
        self._directory = directory.absolute()
        self._wanted_port = port
        self._preferred_port = preferred_port
        self.process = DetachedProcess(self._directory, "influxdb")

    @property
    def address(self) -> str:
        """Base URL; the database in it is `tocsin`."""
        port = remembered_port(self._directory, "http", self._wanted_port, preferred=self._preferred_port)
        return f"http://127.0.0.1:{port}"

    def start(self) -> None:
        """Return when it answers and the database exists.

        Raises
        ------
        NotAvailableError
            There is no `influxd` on this machine.
        """
        with exclusive(self._directory / "start.lock"):
            if self.process.pid is None:
                if not (program := shutil.which("influxd")):
                    raise NotAvailableError("influxdb: influxd is not installed")
                give_up_taken_port(self._directory, "http")
                self._write_configuration()
                self.process.spawn([program, "run", "-config", self._configuration])
            self.process.wait_until_ready(lambda: influx_health(self.address).up, deadline_s=START_DEADLINE_S)
            created = httpx.post(
                f"{self.address}/query", data={"q": f'CREATE DATABASE "{DATABASE}"'}, timeout=REQUEST_TIMEOUT_S
            )
            created.raise_for_status()

    def stop(self) -> None:
        """Shut it down; what it had acknowledged is in its write-ahead log."""
        self.process.stop(signal.SIGTERM)

    def health(self) -> ComponentHealth:
        """Whether the process lives and answers `/ping`."""
        if (pid := self.process.pid) is None:
            return ComponentHealth(False, "not running")
        health = influx_health(self.address)
        return ComponentHealth(health.up, f"{health.detail}, pid {pid}")

    @property
    def _configuration(self) -> Path:
        return self._directory / "influxdb.conf"

    def _write_configuration(self) -> None:
        where = self.address.removeprefix("http://")
        data = self._directory / "data"
        write_atomically(
            self._configuration,
            f"""\
reporting-enabled = false
bind-address = "127.0.0.1:0"  # of backups, which are not taken here

[meta]
  dir = "{data / "meta"}"

[data]
  dir = "{data / "data"}"
  wal-dir = "{data / "wal"}"
  query-log-enabled = false

[monitor]
  store-enabled = false

[http]
  bind-address = "{where}"
  log-enabled = false
""",
        )


def influx_health(url: str) -> ComponentHealth:
    """Ask any generation of InfluxDB for a sign of life."""
    try:
        answer = httpx.get(f"{url.rstrip('/')}/ping", timeout=REQUEST_TIMEOUT_S)
    except httpx.HTTPError as error:
        return ComponentHealth(False, f"{url} does not answer: {error}")
    if answer.is_error:
        return ComponentHealth(False, f"{url} answers {answer.status_code}")
    return ComponentHealth(True, f"{url}, {answer.headers.get('X-Influxdb-Version', 'version unknown')}")
