"""Audit"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "audit",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False, comment="What was changed: a topic, a delivery."),
        sa.Column("detail", sa.Text(), server_default="", nullable=False),
        sa.Column("outcome", sa.Text(), nullable=True, comment="done, or why not; null while it is under way."),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
        schema="console",
        comment="Who changed what of the system's own affairs; other services keep what is changed there.",
    )
    op.create_index(op.f("ix_audit_target_id"), "audit", ["target", "id"], unique=False, schema="console")
