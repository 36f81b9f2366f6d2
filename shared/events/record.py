"""What every record on a topic has in common, as Python sees it.

The contract is the hand-written Avro schema under `schemas/avro`; these models are its Python form,
and tests/contract holds the two together field by field.
"""

from datetime import UTC, datetime
from typing import Annotated, ClassVar
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field


def _in_utc(time: datetime) -> datetime:
    return time.astimezone(UTC)


Timestamp = Annotated[AwareDatetime, AfterValidator(_in_utc)]
"""A moment in UTC to the microsecond; a naive time is refused, another zone converted."""

Int32 = Annotated[int, Field(ge=-(2**31), lt=2**31)]
"""What an Avro int holds."""

Int64 = Annotated[int, Field(ge=-(2**63), lt=2**63)]
"""What an Avro long holds."""


class Part(BaseModel):
    """A record inside a record; immutable, and a misspelt field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Event(Part):
    """A record that travels on a topic."""

    schema_name: ClassVar[str]
    """Folder under `schemas/avro` that holds the record's schema versions."""

    event_id: UUID
