"""An SMTP server that keeps the mail it is given, and misbehaves when told to.

`python -m shared.testing.smtp --port 8025` runs one that prints what it gets. Source: RFC 5321; RFC 3207 (STARTTLS);
RFC 4954 (AUTH PLAIN).
"""

import argparse
import asyncio
import base64
import contextlib
import ssl
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from enum import StrEnum

from shared.testing.connections import serving


class Fault(StrEnum):
    """What a server can do wrong with the next connection."""

    BUSY = "busy"
    NO_LOGIN = "no login"
    LATER = "recipients later"
    NOBODY = "no such recipients"
    ONE_UNKNOWN = "first recipient unknown"
    FULL = "data later"
    SPAM = "data refused"
    GONE_BEFORE_DATA = "gone before data"
    LOST_ANSWER = "taken but no answer"
    SILENT = "taken and silent"
    SILENT_AT_ONCE = "silent at once"
    GARBAGE = "garbage"
    SLOW = "slow"


@dataclass(frozen=True)
class Delivered:
    """One mail that was taken: its envelope, and its content as sent."""

    sender: str
    recipients: tuple[str, ...]
    content: bytes
    was_encrypted: bool
    login: str | None

    @property
    def mail(self) -> EmailMessage:
        """The mail, read; its lines end as Python has them."""
        mail = message_from_bytes(self.content.replace(b"\r\n", b"\n"), policy=default)
        assert isinstance(mail, EmailMessage)
        return mail


@dataclass
class SmtpServer:
    """The server; `standing_server` starts one.

    Attributes
    ----------
    faults
        What goes wrong with the next connections, one each.
    tls
        With it STARTTLS is offered.
    passwords
        With it a login is required.
    """

    port: int = 0
    tls: ssl.SSLContext | None = None
    passwords: dict[str, str] = field(default_factory=dict)
    delivered: list[Delivered] = field(default_factory=list)
    faults: deque[Fault] = field(default_factory=deque)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Hold one conversation."""
        fault = self.faults.popleft() if self.faults else None
        await _Conversation(self, reader, writer, fault).hold()


class _Conversation:
    def __init__(
        self,
        server: SmtpServer,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        fault: Fault | None,
    ) -> None:
        self._server = server
        self._reader = reader
        self._writer = writer
        self._fault = fault
        self._is_encrypted = False
        self._login: str | None = None
        self._sender = ""
        self._recipients: list[str] = []

    async def hold(self) -> None:
        if self._fault is Fault.SILENT_AT_ONCE:
            await self._reader.read()
            return
        if self._fault is Fault.GARBAGE:
            await self._say("\x00\x01 this is not SMTP")
            return
        await self._say("421 too busy" if self._fault is Fault.BUSY else "220 stand-in ESMTP")
        while self._fault is not Fault.BUSY:
            line = (await self._reader.readuntil(b"\r\n")).decode().strip()
            verb, _, rest = line.partition(" ")
            if not await self._answer(verb.upper(), rest):
                return

    async def _answer(self, verb: str, rest: str) -> bool:
        """Answer a command; return whether the conversation goes on."""
        match verb:
            case "EHLO":
                offers = ["STARTTLS"] if self._server.tls and not self._is_encrypted else []
                offers += ["AUTH PLAIN"] if self._server.passwords else []
                names = ["stand-in", *offers]
                for name in names[:-1]:
                    await self._say(f"250-{name}")
                await self._say(f"250 {names[-1]}")
            case "STARTTLS" if self._server.tls is not None:
                await self._say("220 go ahead")
                await self._writer.start_tls(self._server.tls)
                self._is_encrypted = True
            case "AUTH":
                await self._log_in(rest)
            case "MAIL" | "RCPT" if self._server.passwords and self._login is None:
                await self._say("530 log in first")
            case "MAIL":
                self._sender, self._recipients = _address(rest), []
                await self._say("250 sender ok")
            case "RCPT":
                await self._add_recipient(_address(rest))
            case "DATA" if self._fault is Fault.GONE_BEFORE_DATA:
                return False
            case "DATA":
                return await self._take()
            case "NOOP" | "RSET":
                await self._say("250 ok")
            case "QUIT":
                await self._say("221 bye")
                return False
            case _:
                await self._say("502 not known")
        return True

    async def _log_in(self, rest: str) -> None:
        mechanism, _, initial = rest.partition(" ")
        assert mechanism.upper() == "PLAIN", "only PLAIN is offered"
        _, username, password = base64.b64decode(initial).decode().split("\0")
        if self._fault is Fault.NO_LOGIN or self._server.passwords.get(username) != password:
            await self._say("535 not you")
        else:
            self._login = username
            await self._say("235 welcome")

    async def _add_recipient(self, address: str) -> None:
        if self._fault is Fault.LATER:
            await self._say("451 try later")
        elif self._fault is Fault.NOBODY:
            await self._say("550 nobody here")
        elif self._fault is Fault.ONE_UNKNOWN:
            self._fault = None
            await self._say("550 nobody here")
        else:
            self._recipients.append(address)
            await self._say("250 recipient ok")

    async def _take(self) -> bool:
        await self._say("354 end with a dot")
        lines = []
        while (line := await self._reader.readuntil(b"\r\n")) != b".\r\n":
            lines.append(line[1:] if line.startswith(b".") else line)
        if self._fault is Fault.FULL:
            await self._say("452 no room")
            return True
        if self._fault is Fault.SPAM:
            await self._say("554 not wanted")
            return True
        self._server.delivered.append(
            Delivered(self._sender, tuple(self._recipients), b"".join(lines), self._is_encrypted, self._login)
        )
        if self._fault is Fault.LOST_ANSWER:
            return False
        if self._fault is Fault.SILENT:
            await self._reader.read()
            return False
        await self._say(f"250 kept as {len(self._server.delivered)}")
        return True

    async def _say(self, line: str) -> None:
        if self._fault is Fault.SLOW:
            await asyncio.sleep(0.1)
        self._writer.write(line.encode() + b"\r\n")
        await self._writer.drain()


def _address(argument: str) -> str:
    """The address in `FROM:<address>` or `TO:<address>`."""
    return argument.partition("<")[2].partition(">")[0]


@contextlib.asynccontextmanager
async def standing_server(
    port: int = 0, *, tls: ssl.SSLContext | None = None, passwords: dict[str, str] | None = None
) -> AsyncIterator[SmtpServer]:
    """Return a server on the loopback address, at a free port unless one is given, while the block runs."""
    smtp = SmtpServer(tls=tls, passwords=passwords or {})
    async with serving(smtp.serve, port) as smtp.port:
        yield smtp


async def _run(port: int) -> None:
    async with standing_server(port) as smtp:
        print(f"listening at 127.0.0.1:{smtp.port}, security none", flush=True)  # noqa: T201  (a tool for the terminal)
        shown = 0
        while True:
            await asyncio.sleep(0.2)
            for each in smtp.delivered[shown:]:
                print(f"--- to {', '.join(each.recipients)}\n{each.content.decode()}", flush=True)  # noqa: T201
            shown = len(smtp.delivered)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8025, help="where to listen")
    options = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_run(options.port))
