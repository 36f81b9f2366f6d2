"""`tocsin coincidence list` and `show`: the pairs that were considered, and all that is known of one."""

import json
import sys
import textwrap
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.database import fetch
from cli.environment import settings
from cli.errors import told_in_one_line
from cli.table import columns
from services.coincidence.domain import PairState, coincidence_id
from shared.blobs.store import open_store
from shared.errors import InvalidInputError
from shared.events.blob import BlobRef
from shared.kafka.readable import plain
from shared.physics.rates import SECONDS_PER_YEAR

LARGEST_FRB_ID = 2**63 - 1
PAGE_WIDTH = 120

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
    burst: Annotated[int | None, typer.Option(max=LARGEST_FRB_ID, help="Of this burst.")] = None,
    state: Annotated[PairState | None, typer.Option(case_sensitive=False, help="In this state.")] = None,
    since: Annotated[datetime | None, typer.Option(help="Decided since then (UTC, unless it says otherwise).")] = None,
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
            since if since is None or since.tzinfo else since.replace(tzinfo=UTC),
            test,
            every or state is not None,
            limit,
        )
    rows = [{"coincidence_id": coincidence_id(row["superevent_id"], row["frb_id"]), **row} for row in rows]
    if as_json:
        typer.echo(json.dumps(plain(rows), indent=2))
    elif rows:
        heading, *lines = columns([_line(row) for row in rows]).splitlines()
        typer.echo(heading)
        for line, row in zip(lines, rows, strict=True):
            typer.echo(line)
            typer.echo(textwrap.fill(row["reason"], PAGE_WIDTH, initial_indent="  ", subsequent_indent="  "))
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
        rows = fetch(_SHOW, superevent_id, frb_id)
        if not rows:
            raise InvalidInputError("ID", pair, "a pair that was considered; see `tocsin coincidence list --all`")
        (row,) = rows
        if notice:
            sys.stdout.buffer.write(_file(row, "gcn_notice") + b"\n")
            return
        if map_file is not None:
            _write(map_file, _file(row, "combined_skymap"))
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


_SHOW = """
SELECT pairs.*, waves.state AS wave, bursts.state AS burst FROM coincidence.pairs
JOIN coincidence.waves USING (superevent_id) JOIN coincidence.bursts USING (frb_id)
WHERE superevent_id = $1 AND frb_id = $2
"""


def _write(path: Path, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except OSError as error:
        raise InvalidInputError("--map", f"{path}: {error.strerror or error}", "a file that can be written") from error


def _parents(pair: str) -> tuple[str, int]:
    superevent_id, _, frb_id = pair.rpartition("-")
    if not superevent_id or not frb_id.isdecimal() or int(frb_id) > LARGEST_FRB_ID:
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
    yield f"  decided {row['decided_at']:%Y-%m-%dT%H:%M:%SZ} by method {row['method_version']}"
    yield from _wave(row)
    yield from _burst(row)
    if row["scores"] is not None:
        yield "\nScores"
        yield from score_lines(row["scores"])
    files = [(label, _reference(row, name)) for name, label in _FILES]
    if any(reference for _, reference in files):
        yield "\nFiles"
        yield from (f"  {label:<34} {reference['uri']}" for label, reference in files if reference)


def _wave(row: Mapping[str, Any]) -> Iterator[str]:
    alert = row["wave"]["alert"]
    p_astro = _number(alert["p_astro"])
    yield f"\nWave {row['superevent_id']}"
    yield f"  {'time at the geocentre':<34} {alert['event_time']}"
    yield f"  {'found by':<34} {alert['pipeline']} ({alert['group']}), false alarms {_number(alert['far_hz'])} Hz"
    yield f"  {'astrophysical with probability':<34} {p_astro or '-'}"
    yield f"  {'alert':<34} {row['alert_event_id']}"
    yield f"  {'sky map':<34} {row['map_id'] or '-'}"


def _burst(row: Mapping[str, Any]) -> Iterator[str]:
    yield f"\nBurst {row['frb_id']}"
    if row["burst"] is not None:
        facts = row["burst"]["facts"]
        names = (facts["internal_name"], facts["tns_name"], facts["origin"], facts["origin_id"])
        yield f"  {'names':<34} {', '.join(filter(None, names))}"
        error = _number(facts["time_err_s"])
        note = f" ({facts['timing_note']})" if facts["timing_note"] else ""
        yield f"  {'time there, at infinite frequency':<34} {facts['time']} +/- {error} s{note}"
        at = facts["localisation"]
        place = "-" if at is None else f"RA {at['ra_deg']:.5f} deg, Dec {at['dec_deg']:+.5f} deg"
        yield f"  {'position':<34} {place}"
        for name, label in (("dm_pc_cm3", "dispersion measure"), ("dm_excess_pc_cm3", "of which beyond the Galaxy")):
            yield f"  {label:<34} {_with_unit(facts[name], ' pc cm^-3')}"
    yield f"  {'revision':<34} {row['burst_revision']}"


def score_lines(scores: Mapping[str, Any]) -> Iterator[str]:
    """Return the scores of a record, a line each, with units."""
    for name, label, unit, form in _SCORES:
        yield f"  {label:<34} {_with_unit(scores.get(name), unit, form)}"
    background = scores.get("background")
    if background is None:
        yield f"  {'chance pairs as good':<34} none simulated: see `tocsin coincidence background`"
        return
    rate, low, high, years = (
        _number(background[name]) for name in ("rate_per_year", "rate_low_per_year", "rate_high_per_year", "years")
    )
    counted = f"68 %: {low} to {high}; {background['n_louder']} in {years} yr"
    yield f"  {'chance pairs as good':<34} {rate} per year ({counted})"


_FILES = (("combined_skymap", "combined map"), ("gcn_notice", "GCN notice"))

_SCORES = (
    ("time_offset_s", "burst less wave", " s", ".3f"),
    ("time_offset_err_s", "its error", " s", ".4g"),
    ("window_low_s", "window, wave less burst, from", " s", ".4g"),
    ("window_high_s", "to", " s", ".4g"),
    ("overlap_sky", "overlap of the positions", "", ".4g"),
    ("overlap_3d", "with the distances", "", ".4g"),
    ("distance_factor", "what the distances add", "", ".4g"),
    ("credible_level", "credible level at the burst", "", ".4g"),
    ("probdensity_per_sr", "probability density there", " /sr", ".4g"),
    ("wave_distance_mean_mpc", "the wave's distance there", " Mpc", ".4g"),
    ("wave_distance_std_mpc", "its standard deviation", " Mpc", ".4g"),
    ("burst_distance_low_mpc", "the burst's distance (90 %), from", " Mpc", ".4g"),
    ("burst_distance_high_mpc", "to", " Mpc", ".4g"),
    ("far_time_hz", "joint false-alarm rate in time", " Hz", ".4g"),
    ("far_space_time_hz", "in time and space", " Hz", ".4g"),
    ("trials_factor", "searches", "", ".4g"),
    ("odds", "odds of a common source", "", ".4g"),
    ("prior_odds", "of which the prior", "", ".4g"),
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


def _with_unit(value: float | None, unit: str, form: str = ".4g") -> str:
    return "-" if value is None else format(value, form) + unit
