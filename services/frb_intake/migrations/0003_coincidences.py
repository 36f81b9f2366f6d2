"""Coincidences of bursts, and what was told of them"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "coincidences",
        sa.Column("coincidence_id", sa.Text(), nullable=False),
        sa.Column("burst_id", sa.BigInteger(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False, comment="Of the record."),
        sa.Column(
            "record", postgresql.JSON(astext_type=sa.Text()), nullable=False, comment="The newest on mma.coincidences."
        ),
        sa.PrimaryKeyConstraint("coincidence_id", name=op.f("pk_coincidences")),
        schema="frb_intake",
        comment="Gravitational waves that belong, or seemed to belong, to a burst.",
    )
    op.create_index(op.f("ix_coincidences_burst_id"), "coincidences", ["burst_id"], unique=False, schema="frb_intake")
    op.create_table(
        "deliveries",
        sa.Column("delivery_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("burst_id", sa.BigInteger(), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False, comment="Of the record."),
        sa.Column(
            "record",
            postgresql.JSON(astext_type=sa.Text()),
            nullable=False,
            comment="The newest on notices.deliveries.",
        ),
        sa.PrimaryKeyConstraint("delivery_id", name=op.f("pk_deliveries")),
        schema="frb_intake",
        comment="What was told of a burst, to whom.",
    )
    op.create_index(op.f("ix_deliveries_burst_id"), "deliveries", ["burst_id"], unique=False, schema="frb_intake")
