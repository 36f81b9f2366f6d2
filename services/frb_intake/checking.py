"""Decodes images in full, behind the requests that brought them; what turns out broken is taken out of its burst."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime

import asyncpg
import structlog

from services.frb_intake import domain
from services.frb_intake.images import decode
from services.frb_intake.intake import announce
from services.frb_intake.settings import NAME
from services.frb_intake.store import BurstStore
from shared.blobs.store import open_store
from shared.db.errors import translated_errors
from shared.db.pool import borrowed
from shared.db.unit_of_work import unit_of_work
from shared.errors import InvalidInputError, TransientError
from shared.events.blob import BlobRef
from shared.settings import BlobSettings

AT_ONCE = 16
POLL_S = 1.0
RETRY_S = 5.0

log = structlog.get_logger(__name__)

_PENDING = "SELECT burst_id, name, blob FROM images WHERE state = 'PENDING' ORDER BY burst_id LIMIT $1"
_VERDICT = "UPDATE images SET state = $3 WHERE burst_id = $1 AND name = $2 AND state = 'PENDING' RETURNING name"


def complaints(settings: BlobSettings, images: Sequence[BlobRef]) -> list[str | None]:
    """Return for each image why it cannot be decoded, None when it can. For a worker process."""
    store = open_store(settings)
    return [_complaint(store.get(image)) for image in images]


def _complaint(data: bytes) -> str | None:
    try:
        decode(data)
    except InvalidInputError as error:
        return str(error)
    return None


class ImageChecker:
    """Looks through new images, for ever.

    Parameters
    ----------
    complaints
        `complaints` of this module, called in a worker process.
    """

    def __init__(
        self, pool: asyncpg.Pool, *, complaints: Callable[[Sequence[BlobRef]], Awaitable[list[str | None]]]
    ) -> None:
        self._pool = pool
        self._complaints = complaints

    async def run(self) -> None:
        """Check what comes in; outages are waited out."""
        while True:
            try:
                if not await self.check_some():
                    await asyncio.sleep(POLL_S)
            except TransientError as error:
                log.warning("images.waiting", reason=str(error))
                await asyncio.sleep(RETRY_S)

    async def check_some(self) -> int:
        """Check the next images; return how many there were."""
        async with borrowed(self._pool) as connection:
            with translated_errors():
                rows = await connection.fetch(_PENDING, AT_ONCE)
        if not rows:
            return 0
        verdicts = await self._complaints([BlobRef.model_validate_json(row["blob"]) for row in rows])
        async with unit_of_work(self._pool) as work:
            for row, verdict in zip(rows, verdicts, strict=True):
                if verdict is None:
                    work.write(_VERDICT, row["burst_id"], row["name"], "WHOLE")
        for row, verdict in zip(rows, verdicts, strict=True):
            if verdict is not None:
                await self._drop(row["burst_id"], row["name"], verdict)
        return len(rows)

    async def _drop(self, burst_id: int, name: str, why: str) -> None:
        async with unit_of_work(self._pool) as work:
            store = BurstStore(work)
            burst = await store.lock(burst_id)
            assert burst is not None
            if await work.fetch_row(_VERDICT, burst_id, name, "BROKEN") is None:
                return  # another replica said so
            log.warning("images.broken", burst=burst.internal_name, image=name, reason=why)
            changed = domain.without_image(burst, name, by=NAME, now=datetime.now(UTC))
            store.save(changed, detail={"image": name, "reason": why})
            announce(changed, work)
