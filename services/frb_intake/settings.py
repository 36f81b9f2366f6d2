"""Settings of frb_intake."""

from pydantic import Field, SecretStr, model_validator

from services.frb_intake.feeds.sources import OWN_SOURCE, FrbSource
from shared.http.oidc import ISSUER
from shared.inbox.sources import require_different_names
from shared.settings import DatabaseSettings, HttpSettings, Section, ServiceSettings

NAME = "frb_intake"


class OidcSettings(Section):
    """An OpenID provider whose word counts on who somebody is; what they may do is told by the account of that name."""

    issuer: str = Field(pattern=ISSUER, description="Address of the provider, as it calls itself.")
    client_id: str = Field(min_length=1, description="Of the console there.")
    name_claim: str = Field(
        "preferred_username",
        description="What an identity token calls the account here; nobody may choose it for themselves there.",
    )


class FrbIntakeSection(Section):
    """Who may do what, and how much."""

    public_reading: bool = Field(True, description="Whether bursts can be read without an account.")
    observatory: str = Field("TOCSIN", description="Begins the internal names of bursts: NAME-FRB-17.")
    credential_cache_s: float = Field(
        30.0, ge=0, description="How long a verified credential is trusted; a disabled account works as long."
    )
    requests_per_s: float = Field(500.0, gt=0, description="Requests of one account, sustained.")
    requests_burst: int = Field(2000, ge=1, description="And at once.")
    max_anonymous_followers: int = Field(
        100, ge=0, description="Streams of changes that people without an account may have open at once."
    )
    max_image_bytes: int = Field(8 * 1024 * 1024, description="Largest image that is taken.")
    max_image_pixels: int = Field(50_000_000, description="Largest area of an image (pixels).")
    max_body_bytes: int = Field(32 * 1024 * 1024, description="Largest request that is read.")
    body_timeout_s: float = Field(30.0, gt=0, description="Time in which a request must have arrived.")
    staged_hours: float = Field(
        24.0, gt=0, description="How long an observation waits for its burst at the compatible door."
    )
    names_from_sandbox: bool = Field(
        False, description="Whether bursts take names that the Transient Name Server's sandbox gave; for trials."
    )
    slack_signing_secret: SecretStr | None = Field(
        None, min_length=1, description="Of the Slack app whose buttons vote; without it nobody votes from Slack."
    )
    confirm_votes: int | None = Field(
        None, ge=1, description="So many people who vote confirm make a candidate CONFIRMED; none unless given."
    )
    max_reject_votes: int = Field(0, ge=0, description="Unless more than these vote reject.")
    reject_votes: int | None = Field(
        None, ge=1, description="So many people who vote reject make a candidate REJECTED; none unless given."
    )
    max_confirm_votes: int = Field(0, ge=0, description="Unless more than these vote confirm.")
    oidc: OidcSettings | None = Field(
        None, description="Where people prove who they are, beside passwords; the console has its part of it."
    )
    sources: tuple[FrbSource, ...] = Field(
        (), description="Where other observatories' notices come from, beside the project's own broker."
    )
    own_topics: bool = Field(
        True, description="Also read the topics of notices on the project's own broker, where replays are published."
    )

    @model_validator(mode="after")
    def _names_differ(self) -> "FrbIntakeSection":
        names = (source.name for source in self.sources)
        require_different_names("frb_intake.sources.name", (*names, *[OWN_SOURCE] * self.own_topics))
        return self


class FrbIntakeSettings(ServiceSettings):
    """Everything frb_intake reads from its environment."""

    http: HttpSettings = HttpSettings(port=8000)
    database: DatabaseSettings = DatabaseSettings(pool_size=10)
    frb_intake: FrbIntakeSection = FrbIntakeSection()
