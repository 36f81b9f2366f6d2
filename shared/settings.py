"""Settings that every service has; a service adds its own by subclassing `ServiceSettings`.

They are read once, in `__main__`, from the environment (`TOCSIN_KAFKA__BOOTSTRAP_SERVERS`, two underscores
between levels) and from the YAML file that `TOCSIN_CONFIG` names; the environment wins.
"""

import os
import sys
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    YamlConfigSettingsSource,
)

from shared.errors import InvalidInputError

MAX_MESSAGE_BYTES = 8 * 1024 * 1024
# Twice the largest known alert (JSON with a combined map, 2.1 MB) and then some: producers, topics and brokers
# agree on it, because librdkafka's 1 MB and the broker's 1,048,588 B defaults refuse genuine alerts.


class Section(BaseModel):
    """A nested group of settings; unknown names are errors, so that a typo cannot silently do nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class KafkaSettings(Section):
    """How to reach the project's own broker."""

    bootstrap_servers: str = Field("127.0.0.1:9092", description="Comma-separated host:port of the brokers.")
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="How connections are secured."
    )
    sasl_mechanism: str | None = Field(None, description="For example SCRAM-SHA-512.")
    sasl_username: str | None = Field(None, description="Who we are, to the broker.")
    sasl_password: SecretStr | None = Field(None, description="And how we prove it.")
    ssl_ca_location: Path | None = Field(None, description="PEM file of the certificate authority.")
    ssl_certificate_location: Path | None = Field(None, description="PEM file of our own certificate, for mutual TLS.")
    ssl_key_location: Path | None = Field(None, description="PEM file of its private key.")
    group_protocol: Literal["consumer", "classic"] = Field(
        "consumer", description="Rebalance protocol: KIP-848 (brokers from 4.0), or classic with cooperative-sticky."
    )
    replication_factor: int = Field(1, description="Of the topics that `tocsin topics --create` and `tocsin up` make.")

    @model_validator(mode="after")
    def _sasl_is_complete(self) -> "KafkaSettings":
        if self.security_protocol.startswith("SASL") and not (self.sasl_mechanism and self.sasl_username):
            raise InvalidInputError(
                "kafka.security_protocol",
                self.security_protocol,
                "kafka.sasl_mechanism and kafka.sasl_username beside it",
            )
        return self

    def client_config(self) -> dict[str, Any]:
        """Return librdkafka settings that reach this broker."""
        optional = {
            "sasl.mechanism": self.sasl_mechanism,
            "sasl.username": self.sasl_username,
            "sasl.password": self.sasl_password.get_secret_value() if self.sasl_password else None,
            "ssl.ca.location": str(self.ssl_ca_location) if self.ssl_ca_location else None,
            "ssl.certificate.location": str(self.ssl_certificate_location) if self.ssl_certificate_location else None,
            "ssl.key.location": str(self.ssl_key_location) if self.ssl_key_location else None,
        }
        return {
            "bootstrap.servers": self.bootstrap_servers,
            "security.protocol": self.security_protocol,
            **{name: value for name, value in optional.items() if value is not None},
        }


class DatabaseSettings(Section):
    """PostgreSQL, one database for all services, one schema each."""

    url: SecretStr = Field(
        SecretStr("postgresql://tocsin@127.0.0.1:5432/tocsin"), description="postgresql://user:password@host:port/name."
    )
    pool_size: int = Field(4, ge=2, description="Connections a service holds at most; the outbox relay keeps one.")


class InfluxSettings(Section):
    """InfluxDB, where measurements go."""

    url: str | None = Field(None, description="http://host:8086; no service of today writes there.")


class BlobSettings(Section):
    """Where everything above 256 KiB lives, under its sha256."""

    url: str = Field(".local/blobs", description="A folder, or s3://bucket/prefix.")
    max_bytes: int = Field(512 * 1024 * 1024, description="A larger blob is neither written nor read.")


class HttpSettings(Section):
    """The port with /healthz, /readyz, /metrics and /status."""

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(0, ge=0, le=65535, description="0: any free port (its number is logged).")
    trusted_proxies: str = Field(
        "", description="Addresses, separated by commas, whose X-Forwarded-For is believed; none without it."
    )


class LogSettings(Section):
    """What is logged, and how."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="Lowest level that is logged.")
    format: Literal["auto", "json", "console"] = Field("auto", description="auto: console on a terminal, else JSON.")


class ConsumerSettings(Section):
    """How the event runtime reads, retries and gives up."""

    batch_size: int = Field(200, ge=1, description="Messages in one database transaction at most.")
    batch_bytes: int = Field(16 * 1024 * 1024, description="Bytes in one transaction at most (at least one message).")
    tries: int = Field(3, ge=1, description="Tries of a message whose handler raises an unexpected error.")
    backoff_initial_s: float = Field(0.5, gt=0, description="First pause after a transient failure; doubled each time.")
    backoff_max_s: float = Field(30.0, gt=0, description="Longest pause between tries of a transient failure.")
    max_consecutive_dead_letters: int = Field(
        50, ge=1, description="So many in a row halt the consumer: a bad release must not empty a topic."
    )
    max_poll_interval_s: int = Field(60, ge=10, description="The group gives a member up that has not polled so long.")
    session_timeout_s: int = Field(10, ge=6, description="The group gives a silent member up after this.")
    shutdown_grace_s: float = Field(20.0, description="How long a stop waits for the message in hand.")
    compute_workers: int = Field(1, ge=1, description="Processes for handlers that compute.")


class ServiceSettings(BaseSettings):
    """Base of every service's settings."""

    model_config = SettingsConfigDict(
        env_prefix="TOCSIN_",
        env_nested_delimiter="__",
        extra="ignore",
        frozen=True,
        nested_model_default_partial_update=True,
    )

    kafka: KafkaSettings = KafkaSettings()
    database: DatabaseSettings = DatabaseSettings()
    influx: InfluxSettings = InfluxSettings()
    blobs: BlobSettings = BlobSettings()
    http: HttpSettings = HttpSettings()
    log: LogSettings = LogSettings()
    consumer: ConsumerSettings = ConsumerSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        path = os.environ.get("TOCSIN_CONFIG")
        if path is None:
            return init_settings, env_settings
        if not Path(path).is_file():
            raise InvalidInputError("TOCSIN_CONFIG", path, "the path of a YAML file")
        return init_settings, env_settings, YamlConfigSettingsSource(settings_cls, yaml_file=path)


Settings = TypeVar("Settings", bound=ServiceSettings)


def read_settings(kind: type[Settings]) -> Settings:
    """Return a service's settings; exit with 2 and a line for each that is wrong."""
    try:
        return kind()
    except ValidationError as error:
        complaint = explain(error)
    except (InvalidInputError, SettingsError) as error:
        complaint = str(error)
    print(complaint, file=sys.stderr)  # noqa: T201  (the log is set up from these settings)
    raise SystemExit(2)


def explain(error: ValidationError) -> str:
    """Return one line per wrong setting: its name as in the environment, and what was expected.

    Values are left out: a secret in the wrong variable must not reach a log.
    """
    lines = []
    for problem in error.errors(include_url=False):
        name = "TOCSIN_" + "__".join(str(part) for part in problem["loc"]).upper()
        lines.append(f"{name}: {problem['msg']}")
    return "\n".join(lines)
