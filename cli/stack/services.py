"""The services that exist, each in one line, and one of them as a background process.

A service that dies stays dead until the next `tocsin up`: `tocsin status` says so, and its log says why. Starting it
over and over would hide both. (A container engine or Kubernetes restarts it, and counts.)
"""

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from cli.stack.component import ComponentHealth
from cli.stack.process import DetachedProcess, exclusive, give_up_taken_port, remembered_port
from shared.settings import ServiceSettings, read_settings

START_DEADLINE_S = 60
STOP_DEADLINE_S = 30
REQUEST_TIMEOUT_S = 3


@dataclass(frozen=True)
class Service:
    """What the stack, the containers and the manifests must agree on about a service."""

    name: str
    http_port: int
    purpose: str


SERVICES: Mapping[str, Service] = {
    service.name: service
    for service in (
        Service("gw_listener", 8101, "hears gravitational-wave alerts and emits gw.alerts"),
        Service("skymap_parser", 8102, "parses their sky maps and emits gw.skymaps"),
        Service("frb_intake", 8000, "takes fast radio bursts from uploads and feeds and emits frb.events"),
        Service("coincidence", 8103, "compares bursts with sky maps and emits mma.coincidences"),
        Service("notifier", 8104, "tells people and machines, each thing once, and emits notices.deliveries"),
        Service("console", 8105, "shows people all of it, live, and lets them rate and mend"),
    )
}

ASKED_FOR_VISITORS = {"frb_intake", "notifier"}
# By the console, in the name of who looks at a page: they take its word on where that is.
HERE = "127.0.0.1"


def addresses(directory: Path) -> dict[str, str]:
    """Variables by which services of this machine find each other, as far as nobody has set them."""
    others = {
        name: ServiceProcess(service, directory).address for name, service in SERVICES.items() if name != "console"
    }
    variables = {
        "TOCSIN_NOTIFIER__ACCOUNTS_URL": others["frb_intake"],
        "TOCSIN_CONSOLE__INTAKE_URL": others["frb_intake"],
        "TOCSIN_CONSOLE__NOTIFIER_URL": others["notifier"],
        "TOCSIN_CONSOLE__SERVICES": json.dumps(others),
    }
    return {name: value for name, value in variables.items() if name not in os.environ}


def trusted_proxies(name: str) -> str:
    """Whose word a service of this machine takes on where a request comes from: the site's proxies', the console's."""
    given = read_settings(ServiceSettings).http.trusted_proxies
    if name not in ASKED_FOR_VISITORS or given == "*":
        return given
    return ",".join(filter(None, (given, HERE)))


class ServiceProcess:
    """`python -m services.NAME` in the background.

    Parameters
    ----------
    service
        Which one; it listens on its own port, or where that is taken at the first start, on a free one.
    directory
        Its log and pid; made when missing.
    """

    def __init__(self, service: Service, directory: Path) -> None:
        self.service = service
        self._directory = directory.absolute()
        self.process = DetachedProcess(self._directory, service.name)

    @property
    def name(self) -> str:
        """The service's name."""
        return self.service.name

    @property
    def address(self) -> str:
        """Base URL of `/healthz`, `/readyz`, `/metrics` and `/status`."""
        return f"http://{HERE}:{self._port}"

    @property
    def _port(self) -> int:
        return remembered_port(self._directory, self.name, preferred=self.service.http_port)

    def start(self, environment: Mapping[str, str]) -> None:
        """Return when the service is ready."""
        self.launch(environment)
        self.wait_until_ready()

    def launch(self, environment: Mapping[str, str]) -> None:
        """Start the process unless it runs, without waiting: services get ready side by side.

        `environment` tells it where everything is, on top of this process's own variables.
        """
        with exclusive(self._directory / f"{self.name}.lock"):
            if self.process.pid is not None:
                return
            give_up_taken_port(self._directory, self.name)
            own = {
                "TOCSIN_HTTP__PORT": str(self._port),
                "TOCSIN_HTTP__TRUSTED_PROXIES": trusted_proxies(self.name),
                "PYTHONUNBUFFERED": "1",
            }
            self.process.spawn([sys.executable, "-m", f"services.{self.name}"], {**os.environ, **environment, **own})

    def wait_until_ready(self) -> None:
        """Return when `/readyz` says yes; raise `StackError` with the log's end when it does not."""
        self.process.wait_until_ready(lambda: self.health().up, deadline_s=START_DEADLINE_S)

    def stop(self) -> None:
        """Let it finish the message in hand, commit and leave its group."""
        self.process.stop(deadline_s=STOP_DEADLINE_S)

    def health(self) -> ComponentHealth:
        """Whether the process lives and `/readyz` says yes."""
        if (pid := self.process.pid) is None:
            return ComponentHealth(False, f"not running; see {self.process.log_path}")
        try:
            answer = httpx.get(f"{self.address}/readyz", timeout=REQUEST_TIMEOUT_S)
        except httpx.HTTPError as error:
            return ComponentHealth(False, f"{self.address} does not answer: {error}, pid {pid}")
        if answer.is_error:
            return ComponentHealth(False, f"not ready: {answer.text.strip()[:200]}, pid {pid}")
        return ComponentHealth(True, f"{self.address}, pid {pid}")

    def report(self) -> dict[str, Any]:
        """What the service says of itself at `/status`; empty where it says nothing."""
        if self.process.pid is None:
            return {}
        try:
            answer = httpx.get(f"{self.address}/status", timeout=REQUEST_TIMEOUT_S)
            document = answer.json() if answer.is_success else {}
        except (httpx.HTTPError, ValueError):
            return {}
        return document if isinstance(document, dict) else {}
