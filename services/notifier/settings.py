"""Settings of notifier: channels, and rules that say what goes to which."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from services.notifier.channels.email import EmailSettings
from services.notifier.channels.gcn import GcnSettings
from services.notifier.channels.slack import SlackSettings
from services.notifier.channels.tns import TnsSettings
from services.notifier.channels.voevent import VoeventSettings
from services.notifier.channels.webhook import WebhookSettings
from services.notifier.rules import Rule
from shared.errors import InvalidInputError
from shared.inbox.sources import require_different_names
from shared.settings import HttpSettings, Section, ServiceSettings

NAME = "notifier"

ChannelSettings = Annotated[
    SlackSettings | TnsSettings | VoeventSettings | GcnSettings | EmailSettings | WebhookSettings,
    Field(discriminator="kind"),
]


class NotifierSection(Section):
    """Who is told what, when and how."""

    channels: tuple[ChannelSettings, ...] = Field((), description="Where notices go.")
    rules: tuple[Rule, ...] = Field((), description="What goes there; one rule that fits is enough.")
    site_url: str = Field("http://127.0.0.1:8105", description="Where people read about an event; links begin with it.")
    observatory: str = Field("TOCSIN", description="Who tells.")
    accounts_url: str = Field(
        "http://127.0.0.1:8000",
        pattern=r"^https?://",
        description="frb_intake, which says who may see what was sent, try it again, or suppress it.",
    )
    heartbeat_s: float = Field(30.0, gt=0, description="How often notices.heartbeats has a sign of life.")
    max_age_h: float = Field(
        24.0, gt=0, description="What first happened longer ago is not told any more, but for corrections of what was."
    )

    @model_validator(mode="after")
    def _rules_fit(self) -> Self:
        names = [channel.name for channel in self.channels]
        require_different_names("notifier.channels.name", names)
        for rule in self.rules:
            if rule.channel not in names:
                raise InvalidInputError(
                    "notifier.rules.channel", rule.channel, f"one of {', '.join(names) or 'no channels'}"
                )
        return self


class NotifierSettings(ServiceSettings):
    """Everything notifier reads from its environment."""

    http: HttpSettings = HttpSettings(port=8104)
    notifier: NotifierSection = NotifierSection()
