"""A burst gets the name that the Transient Name Server gave it, when a report of the notifier is confirmed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import structlog

from services.frb_intake import domain
from services.frb_intake.intake import UnknownBurstError, announce
from services.frb_intake.store import BurstStore
from shared.db.unit_of_work import UnitOfWork
from shared.events.frb import FrbStatus
from shared.events.notices import ChannelMode, Delivery, DeliveryState

NAMER = "tns"

log = structlog.get_logger(__name__)


class Namer:
    """Names bursts.

    Parameters
    ----------
    from_sandbox
        Whether names that the TNS's sandbox gave count.
    clock
        Gives the time in UTC.
    """

    def __init__(self, *, from_sandbox: bool, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._modes = {ChannelMode.PRODUCTION, *([ChannelMode.SANDBOX] if from_sandbox else [])}
        self._clock = clock

    def counts(self, record: Delivery) -> bool:
        """Whether a delivery brings a name that counts."""
        is_name = record.state is DeliveryState.CONFIRMED and record.mode in self._modes
        return is_name and record.tns_name is not None and record.frb_id is not None

    async def on_delivery(self, record: Delivery, work: UnitOfWork) -> None:
        """Name the burst and announce it; a name that a person or another observatory gave stays.

        Raises
        ------
        UnknownBurstError
            There is no such burst.
        """
        assert record.frb_id is not None
        assert record.tns_name is not None
        store = BurstStore(work)
        burst = await store.lock(record.frb_id)
        if burst is None:
            raise UnknownBurstError(record.frb_id)
        if burst.tns_name == record.tns_name:
            return
        is_ours = burst.tns_name is None or await store.is_named_by_delivery(burst.frb_id)
        if not is_ours or burst.status is FrbStatus.WITHDRAWN:
            log.warning(
                "burst.name_not_taken",
                burst=burst.frb_id,
                name=burst.tns_name,
                offered=record.tns_name,
                status=burst.status,
                delivery=record.delivery_id,
            )
            return
        changed = domain.with_name(burst, record.tns_name, by=NAMER, now=self._clock())
        detail = {
            "tns_name": record.tns_name,
            "previous": burst.tns_name,
            "delivery": record.delivery_id,
            "channel": record.channel,
            "mode": record.mode,
            "reference": record.reference,
        }
        store.save(changed, detail=detail)
        announce(changed, work)
