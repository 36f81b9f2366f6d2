"""The Dockerfile and the compose file, checked without an engine."""

import re
import subprocess
import sys
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import yaml

from cli.stack.services import ASKED_FOR_VISITORS, SERVICES
from shared.settings import MAX_MESSAGE_BYTES

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker-compose.yml"
TOOLS = Path(sys.executable).parent


def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())
    return loaded


def run(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_compose_file_follows_the_compose_specification() -> None:
    run(TOOLS / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", COMPOSE)


def test_the_dockerfile_has_nothing_that_hadolint_warns_of() -> None:
    run(TOOLS / "hadolint", ROOT / "Dockerfile")


def test_every_service_has_a_container_on_its_own_port() -> None:
    containers = compose()["services"]
    for name, service in SERVICES.items():
        container = containers[name]
        assert container["build"]["args"]["SERVICE"] == name
        assert container["environment"]["TOCSIN_HTTP__PORT"] == service.http_port
        assert container["ports"] == [f"127.0.0.1:{service.http_port}:{service.http_port}"]


def test_nothing_but_the_services_and_what_they_stand_on_is_composed() -> None:
    servers = {"kafka", "postgres", "influxdb", "grafana"}
    steps = {"topics", "migrate"}
    assert compose()["services"].keys() == SERVICES.keys() | servers | steps


def test_services_wait_for_topics_and_migrations_and_these_for_healthy_servers() -> None:
    containers = compose()["services"]
    for name in SERVICES:
        conditions = {what: how["condition"] for what, how in containers[name]["depends_on"].items()}
        assert conditions == dict.fromkeys(("topics", "migrate"), "service_completed_successfully")
    for step, server in (("topics", "kafka"), ("migrate", "postgres")):
        assert containers[step]["depends_on"] == {server: {"condition": "service_healthy"}}
        assert "healthcheck" in containers[server]


def test_ports_are_open_to_this_machine_only() -> None:
    for container in compose()["services"].values():
        assert all(port.startswith("127.0.0.1:") for port in container.get("ports", []))


def test_the_console_is_believed_on_who_asks_and_has_an_address_that_nobody_else_gets() -> None:
    containers = compose()["services"]
    (network,) = compose()["networks"]["default"]["ipam"]["config"]
    console = containers["console"]["networks"]["default"]["ipv4_address"]
    assert ip_address(console) in ip_network(network["subnet"])
    assert ip_address(console) not in ip_network(network["ip_range"])
    trusted = {name: each["environment"].get("TOCSIN_HTTP__TRUSTED_PROXIES") for name, each in containers.items()}
    believing = dict.fromkeys(ASKED_FOR_VISITORS, f"${{TOCSIN_TRUSTED_PROXIES:-{console}}}")
    assert {name: proxies for name, proxies in trusted.items() if proxies} == believing


def test_the_composed_broker_carries_what_the_services_send() -> None:
    environment = compose()["services"]["kafka"]["environment"]
    assert environment["KAFKA_MESSAGE_MAX_BYTES"] == environment["KAFKA_REPLICA_FETCH_MAX_BYTES"] == MAX_MESSAGE_BYTES
    assert environment["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"


def test_images_are_pinned() -> None:
    for name, container in compose()["services"].items():
        if "build" not in container:
            assert re.search(r":\d", container["image"]), name


def test_the_image_installs_with_the_uv_of_the_lock() -> None:
    (in_image,) = re.findall(r"^ARG UV_VERSION=(\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert f"uv=={in_image} " in (ROOT / "requirements.lock").read_text()


def test_every_service_has_an_extra_for_its_image() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    for name in SERVICES:
        assert re.search(rf"^{name} = \[", project, re.MULTILINE)
