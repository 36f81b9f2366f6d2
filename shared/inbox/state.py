"""What a consumer is doing: one place that feeds readiness, /status and the metrics."""

import time
from dataclasses import dataclass, field
from typing import Any

from shared.observability import metrics


@dataclass
class ConsumerState:
    """Written by the consumer's thread and the event loop, read by the HTTP endpoints.

    Single attributes are replaced, never changed in parts, so no lock is needed.
    """

    name: str
    topics: tuple[str, ...]
    is_outside: bool = False
    partitions: int = 0
    lag_messages: int | None = None
    is_connected: bool = False
    paused_reason: str | None = None
    halted_reason: str | None = None
    dead_letters: int = 0
    last_event_at: float | None = None
    polled_at: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        # So that alert rules find a 0 rather than nothing.
        metrics.CONSUMER_PAUSED.labels(self.name).set(0)
        metrics.CONSUMER_HALTED.labels(self.name).set(0)

    def polled(self) -> None:
        self.polled_at = time.monotonic()

    def assigned(self, partitions: int) -> None:
        self.partitions = partitions
        metrics.CONSUMER_PARTITIONS.labels(self.name).set(partitions)

    def lag(self, messages: int) -> None:
        self.lag_messages = messages
        metrics.CONSUMER_LAG.labels(self.name).set(messages)

    def connected(self, up: bool) -> None:
        self.is_connected = up
        metrics.CONSUMER_CONNECTED.labels(self.name).set(up)

    def halted(self, reason: str) -> None:
        self.halted_reason = reason
        metrics.CONSUMER_HALTED.labels(self.name).set(1)

    def paused(self, reason: str | None) -> None:
        """Note that the consumer waits for an outage to pass; None: it goes on."""
        if reason != self.paused_reason:
            self.paused_reason = reason
            metrics.CONSUMER_PAUSED.labels(self.name).set(reason is not None)

    def took_event(self) -> None:
        self.last_event_at = time.time()
        metrics.LAST_EVENT.labels(self.name).set(self.last_event_at)

    @property
    def why_waiting(self) -> str | None:
        """Return why no messages flow; None when they do."""
        waiting = self.halted_reason or self.paused_reason
        if waiting is None and not self.is_connected:
            waiting = "no broker is connected"
        if waiting is None and self.partitions == 0:
            waiting = "no partitions assigned"
        return waiting

    @property
    def is_ready(self) -> bool:
        """Whether messages flow, or would if there were any."""
        return self.why_waiting is None

    def as_json(self) -> dict[str, Any]:
        """Return the consumer's line of /status."""
        return {
            "name": self.name,
            "topic": ",".join(self.topics),
            "connected": self.is_connected,
            "partitions": self.partitions,
            "lag": self.lag_messages,
            "paused": self.paused_reason is not None,
            "paused_reason": self.paused_reason,
            "halted": self.halted_reason,
            "dead_letters": self.dead_letters,
            "last_event_age_s": None if self.last_event_at is None else round(time.time() - self.last_event_at, 3),
        }
