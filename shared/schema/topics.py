"""The topics, as `schemas/topics` tells them: one file each, and a dead-letter topic for every consumer."""

from functools import cache
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

from shared.schema.records import SCHEMAS

DEAD_LETTER_RETENTION_DAYS = 90
# A dead letter waits for a person; a month may pass before the sender has mended its side.
DEAD_LETTER_HEADROOM_BYTES = 64 * 2**10
# The headers that tell the reason must fit beside a message of the greatest size.


class Topic(BaseModel):
    """One topic: who answers for it, what it carries, how it is set up.

    `record` is a folder of `schemas/avro` and `key` one of that record's fields. Both are None where the
    messages follow another's contract: upstream's, described in the folder `external` of `schemas/external`,
    or, for dead letters, that of whatever failed. `consumers` work in the consumer group of their name and have a
    dead-letter topic each; `followers` read outside of any group, so that each of their processes hears everything.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-z0-9_.]+$", max_length=249)
    description: str = Field(min_length=20)
    owner: str = Field(min_length=1)
    external: str | None = None
    record: str | None
    key: str | None
    partitions: int = Field(ge=1)
    retention_days: int = Field(ge=1)
    max_message_bytes: int = Field(ge=8 * 2**20)
    compatibility: Literal["FULL_TRANSITIVE", "NONE"]
    producers: tuple[str, ...] = Field(min_length=1)
    consumers: tuple[str, ...]
    followers: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _ours_has_a_contract(self) -> "Topic":
        is_promised = self.compatibility == "FULL_TRANSITIVE"
        if (self.record is not None) != is_promised or (self.key is not None) != is_promised:
            raise ValueError("record, key and compatibility FULL_TRANSITIVE go together")
        return self

    @property
    def retention_ms(self) -> int:
        """Retention as the broker takes it (`retention.ms`)."""
        return self.retention_days * 86_400_000


@cache
def load_topics() -> tuple[Topic, ...]:
    """Every topic that has a file, by name.

    Raises
    ------
    pydantic.ValidationError
        When a file breaks the format.
    """
    paths = sorted((SCHEMAS / "topics").glob("*.yaml"))
    return tuple(Topic(name=path.stem, **yaml.safe_load(path.read_text("utf-8"))) for path in paths)


def dead_letter_topic(topic: str, service: str) -> str:
    """Name of the topic for what `service` could not handle from `topic`."""
    return f"{topic}.dlq.{service}"


def dead_letter_topics() -> tuple[Topic, ...]:
    """The dead-letter topic of every consumer of every topic."""
    return tuple(
        Topic(
            name=dead_letter_topic(topic.name, service),
            description=f"Messages of {topic.name} that {service} could not handle: original bytes, key and "
            "headers, with the reason in further headers. Read by operators (`tocsin dlq`).",
            owner=service,
            record=None,
            key=None,
            partitions=1,  # few and read by people: one partition keeps them in the order of failure
            retention_days=DEAD_LETTER_RETENTION_DAYS,
            max_message_bytes=topic.max_message_bytes + DEAD_LETTER_HEADROOM_BYTES,
            compatibility="NONE",
            producers=(service,),
            consumers=(),
        )
        for topic in load_topics()
        for service in topic.consumers
    )
