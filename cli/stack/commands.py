"""`tocsin up | down | status`: the stack and the services on this machine."""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from cli import migrate, topics
from cli.environment import settings_from
from cli.errors import told_in_one_line
from cli.stack.component import ComponentHealth
from cli.stack.services import SERVICES, ServiceProcess, addresses
from cli.stack.stack import Progress, Stack
from shared.errors import InvalidInputError, TocsinError
from shared.inbox import dead_letter_desk
from shared.schema.topics import dead_letter_topic

Preparation = Callable[[Mapping[str, str]], object]

NAME_WIDTH = max(map(len, [*SERVICES, "kafka", "postgres", "influxdb"]))


def up(
    only_stack: Annotated[bool, typer.Option("--only-stack", help="Start the servers, no services.")] = False,
    service: Annotated[list[str] | None, typer.Option("--service", help="Start only these; repeatable.")] = None,
) -> None:
    """Start Kafka, PostgreSQL, InfluxDB and the services; return when all are ready."""
    steps: Sequence[tuple[str, Preparation]] = (("topics", topics.apply), ("migrations", migrate.migrate))
    with told_in_one_line():
        bring_up(Stack(), services=[] if only_stack else service, steps=steps, progress=_tell)


def down(
    purge: Annotated[bool, typer.Option("--purge", help="Also delete all data, after asking.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="With --purge: do not ask.")] = False,
) -> None:
    """Stop the services and the stack; their data stays, unless --purge."""
    stack = Stack()
    if purge and not yes:
        typer.confirm(f"Delete all topics, tables, measurements and blobs below {stack.directory}?", abort=True)
    with told_in_one_line():
        bring_down(stack, progress=_tell)
    if purge:
        delete_data(stack)
        _tell(f"deleted the data below {stack.directory}")


def status(as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False) -> None:
    """One line per component and service; exit 1 when anything is down."""
    with told_in_one_line():
        lines = survey(Stack())
    if as_json:
        typer.echo(json.dumps([line.as_json() for line in lines], indent=2))
    else:
        for line in lines:
            typer.echo(line.as_text())
    if any(line.state == "down" for line in lines):
        raise typer.Exit(1)


def service_processes(stack: Stack, names: Sequence[str] | None = None) -> list[ServiceProcess]:
    """The services by name, all of them without one.

    Raises
    ------
    InvalidInputError
        There is no service of that name.
    """
    if unknown := set(names or ()) - set(SERVICES):
        raise InvalidInputError("--service", ", ".join(sorted(unknown)), f"one of {', '.join(SERVICES)}")
    chosen = [service for name, service in SERVICES.items() if names is None or name in names]
    return [ServiceProcess(service, stack.directory / "services") for service in chosen]


def bring_up(
    stack: Stack, *, services: Sequence[str] | None, steps: Sequence[tuple[str, Preparation]], progress: Progress
) -> None:
    """Start the stack, take the `steps` (topics, migrations) with its environment, start the services side by side."""
    processes = service_processes(stack, services)
    stack.up(progress)
    for what, prepare in steps:
        progress(f"{what}: applying")
        prepare(stack.environment())
    for process in processes:
        progress(f"{process.name}: starting")
        # At its turn: one whose port was taken has another by now.
        process.launch({**stack.environment(), **addresses(stack.directory / "services")})
    for process in processes:
        process.wait_until_ready()
        progress(f"{process.name}: {process.health().detail}")


def bring_down(stack: Stack, *, progress: Progress) -> None:
    """Stop services before what they stand on."""
    for process in service_processes(stack):
        if process.process.pid is not None:
            progress(f"stopping {process.name}")
            process.stop()
    stack.down(progress)


def delete_data(stack: Stack) -> None:
    """Remove what the stopped stack kept; the cached jars stay."""
    for name in ("kafka", "postgres", "influxdb", "blobs", "services"):
        shutil.rmtree(stack.directory / name, ignore_errors=True)


@dataclass(frozen=True)
class StatusLine:
    """One component or service, as `tocsin status` shows it: `state` is up, down or absent."""

    name: str
    kind: str
    state: str
    detail: str
    report: Mapping[str, Any]

    def as_json(self) -> dict[str, Any]:
        """The line for machines, with the service's own report beside it."""
        return {
            "name": self.name,
            "kind": self.kind,
            "state": self.state,
            "detail": self.detail,
            **{key: value for key, value in self.report.items() if key != "service"},
        }

    def as_text(self) -> str:
        """The line for people."""
        parts = [_consumer_text(consumer) for consumer in self.report.get("consumers") or ()]
        parts += [_source_text(source) for source in self.report.get("sources") or ()]
        if self.report.get("outbox_depth"):
            parts.append(f"{self.report['outbox_depth']} unsent")
        return "  ".join([f"{self.name:<{NAME_WIDTH}}", f"{self.state:<6}", "; ".join([*parts, self.detail])])


def survey(stack: Stack) -> list[StatusLine]:
    """Ask every component and service how it is."""
    lines = []
    for name, health in stack.status().items():
        absent = name == stack.influx.name and stack.influx_is_absent()
        detail = "not installed; optional, measurements are not kept" if absent else health.detail
        lines.append(StatusLine(name, "component", "absent" if absent else _state(health), detail, {}))
    waiting = _dead_letters_waiting(stack) if lines[0].state == "up" else {}
    for process in service_processes(stack):
        health = process.health()
        report = process.report()
        consumers = [
            {**consumer, "dead_letters_waiting": _of_all(consumer["topic"].split(","), waiting, process.name)}
            for consumer in report.get("consumers") or ()
        ]
        report = {**report, "consumers": consumers} if consumers else report
        lines.append(StatusLine(process.name, "service", _state(health), health.detail, report))
    return lines


def _of_all(topics: Sequence[str], waiting: Mapping[str, int], service: str) -> int | None:
    """How many wait of all topics of a consumer; None when one cannot be counted."""
    counts = [waiting.get(dead_letter_topic(topic, service)) for topic in topics]
    return None if None in counts else sum(count for count in counts if count is not None)


def _dead_letters_waiting(stack: Stack) -> Mapping[str, int]:
    """How many wait in each dead-letter topic: a service counts only those of its own life."""
    try:
        return dead_letter_desk.waiting_counts(settings_from(stack.environment()).kafka)
    except TocsinError:  # the broker's own line says that it is down
        return {}


def _state(health: ComponentHealth) -> str:
    return "up" if health.up else "down"


def _consumer_text(consumer: Mapping[str, Any]) -> str:
    words = [str(consumer.get("topic", consumer.get("name", "?"))), f"lag {_number(consumer.get('lag'))}"]
    if consumer.get("paused"):
        words.append("PAUSED")
    if halted := consumer.get("halted"):
        words.append(f"HALTED ({halted})")
    words.append(f"{_number(consumer.get('dead_letters_waiting'))} dead letters waiting")
    words.append(f"last event {_age(consumer.get('last_event_age_s'))}")
    return ", ".join(words)


def _source_text(source: Mapping[str, Any]) -> str:
    connected = "connected" if source.get("connected") else "NOT CONNECTED"
    return f"{source.get('name', '?')} {connected}, last message {_age(source.get('last_message_age_s'))}"


def _number(value: object) -> str:
    return "?" if value is None else str(value)


def _age(seconds: float | None) -> str:
    """A time ago, to the precision that a person needs."""
    if seconds is None:
        return "never"
    for unit, length_s in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length_s:
            return f"{seconds / length_s:.0f} {unit} ago"
    return f"{seconds:.1f} s ago"


def _tell(message: str) -> None:
    typer.echo(message)
