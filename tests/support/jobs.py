"""Deliveries that are due, made of the records in `schemas/examples`."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from services.notifier.channels.channel import Earlier, Job
from services.notifier.happenings import Happening, read_happening
from shared.events.frb import FrbEvent
from shared.events.gw import GwAlert, GwSkymap
from shared.events.mma import Coincidence
from shared.events.notices import ChannelMode, DeliveryAction
from shared.events.record import Event
from shared.schema.records import SCHEMAS

MODELS: dict[str, tuple[str, type[Event]]] = {
    "frb_event": ("frb.events", FrbEvent),
    "gw_alert": ("gw.alerts", GwAlert),
    "gw_skymap": ("gw.skymaps", GwSkymap),
    "coincidence": ("mma.coincidences", Coincidence),
}
EXAMPLES = [
    f"{record}/{path.stem}"
    for record in MODELS
    for path in sorted((SCHEMAS / "examples" / record / "v1").glob("*.json"))
]


def an_example(name: str, **changes: Any) -> Any:
    """The record `RECORD/EXAMPLE`, such as frb_event/chime-notice."""
    record, example = name.split("/")
    path = SCHEMAS / "examples" / record / "v1" / f"{example}.json"
    return MODELS[record][1].model_validate_json(path.read_text("utf-8")).model_copy(update=changes)


def happening_of(record: Event) -> Happening | None:
    """What a record says happened."""
    topic = next(topic for topic, model in MODELS.values() if isinstance(record, model))
    return read_happening(topic, record)  # type: ignore[arg-type]


def a_job(
    record: Event | str,
    action: DeliveryAction | None = None,
    *,
    revision: int = 1,
    mode: ChannelMode = ChannelMode.PRODUCTION,
    earlier: Sequence[Earlier] = (),
    related: Sequence[Event] = (),
    delivery_id: int = 7,
) -> Job:
    """A delivery of a record, told for the first time unless an action or a revision says otherwise."""
    happening = happening_of(an_example(record) if isinstance(record, str) else record)
    assert happening is not None, "nobody is told of such a record"
    return Job(
        delivery_id=delivery_id,
        revision=revision,
        action=action or happening.action(told_before=revision > 1),
        mode=mode,
        happening=happening,
        attempts=0,
        decided_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        earlier=earlier,
        related=[happening for record in related if (happening := happening_of(record)) is not None],
    )
