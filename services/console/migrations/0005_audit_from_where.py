"""Audit: from where"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "audit",
        sa.Column("address", sa.Text(), nullable=True, comment="Where the request came from."),
        schema="console",
    )
