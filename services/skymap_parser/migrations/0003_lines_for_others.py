"""Lines for others"""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

MAPS = """
CREATE VIEW skymap_parser.map_lines AS
SELECT event_id, superevent_id, alert_event_id, alert_type, alert_time_created, map_kind, state, is_current, is_test,
       event_time, ra_deg, dec_deg, area_50_deg2, area_90_deg2, distance_mean_mpc, distance_std_mpc, processed_at,
       record->'skymap' AS skymap, picture
FROM skymap_parser.skymaps
"""


def upgrade() -> None:
    op.execute(MAPS)
    op.execute(
        "COMMENT ON VIEW skymap_parser.map_lines IS"
        " 'For other services: every map with its figures and files, withdrawn ones too.'"
    )
