"""Settings of console."""

from pydantic import Field, SecretStr

from shared.http.oidc import ISSUER
from shared.settings import DatabaseSettings, HttpSettings, Section, ServiceSettings

NAME = "console"


class OidcSettings(Section):
    """An OpenID provider where people log in; who they are is the intake's to say."""

    issuer: str = Field(pattern=ISSUER, description="Address of the provider, as it calls itself.")
    client_id: str = Field(min_length=1, description="Of this console there.")
    client_secret: SecretStr | None = Field(None, description="None for a public client, which has PKCE alone.")
    redirect_uri: str | None = Field(
        None,
        pattern=r"^https?://",
        description="Of /login/oidc/callback as people reach it, and as it is known there; unless given, made of the"
        " address that a request came to.",
    )
    label: str = Field("the observatory's account", description="Stands on the button: Log in with ...")


class SurveySettings(Section):
    """Who knows what the sky around a burst looks like: nobody unless named. The console asks them; no browser does."""

    cutout_url: str | None = Field(
        None, pattern=r"^https?://", description="A service that cuts pictures out of HiPS, as CDS's hips2fits."
    )
    hips: str = Field("CDS/P/DSS2/color", min_length=1, description="The survey to cut from, as the service calls it.")
    picture_name: str = Field("DSS2", min_length=1, description="What to call the survey.")
    catalogue_url: str | None = Field(
        None, pattern=r"^https?://", description="A catalogue's IVOA Simple Cone Search; RA, DEC and SR are added."
    )
    catalogue_name: str = Field("the catalogue", min_length=1, description="What to call the catalogue.")
    timeout_s: float = Field(10.0, gt=0, le=60, description="How long either may take; pages do not wait for it.")


class ConsoleSection(Section):
    """What people see, and where it comes from."""

    public_reading: bool = Field(True, description="Whether pages can be read without logging in.")
    intake_url: str = Field("http://127.0.0.1:8000", pattern=r"^https?://", description="frb_intake: bursts, accounts.")
    notifier_url: str = Field("http://127.0.0.1:8104", pattern=r"^https?://", description="notifier: deliveries.")
    services: dict[str, str] = Field(
        default_factory=lambda: {
            "gw_listener": "http://127.0.0.1:8101",
            "skymap_parser": "http://127.0.0.1:8102",
            "frb_intake": "http://127.0.0.1:8000",
            "coincidence": "http://127.0.0.1:8103",
            "notifier": "http://127.0.0.1:8104",
        },
        description="Where each service's /status is, by its name; the page System shows them.",
    )
    observatory: str = Field("Tocsin", description="Stands above every page.")
    grafana_url: str | None = Field(None, pattern=r"^https?://", description="The page System links there.")
    survey_url: str | None = Field(
        None,
        pattern=r"^https?://",
        description="A page about a position, with {ra} and {dec} in it (deg); burst pages link there.",
    )
    survey: SurveySettings = SurveySettings()
    secure_cookies: bool = Field(
        True, description="Send the session's cookie over HTTPS only; to 127.0.0.1 it goes over HTTP as well."
    )
    session_hours: float = Field(12.0, gt=0, le=720, description="How long somebody stays logged in.")
    who_cache_s: float = Field(10.0, ge=0, description="How long an answer of the intake on who somebody is, holds.")
    max_streams: int = Field(500, ge=1, description="Browsers that follow live at once.")
    oidc: OidcSettings | None = Field(None, description="Log in at an OpenID provider, beside the password.")


class ConsoleSettings(ServiceSettings):
    """Everything console reads from its environment."""

    http: HttpSettings = HttpSettings(port=8105)
    database: DatabaseSettings = DatabaseSettings(pool_size=8)
    console: ConsoleSection = ConsoleSection()
