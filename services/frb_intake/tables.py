"""The tables of the frb_intake schema."""

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from shared.db.tables import Timestamp, service_metadata
from shared.inbox.files import files_table

metadata = service_metadata("frb_intake")

# JSON and not JSONB where people read it: JSONB forgets the order of the keys.


users = sa.Table(
    "users",
    metadata,
    sa.Column("id", sa.Integer, sa.Identity(always=True), primary_key=True),
    sa.Column("name", sa.Text, nullable=False, unique=True),
    sa.Column("password_hash", sa.Text, nullable=False, comment="argon2id; empty: no password opens the account."),
    sa.Column("roles", pg.ARRAY(sa.Text), nullable=False, comment="Of submit, rate, operate, read."),
    sa.Column("created_at", Timestamp, nullable=False, server_default=sa.text("now()")),
    sa.Column("disabled_at", Timestamp),
    comment="Who may use the doors.",
)

tokens = sa.Table(
    "tokens",
    metadata,
    sa.Column("id", sa.Integer, sa.Identity(always=True), primary_key=True),
    sa.Column("user_id", sa.Integer, sa.ForeignKey(users.c.id), nullable=False),
    sa.Column("digest", sa.LargeBinary, nullable=False, unique=True, comment="sha256 of the token, which is random."),
    sa.Column("created_at", Timestamp, nullable=False, server_default=sa.text("now()")),
    sa.Column("expires_at", Timestamp),
    sa.Column("revoked_at", Timestamp),
    sa.Column(
        "is_session",
        sa.Boolean,
        nullable=False,
        server_default=sa.false(),
        comment="Of a person who logged in; forgotten after its end.",
    ),
    sa.Column(
        "nonce_digest", sa.LargeBinary, unique=True, comment="sha256 of what the identity token was for: it opens one."
    ),
    sa.Index(None, "user_id"),
    comment="Tokens for programs, shown once, when made; and of people who logged in.",
)

audit_log = sa.Table(
    "audit_log",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("at", Timestamp, nullable=False, server_default=sa.text("now()")),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("subject", sa.Text, comment="The burst or account that it was done to."),
    sa.Column("address", sa.Text, comment="Where the request came from."),
    sa.Index(None, "at"),
    comment="Who did what from where; what changed is in `changes`.",
)

observation_ids = sa.Sequence("observation_ids", metadata=metadata)
burst_ids = sa.Sequence("burst_ids", metadata=metadata)


def _observation_columns() -> list[sa.Column[object]]:
    return [
        sa.Column(
            "id",
            sa.BigInteger,
            primary_key=True,
            autoincrement=False,
            server_default=sa.text("nextval('frb_intake.observation_ids'::regclass)"),
        ),
        sa.Column("submitted_by", sa.Text, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False, comment="sha256 of the parameters."),
        sa.Column("parameters", pg.JSONB, nullable=False, comment="The keys of the observation YAML."),
        sa.Column("received_at", Timestamp, nullable=False, server_default=sa.text("now()")),
    ]


observations = sa.Table(
    "observations",
    metadata,
    *_observation_columns(),
    sa.UniqueConstraint("submitted_by", "digest"),
    comment="How the telescope was set up when it saw a burst.",
)

staged_observations = sa.Table(
    "staged_observations",
    metadata,
    *_observation_columns(),
    sa.UniqueConstraint("submitted_by", "digest"),
    sa.Index(None, "received_at"),
    comment="Observations that came through the compatible door before their burst; forgotten when none comes.",
)

bursts = sa.Table(
    "bursts",
    metadata,
    sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("internal_name", sa.Text, nullable=False, unique=True),
    sa.Column("origin", sa.Text, nullable=False, comment="upload, or the observatory whose notice brought it."),
    sa.Column("origin_id", sa.Text, comment="The burst's name there."),
    sa.Column("submitted_by", sa.Text, nullable=False),
    sa.Column("digest", sa.LargeBinary, comment="sha256 of what was uploaded; the same again is the same burst."),
    sa.Column("is_test", sa.Boolean, nullable=False),
    sa.Column("received_at", Timestamp, nullable=False),
    sa.Column("event_time", Timestamp, nullable=False, comment="time_of_arrival, else received_at."),
    sa.Column("status", sa.Text, nullable=False, comment="CANDIDATE, CONFIRMED, REJECTED or WITHDRAWN."),
    sa.Column("tns_name", sa.Text),
    sa.Column("repeater", sa.Boolean, nullable=False),
    sa.Column("votes_confirm", sa.Integer, nullable=False),
    sa.Column("votes_reject", sa.Integer, nullable=False),
    sa.Column("votes_unsure", sa.Integer, nullable=False),
    sa.Column("dm_pc_cm3", sa.Double),
    sa.Column("dm_excess_pc_cm3", sa.Double),
    sa.Column("snr", sa.Double),
    sa.Column("width_ms", sa.Double),
    sa.Column("ra_deg", sa.Double),
    sa.Column("dec_deg", sa.Double),
    sa.Column("nest29", sa.BigInteger, comment="HEALPix nested order-29 index of the position."),
    sa.Column("region", pg.INT8MULTIRANGE, comment="Cells of the localisation region, nested order-29 indices."),
    sa.Column("time_of_arrival_inf", Timestamp, comment="At infinite frequency."),
    sa.Column("observation_id", sa.BigInteger, sa.ForeignKey(observations.c.id)),
    sa.Column("summary", pg.JSON, nullable=False, comment="The line of lists and exports."),
    sa.Column("record", pg.JSON, nullable=False, comment="What last went out on frb.events."),
    sa.UniqueConstraint("submitted_by", "digest"),
    sa.Index("ix_bursts_newest", sa.text("event_time DESC"), sa.text("id DESC")),
    sa.Index(None, "time_of_arrival_inf"),
    # With the id, pages go on behind a place in the order.
    sa.Index(None, "dm_pc_cm3", "id"),
    sa.Index(None, "dm_excess_pc_cm3", "id"),
    sa.Index(None, "snr", "id"),
    sa.Index(None, "width_ms", "id"),
    sa.Index(None, "votes_confirm", "id"),
    sa.Index(None, "votes_reject", "id"),
    sa.Index(None, "nest29"),
    sa.Index(None, "tns_name"),
    sa.Index("ix_bursts_region", "region", postgresql_using="gist"),
    sa.Index("ix_bursts_status", "status", sa.text("event_time DESC"), sa.text("id DESC")),
    sa.Index("ix_bursts_repeater", "repeater", sa.text("event_time DESC"), sa.text("id DESC")),
    sa.Index("ix_bursts_is_test", "is_test", sa.text("event_time DESC"), sa.text("id DESC")),
    *(
        sa.Index(
            f"ix_bursts_votes_{vote}",
            sa.text("event_time DESC"),
            sa.text("id DESC"),
            postgresql_where=sa.text(f"votes_{vote} > 0"),
        )
        for vote in ("confirm", "reject", "unsure")
    ),
    comment="One row per burst, with the figures of its latest measurement that people search by.",
)

names = sa.Table(
    "names",
    metadata,
    sa.Column("origin", sa.Text, primary_key=True),
    sa.Column("is_test", sa.Boolean, primary_key=True, comment="A drill about a burst is not about the real one."),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("burst_id", sa.BigInteger, sa.ForeignKey(bursts.c.id), nullable=False),
    comment="What other observatories call a burst: by these their later notices are known to be about it.",
)

measurements = sa.Table(
    "measurements",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("burst_id", sa.BigInteger, sa.ForeignKey(bursts.c.id), nullable=False),
    sa.Column("number", sa.Integer, nullable=False, comment="1 is the first detection."),
    sa.Column("made_by", sa.Text, nullable=False),
    sa.Column("made_at", Timestamp, nullable=False),
    sa.Column("digest", sa.LargeBinary, nullable=False, comment="sha256 of what was sent."),
    sa.Column("as_submitted", pg.JSON, nullable=False, comment="The keys that came, as they came."),
    sa.Column("record", pg.JSON, nullable=False, comment="With what follows from them."),
    sa.UniqueConstraint("burst_id", "number"),
    sa.UniqueConstraint("burst_id", "made_by", "digest"),
    comment="Every version of what was measured of a burst.",
)

images = sa.Table(
    "images",
    metadata,
    sa.Column("burst_id", sa.BigInteger, sa.ForeignKey(bursts.c.id), primary_key=True),
    sa.Column("name", sa.Text, primary_key=True, comment="search, image or histogram."),
    sa.Column("file_name", sa.Text, nullable=False, comment="As the client called it."),
    sa.Column("blob", pg.JSONB, nullable=False),
    sa.Column("state", sa.Text, nullable=False, comment="PENDING until decoded in full; then WHOLE or BROKEN."),
    sa.Index("ix_images_pending", "burst_id", postgresql_where=sa.text("state = 'PENDING'")),
    comment="The pictures that came with a burst; the bytes are in the blob store.",
)

ratings = sa.Table(
    "ratings",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("burst_id", sa.BigInteger, sa.ForeignKey(bursts.c.id), nullable=False),
    sa.Column("rater", sa.Text, nullable=False),
    sa.Column("rating", sa.Text, nullable=False, comment="confirm, reject or unsure."),
    sa.Column("note", sa.Text),
    sa.Column("rated_at", Timestamp, nullable=False),
    sa.Column("rater_id", sa.Text, comment="What stays when a name changes; null: the name does."),
    sa.Index(None, "burst_id", "rater"),
    comment="Every vote ever cast; the last of each rater counts.",
)

changes = sa.Table(
    "changes",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("burst_id", sa.BigInteger, sa.ForeignKey(bursts.c.id), nullable=False),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("change", sa.Text, nullable=False),
    sa.Column("changed_at", Timestamp, nullable=False),
    sa.Column("changed_by", sa.Text, nullable=False),
    sa.Column("detail", pg.JSON, nullable=False, comment="What this change brought."),
    sa.Column("record", pg.JSON, nullable=False, comment="What went out on frb.events."),
    sa.Column(
        "transaction_id",
        sa.BigInteger,
        nullable=False,
        server_default=sa.text("pg_current_xact_id()::text::bigint"),
        comment="Followers read in the order of commits: rows of transactions older than every running one.",
    ),
    # As PostgreSQL writes it: (record->>'is_test')::boolean.
    sa.Column("is_test", sa.Boolean, sa.Computed("((record ->> 'is_test'::text))::boolean", persisted=True)),
    sa.UniqueConstraint("burst_id", "revision"),
    sa.Index(None, "is_test", "changed_at"),
    sa.Index("ix_changes_following", "transaction_id", "id"),
    comment="The history of every burst.",
)

idempotency_keys = sa.Table(
    "idempotency_keys",
    metadata,
    sa.Column("submitted_by", sa.Text, primary_key=True),
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("digest", sa.LargeBinary, nullable=False, comment="sha256 of the request."),
    sa.Column("burst_id", sa.BigInteger, sa.ForeignKey(bursts.c.id), nullable=False),
    sa.Column("created_at", Timestamp, nullable=False, server_default=sa.text("now()")),
    sa.Index(None, "created_at"),
    comment="Requests that their senders may repeat.",
)

coincidences = sa.Table(
    "coincidences",
    metadata,
    sa.Column("coincidence_id", sa.Text, primary_key=True),
    sa.Column("burst_id", sa.BigInteger, nullable=False),
    sa.Column("revision", sa.Integer, nullable=False, comment="Of the record."),
    sa.Column("record", pg.JSON, nullable=False, comment="The newest on mma.coincidences."),
    sa.Index(None, "burst_id"),
    comment="Gravitational waves that belong, or seemed to belong, to a burst.",
)

deliveries = sa.Table(
    "deliveries",
    metadata,
    sa.Column("delivery_id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("burst_id", sa.BigInteger, nullable=False),
    sa.Column("changed_at", Timestamp, nullable=False, comment="Of the record."),
    sa.Column("record", pg.JSON, nullable=False, comment="The newest on notices.deliveries."),
    sa.Index(None, "burst_id"),
    comment="What was told of a burst, to whom.",
)

files = files_table(metadata)
