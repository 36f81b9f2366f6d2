"""What becomes of a notice: a new burst, a further measurement or correction of a known one, a withdrawal."""

from collections.abc import Callable, Collection
from datetime import UTC, datetime
from typing import Any

import structlog

from services.frb_intake import domain
from services.frb_intake.feeds import bursts
from services.frb_intake.feeds.notice import FrbNotice, NoticeKind, ReceivedNotice
from services.frb_intake.intake import announce
from services.frb_intake.store import BurstStore
from shared.db.unit_of_work import UnitOfWork
from shared.events.frb import FrbEvent, FrbMeasurement, FrbStatus

_DETECTIONS = {NoticeKind.DETECTION, NoticeKind.SUBSEQUENT}

log = structlog.get_logger(__name__)


class FeedHandler:
    """Carries out notices, each once, whichever sources bring it.

    Parameters
    ----------
    observatory
        Begins the internal names of bursts.
    clock
        Gives the time in UTC.
    """

    def __init__(self, *, observatory: str, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._observatory = observatory
        self._clock = clock

    async def on_notice(self, received: ReceivedNotice, work: UnitOfWork) -> None:
        """Change the burst that the notice is about, or make it, and announce it.

        Raises
        ------
        InvalidInputError
            The notice states a time at which no burst can have been seen, or a region that is none.
        """
        notice, store = received.notice, BurstStore(work)
        now = self._clock()
        domain.check_time(notice.time_of_arrival, now)
        if not await store.claim_notice(notice.notice_id):
            log.info("notice.known", notice_id=str(notice.notice_id), source=received.source)
            return
        burst_id = await store.find_named(origin=notice.origin, is_test=notice.is_test, names=notice.names)
        burst = None if burst_id is None else await store.lock(burst_id)
        changed = await (self._create(received, store, now) if burst is None else _change(received, store, burst, now))
        store.add_names(changed.frb_id, origin=notice.origin, is_test=notice.is_test, names=notice.names)
        announce(changed, work)

    async def _create(self, received: ReceivedNotice, store: BurstStore, now: datetime) -> FrbEvent:
        notice = received.notice
        burst = domain.create(
            bursts.new_burst(notice, by=received.topic, raw=received.raw),
            frb_id=await store.next_id(),
            observatory=self._observatory,
            now=now,
            measured=bursts.measured(notice),
        )
        if notice.kind is NoticeKind.RETRACTION:
            # Of a burst that we never heard of; a detection that comes late must not make it stand.
            burst = burst.model_copy(update={"status": FrbStatus.WITHDRAWN, "status_reason": _reason(notice)})
        await store.add(burst, detail=_detail(received))
        if burst.first is not None:
            await _add_measurement(store, burst, burst.first, notice)
        return burst


async def _change(received: ReceivedNotice, store: BurstStore, burst: FrbEvent, now: datetime) -> FrbEvent:
    changed = await _changed(received, store, burst, now)
    store.save(changed, detail=_detail(received))
    return changed


async def _changed(received: ReceivedNotice, store: BurstStore, burst: FrbEvent, now: datetime) -> FrbEvent:
    notice, by = received.notice, received.topic
    if burst.status is FrbStatus.WITHDRAWN:
        return domain.with_correction(burst, by=by, now=now, raw=received.raw)
    if notice.kind is NoticeKind.RETRACTION:
        told = burst.model_copy(update={"raw": received.raw})
        return domain.with_status(told, FrbStatus.WITHDRAWN, reason=_reason(notice), by=by, now=now)
    if _is_late(notice, await store.notices_of(burst.frb_id)):
        facts, measured = bursts.late_corrections(notice, burst, raw=received.raw), bursts.measured_late(notice, burst)
    else:
        facts, measured = bursts.corrections(notice, raw=received.raw), bursts.measured_anew(notice, burst)
    if measured is not None:
        changed = domain.with_measurement(burst.model_copy(update=facts), measured, by=by, now=now)
        assert changed.latest is not None
        if await _add_measurement(store, changed, changed.latest, notice):
            return changed
    return domain.with_correction(burst, by=by, now=now, **facts)


def _is_late(notice: FrbNotice, before: Collection[str]) -> bool:
    """Whether a notice tells of a detection that updates came before: one source was away while another was not."""
    first = {NoticeKind.DETECTION} if NoticeKind.DETECTION.lower() in before else _DETECTIONS
    return notice.kind in first and NoticeKind.UPDATE.lower() in before


async def _add_measurement(store: BurstStore, burst: FrbEvent, measurement: FrbMeasurement, notice: FrbNotice) -> bool:
    """Store a measurement; False when the same feed has said the same before."""
    said = bursts.as_submitted(notice)
    _, is_new = await store.add_measurement(burst.frb_id, measurement, as_submitted=said, digest=domain.digest(said))
    return is_new


def _reason(notice: FrbNotice) -> str:
    return notice.note or f"Retracted by {notice.origin}"


def _detail(received: ReceivedNotice) -> dict[str, Any]:
    notice = received.notice
    return {
        "notice": notice.kind.lower(),
        "notice_id": str(notice.notice_id),
        "source": received.source,
        "issued_at": None if notice.issued_at is None else notice.issued_at.isoformat(),
        "note": notice.note,
        "cites": list(notice.cites),
        "unmapped": dict(notice.unmapped),
        "raw": received.raw.model_dump(mode="json"),
    }
