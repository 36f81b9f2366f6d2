"""Where alerts come from: SCiMMA, GCN, a plain Kafka, files. Any number at once, each told by its `name`.

Every Kafka source is read by the event runtime (`shared.kafka.consumer`), which keeps its own offsets. hop-client is
used for what only it knows: the credentials that `hop auth` stores, with their token plugins, and the message that
stands for an offloaded one. Its consumer is not used. It fills batches of 100 for up to a second (571 ms median from
sender to reader where 36 are possible), marks a message as done before handing it over (a crash loses it), and ends
at the first error of the broker.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from adc.kafka import parse_kafka_url
from hop.auth import Auth, load_auth, select_matching_auth
from pydantic import Field, SecretStr, model_validator

from shared.errors import InvalidInputError, PermanentError
from shared.inbox import sources
from shared.inbox.sources import DEFAULT_GROUP, FilesSource, KafkaSourceBase

ALERT_TOPIC = "igwn.gwalert"


class ScimmaSource(KafkaSourceBase):
    """SCiMMA Hopskotch: Avro alerts.

    The credential is `username` and `password`, or else the one that `hop auth add` stored for the host (and for
    `username`, when several are stored).
    """

    type: Literal["scimma"] = "scimma"
    name: str = Field("scimma", min_length=1, max_length=64)
    url: str = Field(f"kafka://kafka.scimma.org/{ALERT_TOPIC}", description="kafka://host[:port]/topic[,topic].")
    username: str | None = None
    password: SecretStr | None = None
    auth_file: Path | None = Field(None, description="hop's auth.toml when it is not in its usual place.")
    group_id: str | None = Field(
        None, description="Consumer group; the broker wants it to begin with the user name. Default: USERNAME-tocsin."
    )
    heartbeat_topics: tuple[str, ...] = ("sys.heartbeat",)
    offload_hosts: tuple[str, ...] = Field(
        ("scimma.org",), description="Where offloaded messages may be fetched: domains (HTTPS) or whole origins."
    )

    @model_validator(mode="after")
    def _is_complete(self) -> "ScimmaSource":
        if self.password is not None and self.username is None:
            raise InvalidInputError("username", "missing", "the user name that belongs to the password")
        _brokers_and_topics(self.url)
        return self

    @property
    def topics(self) -> list[str]:
        """The topics that carry alerts."""
        return _brokers_and_topics(self.url)[1]

    def credential(self, load: Callable[[str | None], Sequence[Auth]] = load_auth) -> Auth:
        """The credential to present, read from hop's store when it is not given here.

        Raises
        ------
        PermanentError
            When the store has none, or several and no user name to choose by.
        """
        if self.username is not None and self.password is not None:
            return Auth(self.username, self.password.get_secret_value())
        try:
            stored = load(str(self.auth_file) if self.auth_file else None)
            return select_matching_auth(stored, _brokers_and_topics(self.url)[0][0], self.username)
        except (FileNotFoundError, RuntimeError) as exc:  # hop's words for absent, unsafe, none fits, several fit
            raise PermanentError(f"No SCiMMA credential for source {self.name}: {exc}. Add one: hop auth add") from exc

    def group(self, credential: Auth) -> str:
        """The consumer group of this source."""
        return self.group_id or f"{credential.username}-{DEFAULT_GROUP}"

    def client_config(self, credential: Auth) -> dict[str, Any]:
        """librdkafka settings that reach the broker; token credentials are renewed by librdkafka or hop's plugin."""
        brokers, _ = _brokers_and_topics(self.url)
        return {"bootstrap.servers": ",".join(brokers), **credential()}


class GcnSource(sources.GcnSource):
    """NASA GCN: the same alerts as JSON, with a client id and secret from the GCN web site."""

    topics: tuple[str, ...] = (ALERT_TOPIC,)


class KafkaSource(sources.KafkaSource):
    """Any other Kafka, with or without TLS and SASL; Avro or JSON, told by the bytes."""

    topics: tuple[str, ...] = (ALERT_TOPIC,)
    offload_hosts: tuple[str, ...] = ()


Source = Annotated[ScimmaSource | GcnSource | KafkaSource | FilesSource, Field(discriminator="type")]


def _brokers_and_topics(url: str) -> tuple[list[str], list[str]]:
    try:
        _, brokers, topics = parse_kafka_url(url)
    except ValueError as exc:
        raise InvalidInputError("url", url, "kafka://host[:port]/topic") from exc
    if not all(brokers) or not topics:
        raise InvalidInputError("url", url, "kafka://host[:port]/topic")
    return list(brokers), list(topics)
