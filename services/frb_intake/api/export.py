"""Writes lists as files: CSV, VOTable (IVOA 1.4, with units and UCDs), JSON; some lines at a time."""

import json
from collections.abc import AsyncIterator, Sequence
from typing import Any, NamedTuple
from xml.sax.saxutils import escape, quoteattr

from shared.http.exports import csv_text, json_text

FORMATS = {"csv": "text/csv", "votable": "application/x-votable+xml", "json": "application/json"}


class Column(NamedTuple):
    """A column of an export."""

    name: str
    datatype: str
    unit: str
    ucd: str
    description: str


COLUMNS = (
    Column("id", "long", "", "meta.id;meta.main", "Number of the burst"),
    Column("internal_name", "char", "", "meta.id", "Name here"),
    Column("tns_name", "char", "", "meta.id", "Name at the Transient Name Server"),
    Column("origin", "char", "", "meta.ref", "Where it came from"),
    Column("status", "char", "", "meta.code.status", "candidate, confirmed, rejected or withdrawn"),
    Column("is_test", "boolean", "", "meta.code", "Test traffic"),
    Column("time_of_arrival", "char", "", "time.epoch", "At the telescope, at the reference frequency, UTC"),
    Column("time_of_arrival_inf", "char", "", "time.epoch", "At infinite frequency, UTC"),
    Column("dm", "double", "pc.cm**-3", "phys.dispMeasure", "Dispersion measure"),
    Column("dm_err", "double", "pc.cm**-3", "stat.error;phys.dispMeasure", "Its error"),
    Column("dm_excess", "double", "pc.cm**-3", "phys.dispMeasure", "Beyond the Milky Way and its halo"),
    Column("redshift_mean", "double", "", "src.redshift", "From the excess, by the Macquart relation"),
    Column("redshift_low", "double", "", "src.redshift;stat.min", "With redshift_high, a range of 90 %"),
    Column("redshift_high", "double", "", "src.redshift;stat.max", "With redshift_low, a range of 90 %"),
    Column("sn", "double", "", "stat.snr", "Signal-to-noise ratio"),
    Column("width", "double", "ms", "time.duration;src.var.pulse", "Width of the pulse"),
    Column("flux", "double", "Jy", "phot.flux", "Flux density"),
    Column("flux_err", "double", "Jy", "stat.error;phot.flux", "Its error"),
    Column("fluence", "double", "Jy.ms", "phot.fluence", "Fluence"),
    Column("fluence_err", "double", "Jy.ms", "stat.error;phot.fluence", "Its error"),
    Column("rm", "double", "rad.m**-2", "phys.polarization.rotMeasure", "Rotation measure"),
    Column("rm_err", "double", "rad.m**-2", "stat.error;phys.polarization.rotMeasure", "Its error"),
    Column("z", "double", "", "src.redshift", "Redshift"),
    Column("ra", "double", "deg", "pos.eq.ra;meta.main", "Right ascension, ICRS"),
    Column("dec", "double", "deg", "pos.eq.dec;meta.main", "Declination, ICRS"),
    Column("error_semi_major", "double", "deg", "phys.angSize.smajAxis;pos.errorEllipse", "Error ellipse"),
    Column("error_semi_minor", "double", "deg", "phys.angSize.sminAxis;pos.errorEllipse", "Error ellipse"),
    Column("error_position_angle", "double", "deg", "pos.posAng;pos.errorEllipse", "North through east"),
    Column("confidence_level", "double", "", "stat.confidenceLevel", "Of the error ellipse"),
    Column("repeater", "boolean", "", "meta.code", "Whether the source repeats"),
    Column("votes_confirm", "int", "", "meta.number", "People who confirm"),
    Column("votes_reject", "int", "", "meta.number", "People who reject"),
    Column("votes_unsure", "int", "", "meta.number", "People who are unsure"),
    Column("measurements", "int", "", "meta.number", "Measurements"),
    Column("source", "char", "", "meta.code;instr", "Pipeline of the latest measurement"),
    Column("version", "char", "", "meta.version;meta.software", "Of that pipeline"),
    Column("measured_at", "char", "", "time.creation", "When that measurement came in, UTC"),
    Column("received_at", "char", "", "time.creation", "When it came in, UTC"),
    Column("revision", "int", "", "meta.version", "Changes so far"),
)


async def exported(batches: AsyncIterator[list[str]], file_format: str) -> AsyncIterator[bytes]:
    """Yield the bytes of a file that holds all lines; each is a summary as JSON."""
    write = {"csv": _csv, "votable": _votable, "json": json_text}[file_format]
    async for chunk in write(batches):
        yield chunk.encode()


def _csv(batches: AsyncIterator[list[str]]) -> AsyncIterator[str]:
    rows = ([_values(line) for line in lines] async for lines in batches)
    return csv_text([column.name for column in COLUMNS], rows)


async def _votable(batches: AsyncIterator[list[str]]) -> AsyncIterator[str]:
    yield _VOTABLE_HEAD
    async for lines in batches:
        yield "".join(_row(_values(line)) for line in lines)
    yield "</TABLEDATA></DATA></TABLE></RESOURCE></VOTABLE>\n"


def _row(values: Sequence[Any]) -> str:
    cells = "".join(f"<TD>{escape(_cell(value))}</TD>" for value in values)
    return f"<TR>{cells}</TR>\n"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "T" if value else "F"
    return str(value)


def _values(line: str) -> list[Any]:
    summary = json.loads(line)
    votes = summary.pop("votes")
    summary.update({f"votes_{name}": count for name, count in votes.items()})
    return [summary[column.name] for column in COLUMNS]


def _field(column: Column) -> str:
    size = ' arraysize="*"' if column.datatype == "char" else ""
    unit = f" unit={quoteattr(column.unit)}" if column.unit else ""
    return (
        f"<FIELD name={quoteattr(column.name)} datatype={quoteattr(column.datatype)}{size}{unit}"
        f" ucd={quoteattr(column.ucd)}><DESCRIPTION>{escape(column.description)}</DESCRIPTION></FIELD>\n"
    )


_VOTABLE_HEAD = (
    '<?xml version="1.0" encoding="UTF-8"?>\n'
    '<VOTABLE version="1.4" xmlns="http://www.ivoa.net/xml/VOTable/v1.3">'
    '<RESOURCE><COOSYS ID="icrs" system="ICRS"/>\n<TABLE name="bursts">\n'
    + "".join(map(_field, COLUMNS))
    + "<DATA><TABLEDATA>\n"
)
