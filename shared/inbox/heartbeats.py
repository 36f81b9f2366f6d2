"""When each source last showed life: silence is otherwise indistinguishable from a quiet sky."""

import time
from collections.abc import Mapping
from typing import Any

from shared.inbox.state import ConsumerState
from shared.observability import metrics


class Heartbeats:
    """The sources' last heartbeats and messages, by the sources' names.

    Parameters
    ----------
    service
        Begins the names of the consumers.
    """

    def __init__(self, service: str) -> None:
        self._service = service
        self._beats: dict[str, float] = {}
        self._messages: dict[str, float] = {}
        self._names: list[str] = []

    def consumer_name(self, source: str) -> str:
        """Return the name of the consumer that reads a source."""
        return f"{self._service}.{source}"

    def expect(self, source: str) -> None:
        """Add a source, of which nothing is known yet."""
        self._names.append(source)

    def beat(self, source: str) -> None:
        """Note a heartbeat."""
        self._beats[source] = time.time()
        metrics.LAST_HEARTBEAT.labels(source).set(self._beats[source])

    def message(self, source: str) -> None:
        """Note a message, which is a sign of life too."""
        self._messages[source] = time.time()
        self.beat(source)

    def as_json(self, consumers: Mapping[str, ConsumerState]) -> list[dict[str, Any]]:
        """Return the lines of /status; a source's consumer is named after it."""
        now = time.time()

        def age(times: dict[str, float], name: str) -> float | None:
            return round(now - times[name], 3) if name in times else None

        return [
            {
                "name": name,
                "connected": consumers[self.consumer_name(name)].is_connected,
                "last_message_age_s": age(self._messages, name),
                "last_heartbeat_age_s": age(self._beats, name),
            }
            for name in self._names
        ]
