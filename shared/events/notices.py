"""What was told to whom: what `notices.deliveries` carries.

Field by field documentation and units are in `schemas/avro/delivery`.
"""

from enum import StrEnum
from typing import ClassVar
from uuid import UUID

from shared.events.record import Event, Int32, Int64, Timestamp


class DeliveryState(StrEnum):
    """How far a delivery is."""

    PENDING = "PENDING"
    SENDING = "SENDING"
    SENT = "SENT"
    CONFIRMED = "CONFIRMED"
    FAILED = "FAILED"
    SUPPRESSED = "SUPPRESSED"
    UNKNOWN = "UNKNOWN"


class DeliveryAction(StrEnum):
    """What a delivery does to those before it."""

    NEW = "NEW"
    UPDATE = "UPDATE"
    RETRACTION = "RETRACTION"
    UNKNOWN = "UNKNOWN"


class ChannelMode(StrEnum):
    """Whether, and where to, a channel sends."""

    OFF = "OFF"
    DRY_RUN = "DRY_RUN"
    SANDBOX = "SANDBOX"
    PRODUCTION = "PRODUCTION"
    UNKNOWN = "UNKNOWN"


class Delivery(Event):
    """What became of telling one channel one thing; a later record of the same delivery replaces this one."""

    schema_name: ClassVar[str] = "delivery"

    delivery_id: Int64
    channel: str
    channel_kind: str
    mode: ChannelMode
    subject: str
    revision: Int32
    source_topic: str
    source_event_id: UUID
    action: DeliveryAction
    state: DeliveryState
    reason: str | None = None
    attempts: Int32
    is_test: bool
    decided_at: Timestamp
    changed_at: Timestamp
    reference: str | None = None
    tns_name: str | None = None
    frb_id: Int64 | None = None


class Heartbeat(Event):
    """A sign of life: as long as these come, silence elsewhere means that nothing happened."""

    schema_name: ClassVar[str] = "heartbeat"

    service: str
    sent_at: Timestamp
    interval_s: float
