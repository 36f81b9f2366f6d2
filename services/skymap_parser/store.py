"""What skymap_parser remembers, in SQL."""

from collections.abc import Sequence
from uuid import UUID

from services.skymap_parser.worker import CellPart
from shared.db.unit_of_work import UnitOfWork
from shared.events.blob import BlobRef
from shared.events.gw import GwSkymap, MapKind


class SkymapStore:
    """The sky maps of one unit of work."""

    def __init__(self, work: UnitOfWork) -> None:
        self._work = work

    def add(self, record: GwSkymap) -> None:
        """Store a map."""
        skymap = record.skymap
        assert skymap is not None
        self._work.write(
            "INSERT INTO skymaps (event_id, superevent_id, alert_event_id, alert_type, alert_time_created, map_kind,"
            " state, is_current, is_test, event_time, ra_deg, dec_deg, area_50_deg2, area_90_deg2, distance_mean_mpc,"
            " distance_std_mpc, processed_at, record)"
            " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)",
            record.event_id,
            record.superevent_id,
            record.alert_event_id,
            record.alert_type,
            record.alert_time_created,
            record.map_kind,
            record.state,
            record.is_current,
            record.is_test,
            record.event_time,
            skymap.ra_deg,
            skymap.dec_deg,
            skymap.area_50_deg2,
            skymap.area_90_deg2,
            skymap.distance_mean_mpc,
            skymap.distance_std_mpc,
            record.processed_at,
            record.model_dump_json(),
        )

    def supersede(self, superevent_id: str) -> None:
        """Note that maps of a newer alert follow."""
        self._work.write("UPDATE skymaps SET is_current = false WHERE superevent_id = $1 AND is_current", superevent_id)

    async def withdraw(self, superevent_id: str) -> list[MapKind]:
        """Mark every map of a superevent as withdrawn; return their kinds."""
        rows = await self._work.fetch(
            "WITH withdrawn AS (UPDATE skymaps SET state = 'WITHDRAWN', is_current = false WHERE superevent_id = $1"
            " AND state = 'AVAILABLE' RETURNING map_kind)"
            " SELECT DISTINCT map_kind FROM withdrawn ORDER BY map_kind DESC",
            superevent_id,
        )
        return [MapKind(row["map_kind"]) for row in rows]

    def add_cells(self, event_id: UUID, parts: Sequence[CellPart]) -> None:
        """Make a map searchable."""
        for number, part in enumerate(parts):
            self._work.write(
                "INSERT INTO skymap_cells (event_id, part, cells, starts, stops, probdensity, credible_level)"
                " VALUES ($1, $2, int8range($3, $4), $5, $6, $7, $8) ON CONFLICT DO NOTHING",
                event_id,
                number,
                part.starts[0],
                part.stops[-1],
                part.starts,
                part.stops,
                part.probdensity,
                part.credible_level,
            )

    def add_picture(self, event_id: UUID, picture: BlobRef) -> None:
        """Note where a map's picture is."""
        self._work.write("UPDATE skymaps SET picture = $2 WHERE event_id = $1", event_id, picture.model_dump_json())
