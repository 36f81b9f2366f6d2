"""Settings that every channel has."""

from pydantic import Field

from shared.events.notices import ChannelMode
from shared.settings import Section


class CommonSettings(Section):
    """What every channel has."""

    name: str = Field(description="Unique; names the channel's deliveries.")
    mode: ChannelMode = Field(
        ChannelMode.DRY_RUN, description="OFF, DRY_RUN (all is made and kept, nothing leaves), SANDBOX or PRODUCTION."
    )
    per_minute: float = Field(60.0, gt=0, description="Deliveries a minute, sustained.")
    at_once: int = Field(20, ge=1, description="And at once.")
    timeout_s: float = Field(10.0, gt=0, description="How long an answer is waited for.")
    max_attempts: int = Field(100, ge=1, description="Tries before a delivery has failed.")
