"""Notices of other observatories"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "files",
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("modified_ns", sa.BigInteger(), nullable=False, comment="Modification time, nanoseconds since 1970."),
        sa.PrimaryKeyConstraint("source", "path", name=op.f("pk_files")),
        schema="frb_intake",
        comment="The offset of a source of files: what it has read.",
    )
    op.create_table(
        "names",
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("is_test", sa.Boolean(), nullable=False, comment="A drill about a burst is not about the real one."),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("burst_id", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["burst_id"], ["frb_intake.bursts.id"], name=op.f("fk_names_burst_id_bursts")),
        sa.PrimaryKeyConstraint("origin", "is_test", "name", name=op.f("pk_names")),
        schema="frb_intake",
        comment="What other observatories call a burst: by these their later notices are known to be about it.",
    )
    op.drop_constraint(op.f("uq_bursts_origin_origin_id"), "bursts", schema="frb_intake", type_="unique")
