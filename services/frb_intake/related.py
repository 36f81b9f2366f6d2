"""What other services make of a burst: its coincidences, kept here to be read with it."""

from services.frb_intake.settings import NAME
from shared.db.unit_of_work import UnitOfWork
from shared.events.mma import Coincidence
from shared.inbox.subscription import Received, Subscription
from shared.kafka.message import Message
from shared.schema.codec import decode
from shared.schema.topics import dead_letter_topic

COINCIDENCES = "mma.coincidences"


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
