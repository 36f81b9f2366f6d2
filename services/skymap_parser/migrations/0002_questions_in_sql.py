"""Questions in SQL"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

SPREAD = """
CREATE FUNCTION skymap_parser.spread_bits(bits bigint) RETURNS bigint
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    -- Moves bit i of a 32-bit number to bit 2i.
    WITH a AS (SELECT (bits | (bits << 16)) & x'0000FFFF0000FFFF'::bigint AS v),
         b AS (SELECT (v | (v << 8)) & x'00FF00FF00FF00FF'::bigint AS v FROM a),
         c AS (SELECT (v | (v << 4)) & x'0F0F0F0F0F0F0F0F'::bigint AS v FROM b),
         d AS (SELECT (v | (v << 2)) & x'3333333333333333'::bigint AS v FROM c)
    SELECT (v | (v << 1)) & x'5555555555555555'::bigint FROM d
$$
"""

NEST29 = """
CREATE FUNCTION skymap_parser.nest29(ra_deg double precision, dec_deg double precision) RETURNS bigint
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
DECLARE
    nside CONSTANT bigint := 1::bigint << 29;
    z CONSTANT double precision := sin(radians(dec_deg));
    -- Longitude in quarters of the circle, 0 to 4.
    t double precision := (ra_deg - 360 * floor(ra_deg / 360)) / 90;
    face bigint; x bigint; y bigint; up bigint; down bigint; root double precision;
BEGIN
    IF dec_deg NOT BETWEEN -90 AND 90 THEN
        RAISE EXCEPTION 'dec_deg is %; expected -90 to 90', dec_deg;
    END IF;
    IF abs(z) <= 2.0 / 3.0 THEN
        up := floor(nside * (0.5 + t - z * 0.75));
        down := floor(nside * (0.5 + t + z * 0.75));
        face := CASE
            WHEN up / nside = down / nside THEN (up / nside) & 3 | 4
            WHEN up / nside < down / nside THEN up / nside
            ELSE down / nside + 8
        END;
        x := down & (nside - 1);
        y := nside - (up & (nside - 1)) - 1;
    ELSE
        -- cos(dec) keeps its digits near the poles, where 1 - |z| loses them.
        root := nside * cos(radians(dec_deg)) / sqrt((1 + abs(z)) / 3);
        up := least(floor((t - least(floor(t), 3)) * root)::bigint, nside - 1);
        down := least(floor((1 - t + least(floor(t), 3)) * root)::bigint, nside - 1);
        IF z > 0 THEN
            face := least(floor(t), 3); x := nside - down - 1; y := nside - up - 1;
        ELSE
            face := least(floor(t), 3) + 8; x := up; y := down;
        END IF;
    END IF;
    RETURN face * nside * nside + skymap_parser.spread_bits(x) + 2 * skymap_parser.spread_bits(y);
END
$$
"""

MAPS_AT = """
CREATE FUNCTION skymap_parser.maps_at(ra_deg double precision, dec_deg double precision)
RETURNS TABLE (
    event_id uuid, superevent_id text, map_kind text, is_current boolean, probdensity double precision,
    credible_level real
)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT map.event_id, map.superevent_id, map.map_kind, map.is_current, cell.probdensity, cell.credible_level
    FROM (SELECT skymap_parser.nest29(ra_deg, dec_deg) AS index) AS position
    JOIN skymap_parser.skymap_cells AS part ON part.cells @> position.index
    JOIN skymap_parser.skymaps AS map ON map.event_id = part.event_id AND map.state = 'AVAILABLE'
    CROSS JOIN LATERAL unnest(part.starts, part.stops, part.probdensity, part.credible_level)
        AS cell (start, stop, probdensity, credible_level)
    WHERE cell.start <= position.index AND position.index < cell.stop
$$
"""

PROBABILITY_IN = """
CREATE FUNCTION skymap_parser.probability_in(map uuid, area int8multirange) RETURNS double precision
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    -- A cell of order 29 covers 4 pi / (12 * 4^29) steradians.
    SELECT coalesce(sum(
        cell.probdensity * (least(upper(piece), cell.stop) - greatest(lower(piece), cell.start))
    ), 0) * 4 * pi() / (12 * power(4::double precision, 29))
    FROM unnest(area) AS piece
    JOIN skymap_parser.skymap_cells AS part ON part.event_id = map AND part.cells && piece
    CROSS JOIN LATERAL unnest(part.starts, part.stops, part.probdensity) AS cell (start, stop, probdensity)
    WHERE cell.start < upper(piece) AND lower(piece) < cell.stop
$$
"""

COMMENTS = {
    "nest29": "HEALPix nested index of order 29 of a position (Gorski et al. 2005, ApJ 622, 759).",
    "maps_at": (
        "Every standing map that covers a position, with its density (1/sr) there and the level of the smallest credible"
        " region that contains it: WHERE credible_level <= 0.9 asks which maps contain it at 90 %."
    ),
    "probability_in": "Probability of a map in an area, given as ranges of nested order-29 indices (a MOC).",
}


def upgrade() -> None:
    for statement in (SPREAD, NEST29, MAPS_AT, PROBABILITY_IN):
        op.execute(statement)
    for name, text in COMMENTS.items():
        op.execute(f"COMMENT ON FUNCTION skymap_parser.{name} IS '{text}'")
