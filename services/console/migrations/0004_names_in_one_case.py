"""Names in one case"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "superevents",
        sa.Column(
            "folded_id",
            sa.Text(collation="C"),
            sa.Computed("lower(superevent_id)", persisted=True),
            nullable=True,
            comment="The id in small letters: sorted by, and searched by how it begins.",
        ),
        schema="console",
    )
    op.drop_index("ix_superevents_prefix", table_name="superevents", schema="console")
    op.create_index(
        "ix_superevents_folded_id",
        "superevents",
        ["folded_id", "event_time", "superevent_id"],
        unique=False,
        schema="console",
    )
