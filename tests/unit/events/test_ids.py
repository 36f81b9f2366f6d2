"""Identities that any process computes alike."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.events.ids import event_id

PARTS = st.lists(st.text(), min_size=1).map(tuple)


def test_an_identity_never_changes_between_releases() -> None:
    """Fixed for ever: a stored inbox holds identities computed by older releases."""
    assert event_id("gw_alert", "MS181101ab") == UUID("cf99576b-1857-5680-95a9-7500b35fa4c7")


@given(PARTS, PARTS)
def test_different_parts_are_different_events(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    assert (event_id(*one) == event_id(*other)) == (one == other)


def test_where_one_part_ends_matters() -> None:
    assert event_id("ab", "c") != event_id("a", "bc")
    assert event_id("a", "1:b") != event_id("a", "b")


def test_nothing_has_no_identity() -> None:
    with pytest.raises(ValueError, match="at least one part"):
        event_id()
