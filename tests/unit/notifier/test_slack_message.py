"""What Slack is told of real records: complete, escaped, within Slack's limits; and what changed."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.notifier.channels import slack, slack_message
from services.notifier.channels.channel import Earlier, Job
from services.notifier.channels.slack import SlackChannel, SlackSettings
from services.notifier.channels.slack_message import MAX_SECTION, escaped, quantity
from shared.errors import InvalidInputError
from shared.events.frb import FrbChange, FrbStatus, FrbVotes
from shared.events.notices import DeliveryAction
from shared.testing.slack import CHANNEL, SlackWorkspace
from tests.support.jobs import EXAMPLES, a_job, an_example, happening_of

MEASURED, CHIME = "frb_event/upload-measured-twice", "frb_event/chime-notice"
TOLD = [name for name in EXAMPLES if happening_of(an_example(name)) is not None]
SITE = "https://tocsin.example"


def a_channel(**changes: Any) -> SlackChannel:
    values = {"name": "slack", "bot_token": "xoxb-secret", "channel": CHANNEL} | changes
    return SlackChannel(
        SlackSettings.model_validate(values),
        http=None,  # type: ignore[arg-type]
        blobs=None,  # type: ignore[arg-type]
        draw=None,  # type: ignore[arg-type]
        site_url=SITE,
    )


def a_request(job: Job, **settings: Any) -> dict[str, Any]:
    prepared = a_channel(**settings).prepare(job)
    assert prepared is not None
    return prepared.request


def of_type(message: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [block for block in message["blocks"] if block["type"] == kind]


def facts(message: dict[str, Any]) -> dict[str, str]:
    texts = [each["text"] for block in of_type(message, "section") for each in block.get("fields", [])]
    return {text.partition("\n")[0].strip("*"): text.partition("\n")[2] for text in texts}


def told(job: Job, **settings: Any) -> Earlier:
    """What a delivery leaves behind for the next one."""
    answer = {"told": a_request(job, **settings)["told"], "mode": job.mode, "files": {}}
    return Earlier(1, DeliveryAction.NEW, f"{CHANNEL}:17.01", answer)


@pytest.mark.parametrize("name", TOLD)
@pytest.mark.parametrize("way", [{"bot_token": None}, {"public_images_url": "https://pictures.example"}])
def test_every_example_becomes_a_message_that_slack_takes(name: str, way: dict[str, Any]) -> None:
    related = [
        an_example(each) for each in TOLD if each.startswith(("gw_alert/mock-pre", "gw_alert/real", "gw_skymap"))
    ]
    prepared = a_channel(**way).prepare(a_job(name, related=related))
    if prepared is None:
        assert name.startswith("gw_skymap")  # of another alert than the one before
        return
    # As it is first sent, before its maps are drawn.
    message = slack._with_files(prepared.request["message"], {})
    # The stand-in's own reading of Slack's rules.
    SlackWorkspace()._check_message({"channel": CHANNEL, **message}, None)
    written = json.dumps(prepared.request)
    assert not any(word in written for word in ("None", "NaN", ": null", "xoxb"))


def test_a_burst_shows_its_measurements_with_errors_and_units() -> None:
    message = a_request(a_job(MEASURED), public_images_url="https://pictures.example")["message"]

    assert of_type(message, "header")[0]["text"]["text"] == "FRB Event (ID:17): confirmed"
    shown = facts(message)
    assert shown["DM"] == "411.00 ± 0.10 pc cm⁻³"
    assert shown["S/N"] == "50"
    assert shown["Width"] == "5 ms"
    assert shown["Position"] == "RA 77.01462°, Dec +26.06070° (ICRS) ± 0.36′ × 0.24′ at 150° (68%)"
    assert shown["Excess DM"].startswith("237.8 pc cm⁻³")
    assert "0.067 to 0.388" in shown["Redshift by DM"]
    assert shown["TNS name"] == "FRB 20171117A"
    assert shown["Votes"] == "2 confirm, 0 reject, 1 unsure"
    assert [block["image_url"] for block in of_type(message, "image")] == [
        f"https://pictures.example/api/v1/events/17/images/{name}" for name in ("search", "image", "histogram")
    ]
    buttons = of_type(message, "actions")[0]["elements"]
    assert [(each["action_id"], each["value"]) for each in buttons] == [
        ("action_confirm", "17"),
        ("action_reject", "17"),
        ("action_unsure", "17"),
    ]
    assert f"<{SITE}/frb/17|" in json.dumps(of_type(message, "context"))
    assert message["text"].startswith("FRB Event (ID:17): confirmed: DM 411.00 ± 0.10")


def test_a_new_candidate_has_the_header_that_people_know() -> None:
    assert a_request(a_job(CHIME))["message"]["blocks"][0]["text"]["text"] == "New FRB Event (ID:18)"


def test_a_withdrawn_burst_says_so_and_has_no_buttons() -> None:
    message = a_request(a_job("frb_event/chime-withdrawn"))["message"]
    assert "WITHDRAWN" in message["text"]
    assert not of_type(message, "actions")


def test_test_traffic_is_marked_in_header_and_text() -> None:
    message = a_request(a_job("frb_event/upload-without-measurement"))["message"]
    assert message["text"].startswith("TEST: ")
    assert message["blocks"][0]["text"]["text"].startswith("TEST: ")
    assert "This is a test" in message["blocks"][1]["elements"][0]["text"]


def test_texts_from_outside_are_escaped_and_cut() -> None:
    burst = an_example(CHIME, note="<!channel> & " * 1000, submitted_by="<@U1> & co", tns_name="<b>")
    message = a_request(a_job(burst))["message"]
    SlackWorkspace()._check_message({"channel": CHANNEL, **message}, None)
    assert facts(message)["TNS name"] == "&lt;b&gt;"
    assert "<!channel>" not in json.dumps(message)


@given(st.text(alphabet="a&<>;", max_size=60), st.integers(2, 40))
def test_a_cut_text_ends_with_no_half_escape(text: str, limit: int) -> None:
    shortened = escaped(text, limit)
    assert len(shortened) <= limit
    for entity in ("&amp;", "&lt;", "&gt;"):
        shortened = shortened.replace(entity, "")
    assert not {"&", "<", ">"} & set(shortened)


def test_an_alert_has_the_figures_of_its_own_map() -> None:
    alert, skymap = an_example("gw_alert/mock-preliminary"), an_example("gw_skymap/mock-preliminary")
    skymap = skymap.model_copy(update={"alert_event_id": alert.event_id})
    before = facts(a_request(a_job(alert, related=[alert]))["message"])
    after = facts(a_request(a_job(skymap, revision=2, related=[alert, skymap]))["message"])

    assert before["Classification"].startswith("BNS 95%")
    assert before["False-alarm rate"].startswith("1 per 3.478e+05 years")
    assert before["Significant"] == "yes"
    assert "Area" not in before
    assert after["Area"].endswith("(90%)")
    assert after["Distance"].endswith("Mpc")
    assert after.items() >= before.items()


def test_a_coincidence_shows_its_scores() -> None:
    message = a_request(a_job("coincidence/initial"))["message"]
    shown = facts(message)
    assert shown["Burst after merger"] == "8985.6137 ± 0.0010 s"
    assert shown["Joint false-alarm rate"].startswith("1 per ")
    assert "S190425z" in message["blocks"][0]["text"]["text"]


def test_an_alert_shows_the_picture_of_its_own_map_and_no_other() -> None:
    alert, skymap = an_example("gw_alert/mock-preliminary"), an_example("gw_skymap/mock-preliminary")
    skymap = skymap.model_copy(update={"alert_event_id": alert.event_id})
    request = a_request(a_job(skymap, revision=2, related=[alert, skymap]))
    (image,) = of_type(request["message"], "image")
    ((block, drawing),) = request["drawings"].items()

    assert drawing["skymap"] == skymap.skymap.canonical.model_dump()
    assert drawing["title"] == image["alt_text"] == f"TEST: Sky map of {alert.superevent_id}"
    assert image["block_id"] == block
    assert request["uploads"] == {}
    assert "Pictures" not in request["told"]  # what it shows are the figures

    updated = alert.model_copy(update={"event_id": skymap.event_id})
    request = a_request(a_job(updated, related=[updated, skymap]))
    assert not of_type(request["message"], "image")
    assert request["drawings"] == {}


def test_a_coincidence_shows_its_combined_map_until_it_is_taken_back() -> None:
    pair = an_example("coincidence/initial")
    request = a_request(a_job(pair))
    (drawing,) = request["drawings"].values()
    assert drawing["skymap"] == pair.scores.combined_skymap.model_dump()
    assert drawing["title"] == f"Sky map of S190425z and {pair.burst.internal_name} combined"

    over = a_request(a_job("coincidence/retraction", revision=2, earlier=[told(a_job(pair))]))
    assert over["drawings"] == {}
    assert not of_type(over["message"], "image")


def test_what_is_taken_back_is_told_with_the_figures_it_had() -> None:
    earlier = [told(a_job("coincidence/initial"))]
    text = a_request(a_job("coincidence/retraction", revision=2, earlier=earlier))["reply"]["text"]
    odds = facts(a_request(a_job("coincidence/initial"))["message"])["Odds"]
    assert f"Odds: {odds} (withdrawn)" in text
    assert "not known" not in text


@pytest.mark.parametrize("public", [{}, {"public_images_url": "https://pictures.example"}])
def test_a_webhook_shows_no_map_and_a_bot_uploads_it(public: dict[str, str]) -> None:
    pair = a_job("coincidence/initial")
    assert not of_type(a_request(pair, bot_token=None, **public)["message"], "image")
    (image,) = of_type(a_request(pair, **public)["message"], "image")
    assert "image_url" not in image


def test_coincidences_of_a_burst_stand_in_its_message() -> None:
    pair = an_example("coincidence/initial")
    burst = an_example(CHIME, frb_id=42)
    shown = facts(a_request(a_job(burst, related=[burst, pair]))["message"])
    assert shown["Coincidences"].startswith("S190425z and FRB 20190425A: +8985.61 s")


def test_a_thread_tells_who_changed_what() -> None:
    first = a_job(CHIME)
    voted = an_example(
        CHIME, change=FrbChange.RATED, changed_by="slack:maria", votes=FrbVotes(confirm=1, reject=0, unsure=0)
    )
    request = a_request(a_job(voted, revision=2, earlier=[told(first)]))

    assert (request["channel"], request["ts"]) == (CHANNEL, "17.01")
    assert request["reply"]["text"] == (
        "New FRB Event (ID:18): Voted on by slack:maria;"
        " Votes: 0 confirm, 0 reject, 0 unsure → 1 confirm, 0 reject, 0 unsure"
    )
    assert request["reply"]["reply_broadcast"] is False


def test_what_changes_nothing_is_not_told() -> None:
    assert a_channel().prepare(a_job(CHIME, revision=2, earlier=[told(a_job(CHIME))])) is None


def test_a_withdrawal_is_told_to_the_whole_channel() -> None:
    request = a_request(a_job("frb_event/chime-withdrawn", revision=2, earlier=[told(a_job(CHIME))]))
    assert request["reply"]["reply_broadcast"] is True


def test_a_webhook_tells_a_change_beside_the_first_message() -> None:
    confirmed = an_example(CHIME, change=FrbChange.STATUS_CHANGED, status=FrbStatus.CONFIRMED, changed_by="op")
    earlier = [told(a_job(CHIME), bot_token=None)]
    request = a_request(a_job(confirmed, revision=2, earlier=earlier), bot_token=None)

    assert "ts" not in request
    assert request["message"]["blocks"][0]["text"]["text"] == "FRB Event (ID:18): confirmed"
    assert "*Status*: candidate → confirmed" in json.dumps(request["message"], ensure_ascii=False)


def test_many_changes_stay_within_a_message() -> None:
    message = slack_message.Message(
        "h", {f"fact {n}": "&" * 900 for n in range(100)}, detail="<d>", is_test=False, prose=("p" * 5000,) * 3
    )
    found = slack_message.changes(message, {})
    text = slack_message.change_text(message, found)
    assert len(text) <= MAX_SECTION
    SlackWorkspace()._check_message(
        {"channel": CHANNEL, "text": text, "blocks": slack_message.change_blocks(message, found)}, None
    )


def test_old_maps_and_alerts_change_nothing() -> None:
    alert = happening_of(an_example("gw_alert/mock-preliminary", is_current=False))
    skymap = happening_of(an_example("gw_skymap/mock-preliminary"))
    assert alert is not None
    assert skymap is not None
    assert not a_channel().wants(alert, told_before=True)
    assert not a_channel().wants(skymap, told_before=False)
    assert a_channel().wants(skymap, told_before=True)


@pytest.mark.parametrize(
    ("value", "unit", "error", "text"),
    [
        (411.0, "pc cm⁻³", 0.1, "411.00 ± 0.10 pc cm⁻³"),
        (8985.613672, "s", 0.001, "8985.6137 ± 0.0010 s"),
        (154.6, "Mpc", 44.62, "155 ± 45 Mpc"),
        (12.698559, "", None, "12.6986"),
        (5.0, "ms", 0.0, "5 ms"),
        (float("nan"), "ms", None, None),
        (None, "ms", 1.0, None),
    ],
)
def test_numbers_have_the_digits_that_their_errors_allow(
    value: float | None, unit: str, error: float | None, text: str | None
) -> None:
    assert quantity(value, unit, error) == text


@pytest.mark.parametrize(
    "settings",
    [
        {"mode": "PRODUCTION", "bot_token": "t"},
        {"mode": "SANDBOX", "bot_token": "t", "channel": CHANNEL},
        {"mode": "PRODUCTION", "channel": CHANNEL},
        {"mode": "SANDBOX", "webhook_url": "https://hooks.example/x"},
    ],
)
def test_a_mode_needs_its_own_place(settings: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError, match="missing"):
        SlackSettings.model_validate({"name": "slack", **settings})
