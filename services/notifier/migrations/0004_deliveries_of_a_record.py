"""Deliveries of a record"""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(op.f("ix_deliveries_event_id"), "deliveries", ["event_id"], unique=False, schema="notifier")
