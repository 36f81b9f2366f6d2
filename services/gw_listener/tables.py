"""The tables of the gw_listener schema."""

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from shared.db.tables import Timestamp, service_metadata
from shared.inbox.files import files_table

metadata = service_metadata("gw_listener")

superevents = sa.Table(
    "superevents",
    metadata,
    sa.Column("superevent_id", sa.Text, primary_key=True),
    sa.Column("kind", sa.Text, nullable=False, comment="REAL, MOCK or TEST."),
    sa.Column("state", sa.Text, nullable=False, comment="OPEN or RETRACTED."),
    sa.Column("alert_count", sa.Integer, nullable=False, comment="Alerts accepted so far."),
    sa.Column("newest_event_id", pg.UUID, comment="The current alert; null only inside the first transaction."),
    sa.Column("newest_alert_type", sa.Text),
    sa.Column("newest_time_created", Timestamp),
    sa.Column("first_received_at", Timestamp, nullable=False),
    sa.Column("updated_at", Timestamp, nullable=False),
    sa.Index(None, "newest_time_created"),
    comment="One row per superevent; its current alert is that of the highest rank (domain.AlertKey.rank).",
)

alerts = sa.Table(
    "alerts",
    metadata,
    sa.Column("event_id", pg.UUID, primary_key=True),
    sa.Column("superevent_id", sa.Text, sa.ForeignKey(superevents.c.superevent_id), nullable=False),
    sa.Column("sequence", sa.Integer, nullable=False, comment="Order of acceptance, from 1."),
    sa.Column("alert_type", sa.Text, nullable=False),
    sa.Column("time_created", Timestamp, nullable=False),
    sa.Column("was_current", sa.Boolean, nullable=False, comment="Newest of the superevent when it was accepted."),
    sa.Column("received_at", Timestamp, nullable=False),
    sa.Column("source", sa.Text, nullable=False, comment="The source that brought it first."),
    sa.Column("record", pg.JSONB, nullable=False, comment="What went out on gw.alerts."),
    # As PostgreSQL writes it: (record->>'is_test')::boolean.
    sa.Column("is_test", sa.Boolean, sa.Computed("((record ->> 'is_test'::text))::boolean", persisted=True)),
    sa.UniqueConstraint("superevent_id", "sequence"),
    sa.Index(None, "is_test", "received_at"),
    comment="Every alert accepted, once, whichever source brought it.",
)

receptions = sa.Table(
    "receptions",
    metadata,
    sa.Column("event_id", pg.UUID, sa.ForeignKey(alerts.c.event_id), primary_key=True),
    sa.Column("source", sa.Text, primary_key=True),
    sa.Column("received_at", Timestamp, nullable=False),
    sa.Column("position", sa.Text, nullable=False, comment="topic[partition]@offset, or the path of a file."),
    comment="Which sources brought an alert, and when: the latency of one feed against another.",
)

files = files_table(metadata)
