"""Rules: what goes to which channel."""

from __future__ import annotations

from pydantic import Field

from services.notifier.happenings import Happening, Kind
from shared.events.frb import FrbEvent, FrbStatus
from shared.events.gw import GwAlert, GwSkymap
from shared.settings import Section

SECONDS_PER_YEAR = 365.25 * 86_400


class Rule(Section):
    """What goes to a channel. What was told once is corrected and taken back whatever the conditions say."""

    channel: str = Field(description="Name of the channel.")
    about: tuple[Kind, ...] = Field(tuple(Kind), description="burst, alert, skymap, coincidence.")
    origins: tuple[str, ...] = Field(
        (), description="Bursts of these origins only: upload, CHIME, DSA-110, …; all unless given."
    )
    statuses: tuple[FrbStatus, ...] = Field(
        (FrbStatus.CANDIDATE, FrbStatus.CONFIRMED), description="Bursts of these statuses only."
    )
    min_snr: float | None = Field(None, description="Bursts with at least this signal-to-noise ratio.")
    significant: bool = Field(False, description="Only alerts that the IGWN calls significant.")
    max_far_per_year: float | None = Field(None, description="Alerts with at most this false-alarm rate (1/yr).")

    def fits(self, happening: Happening) -> bool:
        """Whether a happening is one that the rule speaks of."""
        if happening.kind not in self.about or happening.is_over:
            return False
        record = happening.record
        if isinstance(record, FrbEvent):
            snr = record.latest.snr if record.latest else None
            return (
                (not self.origins or record.origin in self.origins)
                and record.status in self.statuses
                and (self.min_snr is None or (snr is not None and snr >= self.min_snr))
            )
        if isinstance(record, GwAlert):
            event = record.event
            if event is None:
                return False
            loud = self.max_far_per_year is None or event.far_hz * SECONDS_PER_YEAR <= self.max_far_per_year
            return loud and (not self.significant or bool(event.significant))
        # A sky map follows its alert; what the alert's rule refused, its map does not bring up.
        return not isinstance(record, GwSkymap)
