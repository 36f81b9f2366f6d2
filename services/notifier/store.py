"""What notifier remembers, in SQL."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import asyncpg

from services.notifier.channels.channel import Answer, Channel, Earlier, Job, Prepared
from services.notifier.domain import Decision, Row
from services.notifier.happenings import TOPICS, Happening, read_happening
from shared.db.unit_of_work import UnitOfWork
from shared.errors import TransientError
from shared.events.frb import FrbEvent
from shared.events.ids import event_id
from shared.events.notices import ChannelMode, Delivery, DeliveryAction, DeliveryState
from shared.outbox.event import outgoing

TOPIC = "notices.deliveries"
WAKE = "notifier_deliveries"
# Channel of PostgreSQL's notifications that wakes the dispatchers.

# What the channel of a delivery d may want to know, in one round trip: what was told before of its subject, and the
# newest record of each thing that belongs to that.
_CONTEXT = """
ARRAY(
  SELECT ROW(b.revision, b.action, b.reference, b.answer, b.request) FROM deliveries AS b
  WHERE b.channel = d.channel AND b.subject = d.subject AND b.id < d.id
    AND (b.state IN ('SENT', 'CONFIRMED', 'UNKNOWN') OR b.mode = 'DRY_RUN' AND b.request IS NOT NULL)
  ORDER BY b.id
) AS earlier,
ARRAY(
  SELECT DISTINCT ON (r.subject, r.topic) ROW(r.event_id, r.topic, r.record) FROM happenings AS r
  WHERE r.subject IN (SELECT related FROM links WHERE subject = d.subject UNION ALL SELECT d.subject)
  ORDER BY r.subject, r.topic, r.ordinal DESC
) AS related
"""
_READ = f"SELECT d.*, h.topic, h.record, {_CONTEXT} FROM deliveries AS d JOIN happenings AS h USING (event_id)"  # noqa: S608
_DUE = f"""{_READ}
WHERE d.channel = $1 AND d.next_attempt_at <= now() AND d.state IN ('PENDING', 'SENDING', 'SENT')
  AND (d.state != 'PENDING' OR NOT EXISTS (
    SELECT FROM deliveries AS before WHERE before.channel = d.channel AND before.subject = d.subject
      AND before.id < d.id AND before.state IN ('PENDING', 'SENDING')))
ORDER BY d.id LIMIT $2 FOR UPDATE OF d SKIP LOCKED
"""
# Locked: what is about to be suppressed is not sent, and the other way round.
_NEXT = """
SELECT extract(epoch FROM min(next_attempt_at) - now()) AS wait_s FROM deliveries AS d
WHERE channel = $1 AND next_attempt_at IS NOT NULL AND state IN ('PENDING', 'SENDING', 'SENT')
  AND (d.state != 'PENDING' OR NOT EXISTS (
    SELECT FROM deliveries AS before WHERE before.channel = d.channel AND before.subject = d.subject
      AND before.id < d.id AND before.state IN ('PENDING', 'SENDING')))
"""
_PUT = """
UPDATE deliveries SET state = $2, reason = $3, request = coalesce($4, request), answer = coalesce($5, answer),
  reference = coalesce($6, reference), tns_name = coalesce($7, tns_name),
  next_attempt_at = now() + make_interval(secs => $8), attempts = attempts + $9, mode = $10, changed_at = now()
WHERE id = $1 RETURNING *
"""
_INTERRUPTED = f"{_READ} WHERE d.channel = $1 AND d.state = 'SENDING' ORDER BY d.id"
_BY_ID = f"{_READ} WHERE d.id = $1 FOR UPDATE OF d"
_ADD = f"""
WITH d AS (
  INSERT INTO deliveries (channel, channel_kind, mode, subject, revision, event_id, action, is_test, state, reason,
    cause_id, cause_topic, next_attempt_at)
  VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, CASE WHEN $9 = 'PENDING' THEN now() END)
  ON CONFLICT DO NOTHING RETURNING *
)
SELECT d.*, {_CONTEXT} FROM d
"""  # noqa: S608


@dataclass(frozen=True)
class Due:
    """A delivery whose turn it is."""

    row: asyncpg.Record
    job: Job

    @property
    def state(self) -> DeliveryState:
        """How far it is."""
        return DeliveryState(self.row["state"])

    @property
    def prepared(self) -> Prepared:
        """What was made of it before."""
        return Prepared(json.loads(self.row["request"]))

    @property
    def answer(self) -> Answer:
        """What came back so far."""
        told = json.loads(self.row["answer"]) if self.row["answer"] else {}
        return Answer(self.row["reference"], told, tns_name=self.row["tns_name"])


class NotifierStore:
    """The deliveries of one unit of work."""

    def __init__(self, work: UnitOfWork, *, sender: str) -> None:
        self._work = work
        self._sender = sender

    def add_happening(self, happening: Happening) -> None:
        """Remember a record; others who decide about its subject wait."""
        self._work.write(
            "WITH locked AS MATERIALIZED (SELECT pg_advisory_xact_lock(hashtextextended($3, 2))::text AS had)"
            " INSERT INTO happenings (event_id, topic, subject, record)"
            " SELECT $1::uuid, $2::text, $3::text, $4::jsonb FROM locked WHERE had IS NOT NULL"
            " ON CONFLICT DO NOTHING",
            happening.event_id,
            happening.topic,
            happening.subject,
            happening.record.model_dump_json(),
        )
        for parent in happening.parents:
            self._work.write(
                "INSERT INTO links (subject, related) VALUES ($1, $2) ON CONFLICT DO NOTHING", parent, happening.subject
            )

    async def newest(self, subject: str) -> Happening | None:
        """Return the newest record of a burst or of a superevent's alerts; others who decide about it wait."""
        await self._lock(subject)
        row = await self._work.fetch_row(
            "SELECT event_id, topic, subject, record FROM happenings"
            " WHERE subject = $1 AND topic IN ('frb.events', 'gw.alerts') ORDER BY ordinal DESC LIMIT 1",
            subject,
        )
        return None if row is None else as_happening(row)

    async def earlier(self, subject: str) -> Mapping[str, list[Row]]:
        """Return what is known of the deliveries of a subject, which `add_happening` or `newest` locked.

        By channel, oldest first.
        """
        rows = await self._work.fetch(
            "SELECT id, channel, revision, action, state, attempts, mode FROM deliveries WHERE subject = $1"
            " ORDER BY id",
            subject,
        )
        found: dict[str, list[Row]] = {}
        for row in rows:
            found.setdefault(row["channel"], []).append(
                Row(
                    row["id"],
                    row["revision"],
                    DeliveryAction(row["action"]),
                    DeliveryState(row["state"]),
                    row["attempts"],
                    ChannelMode(row["mode"]),
                )
            )
        return found

    async def _lock(self, subject: str) -> None:
        await self._work.fetch("SELECT pg_advisory_xact_lock(hashtextextended($1, 2))", subject)

    async def add(
        self,
        happening: Happening,
        decision: Decision,
        *,
        cause: Happening,
        channel: Channel,
        mode: ChannelMode,
        revision: int,
    ) -> asyncpg.Record | None:
        """Store a decision about a happening and what it makes needless; announce what is settled by it.

        Returns the delivery when it is to be told: it is taken at once, or waits (`queue`).
        """
        if decision.needless:
            rows = await self._work.fetch(
                "UPDATE deliveries SET state = 'SUPPRESSED', reason = $2, next_attempt_at = NULL, changed_at = now()"
                " WHERE id = ANY($1::bigint[]) AND state = 'PENDING' AND attempts = 0 RETURNING *",
                decision.needless,
                decision.suppressed or "something newer is told instead",
            )
            if len(rows) < len(decision.needless):
                raise TransientError("what need not be told is being sent; it is decided anew")
            for needless in rows:
                self._announce(needless, frb_id=frb_id_of(happening))
        state = DeliveryState.PENDING if decision.suppressed is None else DeliveryState.SUPPRESSED
        row = await self._work.fetch_row(
            _ADD,
            decision.channel,
            channel.kind,
            mode,
            happening.subject,
            revision,
            happening.event_id,
            decision.action,
            happening.is_test,
            state,
            decision.suppressed,
            cause.event_id,
            cause.topic,
        )
        if row is not None and state is not DeliveryState.PENDING:
            self._announce(row, frb_id=frb_id_of(happening))
            return None
        return row

    def queue(self, row: asyncpg.Record, happening: Happening) -> None:
        """Announce that a delivery waits for its turn, and have its channel look."""
        self._announce(row, frb_id=frb_id_of(happening))
        self.wake(row["channel"])

    async def due(self, channel: str, *, at_most: int) -> list[Due]:
        """Return deliveries of a channel whose turn it is, locked: all in one state, of a subject in order."""
        rows = await self._work.fetch(_DUE, channel, at_most)
        return [as_due(row, as_happening(row)) for row in rows if row["state"] == rows[0]["state"]]

    async def interrupted(self, channel: str) -> list[Due]:
        """Return what was being sent when a process died."""
        return [as_due(row, as_happening(row)) for row in await self._work.fetch(_INTERRUPTED, channel)]

    async def by_id(self, delivery_id: int) -> Due | None:
        """Return a delivery, locked."""
        row = await self._work.fetch_row(_BY_ID, delivery_id)
        return None if row is None else as_due(row, as_happening(row))

    def align(self, channel: str, wait_s: float) -> None:
        """Have nothing of a channel that was tried before wait longer than this."""
        self._work.write(
            "UPDATE deliveries SET next_attempt_at = now() + make_interval(secs => $2)"
            " WHERE channel = $1 AND state = 'PENDING' AND attempts > 0"
            "   AND next_attempt_at > now() + make_interval(secs => $2)",
            channel,
            wait_s,
        )

    def wake(self, channel: str) -> None:
        """Have a channel look what is due."""
        self._work.write("SELECT pg_notify($1, $2)", WAKE, channel)

    async def wait_s(self, channel: str) -> float | None:
        """Return how long until something of a channel is due; None when nothing waits."""
        row = await self._work.fetch_row(_NEXT, channel)
        return None if row is None or row["wait_s"] is None else max(float(row["wait_s"]), 0.0)

    async def put(
        self,
        due: Due,
        state: DeliveryState,
        *,
        reason: str | None = None,
        prepared: Prepared | None = None,
        answer: Answer | None = None,
        retry_s: float | None = None,
        tried: bool = False,
        mode: ChannelMode | None = None,
    ) -> None:
        """Store what became of a delivery, in its job's mode unless told otherwise; announce what is not under way."""
        values = (
            due.job.delivery_id,
            state,
            reason,
            None if prepared is None else json.dumps(prepared.request),
            None if answer is None else json.dumps(answer.answer),
            None if answer is None else answer.reference,
            None if answer is None else answer.tns_name,
            retry_s,
            int(tried),
            mode or due.job.mode,
        )
        if state is DeliveryState.SENDING:
            self._work.write(_PUT, *values)
            return
        row = await self._work.fetch_row(_PUT, *values)
        if row is not None:
            self._announce(row, frb_id=frb_id_of(due.job.happening))

    def _announce(self, row: asyncpg.Record, *, frb_id: int | None) -> None:
        record = Delivery(
            event_id=event_id(TOPIC, str(row["id"]), row["state"], str(row["attempts"]), row["changed_at"].isoformat()),
            delivery_id=row["id"],
            channel=row["channel"],
            channel_kind=row["channel_kind"],
            mode=ChannelMode(row["mode"]),
            subject=row["subject"],
            revision=row["revision"],
            source_topic=row["cause_topic"],
            source_event_id=row["cause_id"],
            action=DeliveryAction(row["action"]),
            state=DeliveryState(row["state"]),
            reason=row["reason"],
            attempts=row["attempts"],
            is_test=row["is_test"],
            decided_at=row["decided_at"],
            changed_at=row["changed_at"],
            reference=row["reference"],
            tns_name=row["tns_name"],
            frb_id=frb_id,
        )
        self._work.emit(outgoing(TOPIC, record, is_test=record.is_test, sender=self._sender))


def as_due(row: asyncpg.Record, happening: Happening) -> Due:
    """Return a delivery that was stored or read with everything that its channel may want to know."""
    return Due(
        row,
        Job(
            delivery_id=row["id"],
            revision=row["revision"],
            action=DeliveryAction(row["action"]),
            mode=ChannelMode(row["mode"]),
            happening=happening,
            attempts=row["attempts"],
            decided_at=row["decided_at"],
            earlier=[
                Earlier(
                    revision,
                    DeliveryAction(action),
                    reference,
                    json.loads(answer) if answer else {},
                    json.loads(request) if request else {},
                )
                for revision, action, reference, answer, request in row["earlier"]
            ],
            related=[
                happening if event_id == happening.event_id else _happening(topic, record)
                for event_id, topic, record in row["related"]
            ],
        ),
    )


def as_happening(row: asyncpg.Record) -> Happening:
    """Return a stored record as what happened."""
    return _happening(row["topic"], row["record"])


def _happening(topic: str, record: str) -> Happening:
    happening = read_happening(topic, TOPICS[topic].model_validate_json(record))
    assert happening is not None
    return happening


def frb_id_of(happening: Happening) -> int | None:
    """Return the burst that a happening is about."""
    return happening.record.frb_id if isinstance(happening.record, FrbEvent) else None


def revision_after(rows: Sequence[Row]) -> int:
    """Return the number of a subject's next delivery on a channel."""
    return max((row.revision for row in rows), default=0) + 1
