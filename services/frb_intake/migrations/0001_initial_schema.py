"""Initial schema"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("CREATE SEQUENCE frb_intake.observation_ids")
    op.execute("CREATE SEQUENCE frb_intake.burst_ids")
    op.create_table(
        "audit_log",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=True, comment="The burst or account that it was done to."),
        sa.Column("address", sa.Text(), nullable=True, comment="Where the request came from."),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_log")),
        schema="frb_intake",
        comment="Who did what from where; what changed is in `changes`.",
    )
    op.create_index(op.f("ix_audit_log_at"), "audit_log", ["at"], unique=False, schema="frb_intake")
    op.create_table(
        "inbox",
        sa.Column("consumer", sa.Text(), nullable=False, comment="Name of the subscription that handled the event."),
        sa.Column("event_id", sa.UUID(), nullable=False, comment="Deterministic id of the event."),
        sa.Column("handled_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("consumer", "event_id", name=op.f("pk_inbox")),
        schema="frb_intake",
        comment="Events whose effects are in this schema; a second delivery finds its row and is skipped.",
    )
    op.create_index(op.f("ix_inbox_handled_at"), "inbox", ["handled_at"], unique=False, schema="frb_intake")
    op.create_table(
        "observations",
        sa.Column(
            "id",
            sa.BigInteger(),
            server_default=sa.text("nextval('frb_intake.observation_ids'::regclass)"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("submitted_by", sa.Text(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False, comment="sha256 of the parameters."),
        sa.Column(
            "parameters",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=False,
            comment="The keys of the observation YAML.",
        ),
        sa.Column("received_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_observations")),
        sa.UniqueConstraint("submitted_by", "digest", name=op.f("uq_observations_submitted_by_digest")),
        schema="frb_intake",
        comment="How the telescope was set up when it saw a burst.",
    )
    op.create_table(
        "outbox",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("event_id", sa.UUID(), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False, comment="The record as it goes on the wire."),
        sa.Column(
            "headers", postgresql.JSONB(astext_type=sa.Text()), nullable=False, comment="Kafka headers, values as text."
        ),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outbox")),
        schema="frb_intake",
        comment="Events that are committed and not yet acknowledged by the broker.",
    )
    op.create_table(
        "staged_observations",
        sa.Column(
            "id",
            sa.BigInteger(),
            server_default=sa.text("nextval('frb_intake.observation_ids'::regclass)"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("submitted_by", sa.Text(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False, comment="sha256 of the parameters."),
        sa.Column(
            "parameters",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=False,
            comment="The keys of the observation YAML.",
        ),
        sa.Column("received_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_staged_observations")),
        sa.UniqueConstraint("submitted_by", "digest", name=op.f("uq_staged_observations_submitted_by_digest")),
        schema="frb_intake",
        comment="Observations that came through the compatible door before their burst; forgotten when none comes.",
    )
    op.create_index(
        op.f("ix_staged_observations_received_at"),
        "staged_observations",
        ["received_at"],
        unique=False,
        schema="frb_intake",
    )
    op.create_table(
        "users",
        sa.Column("id", sa.Integer(), sa.Identity(always=True), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=False, comment="argon2id."),
        sa.Column("roles", postgresql.ARRAY(sa.Text()), nullable=False, comment="Of submit, rate, operate, read."),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("disabled_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_users")),
        sa.UniqueConstraint("name", name=op.f("uq_users_name")),
        schema="frb_intake",
        comment="Who may use the doors.",
    )
    op.create_table(
        "bursts",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("internal_name", sa.Text(), nullable=False),
        sa.Column("origin", sa.Text(), nullable=False, comment="upload, or the observatory whose notice brought it."),
        sa.Column("origin_id", sa.Text(), nullable=True, comment="The burst's name there."),
        sa.Column("submitted_by", sa.Text(), nullable=False),
        sa.Column(
            "digest",
            sa.LargeBinary(),
            nullable=True,
            comment="sha256 of what was uploaded; the same again is the same burst.",
        ),
        sa.Column("is_test", sa.Boolean(), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "event_time", sa.DateTime(timezone=True), nullable=False, comment="time_of_arrival, else received_at."
        ),
        sa.Column("status", sa.Text(), nullable=False, comment="CANDIDATE, CONFIRMED, REJECTED or WITHDRAWN."),
        sa.Column("tns_name", sa.Text(), nullable=True),
        sa.Column("repeater", sa.Boolean(), nullable=False),
        sa.Column("votes_confirm", sa.Integer(), nullable=False),
        sa.Column("votes_reject", sa.Integer(), nullable=False),
        sa.Column("votes_unsure", sa.Integer(), nullable=False),
        sa.Column("dm_pc_cm3", sa.Double(), nullable=True),
        sa.Column("snr", sa.Double(), nullable=True),
        sa.Column("ra_deg", sa.Double(), nullable=True),
        sa.Column("dec_deg", sa.Double(), nullable=True),
        sa.Column("nest29", sa.BigInteger(), nullable=True, comment="HEALPix nested order-29 index of the position."),
        sa.Column(
            "region",
            postgresql.INT8MULTIRANGE(),
            nullable=True,
            comment="Cells of the localisation region, nested order-29 indices.",
        ),
        sa.Column("time_of_arrival_inf", sa.DateTime(timezone=True), nullable=True, comment="At infinite frequency."),
        sa.Column("observation_id", sa.BigInteger(), nullable=True),
        sa.Column(
            "summary", postgresql.JSON(astext_type=sa.Text()), nullable=False, comment="The line of lists and exports."
        ),
        sa.Column(
            "record",
            postgresql.JSON(astext_type=sa.Text()),
            nullable=False,
            comment="What last went out on frb.events.",
        ),
        sa.ForeignKeyConstraint(
            ["observation_id"], ["frb_intake.observations.id"], name=op.f("fk_bursts_observation_id_observations")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_bursts")),
        sa.UniqueConstraint("internal_name", name=op.f("uq_bursts_internal_name")),
        sa.UniqueConstraint("origin", "origin_id", name=op.f("uq_bursts_origin_origin_id")),
        sa.UniqueConstraint("submitted_by", "digest", name=op.f("uq_bursts_submitted_by_digest")),
        schema="frb_intake",
        comment="One row per burst, with the figures of its latest measurement that people search by.",
    )
    op.create_index(op.f("ix_bursts_dm_pc_cm3"), "bursts", ["dm_pc_cm3"], unique=False, schema="frb_intake")
    op.create_index(
        "ix_bursts_is_test",
        "bursts",
        ["is_test", sa.literal_column("event_time DESC"), sa.literal_column("id DESC")],
        unique=False,
        schema="frb_intake",
    )
    op.create_index(op.f("ix_bursts_nest29"), "bursts", ["nest29"], unique=False, schema="frb_intake")
    op.create_index(
        "ix_bursts_newest",
        "bursts",
        [sa.literal_column("event_time DESC"), sa.literal_column("id DESC")],
        unique=False,
        schema="frb_intake",
    )
    op.create_index(
        "ix_bursts_region", "bursts", ["region"], unique=False, schema="frb_intake", postgresql_using="gist"
    )
    op.create_index(
        "ix_bursts_repeater",
        "bursts",
        ["repeater", sa.literal_column("event_time DESC"), sa.literal_column("id DESC")],
        unique=False,
        schema="frb_intake",
    )
    op.create_index(op.f("ix_bursts_snr"), "bursts", ["snr"], unique=False, schema="frb_intake")
    op.create_index(
        "ix_bursts_status",
        "bursts",
        ["status", sa.literal_column("event_time DESC"), sa.literal_column("id DESC")],
        unique=False,
        schema="frb_intake",
    )
    op.create_index(
        op.f("ix_bursts_time_of_arrival_inf"), "bursts", ["time_of_arrival_inf"], unique=False, schema="frb_intake"
    )
    op.create_index(op.f("ix_bursts_tns_name"), "bursts", ["tns_name"], unique=False, schema="frb_intake")
    op.create_index(
        "ix_bursts_votes_confirm",
        "bursts",
        [sa.literal_column("event_time DESC"), sa.literal_column("id DESC")],
        unique=False,
        schema="frb_intake",
        postgresql_where=sa.text("votes_confirm > 0"),
    )
    op.create_index(
        "ix_bursts_votes_reject",
        "bursts",
        [sa.literal_column("event_time DESC"), sa.literal_column("id DESC")],
        unique=False,
        schema="frb_intake",
        postgresql_where=sa.text("votes_reject > 0"),
    )
    op.create_index(
        "ix_bursts_votes_unsure",
        "bursts",
        [sa.literal_column("event_time DESC"), sa.literal_column("id DESC")],
        unique=False,
        schema="frb_intake",
        postgresql_where=sa.text("votes_unsure > 0"),
    )
    op.create_table(
        "tokens",
        sa.Column("id", sa.Integer(), sa.Identity(always=True), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False, comment="sha256 of the token, which is random."),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["user_id"], ["frb_intake.users.id"], name=op.f("fk_tokens_user_id_users")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tokens")),
        sa.UniqueConstraint("digest", name=op.f("uq_tokens_digest")),
        schema="frb_intake",
        comment="Tokens for programs; shown once, when made.",
    )
    op.create_index(op.f("ix_tokens_user_id"), "tokens", ["user_id"], unique=False, schema="frb_intake")
    op.create_table(
        "changes",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("burst_id", sa.BigInteger(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("change", sa.Text(), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("changed_by", sa.Text(), nullable=False),
        sa.Column(
            "detail", postgresql.JSON(astext_type=sa.Text()), nullable=False, comment="What this change brought."
        ),
        sa.Column(
            "record", postgresql.JSON(astext_type=sa.Text()), nullable=False, comment="What went out on frb.events."
        ),
        sa.Column(
            "transaction_id",
            sa.BigInteger(),
            server_default=sa.text("pg_current_xact_id()::text::bigint"),
            nullable=False,
            comment="Followers read in the order of commits: rows of transactions older than every running one.",
        ),
        sa.ForeignKeyConstraint(["burst_id"], ["frb_intake.bursts.id"], name=op.f("fk_changes_burst_id_bursts")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_changes")),
        sa.UniqueConstraint("burst_id", "revision", name=op.f("uq_changes_burst_id_revision")),
        schema="frb_intake",
        comment="The history of every burst.",
    )
    op.create_index("ix_changes_following", "changes", ["transaction_id", "id"], unique=False, schema="frb_intake")
    op.create_table(
        "idempotency_keys",
        sa.Column("submitted_by", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False, comment="sha256 of the request."),
        sa.Column("burst_id", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["burst_id"], ["frb_intake.bursts.id"], name=op.f("fk_idempotency_keys_burst_id_bursts")
        ),
        sa.PrimaryKeyConstraint("submitted_by", "key", name=op.f("pk_idempotency_keys")),
        schema="frb_intake",
        comment="Requests that their senders may repeat.",
    )
    op.create_index(
        op.f("ix_idempotency_keys_created_at"), "idempotency_keys", ["created_at"], unique=False, schema="frb_intake"
    )
    op.create_table(
        "images",
        sa.Column("burst_id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False, comment="search, image or histogram."),
        sa.Column("file_name", sa.Text(), nullable=False, comment="As the client called it."),
        sa.Column("blob", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("state", sa.Text(), nullable=False, comment="PENDING until decoded in full; then WHOLE or BROKEN."),
        sa.ForeignKeyConstraint(["burst_id"], ["frb_intake.bursts.id"], name=op.f("fk_images_burst_id_bursts")),
        sa.PrimaryKeyConstraint("burst_id", "name", name=op.f("pk_images")),
        schema="frb_intake",
        comment="The pictures that came with a burst; the bytes are in the blob store.",
    )
    op.create_index(
        "ix_images_pending",
        "images",
        ["burst_id"],
        unique=False,
        schema="frb_intake",
        postgresql_where=sa.text("state = 'PENDING'"),
    )
    op.create_table(
        "measurements",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("burst_id", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False, comment="1 is the first detection."),
        sa.Column("made_by", sa.Text(), nullable=False),
        sa.Column("made_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False, comment="sha256 of what was sent."),
        sa.Column(
            "as_submitted",
            postgresql.JSON(astext_type=sa.Text()),
            nullable=False,
            comment="The keys that came, as they came.",
        ),
        sa.Column(
            "record", postgresql.JSON(astext_type=sa.Text()), nullable=False, comment="With what follows from them."
        ),
        sa.ForeignKeyConstraint(["burst_id"], ["frb_intake.bursts.id"], name=op.f("fk_measurements_burst_id_bursts")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_measurements")),
        sa.UniqueConstraint("burst_id", "made_by", "digest", name=op.f("uq_measurements_burst_id_made_by_digest")),
        sa.UniqueConstraint("burst_id", "number", name=op.f("uq_measurements_burst_id_number")),
        schema="frb_intake",
        comment="Every version of what was measured of a burst.",
    )
    op.create_table(
        "ratings",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("burst_id", sa.BigInteger(), nullable=False),
        sa.Column("rater", sa.Text(), nullable=False),
        sa.Column("rating", sa.Text(), nullable=False, comment="confirm, reject or unsure."),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("rated_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["burst_id"], ["frb_intake.bursts.id"], name=op.f("fk_ratings_burst_id_bursts")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ratings")),
        schema="frb_intake",
        comment="Every vote ever cast; the last of each rater counts.",
    )
    op.create_index(
        op.f("ix_ratings_burst_id_rater"), "ratings", ["burst_id", "rater"], unique=False, schema="frb_intake"
    )
