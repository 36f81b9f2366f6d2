"""What a question about bursts becomes for the database."""

import re
from datetime import UTC, datetime
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from services.frb_intake.api.v1 import FilterQuery, PageQuery
from services.frb_intake.reading import SORT_KEYS, Cone, Filters, Order, Place, conditions, select
from services.frb_intake.tables import bursts
from shared.errors import InvalidInputError

NOW = datetime(2026, 1, 2, tzinfo=UTC)

cones = st.builds(Cone, st.floats(0, 360), st.floats(-90, 90), st.floats(1e-6, 180))
filters = st.builds(
    Filters,
    since=st.none() | st.just(NOW),
    dm_max=st.none() | st.floats(0, 5000),
    cone=st.none() | cones,
    repeater=st.none() | st.booleans(),
    status=st.none() | st.sampled_from(["candidate", "withdrawn"]),
    rating=st.none() | st.sampled_from(["confirm", "none"]),
    tns_name=st.none() | st.text(max_size=64),
)


orders = st.builds(Order, st.sampled_from([*SORT_KEYS]), st.booleans())


@given(filters, st.none() | st.just(Place(NOW, 3)), orders, st.booleans())
def test_every_value_travels_as_an_argument_and_every_argument_has_its_place(
    wanted: Filters, after: Place | None, order: Order, unknown: bool
) -> None:
    query, arguments = select(wanted, after, 51, order, unknown=unknown)
    assert {int(number) for number in re.findall(r"\$(\d+)", query)} == set(range(1, len(arguments) + 1))
    # What people write is never a part of the query itself.
    assert re.fullmatch(r"[\w\s$.,()<>=^+*/:-]*", query)
    assert query.endswith("LIMIT 51")


@pytest.mark.parametrize(
    ("wanted", "clauses", "arguments"),
    [
        ({}, [], []),
        ({"since": NOW, "until": NOW}, ["event_time >= $1", "event_time < $2"], [NOW, NOW]),
        ({"dm_min": 0.0, "sn_max": 9.0}, ["dm_pc_cm3 >= $1", "snr <= $2"], [0.0, 9.0]),
        ({"repeater": False, "status": "withdrawn"}, ["repeater = $1", "status = $2"], [False, "WITHDRAWN"]),
        ({"rating": "reject"}, ["votes_reject > 0"], []),
        ({"rating": "none"}, ["votes_confirm = 0 AND votes_reject = 0 AND votes_unsure = 0"], []),
    ],
)
def test_each_filter_is_one_condition(wanted: dict[str, Any], clauses: list[str], arguments: list[Any]) -> None:
    assert conditions(Filters(**wanted)) == (clauses, arguments)


def test_a_cone_is_looked_up_by_its_cells_unless_it_is_most_of_the_sky() -> None:
    by_cells, _ = conditions(Filters(cone=Cone(10, 20, 5)))
    by_distance, arguments = conditions(Filters(cone=Cone(10, 20, 120)))
    assert [clause.startswith("(nest29") for clause in by_cells] == [True, False]
    assert (len(by_distance), arguments) == (1, [10, 20, 120])


@pytest.mark.parametrize("part", [{"ra": 1}, {"dec": 1}, {"radius": 1}, {"ra": 1, "dec": 1}, {"dec": 0, "radius": 1}])
def test_half_a_cone_is_refused(part: dict[str, float]) -> None:
    with pytest.raises(InvalidInputError, match="ra, dec and radius together"):
        FilterQuery(**part).filters()


def test_every_filter_that_is_asked_for_is_passed_on() -> None:
    asked: dict[str, Any] = {
        "since": NOW, "until": NOW, "dm_min": 1.0, "dm_max": 2.0, "sn_min": 3.0, "sn_max": 4.0, "repeater": True,
        "status": "candidate", "rating": "none", "tns_name": "FRB 20180916B", "is_test": False,
    }  # fmt: skip
    assert FilterQuery(**asked, ra=0, dec=0, radius=1).filters() == Filters(**asked, cone=Cone(0, 0, 1))
    assert FilterQuery().filters() == Filters()


@pytest.mark.parametrize("wrong", [{"ra": 361}, {"dec": -91}, {"radius": 0}, {"dm_min": float("nan")}, {"colour": 1}])
def test_what_no_burst_can_be_asked_for_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        FilterQuery(**wrong)


def test_every_order_that_is_asked_for_is_one_that_the_database_has_an_index_for() -> None:
    assert set(get_args(PageQuery.model_fields["sort"].annotation)) == {*SORT_KEYS}
    assert PageQuery().sorting() == Order("time", is_descending=True)
    assert PageQuery(sort="sn", order="asc").sorting() == Order("sn", is_descending=False)
    indexed = {tuple(column.name for column in index.columns)[:1] for index in bursts.indexes} | {("id",)}
    assert {(key.column,) for name, key in SORT_KEYS.items() if name != "time"} <= indexed
