"""What happens when a wave, its map or a burst comes: both sides are brought up to date, their pairs scored and told.

Each side is stored first and compared afterwards, in one transaction and one at a time: whichever comes second sees the
other.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby
from uuid import UUID

from services.coincidence import domain
from services.coincidence.background import BackgroundBook
from services.coincidence.cells import CellPart, Comparison, DistanceHint, region_of
from services.coincidence.domain import Burst, PairState, SkyScores, Timing, Wave, read_burst
from services.coincidence.settings import CoincidenceSection
from services.coincidence.store import Candidate, CoincidenceStore, Told
from shared.db.unit_of_work import UnitOfWork
from shared.events.blob import BlobRef
from shared.events.frb import FrbEvent
from shared.events.gw import GwAlert, GwSkymap, MapKind
from shared.events.mma import Coincidence, CoincidenceScores
from shared.inbox.subscription import Received
from shared.kafka.message import Message
from shared.outbox.event import outgoing
from shared.physics.arrival import Site
from shared.schema.codec import decode
from shared.sky import healpix
from shared.sky.healpix import Intervals

TOPIC = "mma.coincidences"
TIME_MARGIN = timedelta(minutes=10)
# Around the windows when candidates are looked for: three times the error of any burst that has a frequency.


@dataclass(frozen=True)
class ReadSkymap:
    """A record about a sky map, with the map's cells."""

    record: GwSkymap
    parts: Sequence[CellPart]


@dataclass(frozen=True)
class ReadBurst:
    """A record about a burst, with its region."""

    record: FrbEvent
    burst: Burst | None
    nest29: int | None
    region: Intervals | None


@dataclass(frozen=True)
class Compute:
    """What the handlers have computed in other processes."""

    read_cells: Callable[[BlobRef], Awaitable[list[CellPart]]]
    compare_all: Callable[[Sequence[Comparison]], Awaitable[list[list[SkyScores]]]]
    with_files: Callable[[Coincidence, Sequence[bytes]], Awaitable[Coincidence]]


class CoincidenceHandler:
    """Keeps waves, bursts and pairs, and announces what is worth it."""

    def __init__(self, *, compute: Compute, settings: CoincidenceSection, sender: str) -> None:
        self._compute = compute
        self._settings = settings
        self._sender = sender
        site = settings.site
        self._site = Site(site.latitude_deg, site.longitude_deg, site.height_m) if site else None
        windows = (settings.cbc.wide_s, settings.burst.wide_s)
        # Burst less wave, where the settings say wave less burst.
        self._within = (
            -timedelta(seconds=max(high_s for _, high_s in windows)) - TIME_MARGIN,
            -timedelta(seconds=min(low_s for low_s, _ in windows)) + TIME_MARGIN,
        )

    async def receive_alert(self, message: Message) -> Received[GwAlert]:
        """Decode an alert."""
        alert = decode(message.value, GwAlert)
        return Received(alert.event_id, alert)

    async def receive_skymap(self, message: Message) -> Received[ReadSkymap]:
        """Decode a record about a sky map, and read the map's cells."""
        record = decode(message.value, GwSkymap)
        parts: Sequence[CellPart] = ()
        if record.skymap is not None and record.map_kind is MapKind.GW:
            parts = await self._compute.read_cells(record.skymap.canonical)
        return Received(record.event_id, ReadSkymap(record, parts))

    async def receive_burst(self, message: Message) -> Received[ReadBurst]:
        """Decode a record about a burst, and find the cells that its position covers."""
        record = decode(message.value, FrbEvent)
        burst = read_burst(record, upload_site=self._site)
        localisation = burst.facts.localisation if burst else None
        nest29 = region = None
        if localisation is not None:
            nest29 = int(healpix.lonlat_to_nest29(localisation.ra_deg, localisation.dec_deg))
            region = region_of(localisation)
        return Received(record.event_id, ReadBurst(record, burst, nest29, region))

    async def on_alert(self, alert: GwAlert, work: UnitOfWork) -> None:
        """Bring a superevent up to date with an alert."""
        store = CoincidenceStore(work)
        await store.take_turn()
        wave = await store.wave(alert.superevent_id) or Wave(superevent_id=alert.superevent_id, is_test=alert.is_test)
        await self._put_wave(wave.with_alert(alert), store, work)

    async def on_skymap(self, read: ReadSkymap, work: UnitOfWork) -> None:
        """Bring a superevent up to date with a map, or with its withdrawal."""
        record, store = read.record, CoincidenceStore(work)
        await store.take_turn()
        before = await store.wave(record.superevent_id)
        before = before or Wave(superevent_id=record.superevent_id, is_test=record.is_test)
        wave = before.with_skymap(record)
        if wave.skymap is not None and wave.skymap != before.skymap:
            store.put_cells(wave.skymap.event_id, read.parts)
            if before.skymap is not None:
                store.forget_cells(before.skymap.event_id)
        await self._put_wave(wave, store, work)

    async def on_burst(self, read: ReadBurst, work: UnitOfWork) -> None:
        """Bring a burst up to date; an older record than the one known changes nothing."""
        record, store = read.record, CoincidenceStore(work)
        await store.take_turn()
        if record.revision <= await store.revision_of(record.frb_id):
            return
        store.put_burst(
            frb_id=record.frb_id,
            revision=record.revision,
            is_test=record.is_test,
            burst=read.burst,
            nest29=read.nest29,
            region=read.region,
        )
        candidates = await store.candidates_of_burst(record.frb_id, within=self._within)
        await self._assess(candidates, store, work)

    async def rescore(self, superevent_id: str, work: UnitOfWork) -> int:
        """Decide anew about every pair of a superevent; return their number."""
        store = CoincidenceStore(work)
        await store.take_turn()
        candidates = await store.candidates_of_wave(superevent_id, within=self._within)
        await self._assess(candidates, store, work)
        return len(candidates)

    async def _put_wave(self, wave: Wave, store: CoincidenceStore, work: UnitOfWork) -> None:
        store.put_wave(wave)
        if wave.is_retracted and wave.skymap is not None:
            # For good: nothing will be compared with it any more.
            store.forget_cells(wave.skymap.event_id)
        candidates = await store.candidates_of_wave(wave.superevent_id, within=self._within)
        await self._assess(candidates, store, work)

    async def _assess(self, candidates: Sequence[Candidate], store: CoincidenceStore, work: UnitOfWork) -> None:
        pairs = [_Pair(candidate, self._timing(candidate)) for candidate in candidates]
        pairs = [pair for pair in pairs if pair.timing is not None or pair.candidate.told is not None]
        if not pairs:
            return
        await self._compare(pairs, store)
        book = BackgroundBook(await store.background())
        now = datetime.now(UTC)
        for pair in pairs:
            await self._decide(pair, book=book, now=now, store=store, work=work)

    def _timing(self, candidate: Candidate) -> Timing | None:
        assert candidate.wave.facts is not None
        return domain.timing(candidate.wave.facts, candidate.burst.facts, self._settings)

    async def _compare(self, pairs: Sequence[_Pair], store: CoincidenceStore) -> None:
        """Fill in the cells that meet, and the scores that follow from them."""
        by_burst = [(frb_id, list(group)) for frb_id, group in groupby(pairs, key=lambda pair: pair.candidate.frb_id)]
        comparisons: list[tuple[Comparison, list[_Pair]]] = []
        for frb_id, group in by_burst:
            with_map = [pair for pair in group if pair.needs_sky]
            if not with_map:
                continue
            found = await store.cells_of(frb_id, [pair.map_id for pair in with_map])
            for pair in with_map:
                pair.packed = found[pair.map_id]
            comparisons.append((with_map[0].comparison([pair.packed for pair in with_map]), with_map))
        if not comparisons:
            return
        scores = await self._compute.compare_all([comparison for comparison, _ in comparisons])
        for (_, with_map), found_scores in zip(comparisons, scores, strict=True):
            for pair, sky in zip(with_map, found_scores, strict=True):
                pair.sky = sky

    async def _decide(
        self, pair: _Pair, *, book: BackgroundBook, now: datetime, store: CoincidenceStore, work: UnitOfWork
    ) -> None:
        candidate, settings = pair.candidate, self._settings
        wave, burst = candidate.wave, candidate.burst
        assert wave.facts is not None
        counted: CoincidenceScores | None = None
        if pair.timing is not None and not pair.is_gone:
            counted = book.completed(
                domain.scores(wave.facts, timed=pair.timing, sky=pair.sky, settings=settings),
                wave_class=domain.class_name(wave.facts),
            )
        verdict = domain.judge(wave, burst, counted, settings)
        told, record = candidate.told or Told(), None
        if verdict.state is PairState.ANNOUNCED or told.is_open:
            record = domain.next_record(
                wave.facts, burst.facts, verdict=verdict, counted=counted, is_test=wave.is_test,
                revision=told.revision, is_open=told.is_open, now=now,
            )  # fmt: skip
            digest = domain.content_digest(record)
            if told.is_open and digest == told.digest:
                record = None
            else:
                record = await self._compute.with_files(record, pair.packed)
                told = Told(record.revision, verdict.state is PairState.ANNOUNCED, digest)
                work.emit(outgoing(TOPIC, record, is_test=record.is_test, sender=self._sender))
        store.put_pair(candidate, verdict=verdict, scores=counted, now=now, told=told, record=record)


@dataclass
class _Pair:
    """A candidate on its way to a verdict."""

    candidate: Candidate
    timing: Timing | None
    packed: Sequence[bytes] = ()
    sky: SkyScores | None = None

    @property
    def is_gone(self) -> bool:
        return self.candidate.wave.is_retracted or self.candidate.burst.taken_back is not None

    @property
    def needs_sky(self) -> bool:
        known = self.candidate.wave.skymap is not None and self.candidate.burst.facts.localisation is not None
        return known and self.timing is not None and not self.is_gone

    @property
    def map_id(self) -> UUID:
        assert self.candidate.wave.skymap is not None
        return self.candidate.wave.skymap.event_id

    def comparison(self, packed: Sequence[Sequence[bytes]]) -> Comparison:
        burst = self.candidate.burst
        assert burst.facts.localisation is not None
        return Comparison(burst.facts.localisation, hint_of(burst), packed)


def hint_of(burst: Burst) -> DistanceHint:
    """Return what is known of a burst's distance."""
    facts = burst.facts
    return DistanceHint(
        dm_excess_pc_cm3=facts.dm_excess_pc_cm3,
        redshift=facts.redshift,
        redshift_low=facts.redshift_low,
        redshift_high=facts.redshift_high,
        cosmology=burst.cosmology or "Planck18",
    )
