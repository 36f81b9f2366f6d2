"""Slack's part: the Web API and incoming webhooks, checking what they get, with faults on demand; and people who press.

`python -m shared.testing.slack --port 8091` runs one that prints what it gets. It knows one bot token and one signing
secret, both given. Its own reading of Slack's reference, not the notifier's.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hmac
import itertools
import json
import re
import time
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from shared.testing.connections import serving

TOKEN = "xoxb-for-trials"  # noqa: S105  (not a secret)
SIGNING_SECRET = "signing for trials"  # noqa: S105
CHANNEL, SANDBOX = "C0PRODUCTION", "C0SANDBOX"
SLOW_S = 0.2
_MAX_BLOCKS = 50
_TEXTS = {"header": 150, "section": 3000}
_BARE = re.compile(r"&(?!amp;|lt;|gt;)")
_MARKS = re.compile(r"<(?:https?://[^<>|]+\|[^<>|]+)>")
_READ = {"conversations.history", "conversations.replies", "files.getUploadURLExternal"}
# These take forms, the others JSON.


class Fault(StrEnum):
    """What goes wrong with a call."""

    TOO_MANY = "too many"
    BROKEN = "broken"
    UNAVAILABLE = "unavailable"
    ACCEPTED_BUT_504 = "accepted but 504"
    LOST_ANSWER = "lost answer"
    SILENT = "silent"
    GARBAGE = "garbage"
    SLOW = "slow"
    REFUSED = "refused"


_TAKEN = (None, Fault.ACCEPTED_BUT_504, Fault.LOST_ANSWER, Fault.SLOW)
_STATUS = {
    Fault.TOO_MANY: ("429 Too Many Requests", "Retry-After: 7\r\n"),
    Fault.BROKEN: ("500 Internal Server Error", ""),
    Fault.UNAVAILABLE: ("503 Service Unavailable", ""),
    Fault.ACCEPTED_BUT_504: ("504 Gateway Timeout", ""),
}


class _WrongError(Exception):
    """What Slack says of a wrong call."""


@dataclass
class SlackWorkspace:
    """A workspace; `standing_slack` starts one.

    Attributes
    ----------
    messages
        By channel, as history tells them: by ts. Replies have `thread_ts`. A webhook posts to the channel it names.
    calls
        Methods, in order of arrival, also of those that went wrong.
    problems
        What was wrong with calls, in words.
    faults
        What goes wrong with the next calls, one each: of any method, or of the one named beside it.
    fetches_images
        Whether the addresses of images can be reached.
    files_take
        So many messages with a new file are refused, until Slack has looked at it.
    """

    port: int = 0
    messages: dict[str, dict[str, dict[str, Any]]] = field(default_factory=lambda: {CHANNEL: {}, SANDBOX: {}})
    files: dict[str, bytes] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    faults: deque[tuple[Fault, str | None]] = field(default_factory=deque)
    fetches_images: bool = True
    files_take: int = 0
    _ready: set[str] = field(default_factory=set)
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def api_url(self) -> str:
        """Where the Web API is."""
        return f"http://127.0.0.1:{self.port}/api"

    def webhook_url(self, channel: str = CHANNEL) -> str:
        """Where messages for a channel go."""
        return f"http://127.0.0.1:{self.port}/services/{channel}"

    def will(self, fault: Fault, method: str | None = None) -> None:
        """Have the next call go wrong."""
        self.faults.append((fault, method))

    def posted(self, channel: str = CHANNEL) -> list[dict[str, Any]]:
        """The messages of a channel that are no replies, the oldest first."""
        return [each for each in self.messages[channel].values() if "thread_ts" not in each]

    def replies(self, channel: str = CHANNEL) -> list[dict[str, Any]]:
        """The replies of a channel, the oldest first."""
        return [each for each in self.messages[channel].values() if "thread_ts" in each]

    # ---- calls ----

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection's requests."""
        while True:
            path, headers, body = await _read_request(reader)
            method = path.rpartition("/")[2] if path.startswith("/api/") else path.split("/")[1]
            self.calls.append(method)
            fault = self._fault(method)
            if fault is Fault.SILENT:
                await reader.read()  # until the caller goes
                break
            if fault is Fault.GARBAGE:
                writer.write(_response("200 OK", "<html>not Slack</html>"))
                await writer.drain()
                continue
            answer = ("200 OK", "")
            if fault in _TAKEN:
                answer = self._answer(path, method, headers, body)
            if fault is Fault.SLOW:
                await asyncio.sleep(SLOW_S)
            if fault is Fault.LOST_ANSWER:
                break
            if fault is Fault.REFUSED:
                answer = ("200 OK", json.dumps({"ok": False, "error": "not_in_channel"}))
            status, extra = _STATUS.get(fault, (answer[0], "")) if fault else (answer[0], "")
            writer.write(_response(status, answer[1], extra))
            await writer.drain()

    def _fault(self, method: str) -> Fault | None:
        for entry in self.faults:
            if entry[1] in (None, method):
                self.faults.remove(entry)
                return entry[0]
        return None

    def _answer(self, path: str, method: str, headers: dict[str, str], body: bytes) -> tuple[str, str]:
        try:
            if path.startswith("/services/"):
                channel = path.rpartition("/")[2]
                message = _json(headers, body)
                self._check_message(message, {"text", "blocks"})
                self._add(channel, message)
                return "200 OK", "ok"
            if path.startswith("/upload/"):
                self.files[path.rpartition("/")[2]] = body
                return "200 OK", f"OK - {len(body)}"
            if headers.get("authorization") != f"Bearer {TOKEN}":
                raise _WrongError("invalid_auth")  # noqa: TRY301
            arguments = _form(headers, body) if method in _READ else _json(headers, body)
            return "200 OK", json.dumps({"ok": True, **self._call(method, arguments)})
        except _WrongError as error:
            self.problems.append(f"{method}: {error}")
            code = str(error).partition(":")[0]
            if path.startswith("/services/"):
                return "400 Bad Request", code
            return "200 OK", json.dumps({"ok": False, "error": code, "response_metadata": {"messages": [str(error)]}})

    def _call(self, method: str, arguments: dict[str, Any]) -> dict[str, Any]:
        match method:
            case "chat.postMessage":
                self._check_message(arguments, None)
                channel = arguments.pop("channel")
                if "thread_ts" in arguments and arguments["thread_ts"] not in self.messages[channel]:
                    raise _WrongError("thread_not_found")
                return {"channel": channel, "ts": self._add(channel, arguments)}
            case "chat.update":
                self._check_message(arguments, None)
                channel, ts = arguments.pop("channel"), arguments.pop("ts")
                if ts not in self.messages[channel]:
                    raise _WrongError("message_not_found")
                self.messages[channel][ts] |= arguments
                return {"channel": channel, "ts": ts}
            case "conversations.history":
                return self._page(self.posted(_known(self.messages, arguments)), arguments)
            case "conversations.replies":
                channel, ts = _known(self.messages, arguments), arguments["ts"]
                if ts not in self.messages[channel]:
                    raise _WrongError("thread_not_found")
                found = [each for each in self.messages[channel].values() if ts in (each["ts"], each.get("thread_ts"))]
                return self._page(found, arguments)
            case "files.getUploadURLExternal":
                if not (int(arguments["length"]) > 0 and arguments["filename"]):
                    raise _WrongError("invalid_arguments")
                file_id = f"F{next(self._numbers):010d}"
                return {"file_id": file_id, "upload_url": f"http://127.0.0.1:{self.port}/upload/{file_id}"}
            case "files.completeUploadExternal":
                for each in arguments["files"]:
                    if each["id"] not in self.files:
                        raise _WrongError("file_not_found")
                    self._ready.add(each["id"])
                return {"files": arguments["files"]}
            case _:
                raise _WrongError("unknown_method")

    def _add(self, channel: str, message: dict[str, Any]) -> str:
        ts = f"{int(time.time())}.{next(self._numbers):06d}"
        self.messages[channel][ts] = {**message, "ts": ts}
        return ts

    def _page(self, found: list[dict[str, Any]], arguments: dict[str, Any]) -> dict[str, Any]:
        if arguments.get("include_all_metadata") != "true":
            found = [{key: value for key, value in each.items() if key != "metadata"} for each in found]
        late = [each for each in found if float(each["ts"]) > float(arguments.get("oldest", 0))]
        first, limit = int(arguments.get("cursor") or 0), int(arguments.get("limit", 100))
        more = str(first + limit) if len(late) > first + limit else ""
        return {
            "messages": late[first : first + limit],
            "has_more": bool(more),
            "response_metadata": {"next_cursor": more},
        }

    def _check_message(self, message: dict[str, Any], only: set[str] | None) -> None:
        """Raise what is wrong with a message."""
        if only is None:
            _known(self.messages, message)
        elif set(message) - only:
            raise _WrongError(f"invalid_payload: {sorted(set(message) - only)}")
        if not message.get("text"):
            raise _WrongError("no_text: a message without text for those who see no blocks")
        blocks = message.get("blocks", [])
        if len(blocks) > _MAX_BLOCKS:
            raise _WrongError("invalid_blocks: more than 50")
        ids = [block["block_id"] for block in blocks if "block_id" in block]
        if len(ids) != len(set(ids)):
            raise _WrongError("invalid_blocks: a block_id twice")
        for block in blocks:
            self._check_block(block)
        payload = message.get("metadata", {"event_type": "", "event_payload": {}})
        if set(payload) != {"event_type", "event_payload"}:
            raise _WrongError("invalid_metadata_format")

    def _check_block(self, block: dict[str, Any]) -> None:
        kind = block["type"]
        texts = [block["text"]] if "text" in block else []
        for text in texts:
            _check_text(text, _TEXTS[kind])
        if kind == "header" and block["text"]["type"] != "plain_text":
            raise _WrongError("invalid_blocks: a header is plain text")
        if kind == "section":
            fields = block.get("fields", [])
            if (not texts and not fields) or len(fields) > 10:
                raise _WrongError("invalid_blocks: a section has a text or 1 to 10 fields")
            for each in fields:
                _check_text(each, 2000)
        elif kind == "image":
            _check_text(block["title"], 2000)
            if not block["alt_text"] or len({"image_url", "slack_file"} & set(block)) != 1:
                raise _WrongError("invalid_blocks: an image has an alt_text and one source")
            self._check_file(block)
        elif kind == "actions":
            for each in block["elements"]:
                _check_text(each["text"], 75)
                if (
                    not each["action_id"]
                    or len(each["value"]) > 2000
                    or each.get("style")
                    not in (
                        None,
                        "primary",
                        "danger",
                    )
                ):
                    raise _WrongError("invalid_blocks: a button")
        elif kind == "context":
            if not 1 <= len(block["elements"]) <= 10:
                raise _WrongError("invalid_blocks: a context has 1 to 10 elements")
            for each in block["elements"]:
                _check_text(each, 3000)
        elif kind != "header":
            raise _WrongError(f"invalid_blocks: {kind}")

    def _check_file(self, block: dict[str, Any]) -> None:
        if "slack_file" not in block:
            if not self.fetches_images:
                raise _WrongError("invalid_blocks: downloading image failed")
            return
        if block["slack_file"]["id"] not in self._ready:
            raise _WrongError("invalid_blocks: invalid slack file")
        if self.files_take:
            self.files_take -= 1
            raise _WrongError("invalid_blocks: invalid slack file, not looked at yet")


def _known(messages: dict[str, Any], arguments: dict[str, Any]) -> str:
    if arguments.get("channel") not in messages:
        raise _WrongError("channel_not_found")
    return str(arguments["channel"])


def _check_text(text: dict[str, Any], limit: int) -> None:
    said = text["text"]
    if text["type"] not in ("plain_text", "mrkdwn") or not 0 < len(said) <= limit:
        raise _WrongError(f"invalid_blocks: a text of {len(said)} characters, at most {limit}")
    plain = _MARKS.sub("", said) if text["type"] == "mrkdwn" else said
    if "<" in plain or ">" in plain or _BARE.search(plain):
        raise _WrongError(f"invalid_blocks: not escaped: {plain[:100]}")


def _json(headers: dict[str, str], body: bytes) -> dict[str, Any]:
    if headers.get("content-type", "").partition(";")[0] != "application/json":
        raise _WrongError("invalid_post_type")
    try:
        found = json.loads(body)
    except ValueError:
        raise _WrongError("invalid_json") from None
    if not isinstance(found, dict):
        raise _WrongError("json_not_object")
    return found


def _form(headers: dict[str, str], body: bytes) -> dict[str, Any]:
    if headers.get("content-type", "").partition(";")[0] != "application/x-www-form-urlencoded":
        raise _WrongError("invalid_post_type")
    return {name: values[0] for name, values in parse_qs(body.decode()).items()}


# ---- people ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Press:
    """A request of Slack's after somebody pressed a button."""

    headers: dict[str, str]
    body: bytes


_presses = itertools.count(1)


def press(
    action: str,
    value: str,
    *,
    user: str = "maria",
    user_id: str | None = None,
    secret: str = SIGNING_SECRET,
    at: float | None = None,
    message: dict[str, Any] | None = None,
    channel: str = CHANNEL,
) -> Press:
    """Return what Slack sends, correctly signed, when `user` presses the button with this action_id and value."""
    at = time.time() if at is None else at
    ts = (message or {}).get("ts", "1700000000.000100")
    payload = {
        "type": "block_actions",
        "user": {"id": user_id or f"U{user.upper()}", "username": user, "name": user, "team_id": "T0TRIAL"},
        "container": {"type": "message", "message_ts": ts, "channel_id": channel},
        "trigger_id": f"trigger.{next(_presses)}",
        "team": {"id": "T0TRIAL"},
        "channel": {"id": channel},
        "message": message or {"ts": ts},
        "actions": [{"type": "button", "action_id": action, "value": value, "action_ts": f"{at:.6f}"}],
    }
    return signed(urlencode({"payload": json.dumps(payload)}).encode(), secret=secret, at=at)


def signed(body: bytes, *, secret: str = SIGNING_SECRET, at: float | None = None) -> Press:
    """Return a request with a body, signed as Slack does."""
    timestamp = str(int(time.time() if at is None else at))
    digest = hmac.digest(secret.encode(), f"v0:{timestamp}:".encode() + body, "sha256").hex()
    return Press(
        {
            "Content-Type": "application/x-www-form-urlencoded",
            "X-Slack-Request-Timestamp": timestamp,
            "X-Slack-Signature": f"v0={digest}",
        },
        body,
    )


# ---- the server --------------------------------------------------------------------------------------------------


async def _read_request(reader: asyncio.StreamReader) -> tuple[str, dict[str, str], bytes]:
    """Read one request with a Content-Length."""
    _, target, _ = (await reader.readuntil(b"\r\n")).decode("latin-1").split(" ")
    headers: dict[str, str] = {}
    while line := (await reader.readuntil(b"\r\n")).decode("latin-1").strip():
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    return urlsplit(target).path, headers, await reader.readexactly(int(headers.get("content-length", "0")))


def _response(status: str, text: str, extra: str = "") -> bytes:
    data = text.encode()
    return f"HTTP/1.1 {status}\r\n{extra}Content-Length: {len(data)}\r\n\r\n".encode() + data


@contextlib.asynccontextmanager
async def standing_slack(port: int = 0) -> AsyncIterator[SlackWorkspace]:
    """Return a workspace on the loopback address, at a free port unless one is given, while the block runs."""
    workspace = SlackWorkspace()
    async with serving(workspace.serve, port) as workspace.port:
        yield workspace


async def _run(port: int) -> None:
    async with standing_slack(port) as workspace:
        print(f"api_url {workspace.api_url}, token {TOKEN}, channels {CHANNEL} and {SANDBOX}", flush=True)  # noqa: T201
        print(f"webhooks {workspace.webhook_url()} and {workspace.webhook_url(SANDBOX)}", flush=True)  # noqa: T201
        shown = 0
        while True:
            await asyncio.sleep(0.2)
            if len(workspace.calls) > shown:
                shown = len(workspace.calls)
                for problem in workspace.problems:
                    print(f"refused: {problem}", flush=True)  # noqa: T201
                workspace.problems.clear()
                print(json.dumps(workspace.messages, ensure_ascii=False), flush=True)  # noqa: T201


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8091, help="where to listen")
    options = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_run(options.port))
