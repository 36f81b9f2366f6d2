"""Encodes an event for its topic."""

from functools import cache

from shared.db.unit_of_work import OutgoingEvent
from shared.events.record import Event
from shared.kafka.message import event_headers
from shared.observability.tracing import current_traceparent
from shared.schema.codec import encode
from shared.schema.topics import Topic, load_topics


@cache
def _topic(name: str) -> Topic:
    return next(topic for topic in load_topics() if topic.name == name)


def outgoing(topic: str, event: Event, *, is_test: bool, sender: str) -> OutgoingEvent:
    """Return `event` as it goes to `topic`: one Avro container, hop's headers, the current trace.

    The key is the field that `schemas/topics` names.

    Raises
    ------
    InvalidInputError
        The event does not fit a message.
    """
    key = _topic(topic).key
    assert key is not None, f"{topic} carries no record of ours"
    return OutgoingEvent(
        topic=topic,
        key=str(getattr(event, key)),
        event_id=event.event_id,
        value=encode(event),
        headers=event_headers(
            event_id=event.event_id, sender=sender, is_test=is_test, traceparent=current_traceparent()
        ),
    )
