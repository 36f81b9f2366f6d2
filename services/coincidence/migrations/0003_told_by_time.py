"""Told by time"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

IS_TEST = "(record->>'is_test')::boolean"

# A view is replaced by one with the same columns first.
HISTORY = """
CREATE OR REPLACE VIEW coincidence.history_lines AS
SELECT id, superevent_id, frb_id, state, reason, scores, (scores->>'odds')::float8 AS odds, alert_event_id, map_id,
       burst_revision, method_version, decided_at, record->>'coincidence_type' AS coincidence_type,
       (record->>'revision')::int AS revision, record, is_test
FROM coincidence.history
"""


def upgrade() -> None:
    op.add_column(
        "history",
        sa.Column(
            "is_test",
            sa.Boolean(),
            sa.Computed(IS_TEST, persisted=True),
            nullable=True,
            comment="Of what was told; null when nothing was.",
        ),
        schema="coincidence",
    )
    op.create_index(
        op.f("ix_history_is_test_decided_at"), "history", ["is_test", "decided_at"], unique=False, schema="coincidence"
    )
    op.execute(HISTORY)
