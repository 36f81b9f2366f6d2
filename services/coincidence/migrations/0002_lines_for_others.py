"""Lines for others"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

PAIRS = """
CREATE VIEW coincidence.pair_lines AS
SELECT pair.superevent_id, pair.frb_id, pair.superevent_id || '-' || pair.frb_id AS coincidence_id, pair.is_test,
       pair.state, pair.reason, pair.odds,
       (pair.scores->>'time_offset_s')::float8 AS time_offset_s,
       (pair.scores->>'time_offset_err_s')::float8 AS time_offset_err_s,
       pair.scores->>'window' AS window_name,
       (pair.scores->>'overlap_sky')::float8 AS overlap_sky,
       (pair.scores->>'overlap_3d')::float8 AS overlap_3d,
       (pair.scores->>'credible_level')::float8 AS credible_level,
       (pair.scores->>'far_time_hz')::float8 AS far_time_hz,
       (pair.scores->>'far_space_time_hz')::float8 AS far_space_time_hz,
       pair.scores, pair.alert_event_id, pair.map_id, pair.burst_revision, pair.method_version, pair.decided_at,
       pair.revision, pair.is_open, pair.record,
       wave.event_time, wave.is_retracted, wave.state AS wave,
       burst.time AS burst_time, burst.state->'facts'->>'internal_name' AS internal_name,
       burst.state->'facts'->>'tns_name' AS tns_name, burst.state AS burst
FROM coincidence.pairs AS pair
LEFT JOIN coincidence.waves AS wave ON wave.superevent_id = pair.superevent_id
LEFT JOIN coincidence.bursts AS burst ON burst.frb_id = pair.frb_id
"""

HISTORY = """
CREATE VIEW coincidence.history_lines AS
SELECT id, superevent_id, frb_id, state, reason, scores, (scores->>'odds')::float8 AS odds, alert_event_id, map_id,
       burst_revision, method_version, decided_at, record->>'coincidence_type' AS coincidence_type,
       (record->>'revision')::int AS revision, record
FROM coincidence.history
"""

RULES = "CREATE VIEW coincidence.rule_lines AS SELECT since, settings FROM coincidence.rules"

COMMENTS = {
    "pair_lines": (
        "For other services: every pair that was considered, with what came of it and what is known of both. Not"
        " counted is null."
    ),
    "history_lines": "For other services: every decision about a pair; revision and type where it was told.",
    "rule_lines": "For other services: the settings that decisions go by, and since when.",
}


def upgrade() -> None:
    op.create_table(
        "rules",
        sa.Column("since", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("settings", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.PrimaryKeyConstraint("since", name=op.f("pk_rules")),
        schema="coincidence",
        comment="The settings that decisions go by; a row for each change.",
    )
    op.create_index(op.f("ix_pairs_odds"), "pairs", ["odds"], unique=False, schema="coincidence")
    op.create_index(
        op.f("ix_pairs_state_decided_at"), "pairs", ["state", "decided_at"], unique=False, schema="coincidence"
    )
    op.create_index(
        op.f("ix_pairs_is_test_decided_at"), "pairs", ["is_test", "decided_at"], unique=False, schema="coincidence"
    )
    op.create_index(
        "ix_pairs_far",
        "pairs",
        [sa.literal_column("((scores ->> 'far_space_time_hz')::double precision)")],
        unique=False,
        schema="coincidence",
    )
    for statement in (PAIRS, HISTORY, RULES):
        op.execute(statement)
    for name, text in COMMENTS.items():
        op.execute(f"COMMENT ON VIEW coincidence.{name} IS '{text}'")
