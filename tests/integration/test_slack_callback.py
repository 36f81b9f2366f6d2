"""Votes from Slack: believed when Slack signed them a moment ago, counted once, and able to decide."""

import json
import time
import uuid
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest

from shared.testing.slack import SIGNING_SECRET, Press, press, signed
from tests.support.frb_intake import EVENTS, IntakeUnderTest, a_burst, running_intake

OLD, NEW = "/slack_get_rating/", "/slack/interactions"


@pytest.fixture(scope="module")
def intake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IntakeUnderTest]:
    settings = {
        "TOCSIN_FRB_INTAKE__SLACK_SIGNING_SECRET": SIGNING_SECRET,
        "TOCSIN_FRB_INTAKE__CONFIRM_VOTES": "2",
        "TOCSIN_FRB_INTAKE__REJECT_VOTES": "2",
    }
    with running_intake(tmp_path_factory.mktemp("slack"), **settings) as running:
        yield running


@pytest.fixture(scope="module")
def everybody(intake: IntakeUnderTest) -> httpx.Client:
    return intake.client(intake.add_user())


@pytest.fixture(scope="module")
def slack(intake: IntakeUnderTest) -> httpx.Client:
    """Slack has no account."""
    return intake.client(None)


@pytest.fixture
def burst_id(everybody: httpx.Client) -> int:
    answer = everybody.post(EVENTS, json=a_burst())
    assert answer.status_code == 201, answer.text
    return int(answer.json()["id"])


def sent(slack: httpx.Client, pressed: Press, path: str = NEW, **headers: str) -> httpx.Response:
    return slack.post(path, content=pressed.body, headers=pressed.headers | headers)


def burst(slack: httpx.Client, burst_id: int) -> dict[str, Any]:
    found: dict[str, Any] = slack.get(f"{EVENTS}/{burst_id}").json()
    return found


def votes(slack: httpx.Client, burst_id: int) -> tuple[int, int, int]:
    counts = burst(slack, burst_id)["votes"]
    return counts["confirm"], counts["reject"], counts["unsure"]


@pytest.mark.parametrize("path", [OLD, NEW])
def test_a_press_is_a_vote_of_who_pressed(
    intake: IntakeUnderTest, slack: httpx.Client, burst_id: int, path: str
) -> None:
    began = time.monotonic()
    answer = sent(slack, press("action_confirm", str(burst_id)), path)

    assert time.monotonic() - began < 3
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-type"] == "application/json"
    rating = burst(slack, burst_id)["ratings"]
    assert [(each["rater"], each["rating"]) for each in rating] == [("slack:maria", "confirm")]
    record = intake.records_of(burst_id)[-1]
    assert (record["change"], record["changed_by"]) == ("RATED", "slack:maria")


def test_the_last_vote_of_each_person_counts_and_all_are_kept(slack: httpx.Client, burst_id: int) -> None:
    for action, user in (("confirm", "ada"), ("unsure", "bo"), ("reject", "ada"), ("confirm", "ada")):
        assert sent(slack, press(f"action_{action}", str(burst_id), user=user)).status_code == 200
    assert votes(slack, burst_id) == (1, 0, 1)
    assert len(burst(slack, burst_id)["ratings"]) == 4


def test_who_takes_another_name_still_has_one_vote(
    intake: IntakeUnderTest, slack: httpx.Client, everybody: httpx.Client, burst_id: int
) -> None:
    sent(slack, press("action_confirm", str(burst_id), user="ada"))
    # As it was stored before ids were.
    intake.system.rows("UPDATE frb_intake.ratings SET rater_id = NULL WHERE burst_id = $1", burst_id)
    everybody.post(f"{EVENTS}/{burst_id}/ratings", json={"rating": "unsure"})
    sent(slack, press("action_confirm", str(burst_id), user="ada"))
    assert votes(slack, burst_id) == (1, 0, 1)

    sent(slack, press("action_reject", str(burst_id), user="countess", user_id="UADA"))
    assert votes(slack, burst_id) == (0, 1, 1)
    # Her old name, and somebody else under it.
    sent(slack, press("action_confirm", str(burst_id), user="ada", user_id="UANOTHER"))
    assert votes(slack, burst_id) == (1, 1, 1)
    raters = [each["rater"] for each in burst(slack, burst_id)["ratings"] if each["rater"].startswith("slack:")]
    assert raters == ["slack:countess"] * 3 + ["slack:ada"]


def test_what_slack_sends_again_counts_once(slack: httpx.Client, burst_id: int) -> None:
    pressed = press("action_confirm", str(burst_id))
    assert sent(slack, pressed).status_code == 200
    # Signed anew, as Slack does.
    again = signed(pressed.body, at=time.time() + 1)
    assert sent(slack, again, **{"X-Slack-Retry-Num": "1"}).status_code == 200
    assert sent(slack, pressed, OLD, **{"X-Slack-Retry-Num": "2"}).status_code == 200
    assert votes(slack, burst_id) == (1, 0, 0)
    assert len(burst(slack, burst_id)["ratings"]) == 1


def refused(answer: httpx.Response) -> bool:
    return (answer.status_code, answer.headers["content-type"]) == (401, "application/problem+json")


@pytest.mark.parametrize("path", [OLD, NEW])
def test_forged_replayed_and_late_presses_are_refused(slack: httpx.Client, burst_id: int, path: str) -> None:
    genuine = press("action_confirm", str(burst_id))
    value = str(burst_id)
    changed = Press(genuine.headers, genuine.body.replace(b"action_confirm", b"action_reject"))
    bare = Press({"Content-Type": genuine.headers["Content-Type"]}, genuine.body)
    later = Press(genuine.headers | {"X-Slack-Request-Timestamp": str(int(time.time()) + 5)}, genuine.body)
    strange = Press(genuine.headers | {"X-Slack-Request-Timestamp": "９" * 10}, genuine.body)
    for wrong in (
        press("action_confirm", value, secret="another"),
        press("action_confirm", value, at=time.time() - 301),
        press("action_confirm", value, at=time.time() + 400),
        Press(genuine.headers | {"X-Slack-Signature": "v0=\u00e9"}, genuine.body),
        Press(genuine.headers | {"X-Slack-Signature": ""}, genuine.body),
        changed,
        bare,
        later,
        strange,
    ):
        # As bytes: what Slack never sends is no ASCII.
        headers = [(name.encode(), value.encode()) for name, value in wrong.headers.items()]
        assert refused(slack.post(path, content=wrong.body, headers=headers))
    assert votes(slack, burst_id) == (0, 0, 0)

    assert sent(slack, genuine, path).status_code == 200
    assert refused(sent(slack, genuine, path))
    assert votes(slack, burst_id) == (1, 0, 0)


def test_two_confirmations_confirm_and_the_rule_is_named(
    intake: IntakeUnderTest, slack: httpx.Client, everybody: httpx.Client, burst_id: int
) -> None:
    sent(slack, press("action_confirm", str(burst_id), user="ada"))
    assert burst(slack, burst_id)["status"] == "CANDIDATE"
    # A vote of an account counts alike.
    everybody.post(f"{EVENTS}/{burst_id}/ratings", json={"rating": "confirm"})

    found = burst(slack, burst_id)
    assert (found["status"], found["changed_by"]) == ("CONFIRMED", "rule:votes")
    assert found["status_reason"].startswith("By votes: 2 confirm, 0 reject")
    told = [(record["revision"], record["change"]) for record in intake.records_of(burst_id)]
    assert told == [(1, "CREATED"), (2, "RATED"), (3, "RATED"), (4, "STATUS_CHANGED")]


def test_two_rejections_reject_and_a_contrary_vote_leaves_it_open(slack: httpx.Client, everybody: httpx.Client) -> None:
    agreed, disputed = (int(everybody.post(EVENTS, json=a_burst()).json()["id"]) for _ in range(2))
    sent(slack, press("action_confirm", str(disputed), user="cy"))
    for user in ("ada", "bo"):
        for each in (agreed, disputed):
            assert sent(slack, press("action_reject", str(each), user=user)).status_code == 200
    assert burst(slack, agreed)["status"] == "REJECTED"
    assert burst(slack, disputed)["status"] == "CANDIDATE"


def test_votes_do_not_overturn_what_somebody_decided(
    slack: httpx.Client, everybody: httpx.Client, burst_id: int
) -> None:
    everybody.post(f"{EVENTS}/{burst_id}/status", json={"status": "rejected", "reason": "an aeroplane"})
    for user in ("ada", "bo"):
        sent(slack, press("action_confirm", str(burst_id), user=user))
    assert burst(slack, burst_id)["status"] == "REJECTED"


def test_a_press_on_something_else_is_answered_and_changes_nothing(slack: httpx.Client, burst_id: int) -> None:
    assert sent(slack, press("open_page", str(burst_id))).status_code == 200
    assert sent(slack, signed(urlencode({"payload": '{"type": "view_closed"}'}).encode())).status_code == 200
    assert votes(slack, burst_id) == (0, 0, 0)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"payload=",
        b"payload=%5B%5D",
        b"payload=%ff",
        b"payload={}&payload={}",
        urlencode({"payload": "{" * 100}).encode(),
        b"\xff\xfe",
        *(
            urlencode(
                {"payload": json.dumps({"user": user, "actions": [{"action_id": "action_confirm", "value": value}]})}
            ).encode()
            for user, value in (
                ({}, "1"),
                ({"username": "a\u202eb"}, "1"),
                ({"username": "x" * 65}, "1"),
                ({"username": "x"}, "-1"),
                ({"username": "x"}, "٣"),
                ({"username": "x"}, "9" * 30),
            )
        ),
    ],
)
def test_what_cannot_be_read_is_a_problem(slack: httpx.Client, body: bytes) -> None:
    answer = sent(slack, signed(body))
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json")


def test_nobody_votes_on_bursts_that_are_not_there(slack: httpx.Client, everybody: httpx.Client, burst_id: int) -> None:
    assert sent(slack, press("action_confirm", "999999999")).status_code == 404
    everybody.post(f"{EVENTS}/{burst_id}/withdrawal", json={"reason": uuid.uuid4().hex})
    assert sent(slack, press("action_confirm", str(burst_id))).status_code == 409


def test_without_a_signing_secret_there_is_no_such_door(tmp_path_factory: pytest.TempPathFactory) -> None:
    with running_intake(tmp_path_factory.mktemp("bare")) as bare:
        for path in (OLD, NEW):
            assert sent(bare.client(None), press("action_confirm", "1"), path).status_code == 404
