"""The tables that the event runtime keeps in every service's schema, and the names of constraints."""

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

NAMING_CONVENTION = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}

Timestamp = sa.DateTime(timezone=True)


def service_metadata(service: str) -> sa.MetaData:
    """Return the metadata of a service's schema, with its inbox and outbox in it.

    A service adds its own tables to it in `tables.py`; its alembic history creates them all.
    """
    metadata = sa.MetaData(schema=service, naming_convention=NAMING_CONVENTION)
    sa.Table(
        "inbox",
        metadata,
        sa.Column("consumer", sa.Text, primary_key=True, comment="Name of the subscription that handled the event."),
        sa.Column("event_id", pg.UUID, primary_key=True, comment="Deterministic id of the event."),
        sa.Column("handled_at", Timestamp, nullable=False, server_default=sa.text("now()")),
        sa.Index(None, "handled_at"),
        comment="Events whose effects are in this schema; a second delivery finds its row and is skipped.",
    )
    sa.Table(
        "outbox",
        metadata,
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("topic", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("event_id", pg.UUID, nullable=False),
        sa.Column("value", sa.LargeBinary, nullable=False, comment="The record as it goes on the wire."),
        sa.Column("headers", pg.JSONB, nullable=False, comment="Kafka headers, values as text."),
        sa.Column("created_at", Timestamp, nullable=False, server_default=sa.text("now()")),
        comment="Events that are committed and not yet acknowledged by the broker.",
    )
    return metadata
