"""The tables of the coincidence schema. The functions and views over them are in the migrations."""

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from shared.db.tables import Timestamp, service_metadata

metadata = service_metadata("coincidence")

waves = sa.Table(
    "waves",
    metadata,
    sa.Column("superevent_id", sa.Text, primary_key=True),
    sa.Column("is_test", sa.Boolean, nullable=False),
    sa.Column("is_retracted", sa.Boolean, nullable=False),
    sa.Column("event_time", Timestamp, comment="At the geocentre; null before the alert."),
    sa.Column("map_id", pg.UUID, comment="event_id on gw.skymaps of the newest map; its cells are in map_cells."),
    sa.Column("state", pg.JSONB, nullable=False, comment="Everything known of the superevent."),
    sa.Index(None, "event_time"),
    comment="One row per superevent: what its alerts and sky maps say together.",
)

map_cells = sa.Table(
    "map_cells",
    metadata,
    sa.Column("map_id", pg.UUID, primary_key=True),
    sa.Column("part", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column(
        "cells",
        pg.INT8RANGE,
        nullable=False,
        comment="HEALPix nested order-29 indices from the first to the last cell.",
    ),
    sa.Column(
        "packed",
        sa.LargeBinary,
        nullable=False,
        comment="Per cell, little-endian: start i8, order i2, credible level f4, density per sr, distmu, distsigma f8.",
    ),
    sa.Index("ix_map_cells_cells", "cells", postgresql_using="gist"),
    comment=(
        "The cells of every wave's newest map, some dozens a row: what meets a burst's position is found by index,"
        " and holds all that its scores need."
    ),
)

bursts = sa.Table(
    "bursts",
    metadata,
    sa.Column("frb_id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("is_test", sa.Boolean, nullable=False),
    sa.Column("time", Timestamp, comment="At the geocentre, at infinite frequency; null when it has no time."),
    sa.Column("nest29", sa.BigInteger, comment="HEALPix nested order-29 index of the position."),
    sa.Column("region", pg.INT8MULTIRANGE, comment="Cells of the localisation, nested order-29 indices."),
    sa.Column("state", pg.JSONB, comment="Everything known of the burst that a comparison needs."),
    sa.Index(None, "time"),
    comment="One row per burst: what its newest record says.",
)

pairs = sa.Table(
    "pairs",
    metadata,
    sa.Column("superevent_id", sa.Text, primary_key=True),
    sa.Column("frb_id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("is_test", sa.Boolean, nullable=False),
    sa.Column("state", sa.Text, nullable=False, comment="ANNOUNCED, NOT_ANNOUNCED, WITHDRAWN or OUTSIDE."),
    sa.Column("reason", sa.Text, nullable=False, comment="Why, in words."),
    sa.Column("scores", pg.JSONB, comment="As in the record; null when not counted."),
    sa.Column("odds", sa.Double, comment="From the scores."),
    sa.Column("alert_event_id", pg.UUID, nullable=False, comment="Lineage: the alert that went in."),
    sa.Column("map_id", pg.UUID, comment="Lineage: the sky map."),
    sa.Column("burst_revision", sa.Integer, nullable=False, comment="Lineage: the revision of the burst's record."),
    sa.Column("method_version", sa.Text, nullable=False),
    sa.Column("decided_at", Timestamp, nullable=False),
    sa.Column("revision", sa.Integer, nullable=False, comment="Records told on mma.coincidences so far."),
    sa.Column("is_open", sa.Boolean, nullable=False, comment="The last of them stands."),
    sa.Column("told_digest", sa.Text, comment="What it said; nothing is told twice."),
    sa.Column("decided_digest", sa.Text, nullable=False, comment="Of the decision; the same again is no news."),
    sa.Column("record", pg.JSONB, comment="The last record told."),
    sa.Index(None, "frb_id"),
    sa.Index(None, "decided_at"),
    sa.Index(None, "odds"),
    sa.Index(None, "state", "decided_at"),
    sa.Index(None, "is_test", "decided_at"),
    sa.Index("ix_pairs_open", "decided_at", postgresql_where=sa.text("is_open")),
    sa.Index("ix_pairs_far", sa.literal_column("((scores ->> 'far_space_time_hz')::double precision)")),
    comment="Every pair of a wave and a burst that was ever considered, with what came of it.",
)

history = sa.Table(
    "history",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("superevent_id", sa.Text, nullable=False),
    sa.Column("frb_id", sa.BigInteger, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("scores", pg.JSONB),
    sa.Column("alert_event_id", pg.UUID, nullable=False),
    sa.Column("map_id", pg.UUID),
    sa.Column("burst_revision", sa.Integer, nullable=False),
    sa.Column("method_version", sa.Text, nullable=False),
    sa.Column("decided_at", Timestamp, nullable=False),
    sa.Column("record", pg.JSONB, comment="What was told on mma.coincidences; null when nothing was."),
    # As PostgreSQL writes it: (record->>'is_test')::boolean.
    sa.Column(
        "is_test",
        sa.Boolean,
        sa.Computed("((record ->> 'is_test'::text))::boolean", persisted=True),
        comment="Of what was told; null when nothing was.",
    ),
    sa.Index(None, "is_test", "decided_at"),
    sa.Index(None, "superevent_id", "frb_id"),
    comment="Every decision about a pair.",
)

background = sa.Table(
    "background",
    metadata,
    sa.Column("background_id", sa.Text, primary_key=True, comment="Digest of population, settings and method."),
    sa.Column("wave_class", sa.Text, primary_key=True, comment="cbc or burst."),
    sa.Column("window_name", sa.Text, primary_key=True, comment="NARROW or WIDE."),
    sa.Column("chunk", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("made_at", Timestamp, nullable=False, server_default=sa.text("now()")),
    sa.Column("years", sa.Double, nullable=False, comment="Simulated time in this chunk (yr)."),
    sa.Column("n_slides", sa.BigInteger, nullable=False, comment="Chance pairs in this chunk."),
    sa.Column("counts", pg.ARRAY(sa.BigInteger), nullable=False, comment="Chance pairs per bin of log10 odds."),
    comment="Chance pairs of slid and scrambled bursts, counted by their odds; chunks add up.",
)

rules = sa.Table(
    "rules",
    metadata,
    sa.Column("since", Timestamp, primary_key=True, server_default=sa.text("now()")),
    sa.Column("settings", pg.JSONB, nullable=False),
    comment="The settings that decisions go by; a row for each change.",
)
