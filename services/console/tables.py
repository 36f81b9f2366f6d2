"""The tables of the console schema."""

import sqlalchemy as sa

from shared.db.tables import Timestamp, service_metadata

metadata = service_metadata("console")

superevents = sa.Table(
    "superevents",
    metadata,
    sa.Column("superevent_id", sa.Text, primary_key=True),
    sa.Column("kind", sa.Text, nullable=False, comment="REAL, MOCK or TEST."),
    sa.Column("is_test", sa.Boolean, nullable=False),
    sa.Column("state", sa.Text, nullable=False, comment="OPEN or RETRACTED."),
    sa.Column("alert_type", sa.Text, nullable=False, comment="Of the current alert."),
    sa.Column("alert_count", sa.Integer, nullable=False),
    sa.Column("event_time", Timestamp, nullable=False, comment="Of the wave; else of the first alert."),
    sa.Column("updated_at", Timestamp, nullable=False),
    sa.Column("far_hz", sa.Double, comment="False-alarm rate of the search (Hz)."),
    sa.Column("significant", sa.Boolean),
    sa.Column("search_group", sa.Text, comment="CBC or Burst."),
    sa.Column("pipeline", sa.Text),
    sa.Column("source_class", sa.Text, comment="The most probable class: BNS, NSBH, BBH or Terrestrial."),
    sa.Column("source_probability", sa.Double),
    sa.Column("area_50_deg2", sa.Double, comment="Of the newest map that is parsed."),
    sa.Column("area_90_deg2", sa.Double),
    sa.Column("distance_mean_mpc", sa.Double),
    sa.Column("distance_std_mpc", sa.Double),
    sa.Column(
        "folded_id",
        sa.Text(collation="C"),
        sa.Computed("lower(superevent_id)", persisted=True),
        comment="The id in small letters: sorted by, and searched by how it begins.",
    ),
    sa.Index("ix_superevents_newest", sa.text("event_time DESC"), sa.text("superevent_id DESC")),
    *(
        sa.Index(f"ix_superevents_{column}", column, "event_time", "superevent_id")
        for column in (
            "folded_id",
            "kind",
            "alert_type",
            "search_group",
            "source_class",
            "far_hz",
            "area_50_deg2",
            "area_90_deg2",
            "distance_mean_mpc",
            "significant",
            "state",
            "alert_count",
        )
        # Whatever a page is sorted by, what is equal stands in order of time.
    ),
    comment="One line per superevent, gathered from what gw_listener and skymap_parser publish.",
)

audit = sa.Table(
    "audit",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("at", Timestamp, nullable=False, server_default=sa.text("now()")),
    sa.Column("who", sa.Text, nullable=False),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("target", sa.Text, nullable=False, comment="What was changed: a topic, a delivery."),
    sa.Column("detail", sa.Text, nullable=False, server_default=""),
    sa.Column("outcome", sa.Text, comment="done, or why not; null while it is under way."),
    sa.Column("address", sa.Text, comment="Where the request came from."),
    sa.Index(None, "target", "id"),
    comment="Who changed what of the system's own affairs; other services keep what is changed there.",
)
