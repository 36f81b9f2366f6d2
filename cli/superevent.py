"""`tocsin superevent`: everything known of one superevent."""

import json
from typing import Annotated, Any

import typer

from cli.database import fetch
from cli.errors import told_in_one_line
from shared.errors import InvalidInputError
from shared.kafka.readable import plain


def superevent(
    superevent_id: Annotated[str, typer.Argument(metavar="ID", help="For example S230518h or MS181101ab.")],
    as_json: Annotated[bool, typer.Option("--json", help="Everything, for machines.")] = False,
) -> None:
    """Show everything known of one superevent: state, alerts in order of acceptance, who brought them, sky maps."""
    with told_in_one_line():
        known = collect(superevent_id)
    typer.echo(json.dumps(known, indent=2) if as_json else _as_text(known))


def collect(superevent_id: str) -> dict[str, Any]:
    """Return the superevent with its alerts, their receptions and the sky maps, ready for JSON.

    Raises
    ------
    InvalidInputError
        It was never heard of.
    """
    rows = fetch("SELECT * FROM gw_listener.superevents WHERE superevent_id = $1", superevent_id)
    if not rows:
        raise InvalidInputError("ID", superevent_id, "a superevent of which an alert was accepted")
    alerts = fetch("SELECT * FROM gw_listener.alerts WHERE superevent_id = $1 ORDER BY sequence", superevent_id)
    receptions = fetch(
        "SELECT reception.* FROM gw_listener.receptions AS reception JOIN gw_listener.alerts USING (event_id)"
        " WHERE superevent_id = $1 ORDER BY reception.received_at",
        superevent_id,
    )
    maps = fetch(
        "SELECT * FROM skymap_parser.skymaps WHERE superevent_id = $1 ORDER BY alert_time_created, processed_at",
        superevent_id,
    )
    known: dict[str, Any] = plain(
        {
            **rows[0],
            "alerts": [
                {
                    **alert["record"],
                    "was_current": alert["was_current"],
                    "receptions": [_without(r, "event_id") for r in receptions if r["event_id"] == alert["event_id"]],
                }
                for alert in alerts
            ],
            # The columns hold the map's state of today, the record what was announced when it was made.
            "skymaps": [
                {**found["record"], **{name: found[name] for name in ("state", "is_current", "picture")}}
                for found in maps
            ],
        }
    )
    return known


def _without(row: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != name}


def _as_text(known: dict[str, Any]) -> str:
    lines = [
        f"{known['superevent_id']}  {known['kind'].lower()}, {known['state'].lower()}, {known['alert_count']} alerts,"
        f" first heard of {known['first_received_at']}"
    ]
    for alert in known["alerts"]:
        event = alert["event"]
        what = (
            f"{event['group']}/{event['search']} {event['pipeline']} FAR {event['far_hz']:.3g} Hz"
            if event
            else "no event"
        )
        lines.append(
            f"  {alert['sequence']:>2}  {alert['alert_type']:<12} created {alert['time_created']}  {what}"
            f"  from {', '.join(reception['source'] for reception in alert['receptions'])}"
        )
    for found in known["skymaps"]:
        skymap, mark = found["skymap"], "current" if found["is_current"] else found["state"].lower()
        if skymap is None:
            lines.append(f"  map {found['map_kind']:<9} of {found['alert_type']:<12} {mark}")
            continue
        distance = (
            f"{skymap['distance_mean_mpc']:.1f} +/- {skymap['distance_std_mpc']:.1f} Mpc"
            if skymap["distance_mean_mpc"] is not None
            else "no distance"
        )
        lines.append(
            f"  map {found['map_kind']:<9} of {found['alert_type']:<12} RA {skymap['ra_deg']:.4f}"
            f" Dec {skymap['dec_deg']:+.4f} deg  50 % {skymap['area_50_deg2']:.1f} deg2"
            f"  90 % {skymap['area_90_deg2']:.1f} deg2  {distance}  {mark}"
        )
    return "\n".join(lines)
