"""What several channels say of a record."""

from typing import Any

from services.notifier.happenings import Happening
from shared.events.frb import FrbChange, FrbEvent

_UNTOLD = (FrbChange.RATED, FrbChange.IMAGE_DROPPED)
# Votes that decide something come as a change of status.


def is_news(record: FrbEvent) -> bool:
    """Whether a record changes what is said of its burst."""
    return record.change not in _UNTOLD


def measured(record: FrbEvent, *names: str) -> list[Any]:
    """Return values that belong together, such as a dispersion measure and its error, of one measurement.

    It is the latest that has the first of them: a later one need not repeat what the first detection said.
    """
    for measurement in (record.latest, record.first):
        if measurement is not None and getattr(measurement, names[0]) is not None:
            return [getattr(measurement, name) for name in names]
    return [None] * len(names)


def event_url(happening: Happening, *, site_url: str) -> str:
    """Return where people read about it."""
    return f"{site_url}/{happening.subject}"
