"""`tocsin coincidence list` and `show`: the pairs that were considered, and all that is known of one."""

import json
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.database import fetch
from cli.environment import settings
from cli.errors import told_in_one_line
from cli.table import columns
from cli.tail import plain
from services.coincidence.domain import PairState, coincidence_id
from shared.blobs.store import open_store
from shared.errors import InvalidInputError
from shared.events.blob import BlobRef
from shared.physics.rates import SECONDS_PER_YEAR

AsJson = Annotated[bool, typer.Option("--json", help="For machines.")]

_LIST = """
SELECT superevent_id, frb_id, state, is_open, is_test, scores, decided_at, reason, revision FROM coincidence.pairs
WHERE ($1::text IS NULL OR superevent_id = $1) AND ($2::bigint IS NULL OR frb_id = $2)
  AND ($3::text IS NULL OR state = $3) AND ($4::timestamptz IS NULL OR decided_at >= $4)
  AND ($5::bool IS NULL OR is_test = $5) AND ($6 OR is_open)
ORDER BY decided_at DESC, superevent_id, frb_id LIMIT $7
"""


def list_command(
    every: Annotated[bool, typer.Option("--all", help="Also what was considered and not announced.")] = False,
    superevent: Annotated[str | None, typer.Option(help="Of this superevent.")] = None,
    burst: Annotated[int | None, typer.Option(help="Of this burst.")] = None,
    state: Annotated[PairState | None, typer.Option(case_sensitive=False, help="In this state.")] = None,
    since: Annotated[datetime | None, typer.Option(help="Decided since then (UTC).")] = None,
    test: Annotated[bool | None, typer.Option("--test/--real", help="Only test traffic, or only real.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest first.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List pairs, the newest decision first: announced ones, unless --all or --state."""
    with told_in_one_line():
        rows = fetch(
            _LIST,
            superevent,
            burst,
            state,
            None if since is None else since.replace(tzinfo=UTC),
            test,
            every or state is not None,
            limit,
        )
    rows = [{"coincidence_id": coincidence_id(row["superevent_id"], row["frb_id"]), **row} for row in rows]
    if as_json:
        typer.echo(json.dumps(plain(rows), indent=2))
    elif rows:
        typer.echo(columns([_line(row) for row in rows]))
    typer.echo(f"{len(rows)} pairs", err=True)


def _line(row: Mapping[str, Any]) -> dict[str, Any]:
    scores = row["scores"] or {}
    far_hz = scores.get("far_space_time_hz")
    return {
        "pair": row["coincidence_id"] + (" (test)" if row["is_test"] else ""),
        "state": row["state"].lower().replace("_", " "),
        "offset_s": _number(scores.get("time_offset_s"), ".3f"),
        "window": (scores.get("window") or "").lower() or None,
        "overlap": _number(scores.get("overlap_sky")),
        "3d": _number(scores.get("overlap_3d")),
        "level": _number(scores.get("credible_level")),
        "far/yr": _number(None if far_hz is None else far_hz * SECONDS_PER_YEAR),
        "odds": _number(scores.get("odds")),
        "why": row["reason"],
    }


def show(
    pair: Annotated[str, typer.Argument(metavar="ID", help="As `list` prints it: S190425z-42.")],
    as_json: AsJson = False,
    notice: Annotated[bool, typer.Option("--notice", help="Print its GCN notice (JSON), nothing else.")] = False,
    map_file: Annotated[Path | None, typer.Option("--map", help="Write the combined map there (FITS).")] = None,
) -> None:
    """Show all that is known of a pair: parents, scores, files, every decision."""
    with told_in_one_line():
        superevent_id, frb_id = _parents(pair)
        rows = fetch("SELECT * FROM coincidence.pairs WHERE superevent_id = $1 AND frb_id = $2", superevent_id, frb_id)
        if not rows:
            raise InvalidInputError("ID", pair, "a pair that was considered; see `tocsin coincidence list --all`")
        (row,) = rows
        if notice:
            sys.stdout.buffer.write(_file(row, "gcn_notice") + b"\n")
            return
        if map_file is not None:
            map_file.write_bytes(_file(row, "combined_skymap"))
        history = fetch(
            "SELECT decided_at, state, reason, alert_event_id, map_id, burst_revision, method_version,"
            " record->>'revision' AS told_as FROM coincidence.history WHERE superevent_id = $1 AND frb_id = $2"
            " ORDER BY id",
            superevent_id,
            frb_id,
        )
    if as_json:
        typer.echo(json.dumps({"coincidence_id": pair, **plain([row])[0], "history": plain(history)}, indent=2))
        return
    for line in _page(pair, row):
        typer.echo(line)
    typer.echo("\nDecisions")
    typer.echo(columns([_decision(each) for each in history]))


def _parents(pair: str) -> tuple[str, int]:
    superevent_id, _, frb_id = pair.rpartition("-")
    if not superevent_id or not frb_id.isdecimal():
        raise InvalidInputError("ID", pair, "a superevent and a burst's number, such as S190425z-42")
    return superevent_id, int(frb_id)


def _reference(row: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    record = row["record"] or {}
    found: dict[str, Any] | None = record.get(name) or (record.get("scores") or {}).get(name)
    return found


def _file(row: Mapping[str, Any], name: str) -> bytes:
    reference = _reference(row, name)
    if reference is None:
        raise InvalidInputError("ID", f"a pair without {name}", "one that is announced")
    return open_store(settings().blobs).get(BlobRef.model_validate(reference))


def _page(pair: str, row: Mapping[str, Any]) -> Iterator[str]:
    yield f"{pair}  {row['state'].lower().replace('_', ' ')}{'  (test)' if row['is_test'] else ''}"
    yield f"  {row['reason']}"
    yield f"  decided {row['decided_at']:%Y-%m-%dT%H:%M:%SZ} by method {row['method_version']},"
    yield f"  from alert {row['alert_event_id']},"
    yield f"  map {row['map_id'] or '-'}, revision {row['burst_revision']} of the burst"
    scores = row["scores"]
    if scores is None:
        return
    yield "\nScores"
    for name, label, unit in _SCORES:
        yield f"  {label:<34} {_number(scores.get(name)) or '-'}{unit if scores.get(name) is not None else ''}"
    background = scores.get("background")
    if background is None:
        yield f"  {'chance pairs as good':<34} none simulated: see `tocsin coincidence background`"
    else:
        rate, low, high, years = (
            _number(background[name]) for name in ("rate_per_year", "rate_low_per_year", "rate_high_per_year", "years")
        )
        counted = f"68 %: {low} to {high}; {background['n_louder']} in {years} yr"
        yield f"  {'chance pairs as good':<34} {rate} per year ({counted})"
    for name, label in (("combined_skymap", "combined map"), ("gcn_notice", "GCN notice")):
        reference = _reference(row, name)
        yield f"  {label:<34} {reference['uri'] if reference else '-'}"


_SCORES = (
    ("time_offset_s", "burst less wave", " s"),
    ("time_offset_err_s", "its error", " s"),
    ("window_low_s", "window, wave less burst, from", " s"),
    ("window_high_s", "to", " s"),
    ("overlap_sky", "overlap of the positions", ""),
    ("overlap_3d", "with the distances", ""),
    ("distance_factor", "what the distances add", ""),
    ("credible_level", "credible level at the burst", ""),
    ("probdensity_per_sr", "probability density there", " /sr"),
    ("wave_distance_mean_mpc", "the wave's distance there", " Mpc"),
    ("wave_distance_std_mpc", "its standard deviation", " Mpc"),
    ("burst_distance_low_mpc", "the burst's distance (90 %), from", " Mpc"),
    ("burst_distance_high_mpc", "to", " Mpc"),
    ("far_time_hz", "joint false-alarm rate in time", " Hz"),
    ("far_space_time_hz", "in time and space", " Hz"),
    ("trials_factor", "searches", ""),
    ("odds", "odds of a common source", ""),
    ("prior_odds", "of which the prior", ""),
)


def _decision(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "at": f"{row['decided_at']:%Y-%m-%dT%H:%M:%SZ}",
        "state": row["state"].lower().replace("_", " "),
        "told_as": row["told_as"],
        "burst": f"revision {row['burst_revision']}",
        "why": row["reason"],
    }


def _number(value: float | None, form: str = ".4g") -> str | None:
    return None if value is None else format(value, form)
