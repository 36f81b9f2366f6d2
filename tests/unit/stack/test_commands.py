"""What `tocsin up` and `tocsin status` do and say, with no server in sight."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from cli.stack import Stack, StackError, commands
from cli.stack.commands import StatusLine, bring_up, service_processes
from cli.stack.services import SERVICES, addresses, trusted_proxies
from shared.errors import InvalidInputError


def a_service_line(**report: Any) -> StatusLine:
    return StatusLine("gw_listener", "service", "up", "http://127.0.0.1:8101", report)


def a_consumer(**changes: Any) -> dict[str, Any]:
    consumer = {
        "name": "gw",
        "topic": "gw.alerts",
        "lag": 3,
        "paused": False,
        "halted": None,
        "dead_letters_waiting": 2,
    }
    return {**consumer, "last_event_age_s": 7200.0, **changes}


class FakeStack(Stack):
    """Remembers what was asked of it, in order, and starts nothing."""

    def __init__(self, directory: Path, *, fails: bool = False) -> None:
        super().__init__(directory)
        self.calls: list[str] = []
        self.fails = fails

    def up(self, progress: Callable[[str], None]) -> None:
        self.calls.append("stack")
        if self.fails:
            raise StackError("kafka: does not start")

    def environment(self) -> dict[str, str]:
        return {"TOCSIN_DATABASE__URL": "postgresql://here"}


def test_a_line_says_lag_dead_letters_and_the_age_of_the_last_event() -> None:
    text = a_service_line(consumers=[a_consumer()]).as_text()
    assert "gw.alerts, lag 3, 2 dead letters waiting, last event 2 h ago" in text


def test_a_line_says_loudly_what_stands_still() -> None:
    text = a_service_line(
        consumers=[a_consumer(paused=True, halted="50 dead letters in a row")],
        sources=[{"name": "scimma", "connected": False, "last_message_age_s": None}],
        outbox_depth=4,
    ).as_text()
    for words in ("PAUSED", "HALTED (50 dead letters in a row)", "scimma NOT CONNECTED", "4 unsent"):
        assert words in text


def test_a_line_bears_a_report_with_nothing_in_it() -> None:
    assert "lag ?" in a_service_line(consumers=[{}], sources=[{}]).as_text()
    assert a_service_line().as_text().startswith("gw_listener")


def test_the_line_for_machines_has_state_and_report_side_by_side() -> None:
    line = a_service_line(service="gw_listener", version="1.2", consumers=[a_consumer()]).as_json()
    assert (line["name"], line["state"], line["version"]) == ("gw_listener", "up", "1.2")
    assert line["consumers"][0]["lag"] == 3


@pytest.mark.parametrize(("state", "exit_code"), [("up", 0), ("absent", 0), ("down", 1)])
def test_status_fails_when_anything_is_down_and_not_when_something_optional_is_absent(
    state: str, exit_code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [a_service_line(), StatusLine("influxdb", "component", state, "", {})]
    monkeypatch.setattr(commands, "survey", lambda stack: lines)
    app = typer.Typer()
    app.command()(commands.status)
    assert CliRunner().invoke(app, []).exit_code == exit_code
    assert CliRunner().invoke(app, ["--json"]).exit_code == exit_code


def test_topics_and_migrations_come_after_the_stack_with_its_environment(tmp_path: Path) -> None:
    stack = FakeStack(tmp_path)
    seen: list[Mapping[str, str]] = []

    def step(environment: Mapping[str, str]) -> None:
        stack.calls.append("step")
        seen.append(environment)

    bring_up(stack, services=[], steps=[("topics", step)], progress=lambda _: None)

    assert stack.calls == ["stack", "step"]
    assert seen == [stack.environment()]


def test_nothing_is_applied_to_a_stack_that_does_not_start(tmp_path: Path) -> None:
    stack = FakeStack(tmp_path, fails=True)
    with pytest.raises(StackError):
        bring_up(stack, services=[], steps=[("topics", lambda _: stack.calls.append("step"))], progress=lambda _: None)
    assert stack.calls == ["stack"]


def test_a_service_that_does_not_exist_is_refused_before_anything_starts(tmp_path: Path) -> None:
    stack = FakeStack(tmp_path)
    with pytest.raises(InvalidInputError, match="gw_listner"):
        bring_up(stack, services=["gw_listner"], steps=[], progress=lambda _: None)
    assert stack.calls == []


def test_asking_for_the_status_of_a_stack_that_never_ran_leaves_no_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in [name for name in os.environ if name.startswith("TOCSIN_")]:
        monkeypatch.delenv(variable)
    stack = Stack(tmp_path / "never")
    assert all(line.state in ("down", "absent") for line in commands.survey(stack))
    assert [process.name for process in service_processes(stack, ["skymap_parser"])] == ["skymap_parser"]
    assert not (tmp_path / "never").exists()


def test_services_are_told_where_the_others_listen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, name in enumerate(SERVICES, 23456):
        (tmp_path / f"{name}.port").write_text(str(number))
    monkeypatch.setenv("TOCSIN_CONSOLE__NOTIFIER_URL", "http://elsewhere:8104")
    variables = addresses(tmp_path)
    assert variables["TOCSIN_CONSOLE__INTAKE_URL"] == "http://127.0.0.1:23458"
    assert variables["TOCSIN_NOTIFIER__ACCOUNTS_URL"] == "http://127.0.0.1:23458"
    assert json.loads(variables["TOCSIN_CONSOLE__SERVICES"]).keys() == SERVICES.keys() - {"console"}
    assert "TOCSIN_CONSOLE__NOTIFIER_URL" not in variables, "what somebody has set stays"


@pytest.mark.parametrize(
    ("name", "given", "believed"),
    [
        ("frb_intake", "", "127.0.0.1"),
        ("notifier", "10.0.0.7, 10.0.0.8", "10.0.0.7, 10.0.0.8,127.0.0.1"),
        ("notifier", "*", "*"),
        ("console", "", ""),
        ("console", "10.0.0.7", "10.0.0.7"),
    ],
)
def test_the_console_is_believed_on_who_asks_beside_what_the_site_believes(
    monkeypatch: pytest.MonkeyPatch, name: str, given: str, believed: str
) -> None:
    monkeypatch.setenv("TOCSIN_HTTP__TRUSTED_PROXIES", given)
    assert trusted_proxies(name) == believed
