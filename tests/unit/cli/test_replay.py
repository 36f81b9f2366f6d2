"""What `tocsin replay` makes of a file: the bytes and headers of the real stream, on the topic it belongs on."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from typer.testing import CliRunner

from cli.main import build
from cli.replay import Pace, to_message
from shared.errors import InvalidInputError
from tests.support.data import SAMPLES
from tests.support.voevents import a_packet

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


def headers(data: bytes, **how: Any) -> dict[str, bytes]:
    return dict(to_message(data, **how).headers)


@pytest.mark.parametrize(
    ("file", "topic", "kind", "is_test"),
    [
        ("igwn/S230518h-Initial_alert.json", "igwn.gwalert", b"json", False),
        ("igwn/MS181101ab-initial.avro", "igwn.gwalert", b"avro", True),
        ("gcn/chime-frb-detection.json", "gcn.notices.chime.frb", b"json", True),
        ("gcn/dsa110-frb-retraction.json", "gcn.notices.dsa110.frb", b"json", True),
        ("voevent/FRB20180916B-update.xml", "voevent.frb", b"voevent", True),
    ],
)
def test_a_file_goes_where_it_belongs_as_it_is(file: str, topic: str, kind: bytes, is_test: bool) -> None:
    data = (SAMPLES / file).read_bytes()

    message = to_message(data)

    assert (message.topic, message.key, message.value) == (topic, None, data)
    found = dict(message.headers)
    assert (found["_format"], found["_sender"], len(found["_id"])) == (kind, b"tocsin-replay", 16)
    assert found.get("_test") == (b"true" if is_test else None)


def test_a_topic_that_is_asked_for_is_used() -> None:
    assert to_message((SAMPLES / "gcn" / "chime-frb-update.json").read_bytes(), topic="trial").topic == "trial"


def test_no_replay_of_a_burst_is_taken_for_real_even_unread() -> None:
    real = a_packet()

    assert headers(real)["_test"] == b"true"
    assert headers(real, check=False)["_test"] == b"true"


@pytest.mark.parametrize(
    "data",
    [
        b"dear observatory",
        (SAMPLES / "gcn" / "chime-frb-detection.json").read_bytes().replace(b'"dm"', b'"dm": "x", "DM"'),
        a_packet(params={"TrigID": "1"}),
        b"<letter/>",
    ],
    ids=["no alert", "a broken notice", "a packet about something else", "no packet"],
)
def test_what_cannot_be_read_is_refused_unless_told_otherwise(data: bytes) -> None:
    with pytest.raises(InvalidInputError):
        to_message(data)
    assert to_message(data, check=False).value == data


def test_a_catalogue_keeps_its_rhythm_so_many_times_faster() -> None:
    pace = Pace(speed_up=3600)

    assert pace.pause_s(NOON, NOON + timedelta(hours=2)) == 2
    assert pace.pause_s(NOON, NOON - timedelta(hours=2)) == 0
    assert pace.pause_s(None, NOON) == 0
    assert Pace(interval_s=0.5).pause_s(NOON, NOON + timedelta(hours=2)) == 0.5


def test_two_paces_at_once_are_refused() -> None:
    file = SAMPLES / "gcn" / "chime-frb-update.json"

    done = CliRunner().invoke(build(["replay"]), ["replay", str(file), "--rate", "2", "--speed-up", "10"])

    assert done.exit_code != 0
    assert "--speed-up is given with --rate; expected one of them" in done.output
