"""What happens to another observatory's notice: its burst is made or changed, whatever order notices come in."""

from dataclasses import dataclass

from services.frb_intake.feeds.notice import FrbNotice
from shared.events.blob import BlobRef


@dataclass(frozen=True)
class ReceivedNotice:
    """A notice as one source brought it, its bytes kept."""

    notice: FrbNotice
    raw: BlobRef
    source: str
