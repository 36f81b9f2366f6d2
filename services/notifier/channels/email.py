"""Mail over SMTP, one thread of mails for each burst, superevent or coincidence.

SMTP cannot be asked what became of a mail: when the connection is lost between the end of the mail and the server's
answer, nobody knows, and the mail is not sent again. The delivery ends UNKNOWN. Everything before that moment is
certain, and is tried again.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import smtplib
import ssl
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from pydantic import Field, SecretStr, field_validator, model_validator

from services.notifier.channels.channel import Answer, Job, Prepared, UncertainError
from services.notifier.channels.common import CommonSettings
from services.notifier.channels.email_message import SUBJECT, TEXT, one_line, unknown_names, write_mail
from services.notifier.channels.records import is_news
from services.notifier.channels.tools import Tools
from services.notifier.happenings import Happening
from shared.errors import InvalidInputError, PermanentError, TocsinError, TransientError
from shared.events.frb import FrbEvent
from shared.events.gw import GwSkymap
from shared.events.ids import event_id
from shared.events.notices import ChannelMode

MAX_REFERENCES = 20
# Of the mails before, so many are named; the first one, which began the thread, is always among them.
SHARE_OF_TIMEOUT = 0.8
# The caller gives up after the time-out; before it, every step must have ended by itself.

_WIRE = SMTP.clone(cte_type="7bit", max_line_length=200)
# Servers need not take 8 bits; a Message-ID must fit into a line.
_DOT = re.compile(rb"^\.", re.MULTILINE)

Reply = TypeVar("Reply")

_ADDRESS = re.compile(r"[!#-'*+\-./0-9=?A-Z^_`a-z{|}~]+@[0-9A-Za-z]([0-9A-Za-z.-]*[0-9A-Za-z])?")


class EmailSettings(CommonSettings):
    """Mail to people."""

    kind: Literal["email"] = "email"
    host: str = Field("127.0.0.1", description="SMTP server; one that queues, such as the site's own.")
    port: int = Field(587, ge=1, le=65535, description="587 for STARTTLS, 465 for TLS from the beginning, 25 without.")
    security: Literal["starttls", "tls", "none"] = Field("starttls", description="How the connection is secured.")
    ssl_ca_location: Path | None = Field(None, description="PEM file of the authorities; default: the system's.")
    username: str | None = Field(None, description="Who we are, to the server; no login without it.")
    password: SecretStr | None = Field(None, description="And how we prove it.")
    sender: str = Field("tocsin@localhost", description="Address that mails come from.")
    recipients: tuple[str, ...] = Field((), description="Who gets mails in mode PRODUCTION.")
    sandbox_recipients: tuple[str, ...] = Field((), description="Who gets them in mode SANDBOX.")
    skymaps: bool = Field(True, description="Whether a new sky map of an alert is told too.")
    subject_template: str = Field(SUBJECT, description="string.Template with $marks, $observatory, $headline, …")
    text_template: str = Field(TEXT, description="The same for the text; also $explanation, $facts, $url, …")

    @field_validator("sender", "recipients", "sandbox_recipients")
    @classmethod
    def _are_addresses(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        for address in (value,) if isinstance(value, str) else value:
            if not _ADDRESS.fullmatch(address):
                raise InvalidInputError("address", address, "name@host.example, nothing else")
        return value

    @field_validator("subject_template", "text_template")
    @classmethod
    def _templates_are_complete(cls, value: str) -> str:
        if unknown := unknown_names(value):
            raise InvalidInputError("template", ", ".join(sorted(unknown)), "names that a template may use")
        return value

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        if (self.username is None) != (self.password is None):
            raise InvalidInputError("username", "alone", "username and password, or neither")
        if self.username is not None and self.security == "none":
            raise InvalidInputError("security", "none", "starttls or tls: a password must not travel in the clear")
        needed = {ChannelMode.PRODUCTION: "recipients", ChannelMode.SANDBOX: "sandbox_recipients"}.get(self.mode)
        if needed is not None and not getattr(self, needed):
            raise InvalidInputError(needed, "missing", f"at least one address, which mode {self.mode} needs")
        return self


class EmailChannel:
    """Tells the newest state of a subject, as an answer to what was told before."""

    kind = "email"
    replaces = True
    gathers = False

    def __init__(self, settings: EmailSettings, *, site_url: str, observatory: str) -> None:
        self.name = settings.name
        self._settings = settings
        self._site_url = site_url
        self._observatory = observatory

    def wants(self, happening: Happening, *, told_before: bool) -> bool:  # noqa: ARG002
        if isinstance(happening.record, FrbEvent):
            return is_news(happening.record)
        return self._settings.skymaps or not isinstance(happening.record, GwSkymap)

    def prepare(self, job: Job) -> Prepared | None:
        mail = write_mail(
            job,
            observatory=self._observatory,
            site_url=self._site_url,
            subject_template=self._settings.subject_template,
            text_template=self._settings.text_template,
        )
        is_sandbox = job.mode is ChannelMode.SANDBOX
        before = [self._message_id(job, each.revision) for each in job.earlier]
        return Prepared(
            {
                "from": self._settings.sender,
                "to": list(self._settings.sandbox_recipients if is_sandbox else self._settings.recipients),
                "message_id": self._message_id(job, job.revision),
                "references": before if len(before) <= MAX_REFERENCES else [before[0], *before[1 - MAX_REFERENCES :]],
                "date": job.decided_at.isoformat(),
                "about": one_line(job.happening.subject),
                "subject": mail.subject,
                "text": mail.text,
                "html": mail.html,
            }
        )

    async def send(self, prepared: Prepared, *, mode: ChannelMode) -> Answer:  # noqa: ARG002
        if not prepared.request["to"]:
            raise PermanentError(f"channel {self.name} has no recipients")
        return await asyncio.to_thread(self._deliver, prepared.request)

    async def confirm(self, prepared: Prepared, answer: Answer, *, mode: ChannelMode) -> Answer:  # noqa: ARG002
        return answer

    async def check(self, prepared: Prepared, *, mode: ChannelMode) -> Answer | None:  # noqa: ARG002
        raise UncertainError("SMTP does not tell what became of a mail; look for it by its Message-ID")

    async def run(self) -> None:
        """Nothing beside."""

    def _message_id(self, job: Job, revision: int) -> str:
        unique = event_id("email", self.name, job.happening.subject, str(revision))
        return f"<{unique.hex}@{self._settings.sender.rpartition('@')[2]}>"

    def _deliver(self, request: dict[str, Any]) -> Answer:
        content = to_bytes(request)
        clock = _Clock(self._settings.timeout_s * SHARE_OF_TIMEOUT)
        smtp = None
        try:
            smtp = self._connect(clock)
            refused = self._address(smtp, clock, sender=request["from"], recipients=request["to"])
            _require(*clock.ask(smtp, lambda: smtp.docmd("DATA")), expected=354)
        except (smtplib.SMTPException, OSError) as error:
            _close(smtp)
            raise TransientError(f"{self._settings.host}:{self._settings.port}: {_said(error)}") from error
        except TocsinError:
            _close(smtp)
            raise
        # Now it leaves; from here to the answer nobody knows.
        try:
            clock.ask(smtp, lambda: smtp.send(_DOT.sub(b"..", content) + b".\r\n"))
            code, reply = clock.ask(smtp, smtp.getreply)
        except (smtplib.SMTPException, OSError) as error:
            raise UncertainError(f"the mail left, and no answer came: {_said(error)}") from error
        finally:
            _close(smtp)
        if not 200 <= code < 600:
            raise UncertainError(f"the mail left, and the answer was {_text(reply)!r}")
        _require(code, reply, expected=250)
        return Answer(request["message_id"], {"reply": _text(reply), "refused": refused}, is_confirmed=True)

    def _connect(self, clock: _Clock) -> smtplib.SMTP:
        settings = self._settings
        context = ssl.create_default_context(cafile=settings.ssl_ca_location)
        if settings.security == "tls":
            smtp: smtplib.SMTP = smtplib.SMTP_SSL(settings.host, settings.port, timeout=clock.left_s, context=context)
        else:
            smtp = smtplib.SMTP(settings.host, settings.port, timeout=clock.left_s)
        try:
            clock.ask(smtp, smtp.ehlo_or_helo_if_needed)
            if settings.security == "starttls":
                clock.ask(smtp, lambda: smtp.starttls(context=context))
                clock.ask(smtp, smtp.ehlo_or_helo_if_needed)
            if settings.username is not None and settings.password is not None:
                username, password = settings.username, settings.password.get_secret_value()
                clock.ask(smtp, lambda: smtp.login(username, password))
        except BaseException:
            smtp.close()
            raise
        return smtp

    def _address(self, smtp: smtplib.SMTP, clock: _Clock, *, sender: str, recipients: Sequence[str]) -> dict[str, str]:
        """Say who writes to whom; return those whom the server refused, and why."""
        _require(*clock.ask(smtp, lambda: smtp.mail(sender)), expected=250)
        refused: dict[str, tuple[int, bytes]] = {}
        for recipient in recipients:
            code, reply = clock.ask(smtp, partial(smtp.rcpt, recipient))
            if code not in (250, 251):
                refused[recipient] = code, reply
        if len(refused) == len(recipients):
            # One who may be accepted later is reason enough to try again.
            _require(*min(refused.values()), expected=250)
        # The others are not made to wait.
        return {recipient: f"{code} {_text(reply)}" for recipient, (code, reply) in refused.items()}


def open_email(settings: EmailSettings, tools: Tools) -> EmailChannel:
    """Return the channel."""
    return EmailChannel(settings, site_url=tools.site_url, observatory=tools.observatory)


def to_bytes(request: dict[str, Any]) -> bytes:
    """Return a mail as it goes over the wire, each line ended by CR and LF."""
    mail = EmailMessage(policy=_WIRE)
    mail["From"] = request["from"]
    mail["To"] = ", ".join(request["to"])
    mail["Subject"] = request["subject"]
    mail["Date"] = format_datetime(datetime.fromisoformat(request["date"]))
    mail["Message-ID"] = request["message_id"]
    if request["references"]:
        mail["In-Reply-To"] = request["references"][-1]
        mail["References"] = " ".join(request["references"])
    # Machines that answer mail leave such mail alone: RFC 3834, and what Exchange goes by.
    mail["Auto-Submitted"] = "auto-generated"
    mail["X-Auto-Response-Suppress"] = "All"
    mail["Precedence"] = "bulk"
    mail["X-Tocsin-Subject"] = request["about"]
    mail.set_content(request["text"])
    mail.add_alternative(request["html"], subtype="html")
    return mail.as_bytes()


class _Clock:
    """One time-out for a whole conversation."""

    def __init__(self, timeout_s: float) -> None:
        self._end = time.monotonic() + timeout_s

    @property
    def left_s(self) -> float:
        """What is left of it (s)."""
        return max(self._end - time.monotonic(), 0.001)

    def ask(self, smtp: smtplib.SMTP, step: Callable[[], Reply]) -> Reply:
        """Take a step of the conversation within what is left."""
        if smtp.sock is not None:
            smtp.sock.settimeout(self.left_s)
        return step()


def _require(code: int, reply: bytes, *, expected: int) -> None:
    """Raise what an answer means unless it is the expected one (RFC 5321, section 4.2.1)."""
    if code != expected:
        said = f"the server said {code} {_text(reply)}"
        raise PermanentError(said) if 500 <= code < 600 else TransientError(said)


def _said(error: Exception) -> str:
    match error:
        case smtplib.SMTPResponseException():
            return f"{error.smtp_code} {_text(error.smtp_error)}"
        case _:
            return str(error) or type(error).__name__


def _text(reply: bytes | str) -> str:
    return one_line(reply.decode(errors="replace") if isinstance(reply, bytes) else reply)[:300]


def _close(smtp: smtplib.SMTP | None) -> None:
    """Say good-bye, and do not wait for the answer."""
    if smtp is not None:
        with contextlib.suppress(smtplib.SMTPException, OSError):
            smtp.putcmd("QUIT")
        smtp.close()
