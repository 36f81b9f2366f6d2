"""Settings of coincidence."""

from typing import Annotated

from pydantic import Field, model_validator

from shared.errors import InvalidInputError
from shared.settings import Section, ServiceSettings

NAME = "coincidence"

Probability = Annotated[float, Field(gt=0, lt=1)]
Window = tuple[float, float]


class WaveClassSection(Section):
    """What holds for waves of one class.

    Windows are those of RAVEN: the time of the wave less that of the burst, in seconds, earliest and latest. A burst
    that comes after the wave has a negative one.
    """

    narrow_s: Window = Field((-10.0, 2.0), description="Prompt emission: wave less burst (s), earliest and latest.")
    wide_s: Window = Field(
        (-86400.0, 7200.0),
        description="Precursors and late emission: wave less burst (s), earliest and latest; holds the narrow one.",
    )
    max_far_per_year: float = Field(
        365.25 / 30, gt=0, description="Pairs are announced up to this joint false-alarm rate, trials counted (1/yr)."
    )
    waves_per_year: float = Field(
        100.0, gt=0, description="Alerts of this class that chance can pair (1/yr): scales the simulated background."
    )

    @model_validator(mode="after")
    def _windows_are_nested(self) -> "WaveClassSection":
        for name, (low, high) in (("narrow_s", self.narrow_s), ("wide_s", self.wide_s)):
            if not low < high:
                raise InvalidInputError(name, f"[{low:g}, {high:g}]", "the earliest before the latest")
        if not (self.wide_s[0] <= self.narrow_s[0] and self.narrow_s[1] <= self.wide_s[1]):
            raise InvalidInputError("wide_s", list(self.wide_s), f"a window that holds narrow_s, {list(self.narrow_s)}")
        return self


class SiteSection(Section):
    """Where a telescope stands."""

    latitude_deg: float = Field(ge=-90, le=90, description="Geodetic latitude (deg, north positive).")
    longitude_deg: float = Field(ge=-180, le=360, description="Longitude (deg, east positive).")
    height_m: float = Field(0.0, description="Height above the ellipsoid (m).")


class CoincidenceSection(Section):
    """What is compared with what, and from where on it is told."""

    cbc: WaveClassSection = Field(WaveClassSection(), description="Waves of group CBC.")
    burst: WaveClassSection = Field(
        WaveClassSection(narrow_s=(-600.0, 120.0), max_far_per_year=1.0, waves_per_year=10.0),
        description="Waves of any other group: unmodelled ones.",
    )
    burst_rate_per_year: float = Field(485.0, gt=0, description="Detected bursts that chance can pair (1/yr).")
    prior_odds: Probability = Field(0.01, description="Fraction of astrophysical waves with a detectable burst.")
    narrow_fraction: Probability = Field(0.5, description="Fraction of those whose burst falls into the narrow window.")
    min_overlap: float = Field(1.0, ge=0, description="Pairs are announced from this overlap of their positions on.")
    min_importance: float = Field(
        0.5, ge=0, le=1, description="Bursts that their origin gives less probability of being real are not announced."
    )
    announce_repeaters: bool = Field(
        False, description="Whether bursts of known repeaters are announced: a merger happens once."
    )
    site: SiteSection | None = Field(
        None, description="Where uploaded bursts were seen; without it their time is not corrected to the geocentre."
    )
    mission: str = Field("TOCSIN", description="Who reports, in notices.")


class CoincidenceSettings(ServiceSettings):
    """Everything coincidence reads from its environment."""

    coincidence: CoincidenceSection = CoincidenceSection()
