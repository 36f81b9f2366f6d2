"""Every record that travels on a topic of ours, by the name of its schema folder."""

from collections.abc import Mapping
from types import MappingProxyType

from shared.events.frb import FrbEvent
from shared.events.gw import GwAlert, GwSkymap
from shared.events.mma import Coincidence
from shared.events.notices import Delivery, Heartbeat
from shared.events.record import Event

RECORDS: Mapping[str, type[Event]] = MappingProxyType(
    {model.schema_name: model for model in (Coincidence, Delivery, FrbEvent, GwAlert, GwSkymap, Heartbeat)}
)
