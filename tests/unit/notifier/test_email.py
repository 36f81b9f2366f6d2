"""Mail: what it says of every record, whom it goes to, and that no name can bend it."""

import json
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.notifier.channels.channel import Earlier, UncertainError
from services.notifier.channels.email import MAX_REFERENCES, EmailChannel, EmailSettings, to_bytes
from services.notifier.channels.email_message import write_mail
from shared.errors import InvalidInputError
from shared.events.frb import FrbChange
from shared.events.notices import ChannelMode, DeliveryAction
from tests.support.jobs import EXAMPLES, a_job, an_example, happening_of

TOLD = [name for name in EXAMPLES if happening_of(an_example(name)) is not None]
BURST = "frb_event/chime-notice"


def channel(**changes: Any) -> EmailChannel:
    values = {
        "name": "mail",
        "mode": "PRODUCTION",
        "sender": "tocsin@observatory.example",
        "recipients": ("people@observatory.example", "others@observatory.example"),
        "sandbox_recipients": ("me@observatory.example",),
    }
    made = EmailSettings.model_validate(values | changes)
    return EmailChannel(made, site_url="https://tocsin.example", observatory="TOCSIN")


def request_of(record: Any, **kwargs: Any) -> dict[str, Any]:
    """What is prepared, as it comes back from a column of JSON."""
    prepared = channel().prepare(a_job(record, **kwargs))
    assert prepared is not None
    request: dict[str, Any] = json.loads(json.dumps(prepared.request, allow_nan=False))
    return request


def mail_of(record: Any, **kwargs: Any) -> EmailMessage:
    mail = message_from_bytes(to_bytes(request_of(record, **kwargs)), policy=default)
    assert isinstance(mail, EmailMessage)
    return mail


def text_of(record: Any, **kwargs: Any) -> str:
    return str(request_of(record, **kwargs)["text"])


# What it says.


@pytest.mark.parametrize("name", TOLD)
def test_every_record_is_told_in_text_and_html(name: str) -> None:
    request = request_of(name)
    mail = mail_of(name)
    plain, rich = mail.get_body(("plain",)), mail.get_body(("html",))
    assert plain is not None
    assert rich is not None
    for told in (plain.get_content(), rich.get_content()):
        assert "None" not in told
        assert "nan" not in told.split()
        assert "<p></p>" not in told
        assert f"https://tocsin.example/{happening_of(an_example(name)).subject}" in told  # type: ignore[union-attr]
    assert mail["Subject"] == request["subject"]


def test_a_burst_is_told_with_what_was_measured() -> None:
    text = text_of(BURST)
    for line in (
        "Found by: CHIME 427325190",
        "Arrival at infinite frequency: 2024-09-18 07:19:03.518831 UTC",
        "Signal-to-noise ratio: 12.6986",
        "Dispersion measure: 279.423 ± 0.404 pc/cm³",
    ):
        assert line in text.splitlines()


def test_an_alert_and_its_map_are_told_in_one_mail() -> None:
    text = text_of("gw_skymap/real-initial", related=[an_example("gw_alert/real-initial")])
    assert "Source: NSBH 86%, Terrestrial 10%, BBH 4%" in text
    assert "Area of 90 %: 665.98 deg²" in text


def test_a_burst_is_told_with_what_it_may_belong_to() -> None:
    text = text_of("frb_event/chime-notice", related=[an_example("coincidence/initial")])
    assert "May belong to: coincidence of S190425z and FRB 20190425A: overlap 7.5" in text
    assert "May belong to" not in text_of(BURST, related=[an_example("coincidence/retraction")])


@pytest.mark.parametrize(
    ("name", "begins"),
    [
        ("gw_alert/mock-preliminary", "[TEST] TOCSIN: gravitational wave MS181101ab (new)"),
        ("gw_alert/mock-retraction", "[TEST] TOCSIN: gravitational wave MS181101ab (RETRACTED)"),
        ("frb_event/chime-notice", "TOCSIN: burst TOCSIN-FRB-18 (new)"),
        ("coincidence/retraction", "TOCSIN: coincidence of S190425z and FRB 20190425A (RETRACTED)"),
    ],
)
def test_the_subject_says_what_it_is_about_and_whether_it_is_a_test(name: str, begins: str) -> None:
    assert request_of(name)["subject"] == begins
    assert ("THIS IS A TEST." in text_of(name)) == begins.startswith("[TEST]")


def test_a_trial_is_called_one_and_goes_to_those_who_try() -> None:
    request = request_of(BURST, mode=ChannelMode.SANDBOX)
    assert request["subject"].startswith("[SANDBOX] ")
    assert request["to"] == ["me@observatory.example"]
    assert request_of(BURST, mode=ChannelMode.DRY_RUN)["to"][0] == "people@observatory.example"


def test_own_templates_are_filled() -> None:
    mail = write_mail(
        a_job(BURST),
        observatory="TOCSIN",
        site_url="",
        subject_template="$action $subject",
        text_template="$$5 for $headline",
    )
    assert (mail.subject, mail.text) == ("new frb/18", "$5 for burst TOCSIN-FRB-18 (new)")


# The thread.


def test_an_update_answers_what_was_told_before() -> None:
    first = mail_of(BURST)
    earlier = [Earlier(revision, DeliveryAction.NEW, None, {}) for revision in (1, 2)]
    third = mail_of("frb_event/chime-withdrawn", revision=3, earlier=earlier)
    assert third["References"].split()[0] == first["Message-ID"]
    assert third["In-Reply-To"] == third["References"].split()[1] != first["Message-ID"]
    assert first["In-Reply-To"] is None


def test_the_message_id_is_the_deliverys() -> None:
    once, again = request_of(BURST), request_of(BURST)
    assert once["message_id"] == again["message_id"] != request_of(BURST, revision=2)["message_id"]
    assert once["message_id"].endswith("@observatory.example>")


def test_a_long_thread_names_its_beginning_and_its_end() -> None:
    earlier = [Earlier(revision, DeliveryAction.UPDATE, None, {}) for revision in range(1, 100)]
    references = request_of(BURST, revision=100, earlier=earlier)["references"]
    assert len(references) == MAX_REFERENCES
    assert references[0] == request_of(BURST)["message_id"]
    assert references[-1] == request_of(BURST, revision=99)["message_id"]


def test_machines_are_asked_not_to_answer() -> None:
    mail = mail_of(BURST)
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail["X-Auto-Response-Suppress"] == "All"
    assert mail["Precedence"] == "bulk"


# What names and notes may do to it: nothing.

EVIL = "x\r\nBcc: everybody@example.com\r\n\r\n<script>alert(1)</script>\n.\r\nQUIT"


def test_a_name_cannot_become_a_header_nor_a_line_nor_a_script() -> None:
    record = an_example(BURST, tns_name=EVIL, internal_name=EVIL, origin_id=EVIL, note=EVIL, status_reason=EVIL)
    mail = mail_of(record)
    assert mail["Bcc"] is None
    assert "Bcc: everybody@example.com" in mail["Subject"], "it is there, within the line"
    assert not any(line.startswith(("Bcc", ".", "QUIT")) for line in text_of(record).splitlines())
    assert "<script" not in request_of(record)["html"]


HEADERS = {"From", "To", "Subject", "Date", "Message-ID", "MIME-Version", "Content-Type", "Auto-Submitted"}
HEADERS |= {"X-Auto-Response-Suppress", "Precedence", "X-Tocsin-Subject"}


@settings(max_examples=150, deadline=None)
@given(name=st.text(max_size=300), note=st.text(max_size=2000))
def test_no_text_adds_a_header_or_breaks_a_line(name: str, note: str) -> None:
    content = to_bytes(request_of(an_example(BURST, tns_name=name, note=note)))
    mail = message_from_bytes(content, policy=default)
    assert set(mail.keys()) == HEADERS
    assert content.isascii()
    assert content.endswith(b"\r\n")
    assert all(len(line) <= 998 for line in content.split(b"\r\n"))
    assert b"\n" not in content.replace(b"\r\n", b"")
    assert b"\r" not in content.replace(b"\r\n", b"")


# Settings and the rest.


async def test_nobody_can_tell_what_became_of_a_mail() -> None:
    prepared = channel().prepare(a_job(BURST))
    assert prepared is not None
    with pytest.raises(UncertainError, match="Message-ID"):
        await channel().check(prepared, mode=ChannelMode.PRODUCTION)


def test_votes_are_no_news_and_maps_only_where_they_are_wanted() -> None:
    voted = happening_of(an_example(BURST, change=FrbChange.RATED))
    skymap = happening_of(an_example("gw_skymap/real-initial"))
    assert voted is not None
    assert skymap is not None
    assert not channel().wants(voted, told_before=True)
    assert channel().wants(skymap, told_before=True)
    assert not channel(skymaps=False).wants(skymap, told_before=True)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"recipients": ()}, "at least one address"),
        ({"recipients": ("a@b.example\r\nBcc: c@d.example",)}, "nothing else"),
        ({"recipients": ("Name <a@b.example>",)}, "nothing else"),
        ({"sender": "nobody"}, "nothing else"),
        ({"sender": "a@b.example>"}, "nothing else"),
        ({"mode": "SANDBOX", "sandbox_recipients": ()}, "mode SANDBOX needs"),
        ({"username": "me"}, "username and password"),
        ({"username": "me", "password": "word", "security": "none"}, "in the clear"),
        ({"subject_template": "$surprise"}, "names that a template may use"),
    ],
)
def test_settings_that_cannot_work_are_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        channel(**change)


def test_a_password_is_not_prepared() -> None:
    made = channel(username="me", password="a word that nobody knows")
    prepared = made.prepare(a_job(BURST))
    assert prepared is not None
    assert "nobody knows" not in json.dumps(prepared.request)
