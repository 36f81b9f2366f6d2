"""Deliveries by time"""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        op.f("ix_deliveries_is_test_changed_at"),
        "deliveries",
        ["is_test", "changed_at"],
        unique=False,
        schema="notifier",
    )
