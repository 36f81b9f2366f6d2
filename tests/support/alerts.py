"""Builders of IGWN alerts, small and distinct, in the two forms in which they travel.

The Avro schema is Tocsin's own writing of what the published version 1.0 says (record names, field names and types);
`tests/unit/gw_listener/test_published_schema.py` compares with the published package where that is installed.
"""

import base64
import io
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import fastavro
import numpy as np
from astropy.io import fits

SYNC_MARKER = b"tocsin test sync"
# Sixteen bytes, not random as usual, so that the same alert is the same bytes.

EVENT_TIME = datetime(2026, 11, 21, 3, 4, 5, 678000, tzinfo=UTC)


def _nullable(avro_type: object) -> list[object]:
    return ["null", avro_type]


def _record(name: str, fields: Mapping[str, object]) -> dict[str, object]:
    return {
        "type": "record",
        "name": f"igwn.alerts.v1_0.{name}",
        "fields": [{"name": field, "type": avro_type} for field, avro_type in fields.items()],
    }


PROBABILITIES = {"type": "map", "values": "double"}

EVENT_FIELDS: dict[str, object] = {
    "time": "string",
    "far": "double",
    "significant": "boolean",
    "instruments": {"type": "array", "items": "string"},
    "group": "string",
    "pipeline": "string",
    "search": "string",
    "classification": PROBABILITIES,
    "properties": PROBABILITIES,
    "duration": _nullable("double"),
    "central_frequency": _nullable("double"),
    "skymap": _nullable("bytes"),
}

COINCIDENCE_FIELDS: dict[str, object] = {
    "gcn_notice_id": "int",
    "ivorn": "string",
    "observatory": "string",
    "search": "string",
    "time_difference": "double",
    "time_coincidence_far": _nullable("double"),
    "time_sky_position_coincidence_far": _nullable("double"),
    "combined_skymap": _nullable("bytes"),
}

ALERT_TYPES = {
    "type": "enum",
    "name": "igwn.alerts.v1_0.AlertType",
    "symbols": ["EARLYWARNING", "PRELIMINARY", "INITIAL", "UPDATE", "RETRACTION"],
}


def alert_schema(
    *,
    event: Mapping[str, object] = EVENT_FIELDS,
    external_coinc: Mapping[str, object] = COINCIDENCE_FIELDS,
    alert_type: object = ALERT_TYPES,
    more: Mapping[str, object] | None = None,
) -> dict[str, object]:
    """The writer schema of an alert; every part may be swapped, to build a later or a hostile version."""
    fields: dict[str, object] = {
        "alert_type": alert_type,
        "time_created": "string",
        "superevent_id": "string",
        "event": _nullable(_record("EventInfo", event)),
        "external_coinc": _nullable(_record("ExternalCoincInfo", external_coinc)),
        "urls": {"type": "map", "values": "string"},
    }
    return _record("Alert", {**fields, **(more or {})})


def iso(time: datetime) -> str:
    """The spelling of times that IGWN uses."""
    return time.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"


def an_event(**changes: Any) -> dict[str, Any]:
    """A confident binary neutron star, without sky map unless one is given."""
    return {
        "time": iso(EVENT_TIME),
        "far": 9.11069936486e-14,
        "significant": True,
        "instruments": ["H1", "L1", "V1"],
        "group": "CBC",
        "pipeline": "gstlal",
        "search": "AllSky",
        "classification": {"BNS": 0.95, "NSBH": 0.01, "BBH": 0.03, "Terrestrial": 0.01},
        "properties": {"HasNS": 0.95, "HasRemnant": 0.91, "HasMassGap": 0.01},
        "duration": None,
        "central_frequency": None,
        "skymap": None,
    } | changes


def a_burst(**changes: Any) -> dict[str, Any]:
    """An unmodelled burst: no classification, but a duration and a central frequency."""
    burst = {
        "group": "Burst",
        "pipeline": "CWB",
        "classification": {},
        "properties": {},
        "duration": 0.25,
        "central_frequency": 153.5,
    }
    return an_event(**(burst | changes))


def a_coincidence(**changes: Any) -> dict[str, Any]:
    """A gamma-ray burst two seconds after the merger."""
    return {
        "gcn_notice_id": 524666471,
        "ivorn": "ivo://nasa.gsfc.gcn/Fermi#GBM_Fin_Pos2026-11-21T03:04:07.70_524666471_0-389",
        "observatory": "Fermi",
        "search": "GRB",
        "time_difference": 2.02,
        "time_coincidence_far": 2.14387838137e-14,
        "time_sky_position_coincidence_far": 6.410749524018777e-16,
        "combined_skymap": None,
    } | changes


def alert_content(
    *,
    superevent_id: str = "MS261121ab",
    alert_type: str = "PRELIMINARY",
    time_created: datetime | None = None,
    event: Mapping[str, Any] | None = None,
    skymap: bytes | None = None,
    external_coinc: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What an alert says, before it is encoded. A retraction has no event whatever is given."""
    content = dict(event) if event is not None else an_event()
    if skymap is not None:
        content["skymap"] = skymap
    retracted = alert_type == "RETRACTION"
    return {
        "alert_type": alert_type,
        "time_created": iso(time_created or EVENT_TIME + timedelta(seconds=29)),
        "superevent_id": superevent_id,
        "event": None if retracted else content,
        "external_coinc": None if retracted or external_coinc is None else dict(external_coinc),
        "urls": {"gracedb": f"https://example.org/superevents/{superevent_id}/view/"},
    }


def as_avro(content: Any, schema: Any = None, codec: str = "null") -> bytes:
    """An object container with `content` as its one record, as SCiMMA sends it."""
    file = io.BytesIO()
    parsed = fastavro.parse_schema(schema) if schema is not None else _own_schema()
    fastavro.writer(file, parsed, [content], codec=codec, sync_marker=SYNC_MARKER)
    return file.getvalue()


def as_json(content: Any) -> bytes:
    """The same as GCN sends it: JSON with base64 sky maps."""
    return json.dumps(content, default=lambda value: base64.b64encode(value).decode("ascii")).encode()


def an_alert(**changes: Any) -> bytes:
    """An alert in Avro form; the arguments are those of `alert_content`."""
    return as_avro(alert_content(**changes))


def a_json_alert(**changes: Any) -> bytes:
    """An alert in JSON form; the arguments are those of `alert_content`."""
    return as_json(alert_content(**changes))


def a_skymap(*, peak: int = 0, object_name: str = "MS261121ab", distance_mpc: float = 40.0) -> bytes:
    """A valid multi-order sky map of twelve order-0 cells (8.6 kB), two thirds of its probability in cell `peak`."""
    probability = np.full(12, 1 / 33)
    probability[peak] = 2 / 3
    columns = [
        fits.Column("UNIQ", "K", array=np.arange(4, 16)),
        fits.Column("PROBDENSITY", "D", unit="sr-1", array=probability / (np.pi / 3)),
        fits.Column("DISTMU", "D", unit="Mpc", array=np.full(12, distance_mpc)),
        fits.Column("DISTSIGMA", "D", unit="Mpc", array=np.full(12, distance_mpc / 5)),
        fits.Column("DISTNORM", "D", unit="Mpc-2", array=np.full(12, distance_mpc**-2)),
    ]
    table = fits.BinTableHDU.from_columns(columns)
    cards: dict[str, Any] = {
        "PIXTYPE": "HEALPIX",
        "ORDERING": "NUNIQ",
        "COORDSYS": "C",
        "MOCORDER": 0,
        "INDXSCHM": "EXPLICIT",
        "OBJECT": object_name,
        "INSTRUME": "H1,L1,V1",
        "DATE-OBS": EVENT_TIME.replace(tzinfo=None).isoformat(),
        "DISTMEAN": distance_mpc,
        "DISTSTD": distance_mpc / 5,
    }
    table.header.update(cards)
    file = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(file)
    return file.getvalue()


@cache
def _own_schema() -> Any:
    return fastavro.parse_schema(alert_schema())
