"""`tocsin frb list`, `show` and `export`: what is known of bursts."""

import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import IO, Annotated, Any

import typer

from cli.frb import filters, options
from cli.frb.client import FrbClient, document
from cli.frb.errors import UnknownAnswerError, printable, told_line_by_line
from cli.frb.progress import tell, transfer_bar
from cli.table import columns
from services.frb_intake.models import MeasurementIn, ObservationIn
from shared.errors import InvalidInputError

PAGE = 500
# The most that the server gives at once.
VALUES = ("dm_pc_cm3", "dm_err_pc_cm3", "snr", "width_ms", "flux_jy", "fluence_jy_ms", "rm_rad_m2", "redshift")


class Format(StrEnum):
    """What `export` writes."""

    CSV = "csv"
    VOTABLE = "votable"
    JSON = "json"


def list_bursts(
    since: filters.Since = None,
    until: filters.Until = None,
    dm_min: filters.DmMin = None,
    dm_max: filters.DmMax = None,
    sn_min: filters.SnMin = None,
    sn_max: filters.SnMax = None,
    cone: filters.Cone = None,
    repeater: filters.Repeater = None,
    status: filters.OfStatus = None,
    rating: filters.Rating = None,
    tns_name: filters.TnsName = None,
    test: filters.Test = None,
    sort: filters.SortedBy = filters.Sort.TIME,
    ascending: filters.Ascending = False,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many.")] = 50,
    as_json: options.AsJson = False,
    server: options.Server = options.SERVER,
    token_file: options.TokenFile = None,
    timeout_s: options.TimeoutS = options.TIMEOUT_S,
    retries: options.Retries = options.RETRIES,
) -> None:
    """List bursts, the latest first unless told otherwise."""
    with told_line_by_line():
        wanted = filters.query(
            since=since, until=until, dm_min=dm_min, dm_max=dm_max, sn_min=sn_min, sn_max=sn_max, cone=cone,
            repeater=repeater, status=status, rating=rating, tns_name=tns_name, test=test,
            sort=sort, ascending=ascending,
        )  # fmt: skip
        client = options.reader(server, token_file, timeout_s, retries)
        rows = list(islice(_summaries(client, wanted | {"limit": min(limit, PAGE)}), limit))
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    if rows:
        typer.echo(columns([_row(summary) for summary in rows]))
    tell("1 burst" if len(rows) == 1 else f"{len(rows)} bursts")


def show(
    frb_id: options.FrbId,
    as_json: options.AsJson = False,
    server: options.Server = options.SERVER,
    token_file: options.TokenFile = None,
    timeout_s: options.TimeoutS = options.TIMEOUT_S,
    retries: options.Retries = options.RETRIES,
) -> None:
    """Show everything known of one burst: measurements, observation, pictures, votes, history."""
    with told_line_by_line():
        event = document(options.reader(server, token_file, timeout_s, retries).get(f"/events/{frb_id}"))
    typer.echo(json.dumps(event, indent=2) if as_json else "\n".join(map(printable, _text(event))))


def export(
    since: filters.Since = None,
    until: filters.Until = None,
    dm_min: filters.DmMin = None,
    dm_max: filters.DmMax = None,
    sn_min: filters.SnMin = None,
    sn_max: filters.SnMax = None,
    cone: filters.Cone = None,
    repeater: filters.Repeater = None,
    status: filters.OfStatus = None,
    rating: filters.Rating = None,
    tns_name: filters.TnsName = None,
    test: filters.Test = None,
    sort: filters.SortedBy = filters.Sort.TIME,
    ascending: filters.Ascending = False,
    form: Annotated[Format, typer.Option("--format", help="What to write.")] = Format.CSV,
    output: Annotated[
        Path | None, typer.Option("--output", metavar="FILE", help="Where to; standard output without it.")
    ] = None,
    server: options.Server = options.SERVER,
    token_file: options.TokenFile = None,
    timeout_s: options.TimeoutS = options.TIMEOUT_S,
    retries: options.Retries = options.RETRIES,
) -> None:
    """Write a table of all bursts that the filters let through; a file appears only when it is complete."""
    with told_line_by_line():
        wanted = filters.query(
            since=since, until=until, dm_min=dm_min, dm_max=dm_max, sn_min=sn_min, sn_max=sn_max, cone=cone,
            repeater=repeater, status=status, rating=rating, tns_name=tns_name, test=test,
            sort=sort, ascending=ascending,
        )  # fmt: skip
        client = options.reader(server, token_file, timeout_s, retries)
        with client.stream("/events/export", wanted | {"format": form}) as answer, _opened(output) as stream:
            size = _copy(answer.iter_bytes(), stream, what=str(output or form))
    if output is not None:
        tell(f"{output}: {size} bytes")


def _summaries(client: FrbClient, wanted: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield one page after the other."""
    cursor: str | None = None
    while True:
        answer = client.get("/events", wanted | {"cursor": cursor})
        page = document(answer)
        if not isinstance(page.get("items"), list):
            raise UnknownAnswerError(f"{answer.request.url} answers without items; expected a page of bursts")
        yield from page["items"]
        cursor = page.get("next")
        if cursor is None:
            return


def _row(summary: dict[str, Any]) -> dict[str, Any]:
    votes = summary.get("votes") or {}
    row = {
        "id": summary["id"],
        "time_of_arrival": summary.get("time_of_arrival"),
        "dm": summary.get("dm"),
        "sn": summary.get("sn"),
        "ra": _degrees(summary.get("ra")),
        "dec": _degrees(summary.get("dec")),
        "status": (summary.get("status") or "").lower() + (" test" if summary.get("is_test") else ""),
        "yes/no/?": "/".join(str(votes.get(vote, 0)) for vote in ("confirm", "reject", "unsure")),
        "repeater": "yes" if summary.get("repeater") else "no",
        "name": summary.get("tns_name") or summary.get("internal_name"),
    }
    return {name: printable(value) if isinstance(value, str) else value for name, value in row.items()}


def _degrees(angle: float | None) -> str | None:
    return None if angle is None else f"{angle:.4f}"


_PAIR = (
    ("offset (s)", "time_offset_s"),
    ("overlap", "overlap_sky"),
    ("with distances", "overlap_3d"),
    ("joint rate (Hz)", "far_space_time_hz"),
    ("odds", "odds"),
)


def _text(event: dict[str, Any]) -> Iterator[str]:
    marks = [event.get("status", "").lower(), "test" if event.get("is_test") else "", event.get("tns_name") or ""]
    yield f"burst {event['id']}  {event.get('internal_name')}  {', '.join(filter(None, marks))}"
    for name, value in (
        ("status", event.get("status_reason")),
        ("arrived", event.get("time_of_arrival")),
        ("sent by", event.get("submitted_by")),
        ("repeater", event.get("repeater_of") or ("yes" if event.get("repeater") else None)),
        ("observed", _listed(event.get("observation") or {}, ObservationIn.model_fields)),
    ):
        if value:
            yield f"  {name:<12}  {value}"
    for measurement in event.get("measurements") or ():
        # What another observatory's notice brought has other keys.
        values = _listed(measurement.get("as_submitted") or {}, MeasurementIn.model_fields) or _listed(
            measurement, VALUES
        )
        yield f"  measured {measurement['number']:<3}  {measurement['made_at']} by {measurement['made_by']}: {values}"
        yield from (f"                  {line}" for line in _derived(measurement))
    for image in event.get("images") or ():
        size = f"{image['width_px']} x {image['height_px']} px"
        yield f"  picture       {image['name']}, {image['media_type']}, {size}, {image['url']}"
    for vote in event.get("ratings") or ():
        note = f": {vote['note']}" if vote.get("note") else ""
        yield f"  vote          {vote['rated_at']} {vote['rater']} says {vote['rating']}{note}"
    for pair in event.get("coincidences") or ():
        scores = pair.get("scores") or {}
        facts = [f"{name} {scores[key]:.4g}" for name, key in _PAIR if scores.get(key) is not None]
        told = f"{pair['coincidence_id']} {pair['coincidence_type'].lower()}, revision {pair['revision']}"
        yield f"  coincidence   {pair['decided_at']} {told}: {', '.join(facts) or pair['reason']}"
    for change in event.get("history") or ():
        what = change["change"].lower().replace("_", " ")
        yield f"  revision {change['revision']:<3}  {change['changed_at']} {what} by {change['changed_by']}"


def _listed(values: dict[str, Any], keys: Iterable[str]) -> str:
    """Return the values that there are, in the order of `keys`: the database keeps none."""
    return ", ".join(f"{key} {_plain(values[key])}" for key in keys if values.get(key) is not None)


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return f"({', '.join(f'{key} {part}' for key, part in value.items())})"
    return str(value)


def _derived(measurement: dict[str, Any]) -> Iterator[str]:
    """Yield a line for each thing that the intake made of a measurement."""
    if place := measurement.get("localisation"):
        yield (
            f"position: RA {place['ra_deg']:.5f} deg, Dec {place['dec_deg']:+.5f} deg,"
            f" within {place['semi_major_deg']:.4g} x {place['semi_minor_deg']:.4g} deg"
            f" at {place['position_angle_deg']:.4g} deg ({place['confidence_level']:.4g} confidence)"
        )
    if arrival := measurement.get("time_of_arrival_inf"):
        error_s = measurement.get("time_of_arrival_inf_err_s")
        yield f"arrival at infinite frequency: {arrival}" + ("" if error_s is None else f" +/- {error_s:.2g} s")
    if budget := measurement.get("dm_budget"):
        yield (
            f"excess DM: {budget['dm_excess_pc_cm3']:.5g} pc cm^-3; redshift {budget['redshift_mean']:.3g}"
            f" ({budget['redshift_low']:.3g} to {budget['redshift_high']:.3g}, {budget['cosmology']})"
        )


@contextmanager
def _opened(path: Path | None) -> Iterator[IO[bytes]]:
    """Yield standard output, or a file that takes its name only when nothing went wrong."""
    if path is None:
        yield sys.stdout.buffer
        return
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with unfinished.open("xb") as stream:
            yield stream
        unfinished.replace(path)
    except OSError as error:
        raise InvalidInputError(
            "--output", f"{path}: {error.strerror or error}", "a file that can be written"
        ) from error
    finally:
        unfinished.unlink(missing_ok=True)


def _copy(chunks: Iterable[bytes], stream: IO[bytes], *, what: str) -> int:
    done_bytes = 0
    with transfer_bar(what) as on_bytes:
        for chunk in chunks:
            stream.write(chunk)
            done_bytes += len(chunk)
            on_bytes(done_bytes)
    return done_bytes
