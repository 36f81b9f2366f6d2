"""The reference pages say what schemas, settings and metrics say, and AsyncAPI's own parser accepts them."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import REGISTRY
from pydantic import BaseModel

from cli.docs import (
    CHANNELS,
    PAGES,
    REFERENCE,
    SETTINGS,
    SOURCES,
    asyncapi_document,
    metrics_page,
    settings_page,
    topics_page,
    write,
)
from cli.stack.services import SERVICES, Service
from services.notifier.rules import Rule
from services.notifier.settings import NotifierSection
from shared.events.registry import RECORDS
from shared.schema.records import SCHEMAS, newest_schema
from shared.schema.topics import dead_letter_topics, load_topics
from tests.contract.schemas import records_in

WITH_PAGES = ("docs", "services", "schemas", "samples", "benchmarks", "tests")
CHECKER = Path(__file__).parent / "asyncapi"
INSTALLED = SCHEMAS.parent / ".local" / "asyncapi"
ROOT = SCHEMAS.parent
PROSE = sorted([*ROOT.glob("*.md"), *(page for folder in WITH_PAGES for page in (ROOT / folder).rglob("*.md"))])


@pytest.mark.parametrize("name", PAGES)
def test_committed_page_is_what_its_source_makes(name: str) -> None:
    assert (REFERENCE / name).read_text("utf-8") == PAGES[name](), "run `make docs` and commit the result"


def test_pages_depend_on_no_environment_and_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "first")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOCSIN_KAFKA__BOOTSTRAP_SERVERS", "elsewhere:9092")
    write(tmp_path / "second")
    for name in PAGES:
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


def test_topic_page_names_every_topic_and_documents_every_field() -> None:
    page = topics_page()
    for topic in (*load_topics(), *dead_letter_topics()):
        assert f"`{topic.name}`" in page
    for record in RECORDS:
        for part in records_in(newest_schema(record)):
            for field in part["fields"]:
                assert re.search(rf"^\| `{field['name']}` \| .+ \| {re.escape(field['doc'])} \|$", page, re.MULTILINE)


def test_links_of_the_topic_page_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", topics_page()):
        assert (REFERENCE / target).exists(), target


def heading_anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PROSE, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_of_the_pages_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in heading_anchors(target), link


@pytest.mark.parametrize("service", SERVICES.values(), ids=lambda service: service.name)
def test_every_service_has_a_runbook_and_is_named_where_people_look_first(service: Service) -> None:
    runbook = (ROOT / "services" / service.name / "README.md").read_text("utf-8")
    assert str(service.http_port) in runbook
    assert "## What to do when" in runbook
    assert f"services/{service.name}/README.md" in (ROOT / "README.md").read_text("utf-8")
    assert f"services/{service.name}/README.md" in (ROOT / "docs" / "operations.md").read_text("utf-8")
    assert f"`{service.name}`" in (ROOT / "ARCHITECTURE.md").read_text("utf-8")
    assert f"`{service.name}`" in (ROOT / "CHANGELOG.md").read_text("utf-8")


def test_every_decision_is_listed() -> None:
    decisions = ROOT / "docs" / "decisions"
    listed = re.findall(r"^\| \[(\d+)\]\((.+?)\) \|", (decisions / "README.md").read_text("utf-8"), re.MULTILINE)
    assert [name for _, name in listed] == sorted(path.name for path in decisions.glob("[0-9]*.md"))
    assert all(int(number) == int(name[:4]) for number, name in listed)


def settings_in(model: type[BaseModel], prefix: str) -> list[str]:
    """Names of the variables that set the fields of a model."""
    names = []
    for name, field in model.model_fields.items():
        part = field.annotation
        if isinstance(part, type) and issubclass(part, BaseModel):
            names += settings_in(part, f"{prefix}{name}__")
        else:
            names.append(f"{prefix}{name}".upper())
    return names


def test_settings_page_names_every_variable_of_every_service() -> None:
    page = settings_page()
    assert set(SETTINGS) == set(SERVICES)
    for settings in SETTINGS.values():
        for variable in settings_in(settings, "TOCSIN_"):
            assert page.count(f"| `{variable}` |") == 1, variable


def test_settings_page_shows_what_a_section_is_by_default_where_it_differs_from_its_like() -> None:
    page = settings_page()
    for wave_class, window in (("CBC", "`-10.0`, `2.0`"), ("BURST", "`-600.0`, `120.0`")):
        assert f"| `TOCSIN_COINCIDENCE__{wave_class}__NARROW_S` | list of number | {window} |" in page


def test_settings_page_lists_the_fields_of_a_section_that_may_be_left_out() -> None:
    page = settings_page()
    assert "| `TOCSIN_COINCIDENCE__SITE` | the fields below | unset |" in page
    assert "| `TOCSIN_COINCIDENCE__SITE__LATITUDE_DEG` | number | required |" in page


@pytest.mark.parametrize("service", SOURCES)
def test_settings_page_describes_every_type_of_source(service: str) -> None:
    _, _, page = settings_page().partition(f"## Sources of {service}\n")
    page, _, _ = page.partition("\n## ")
    for source in SOURCES[service]:
        _, _, section = page.partition(f"### type: {source.model_fields['type'].default}\n")
        section = section.partition("###")[0]
        for name in set(source.model_fields) - {"type"}:
            assert f"| `{name}` |" in section, name


@pytest.mark.parametrize("channel", CHANNELS, ids=lambda channel: channel.model_fields["kind"].default)
def test_settings_page_describes_every_kind_of_channel(channel: type[BaseModel]) -> None:
    _, _, page = settings_page().partition("## Channels of notifier\n")
    _, _, section = page.partition(f"### kind: {channel.model_fields['kind'].default}\n")
    section = section.partition("###")[0]
    for name in set(channel.model_fields) - {"kind"}:
        assert re.search(rf"^\| `{name}[`.]", section, re.MULTILINE), name


def test_settings_page_describes_rules_and_the_entries_of_a_channels_lists() -> None:
    page = settings_page()
    _, _, rules = page.partition("## Rules of notifier\n")
    for name in Rule.model_fields:
        assert f"| `{name}` |" in rules.partition("## ")[0], name
    assert "| `production_brokers[].host` | text | required |" in page


@pytest.mark.parametrize("page", ["docs/how-to-send-notices.md", "services/notifier/README.md"])
def test_settings_that_pages_on_notices_show_are_settings(page: str) -> None:
    shown = re.findall(r"```yaml\n(.*?)```", (ROOT / page).read_text("utf-8"), re.DOTALL)
    assert shown
    for block in shown:
        NotifierSection.model_validate(yaml.safe_load(block)["notifier"])


def test_settings_page_shows_no_secret_but_the_local_default() -> None:
    secrets = re.findall(r"\| secret \| (.+?) \|", settings_page())
    assert set(secrets) == {"unset", "required", "`postgresql://tocsin@127.0.0.1:5432/tocsin`"}


def test_metrics_page_names_every_metric_as_prometheus_shows_it() -> None:
    page = metrics_page()
    families = [family for family in REGISTRY.collect() if family.name.startswith("tocsin_")]
    assert families
    for family in families:
        shown = f"{family.name}_total" if family.type == "counter" else family.name
        assert re.search(
            rf"^\| `{shown}` \| {family.type} \| .+ \| {re.escape(family.documentation)} \|$", page, re.MULTILINE
        )


def test_asyncapi_document_has_a_channel_per_topic_and_an_operation_per_user() -> None:
    document = yaml.safe_load(PAGES["asyncapi.yaml"]())
    topics = (*load_topics(), *dead_letter_topics())
    assert set(document["channels"]) == {topic.name for topic in topics}
    used = {(operation["action"], operation["channel"]["$ref"]) for operation in document["operations"].values()}
    assert ("receive", "#/channels/igwn.gwalert") in used
    assert ("send", "#/channels/igwn.gwalert") not in used, "upstream's sending is not ours to describe"
    assert ("send", "#/channels/gw.skymaps") in used
    assert ("send", "#/channels/gcn.notices.tocsin.frb") in used, "what we send in the words of others is ours"
    operations = document["operations"]
    followed = {operations[name]["channel"]["$ref"] for name in operations if ".follows." in name}
    assert "#/channels/notices.deliveries" in followed
    assert document["components"]["messages"]["gw_alert"]["payload"]["schema"] == newest_schema("gw_alert")


def judged(document: Path) -> tuple[int, dict[str, Any]]:
    """Exit status and verdict of AsyncAPI's parser."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed: AsyncAPI's own parser did not judge the document")
    if not (INSTALLED / "node_modules" / "@asyncapi" / "parser").is_dir():
        pytest.skip("`make test` found no npm to install it with: AsyncAPI's own parser did not judge the document")
    command = [node, str(CHECKER / "validate.mjs"), str(INSTALLED), str(document)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def test_asyncapis_own_parser_accepts_the_document() -> None:
    status, verdict = judged(REFERENCE / "asyncapi.yaml")
    assert (status, verdict["errors"], verdict["warnings"]) == (0, [], [])
    assert set(verdict["channels"]) == {topic.name for topic in (*load_topics(), *dead_letter_topics())}
    assert verdict["operations"] == len(asyncapi_document()["operations"])


def test_asyncapis_own_parser_refuses_a_payload_that_is_no_avro(tmp_path: Path) -> None:
    document = yaml.safe_load((REFERENCE / "asyncapi.yaml").read_text("utf-8"))
    document["components"]["messages"]["gw_alert"]["payload"]["schema"]["fields"][0]["type"] = "no such type"
    broken = tmp_path / "asyncapi.yaml"
    broken.write_text(yaml.safe_dump(document), "utf-8")
    status, verdict = judged(broken)
    assert status == 1
    assert verdict["errors"]
