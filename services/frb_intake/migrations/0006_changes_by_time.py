"""Changes by time"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

IS_TEST = "(record->>'is_test')::boolean"

CHANGES = """
CREATE VIEW frb_intake.change_lines AS
SELECT id, burst_id, revision, change, changed_at, changed_by, is_test, record->>'status' AS status,
       (record->'latest'->>'dm_pc_cm3')::float8 AS dm_pc_cm3, (record->'latest'->>'snr')::float8 AS snr
FROM frb_intake.changes
"""
COMMENT = "COMMENT ON VIEW frb_intake.change_lines IS 'For other services: every change of every burst, in short.'"


def upgrade() -> None:
    op.add_column(
        "changes",
        sa.Column("is_test", sa.Boolean(), sa.Computed(IS_TEST, persisted=True), nullable=True),
        schema="frb_intake",
    )
    op.create_index(
        op.f("ix_changes_is_test_changed_at"), "changes", ["is_test", "changed_at"], unique=False, schema="frb_intake"
    )
    op.execute(CHANGES)
    op.execute(COMMENT)
