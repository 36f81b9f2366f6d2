"""The tables of the notifier schema."""

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from shared.db.tables import Timestamp, service_metadata

metadata = service_metadata("notifier")

happenings = sa.Table(
    "happenings",
    metadata,
    sa.Column("event_id", pg.UUID, primary_key=True, comment="Of the record."),
    sa.Column("topic", sa.Text, nullable=False),
    sa.Column("subject", sa.Text, nullable=False, comment="frb/ID, gw/SUPEREVENT or mma/COINCIDENCE."),
    sa.Column("ordinal", sa.BigInteger, sa.Identity(always=True), nullable=False, comment="Order of arrival."),
    sa.Column("record", pg.JSONB, nullable=False),
    sa.Column("seen_at", Timestamp, nullable=False, server_default=sa.text("now()")),
    sa.Index(None, "subject", "ordinal"),
    comment="The records that something was to be told about, and the newest of each subject.",
)

links = sa.Table(
    "links",
    metadata,
    sa.Column("subject", sa.Text, primary_key=True),
    sa.Column("related", sa.Text, primary_key=True),
    comment="Which coincidences belong to a burst or a superevent.",
)

deliveries = sa.Table(
    "deliveries",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("channel", sa.Text, nullable=False),
    sa.Column("channel_kind", sa.Text, nullable=False),
    sa.Column("mode", sa.Text, nullable=False),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("revision", sa.Integer, nullable=False, comment="Counted from 1 for each subject and channel."),
    sa.Column(
        "event_id", pg.UUID, sa.ForeignKey(happenings.c.event_id), nullable=False, comment="Of the record that is told."
    ),
    sa.Column("cause_id", pg.UUID, nullable=False, comment="event_id of the record that made it to be told."),
    sa.Column("cause_topic", sa.Text, nullable=False, comment="And its topic."),
    sa.Column("action", sa.Text, nullable=False, comment="NEW, UPDATE or RETRACTION."),
    sa.Column("is_test", sa.Boolean, nullable=False),
    sa.Column(
        "state", sa.Text, nullable=False, comment="PENDING, SENDING, SENT, CONFIRMED, FAILED, SUPPRESSED, UNKNOWN."
    ),
    sa.Column("reason", sa.Text),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("decided_at", Timestamp, nullable=False, server_default=sa.text("now()")),
    sa.Column("changed_at", Timestamp, nullable=False, server_default=sa.text("now()")),
    sa.Column("next_attempt_at", Timestamp, comment="When it is tried, or asked for, again; null when it is not."),
    sa.Column("request", pg.JSONB, comment="What is sent, complete but for secrets."),
    sa.Column("answer", pg.JSONB, comment="What came back."),
    sa.Column("reference", sa.Text, comment="What the other side calls it."),
    sa.Column("tns_name", sa.Text),
    sa.UniqueConstraint("channel", "subject", "revision"),
    sa.UniqueConstraint("channel", "subject", "cause_id"),
    sa.Index(
        "ix_deliveries_due", "channel", "next_attempt_at", postgresql_where=sa.text("next_attempt_at IS NOT NULL")
    ),
    sa.Index(
        "ix_deliveries_unfinished", "channel", "subject", postgresql_where=sa.text("state IN ('PENDING', 'SENDING')")
    ),
    sa.Index(None, "subject"),
    sa.Index(None, "changed_at"),
    sa.Index(None, "is_test", "changed_at"),
    sa.Index(None, "state", "id"),
    sa.Index(None, "channel", "id"),
    sa.Index(None, "event_id"),
    comment="One row for each thing told, or to be told, on a channel.",
)
