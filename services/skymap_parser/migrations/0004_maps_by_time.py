"""Maps by time"""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        op.f("ix_skymaps_is_test_processed_at"),
        "skymaps",
        ["is_test", "processed_at"],
        unique=False,
        schema="skymap_parser",
    )
