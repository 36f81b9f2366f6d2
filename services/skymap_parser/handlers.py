"""What happens to an alert's sky maps: parsed, stored, announced on `gw.skymaps`; then indexed and drawn.

The second step follows the announcement, so that nobody waits for a picture. It is a consumer of its own, with
the same guarantees.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from services.skymap_parser.domain import METHOD_VERSION
from services.skymap_parser.store import SkymapStore
from services.skymap_parser.worker import SearchableMap
from shared.db.unit_of_work import UnitOfWork
from shared.events.blob import BlobRef
from shared.events.gw import AlertType, GwAlert, GwSkymap, MapKind, Skymap, SkymapState, SupereventState
from shared.events.ids import event_id
from shared.inbox.subscription import Received
from shared.kafka.message import Message
from shared.outbox.event import outgoing
from shared.schema.codec import decode

TOPIC = "gw.skymaps"


@dataclass(frozen=True)
class ParsedAlert:
    """An alert with the products of its maps."""

    alert: GwAlert
    products: tuple[tuple[MapKind, Skymap], ...]


@dataclass(frozen=True)
class IndexedMap:
    """An announced map with its searchable form."""

    record: GwSkymap
    searchable: SearchableMap


class SkymapHandler:
    """Parses and announces.

    Parameters
    ----------
    make_product
        Parses the map behind a reference (in a worker process).
    """

    def __init__(self, *, make_product: Callable[[BlobRef], Awaitable[Skymap]], sender: str) -> None:
        self._make_product = make_product
        self._sender = sender

    async def receive(self, message: Message) -> Received[ParsedAlert]:
        """Decode an alert and parse its maps, before any transaction is open."""
        alert = decode(message.value, GwAlert)
        maps = {
            MapKind.GW: alert.skymap,
            MapKind.COMBINED: alert.external_coinc.combined_skymap if alert.external_coinc else None,
        }
        products = [(kind, await self._make_product(source)) for kind, source in maps.items() if source is not None]
        return Received(alert.event_id, ParsedAlert(alert, tuple(products)))

    async def on_alert(self, parsed: ParsedAlert, work: UnitOfWork) -> None:
        """Store and announce the maps of an alert; a retraction withdraws those of its superevent."""
        alert, store = parsed.alert, SkymapStore(work)
        if alert.alert_type is AlertType.RETRACTION:
            for map_kind in await store.withdraw(alert.superevent_id):
                self._announce(_record(alert, map_kind, None), work)
            return
        if alert.is_current and parsed.products:
            store.supersede(alert.superevent_id)
        for map_kind, skymap in parsed.products:
            record = _record(alert, map_kind, skymap)
            store.add(record)
            stands = record.state is SkymapState.AVAILABLE
            # A map that comes after its superevent's retraction is kept for the record, and not handed on.
            self._announce(record if stands else record.model_copy(update={"skymap": None}), work)

    def _announce(self, record: GwSkymap, work: UnitOfWork) -> None:
        work.emit(outgoing(TOPIC, record, is_test=record.is_test, sender=self._sender))


class IndexHandler:
    """Makes announced maps searchable and draws them."""

    def __init__(self, *, make_searchable: Callable[[BlobRef, str], Awaitable[SearchableMap]]) -> None:
        self._make_searchable = make_searchable

    async def receive(self, message: Message) -> Received[IndexedMap] | None:
        """Decode an announced map and compute its searchable form."""
        record = decode(message.value, GwSkymap)
        if record.skymap is None:
            return None
        title = f"{record.superevent_id} {record.alert_type.lower()}"
        if record.map_kind is MapKind.COMBINED:
            title += ", combined with the external event"
        return Received(
            event_id("index", str(record.event_id)),
            IndexedMap(record, await self._make_searchable(record.skymap.canonical, title)),
        )

    async def on_map(self, indexed: IndexedMap, work: UnitOfWork) -> None:
        """Store the searchable form."""
        store = SkymapStore(work)
        store.add_cells(indexed.record.event_id, indexed.searchable.parts)
        if indexed.searchable.picture is not None:
            store.add_picture(indexed.record.event_id, indexed.searchable.picture)


def product_id(alert_event_id: UUID, map_kind: MapKind) -> UUID:
    """Return the id of the record about one map of an alert."""
    return event_id("gw.skymaps", str(alert_event_id), map_kind)


def _record(alert: GwAlert, map_kind: MapKind, skymap: Skymap | None) -> GwSkymap:
    stands = alert.superevent_state is not SupereventState.RETRACTED
    return GwSkymap(
        event_id=product_id(alert.event_id, map_kind),
        superevent_id=alert.superevent_id,
        kind=alert.kind,
        is_test=alert.is_test,
        alert_event_id=alert.event_id,
        alert_type=alert.alert_type,
        alert_time_created=alert.time_created,
        is_current=alert.is_current,
        state=SkymapState.AVAILABLE if stands else SkymapState.WITHDRAWN,
        map_kind=map_kind,
        processed_at=datetime.now(UTC),
        method_version=METHOD_VERSION,
        event_time=alert.event.time if alert.event else None,
        skymap=skymap,
    )
