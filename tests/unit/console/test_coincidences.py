"""Questions to the table of pairs, and what of a pair changed."""

from datetime import UTC, datetime

import pytest

from services.console.coincidences import Filters, Order, Sort, _cursor, _read_cursor, conditions, score_changes, select
from services.console.pages.coincidences import FilterQuery
from shared.errors import InvalidInputError
from shared.events.mma import CoincidenceScores, CoincidenceWindow

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

    place = _read_cursor(_cursor(LINE, order), order)
    query, arguments = select(Filters(), order, place, limit=2)

    assert arguments == [LINE[sort.value], "S1a", 7]
    assert f"({sort.value}, superevent_id, frb_id) {'<' if descending else '>'} ($1, $2, $3)" in query


@pytest.mark.parametrize("cursor", ["", "x", "!!!", "W10", "WzEsMiwzXQ", "é", "A" * 400])
def test_other_cursors_are_refused(cursor: str) -> None:
    with pytest.raises(InvalidInputError, match="after"):
        _read_cursor(cursor, Order())


def test_each_filter_is_an_argument_and_no_text_of_the_query() -> None:
    filters = Filters(NOW, NOW, "OUTSIDE", True, False, 0.5, "S1'; DROP", 7)

    where, arguments = conditions(filters)

    assert "DROP" not in where
    assert arguments == [NOW, NOW, "OUTSIDE", False, 0.5, "S1'; DROP", 7]
    assert where.count(" AND ") == 7
    assert conditions(Filters()) == ("true", [])


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
