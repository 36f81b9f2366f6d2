"""The tables of the skymap_parser schema. The SQL functions over them are in the migrations."""

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from shared.db.tables import Timestamp, service_metadata

metadata = service_metadata("skymap_parser")

skymaps = sa.Table(
    "skymaps",
    metadata,
    sa.Column("event_id", pg.UUID, primary_key=True),
    sa.Column("superevent_id", sa.Text, nullable=False),
    sa.Column("alert_event_id", pg.UUID, nullable=False),
    sa.Column("alert_type", sa.Text, nullable=False),
    sa.Column("alert_time_created", Timestamp, nullable=False),
    sa.Column("map_kind", sa.Text, nullable=False, comment="GW or COMBINED."),
    sa.Column("state", sa.Text, nullable=False, comment="AVAILABLE or WITHDRAWN."),
    sa.Column("is_current", sa.Boolean, nullable=False, comment="Of the superevent's current alert."),
    sa.Column("is_test", sa.Boolean, nullable=False),
    sa.Column("event_time", Timestamp, comment="When the wave arrived."),
    sa.Column("ra_deg", sa.Double, nullable=False, comment="Most probable position, ICRS."),
    sa.Column("dec_deg", sa.Double, nullable=False),
    sa.Column("area_50_deg2", sa.Double, nullable=False),
    sa.Column("area_90_deg2", sa.Double, nullable=False),
    sa.Column("distance_mean_mpc", sa.Double),
    sa.Column("distance_std_mpc", sa.Double),
    sa.Column("processed_at", Timestamp, nullable=False),
    sa.Column("record", pg.JSONB, nullable=False, comment="What went out on gw.skymaps."),
    sa.Column("picture", pg.JSONB, comment="Blob reference of the all-sky picture (PNG); null until it is drawn."),
    sa.Index(None, "superevent_id"),
    sa.Index(None, "event_time"),
    sa.Index(None, "is_test", "processed_at"),
    comment="One row per sky map, with the figures that people search by.",
)

skymap_cells = sa.Table(
    "skymap_cells",
    metadata,
    sa.Column(
        "event_id", pg.UUID, sa.ForeignKey(skymaps.c.event_id, ondelete="CASCADE"), primary_key=True, nullable=False
    ),
    sa.Column("part", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column(
        "cells",
        pg.INT8RANGE,
        nullable=False,
        comment="HEALPix nested order-29 indices from the first to the last cell.",
    ),
    sa.Column(
        "starts", pg.ARRAY(sa.BigInteger), nullable=False, comment="First order-29 index of each cell, ascending."
    ),
    sa.Column("stops", pg.ARRAY(sa.BigInteger), nullable=False, comment="One past the last index of each cell."),
    sa.Column("probdensity", pg.ARRAY(sa.Double), nullable=False, comment="Per steradian."),
    sa.Column(
        "credible_level", pg.ARRAY(sa.REAL), nullable=False, comment="Of the smallest region with the cell in it."
    ),
    sa.Index("ix_skymap_cells_cells", "cells", postgresql_using="gist"),
    comment=(
        "The cells of every map, some dozens a row: a position meets one row of each map, by index, and rows stay"
        " small enough never to be moved out of line."
    ),
)
