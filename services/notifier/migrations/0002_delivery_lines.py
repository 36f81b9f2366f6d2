"""Delivery lines"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

DELIVERY_LINES = """
CREATE VIEW notifier.delivery_lines AS
SELECT id, channel, channel_kind, mode, subject, revision, action, is_test, state, reason, attempts, decided_at,
       changed_at, next_attempt_at, reference, tns_name, cause_topic AS source_topic
FROM notifier.deliveries
"""
COMMENT = """
COMMENT ON VIEW notifier.delivery_lines IS
    'Deliveries for others to read, without what was sent: that may name people.'
"""


def upgrade() -> None:
    op.create_index(op.f("ix_deliveries_state_id"), "deliveries", ["state", "id"], unique=False, schema="notifier")
    op.create_index(op.f("ix_deliveries_channel_id"), "deliveries", ["channel", "id"], unique=False, schema="notifier")
    op.execute(DELIVERY_LINES)
    op.execute(COMMENT)
