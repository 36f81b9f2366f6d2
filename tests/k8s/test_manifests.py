"""The manifests, checked without a cluster: well formed, complete, and saying what the code says."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from cli import k8s
from cli.docs import SETTINGS
from cli.stack.services import SERVICES
from services.frb_intake.settings import FrbIntakeSettings
from shared.schema.topics import dead_letter_topics, load_topics
from shared.settings import MAX_MESSAGE_BYTES

Manifest = dict[str, Any]

FOLDER = Path(__file__).parents[2] / "k8s"
KUSTOMIZATIONS = ("base", "overlays/dev", "overlays/prod")

SECRETS_BY_OPERATORS = {"tocsin-cluster-ca-cert", "tocsin-postgres-app", *map(k8s.kubernetes_name, SERVICES)}
# Strimzi makes the first and one for every KafkaUser, CloudNativePG the second.
SECRETS_BY_PEOPLE = {
    "tocsin-blob-store",
    "gw-listener-sources",
    "frb-intake-feeds",
    "notifier-channels",
    "console-settings",
    "frb-intake-tls",
    "console-tls",
}
# Optional but for the last two; documented where they are referred to.

KUBERNETES_VERSION = "1.37"


def documents(path: Path) -> list[Manifest]:
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def kustomization(name: str) -> Manifest:
    (found,) = documents(FOLDER / name / "kustomization.yaml")
    return found


@cache
def base() -> tuple[Manifest, ...]:
    return tuple(
        document
        for resource in kustomization("base")["resources"]
        for document in documents(FOLDER / "base" / resource)
    )


@cache
def rendered(name: str) -> tuple[Manifest, ...]:
    if not shutil.which("kubectl"):
        pytest.skip("kubectl, which renders kustomizations, is not installed")
    command = ["kubectl", "kustomize", str(FOLDER / name)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return tuple(yaml.safe_load_all(done.stdout))


def identity(manifest: Manifest) -> tuple[str, str, str]:
    return manifest["apiVersion"], manifest["kind"], manifest["metadata"]["name"]


def of_kind(kind: str) -> dict[str, Manifest]:
    return {manifest["metadata"]["name"]: manifest for manifest in base() if manifest["kind"] == kind}


def crd_schema(manifest: Manifest) -> Manifest | None:
    group = manifest["apiVersion"].partition("/")[0]
    path = FOLDER / "crd-schemas" / f"{group}.{manifest['kind']}.json".lower()
    return json.loads(path.read_text()) if path.exists() else None


def validate(manifest: Manifest) -> None:
    schema = crd_schema(manifest)
    if schema:
        jsonschema.Draft202012Validator(schema).validate(manifest)
    else:
        kubernetes_validate.validate(manifest, KUBERNETES_VERSION, strict=True)


def values(node: object, key: str) -> Iterator[Any]:
    """Every value of `key`, however deep."""
    if isinstance(node, dict):
        for name, value in node.items():
            if name == key:
                yield value
            yield from values(value, key)
    elif isinstance(node, list):
        for item in node:
            yield from values(item, key)


@pytest.mark.parametrize("manifest", base(), ids=lambda manifest: "/".join(identity(manifest)[1:]))
def test_a_manifest_of_the_base_follows_its_schema(manifest: Manifest) -> None:
    validate(manifest)


@pytest.mark.parametrize("name", KUSTOMIZATIONS)
def test_what_kustomize_renders_follows_the_schemas(name: str) -> None:
    for manifest in rendered(name):
        validate(manifest)
        assert manifest["kind"] == "Namespace" or manifest["metadata"]["namespace"] == "tocsin"


def test_a_misspelt_field_would_be_found() -> None:
    topic = next(iter(of_kind("KafkaTopic").values()))
    deployment = next(iter(of_kind("Deployment").values()))
    for manifest in (topic, deployment):
        with pytest.raises((jsonschema.ValidationError, kubernetes_validate.ValidationError)):
            validate({**manifest, "spec": {**manifest["spec"], "partitionz": 1}})


def test_the_base_lists_every_file_once() -> None:
    listed = kustomization("base")["resources"]
    there = {str(path.relative_to(FOLDER / "base")) for path in (FOLDER / "base").rglob("*.yaml")}
    assert sorted(listed) == sorted(there - {"kustomization.yaml"})


def test_no_object_of_the_base_is_defined_twice() -> None:
    names = [identity(manifest) for manifest in base()]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("overlay", ["overlays/dev", "overlays/prod"])
def test_an_overlay_patches_only_what_the_base_has(overlay: str) -> None:
    described = kustomization(overlay)
    assert described["resources"] == ["../../base"]
    patches = [patch["path"] for patch in described["patches"]]
    there = {path.name for path in (FOLDER / overlay).glob("*.yaml")} - {"kustomization.yaml"}
    assert sorted(patches) == sorted(there)
    known = {identity(manifest) for manifest in base()}
    for patch in patches:
        for manifest in documents(FOLDER / overlay / patch):
            assert identity(manifest) in known
    assert {image["name"] for image in described["images"]} == {f"tocsin/{name}" for name in SERVICES}


@pytest.mark.parametrize(("name", "make"), k8s.MANIFESTS.items())
def test_what_is_generated_from_the_topic_files_is_in_step_with_them(name: str, make: Any) -> None:
    assert (k8s.KAFKA_FOLDER / name).read_text() == make(), "run `make docs`"


def test_every_service_is_deployed_on_its_own_port_and_no_other() -> None:
    names = {k8s.kubernetes_name(name): service for name, service in SERVICES.items()}
    assert of_kind("Deployment").keys() == of_kind("Service").keys() == names.keys()
    for name, service in names.items():
        pod = of_kind("Deployment")[name]["spec"]["template"]
        (container,) = pod["spec"]["containers"]
        (migration,) = pod["spec"]["initContainers"]
        variables = {variable["name"]: variable.get("value") for variable in container["env"]}
        assert container["image"] == migration["image"] == f"tocsin/{service.name}"
        assert migration["command"] == ["tocsin", "migrate", service.name]
        assert container["ports"] == [{"name": "http", "containerPort": service.http_port}]
        assert variables["TOCSIN_HTTP__PORT"] == str(service.http_port)
        assert pod["metadata"]["annotations"]["prometheus.io/port"] == str(service.http_port)
        assert of_kind("Service")[name]["spec"]["ports"][0]["port"] == service.http_port


def test_every_service_is_scaled_by_one_thing_and_never_to_zero() -> None:
    scaled, autoscaled = of_kind("ScaledObject"), of_kind("HorizontalPodAutoscaler")
    assert sorted([*scaled, *autoscaled]) == sorted(map(k8s.kubernetes_name, SERVICES))
    assert all(scaler["spec"]["minReplicaCount"] >= 1 for scaler in scaled.values())
    assert all(scaler["spec"]["minReplicas"] >= 1 for scaler in autoscaled.values())
    for name, scaler in {**scaled, **autoscaled}.items():
        assert scaler["spec"]["scaleTargetRef"]["name"] == name
        assert "replicas" not in of_kind("Deployment")[name]["spec"], "two would set it by turns"


def test_liveness_asks_for_the_loop_and_readiness_for_more() -> None:
    for deployment in of_kind("Deployment").values():
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
        assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"


def test_containers_are_confined_and_bounded() -> None:
    for deployment in of_kind("Deployment").values():
        pod = deployment["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"]
        for container in (*pod["containers"], *pod["initContainers"]):
            assert container["securityContext"]["readOnlyRootFilesystem"]
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert "memory" in container["resources"]["limits"]


def test_secrets_are_referred_to_and_never_written_down() -> None:
    assert not of_kind("Secret")
    referred = {reference["name"] for reference in values(list(base()), "secretKeyRef")}
    referred |= {reference["name"] for reference in values(list(base()), "secretRef")}
    referred |= set(values(list(base()), "secretName"))
    referred |= {item["name"] for items in values(list(base()), "secretTargetRef") for item in items}
    assert referred == SECRETS_BY_OPERATORS | SECRETS_BY_PEOPLE
    assert all(ref["optional"] for ref in values(list(base()), "secretRef") if ref["name"] in SECRETS_BY_PEOPLE)


def test_readers_are_scaled_by_the_lag_of_all_that_they_read_and_not_beyond_its_partitions() -> None:
    topics = {topic.name: topic for topic in load_topics()}
    for name, scaled in of_kind("ScaledObject").items():
        spec = scaled["spec"]
        triggers = [trigger["metadata"] for trigger in spec["triggers"]]
        read = {
            topic.name
            for topic in topics.values()
            if k8s.kubernetes_name(name) in map(k8s.kubernetes_name, topic.consumers)
        }
        assert spec["maxReplicaCount"] <= max(topics[trigger["topic"]].partitions for trigger in triggers)
        assert {trigger["topic"] for trigger in triggers} == read
        assert {k8s.kubernetes_name(trigger["consumerGroup"]) for trigger in triggers} == {name}
        assert all(
            trigger["authenticationRef"]["name"] in of_kind("TriggerAuthentication") for trigger in spec["triggers"]
        )


def test_kafka_in_the_cluster_carries_what_the_services_send() -> None:
    config = of_kind("Kafka")["tocsin"]["spec"]["kafka"]["config"]
    assert config["message.max.bytes"] == config["replica.fetch.max.bytes"] == MAX_MESSAGE_BYTES
    assert config["auto.create.topics.enable"] is False


def test_everything_is_closed_but_for_what_is_named() -> None:
    policies = of_kind("NetworkPolicy")
    closed = policies["default-deny"]["spec"]
    assert closed == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    clusters = {"strimzi.io/cluster": of_kind("Kafka"), "cnpg.io/cluster": of_kind("Cluster")}
    for labels in values(list(policies.values()), "matchLabels"):
        for label, known in clusters.items():
            assert label not in labels or labels[label] in known


def reached_by(ingress: Manifest) -> dict[str, str]:
    return {path["path"]: path["pathType"] for paths in values(ingress, "paths") for path in paths}


def test_the_world_reaches_every_page_of_the_console_and_nothing_that_is_for_operators() -> None:
    ingress = of_kind("Ingress")["console"]
    reached = reached_by(ingress)
    prefixes = {path for path, kind in reached.items() if kind == "Prefix"}

    def is_reached(path: str) -> bool:
        return path in reached or any(path.startswith(f"{prefix}/") for prefix in prefixes)

    files = sorted((FOLDER.parent / "services" / "console" / "pages").glob("*.py"))
    ways = re.compile(r'@router\.\w+\("([^"]+)"')
    pages = [page for file in files for page in ways.findall(file.read_text("utf-8"))]
    assert {"/", "/live", "/static/{name}"} <= {*pages}
    assert [page for page in pages if not is_reached(page)] == []
    assert [path for path in ("/metrics", "/status", "/healthz", "/readyz") if is_reached(path)] == []
    assert {service["name"] for service in values(ingress, "service")} == {"console"}
    assert ingress["spec"]["tls"]


def test_the_console_asks_the_services_where_they_are() -> None:
    (container,) = of_kind("Deployment")["console"]["spec"]["template"]["spec"]["containers"]
    variables = {variable["name"]: variable.get("value") for variable in container["env"]}
    there = {
        name: f"http://{k8s.kubernetes_name(name)}:{service.http_port}"
        for name, service in SERVICES.items()
        if name != "console"
    }
    assert json.loads(variables["TOCSIN_CONSOLE__SERVICES"]) == there
    assert variables["TOCSIN_CONSOLE__INTAKE_URL"] == there["frb_intake"]
    assert variables["TOCSIN_CONSOLE__NOTIFIER_URL"] == there["notifier"]
    (egress,) = of_kind("NetworkPolicy")["console"]["spec"]["egress"]
    assert {port["port"] for port in egress["ports"]} == {
        service.http_port for name, service in SERVICES.items() if name != "console"
    }


def test_the_notifier_asks_the_intake_who_somebody_is() -> None:
    (container,) = of_kind("Deployment")["notifier"]["spec"]["template"]["spec"]["containers"]
    variables = {variable["name"]: variable.get("value") for variable in container["env"]}
    assert variables["TOCSIN_NOTIFIER__ACCOUNTS_URL"] == f"http://frb-intake:{SERVICES['frb_intake'].http_port}"


def test_the_world_reaches_the_doors_of_the_intake_and_nothing_that_is_for_operators() -> None:
    ingress = of_kind("Ingress")["frb-intake"]
    reached = reached_by(ingress)
    compatible = ("/observation_create/", "/frbevent_create/", "/radio_measurement_create/")
    slack = ("/slack_get_rating/", "/slack/interactions")
    whole = {"/api/v1": "Prefix", "/media/candidates": "Prefix"}
    assert reached == dict.fromkeys([*compatible, *slack, "/openapi.json"], "Exact") | whole
    assert {service["name"] for service in values(ingress, "service")} == {"frb-intake"}
    assert ingress["spec"]["tls"]


def test_the_proxy_takes_what_the_intake_takes() -> None:
    ingress = of_kind("Ingress")["frb-intake"]
    limit = ingress["metadata"]["annotations"]["nginx.ingress.kubernetes.io/proxy-body-size"]
    assert int(limit.removesuffix("m")) * 2**20 >= FrbIntakeSettings().frb_intake.max_body_bytes


def test_settings_in_the_cluster_are_settings_of_the_services() -> None:
    for_all = set(of_kind("ConfigMap")["tocsin-settings"]["data"])
    for name, settings in SETTINGS.items():
        deployment = of_kind("Deployment")[k8s.kubernetes_name(name)]
        own = {variable["name"] for variables in values(deployment, "env") for variable in variables}
        for variable in for_all | own:
            section, _, key = variable.removeprefix("TOCSIN_").lower().partition("__")
            model = settings.model_fields[section].annotation
            assert key in model.model_fields, (name, variable)  # type: ignore[union-attr]


def test_what_is_inside_of_the_cluster_is_believed_on_where_requests_come_from() -> None:
    """The proxy and the console; nothing else inside reaches the doors, and nobody outside is believed."""
    trusted = of_kind("ConfigMap")["tocsin-settings"]["data"]["TOCSIN_HTTP__TRUSTED_PROXIES"]
    assert all(ip_network(network).is_private for network in trusted.split(","))


def test_the_console_looks_into_every_topic_and_writes_only_where_dead_letters_go_back_to() -> None:
    rights = of_kind("KafkaUser")["console"]["spec"]["authorization"]["acls"]
    operations = {right["resource"]["name"]: set(right["operations"]) for right in rights}
    read = {name for name, allowed in operations.items() if "Read" in allowed}
    written = {name for name, allowed in operations.items() if "Write" in allowed}
    own = {letters.name for letters in dead_letter_topics() if letters.owner == "console"}
    assert read >= {topic.name for topic in (*load_topics(), *dead_letter_topics())}
    assert written == {topic.name for topic in load_topics() if topic.consumers} | own
    # How far letters are worked off is kept as the offset of a group of no service's name.
    assert "Read" in operations["tocsin."]
