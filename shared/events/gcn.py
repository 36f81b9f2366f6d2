"""How notices in NASA GCN's unified schema are written: JSON in UTF-8, the same bytes for the same content."""

import json
import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from shared.events.frb import FrbLocalisation


def known(value: Any) -> Any:
    """Return a value without its unknown parts, None when it is unknown; of a list all parts must be known.

    Unknown are None and numbers that are not finite: JSON has no null in GCN's schemas and no infinity.
    """
    match value:
        case float() if not math.isfinite(value):
            return None
        case dict():
            parts = {key: known(part) for key, part in value.items()}
            return {key: part for key, part in parts.items() if part is not None}
        case list():
            items = [known(part) for part in value]
            return None if None in items else items
        case _:
            return value


def encode_notice(notice: Mapping[str, Any]) -> bytes:
    """Return a notice as it is sent, without what is not known."""
    return json.dumps(known(dict(notice)), ensure_ascii=False, allow_nan=False).encode()


def iso_time(time: datetime) -> str:
    """Return a time in UTC as GCN writes it: ISO 8601 with microseconds and Z."""
    return time.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def position(localisation: FrbLocalisation | None) -> dict[str, Any]:
    """Return the keys of GCN's core schema Localization; none unless all of the position is known."""
    if localisation is None or not all(math.isfinite(value) for value in localisation.model_dump().values()):
        return {}
    major, minor = localisation.semi_major_deg, localisation.semi_minor_deg
    return {
        "ra": localisation.ra_deg,
        "dec": localisation.dec_deg,
        "ra_dec_error": major if major == minor else [major, minor, localisation.position_angle_deg],
        "containment_probability": localisation.confidence_level,
    }
