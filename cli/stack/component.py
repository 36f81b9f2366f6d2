"""What every part of the local stack can do."""

from dataclasses import dataclass
from typing import Protocol

from shared.errors import TocsinError


class StackError(TocsinError):
    """A part of the local stack that could not be brought up, told so that a person can act."""


class NotAvailableError(StackError):
    """A part whose program is not on this machine and could not be put there."""


@dataclass(frozen=True)
class ComponentHealth:
    """Whether a component answers, and one line of what it says or why it does not."""

    up: bool
    detail: str


class Component(Protocol):
    """One server of the stack: started once, found again by a later command, stopped with its data kept."""

    @property
    def name(self) -> str:
        """What people call it (`kafka`)."""

    @property
    def address(self) -> str:
        """Where clients connect; known once the component was started for the first time."""

    def start(self) -> None:
        """Return when it serves, whether it ran already or not; raise `StackError` when it will not."""

    def stop(self) -> None:
        """Shut it down cleanly and return when it is gone; its data stays."""

    def health(self) -> ComponentHealth:
        """Ask it, within seconds and without raising."""
