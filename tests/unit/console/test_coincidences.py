"""Questions to the table of pairs, and what of a pair changed."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.coincidence.settings import CoincidenceSection
from services.console.access import NOBODY
from services.console.coincidences import (
    LISTING,
    Alert,
    Decision,
    Filters,
    Order,
    Pair,
    Sort,
    plain,
    score_changes,
)
from services.console.pages.coincidences import FilterQuery, _numbers, _timeline
from services.console.settings import ConsoleSection
from services.console.site import Pages
from services.console.superevent_history import Answer
from shared.errors import InvalidInputError
from shared.events.mma import CoincidenceScores, CoincidenceWindow, CoincidentBurst

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
LINE = {"decided_at": NOW, "event_time": NOW, "odds": 1.5e-300, "far_space_time_hz": 0.1 + 0.2,
        "superevent_id": "S1a", "frb_id": 7}  # fmt: skip


def scores(**changes: object) -> CoincidenceScores:
    known = {
        "time_offset_s": 3.0, "time_offset_err_s": 0.1, "window": CoincidenceWindow.NARROW, "window_low_s": -10.0,
        "window_high_s": 2.0, "overlap_sky": 8.0, "far_time_hz": 1e-10, "trials_factor": 7,
        "burst_rate_per_year": 485.0, "odds": 2.0, "prior_odds": 0.01,
    }  # fmt: skip
    return CoincidenceScores.model_validate(known | changes)


@pytest.mark.parametrize("sort", Sort)
@pytest.mark.parametrize("descending", [True, False])
def test_a_cursor_leads_on_from_exactly_where_a_page_ended(sort: Sort, descending: bool) -> None:
    order = Order(sort, descending=descending)

    place = LISTING.place(LISTING.cursor(LINE, order), order)
    query, arguments = LISTING.select(Filters(), order, place, limit=2)

    assert arguments == [LINE[sort.value], "S1a", 7]
    assert f"({sort.value}, superevent_id, frb_id) {'<' if descending else '>'} ($1, $2, $3)" in query


@pytest.mark.parametrize("cursor", ["", "x", "!!!", "W10", "WzEsMiwzXQ", "é", "A" * 400])
def test_other_cursors_are_refused(cursor: str) -> None:
    with pytest.raises(InvalidInputError, match="after"):
        LISTING.place(cursor, Order())


def test_each_filter_is_an_argument_and_no_text_of_the_query() -> None:
    filters = Filters(NOW, NOW, "OUTSIDE", True, False, 0.5, "S1'; DROP", 7)

    query, arguments = LISTING.count(filters)

    assert "DROP" not in query
    assert arguments == [NOW, NOW, "OUTSIDE", False, 0.5, "S1'; DROP", 7]
    assert query.count(" AND ") == 7
    assert "WHERE" not in LISTING.count(Filters())[0]


def test_an_address_keeps_the_question_and_changes_the_order() -> None:
    query = FilterQuery.model_validate({"superevent": "S1a", "odds_min": "0.5", "state": "", "sort": "odds"})

    assert query.address("/mma") == "/mma?superevent=S1a&odds_min=0.5&sort=odds".replace(
        "superevent=S1a&odds_min=0.5", "odds_min=0.5&superevent=S1a"
    )
    assert query.address("/mma", sort="far", order="asc").endswith("sort=far&order=asc")


def test_what_changed_between_scores_is_told() -> None:
    assert score_changes(scores(), scores()) == []
    assert score_changes(scores(), scores(odds=2.0005)) == []
    assert score_changes(scores(), scores(odds=3.0, overlap_3d=10.0)) == [
        "overlap with distances not known to 10",
        "odds 2 to 3",
    ]
    assert score_changes(scores(), scores(window=CoincidenceWindow.WIDE)) == ["narrow window to wide"]
    assert score_changes(scores(), None) == ["scores no longer counted"]
    assert score_changes(None, None) == []


HOSTILE = "<script>alert('x')</script>"
FACTS = {
    "frb_id": 7, "revision": 2, "internal_name": HOSTILE, "origin": HOSTILE, "tns_name": None, "time": NOW,
    "time_err_s": 0.5, "timing_note": HOSTILE, "dm_pc_cm3": float("nan"), "snr": float("inf"),
}  # fmt: skip


def a_pair(**changes: Any) -> Pair:
    line = {
        "coincidence_id": "S1a-7", "superevent_id": "S1a", "frb_id": 7, "is_test": False, "state": "NOT_ANNOUNCED",
        "reason": f"{HOSTILE}; {10_000 * 'x'}", "event_time": NOW, "burst_time": NOW, "decided_at": NOW, "revision": 0,
        "is_open": False, "is_retracted": False, "method_version": HOSTILE,
    }  # fmt: skip
    decision = Decision(NOW, "OUTSIDE", HOSTILE, None, Alert(1, HOSTILE), None, 2, "1", None, None, [HOSTILE])
    known: dict[str, Any] = {
        "line": line | changes.pop("line", {}), "wave": {"alert": {"pipeline": HOSTILE, "group": HOSTILE}},
        "burst": CoincidentBurst.model_validate(FACTS), "burst_state": {"status": HOSTILE, "repeater": True},
        "scores": scores(odds=float("nan"), overlap_sky=float("inf")), "is_counted_now": True, "record": None,
        "decisions": [decision],
        "rules": json.loads(CoincidenceSection().model_dump_json()),
    }  # fmt: skip
    return Pair(**known | changes)


def rendered(pair: Pair) -> str:
    return Pages(ConsoleSection()).text(
        "coincidence.html", visitor=NOBODY, path="/mma/S1a-7", place="", pair=pair, line=pair.line,
        timeline=_timeline(pair), sky=Answer(None, is_coming=False), distance=Answer(None, is_coming=False),
        is_coming=False, numbers=_numbers(pair), notices=[], max_decisions=200, plain=plain,
    )  # fmt: skip


def test_what_others_wrote_is_text_and_what_is_no_number_is_not_known() -> None:
    page = rendered(a_pair())

    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    for unknown in (">nan<", ">inf<", "None", "nan s"):
        assert unknown not in page, unknown


@pytest.mark.parametrize(
    "changes",
    [
        {"burst": None, "burst_state": {}, "scores": None, "line": {"burst_time": None}},
        {"wave": {}, "line": {"event_time": None}},
        {"rules": None},
        {"rules": None, "scores": None, "is_counted_now": False, "decisions": []},
        {"line": {"state": "WITHDRAWN", "revision": 2, "is_test": True}},
    ],
)
def test_a_page_is_whole_whatever_is_not_known(changes: dict[str, Any]) -> None:
    page = rendered(a_pair(**changes))

    assert "Every decision" in page
    assert "None" not in page


def test_windows_are_those_of_the_class_of_the_wave() -> None:
    merger = a_pair(wave={"alert": {"group": "CBC"}})
    other = a_pair(wave={"alert": {"group": "Burst"}})

    assert [(each.name, each.low_s, each.high_s) for each in merger.windows()] == [
        ("narrow", -2.0, 10.0),
        ("wide", -7200.0, 86400.0),
    ]
    assert other.windows()[0].high_s == 600.0


def test_a_window_holds_what_is_within_three_errors_of_it() -> None:
    for seconds, holds in ((11.4, True), (11.6, False)):
        burst = CoincidentBurst.model_validate(FACTS | {"time": NOW + timedelta(seconds=seconds)})
        narrow, _ = a_pair(wave={"alert": {"group": "CBC"}}, burst=burst).windows()
        assert narrow.holds is holds


def test_what_speaks_against_a_pair_does_not_hold() -> None:
    held = {each.name: each.holds for each in a_pair(scores=scores(overlap_sky=0.5)).tests()}

    assert held["Overlap of the positions"] is False
    assert held["Burst of no known repeater"] is False
    assert held["Positions known"] is False
    assert held["Measured background"] is None
    assert held["Wave and burst stand"] is True
