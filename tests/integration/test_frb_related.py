"""A burst is read together with the waves that it may belong to."""

import json
from pathlib import Path

import asyncpg

from services.frb_intake.reading import BurstReader
from services.frb_intake.related import COINCIDENCES, on_coincidence, receive_coincidence
from shared.db.unit_of_work import unit_of_work
from shared.events.mma import Coincidence, CoincidenceType
from shared.kafka.message import Message
from shared.schema.codec import encode
from tests.integration.test_frb_handler import brought, carry_out, pool
from tests.support.frb_intake import EVENTS, a_burst, running_intake
from tests.support.runtime import eventually, send

__all__ = ["pool"]

EXAMPLES = Path(__file__).parents[2] / "schemas" / "examples" / "coincidence" / "v1"


def a_coincidence(burst_id: int, **changes: object) -> Coincidence:
    record = Coincidence.model_validate_json((EXAMPLES / "initial.json").read_text("utf-8"))
    burst = record.burst.model_copy(update={"frb_id": burst_id})
    return record.model_copy(update={"burst": burst, **changes})


def test_the_door_answers_with_what_the_topic_says_of_a_burst(tmp_path: Path) -> None:
    with running_intake(tmp_path) as intake:
        client = intake.client(intake.add_user())
        burst_id = client.post(EVENTS, json=a_burst()).json()["id"]
        assert client.get(f"{EVENTS}/{burst_id}").json()["coincidences"] == []

        record = a_coincidence(burst_id)
        send(intake.system.broker.address, COINCIDENCES, encode(record))

        (told,) = eventually(lambda: client.get(f"{EVENTS}/{burst_id}").json()["coincidences"])
        assert Coincidence.model_validate(told) == record
        components = client.get("/openapi.json").json()["components"]["schemas"]
        assert told.keys() == components["Coincidence"]["properties"].keys()


async def test_the_newest_record_of_each_pair_is_read_with_its_burst(pool: asyncpg.Pool) -> None:
    await carry_out(pool, brought("detection"))
    burst_id = await pool.fetchval("SELECT id FROM bursts")
    newest = a_coincidence(burst_id, revision=3, coincidence_type=CoincidenceType.RETRACTION, scores=None)

    for record in (a_coincidence(burst_id, revision=1), newest, a_coincidence(burst_id, revision=2)):
        message = Message(topic=COINCIDENCES, partition=0, offset=0, key=None, value=encode(record))
        received = await receive_coincidence(message)
        async with unit_of_work(pool) as work:
            await on_coincidence(received.event, work)

    event = await BurstReader(pool).burst(burst_id)
    assert event["coincidences"] == [json.loads(newest.model_dump_json())]
