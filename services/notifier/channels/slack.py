"""Slack: a message for each subject, brought up to date in place, with a thread that tells each change.

With a bot token all of that. With an incoming webhook nothing that was posted can be changed or asked for: changes are
messages of their own, and what had no answer ends UNKNOWN.

Sources: Slack's reference of chat.postMessage, chat.update, conversations.history, conversations.replies,
files.getUploadURLExternal, files.completeUploadExternal, and of incoming webhooks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Literal, Self

import httpx
import structlog
from pydantic import Field, SecretStr, model_validator

from services.notifier.channels import slack_message
from services.notifier.channels.channel import Answer, Earlier, Job, Prepared, TooManyRequestsError, UncertainError
from services.notifier.channels.common import CommonSettings
from services.notifier.channels.tools import Tools
from services.notifier.happenings import Happening
from shared.blobs.store import BlobStore
from shared.errors import InvalidInputError, PermanentError, TocsinError, TransientError
from shared.events.blob import BlobRef
from shared.events.gw import GwAlert, GwSkymap
from shared.events.notices import ChannelMode, DeliveryAction

EVENT_TYPE = "tocsin_delivery"
# Names our metadata on a message.
CLOCKS_DIFFER_S = 300.0
# Slack's clock and ours, when a message is looked for.
MAX_PAGES, PAGE = 20, 200
DEFAULT_RETRY_AFTER_S, MAX_RETRY_AFTER_S = 30.0, 3600.0
FILE_TRIES, FILE_PAUSE_S = 5, 0.5
# A file that was just uploaded is refused in a message for a moment, until Slack has looked at it.

_UNCERTAIN = {"internal_error", "fatal_error"}
# By Slack's words some of it may have succeeded.
_AGAIN = {"service_unavailable", "request_timeout", "team_added_to_org"}
_TOO_MANY = {"ratelimited", "rate_limited"}
_GONE = {"message_not_found", "cant_update_message", "edit_window_closed"}

log = structlog.get_logger(__name__)


class SlackSettings(CommonSettings):
    """A Slack channel: by the token of a bot, or by an incoming webhook where there is none."""

    kind: Literal["slack"] = "slack"
    bot_token: SecretStr | None = Field(None, description="xoxb-…; without it the webhooks are used.")
    channel: str | None = Field(
        None, pattern=r"^[CGD][A-Z0-9]{2,}$", description="Id of the channel in mode PRODUCTION."
    )
    sandbox_channel: str | None = Field(
        None, pattern=r"^[CGD][A-Z0-9]{2,}$", description="Id of the channel in mode SANDBOX."
    )
    webhook_url: SecretStr | None = Field(None, description="Incoming webhook for mode PRODUCTION; a secret.")
    sandbox_webhook_url: SecretStr | None = Field(None, description="Incoming webhook for mode SANDBOX; a secret.")
    api_url: str = Field("https://slack.com/api", pattern=r"^https?://\S+[^/\s]$", description="Slack's Web API.")
    public_images_url: str | None = Field(
        None,
        pattern=r"^https?://\S+$",
        description="Where Slack can fetch images of bursts: this, and /api/v1/events/ID/images/NAME. Without it a bot"
        " uploads them, and a webhook shows none.",
    )

    @property
    def draws(self) -> bool:
        """Whether pictures of sky maps are shown."""
        return self.bot_token is not None and self.mode in (ChannelMode.SANDBOX, ChannelMode.PRODUCTION)

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        if self.mode in (ChannelMode.SANDBOX, ChannelMode.PRODUCTION):
            prefix = "sandbox_" if self.mode is ChannelMode.SANDBOX else ""
            needed = f"{prefix}{'channel' if self.bot_token else 'webhook_url'}"
            if getattr(self, needed) is None:
                raise InvalidInputError(needed, "missing", f"where messages go in mode {self.mode}")
        return self

    def channel_in(self, mode: ChannelMode) -> str | None:
        """Return the channel of a mode."""
        return self.sandbox_channel if mode is ChannelMode.SANDBOX else self.channel


class SlackChannel:
    """Tells the newest state of everything."""

    kind = "slack"
    replaces = True
    gathers = True

    def __init__(
        self,
        settings: SlackSettings,
        *,
        http: httpx.AsyncClient,
        blobs: BlobStore,
        draw: Callable[[BlobRef, str], Awaitable[bytes]],
        site_url: str,
    ) -> None:
        self.name = settings.name
        self._settings = settings
        self._http = http
        self._blobs = blobs
        self._draw = draw
        self._site_url = site_url

    def wants(self, happening: Happening, *, told_before: bool) -> bool:
        """Everything but what something newer has overtaken; a sky map adds to the message of its alert."""
        record = happening.record
        if isinstance(record, GwSkymap):
            return record.is_current and told_before
        return record.is_current or happening.is_over if isinstance(record, GwAlert) else True

    def prepare(self, job: Job) -> Prepared | None:
        message = slack_message.describe(job, site_url=self._site_url)
        if message is None:
            return None
        found: list[str] = []
        # What was told elsewhere, to try it out, nobody here has read.
        earlier = [each for each in job.earlier if each.answer.get("mode") == job.mode]
        before = earlier[-1].answer["told"] if earlier else None
        if before is not None:
            found = slack_message.changes(message, before)
            if not found and job.action is not DeliveryAction.RETRACTION:
                return None
        text = {
            "text": slack_message.fallback(message),
            "blocks": slack_message.blocks(message, images_url=self._settings.public_images_url),
        }
        changed = {
            "text": slack_message.change_text(message, found),
            "blocks": slack_message.change_blocks(message, found),
        }
        request: dict[str, Any] = {"told": message.told}
        if self._settings.bot_token is None:
            # What was posted stays as it is, so a change is told beside it.
            sent = text if before is None else self._beside(message, changed)
            return Prepared({**request, "message": _without_sourceless(sent)})
        reference = next((each.reference for each in reversed(earlier) if each.reference), None)
        channel, _, ts = (reference or "").partition(":")
        request |= {
            "channel": channel or self._settings.channel_in(job.mode),
            "message": text,
            "delivery": f"{self.name}/{job.happening.event_id}",
            "oldest": f"{job.decided_at.timestamp() - CLOCKS_DIFFER_S:.6f}",
            "files": _files(job.earlier),  # of the workspace, wherever they were shown
        }
        if self._settings.public_images_url is None:
            kept = [each for each in message.pictures if each.path is not None]
            request["uploads"] = {each.block_id: each.blob.model_dump() for each in kept}
        request["drawings"] = {
            each.block_id: {"skymap": each.blob.model_dump(), "title": each.title}
            for each in message.pictures
            if each.path is None
        }
        if ts:
            over = job.action is DeliveryAction.RETRACTION
            # Who read the message long ago must hear that it holds no more.
            request |= {"ts": ts, "reply": {**changed, "reply_broadcast": over}}
        return Prepared(request)

    @staticmethod
    def _beside(message: slack_message.Message, changed: dict[str, Any]) -> dict[str, Any]:
        headed, *_ = slack_message.blocks(message, images_url=None)
        return {**changed, "blocks": [headed, *changed["blocks"]][: slack_message.MAX_BLOCKS]}

    async def send(self, prepared: Prepared, *, mode: ChannelMode) -> Answer:
        request = prepared.request
        if "delivery" not in request:
            return await self._send_by_webhook(request, mode)
        files = dict(request["files"])
        if "ts" in request and await self._update(request, files):
            channel, ts = request["channel"], request["ts"]
            await self._illustrate(request, channel, ts, files)
            await self._call(
                "chat.postMessage",
                {"channel": channel, "thread_ts": ts, **request["reply"], **_metadata(request)},
            )
        else:
            channel, ts = await self._post(request, files)
            await self._illustrate(request, channel, ts, files)
        return _answer(request, mode, channel, ts, files)

    async def confirm(self, prepared: Prepared, answer: Answer, *, mode: ChannelMode) -> Answer:  # noqa: ARG002
        return answer

    async def check(self, prepared: Prepared, *, mode: ChannelMode) -> Answer | None:
        request = prepared.request
        if "delivery" not in request:
            raise UncertainError("a webhook cannot be asked what arrived")
        try:
            if "ts" in request:
                reply = await self._find(request, "conversations.replies", ts=request["ts"])
                if reply is not None:
                    return _answer(request, mode, request["channel"], request["ts"], request["files"])
            found = await self._find(request, "conversations.history")
        except PermanentError as error:
            raise UncertainError(f"Slack does not let us look: {error}") from error
        if found is None:
            return None
        files = {**request["files"], **_files_shown(found)}
        return _answer(request, mode, request["channel"], found["ts"], files)

    async def run(self) -> None:
        """Nothing beside."""

    # ---- by webhook ----

    async def _send_by_webhook(self, request: Mapping[str, Any], mode: ChannelMode) -> Answer:
        sandbox = mode is ChannelMode.SANDBOX
        url = self._settings.sandbox_webhook_url if sandbox else self._settings.webhook_url
        if url is None:
            raise PermanentError(f"channel {self.name} has no webhook for mode {mode}")
        message = request["message"]
        try:
            await self._post_to_webhook(url.get_secret_value(), message)
        except _RefusedError as error:
            if error.code not in ("invalid_blocks", "invalid_attachments") or not _has_images(message):
                raise
            # An image that Slack cannot fetch must not hold back the news.
            log.warning("slack.images.refused", channel=self.name, reason=str(error))
            await self._post_to_webhook(url.get_secret_value(), _without_images(message))
        return Answer(None, {"told": request["told"], "mode": mode}, is_confirmed=True)

    async def _post_to_webhook(self, url: str, message: Mapping[str, Any]) -> None:
        response = await self._request("POST", url, json=message)
        said = response.text[:200]
        if response.status_code == httpx.codes.OK:
            if said.strip() != "ok":
                raise UncertainError(f"an answer that is not Slack's: {said!r}")
            return
        if response.status_code == httpx.codes.INTERNAL_SERVER_ERROR:
            # Documented as rollup_error: nothing was posted. What a gateway answers says less.
            raise TransientError(f"answer 500: {said!r}")
        _raise_for_status(response)
        raise _RefusedError(said.strip() or f"answer {response.status_code}")

    # ---- by bot ----

    async def _post(self, request: Mapping[str, Any], files: Mapping[str, str]) -> tuple[str, str]:
        if request["channel"] is None:
            raise PermanentError(f"channel {self.name} has no Slack channel")
        body = {"channel": request["channel"], **_metadata(request), "unfurl_links": False, "unfurl_media": False}
        message = _with_files(request["message"], files)
        try:
            answer = await self._call("chat.postMessage", {**body, **message})
        except _RefusedError as error:
            if error.code != "invalid_blocks" or not _has_images(message):
                raise
            log.warning("slack.images.refused", channel=self.name, reason=str(error))
            answer = await self._call("chat.postMessage", {**body, **_without_images(message)})
        ts, channel = answer.get("ts"), answer.get("channel")
        if not isinstance(ts, str) or not isinstance(channel, str):
            raise UncertainError("an answer without channel and ts")
        return channel, ts

    async def _update(self, request: Mapping[str, Any], files: Mapping[str, str]) -> bool:
        """Bring the message up to date; False when it cannot be any more, because somebody deleted it."""
        message = _with_files(request["message"], files)
        body = {"channel": request["channel"], "ts": request["ts"], "parse": "none"}
        try:
            try:
                await self._call("chat.update", {**body, **message})
            except _RefusedError as error:
                if error.code != "invalid_blocks" or not _has_images(message):
                    raise
                log.warning("slack.images.refused", channel=self.name, reason=str(error))
                await self._call("chat.update", {**body, **_without_images(message)})
        except _RefusedError as error:
            if error.code not in _GONE:
                raise
            return False
        return True

    async def _illustrate(self, request: Mapping[str, Any], channel: str, ts: str, files: dict[str, str]) -> None:
        """Upload the pictures that the message does not show yet, and put them in.

        The news is out by then: a picture that cannot be shown is logged, and tried again with the next change.
        """
        uploads, drawings = request.get("uploads", {}), request.get("drawings", {})
        missing = [block for block in (*uploads, *drawings) if block not in files]
        if not missing:
            return
        try:
            async with asyncio.timeout(self._settings.timeout_s / 2):
                for block in missing:
                    if block in drawings:
                        skymap = BlobRef.model_validate(drawings[block]["skymap"])
                        data, media_type = await self._draw(skymap, drawings[block]["title"]), "image/png"
                    else:
                        blob = BlobRef.model_validate(uploads[block])
                        data, media_type = await asyncio.to_thread(self._blobs.get, blob), blob.media_type
                    files[block] = await self._upload(block, data, media_type)
                await self._show(_with_files(request["message"], files), channel, ts)
        except Exception as error:
            # Whatever a map does to who draws it, the news was told.
            for block in missing:
                files.pop(block, None)
            bug = not isinstance(error, TocsinError | TimeoutError)
            reason = str(error) or ("it took too long" if isinstance(error, TimeoutError) else repr(error))
            log.warning("slack.images.missing", channel=self.name, reason=reason, exc_info=bug)

    async def _show(self, message: Mapping[str, Any], channel: str, ts: str) -> None:
        for left in reversed(range(FILE_TRIES)):
            try:
                await self._call("chat.update", {"channel": channel, "ts": ts, "parse": "none", **message})
            except _RefusedError as error:
                if error.code != "invalid_blocks" or not left:
                    raise
                await asyncio.sleep(FILE_PAUSE_S)
            else:
                return

    async def _upload(self, block_id: str, data: bytes, media_type: str) -> str:
        """Upload a picture, shown nowhere yet; return the id of the file."""
        name = f"{block_id.partition('-')[0]}.{media_type.rpartition('/')[2]}"
        place = await self._call("files.getUploadURLExternal", {"filename": name, "length": len(data)}, as_form=True)
        response = await self._request("POST", str(place.get("upload_url")), content=data)
        if response.status_code != httpx.codes.OK:
            raise TransientError(f"the upload was answered with {response.status_code}")
        file_id = str(place.get("file_id"))
        await self._call("files.completeUploadExternal", {"files": [{"id": file_id, "title": name}]})
        return file_id

    async def _find(self, request: Mapping[str, Any], method: str, **more: str) -> dict[str, Any] | None:
        """Return the message that this delivery posted, if it did."""
        arguments = {"channel": request["channel"], "include_all_metadata": "true", "limit": str(PAGE), **more}
        arguments["oldest"] = request["oldest"]
        for _ in range(MAX_PAGES):
            try:
                page = await self._call(method, arguments, as_form=True)
            except _RefusedError as error:
                if error.code != "thread_not_found":
                    raise
                return None
            except UncertainError as error:
                # Looking changes nothing: it is looked again.
                raise TransientError(str(error)) from error
            for message in page.get("messages", []):
                metadata = message.get("metadata") or {}
                payload = metadata.get("event_payload") or {}
                if metadata.get("event_type") == EVENT_TYPE and payload.get("delivery") == request["delivery"]:
                    return dict(message)
            cursor = (page.get("response_metadata") or {}).get("next_cursor")
            if not cursor:
                return None
            arguments["cursor"] = cursor
        raise UncertainError(f"not among the last {MAX_PAGES * PAGE} messages of {request['channel']}")

    async def _call(self, method: str, arguments: Mapping[str, Any], *, as_form: bool = False) -> dict[str, Any]:
        """Return Slack's answer to a method of its Web API. Methods that read take no JSON."""
        assert self._settings.bot_token is not None
        headers = {"Authorization": f"Bearer {self._settings.bot_token.get_secret_value()}"}
        body: dict[str, Any] = {"data": arguments} if as_form else {"json": arguments}
        response = await self._request("POST", f"{self._settings.api_url}/{method}", headers=headers, **body)
        _raise_for_status(response)
        try:
            answer = response.json()
        except ValueError:
            answer = None
        if not isinstance(answer, dict) or not isinstance(answer.get("ok"), bool):
            raise UncertainError(f"{method}: an answer that is not Slack's: {response.text[:100]!r}")
        if answer["ok"]:
            return answer
        code = str(answer.get("error"))
        said = f"{method}: {code}"
        if code in _TOO_MANY:
            raise TooManyRequestsError(said, retry_after_s=_retry_after_s(response))
        if code in _AGAIN:
            raise TransientError(said)
        if code in _UNCERTAIN:
            raise UncertainError(said)
        raise _RefusedError(code, f"{said} {_complaints(answer)}".rstrip())

    async def _request(self, verb: str, url: str, **arguments: Any) -> httpx.Response:
        try:
            return await self._http.request(
                verb, url, timeout=self._settings.timeout_s, follow_redirects=False, **arguments
            )
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise TransientError(f"Slack is not reached: {type(error).__name__}") from error
        except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
            raise PermanentError("the address is none") from error
        except httpx.HTTPError as error:
            # Without its words: they may name the webhook, which is a secret.
            raise UncertainError(f"no answer from Slack: {type(error).__name__}") from error


class _RefusedError(PermanentError):
    """Slack says no; `code` in its own word."""

    def __init__(self, code: str, reason: str | None = None) -> None:
        super().__init__(f"Slack refuses: {reason or code}")
        self.code = code


def open_slack(settings: SlackSettings, tools: Tools) -> SlackChannel:
    """Return the channel."""
    return SlackChannel(settings, http=tools.http, blobs=tools.blobs, draw=tools.draw, site_url=tools.site_url)


def _answer(request: Mapping[str, Any], mode: ChannelMode, channel: str, ts: str, files: Mapping[str, str]) -> Answer:
    kept = {"told": request["told"], "mode": mode, "files": dict(files)}
    return Answer(f"{channel}:{ts}", kept, is_confirmed=True)


def _raise_for_status(response: httpx.Response) -> None:
    """Raise what a status means that says it all; a 4xx of a webhook and every 200 say more in the body."""
    status = response.status_code
    if status == httpx.codes.TOO_MANY_REQUESTS:
        raise TooManyRequestsError("Slack asks for patience", retry_after_s=_retry_after_s(response))
    if status == httpx.codes.SERVICE_UNAVAILABLE:
        raise TransientError("answer 503")
    if response.is_server_error:
        raise UncertainError(f"answer {status}")
    if response.is_redirect:
        raise PermanentError(f"answer {status}: redirects are not followed")


def _retry_after_s(response: httpx.Response) -> float:
    value = response.headers.get("Retry-After", "")
    return min(float(value), MAX_RETRY_AFTER_S) if value.isdecimal() else DEFAULT_RETRY_AFTER_S


def _complaints(answer: Mapping[str, Any]) -> str:
    """Return what Slack says is wrong with blocks."""
    messages = (answer.get("response_metadata") or {}).get("messages") or answer.get("errors") or []
    return "; ".join(str(each) for each in messages)[:500]


def _metadata(request: Mapping[str, Any]) -> dict[str, Any]:
    return {"metadata": {"event_type": EVENT_TYPE, "event_payload": {"delivery": request["delivery"]}}}


def _files(earlier: Sequence[Earlier]) -> dict[str, str]:
    """Return the files that were uploaded for earlier messages, by their blocks."""
    return {block: file for each in earlier for block, file in each.answer.get("files", {}).items()}


def _files_shown(message: Mapping[str, Any]) -> dict[str, str]:
    return {
        block["block_id"]: block["slack_file"]["id"]
        for block in message.get("blocks", [])
        if block.get("type") == "image" and block.get("slack_file", {}).get("id") and block.get("block_id")
    }


def _with_files(message: Mapping[str, Any], files: Mapping[str, str]) -> dict[str, Any]:
    """Return a message whose images have the files that there are; those without are left out."""
    shown = [
        {**block, "slack_file": {"id": files[block["block_id"]]}}
        if block["type"] == "image" and "image_url" not in block and block["block_id"] in files
        else block
        for block in message["blocks"]
    ]
    return _without_sourceless({**message, "blocks": shown})


def _without_sourceless(message: Mapping[str, Any]) -> dict[str, Any]:
    kept = [b for b in message["blocks"] if b["type"] != "image" or "image_url" in b or "slack_file" in b]
    return {**message, "blocks": kept}


def _has_images(message: Mapping[str, Any]) -> bool:
    return any(block["type"] == "image" for block in message["blocks"])


def _without_images(message: Mapping[str, Any]) -> dict[str, Any]:
    return {**message, "blocks": [block for block in message["blocks"] if block["type"] != "image"]}
