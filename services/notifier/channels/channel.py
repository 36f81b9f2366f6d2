"""What a channel is to the rest of the notifier.

`prepare` is pure and says what would be sent; everything outward happens in `send`, `confirm` and `check`, outside of
any transaction, and they may raise:

- `TransientError` (or `TooManyRequestsError` with the time to wait): nothing was accepted, it is tried again;
- `UncertainError`: the request left and no answer came, so nobody knows whether it was accepted;
- `PermanentError`: it was refused for good.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol, runtime_checkable

from services.notifier.happenings import Happening
from shared.errors import PermanentError, TransientError
from shared.events.notices import ChannelMode, DeliveryAction


class TooManyRequestsError(TransientError):
    """The other side asks for patience."""

    def __init__(self, reason: str, *, retry_after_s: float) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


class UncertainError(TransientError):
    """The request left; whether it was accepted is not known."""


@dataclass(frozen=True)
class Earlier:
    """What was told of the same subject on the same channel before, oldest first.

    Attributes
    ----------
    reference
        What the other side calls it.
    answer
        What it answered.
    request
        What was sent; or would have been, in a dry run.
    """

    revision: int
    action: DeliveryAction
    reference: str | None
    answer: dict[str, Any]
    request: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Job:
    """A delivery that is due.

    Attributes
    ----------
    related
        The newest records of the same subject and of those that belong to it: a burst's coincidences, a superevent's
        alert, map and coincidences.
    """

    delivery_id: int
    revision: int
    action: DeliveryAction
    mode: ChannelMode
    happening: Happening
    attempts: int
    decided_at: datetime
    earlier: Sequence[Earlier] = ()
    related: Sequence[Happening] = ()


@dataclass(frozen=True)
class Prepared:
    """What is sent: kept before it leaves.

    Attributes
    ----------
    request
        As JSON, complete: `send` needs nothing but this. No secrets.
    """

    request: dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """What came of sending.

    Attributes
    ----------
    is_confirmed
        Nothing is left to wait for.
    ask_again_s
        When not confirmed: after how many seconds `confirm` is to be asked; None: the channel never says more.
    """

    reference: str | None
    answer: dict[str, Any] = field(default_factory=dict)
    is_confirmed: bool = False
    ask_again_s: float | None = None
    tns_name: str | None = None


class Channel(Protocol):
    """A place where notices go.

    Attributes
    ----------
    replaces
        Telling a subject's newest state makes every older one, not yet told, needless.
    gathers
        What is shown of a burst or of a wave has its coincidences in it, and changes with them.
    """

    name: str
    kind: str
    replaces: bool
    gathers: bool

    def wants(self, happening: Happening, *, told_before: bool) -> bool:
        """Whether a happening changes anything that this channel tells; `told_before`: of the same subject."""
        ...

    def prepare(self, job: Job) -> Prepared | None:
        """Return what is to be sent for a job; None when the channel has nothing to say of it."""
        ...

    async def send(self, prepared: Prepared, *, mode: ChannelMode) -> Answer:
        """Send it, once."""
        ...

    async def confirm(self, prepared: Prepared, answer: Answer, *, mode: ChannelMode) -> Answer:
        """Look what became of what was sent; only called after an answer with `ask_again_s`."""
        ...

    async def check(self, prepared: Prepared, *, mode: ChannelMode) -> Answer | None:
        """Find out whether something whose answer was lost arrived: its answer, or None when it did not.

        Raises
        ------
        UncertainError
            It cannot be found out, and sending it again could tell it twice.
        """
        ...

    async def run(self) -> None:
        """Whatever the channel does beside (a server, a heartbeat); returns at once when there is nothing."""
        ...


@runtime_checkable
class BulkChannel(Channel, Protocol):
    """A channel that takes several deliveries in one request: what waits goes together.

    Attributes
    ----------
    batch
        How many at most.
    """

    batch: int

    async def send_together(
        self, prepared: Sequence[Prepared], *, mode: ChannelMode
    ) -> Sequence[Answer | PermanentError]:
        """Send them, once, in a request that is taken as a whole or not at all.

        Returns, in order, what came of each; an error for one that is refused on its own account.
        """
        ...
