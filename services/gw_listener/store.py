"""What gw_listener remembers, in SQL."""

from datetime import datetime

from services.gw_listener.domain import AlertKey, Placement, SupereventHistory
from shared.db.unit_of_work import UnitOfWork
from shared.events.gw import AlertType, GwAlert, SupereventKind


class AlertStore:
    """The superevents and alerts of one unit of work."""

    def __init__(self, work: UnitOfWork) -> None:
        self._work = work

    async def lock_history(self, superevent_id: str, kind: SupereventKind, received_at: datetime) -> SupereventHistory:
        """Return the history of a superevent; until the commit nobody else can add to it."""
        self._work.write(
            "INSERT INTO superevents (superevent_id, kind, state, alert_count, first_received_at, updated_at)"
            " VALUES ($1, $2, 'OPEN', 0, $3, $3) ON CONFLICT DO NOTHING",
            superevent_id,
            kind,
            received_at,
        )
        row = await self._work.fetch_row(
            "SELECT alert_count, newest_event_id, newest_alert_type, newest_time_created FROM superevents"
            " WHERE superevent_id = $1 FOR UPDATE",
            superevent_id,
        )
        assert row is not None
        if row["newest_event_id"] is None:
            return SupereventHistory()
        newest = AlertKey(row["newest_event_id"], AlertType(row["newest_alert_type"]), row["newest_time_created"])
        return SupereventHistory(row["alert_count"], newest)

    async def add_alert(self, record: GwAlert) -> bool:
        """Store an alert; False when it is known already."""
        row = await self._work.fetch_row(
            "INSERT INTO alerts (event_id, superevent_id, sequence, alert_type, time_created, was_current, received_at,"
            " source, record) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (event_id) DO NOTHING"
            " RETURNING event_id",
            record.event_id,
            record.superevent_id,
            record.sequence,
            record.alert_type,
            record.time_created,
            record.is_current,
            record.received_at,
            record.source,
            record.model_dump_json(),
        )
        return row is not None

    def update_history(self, superevent_id: str, placement: Placement, updated_at: datetime) -> None:
        """Store the history with a new alert in it."""
        newest = placement.history.newest
        assert newest is not None
        self._work.write(
            "UPDATE superevents SET state = $2, alert_count = $3, newest_event_id = $4, newest_alert_type = $5,"
            " newest_time_created = $6, updated_at = $7 WHERE superevent_id = $1",
            superevent_id,
            placement.history.state,
            placement.history.count,
            newest.event_id,
            newest.alert_type,
            newest.time_created,
            updated_at,
        )

    def add_reception(self, record: GwAlert, position: str) -> None:
        """Note that a source brought the alert."""
        self._work.write(
            "INSERT INTO receptions (event_id, source, received_at, position) VALUES ($1, $2, $3, $4)"
            " ON CONFLICT DO NOTHING",
            record.event_id,
            record.source,
            record.received_at,
            position,
        )
