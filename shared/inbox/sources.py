"""Where a service's messages come from besides the project's own broker, as settings: NASA GCN, a Kafka, files.

A service names its sources in its settings, any number at once, each told by its `name`. What only one service reads
(SCiMMA, a VOEvent broker) is described there, on top of these.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr

from shared.errors import InvalidInputError
from shared.kafka.gcn import gcn_client_config
from shared.settings import KafkaSettings, Section

DEFAULT_GROUP = "tocsin"


class KafkaSourceBase(Section):
    """What all Kafka sources have in common."""

    name: str = Field(min_length=1, max_length=64, description="Names the source in records, logs and metrics.")
    start_at: Literal["earliest", "latest"] = Field(
        "earliest", description="Where to begin when the broker holds no offset of this group."
    )
    group_protocol: Literal["consumer", "classic"] = Field(
        "classic", description="Rebalance protocol; every broker knows classic, ours from 4.0 also KIP-848's consumer."
    )


class GcnSource(KafkaSourceBase):
    """NASA GCN, with a client id and secret from the GCN web site."""

    type: Literal["gcn"] = "gcn"
    name: str = Field("gcn", min_length=1, max_length=64)
    client_id: str = Field(min_length=1)
    client_secret: SecretStr = Field(min_length=1)
    domain: str = Field("gcn.nasa.gov", description="Also test.gcn.nasa.gov and dev.gcn.nasa.gov.")
    topics: tuple[str, ...] = Field(min_length=1)
    group_id: str = DEFAULT_GROUP
    heartbeat_topics: tuple[str, ...] = ("gcn.heartbeat",)
    ssl_ca_location: Path | None = Field(None, description="PEM file of the authorities; default: certifi's.")

    def client_config(self) -> dict[str, Any]:
        """librdkafka settings that reach the broker."""
        return gcn_client_config(
            self.client_id, self.client_secret, domain=self.domain, ssl_ca_location=self.ssl_ca_location
        )


class KafkaSource(KafkaSourceBase):
    """Any other Kafka, with or without TLS and SASL; the format is told by the bytes."""

    type: Literal["kafka"] = "kafka"
    name: str = Field("kafka", min_length=1, max_length=64)
    broker: KafkaSettings = KafkaSettings()
    topics: tuple[str, ...] = Field(min_length=1)
    group_id: str = DEFAULT_GROUP
    heartbeat_topics: tuple[str, ...] = ()

    def client_config(self) -> dict[str, Any]:
        """librdkafka settings that reach the broker."""
        return self.broker.client_config()


class FilesSource(Section):
    """Files, for work without a network and for replays; see `shared.inbox.files`."""

    type: Literal["files"] = "files"
    name: str = Field("files", min_length=1, max_length=64)
    paths: tuple[str, ...] = Field(min_length=1, description="Files, folders or patterns such as alerts/**/*.json.")
    recursive: bool = Field(False, description="Look into folders inside the folders.")
    poll_interval_s: float = Field(1.0, gt=0, description="Time between two looks.")
    settle_s: float = Field(0.5, ge=0, description="A file that changed more recently may still be being written.")


def require_different_names(setting: str, names: Iterable[str]) -> None:
    """Refuse two sources of one name: offsets, metrics and the inbox are kept by name.

    Raises
    ------
    InvalidInputError
        `setting` names two sources alike.
    """
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise InvalidInputError(setting, name, "a different name for every source")
        seen.add(name)
