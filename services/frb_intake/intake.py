"""What can be done with bursts, each in one transaction: rows, history, audit and the record on `frb.events`."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import asyncpg

from services.frb_intake import domain
from services.frb_intake.accounts import Caller, Role
from services.frb_intake.images import ImageInfo
from services.frb_intake.models import BurstIn, MeasurementIn, ObservationIn, RatingIn
from services.frb_intake.settings import NAME
from services.frb_intake.store import BurstStore, NewImage
from shared.blobs.store import BlobStore
from shared.db.errors import translated_errors
from shared.db.pool import borrowed
from shared.db.unit_of_work import UnitOfWork, unit_of_work
from shared.errors import InvalidInputError
from shared.events.frb import FrbEvent, FrbImage, FrbStatus
from shared.outbox.event import outgoing

TOPIC = "frb.events"
SENDER = f"tocsin.{NAME}"
VOTES = "frb_intake.votes"
# In the inbox: the votes that were carried out, of those that have an id.
NO_RULE = domain.VoteRule()


class UnknownBurstError(InvalidInputError):
    """There is no burst of that id."""

    def __init__(self, burst_id: int) -> None:
        super().__init__("id", burst_id, "the id of a burst")

    def __reduce__(self) -> tuple[type["UnknownBurstError"], tuple[int]]:  # type: ignore[override]
        return type(self), (int(self.value),)


class UnknownObservationError(InvalidInputError):
    """There is no observation of that id."""


class KeyReusedError(InvalidInputError):
    """An idempotency key came again with another request."""


class RepeatedError(InvalidInputError):
    """The very same request was carried out before."""


class NotYoursError(InvalidInputError):
    """Somebody else submitted the burst."""


@dataclass(frozen=True)
class Asker:
    """Who asks, and from where."""

    caller: Caller
    address: str | None

    @property
    def name(self) -> str:
        """The account's name."""
        return self.caller.name


@dataclass(frozen=True)
class Upload:
    """An image as it came, its header verified."""

    name: str
    file_name: str
    data: bytes
    info: ImageInfo


@dataclass(frozen=True)
class Outcome:
    """A burst after a request; `is_new` is False when the same request had been carried out before."""

    burst: FrbEvent
    is_new: bool
    measurement_id: int | None = None


class Intake:
    """Carries out what callers ask for.

    Parameters
    ----------
    observatory
        Begins the internal names of bursts.
    vote_rule
        When votes decide about a candidate.
    clock
        Gives the time in UTC.
    """

    def __init__(
        self,
        pool: asyncpg.Pool,
        blobs: BlobStore,
        *,
        observatory: str,
        vote_rule: domain.VoteRule = NO_RULE,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._pool = pool
        self._blobs = blobs
        self._observatory = observatory
        self._vote_rule = vote_rule
        self._clock = clock

    async def stage_observation(self, sent: ObservationIn, asker: Asker) -> int:
        """Keep an observation until its burst comes; return its id."""
        digest = domain.digest(sent.model_dump(mode="json", exclude_defaults=True))
        async with unit_of_work(self._pool) as work:
            return await BurstStore(work).stage_observation(sent, submitted_by=asker.name, digest=digest)

    async def submit(
        self,
        sent: BurstIn,
        asker: Asker,
        *,
        images: Sequence[Upload] = (),
        observation_id: int | None = None,
        key: str | None = None,
    ) -> Outcome:
        """Store and announce a new burst; the same content of the same user, or the same key, is the same burst.

        Raises
        ------
        UnknownObservationError
            There is no `observation_id`; nothing is kept.
        KeyReusedError
            The key came before, with another burst.
        InvalidInputError
            The time of arrival cannot be, or the cosmology is not known.
        """
        now = self._clock()
        # Before any file is written: what is refused leaves nothing behind.
        domain.check_time(sent.time_of_arrival, now)
        measured = domain.to_measured(sent.measurement) if sent.measurement else None
        if measured:
            domain.dm_budget(measured)
        observation, is_staged = sent.observation, False
        if observation_id is not None:
            observation, is_staged = await self._observation(observation_id)
        contents = [(image.data, image.info.media_type) for image in images]
        blobs = await asyncio.to_thread(self._blobs.put_all, contents) if contents else []
        kept = [
            FrbImage(name=image.name, blob=blob, width_px=image.info.width_px, height_px=image.info.height_px)
            for image, blob in zip(images, blobs, strict=True)
        ]
        new = domain.uploaded_burst(sent, submitted_by=asker.name, images=kept, observation=observation)
        digest = domain.digest(
            # Without defaults: a key that a later release adds must not change what was sent to this one.
            sent.model_dump(mode="json", exclude={"observation"}, exclude_defaults=True),
            observation.model_dump(mode="json", exclude_defaults=True) if observation else None,
            [(image.name, image.blob.sha256) for image in kept],
        )
        async with unit_of_work(self._pool) as work:
            store = BurstStore(work)
            known = await store.claim_key(submitted_by=asker.name, key=key) if key else None
            if known is not None and known[0] != digest:
                raise KeyReusedError("Idempotency-Key", key, f"a new key: burst {known[1]} was sent with this one")
            if known is not None:
                return Outcome(await self._lock(store, known[1]), is_new=False)
            burst_id, is_new = await store.find_or_reserve(submitted_by=asker.name, digest=digest)
            if not is_new:
                return Outcome(await self._lock(store, burst_id), is_new=False)
            if is_staged and observation_id is not None:
                await store.take_observation(observation_id)
            elif observation is not None and observation_id is None:
                observation_id = await store.add_observation(
                    observation,
                    submitted_by=asker.name,
                    digest=domain.digest(observation.model_dump(mode="json", exclude_defaults=True)),
                )
            burst = domain.create(new, frb_id=burst_id, observatory=self._observatory, now=now, measured=measured)
            files = [NewImage(image.name, image.file_name, blob) for image, blob in zip(images, blobs, strict=True)]
            detail = {"images": [image.name for image in images], "observation": observation_id}
            if not await store.add(
                burst,
                digest=digest,
                observation_id=observation_id,
                images=files,
                detail=detail,
                address=asker.address,
            ):
                # The same upload, at the same moment, through another connection.
                winner = await store.find(submitted_by=asker.name, digest=digest)
                assert winner is not None
                return Outcome(await self._lock(store, winner), is_new=False)
            measurement_id = None
            if burst.first is not None and sent.measurement is not None:
                as_submitted = sent.measurement.as_submitted()
                measurement_id, _ = await store.add_measurement(
                    burst.frb_id, burst.first, as_submitted=as_submitted, digest=domain.digest(as_submitted)
                )
            if key:
                store.keep_key(submitted_by=asker.name, key=key, digest=digest, burst_id=burst.frb_id)
            announce(burst, work)
        return Outcome(burst, is_new=True, measurement_id=measurement_id)

    async def measure(
        self, burst_id: int, sent: MeasurementIn, asker: Asker, *, as_submitted: dict[str, Any] | None = None
    ) -> Outcome:
        """Add a measurement to a burst; the same one of the same user again is the one that is there.

        Raises
        ------
        UnknownBurstError
            There is no such burst.
        WithdrawnError
            It does not change any more.
        """
        as_submitted = as_submitted or sent.as_submitted()
        digest = domain.digest(as_submitted)
        measured = domain.to_measured(sent)
        async with self._changing(burst_id) as (store, work, burst):
            changed = domain.with_measurement(burst, measured, by=asker.name, now=self._clock())
            assert changed.latest is not None
            measurement_id, is_new = await store.add_measurement(
                burst_id, changed.latest, as_submitted=as_submitted, digest=digest
            )
            if not is_new:
                return Outcome(burst, is_new=False, measurement_id=measurement_id)
            store.save(changed, detail={"measurement": changed.latest.number}, address=asker.address)
            announce(changed, work)
        return Outcome(changed, is_new=True, measurement_id=measurement_id)

    async def rate(
        self,
        burst_id: int,
        sent: RatingIn,
        asker: Asker,
        *,
        rater_id: str | None = None,
        request_id: UUID | None = None,
    ) -> FrbEvent:
        """Store somebody's opinion of a burst; it replaces the one of before in the count, not in the history.

        Where a rule says so, the votes then decide about a candidate: a change of its own.

        Parameters
        ----------
        rater_id
            Whose vote it is, where people may change their names.

        Raises
        ------
        RepeatedError
            `request_id` was carried out before; nothing changes.
        """
        async with self._changing(burst_id) as (store, work, burst):
            if request_id is not None and not await work.claim(VOTES, [request_id]):
                raise RepeatedError("request", str(request_id), "a vote that was not counted before")
            now = self._clock()
            previous = await store.vote(
                burst_id, rater=asker.name, rater_id=rater_id, rating=sent.rating, note=sent.note, rated_at=now
            )
            changed = domain.with_vote(burst, sent.rating, previous=previous, by=asker.name, now=now)
            store.save(
                changed, detail={"rating": sent.rating, "note": sent.note, "previous": previous}, address=asker.address
            )
            announce(changed, work)
            decision = self._vote_rule.decision(changed)
            if decision is not None:
                status, reason = decision
                before, changed = (
                    changed,
                    domain.with_status(changed, status, reason=reason, by=domain.VOTE_RULE, now=now),
                )
                store.save(changed, detail={"from": before.status.lower(), "to": status.lower(), "reason": reason})
                announce(changed, work)
        return changed

    async def set_status(self, burst_id: int, status: FrbStatus, reason: str, asker: Asker) -> FrbEvent:
        """Decide about a burst.

        Raises
        ------
        NotYoursError
            Who only submits may withdraw own bursts only.
        """
        async with self._changing(burst_id) as (store, work, burst):
            if Role.OPERATE not in asker.caller.roles and burst.submitted_by != asker.name:
                raise NotYoursError("id", burst_id, "a burst that you submitted, or the role operate")
            changed = domain.with_status(burst, status, reason=reason, by=asker.name, now=self._clock())
            store.save(
                changed,
                detail={"from": burst.status.lower(), "to": status.lower(), "reason": reason},
                address=asker.address,
            )
            announce(changed, work)
        return changed

    async def name(self, burst_id: int, tns_name: str, asker: Asker) -> FrbEvent:
        """Give a burst its name at the Transient Name Server."""
        async with self._changing(burst_id) as (store, work, burst):
            if burst.tns_name == tns_name:
                return burst
            changed = domain.with_name(burst, tns_name, by=asker.name, now=self._clock())
            store.save(changed, detail={"tns_name": tns_name, "previous": burst.tns_name}, address=asker.address)
            announce(changed, work)
        return changed

    @asynccontextmanager
    async def _changing(self, burst_id: int) -> AsyncIterator[tuple[BurstStore, UnitOfWork, FrbEvent]]:
        async with unit_of_work(self._pool) as work:
            store = BurstStore(work)
            yield store, work, await self._lock(store, burst_id)

    async def _lock(self, store: BurstStore, burst_id: int) -> FrbEvent:
        burst = await store.lock(burst_id)
        if burst is None:
            raise UnknownBurstError(burst_id)
        return burst

    async def _observation(self, observation_id: int) -> tuple[ObservationIn, bool]:
        """Return an observation, and whether it still waits for its first burst."""
        async with borrowed(self._pool) as connection:
            with translated_errors():
                row = await connection.fetchrow(
                    "SELECT parameters, false AS is_staged FROM observations WHERE id = $1"
                    " UNION ALL SELECT parameters, true FROM staged_observations WHERE id = $1 LIMIT 1",
                    observation_id,
                )
        if row is None:
            raise UnknownObservationError("observation", observation_id, "the id of an observation")
        return ObservationIn.model_validate_json(row["parameters"]), row["is_staged"]


def announce(burst: FrbEvent, work: UnitOfWork) -> None:
    """Emit a burst's record with the transaction."""
    work.emit(outgoing(TOPIC, burst, is_test=burst.is_test, sender=SENDER))
