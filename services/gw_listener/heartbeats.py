"""When each source last showed life: silence is otherwise indistinguishable from a quiet sky."""

import time
from collections.abc import Mapping
from typing import Any

from services.gw_listener.settings import NAME
from shared.inbox.state import ConsumerState
from shared.observability import metrics


def consumer_name(source: str) -> str:
    """Return the name of the consumer that reads a source."""
    return f"{NAME}.{source}"


class Heartbeats:
    """The sources' last heartbeats and alerts, by the sources' names."""

    def __init__(self) -> None:
        self._beats: dict[str, float] = {}
        self._alerts: dict[str, float] = {}
        self._names: list[str] = []

    def expect(self, source: str) -> None:
        """Add a source, of which nothing is known yet."""
        self._names.append(source)

    def beat(self, source: str) -> None:
        """Note a heartbeat."""
        self._beats[source] = time.time()
        metrics.LAST_HEARTBEAT.labels(source).set(self._beats[source])

    def alert(self, source: str) -> None:
        """Note an alert, which is a sign of life too."""
        self._alerts[source] = time.time()
        self.beat(source)

    def as_json(self, consumers: Mapping[str, ConsumerState]) -> list[dict[str, Any]]:
        """Return the lines of /status; a source's consumer is named after it."""
        now = time.time()

        def age(times: dict[str, float], name: str) -> float | None:
            return round(now - times[name], 3) if name in times else None

        return [
            {
                "name": name,
                "connected": consumers[consumer_name(name)].is_connected,
                "last_message_age_s": age(self._alerts, name),
                "last_heartbeat_age_s": age(self._beats, name),
            }
            for name in self._names
        ]
