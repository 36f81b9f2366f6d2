"""`tocsin skymaps`: the stored sky maps, and which of them cover a position or a cone."""

import json
from typing import Annotated, Any

import typer

from cli.database import fetch
from cli.errors import told_in_one_line
from cli.skymap import numbers
from shared.errors import InvalidInputError
from shared.kafka.readable import plain
from shared.sky.healpix import lonlat_to_nest29
from shared.sky.region import cone_intervals

_COLUMNS = (
    "map.event_id, map.superevent_id, map.map_kind, map.alert_type, map.state, map.is_current, map.ra_deg, map.dec_deg,"
    " map.area_90_deg2"
)


def skymaps(
    at: Annotated[str | None, typer.Option("--at", metavar="RA,DEC", help="Only maps that cover it; degrees.")] = None,
    level: Annotated[float, typer.Option(min=0, max=1, help="With --at: inside this credible region.")] = 0.9,
    cone: Annotated[
        str | None, typer.Option("--cone", metavar="RA,DEC,RADIUS", help="Probability of each map in it; degrees.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Also superseded and withdrawn maps.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """List stored sky maps; with --at or --cone, what they say about a place in the sky."""
    with told_in_one_line():
        rows = plain(_rows(at, level, cone, every=every))
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        facts = [f"{row['superevent_id']:<12} {row['map_kind']:<8} {row['alert_type']:<12}"]
        facts.append(f"90 %: {row['area_90_deg2']:.1f} deg2")
        if "credible_level" in row:
            facts.append(f"credible level {row['credible_level']:.4f}, {row['probdensity']:.4g} /sr")
        if "probability" in row:
            facts.append(f"probability {row['probability']:.4g}")
        typer.echo("  ".join(facts))
    typer.echo(f"{len(rows)} maps", err=True)


def _rows(at: str | None, level: float, cone: str | None, *, every: bool) -> list[dict[str, Any]]:
    wanted = "true" if every else "map.is_current"
    if at is not None and cone is not None:
        raise InvalidInputError("--cone", "given beside --at", "one of the two")
    if at is not None:
        ra_deg, dec_deg = numbers("--at", at, "RA,DEC")
        lonlat_to_nest29(ra_deg, dec_deg)  # refuses what is not on the sky
        return fetch(
            f"SELECT {_COLUMNS}, found.credible_level, found.probdensity"
            " FROM skymap_parser.maps_at($1, $2) AS found JOIN skymap_parser.skymaps AS map USING (event_id)"
            f" WHERE found.credible_level <= $3 AND {wanted} ORDER BY found.credible_level",
            ra_deg,
            dec_deg,
            level,
        )
    if cone is not None:
        ra_deg, dec_deg, radius_deg = numbers("--cone", cone, "RA,DEC,RADIUS")
        area = cone_intervals(ra_deg=ra_deg, dec_deg=dec_deg, radius_deg=radius_deg)
        return fetch(
            f"SELECT {_COLUMNS}, skymap_parser.probability_in(map.event_id, $1::text::int8multirange) AS probability"
            f" FROM skymap_parser.skymaps AS map WHERE {wanted} ORDER BY probability DESC",
            "{" + ",".join(f"[{start},{stop})" for start, stop in zip(area.start, area.stop, strict=True)) + "}",
        )
    return fetch(f"SELECT {_COLUMNS} FROM skymap_parser.skymaps AS map WHERE {wanted} ORDER BY processed_at DESC")
