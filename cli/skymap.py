"""`tocsin skymap`: what one sky map says, from a file alone; no server takes part."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.errors import BAD_INPUT
from services.gw_listener.alerts import UpstreamAlert, read_alert
from services.skymap_parser import domain
from shared.errors import InvalidInputError
from shared.sky import picture, region
from shared.sky.skymap import ALERT_MAX_MAP_BYTES, ALERT_SUM_TOLERANCE, MAX_MAP_BYTES, SkyMap, read_skymap

MAX_FILE_BYTES = MAX_MAP_BYTES
_FITS_STARTS = (b"SIMPLE  =", b"\x1f\x8b")
_BYTES_FIELDS = ("canonical", "moc_50", "moc_90")


def skymap(
    file: Annotated[Path, typer.Argument(help="A FITS sky map, gzipped or not, or an IGWN alert (Avro or JSON).")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
    plot: Annotated[Path | None, typer.Option(help="Draw the sky into this PNG.")] = None,
    cone: Annotated[
        str | None, typer.Option(metavar="RA,DEC,RADIUS", help="Probability within RADIUS deg of a position.")
    ] = None,
    at: Annotated[str | None, typer.Option(metavar="RA,DEC", help="Density, credible level, distance there.")] = None,
    combined: Annotated[bool, typer.Option("--combined", help="The alert's map combined with another event.")] = False,
    canonical: Annotated[
        Path | None, typer.Option(help="Write the map as sorted, normalised multi-order FITS.")
    ] = None,
    moc: Annotated[Path | None, typer.Option(help="Write the 90 % region as IVOA MOC 2.0 FITS.")] = None,
) -> None:
    """Position, areas, credible regions and distance of a sky map."""
    try:
        alert, sky_map = read_map(file, combined=combined)
        product = domain.product(sky_map)
        extra: dict[str, Any] = {}
        if cone is not None:
            ra_deg, dec_deg, radius_deg = numbers("--cone", cone, "RA,DEC,RADIUS in degrees")
            extra["cone_probability"] = region.probability_in_cone(
                sky_map, ra_deg=ra_deg, dec_deg=dec_deg, radius_deg=radius_deg
            )
        if at is not None:
            extra["at"] = _values_at(sky_map, *numbers("--at", at, "RA,DEC in degrees"))
        title = alert.superevent_id if alert else sky_map.object_name or file.name
        if plot is not None:
            _write(plot, picture.draw(sky_map, title=title))
        if canonical is not None:
            _write(canonical, product.canonical)
        if moc is not None:
            _write(moc, product.moc_90)
    except InvalidInputError as error:
        typer.echo(f"tocsin skymap: {file}: {error}".replace("\n", " "), err=True)
        raise typer.Exit(BAD_INPUT) from error
    facts = {"file": str(file), **_facts_of_alert(alert, combined=combined), **_facts(sky_map, product), **extra}
    typer.echo(json.dumps(facts, indent=2) if as_json else _text(facts))


def read_map(file: Path, *, combined: bool) -> tuple[UpstreamAlert | None, SkyMap]:
    """Return the map in a FITS file or in an alert, and the alert."""
    try:
        with file.open("rb") as stream:
            data = stream.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise InvalidInputError("file", error.strerror or str(error), "a readable file") from error
    if len(data) > MAX_FILE_BYTES:
        raise InvalidInputError("file", f"more than {MAX_FILE_BYTES} bytes", "a sky map or an alert")
    if not data:
        raise InvalidInputError("file", "empty", "a FITS sky map or an IGWN alert")
    if data.startswith(_FITS_STARTS):
        if combined:
            raise InvalidInputError("--combined", "given with a FITS file", "an alert, which may hold two maps")
        return None, read_skymap(data)
    if not data.startswith(b"Obj\x01") and data[:64].lstrip(b"\xef\xbb\xbf \t\r\n")[:1] not in (b"{", b"["):
        raise InvalidInputError("file", f"{data[:16]!r}…", "a FITS sky map or an IGWN alert (Avro or JSON)")
    alert = read_alert(data)
    content = alert.combined_skymap if combined else alert.skymap
    if content is None:
        field = "external_coinc.combined_skymap" if combined else "event.skymap"
        kind = f"{alert.alert_type.value} of {alert.superevent_id}"
        why = "a retraction carries none" if alert.event is None else "this alert carries none"
        raise InvalidInputError(field, f"missing in the {kind}", f"an alert with a sky map; {why}")
    return alert, read_skymap(content, sum_tolerance=ALERT_SUM_TOLERANCE, max_bytes=ALERT_MAX_MAP_BYTES)


def _write(path: Path, content: bytes) -> None:
    try:
        path.write_bytes(content)
    except OSError as error:
        raise InvalidInputError(f"output {path}", error.strerror or str(error), "a file that can be written") from error


def numbers(option: str, text: str, expected: str) -> list[float]:
    """Return the numbers of an option such as `--at RA,DEC`; `expected` names them."""
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError as error:
        raise InvalidInputError(option, text, expected) from error
    if len(values) != expected.count(",") + 1:
        raise InvalidInputError(option, text, expected)
    return values


def _values_at(sky_map: SkyMap, ra_deg: float, dec_deg: float) -> dict[str, float | None]:
    values = region.at_points(sky_map, [ra_deg], [dec_deg])

    def first(column: Any) -> float | None:
        return None if column is None or column[0] != column[0] else float(column[0])

    return {
        "ra_deg": ra_deg,
        "dec_deg": dec_deg,
        "probdensity_per_sr": first(values.probdensity_per_sr),
        "credible_level": first(values.credible_level),
        "distance_mean_mpc": first(values.distance_mean_mpc),
        "distance_std_mpc": first(values.distance_std_mpc),
    }


def _facts_of_alert(alert: UpstreamAlert | None, *, combined: bool) -> dict[str, Any]:
    if alert is None:
        return {}
    kind = "COMBINED" if combined else "GW"
    return {"superevent_id": alert.superevent_id, "alert_type": alert.alert_type.value, "map_kind": kind}


def _facts(sky_map: SkyMap, product: domain.ParsedSkymap) -> dict[str, Any]:
    facts = {name: value for name, value in vars(product).items() if name not in _BYTES_FIELDS}
    region_50, region_90 = region.credible_regions(sky_map, (0.5, 0.9))
    facts["date_obs"] = product.date_obs.isoformat() if product.date_obs else None
    del facts["moc_50_ascii"], facts["moc_90_ascii"]
    return {**facts, "moc_50": region_50.to_ascii(), "moc_90": region_90.to_ascii()}


def _text(facts: dict[str, Any]) -> str:
    def known(value: float | None, form: str, unit: str) -> str:
        return "unknown" if value is None else f"{value:{form}} {unit}"

    mean, std = facts["distance_mean_mpc"], facts["distance_std_mpc"]
    alert = None
    if "superevent_id" in facts:
        alert = f"{facts['superevent_id']} {facts['alert_type']} ({facts['map_kind']} map)"
    lines = [
        ("file", facts["file"]),
        ("alert", alert),
        ("object", facts["object_name"]),
        ("observed", facts["date_obs"]),
        ("instruments", ", ".join(facts["instruments"]) or None),
        ("most probable", f"RA {facts['ra_deg']:.5f} deg, Dec {facts['dec_deg']:+.5f} deg"),
        ("peak density", f"{facts['max_probdensity_per_sr']:.6g} per sr"),
        ("50 % area", f"{facts['area_50_deg2']:.6g} deg2"),
        ("90 % area", f"{facts['area_90_deg2']:.6g} deg2"),
        ("distance", known(mean, ".6g", "Mpc") if std is None else f"{mean:.6g} +/- {std:.6g} Mpc"),
        ("pixels", f"{facts['n_pixels']} of order {facts['min_order']} to {facts['max_order']}"),
        ("probability", f"{facts['total_probability']:.10g} before normalisation"),
        ("coverage", f"{facts['sky_coverage']:.6g} of the sky"),
        ("in the cone", f"{facts['cone_probability']:.6g} of the probability" if "cone_probability" in facts else None),
    ]  # fmt: skip
    if "at" in facts:
        there = facts["at"]
        far = known(there["distance_mean_mpc"], ".6g", "Mpc")
        level = f"credible level {there['credible_level']:.6g}"
        lines.append(("there", f"{there['probdensity_per_sr']:.6g} per sr, {level}, distance {far}"))
    lines += [("note", note) for note in facts["notes"]]
    return "\n".join(f"{name:<14} {value}" for name, value in lines if value is not None)
