"""Alerts by time"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

IS_TEST = "(record->>'is_test')::boolean"

# A view is replaced by one with the same columns first.
ALERTS = """
CREATE OR REPLACE VIEW gw_listener.alert_lines AS
SELECT event_id, superevent_id, sequence, alert_type, time_created,
       coalesce(
           array_position(ARRAY['EARLYWARNING', 'PRELIMINARY', 'INITIAL', 'UPDATE', 'RETRACTION'], alert_type), 0
       ) AS stage,
       received_at, source,
       ARRAY(
           SELECT reception.source FROM gw_listener.receptions AS reception
           WHERE reception.event_id = alert.event_id ORDER BY reception.received_at, reception.source
       ) AS sources,
       record, is_test
FROM gw_listener.alerts AS alert
"""


def upgrade() -> None:
    op.add_column(
        "alerts",
        sa.Column("is_test", sa.Boolean(), sa.Computed(IS_TEST, persisted=True), nullable=True),
        schema="gw_listener",
    )
    op.create_index(
        op.f("ix_alerts_is_test_received_at"), "alerts", ["is_test", "received_at"], unique=False, schema="gw_listener"
    )
    op.execute(ALERTS)
