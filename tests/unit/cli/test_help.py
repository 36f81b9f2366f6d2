"""Every command explains itself."""

import pytest
from typer.testing import CliRunner

from cli.main import COMMANDS, build

FILTERS = ("--since", "--dm-min", "--sn-max", "--cone", "--repeater", "--status", "--rating", "--tns-name", "--test")

OPTIONS = {
    "up": ("--only-stack", "--service"),
    "down": ("--purge", "--yes"),
    "status": ("--json",),
    "demo": ("--once",),
    "migrate": ("SERVICES",),
    "topics": ("--create", "--json"),
    "tail": ("TOPIC", "--last", "--follow", "--json"),
    "replay": ("FILES", "--topic", "--no-check", "--interval-s", "--rate", "--speed-up", "--limit"),
    "notices list": ("--channel", "--state", "--limit", "--json"),
    "notices show": ("ID", "--json"),
    "drill": ("--wait-s", "--keep"),
    "dlq list": ("TOPIC", "--all", "--json"),
    "dlq show": ("ID",),
    "dlq replay": ("TOPIC", "--max", "--dry-run"),
    "dlq drop": ("TOPIC", "--max", "--dry-run"),
    "skymap": ("FILE", "--json", "--plot", "--cone", "--at", "--combined"),
    "overlap": ("MAP_A", "RA,DEC,ERR_DEG", "standard deviation", "--json", "--dm-excess", "--redshift", "--product"),
    "superevent": ("ID", "--json"),
    "skymaps": ("--at", "--level", "--cone", "--all", "--json"),
    "coincidence list": ("--all", "--superevent", "--burst", "--state", "--since", "--test", "--limit", "--json"),
    "coincidence show": ("ID", "--json", "--notice", "--map"),
    "coincidence rescore": ("SUPEREVENT", "--all"),
    "coincidence background": ("--years",),
    "frb upload": (
        "--radio-yaml",
        "--observation-yaml",
        "--update",
        "--server",
        "--retries",
        "--dry-run",
        "Exit codes",
    ),
    "frb list": (*FILTERS, "--sort", "--asc", "--limit", "--json"),
    "frb show": ("ID", "--json"),
    "frb export": (*FILTERS, "--sort", "--asc", "--format", "--output"),
    "frb follow": ("--last-event-id", "--count", "--json"),
    "frb rate": ("ID", "confirm", "--note"),
    "frb withdraw": ("ID", "--reason"),
    "user add": ("NAME", "--role", "--password-stdin"),
    "user list": ("--json",),
    "user disable": ("NAME",),
    "user enable": ("NAME",),
    "token create": ("NAME", "--expires-days"),
    "token list": ("--json",),
    "token revoke": ("ID",),
}


def test_no_command_is_forgotten_here() -> None:
    assert {name.split()[0] for name in OPTIONS} == COMMANDS.keys()


@pytest.mark.parametrize("name", OPTIONS)
def test_help_names_arguments_and_options(name: str) -> None:
    told = CliRunner().invoke(
        build([name.split()[0]]), [*name.split(), "--help"], env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}
    )
    assert told.exit_code == 0
    for word in OPTIONS[name]:
        assert word.lower() in told.output.lower()
