"""Signed webhooks: every record of what is told, as JSON, to any address over HTTP.

A message has the same id each time it is sent, and receivers are asked to take one id once; so what may have arrived
is sent again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Literal, Self

import httpx
from pydantic import Field, SecretStr, model_validator

from services.notifier.channels.channel import Answer, Job, Prepared, TooManyRequestsError, UncertainError
from services.notifier.channels.common import CommonSettings
from services.notifier.channels.records import is_news
from services.notifier.channels.tools import Tools
from services.notifier.channels.webhook_message import read_secret, signed_headers, webhook_body
from services.notifier.happenings import Happening
from shared.errors import InvalidInputError, PermanentError, TransientError
from shared.events.frb import FrbEvent
from shared.events.ids import event_id
from shared.events.notices import ChannelMode

KEPT_BYTES = 2_000
# Of what a receiver answers, so much is kept; more is not read.
MAX_RETRY_AFTER_S = 3600.0
# A receiver may not silence a channel for longer.

_URL = r"^https?://[^\s/@]+(/\S*)?$"


class WebhookSettings(CommonSettings):
    """Signed messages to an address.

    Whatever address stands here is called, those of a private network included: settings are the operator's.
    """

    kind: Literal["webhook"] = "webhook"
    url: str | None = Field(None, pattern=_URL, description="Where messages go in mode PRODUCTION.")
    sandbox_url: str | None = Field(None, pattern=_URL, description="Where they go in mode SANDBOX.")
    secret: SecretStr = Field(description="whsec_ and the base64 of 24 to 64 random bytes; the receiver has it too.")
    previous_secret: SecretStr | None = Field(
        None, description="Signs as well, for as long as the receiver may still have the secret of before."
    )

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        for secret in self.secrets:
            read_secret(secret)
        needed = {ChannelMode.PRODUCTION: "url", ChannelMode.SANDBOX: "sandbox_url"}.get(self.mode)
        if needed is not None and getattr(self, needed) is None:
            raise InvalidInputError(needed, "missing", f"an address, which mode {self.mode} needs")
        return self

    @property
    def secrets(self) -> list[str]:
        """The secrets that sign, the present one first."""
        both = (self.secret, self.previous_secret)
        return [secret.get_secret_value() for secret in both if secret is not None]


class WebhookChannel:
    """Sends every record, in order."""

    kind = "webhook"
    replaces = False
    gathers = False

    def __init__(
        self, settings: WebhookSettings, *, http: httpx.AsyncClient, site_url: str, now: Callable[[], float] = time.time
    ) -> None:
        self.name = settings.name
        self._settings = settings
        self._keys = [read_secret(secret) for secret in settings.secrets]
        self._http = http
        self._site_url = site_url
        self._now = now

    def wants(self, happening: Happening, *, told_before: bool) -> bool:  # noqa: ARG002
        return is_news(happening.record) if isinstance(happening.record, FrbEvent) else True

    def prepare(self, job: Job) -> Prepared | None:
        happening = job.happening
        unique = event_id("webhook", self.name, happening.subject, str(job.revision), str(happening.event_id))
        # The body as text: what is signed must be what is sent, to the byte.
        return Prepared({"id": f"msg_{unique.hex}", "body": webhook_body(job, site_url=self._site_url)})

    async def send(self, prepared: Prepared, *, mode: ChannelMode) -> Answer:
        url = self._settings.url if mode is ChannelMode.PRODUCTION else self._settings.sandbox_url
        if url is None:
            raise PermanentError(f"channel {self.name} has no address for mode {mode}")
        message_id, body = prepared.request["id"], prepared.request["body"].encode()
        headers = signed_headers(self._keys, message_id=message_id, timestamp=int(self._now()), body=body)
        try:
            request = self._http.stream(
                "POST", url, content=body, headers=headers, timeout=self._settings.timeout_s, follow_redirects=False
            )
            async with request as response:
                text = await _beginning(response)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol) as error:
            raise TransientError(f"not reached: {str(error) or type(error).__name__}") from error
        except httpx.HTTPError as error:
            raise UncertainError(f"no answer: {str(error) or type(error).__name__}") from error
        _require_success(response, text, now=datetime.fromtimestamp(self._now(), UTC))
        return Answer(message_id, {"status": response.status_code, "text": text}, is_confirmed=True)

    async def confirm(self, prepared: Prepared, answer: Answer, *, mode: ChannelMode) -> Answer:  # noqa: ARG002
        return answer

    async def check(self, prepared: Prepared, *, mode: ChannelMode) -> Answer | None:  # noqa: ARG002
        """Nobody can be asked; the same id may be sent again, which receivers take once."""
        return None

    async def run(self) -> None:
        """Nothing beside."""


def open_webhook(settings: WebhookSettings, tools: Tools) -> WebhookChannel:
    """Return the channel."""
    return WebhookChannel(settings, http=tools.http, site_url=tools.site_url)


async def _beginning(response: httpx.Response) -> str:
    """Return the beginning of an answer as text that any database keeps."""
    begun = b""
    async for part in response.aiter_bytes():
        begun += part
        if len(begun) >= KEPT_BYTES:
            break
    return begun[:KEPT_BYTES].decode(errors="replace").replace("\x00", "\N{REPLACEMENT CHARACTER}")


def _require_success(response: httpx.Response, text: str, *, now: datetime) -> None:
    """Raise what an answer means, unless it is a 2xx."""
    status, said = response.status_code, f"answer {response.status_code}: {text[:200]}"
    if response.is_success:
        return
    if status == httpx.codes.GONE:
        raise PermanentError("410 Gone: the receiver wants no more messages; take the channel out of the settings")
    if response.is_redirect:
        raise PermanentError(f"answer {status}: redirects are not followed; put the new address into the settings")
    if status in (httpx.codes.TOO_MANY_REQUESTS, httpx.codes.SERVICE_UNAVAILABLE):
        wait_s = _retry_after_s(response.headers.get("retry-after", ""), now=now)
        if wait_s is not None:
            raise TooManyRequestsError(said, retry_after_s=wait_s)
        raise TransientError(said)
    if status in (httpx.codes.BAD_GATEWAY, httpx.codes.GATEWAY_TIMEOUT):
        raise UncertainError(said)
    if status in (httpx.codes.REQUEST_TIMEOUT, httpx.codes.TOO_EARLY) or response.is_server_error:
        raise TransientError(said)
    raise PermanentError(said)


def _retry_after_s(value: str, *, now: datetime) -> float | None:
    """Read the header Retry-After, seconds or a date (RFC 9110, section 10.2.3); None when it says neither."""
    try:
        wait_s = float(value) if value.isdecimal() else (parsedate_to_datetime(value) - now).total_seconds()
    except (ValueError, TypeError):
        return None
    return min(max(wait_s, 0.0), MAX_RETRY_AFTER_S)
