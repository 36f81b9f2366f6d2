"""Slack through a workspace that keeps Slack's rules, and that is not always well."""

import asyncio
import io
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from matplotlib.image import imread

from services.notifier import dispatcher, pictures
from services.notifier.channels.channel import Answer, Earlier, Prepared, TooManyRequestsError, UncertainError
from services.notifier.channels.slack import SlackChannel, SlackSettings
from shared.blobs.store import FolderBlobs
from shared.compute import ComputePool, WorkerDiedError
from shared.errors import PermanentError, TransientError
from shared.events.blob import BlobRef
from shared.events.frb import FrbChange, FrbEvent, FrbImage, FrbVotes
from shared.events.notices import ChannelMode, DeliveryAction
from shared.settings import BlobSettings, DatabaseSettings
from shared.testing.slack import CHANNEL, SANDBOX, TOKEN, Fault, SlackWorkspace, standing_slack
from tests.support import notifier_schema
from tests.support.data import SAMPLES
from tests.support.jobs import a_job, an_example
from tests.support.notifier import NotifierUnderTest

database, pool = notifier_schema.database, notifier_schema.pool

PRODUCTION = ChannelMode.PRODUCTION
MEASURED, CHIME = "frb_event/upload-measured-twice", "frb_event/chime-notice"


@pytest.fixture
async def slack() -> AsyncIterator[SlackWorkspace]:
    async with standing_slack() as standing:
        yield standing


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient() as client:
        yield client


@pytest.fixture
def blobs(tmp_path: Path) -> FolderBlobs:
    return FolderBlobs(tmp_path, max_bytes=10**6)


@pytest.fixture
def bot(slack: SlackWorkspace, http: httpx.AsyncClient, blobs: FolderBlobs) -> SlackChannel:
    return a_channel(slack, http, blobs)


async def a_drawing(skymap: BlobRef, title: str) -> bytes:
    return f"{title}, drawn of {skymap.sha256}".encode()


def a_channel(
    slack: SlackWorkspace,
    http: httpx.AsyncClient,
    blobs: FolderBlobs,
    draw: Callable[[BlobRef, str], Awaitable[bytes]] = a_drawing,
    **changes: Any,
) -> SlackChannel:
    values = {
        "name": "slack",
        "api_url": slack.api_url,
        "bot_token": TOKEN,
        "channel": CHANNEL,
        "sandbox_channel": SANDBOX,
        "webhook_url": slack.webhook_url(),
        "sandbox_webhook_url": slack.webhook_url(SANDBOX),
        "timeout_s": 1.0,
    }
    settings = SlackSettings.model_validate(values | changes)
    return SlackChannel(settings, http=http, blobs=blobs, draw=draw, site_url="https://tocsin.example")


def pictured(blobs: FolderBlobs, **changes: Any) -> FrbEvent:
    """A burst with three pictures that are there."""
    names = ("search", "image", "histogram")
    kept = [blobs.put(f"the picture {name}".encode(), "image/png") for name in names]
    images = [FrbImage(name=n, blob=b, width_px=1, height_px=1) for n, b in zip(names, kept, strict=True)]
    burst: FrbEvent = an_example(MEASURED, images=tuple(images), **changes)
    return burst


def prepared(channel: SlackChannel, record: Any = CHIME, answer: Answer | None = None, **more: Any) -> Prepared:
    """A delivery of a record, the second one after `answer`."""
    earlier = [Earlier(1, DeliveryAction.NEW, answer.reference, answer.answer)] if answer else []
    made = channel.prepare(a_job(record, revision=1 + len(earlier), earlier=earlier, **more))
    assert made is not None
    return made


def voted(**changes: Any) -> FrbEvent:
    votes = FrbVotes(confirm=1, reject=0, unsure=0)
    burst: FrbEvent = an_example(CHIME, change=FrbChange.RATED, changed_by="slack:maria", votes=votes, **changes)
    return burst


def images(message: dict[str, Any]) -> list[dict[str, Any]]:
    return [block for block in message["blocks"] if block["type"] == "image"]


# ---- by bot ------------------------------------------------------------------------------------------------------


async def test_a_burst_is_posted_and_then_shows_its_pictures(
    slack: SlackWorkspace, bot: SlackChannel, blobs: FolderBlobs
) -> None:
    answer = await bot.send(prepared(bot, pictured(blobs)), mode=PRODUCTION)

    (message,) = slack.posted()
    assert answer.is_confirmed
    assert answer.reference == f"{CHANNEL}:{message['ts']}"
    shown = [slack.files[block["slack_file"]["id"]] for block in images(message)]
    assert shown == [b"the picture search", b"the picture image", b"the picture histogram"]
    # The news first, the pictures as soon as they are there.
    assert slack.calls[0] == "chat.postMessage"
    assert not slack.problems


async def test_a_file_that_slack_has_not_looked_at_yet_is_waited_for(
    slack: SlackWorkspace, http: httpx.AsyncClient, blobs: FolderBlobs
) -> None:
    bot = a_channel(slack, http, blobs, timeout_s=5.0)
    slack.files_take = 2
    await bot.send(prepared(bot, pictured(blobs)), mode=PRODUCTION)
    assert len(images(slack.posted()[0])) == 3


@pytest.mark.parametrize("fault", [Fault.BROKEN, Fault.TOO_MANY, Fault.REFUSED, Fault.GARBAGE, Fault.LOST_ANSWER])
async def test_news_without_pictures_is_news_and_the_next_change_brings_them(
    slack: SlackWorkspace, bot: SlackChannel, blobs: FolderBlobs, fault: Fault
) -> None:
    slack.will(fault, "files.getUploadURLExternal")
    answer = await bot.send(prepared(bot, pictured(blobs)), mode=PRODUCTION)
    assert answer.is_confirmed
    assert not images(slack.posted()[0])

    burst = pictured(blobs, tns_name="FRB 20171117B")
    await bot.send(prepared(bot, burst, answer), mode=PRODUCTION)
    assert len(images(slack.posted()[0])) == 3


async def test_an_alert_shows_its_map_as_soon_as_it_is_read_and_uploads_it_once(
    slack: SlackWorkspace, bot: SlackChannel
) -> None:
    alert, skymap = an_example("gw_alert/real-initial"), an_example("gw_skymap/real-initial")
    skymap = skymap.model_copy(update={"alert_event_id": alert.event_id, "superevent_id": alert.superevent_id})
    first = await bot.send(prepared(bot, alert, related=[alert]), mode=PRODUCTION)
    assert not images(slack.posted()[0])
    assert not slack.files

    second = await bot.send(prepared(bot, skymap, first, related=[alert, skymap]), mode=PRODUCTION)
    (message,) = slack.posted()
    (image,) = images(message)
    title = f"Sky map of {alert.superevent_id}"
    assert slack.files[image["slack_file"]["id"]] == await a_drawing(skymap.skymap.canonical, title)
    assert "Area" in slack.replies()[-1]["text"]

    pair = an_example("coincidence/initial")
    await bot.send(prepared(bot, skymap, second, related=[alert, skymap, pair]), mode=PRODUCTION)
    assert images(slack.posted()[0]) == [image]
    assert len(slack.files) == 1
    assert not slack.problems


async def test_a_coincidence_shows_its_combined_map_until_it_is_taken_back(
    slack: SlackWorkspace, bot: SlackChannel
) -> None:
    pair = an_example("coincidence/initial")
    first = await bot.send(prepared(bot, pair), mode=PRODUCTION)
    (image,) = images(slack.posted()[0])
    drawn = await a_drawing(pair.scores.combined_skymap, image["alt_text"])
    assert slack.files[image["slack_file"]["id"]] == drawn

    await bot.send(prepared(bot, "coincidence/retraction", first), mode=PRODUCTION)
    (message,) = slack.posted()
    assert "RETRACTED" in message["text"]
    assert not images(message)


@pytest.mark.parametrize(
    "error",
    [PermanentError("no map"), WorkerDiedError("too large"), ValueError("a bug"), MemoryError(), TimeoutError()],
    ids=repr,
)
async def test_a_map_that_cannot_be_drawn_holds_back_nothing_and_is_tried_again(
    slack: SlackWorkspace, http: httpx.AsyncClient, blobs: FolderBlobs, error: Exception
) -> None:
    errors = [error]

    async def draw(skymap: BlobRef, title: str) -> bytes:
        if errors:
            raise errors.pop()
        return await a_drawing(skymap, title)

    bot = a_channel(slack, http, blobs, draw)
    first = await bot.send(prepared(bot, "coincidence/initial"), mode=PRODUCTION)
    assert first.is_confirmed
    assert not images(slack.posted()[0])

    await bot.send(prepared(bot, "coincidence/update", first), mode=PRODUCTION)
    (message,) = slack.posted()
    assert len(images(message)) == 1


async def test_a_map_that_takes_too_long_is_not_waited_for(
    slack: SlackWorkspace, http: httpx.AsyncClient, blobs: FolderBlobs
) -> None:
    async def draw(skymap: BlobRef, title: str) -> bytes:
        await asyncio.Event().wait()
        raise AssertionError

    bot = a_channel(slack, http, blobs, draw)
    answer = await asyncio.wait_for(bot.send(prepared(bot, "coincidence/initial"), mode=PRODUCTION), 10)
    assert answer.is_confirmed
    assert len(slack.posted()) == 1


async def test_a_worker_draws_a_map_of_the_blob_store(
    slack: SlackWorkspace, http: httpx.AsyncClient, tmp_path: Path
) -> None:
    blobs = FolderBlobs(tmp_path, max_bytes=10**8)
    settings = BlobSettings(url=str(tmp_path))
    kept = blobs.put((SAMPLES / "skymaps" / "GW170817_skymap.fits").read_bytes(), "application/fits")
    pair = an_example("coincidence/initial")
    pair = pair.model_copy(update={"scores": pair.scores.model_copy(update={"combined_skymap": kept})})
    pool = ComputePool(workers=1, preload=())
    try:
        await pool.run(pictures.warm_up)

        async def draw(skymap: BlobRef, title: str) -> bytes:
            return await pool.run(pictures.draw_map, settings, skymap, title)

        bot = a_channel(slack, http, blobs, draw, timeout_s=60.0)
        await bot.send(prepared(bot, pair), mode=PRODUCTION)
    finally:
        pool.close()
    (image,) = images(slack.posted()[0])
    assert imread(io.BytesIO(slack.files[image["slack_file"]["id"]])).shape[:2] == (702, 1248)


async def test_a_change_updates_in_place_and_tells_the_thread(
    slack: SlackWorkspace, bot: SlackChannel, blobs: FolderBlobs
) -> None:
    first = await bot.send(prepared(bot, pictured(blobs)), mode=PRODUCTION)
    uploads = len(slack.files)
    changed = pictured(blobs, change=FrbChange.NAMED, changed_by="notifier", tns_name="FRB 20171117B")
    second = await bot.send(prepared(bot, changed, first), mode=PRODUCTION)

    assert second.reference == first.reference
    (message,) = slack.posted()
    (reply,) = slack.replies()
    assert "FRB 20171117B" in message["text"]
    assert len(images(message)) == 3
    assert len(slack.files) == uploads  # no picture twice
    assert reply["thread_ts"] == message["ts"]
    assert reply["text"].endswith("Named by notifier; TNS name: FRB 20171117A → FRB 20171117B")


async def test_a_message_that_somebody_deleted_is_posted_anew(slack: SlackWorkspace, bot: SlackChannel) -> None:
    first = await bot.send(prepared(bot), mode=PRODUCTION)
    slack.messages[CHANNEL].clear()
    second = await bot.send(prepared(bot, voted(), first), mode=PRODUCTION)
    (message,) = slack.posted()
    assert second.reference == f"{CHANNEL}:{message['ts']}"


@pytest.mark.parametrize("token", [TOKEN, None])
async def test_what_the_sandbox_was_told_is_new_to_production(
    slack: SlackWorkspace, http: httpx.AsyncClient, blobs: FolderBlobs, token: str | None
) -> None:
    channel, sandbox = a_channel(slack, http, blobs, bot_token=token), ChannelMode.SANDBOX
    first = await channel.send(prepared(channel, mode=sandbox), mode=sandbox)
    assert (len(slack.posted(SANDBOX)), len(slack.posted())) == (1, 0)

    await channel.send(prepared(channel, voted(), first), mode=PRODUCTION)
    assert (len(slack.messages[SANDBOX]), len(slack.messages[CHANNEL])) == (1, 1)
    assert slack.posted()[0]["blocks"][-2]["type"] == "actions"


@pytest.mark.parametrize(
    ("fault", "error", "arrived"),
    [
        (Fault.TOO_MANY, TooManyRequestsError, False),
        (Fault.UNAVAILABLE, TransientError, False),
        (Fault.BROKEN, UncertainError, False),
        (Fault.ACCEPTED_BUT_504, UncertainError, True),
        (Fault.LOST_ANSWER, UncertainError, True),
        (Fault.SILENT, UncertainError, False),
        (Fault.GARBAGE, UncertainError, False),
        (Fault.REFUSED, PermanentError, False),
    ],
)
@pytest.mark.parametrize("is_update", [False, True])
async def test_faults_are_told_apart_and_nothing_is_posted_twice(
    slack: SlackWorkspace, bot: SlackChannel, fault: Fault, error: type[Exception], arrived: bool, is_update: bool
) -> None:
    first = await bot.send(prepared(bot), mode=PRODUCTION) if is_update else None
    # What is told now is not the message of before.
    request = prepared(bot, voted(event_id=an_example(MEASURED).event_id), first)
    request.request["oldest"] = "0"
    slack.will(fault, "chat.postMessage")

    with pytest.raises(error) as caught:
        await bot.send(request, mode=PRODUCTION)
    assert TOKEN not in str(caught.value)
    if error is PermanentError:
        return
    if error is not UncertainError:
        assert not isinstance(caught.value, UncertainError)

    found = await bot.check(request, mode=PRODUCTION)
    assert (found is not None) == arrived
    if found is None:
        found = await bot.send(request, mode=PRODUCTION)
    assert found.answer["told"] == request.request["told"]
    assert len(slack.posted()) == 1
    assert len(slack.replies()) == is_update
    assert found.reference == f"{CHANNEL}:{slack.posted()[0]['ts']}"


async def test_patience_is_as_long_as_slack_asks(slack: SlackWorkspace, bot: SlackChannel) -> None:
    slack.will(Fault.TOO_MANY)
    with pytest.raises(TooManyRequestsError) as caught:
        await bot.send(prepared(bot), mode=PRODUCTION)
    assert caught.value.retry_after_s == 7


async def test_slow_is_not_broken(slack: SlackWorkspace, bot: SlackChannel) -> None:
    slack.will(Fault.SLOW)
    assert (await bot.send(prepared(bot), mode=PRODUCTION)).is_confirmed


async def test_nobody_there_means_that_nothing_arrived(http: httpx.AsyncClient, blobs: FolderBlobs) -> None:
    bot = a_channel(SlackWorkspace(port=1), http, blobs)
    with pytest.raises(TransientError) as caught:
        await bot.send(prepared(bot), mode=PRODUCTION)
    assert not isinstance(caught.value, UncertainError)


async def test_a_post_is_found_far_back_and_with_its_pictures(
    slack: SlackWorkspace, bot: SlackChannel, blobs: FolderBlobs
) -> None:
    request = prepared(bot, pictured(blobs))
    await bot.send(request, mode=PRODUCTION)
    for number in range(450):
        ts = f"{time.time() + 1:.0f}.{number:06d}"
        slack.messages[CHANNEL][ts] = {"ts": ts, "text": "chatter"}

    found = await bot.check(request, mode=PRODUCTION)
    assert found is not None
    assert len(found.answer["files"]) == 3


@pytest.mark.parametrize("fault", [Fault.BROKEN, Fault.GARBAGE, Fault.LOST_ANSWER, Fault.TOO_MANY])
async def test_a_look_that_fails_is_taken_again(slack: SlackWorkspace, bot: SlackChannel, fault: Fault) -> None:
    slack.will(fault, "conversations.history")
    with pytest.raises(TransientError) as caught:
        await bot.check(prepared(bot), mode=PRODUCTION)
    assert not isinstance(caught.value, UncertainError)


async def test_where_slack_does_not_let_us_look_nobody_can_tell(slack: SlackWorkspace, bot: SlackChannel) -> None:
    slack.will(Fault.REFUSED, "conversations.history")
    with pytest.raises(UncertainError, match="not_in_channel"):
        await bot.check(prepared(bot), mode=PRODUCTION)


async def test_a_wrong_token_is_a_refusal(slack: SlackWorkspace, http: httpx.AsyncClient, blobs: FolderBlobs) -> None:
    bot = a_channel(slack, http, blobs, bot_token="xoxb-another")
    with pytest.raises(PermanentError, match="invalid_auth"):
        await bot.send(prepared(bot), mode=PRODUCTION)


# ---- by webhook --------------------------------------------------------------------------------------------------


@pytest.fixture
def hook(slack: SlackWorkspace, http: httpx.AsyncClient, blobs: FolderBlobs) -> SlackChannel:
    return a_channel(slack, http, blobs, bot_token=None)


async def test_a_webhook_posts_and_tells_changes_in_messages_of_their_own(
    slack: SlackWorkspace, hook: SlackChannel
) -> None:
    first = await hook.send(prepared(hook), mode=PRODUCTION)
    await hook.send(prepared(hook, voted(), first), mode=PRODUCTION)

    assert first.reference is None
    new, change = slack.posted()
    assert new["blocks"][-2]["type"] == "actions"
    assert "1 confirm" in change["text"]
    assert not slack.problems


async def test_a_webhook_shows_public_pictures(
    slack: SlackWorkspace, http: httpx.AsyncClient, blobs: FolderBlobs
) -> None:
    hook = a_channel(slack, http, blobs, bot_token=None, public_images_url="https://pictures.example/")
    await hook.send(prepared(hook, MEASURED), mode=ChannelMode.SANDBOX)
    (message,) = slack.posted(SANDBOX)
    assert images(message)[0]["image_url"] == "https://pictures.example/api/v1/events/17/images/search"


@pytest.mark.parametrize("token", [TOKEN, None])
async def test_a_picture_that_slack_cannot_fetch_holds_back_nothing(
    slack: SlackWorkspace, http: httpx.AsyncClient, blobs: FolderBlobs, token: str | None
) -> None:
    channel = a_channel(slack, http, blobs, bot_token=token, public_images_url="https://nowhere.example")
    slack.fetches_images = False
    first = await channel.send(prepared(channel, MEASURED), mode=PRODUCTION)
    renamed = an_example(MEASURED, tns_name="FRB 20171117B")
    await channel.send(prepared(channel, renamed, first), mode=PRODUCTION)
    assert not any(images(message) for message in slack.posted())
    assert "FRB 20171117B" in slack.posted()[-1]["text"]


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault.TOO_MANY, TooManyRequestsError),
        (Fault.BROKEN, TransientError),
        (Fault.UNAVAILABLE, TransientError),
        (Fault.ACCEPTED_BUT_504, UncertainError),
        (Fault.LOST_ANSWER, UncertainError),
        (Fault.SILENT, UncertainError),
        (Fault.GARBAGE, UncertainError),
    ],
)
async def test_a_webhook_cannot_be_asked(
    slack: SlackWorkspace, hook: SlackChannel, fault: Fault, error: type[Exception]
) -> None:
    request = prepared(hook)
    slack.will(fault)
    with pytest.raises(error) as caught:
        await hook.send(request, mode=PRODUCTION)
    assert slack.webhook_url() not in str(caught.value)
    assert isinstance(caught.value, UncertainError) == (error is UncertainError)
    with pytest.raises(UncertainError):
        await hook.check(request, mode=PRODUCTION)


async def test_a_webhook_that_is_refused_says_why(slack: SlackWorkspace, hook: SlackChannel) -> None:
    request = prepared(hook)
    request.request["message"]["text"] = ""
    with pytest.raises(PermanentError, match="no_text"):
        await asyncio.wait_for(hook.send(request, mode=PRODUCTION), 5)


# ---- with the dispatcher -----------------------------------------------------------------------------------------


async def test_lost_answers_end_in_one_message_with_one_reply_for_each_change(
    slack: SlackWorkspace,
    bot: SlackChannel,
    pool: asyncpg.Pool,
    database: DatabaseSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dispatcher, "BACKOFF_S", 0.05)
    monkeypatch.setattr(dispatcher, "FAILURES_TO_OPEN", 100)
    notifier = NotifierUnderTest(pool, database, bot, mode=PRODUCTION, timeout_s=1.0)  # type: ignore[arg-type]
    first = an_example(CHIME)
    changes = [
        first.model_copy(update={"event_id": uuid.uuid4(), "revision": 2 + n, "tns_name": f"FRB 20240918{letter}"})
        for n, letter in enumerate("AB")
    ]
    confirmed: list[str] = []
    async with notifier.sending():
        for record in (first, *changes):
            for fault in (Fault.LOST_ANSWER, Fault.BROKEN, Fault.ACCEPTED_BUT_504):
                slack.will(fault)
            await notifier.take("frb.events", record)
            confirmed.append("CONFIRMED")
            await notifier.until(*confirmed, channel="slack")

    (message,) = slack.posted()
    assert "FRB 20240918B" in message["text"]
    assert [reply["text"].partition("→ ")[2] for reply in slack.replies()] == ["FRB 20240918A", "FRB 20240918B"]
