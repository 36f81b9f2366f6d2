"""`tocsin overlap`: how much two sky maps, or a sky map and a position, agree; no server takes part."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.errors import BAD_INPUT
from cli.skymap import numbers, read_map
from shared.errors import InvalidInputError
from shared.sky import healpix, region, volume
from shared.sky.gaussian import localisation_map
from shared.sky.localisation import MAX_AXIS_DEG, Ellipse
from shared.sky.overlap import combined, overlap
from shared.sky.skymap import SkyMap, write_skymap

ONE_SIGMA = 0.3934693402873666
# 1 - exp(-1/2): what a two-dimensional Gaussian has within one standard deviation.
_MAX_ERR_DEG = MAX_AXIS_DEG / 2
_POSITION = "RA,DEC,ERR_DEG in degrees"


@dataclass(frozen=True)
class _Side:
    """One of the two compared: its map and what is told of it."""

    sky_map: SkyMap
    facts: dict[str, Any]
    position: tuple[float, float] | None = None
    notes: list[str] = field(default_factory=list)


def overlap_command(
    map_a: Annotated[Path, typer.Argument(help="A FITS sky map, gzipped or not, or an IGWN alert (Avro or JSON).")],
    second: Annotated[
        str,
        typer.Argument(
            metavar="MAP_B|RA,DEC,ERR_DEG",
            help="Another of these, or a position in degrees: ERR_DEG is the standard deviation of a circular Gaussian"
            " along each axis (68 % of it within ERR_DEG in declination, 39 % in the circle).",
        ),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
    dm_excess: Annotated[
        float | None,
        typer.Option(metavar="PC_CM3", help="Dispersion measure of the second beyond the Milky Way, for 3-D."),
    ] = None,
    redshift: Annotated[float | None, typer.Option(help="Redshift of the second, for 3-D.")] = None,
    product: Annotated[
        Path | None, typer.Option(help="Write the normalised product of both as multi-order FITS.")
    ] = None,
) -> None:
    """Overlap of two sky maps, or of a sky map and a position: 1 says nothing, above 1 they agree."""
    try:
        a = _map(map_a)
        b = _second(second, resolving=a.sky_map)
        facts = _facts(a, b, _weight(dm_excess, redshift))
        if product is not None:
            _write(product, write_skymap(combined(a.sky_map, b.sky_map)))
    except InvalidInputError as error:
        typer.echo(f"tocsin overlap: {error}".replace("\n", " "), err=True)
        raise typer.Exit(BAD_INPUT) from error
    typer.echo(json.dumps(facts, indent=2) if as_json else _text(facts))


def _map(file: Path) -> _Side:
    try:
        alert, sky_map = read_map(file, combined=False)
    except InvalidInputError as error:
        raise InvalidInputError(f"{file}: {error.field}", error.value, error.expected) from error
    name = alert.superevent_id if alert else sky_map.object_name or file.name
    distance = region.distance(sky_map)
    facts = {
        "name": name,
        "file": str(file),
        **_areas(sky_map),
        "distance_mean_mpc": distance.mean_mpc if distance else None,
        "distance_std_mpc": distance.std_mpc if distance else None,
    }
    return _Side(sky_map, facts, notes=[f"{name}: {note}" for note in sky_map.notes])


def _second(text: str, *, resolving: SkyMap) -> _Side:
    if Path(text).exists() or "," not in text:
        return _map(Path(text))
    ra_deg, dec_deg, err_deg = numbers("second", text, _POSITION)
    if not 0 < err_deg <= _MAX_ERR_DEG:
        raise InvalidInputError("ERR_DEG", err_deg, f"above 0 and at most {_MAX_ERR_DEG:g} deg")
    ellipse = Ellipse(ra_deg, dec_deg, err_deg, err_deg, 0.0, ONE_SIGMA)
    sky_map = localisation_map(ellipse, resolving=resolving)
    facts = {"name": text, "ra_deg": ra_deg, "dec_deg": dec_deg, "err_deg": err_deg, **_areas(sky_map)}
    return _Side(sky_map, facts, (ra_deg, dec_deg))


def _areas(sky_map: SkyMap) -> dict[str, float]:
    region_50, region_90 = region.credible_regions(sky_map, (0.5, 0.9))
    return {"area_50_deg2": region_50.area_deg2, "area_90_deg2": region_90.area_deg2}


def _weight(dm_excess: float | None, redshift: float | None) -> volume.DistanceWeight | volume.MeasuredDistance | None:
    if dm_excess is not None and redshift is not None:
        raise InvalidInputError("--redshift", "given beside --dm-excess", "one of the two")
    if dm_excess is not None:
        if not 0 <= dm_excess < float("inf"):
            raise InvalidInputError("--dm-excess", dm_excess, "a number of 0 or more")
        return volume.distance_weight(dm_excess)
    return None if redshift is None else volume.measured_distance(redshift)


def _facts(a: _Side, b: _Side, weight: volume.DistanceWeight | volume.MeasuredDistance | None) -> dict[str, Any]:
    notes = a.notes + b.notes
    overlap_3d, why = _in_volume(a.sky_map, b.sky_map, weight)
    facts: dict[str, Any] = {
        "a": a.facts,
        "b": b.facts,
        "overlap_sky": overlap(a.sky_map, b.sky_map),
        "overlap_3d": overlap_3d,
    }
    if b.position is not None:
        there = region.at_points(a.sky_map, *([angle] for angle in b.position))
        density = float(there.probdensity_per_sr[0])
        facts |= {
            "credible_level": float(there.credible_level[0]),
            "probdensity_per_sr": density,
            "overlap_at_position": healpix.SKY_SR * density,
        }
        sight = volume.line_of_sight(a.sky_map, ra_deg=b.position[0], dec_deg=b.position[1])
        facts |= {"distance_mean_mpc": sight.mean_mpc, "distance_std_mpc": sight.std_mpc}
    return {**facts, "notes": [*notes, why]}


def _in_volume(
    a: SkyMap, b: SkyMap, weight: volume.DistanceWeight | volume.MeasuredDistance | None
) -> tuple[float | None, str]:
    """Overlap in three dimensions, and what is assumed or missing for it."""
    if a.distmu is None:
        return None, "no overlap in 3-D: the first map has no distances along lines of sight"
    if weight is not None:
        found = volume.overlap_with_burst(a, b, weight)
        return found.overlap_3d, "3-D: distances of the second from its dispersion measure or redshift"
    radius_mpc = volume.horizon_mpc(a, b)
    if b.distmu is None or radius_mpc is None:
        return None, "no overlap in 3-D: nothing tells the second's distance; see --dm-excess and --redshift"
    found = volume.overlap_of_maps(a, b, radius_mpc=radius_mpc)
    return found.overlap_3d, f"3-D: sources taken to fill a sphere of {radius_mpc:.6g} Mpc evenly"


def _write(path: Path, content: bytes) -> None:
    try:
        path.write_bytes(content)
    except OSError as error:
        raise InvalidInputError(f"output {path}", error.strerror or str(error), "a file that can be written") from error


def _text(facts: dict[str, Any]) -> str:
    lines = [(side, f"{facts[side]['name']}, 90 % area {facts[side]['area_90_deg2']:.6g} deg2") for side in ("a", "b")]
    lines.append(("overlap", f"{facts['overlap_sky']:.6g} on the sky"))
    if facts["overlap_3d"] is not None:
        lines.append(("overlap 3-D", f"{facts['overlap_3d']:.6g}"))
    if "credible_level" in facts:
        there = f"credible level {facts['credible_level']:.6g}, overlap of the point {facts['overlap_at_position']:.6g}"
        if facts["distance_mean_mpc"] is not None:
            there += f", distance {facts['distance_mean_mpc']:.6g} +/- {facts['distance_std_mpc']:.6g} Mpc"
        lines.append(("there", there))
    lines += [("note", note) for note in facts["notes"]]
    return "\n".join(f"{name:<14} {value}" for name, value in lines)
