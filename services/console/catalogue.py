"""What a catalogue says is in a field: read from a VOTable that somebody else wrote.

Columns are known by their UCDs, those of IVOA Simple Cone Search 1.03 and of UCD1+. Nothing that it says is believed
beyond that: not its links, not the length of its texts, not that its positions are in the field.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from xml.parsers import expat

import numpy as np
from astropy import units
from astropy.io.votable import parse
from astropy.io.votable.tree import Field as Column
from astropy.io.votable.tree import TableElement
from astropy.units import UnitBase

from shared.errors import TransientError
from shared.sky import projection
from shared.sky.healpix import FloatArray
from shared.sky.localisation import Ellipse

MOST_OBJECTS = 500
MAX_NAME_CHARACTERS = 60
MAX_COLUMN_CHARACTERS = 20
FAINTEST = 60.0
# Catalogues write what they do not know as 99 or -99, too.
_RA = ("pos.eq.ra;meta.main", "pos_eq_ra_main", "pos.eq.ra")
_DEC = ("pos.eq.dec;meta.main", "pos_eq_dec_main", "pos.eq.dec")
_MAIN_NAME, _OTHER_NAME = ("meta.id;meta.main", "id_main"), ("meta.id", "id_alternative", "id_identifier")
_REDSHIFT = ("src.redshift", "redshift_hc", "redshift")
_DISTANCE = ("pos.distance",)
_MAGNITUDE = ("phot.mag", "phot_mag", "phot_jhn", "phot_sdss", "phot")


class SurveyError(TransientError):
    """Somebody else's survey does not answer, or not with what it should; says so to who looks at a page."""


@dataclass(frozen=True)
class Field:
    """A square of the sky: north up, east left, distances kept from the centre (projection ARC of FITS)."""

    ra_deg: float
    dec_deg: float
    half_width_deg: float


@dataclass(frozen=True)
class CatalogueObject:
    """An object of a catalogue.

    Attributes
    ----------
    separation_deg
        From the middle of the burst's region.
    level
        Probability inside the contour of the burst's position that runs through the object.
    """

    name: str
    ra_deg: float
    dec_deg: float
    separation_deg: float
    level: float
    redshift: float | None
    distance_mpc: float | None
    magnitude: float | None

    @property
    def contour(self) -> str:
        """The level in words."""
        return f"{100 * self.level:.3g} %" if self.level < 0.999 else "beyond 99.9 %"


@dataclass(frozen=True)
class Objects:
    """What a catalogue has in a field.

    Attributes
    ----------
    nearest
        By the contour that they lie on.
    left_out
        How many more it told of.
    is_cut
        Whether it says itself that it has more than it told.
    magnitude_name
        What it calls its magnitudes.
    """

    nearest: tuple[CatalogueObject, ...]
    left_out: int = 0
    is_cut: bool = False
    magnitude_name: str = ""


def read(data: bytes, field: Field, region: Ellipse) -> Objects:
    """Return the objects of a VOTable that are in a field, by the contours of a burst's position that they lie on.

    Raises
    ------
    SurveyError
        It is none, or leads elsewhere.
    """
    try:
        _require_whole(data)
        with warnings.catch_warnings():
            # Hardly any catalogue keeps to the letter of the standard.
            warnings.simplefilter("ignore")
            votable = parse(io.BytesIO(data), invalid="mask", verify="ignore", table_number=0)
            table = votable.get_first_table()
            infos = [info for resource in votable.resources for info in resource.infos]
            is_cut = any((info.name, info.value) == ("QUERY_STATUS", "OVERFLOW") for info in infos)
            return _objects_of(table, field, region, is_cut=is_cut)
    except SurveyError:
        raise
    except Exception as error:
        # Whatever a parser trips over in what somebody else wrote.
        raise SurveyError(f"the answer is no table of objects ({type(error).__name__})") from error


def levels(region: Ellipse, ra_deg: FloatArray, dec_deg: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the confidence level of the contours that run through some positions, and their separations (deg).

    Of the two-dimensional Gaussian of which the ellipse is a contour: `1 - exp(-r**2 / 2)` at r standard deviations.
    """
    east, north, away_deg = projection.to_tangent_plane(ra_deg, dec_deg, (region.ra_deg, region.dec_deg))
    turn = np.radians(region.position_angle_deg)
    along, across = east * np.sin(turn) + north * np.cos(turn), east * np.cos(turn) - north * np.sin(turn)
    r2 = (along / region.semi_major_deg) ** 2 + (across / region.semi_minor_deg) ** 2
    return -np.expm1(r2 * np.log1p(-region.confidence_level)), away_deg


def _require_whole(data: bytes) -> None:
    """Refuse what has its content elsewhere, which the parser of VOTables would fetch for it, and entities."""

    def on_element(name: str, attributes: dict[str, str]) -> None:
        if name.rpartition(":")[2].upper() == "STREAM" and any("href" in each.lower() for each in attributes):
            raise SurveyError("the answer has its content elsewhere")

    def on_doctype(*_: Any) -> None:
        raise SurveyError("the answer declares a document type")

    parser = expat.ParserCreate()
    parser.StartElementHandler = on_element
    parser.StartDoctypeDeclHandler = on_doctype
    parser.Parse(data, True)


def _objects_of(table: TableElement, field: Field, region: Ellipse, *, is_cut: bool) -> Objects:
    ra, dec = (_numbers(table, _found(table, ucds, units.deg), units.deg) for ucds in (_RA, _DEC))
    if ra is None or dec is None:
        raise SurveyError("the answer has no positions")
    with np.errstate(invalid="ignore"):
        east, north, _ = projection.to_tangent_plane(ra, dec, (field.ra_deg, field.dec_deg))
        is_inside = (np.abs(dec) <= 90) & (np.maximum(np.abs(east), np.abs(north)) <= field.half_width_deg)
        level, away_deg = levels(region, ra, dec)
    inside = np.flatnonzero(is_inside)
    # Far out all levels are 1.
    ranked = inside[np.lexsort((away_deg[inside], level[inside]))]
    redshift = _numbers(table, _found(table, _REDSHIFT), units.one)
    distance = _numbers(table, _found(table, _DISTANCE, units.Mpc), units.Mpc)
    magnitudes = _found(table, _MAGNITUDE)
    magnitude = _numbers(table, magnitudes, units.one)
    names = [*_with_ucd(table, _MAIN_NAME), *_with_ucd(table, _OTHER_NAME)]
    return Objects(
        nearest=tuple(
            CatalogueObject(
                name=_name(table, names, row),
                ra_deg=float(ra[row]) % 360,
                dec_deg=float(dec[row]),
                separation_deg=float(away_deg[row]),
                level=float(level[row]),
                redshift=_known(redshift, row, above=-1.0, below=100.0),
                distance_mpc=_known(distance, row, above=0.0, below=1e6),
                magnitude=_known(magnitude, row, above=-FAINTEST, below=FAINTEST),
            )
            for row in ranked[:MOST_OBJECTS].tolist()
        ),
        left_out=max(len(ranked) - MOST_OBJECTS, 0),
        is_cut=is_cut,
        magnitude_name="" if magnitudes is None else printable(str(magnitudes.name), MAX_COLUMN_CHARACTERS),
    )


def _with_ucd(table: TableElement, ucds: tuple[str, ...]) -> Iterator[Column]:
    """Return the columns with one of some UCDs, or with one that begins with it, in the order of these."""
    for wanted in ucds:
        for column in table.fields:
            ucd = str(column.ucd or "").lower().replace(" ", "")
            if ucd == wanted or ucd.startswith((f"{wanted};", f"{wanted}.", f"{wanted}_")):
                yield column


def _found(table: TableElement, ucds: tuple[str, ...], unit: UnitBase | None = None) -> Column | None:
    """Return the first column of numbers, in a unit that is one of that if any is wanted."""
    for column in _with_ucd(table, ucds):
        if _is_number(column) and (unit is None or column.unit is None or column.unit.is_equivalent(unit)):
            return column
    return None


def _is_number(column: Column) -> bool:
    return column.datatype in ("float", "double", "short", "int", "long") and column.arraysize in (None, "1")


def _numbers(table: TableElement, column: Column | None, unit: UnitBase) -> FloatArray | None:
    """Return a column's numbers in a unit, NaN where it has none; those without a unit as they are."""
    if column is None:
        return None
    values: FloatArray = np.ma.filled(np.ma.asarray(table.array[column.ID]).astype(np.float64), np.nan).reshape(-1)
    return values if unit is units.one or column.unit is None else values * float(column.unit.to(unit))


def _known(values: FloatArray | None, row: int, *, above: float, below: float) -> float | None:
    value = np.nan if values is None else float(values[row])
    return value if above < value < below else None


def _name(table: TableElement, columns: list[Column], row: int) -> str:
    """Return the first name that an object has; a bare number stands behind what it is a number of."""
    for column in columns:
        value = table.array[column.ID][row]
        if value is np.ma.masked:
            continue
        text = printable(value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value))
        if text and _is_number(column):
            return printable(f"{column.name} {text}")
        if text:
            return text
    return ""


def printable(text: str, most: int = MAX_NAME_CHARACTERS) -> str:
    """Return a text without what is not seen or turns the rest around, and not longer than that."""
    seen = "".join(letter for letter in text[: 10 * most] if letter.isprintable()).strip()
    return seen if len(seen) <= most else f"{seen[: most - 1]}…"
