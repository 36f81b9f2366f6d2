"""Orders of lists"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

INDEXED = ("dm_pc_cm3", "dm_excess_pc_cm3", "snr", "width_ms", "votes_confirm", "votes_reject")

# What lines of lists have beyond what they had; a text is put behind the others, for JSON keeps the order of keys.
FILL = """
UPDATE frb_intake.bursts SET
    dm_excess_pc_cm3 = (summary->>'dm_excess')::double precision,
    width_ms = (summary->>'width')::double precision,
    summary = (rtrim(summary::text, E'} \\n') || ', ' || ltrim(json_build_object(
        'redshift_low', latest->'dm_budget'->'redshift_low',
        'redshift_high', latest->'dm_budget'->'redshift_high',
        'flux_err', latest->'flux_err_jy',
        'fluence_err', latest->'fluence_err_jy_ms',
        'rm_err', latest->'rm_err_rad_m2',
        'source', latest->'pipeline',
        'version', latest->'pipeline_version',
        'measured_at', latest->'made_at'
    )::text, '{'))::json
FROM (SELECT id AS burst_id, record->'latest' AS latest FROM frb_intake.bursts) AS known
WHERE burst_id = id
"""


def upgrade() -> None:
    op.add_column("bursts", sa.Column("dm_excess_pc_cm3", sa.Double(), nullable=True), schema="frb_intake")
    op.add_column("bursts", sa.Column("width_ms", sa.Double(), nullable=True), schema="frb_intake")
    op.execute(FILL)
    for name in ("dm_pc_cm3", "snr"):
        op.drop_index(op.f(f"ix_bursts_{name}"), table_name="bursts", schema="frb_intake")
    for name in INDEXED:
        op.create_index(op.f(f"ix_bursts_{name}_id"), "bursts", [name, "id"], unique=False, schema="frb_intake")
