"""Settings of gw_listener."""

from pydantic import Field, model_validator

from services.gw_listener.domain import AlertFilter
from services.gw_listener.sources import Source
from shared.inbox.sources import require_different_names
from shared.settings import Section, ServiceSettings

NAME = "gw_listener"
OWN_SOURCE = "local"


class GwListenerSection(Section):
    """Where alerts come from and which are wanted."""

    sources: tuple[Source, ...] = Field((), description="Where alerts come from, beside the project's own broker.")
    own_topic: bool = Field(
        True,
        description="Also read igwn.gwalert of the project's own broker, where replays are published.",
    )
    filter: AlertFilter = Field(AlertFilter(), description="Which alerts are wanted.")

    @model_validator(mode="after")
    def _names_differ(self) -> "GwListenerSection":
        names = (source.name for source in self.sources)
        require_different_names("gw_listener.sources.name", (*names, *[OWN_SOURCE] * self.own_topic))
        return self


class GwListenerSettings(ServiceSettings):
    """Everything gw_listener reads from its environment."""

    gw_listener: GwListenerSection = GwListenerSection()
