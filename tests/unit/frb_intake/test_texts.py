"""No text of others holds what a terminal obeys or what changes the direction of what is shown."""

import json
import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from services.frb_intake.feeds.gcn import read_gcn
from services.frb_intake.feeds.voevent import read_voevent
from services.frb_intake.models import RatingIn, plain_text
from services.frb_intake.texts import HIDDEN, visible
from tests.support.data import SAMPLES

# Unicode Character Database, PropList.txt: Bidi_Control.
BIDI_CONTROL = {0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)}
OVERRIDE, ESCAPE, NEXT_LINE = "\u202e", "\x1b", "\u0085"


def note(text: str) -> str | None:
    return RatingIn(rating="confirm", note=text).note


def test_hidden_is_every_control_character_and_every_one_of_direction() -> None:
    every = map(chr, range(0x110000))
    expected = {c for c in every if unicodedata.category(c) in ("Cc", "Cs") or ord(c) in BIDI_CONTROL}
    assert {c for c in map(chr, range(0x110000)) if HIDDEN.search(c)} == expected


@pytest.mark.parametrize("character", [OVERRIDE, ESCAPE, NEXT_LINE, "\x00", "\u2066", "\u200f"])
def test_the_doors_refuse_a_hidden_character(character: str) -> None:
    with pytest.raises(ValidationError, match="control characters and changes of direction"):
        note(f"a{character}b")
    with pytest.raises(ValueError, match="control characters and changes of direction"):
        plain_text(f"a{character}b")


def test_prose_may_have_lines_and_any_script_and_words_may_not_have_lines() -> None:
    prose = "Sieht gut aus.\n\tנראה טוב: ✓ 好 e\u0301"
    assert note(prose) == prose
    with pytest.raises(ValueError, match="control"):
        plain_text("a\nb")


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(json_values)
def test_what_is_left_is_visible_and_stays(value: Any) -> None:
    left = visible(value)
    assert visible(left) == left
    assert not HIDDEN.search(json.dumps(left, ensure_ascii=False).replace(r"\t", "").replace(r"\n", ""))


def test_a_notice_in_json_loses_hidden_characters_and_no_more() -> None:
    content = json.loads((SAMPLES / "gcn" / "chime-frb-detection.json").read_text())
    plain = read_gcn(json.dumps(content).encode())
    changed = content | {
        "description": f"{OVERRIDE}{content['description']}{ESCAPE}\nMore.",
        "colour": [f"r{NEXT_LINE}ed"],
        f"sh{OVERRIDE}ade": 1,
    }

    notice = read_gcn(json.dumps(changed).encode())

    assert notice.note == f"{plain.note}\nMore."
    assert notice.unmapped == {**plain.unmapped, "colour": ["red"], "shade": 1}


def test_a_voevent_loses_hidden_characters_and_no_more() -> None:
    packet = (SAMPLES / "voevent" / "FRB20180916B-detection.xml").read_text()
    hidden = packet.replace('value="', f'value="{OVERRIDE}').replace("<Description>", f"<Description>{NEXT_LINE}")
    assert hidden.count(OVERRIDE) > 5

    assert read_voevent(hidden.encode()) == read_voevent(packet.encode())
