"""What frb_intake remembers, in SQL."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from services.frb_intake.domain import summary, to_ellipse
from services.frb_intake.models import ObservationIn
from shared.db.unit_of_work import UnitOfWork
from shared.events.blob import BlobRef
from shared.events.frb import FrbEvent, FrbMeasurement
from shared.sky import healpix
from shared.sky.localisation import intervals

_SEARCHABLE = (
    "status",
    "tns_name",
    "repeater",
    "votes_confirm",
    "votes_reject",
    "votes_unsure",
    "dm_pc_cm3",
    "dm_excess_pc_cm3",
    "snr",
    "width_ms",
    "ra_deg",
    "dec_deg",
    "nest29",
    "region",
    "event_time",
    "time_of_arrival_inf",
    "summary",
    "record",
)
NOTICES = "frb_intake.notices"
# In the inbox: the notices that were carried out, whichever source brought them.
_CAST = {"region": "::text::int8multirange"}
_ADDED = (
    "id",
    "internal_name",
    "origin",
    "origin_id",
    "submitted_by",
    "digest",
    "is_test",
    "received_at",
    "observation_id",
    *_SEARCHABLE,
)
_NOTED = ("revision", "change", "changed_at", "changed_by", "detail")


_RISING = (
    "greatest(pg_current_xact_id()::text::bigint, (SELECT max(transaction_id) FROM changes WHERE burst_id = {}.id))"
)
# A transaction has its number before it has the lock on a burst. A follower is never beyond the numbers of those that
# still run, so the number of a later one is as safe.


def _places(names: Sequence[str], first: int) -> str:
    return ", ".join(f"${n}{_CAST.get(name, '')}" for n, name in enumerate(names, first))


def _note(burst: str, first: int) -> str:
    """Return the parts of a statement that keep a change and who made it: one round trip instead of three."""
    revision, change, changed_at, changed_by, detail, address = range(first, first + len(_NOTED) + 1)
    return (
        f" noted AS (INSERT INTO changes (burst_id, {', '.join(_NOTED)}, record, transaction_id)"  # noqa: S608  (names of columns)
        f" SELECT id, ${revision}::int, ${change}::text, ${changed_at}::timestamptz, ${changed_by}::text,"
        f" ${detail}::json, record, {_RISING.format(burst)} FROM {burst}),"
        " audited AS (INSERT INTO audit_log (actor, action, subject, address)"
        f" SELECT ${changed_by}::text, ${change}::text, internal_name, ${address}::text FROM {burst})"
    )


# Only names of columns are put together here.
_RETURNED = "RETURNING id, internal_name, record"
_AFTER_ADDED = len(_ADDED) + 1
_INSERT = (
    f"WITH added AS (INSERT INTO bursts ({', '.join(_ADDED)}) VALUES ({_places(_ADDED, 1)})"  # noqa: S608
    f" ON CONFLICT DO NOTHING {_RETURNED}),"
    f"{_note('added', _AFTER_ADDED)},"
    " pictured AS (INSERT INTO images (burst_id, name, file_name, blob, state)"
    " SELECT added.id, image.name, image.file_name, image.blob::jsonb, 'PENDING' FROM added,"
    f" unnest(${_AFTER_ADDED + 6}::text[], ${_AFTER_ADDED + 7}::text[], ${_AFTER_ADDED + 8}::text[])"
    " AS image (name, file_name, blob))"
    " SELECT id FROM added"
)
_CHANGES = ", ".join(f"{name} = ${n}{_CAST.get(name, '')}" for n, name in enumerate(_SEARCHABLE, 2))
_UPDATE = (
    f"WITH changed AS (UPDATE bursts SET {_CHANGES} WHERE id = $1 {_RETURNED}),"  # noqa: S608
    f"{_note('changed', len(_SEARCHABLE) + 2)} SELECT id FROM changed"
)
# A statement sees the database as it was when it began: what another transaction moves meanwhile takes a second look.
_TAKE_OBSERVATION = """
WITH staged AS (DELETE FROM staged_observations WHERE id = $1 RETURNING *),
     added AS (INSERT INTO observations SELECT * FROM staged ON CONFLICT DO NOTHING RETURNING parameters)
SELECT parameters FROM added UNION ALL SELECT parameters FROM observations WHERE id = $1
"""
_FIND_OR_RESERVE = """
SELECT coalesce(known.id, nextval('burst_ids')) AS id, known.id IS NULL AS is_new
FROM (VALUES (0)) AS one LEFT JOIN bursts AS known ON known.submitted_by = $1 AND known.digest = $2
"""
_STAGE_OBSERVATION = """
WITH known AS (SELECT id FROM observations WHERE submitted_by = $1 AND digest = $2),
     staged AS (
         INSERT INTO staged_observations (submitted_by, digest, parameters)
         SELECT $1, $2, $3::jsonb WHERE NOT EXISTS (SELECT FROM known)
         ON CONFLICT (submitted_by, digest) DO UPDATE SET received_at = now()
         RETURNING id
     )
SELECT id FROM known UNION ALL SELECT id FROM staged
"""


@dataclass(frozen=True)
class NewImage:
    """An image on its way into the store."""

    name: str
    file_name: str
    blob: BlobRef


class BurstStore:
    """The bursts of one unit of work."""

    def __init__(self, work: UnitOfWork) -> None:
        self._work = work

    async def stage_observation(self, sent: ObservationIn, *, submitted_by: str, digest: bytes) -> int:
        """Keep an observation until its burst comes; the same one again has the same id."""
        row = await self._work.fetch_row(_STAGE_OBSERVATION, submitted_by, digest, sent.model_dump_json())
        assert row is not None
        number: int = row["id"]
        return number

    async def take_observation(self, observation_id: int) -> ObservationIn | None:
        """Return an observation, which now belongs to a burst; None when there is none of that id."""
        for _ in range(2):
            row = await self._work.fetch_row(_TAKE_OBSERVATION, observation_id)
            if row is not None:
                return ObservationIn.model_validate_json(row["parameters"])
        return None

    async def add_observation(self, sent: ObservationIn, *, submitted_by: str, digest: bytes) -> int:
        """Store the observation of a burst and return its id."""
        observation_id = await self.stage_observation(sent, submitted_by=submitted_by, digest=digest)
        await self.take_observation(observation_id)
        return observation_id

    async def find(self, *, submitted_by: str, digest: bytes) -> int | None:
        """Return the id of the burst with this content, None when it is new."""
        row = await self._work.fetch_row(
            "SELECT id FROM bursts WHERE submitted_by = $1 AND digest = $2", submitted_by, digest
        )
        return None if row is None else int(row["id"])

    async def find_or_reserve(self, *, submitted_by: str, digest: bytes) -> tuple[int, bool]:
        """Return the id of the burst with this content, or else an id for it, and whether it is new."""
        row = await self._work.fetch_row(_FIND_OR_RESERVE, submitted_by, digest)
        assert row is not None
        return row["id"], row["is_new"]

    async def claim_notice(self, notice_id: UUID) -> bool:
        """Return whether a notice comes for the first time. Until the commit no other notice is carried out.

        The several notices of one burst may come through several sources at once, and either may be its first.
        """
        await self._work.fetch_row("SELECT pg_advisory_xact_lock(hashtextextended($1, 4))", NOTICES)
        return bool(await self._work.claim(NOTICES, [notice_id]))

    async def find_named(self, *, origin: str, is_test: bool, names: Sequence[str]) -> int | None:
        """Return the id of the burst that another observatory calls by one of `names`; the first name counts most."""
        row = await self._work.fetch_row(
            "SELECT burst_id FROM names WHERE origin = $1 AND is_test = $2 AND name = ANY($3)"
            " ORDER BY array_position($3, name) LIMIT 1",
            origin,
            is_test,
            list(names),
        )
        return None if row is None else int(row["burst_id"])

    def add_names(self, burst_id: int, *, origin: str, is_test: bool, names: Sequence[str]) -> None:
        """Remember what another observatory calls a burst; a name stays with the burst that had it first."""
        for name in names:
            self._work.write(
                "INSERT INTO names (origin, is_test, name, burst_id) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
                origin,
                is_test,
                name,
                burst_id,
            )

    async def notices_of(self, burst_id: int) -> set[str]:
        """Return which kinds of notices a burst has had."""
        rows = await self._work.fetch(
            "SELECT DISTINCT detail->>'notice' AS kind FROM changes WHERE burst_id = $1", burst_id
        )
        return {row["kind"] for row in rows if row["kind"]}

    async def is_named_by_delivery(self, burst_id: int) -> bool:
        """Whether the name that a burst has came with a delivery of the notifier, and not from anybody else."""
        row = await self._work.fetch_row(
            "SELECT detail->>'delivery' IS NOT NULL AS is_delivered FROM ("
            " SELECT revision, detail, record->>'tns_name' AS name,"
            " lag(record->>'tns_name') OVER (ORDER BY revision) AS before FROM changes WHERE burst_id = $1"
            ") AS told WHERE name IS DISTINCT FROM before ORDER BY revision DESC LIMIT 1",
            burst_id,
        )
        return row is not None and bool(row["is_delivered"])

    async def next_id(self) -> int:
        """Return an id for a new burst."""
        row = await self._work.fetch_row("SELECT nextval('burst_ids') AS id")
        assert row is not None
        number: int = row["id"]
        return number

    async def add(
        self,
        record: FrbEvent,
        *,
        digest: bytes | None = None,
        observation_id: int | None = None,
        images: Sequence[NewImage] = (),
        detail: Mapping[str, Any],
        address: str | None = None,
    ) -> bool:
        """Store a new burst, with who sent it from where; False when another request stored it in this moment."""
        values = {
            **_searchable(record),
            "id": record.frb_id,
            "internal_name": record.internal_name,
            "origin": record.origin,
            "origin_id": record.origin_id,
            "submitted_by": record.submitted_by,
            "digest": digest,
            "is_test": record.is_test,
            "received_at": record.received_at,
            "observation_id": observation_id,
        }
        row = await self._work.fetch_row(
            _INSERT,
            *(values[name] for name in _ADDED),
            *_noted(record, detail, address),
            [image.name for image in images],
            [image.file_name for image in images],
            [image.blob.model_dump_json() for image in images],
        )
        return row is not None

    async def lock(self, burst_id: int) -> FrbEvent | None:
        """Return a burst; until the commit nobody else changes it. None when there is none of that id."""
        row = await self._work.fetch_row("SELECT record FROM bursts WHERE id = $1 FOR UPDATE", burst_id)
        return None if row is None else FrbEvent.model_validate_json(row["record"])

    def save(self, record: FrbEvent, *, detail: Mapping[str, Any], address: str | None = None) -> None:
        """Store a changed burst, and the change, with who made it from where."""
        values = _searchable(record)
        self._work.write(
            _UPDATE, record.frb_id, *(values[name] for name in _SEARCHABLE), *_noted(record, detail, address)
        )

    async def add_measurement(
        self, burst_id: int, measurement: FrbMeasurement, *, as_submitted: Mapping[str, Any], digest: bytes
    ) -> tuple[int, bool]:
        """Store a version of what was measured; return its id, and whether it is new.

        The same one of the same maker is there only once.
        """
        row = await self._work.fetch_row(
            "INSERT INTO measurements (burst_id, number, made_by, made_at, digest, as_submitted, record)"
            " VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (burst_id, made_by, digest) DO NOTHING RETURNING id",
            burst_id,
            measurement.number,
            measurement.made_by,
            measurement.made_at,
            digest,
            json.dumps(as_submitted),
            measurement.model_dump_json(),
        )
        if row is not None:
            return row["id"], True
        row = await self._work.fetch_row(
            "SELECT id FROM measurements WHERE burst_id = $1 AND made_by = $2 AND digest = $3",
            burst_id,
            measurement.made_by,
            digest,
        )
        assert row is not None
        return row["id"], False

    async def vote(
        self, burst_id: int, *, rater: str, rater_id: str | None, rating: str, note: str | None, rated_at: datetime
    ) -> str | None:
        """Store a vote; return the rater's previous one, found by the id where there is one, else by the name."""
        if rater_id is not None:
            # Votes from before ids were kept belong to who comes first with their name.
            self._work.write(
                "UPDATE ratings SET rater_id = $3 WHERE burst_id = $1 AND rater = $2 AND rater_id IS NULL",
                burst_id,
                rater,
                rater_id,
            )
        row = await self._work.fetch_row(
            "SELECT rating FROM ratings WHERE burst_id = $1 AND rater_id IS NOT DISTINCT FROM $3"
            " AND ($3::text IS NOT NULL OR rater = $2) ORDER BY id DESC LIMIT 1",
            burst_id,
            rater,
            rater_id,
        )
        self._work.write(
            "INSERT INTO ratings (burst_id, rater, rater_id, rating, note, rated_at) VALUES ($1, $2, $3, $4, $5, $6)",
            burst_id,
            rater,
            rater_id,
            rating,
            note,
            rated_at,
        )
        return None if row is None else str(row["rating"])

    async def claim_key(self, *, submitted_by: str, key: str) -> tuple[bytes, int] | None:
        """Return digest and burst of the request that had this idempotency key; None, and the key is ours.

        Another request with the key is waited for.
        """
        row = await self._work.fetch_row(
            "SELECT pg_advisory_xact_lock(hashtextextended($1, 3))", f"{submitted_by} {key}"
        )
        row = await self._work.fetch_row(
            "SELECT digest, burst_id FROM idempotency_keys WHERE submitted_by = $1 AND key = $2", submitted_by, key
        )
        return None if row is None else (row["digest"], row["burst_id"])

    def keep_key(self, *, submitted_by: str, key: str, digest: bytes, burst_id: int) -> None:
        """Remember which burst a request with this key made."""
        self._work.write(
            "INSERT INTO idempotency_keys (submitted_by, key, digest, burst_id) VALUES ($1, $2, $3, $4)",
            submitted_by,
            key,
            digest,
            burst_id,
        )


def _noted(record: FrbEvent, detail: Mapping[str, Any], address: str | None) -> tuple[object, ...]:
    return record.revision, record.change, record.changed_at, record.changed_by, json.dumps(detail), address


def _searchable(record: FrbEvent) -> dict[str, Any]:
    latest = record.latest
    place = latest.localisation if latest else None
    return {
        "status": record.status,
        "tns_name": record.tns_name,
        "repeater": record.repeater,
        "votes_confirm": record.votes.confirm,
        "votes_reject": record.votes.reject,
        "votes_unsure": record.votes.unsure,
        "dm_pc_cm3": latest.dm_pc_cm3 if latest else None,
        "dm_excess_pc_cm3": latest.dm_budget.dm_excess_pc_cm3 if latest and latest.dm_budget else None,
        "snr": latest.snr if latest else None,
        "width_ms": latest.width_ms if latest else None,
        "ra_deg": place.ra_deg if place else None,
        "dec_deg": place.dec_deg if place else None,
        "nest29": int(healpix.lonlat_to_nest29(place.ra_deg, place.dec_deg)) if place else None,
        "region": _multirange(record) if place else None,
        "event_time": record.time_of_arrival or record.received_at,
        "time_of_arrival_inf": latest.time_of_arrival_inf if latest else None,
        "summary": json.dumps(summary(record)),
        "record": record.model_dump_json(),
    }


def _multirange(record: FrbEvent) -> str:
    assert record.latest is not None
    assert record.latest.localisation is not None
    cells = intervals(to_ellipse(record.latest.localisation))
    return f"{{{','.join(f'[{a},{b})' for a, b in zip(cells.start.tolist(), cells.stop.tolist(), strict=True))}}}"
