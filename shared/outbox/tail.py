"""Looks at the end of topics, for events that are there already."""

import uuid
from collections.abc import Collection
from typing import Any

from shared.kafka.message import ID_HEADER
from shared.kafka.reading import read

LOOK_BACK = 1000
# Records per partition. Only one batch of the relay (500) can be on the topic without being deleted from the
# outbox; the rest is room for what operators replay in between.


def find_published(client: dict[str, Any], topics: Collection[str], event_ids: set[uuid.UUID]) -> set[uuid.UUID]:
    """Return those of `event_ids` that are among the last records of `topics`.

    Raises
    ------
    BrokerUnavailableError
        The broker did not answer.
    """
    wanted = {event_id.bytes: event_id for event_id in event_ids}
    return {
        wanted[value]
        for topic in topics
        for message in read(client, topic, last=LOOK_BACK)
        if (value := message.header(ID_HEADER)) in wanted
    }
