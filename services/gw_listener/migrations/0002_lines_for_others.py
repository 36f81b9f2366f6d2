"""Lines for others"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

SUPEREVENTS = """
CREATE VIEW gw_listener.superevent_lines AS
SELECT superevent_id, kind, state, alert_count, newest_event_id AS current_event_id, newest_alert_type AS alert_type,
       newest_time_created AS time_created, first_received_at, updated_at
FROM gw_listener.superevents
WHERE newest_event_id IS NOT NULL
"""

ALERTS = """
CREATE VIEW gw_listener.alert_lines AS
SELECT event_id, superevent_id, sequence, alert_type, time_created,
       coalesce(
           array_position(ARRAY['EARLYWARNING', 'PRELIMINARY', 'INITIAL', 'UPDATE', 'RETRACTION'], alert_type), 0
       ) AS stage,
       received_at, source,
       ARRAY(
           SELECT reception.source FROM gw_listener.receptions AS reception
           WHERE reception.event_id = alert.event_id ORDER BY reception.received_at, reception.source
       ) AS sources,
       record
FROM gw_listener.alerts AS alert
"""

COMMENTS = {
    "superevent_lines": "For other services: each superevent with its state and its current alert.",
    "alert_lines": (
        "For other services: every alert. By (alert_type = RETRACTION, time_created, stage, event_id) the last of a"
        " superevent is its current one."
    ),
}


def upgrade() -> None:
    for statement in (SUPEREVENTS, ALERTS):
        op.execute(statement)
    for name, text in COMMENTS.items():
        op.execute(f"COMMENT ON VIEW gw_listener.{name} IS '{text}'")
