"""Ids of raters"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "ratings",
        sa.Column("rater_id", sa.Text(), nullable=True, comment="What stays when a name changes; null: the name does."),
        schema="frb_intake",
    )
