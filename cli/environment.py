"""Which broker and database a command means: those of the environment, else those of the local stack."""

from collections.abc import Mapping
from typing import Any

from cli.stack.stack import Stack
from shared.settings import ServiceSettings


def settings() -> ServiceSettings:
    """Return the settings with which `tocsin up` starts services."""
    return settings_from(Stack().environment())


def settings_from(environment: Mapping[str, str]) -> ServiceSettings:
    """Return the settings that a service started with `environment`, on top of this process's own, reads."""
    nested: dict[str, Any] = {}
    for variable, value in environment.items():
        section, _, name = variable.removeprefix("TOCSIN_").lower().partition("__")
        nested.setdefault(section, {})[name] = value
    return ServiceSettings(**nested)
