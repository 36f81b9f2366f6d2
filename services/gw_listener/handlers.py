"""What happens to an alert: kept raw, read, placed in its superevent's history, announced on `gw.alerts`."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from services.gw_listener.alerts import UpstreamAlert, content_id, read_alert
from services.gw_listener.domain import AlertFilter, AlertKey, StoredFiles, place, to_record
from services.gw_listener.store import AlertStore
from shared.blobs.store import BlobStore
from shared.db.unit_of_work import UnitOfWork
from shared.events.blob import BlobRef
from shared.events.gw import RawFormat
from shared.inbox.subscription import Received
from shared.kafka.message import Message
from shared.outbox.event import outgoing

FITS_MEDIA_TYPE = "application/fits"
_RAW_MEDIA_TYPES = {RawFormat.AVRO: "application/vnd.apache.avro", RawFormat.JSON: "application/json"}

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Reception:
    """An alert as one source brought it, its bytes kept."""

    alert: UpstreamAlert
    event_id: uuid.UUID
    files: StoredFiles
    source: str
    position: str
    received_at: datetime
    marked_test: bool


class AlertReceiver:
    """Turns a source's messages into receptions. `unwrap` gives the alert's bytes, None for a heartbeat."""

    def __init__(self, *, source: str, blobs: BlobStore, unwrap: Callable[[Message], Awaitable[bytes | None]]) -> None:
        self._source = source
        self._blobs = blobs
        self._unwrap = unwrap

    async def __call__(self, message: Message) -> Received[Reception] | None:
        data = await self._unwrap(message)
        if data is None:
            return None
        # Before parsing: what cannot be read today can be read again tomorrow, from the same bytes.
        raw = await self._keep(data, "application/octet-stream")
        alert = read_alert(data)
        raw = raw.model_copy(update={"media_type": _RAW_MEDIA_TYPES.get(alert.raw_format, raw.media_type)})
        skymap, combined = await asyncio.gather(self._keep_map(alert.skymap), self._keep_map(alert.combined_skymap))
        event_id = content_id(alert)
        reception = Reception(
            alert=alert,
            event_id=event_id,
            files=StoredFiles(raw=raw, skymap=skymap, combined_skymap=combined),
            source=self._source,
            position=f"{message.topic}[{message.partition}]@{message.offset}",
            received_at=datetime.now(UTC),
            marked_test=message.is_test,
        )
        return Received(event_id, reception)

    async def _keep(self, data: bytes, media_type: str) -> BlobRef:
        return await asyncio.to_thread(self._blobs.put, data, media_type)

    async def _keep_map(self, data: bytes | None) -> BlobRef | None:
        return None if data is None else await self._keep(data, FITS_MEDIA_TYPE)


class AlertHandler:
    """Accepts alerts."""

    def __init__(self, *, wanted: AlertFilter, sender: str) -> None:
        self._wanted = wanted
        self._sender = sender

    async def on_alert(self, reception: Reception, work: UnitOfWork) -> None:
        """Add the alert to its superevent's history and announce it; a known one is only noted as received."""
        alert = reception.alert
        reason = self._wanted.why_passed_over(alert, marked_test=reception.marked_test)
        if reason is not None:
            log.info("alert.passed_over", superevent_id=alert.superevent_id, reason=reason)
            return
        store = AlertStore(work)
        history = await store.lock_history(alert.superevent_id, alert.kind, reception.received_at)
        placement = place(AlertKey(reception.event_id, alert.alert_type, alert.time_created), history)
        record = to_record(
            alert,
            event_id=reception.event_id,
            placement=placement,
            files=reception.files,
            received_at=reception.received_at,
            source=reception.source,
        )
        is_new = await store.add_alert(record)
        store.add_reception(record, reception.position)
        if is_new:
            store.update_history(alert.superevent_id, placement, reception.received_at)
            work.emit(outgoing("gw.alerts", record, is_test=record.is_test, sender=self._sender))
