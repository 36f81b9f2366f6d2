"""The options that say which bursts are meant: those of `GET /api/v1/events`."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

import typer

from shared.errors import InvalidInputError


class Status(StrEnum):
    """What is thought of a burst."""

    CANDIDATE = "candidate"
    CONFIRMED = "confirmed"
    REJECTED = "rejected"
    WITHDRAWN = "withdrawn"


class Rated(StrEnum):
    """What people think of a burst."""

    CONFIRM = "confirm"
    REJECT = "reject"
    UNSURE = "unsure"
    NONE = "none"


class Sort(StrEnum):
    """What bursts are sorted by."""

    TIME = "time"
    ID = "id"
    DM = "dm"
    DM_EXCESS = "dm_excess"
    SN = "sn"
    WIDTH = "width"
    CONFIRM = "confirm"
    REJECT = "reject"


FILTERS = "Filters"

Since = Annotated[
    str | None, typer.Option(metavar="TIME", rich_help_panel=FILTERS, help="Arrived then or later; ISO 8601, UTC.")
]
Until = Annotated[
    str | None, typer.Option(metavar="TIME", rich_help_panel=FILTERS, help="Arrived before; ISO 8601, UTC.")
]
DmMin = Annotated[float | None, typer.Option(rich_help_panel=FILTERS, help="Dispersion measure, pc cm^-3.")]
DmMax = Annotated[float | None, typer.Option(rich_help_panel=FILTERS, help="Dispersion measure, pc cm^-3.")]
SnMin = Annotated[float | None, typer.Option(rich_help_panel=FILTERS, help="Signal-to-noise ratio.")]
SnMax = Annotated[float | None, typer.Option(rich_help_panel=FILTERS, help="Signal-to-noise ratio.")]
Cone = Annotated[
    str | None, typer.Option(metavar="RA,DEC,RADIUS", rich_help_panel=FILTERS, help="Near a position; degrees.")
]
Repeater = Annotated[
    bool | None, typer.Option("--repeater/--no-repeater", rich_help_panel=FILTERS, help="Only repeaters, or none.")
]
OfStatus = Annotated[Status | None, typer.Option("--status", rich_help_panel=FILTERS, help="Only of this status.")]
Rating = Annotated[
    Rated | None, typer.Option("--rating", rich_help_panel=FILTERS, help="Only with such a vote; none: without any.")
]
TnsName = Annotated[
    str | None, typer.Option(metavar="NAME", rich_help_panel=FILTERS, help="Named so by the Transient Name Server.")
]
Test = Annotated[bool | None, typer.Option("--test/--no-test", rich_help_panel=FILTERS, help="Only tests, or none.")]

SortedBy = Annotated[
    Sort, typer.Option("--sort", help="By arrival, number, what was measured, or votes; what is not known comes last.")
]
Ascending = Annotated[bool, typer.Option("--asc/--desc", help="The smallest first, or the largest.")]


def query(
    *,
    since: str | None,
    until: str | None,
    dm_min: float | None,
    dm_max: float | None,
    sn_min: float | None,
    sn_max: float | None,
    cone: str | None,
    repeater: bool | None,
    status: Status | None,
    rating: Rated | None,
    tns_name: str | None,
    test: bool | None,
    sort: Sort,
    ascending: bool,
) -> dict[str, Any]:
    """Return the parameters of a request; those that are None do not matter.

    Raises
    ------
    InvalidInputError
        A time is none, or a cone is not three numbers.
    """
    return {
        "since": _time("--since", since),
        "until": _time("--until", until),
        "dm_min": dm_min,
        "dm_max": dm_max,
        "sn_min": sn_min,
        "sn_max": sn_max,
        **_cone(cone),
        "repeater": repeater,
        "status": status,
        "rating": rating,
        "tns_name": tns_name,
        "is_test": test,
        "sort": sort,
        "order": "asc" if ascending else "desc",
    }


def _time(option: str, text: str | None) -> str | None:
    if text is None:
        return None
    try:
        datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidInputError(option, text, "a time such as 2026-11-21T07:00:00") from error
    return text


def _cone(text: str | None) -> dict[str, float]:
    if text is None:
        return {}
    try:
        ra_deg, dec_deg, radius_deg = (float(part) for part in text.split(","))
    except ValueError as error:
        raise InvalidInputError("--cone", text, "RA,DEC,RADIUS in degrees") from error
    return {"ra": ra_deg, "dec": dec_deg, "radius": radius_deg}
