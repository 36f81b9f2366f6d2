"""What other services make of a burst, kept here to be read with it: coincidences, and what was told to whom."""

from services.frb_intake.naming import Namer
from services.frb_intake.settings import NAME
from shared.db.unit_of_work import UnitOfWork
from shared.events.mma import Coincidence
from shared.events.notices import Delivery
from shared.inbox.subscription import Received, Subscription
from shared.kafka.message import Message
from shared.schema.codec import decode
from shared.schema.topics import dead_letter_topic

COINCIDENCES, DELIVERIES = "mma.coincidences", "notices.deliveries"


async def receive_coincidence(message: Message) -> Received[Coincidence]:
    """Decode a record about a pair."""
    record = decode(message.value, Coincidence)
    return Received(record.event_id, record)


async def on_coincidence(record: Coincidence, work: UnitOfWork) -> None:
    """Keep the newest record of each pair."""
    work.write(
        "INSERT INTO coincidences (coincidence_id, burst_id, revision, record) VALUES ($1, $2, $3, $4)"
        " ON CONFLICT (coincidence_id) DO UPDATE SET burst_id = $2, revision = $3, record = $4"
        " WHERE coincidences.revision < $3",
        record.coincidence_id,
        record.burst.frb_id,
        record.revision,
        record.model_dump_json(),
    )


def coincidences() -> Subscription[Coincidence]:
    """Return the stream of pairs and what is done with it."""
    return Subscription(
        name=f"{NAME}.coincidences",
        topics=[COINCIDENCES],
        receive=receive_coincidence,
        handle=on_coincidence,
        dead_letter_topics={COINCIDENCES: dead_letter_topic(COINCIDENCES, NAME)},
        group=NAME,
    )


async def receive_delivery(message: Message) -> Received[Delivery] | None:
    """Decode a record about a delivery; None for one that is about no burst."""
    record = decode(message.value, Delivery)
    return None if record.frb_id is None else Received(record.event_id, record)


async def on_delivery(record: Delivery, work: UnitOfWork) -> None:
    """Keep the newest record of each delivery."""
    work.write(
        "INSERT INTO deliveries (delivery_id, burst_id, changed_at, record) VALUES ($1, $2, $3, $4)"
        " ON CONFLICT (delivery_id) DO UPDATE SET burst_id = $2, changed_at = $3, record = $4"
        " WHERE deliveries.changed_at < $3",
        record.delivery_id,
        record.frb_id,
        record.changed_at,
        record.model_dump_json(),
    )


def deliveries(namer: Namer) -> Subscription[Delivery]:
    """Return the stream of deliveries and what is done with it: kept, and names taken from it."""

    async def handle(record: Delivery, work: UnitOfWork) -> None:
        await on_delivery(record, work)
        if namer.counts(record):
            await namer.on_delivery(record, work)

    return Subscription(
        name=f"{NAME}.deliveries",
        topics=[DELIVERIES],
        receive=receive_delivery,
        handle=handle,
        dead_letter_topics={DELIVERIES: dead_letter_topic(DELIVERIES, NAME)},
        group=NAME,
    )
