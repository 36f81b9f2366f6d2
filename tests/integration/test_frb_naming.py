"""The name that the Transient Name Server gave comes to its burst, once, and overwrites nobody's."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from services.frb_intake import domain
from services.frb_intake.intake import UnknownBurstError, announce
from services.frb_intake.naming import Namer
from services.frb_intake.reading import BurstReader
from services.frb_intake.related import DELIVERIES, deliveries
from services.frb_intake.store import BurstStore
from shared.db.unit_of_work import unit_of_work
from shared.events.frb import FrbEvent, FrbStatus
from shared.events.notices import ChannelMode, Delivery, DeliveryState
from shared.kafka.message import Message
from shared.schema.codec import encode
from shared.schema.records import SCHEMAS
from tests.integration.test_frb_handler import NOW, brought, carry_out, pool
from tests.support.frb_intake import EVENTS, a_burst, running_intake
from tests.support.runtime import eventually, send

__all__ = ["pool"]

EXAMPLE = SCHEMAS / "examples" / "delivery" / "v1" / "tns-confirmed.json"
NAME = "FRB 20171117A"


def a_delivery(burst_id: int = 7, **changes: Any) -> Delivery:
    record = Delivery.model_validate_json(EXAMPLE.read_text("utf-8"))
    return record.model_copy(update={"mode": ChannelMode.PRODUCTION, "frb_id": burst_id} | changes)


async def deliver(pool: asyncpg.Pool, record: Delivery, *, from_sandbox: bool = False) -> bool:
    """Handle a delivery as the subscription does; whether it was taken."""
    namer = Namer(from_sandbox=from_sandbox, clock=lambda: NOW)
    message = Message(topic=DELIVERIES, partition=0, offset=0, key=None, value=encode(record))
    subscription = deliveries(namer)
    received = await subscription.receive(message)
    if received is not None:
        async with unit_of_work(pool) as work:
            await subscription.handle(received.event, work)
    return namer.counts(record)


async def a_known_burst(pool: asyncpg.Pool) -> int:
    await carry_out(pool, brought("detection"))
    burst_id: int = await pool.fetchval("SELECT id FROM bursts")
    return burst_id


async def record_of(pool: asyncpg.Pool) -> FrbEvent:
    return FrbEvent.model_validate_json(await pool.fetchval("SELECT record FROM bursts"))


async def change(pool: asyncpg.Pool, changed: FrbEvent) -> None:
    """What another door does to a burst."""
    async with unit_of_work(pool) as work:
        BurstStore(work).save(changed, detail={})
        announce(changed, work)


async def test_a_confirmed_report_names_its_burst(pool: asyncpg.Pool) -> None:
    burst_id = await a_known_burst(pool)
    assert await deliver(pool, a_delivery(burst_id))
    record = await record_of(pool)
    assert (record.tns_name, record.change, record.changed_by, record.revision) == (NAME, "NAMED", "tns", 2)
    assert await pool.fetchval("SELECT tns_name FROM bursts") == NAME
    history = await pool.fetchrow("SELECT changed_by, detail FROM changes WHERE change = 'NAMED'")
    assert history is not None
    assert history["changed_by"] == "tns"
    assert '"reference": "118273"' in history["detail"]
    assert await pool.fetchval("SELECT count(*) FROM outbox") == 2


async def test_the_same_name_again_changes_nothing(pool: asyncpg.Pool) -> None:
    burst_id = await a_known_burst(pool)
    for _ in range(2):
        await deliver(pool, a_delivery(burst_id))
    assert await pool.fetchval("SELECT count(*) FROM changes") == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"state": DeliveryState.SENT},
        {"state": DeliveryState.SUPPRESSED, "mode": ChannelMode.DRY_RUN},
        {"mode": ChannelMode.DRY_RUN},
        {"mode": ChannelMode.OFF},
        {"mode": ChannelMode.SANDBOX},
        {"tns_name": None},
        {"frb_id": None},
    ],
)
async def test_what_brings_no_name_that_counts_is_passed_over(pool: asyncpg.Pool, changes: dict[str, Any]) -> None:
    assert not await deliver(pool, a_delivery(**changes))


async def test_names_of_the_sandbox_count_only_when_a_setting_says_so(pool: asyncpg.Pool) -> None:
    burst_id = await a_known_burst(pool)
    assert await deliver(pool, a_delivery(burst_id, mode=ChannelMode.SANDBOX), from_sandbox=True)
    assert (await record_of(pool)).tns_name == NAME


async def test_a_later_name_of_the_tns_replaces_its_earlier_one(pool: asyncpg.Pool) -> None:
    burst_id = await a_known_burst(pool)
    await deliver(pool, a_delivery(burst_id, mode=ChannelMode.SANDBOX), from_sandbox=True)
    await deliver(pool, a_delivery(burst_id, tns_name="FRB 20171117B"))
    assert (await record_of(pool)).tns_name == "FRB 20171117B"


@pytest.mark.parametrize("named_before", [True, False])
async def test_a_name_that_a_person_gave_stays(pool: asyncpg.Pool, named_before: bool) -> None:
    burst_id = await a_known_burst(pool)
    if named_before:
        await deliver(pool, a_delivery(burst_id))
    await change(pool, domain.with_name(await record_of(pool), "FRB 20171117Z", by="jane", now=NOW))
    await deliver(pool, a_delivery(burst_id))
    record = await record_of(pool)
    assert (record.tns_name, record.changed_by) == ("FRB 20171117Z", "jane")


async def test_a_name_that_another_observatory_told_stays(pool: asyncpg.Pool) -> None:
    burst_id = await a_known_burst(pool)
    await deliver(pool, a_delivery(burst_id))
    await change(pool, domain.with_correction(await record_of(pool), by="feed", now=NOW, tns_name="FRB 20171117Y"))
    await deliver(pool, a_delivery(burst_id))
    assert (await record_of(pool)).tns_name == "FRB 20171117Y"


async def test_a_withdrawn_burst_is_not_named(pool: asyncpg.Pool) -> None:
    burst_id = await a_known_burst(pool)
    withdrawn = domain.with_status(await record_of(pool), FrbStatus.WITHDRAWN, reason="noise", by="jane", now=NOW)
    await change(pool, withdrawn)
    await deliver(pool, a_delivery(burst_id))
    assert await record_of(pool) == withdrawn


async def test_a_name_for_a_burst_that_is_not_there_is_a_permanent_error(pool: asyncpg.Pool) -> None:
    with pytest.raises(UnknownBurstError):
        await deliver(pool, a_delivery(99))


async def test_what_was_told_of_a_burst_is_read_with_it(pool: asyncpg.Pool) -> None:
    burst_id = await a_known_burst(pool)
    pending = a_delivery(burst_id, state=DeliveryState.PENDING, tns_name=None)
    later = pending.changed_at + timedelta(seconds=5)

    await deliver(pool, a_delivery(burst_id, state=DeliveryState.SENT, tns_name=None, changed_at=later))
    await deliver(pool, pending)
    await deliver(pool, a_delivery(burst_id=burst_id + 1, delivery_id=99, state=DeliveryState.SENT, tns_name=None))

    event = await BurstReader(pool).burst(burst_id)
    assert [(notice["delivery_id"], notice["state"]) for notice in event["notices"]] == [(41, "SENT")]


def test_a_running_service_takes_the_name_from_the_stream(tmp_path: Path) -> None:
    with running_intake(tmp_path) as intake:
        burst_id = intake.client(intake.add_user()).post(EVENTS, json=a_burst()).raise_for_status().json()["id"]
        named = a_delivery(burst_id)
        send(intake.system.broker.address, DELIVERIES, (str(named.delivery_id).encode(), encode(named)))
        records = eventually(lambda: intake.records_of(burst_id)[1:], "the burst is named")
        assert [(record["tns_name"], record["changed_by"]) for record in records] == [(NAME, "tns")]
