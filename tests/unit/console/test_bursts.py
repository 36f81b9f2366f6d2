"""What the pages about bursts are made of."""

from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from astropy.coordinates import Angle
from hypothesis import given
from hypothesis import strategies as st

from services.console import bursts
from services.console.columns import Head
from services.console.pages.bursts import burst_id
from services.frb_intake import domain
from services.frb_intake.api.v1 import ExportQuery, FilterQuery, PageQuery
from services.frb_intake.domain import Measured, NewBurst
from services.frb_intake.models import ObservationIn
from shared.events.frb import FrbObservation
from shared.http.problems import ProblemError
from shared.sky.localisation import Ellipse

MEASUREMENT: dict[str, Any] = {
    "number": 1, "made_at": "2026-01-02T03:04:05Z", "made_by": "ada", "pipeline": "MB", "pipeline_version": "v1",
    "dm_pc_cm3": 411.0, "dm_err_pc_cm3": 1.0, "snr": 50.0, "width_ms": 5.0, "flux_jy": None, "flux_err_jy": None,
    "localisation": {"ra_deg": 77.01461542, "dec_deg": -26.06069556, "semi_major_deg": 0.05, "semi_minor_deg": 0.02,
                     "position_angle_deg": 90.0, "confidence_level": 0.68},
    "dm_budget": None,
}  # fmt: skip


class TestForms:
    def test_every_filter_and_order_is_one_of_the_intake(self) -> None:
        assert set(bursts.FILTERS) == FilterQuery.model_fields.keys()
        assert {*bursts.FILTERS, *bursts.ORDER, "format"} == ExportQuery.model_fields.keys()
        assert {*bursts.FILTERS, *bursts.ORDER, *bursts.PAGING} == PageQuery.model_fields.keys()
        sorts = {column.sort for column in bursts.COLUMNS} - {None}
        assert all(PageQuery(sort=sort).sort == sort for sort in sorts)

    def test_what_is_not_filled_in_is_not_asked_for(self) -> None:
        sent = {"dm_min": " 5 ", "since": "", "until": "  ", "colour": "red", "tns_name": "x" * 100_000}
        found = bursts.asked(sent, bursts.FILTERS)
        assert found == {"dm_min": "5", "tns_name": "x" * bursts.MAX_SENT_CHARACTERS}

    @given(st.dictionaries(st.sampled_from(bursts.FILTERS), st.text(min_size=1, max_size=20)))
    def test_an_address_brings_back_what_it_was_made_of(self, filters: dict[str, str]) -> None:
        parts = urlsplit(bursts.address("/frb", filters, {"sort": "dm"}))
        assert parts.path == "/frb"
        assert parse_qs(parts.query) == {name: [value] for name, value in {**filters, "sort": "dm"}.items()}

    def test_a_head_sorts_by_its_column_and_then_the_other_way(self) -> None:
        def head(order: dict[str, str], name: str = "DM") -> Head:
            return next(each for each in bursts.heads({"sn_min": "9"}, order, {}) if each.column.name == name)

        first = head({})
        assert (first.address, first.direction) == ("/frb?sn_min=9&sort=dm&order=desc", None)
        assert head({}, "Arrival").direction == "descending"
        second = head({"sort": "dm", "order": "desc"})
        assert (second.address, second.direction) == ("/frb?sn_min=9&sort=dm&order=asc", "descending")
        third = head({"sort": "dm", "order": "asc"})
        assert (third.address, third.direction) == ("/frb?sn_min=9&sort=dm&order=desc", "ascending")
        assert head({}, "RA").address is None


@given(st.floats(0, 1), st.floats(0, 1))
def test_the_errors_along_both_axes_are_those_that_made_the_ellipse(ra_err: float, dec_err: float) -> None:
    ra_err, dec_err = max(ra_err, 1e-6), max(dec_err, 1e-6)
    ellipse = Ellipse.from_axis_errors(
        ra_deg=10, dec_deg=60, ra_err_deg=ra_err, dec_err_deg=dec_err, confidence_level=0.68
    )
    found = bursts.axis_errors_deg(ellipse.semi_major_deg, ellipse.semi_minor_deg, ellipse.position_angle_deg)
    assert found == pytest.approx((ra_err, dec_err))


@given(st.floats(0, 360, exclude_max=True), st.floats(-90, 90))
def test_sexagesimal_coordinates_are_the_position(ra_deg: float, dec_deg: float) -> None:
    ra, dec = bursts.sexagesimal_ra(ra_deg), bursts.sexagesimal_dec(dec_deg)
    back_ra = Angle(ra.replace(" ", "")).deg % 360
    back_dec = Angle(dec.replace("\N{MINUS SIGN}", "-").translate(str.maketrans("°′″", "dms")).replace(" ", "")).deg
    # Rounded to 0.01 s and 0.1 arc seconds.
    assert min(abs(back_ra - ra_deg), 360 - abs(back_ra - ra_deg)) < 3e-5
    assert abs(back_dec - dec_deg) < 2e-5


def test_a_measurement_stands_in_the_table_as_the_list_tells_it() -> None:
    measured = Measured(
        "MB", "v1", dm_pc_cm3=411.0, dm_err_pc_cm3=1.0, snr=50.0, width_ms=5.0, flux_jy=35.0, rm_rad_m2=-613.0,
        ellipse=Ellipse(77, -26, 0.05, 0.02, 30, 0.68),
    )  # fmt: skip
    new = NewBurst(submitted_by="ada", origin="upload")
    burst = domain.create(new, frb_id=7, observatory="Tocsin", now=datetime(2026, 1, 2, tzinfo=UTC), measured=measured)
    assert burst.latest is not None

    version = bursts.version_row(burst.latest.model_dump(mode="json"))

    line = bursts.row(domain.summary(burst))
    assert version == {name: line[name] for name in version if name != "number"} | {"number": 1}


class TestCompared:
    def test_what_the_latest_says_otherwise_is_marked(self) -> None:
        latest = MEASUREMENT | {"number": 2, "dm_err_pc_cm3": 0.5, "flux_jy": 3.0, "made_at": "2026-01-03T00:00:00Z"}
        changed = {each.name for each in bursts.compared(MEASUREMENT, latest) if each.is_changed}
        assert changed == {"DM", "Flux density"}

    def test_the_same_measurement_has_no_difference(self) -> None:
        assert not any(each.is_changed for each in bursts.compared(MEASUREMENT, MEASUREMENT))

    def test_nothing_measured_is_told_so(self) -> None:
        assert all("not known" in each.first for each in bursts.compared(None, None))

    @pytest.mark.parametrize("field", ["made_by", "pipeline", "pipeline_version"])
    def test_texts_are_escaped(self, field: str) -> None:
        hostile = MEASUREMENT | {field: "<script>alert(1)</script>"}
        shown = "".join(fact.html for fact in bursts.facts(hostile))
        assert "<script" not in shown
        assert "&lt;script&gt;" in shown


def test_every_key_of_an_observation_is_shown_whoever_sent_it() -> None:
    names = {name for name, *_ in bursts.OBSERVATION}
    assert names == ObservationIn.model_fields.keys()
    notice = FrbObservation(**{name: 1 for name in FrbObservation.model_fields if name not in ("backend", "beam")})
    assert len(bursts.observation_facts(notice.model_dump())) == len(names) - 2
    assert bursts.observation_facts(None) == []


def test_the_last_vote_of_each_counts_and_the_latest_voter_is_first() -> None:
    def vote(rater: str, rating: str, day: int) -> dict[str, Any]:
        return {"rater": rater, "rating": rating, "note": None, "rated_at": f"2026-01-{day:02d}T00:00:00+00:00"}

    votes = [vote("ada", "reject", 1), vote("bea", "unsure", 2), vote("ada", "unsure", 3), vote("ada", "confirm", 4)]
    found = bursts.voters(votes)
    assert [(voter.name, voter.last["rating"], [v["rating"] for v in voter.earlier]) for voter in found] == [
        ("ada", "confirm", ["unsure", "reject"]),
        ("bea", "unsure", []),
    ]


def test_the_time_line_has_everything_in_one_order() -> None:
    history = [
        {"changed_at": "2026-01-01T00:00:00+00:00", "change": "CREATED", "changed_by": "ada", "detail": {}},
        {"changed_at": "2026-01-04T00:00:00+00:00", "change": "RATED", "changed_by": "bea",
         "detail": {"rating": "confirm", "note": None, "previous": None}},
    ]  # fmt: skip
    notice = {"changed_at": datetime(2026, 1, 2, tzinfo=UTC), "action": "NEW", "channel": "tns", "state": "CONFIRMED",
              "reason": None}  # fmt: skip
    pair = {"decided_at": "2026-01-03T00:00:00Z", "coincidence_type": "INITIAL", "coincidence_id": "S1-7",
            "reason": "close", "wave": {"superevent_id": "S1"}}  # fmt: skip
    steps = bursts.timeline(history, [notice], [pair])
    assert [(step.kind, step.what, step.detail, step.address) for step in steps] == [
        ("change", "rated", "rating: confirm", None),
        ("coincidence", "initial with S1", "close", "/mma/S1-7"),
        ("notice", "new notice on tns: confirmed", "", None),
        ("change", "created", "", None),
    ]


def test_a_survey_is_asked_for_the_position_and_nothing_else_of_its_address_is_read() -> None:
    pattern = "https://survey.example/?ra={ra}&dec={dec}&x={0}%s"
    assert bursts.survey_address(pattern, ra_deg=1, dec_deg=-2.5) == (
        "https://survey.example/?ra=1.000000&dec=-2.500000&x={0}%s"
    )


@pytest.mark.parametrize("text", ["0", "-1", "abc", "1.0", "\u0661", "9" * 30, "", "1 "])
def test_what_no_burst_is_called_is_not_found(text: str) -> None:
    with pytest.raises(ProblemError) as refused:
        burst_id(text)
    assert refused.value.status == 404
