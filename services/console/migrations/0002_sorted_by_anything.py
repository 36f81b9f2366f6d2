"""Sorted by anything"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

SORTED = (
    "kind",
    "alert_type",
    "search_group",
    "source_class",
    "far_hz",
    "area_50_deg2",
    "area_90_deg2",
    "distance_mean_mpc",
    "significant",
    "state",
    "alert_count",
)


def upgrade() -> None:
    op.create_index(
        "ix_superevents_prefix",
        "superevents",
        [sa.literal_column("lower(superevent_id) text_pattern_ops")],
        unique=False,
        schema="console",
    )
    for column in SORTED:
        op.create_index(
            f"ix_superevents_{column}",
            "superevents",
            [column, "event_time", "superevent_id"],
            unique=False,
            schema="console",
        )
    op.alter_column(
        "superevents",
        "area_50_deg2",
        existing_type=sa.Double(),
        existing_nullable=True,
        comment="Of the newest map that is parsed.",
        existing_comment="Of the current map; null before it is parsed.",
        schema="console",
    )
