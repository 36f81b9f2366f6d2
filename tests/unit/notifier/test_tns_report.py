"""Reports for the Transient Name Server: what is known and nothing else, in the words of either generation."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.notifier.channels.tns_report import (
    KEYS,
    Sender,
    axis_errors_deg,
    bulk_report,
    frb_name,
    frb_report,
    is_reportable,
    named_of_day,
    objects_of,
    read_feedback,
    renamed,
)
from shared.errors import PermanentError
from shared.events.frb import FrbEvent, FrbLocalisation, FrbMeasurement, FrbObservation, FrbStatus
from shared.testing.tns import TnsStandIn
from tests.support.jobs import an_example

SENDER = Sender(
    reporter="A. Observer",
    reporting_group=58,
    data_source_group=59,
    instrument=101,
    filter=129,
    proprietary_until="2026-02-01",
    proprietary_groups=(58, 86),
    keys=KEYS["2.0"],
)


def upload(**changes: Any) -> FrbEvent:
    """A burst of our own without a name."""
    record: FrbEvent = an_example("frb_event/upload-measured-twice", **({"tns_name": None} | changes))
    return record


def of_first(**changes: Any) -> FrbEvent:
    record = upload()
    assert record.first is not None
    return upload(first=record.first.model_copy(update=changes))


def test_the_first_measurement_is_reported_with_everything_that_is_known() -> None:
    record = of_first(fluence_jy_ms=45.0, fluence_err_jy_ms=5.0, rm_rad_m2=-613.0, rm_err_rad_m2=2.0, redshift=0.0982)
    told = frb_report(record, SENDER)
    measured = told.pop("photometry")
    assert told == {
        "ra": {"value": 77.01461542, "error": pytest.approx(0.05), "units": "deg"},
        "dec": {"value": 26.06069556, "error": pytest.approx(0.05), "units": "deg"},
        "reporting_groupid": 58,
        "data_source_groupid": 59,
        "reporter": "A. Observer",
        "internal_name": "TOCSIN-FRB-17",
        "at_type": 5,
        "discovery_datetime": "2017-11-17 12:21:38.870000",
        "end_prop_period": "2026-02-01",
        "prop_period_groups": [58, 86],
        "host_redshift": 0.0982,
        "region_ellipse": "0.05, 0.05, 0",
        "region_ellipse_unitid": 27,
        "dm": 411.0,
        "dm_err": 1.0,
        "dm_unitid": 25,
        "galactic_max_dm": 123.16007817568256,
        "remarks": "Time of arrival at 1400 MHz. Repeats FRB 20160408A.",
    }
    assert measured == {
        "0": {
            "obsdate": "2017-11-17 12:21:38.870000",
            "flux": 35.0,
            "flux_error": 3.0,
            "flux_unitid": 8,
            "filterid": 129,
            "instrumentid": 101,
            "snr": 50.0,
            "fluence": 45.0,
            "fluence_err": 5.0,
            "fluence_unitid": 22,
            "burst_width": 5.0,
            "burst_width_unitid": 23,
            "rm": -613.0,
            "rm_err": 2.0,
            "rm_unitid": 26,
            "ref_freq": 1400.0,
            "ref_freq_unitid": 24,
            "inst_bandwidth": 300.0,
            "inst_bandwidth_unitid": 24,
            "channels_no": 3000,
            "sampling_time": 0.1,
            "sampling_time_unitid": 23,
        }
    }


def test_later_measurements_change_nothing() -> None:
    record = upload()
    assert frb_report(record, SENDER) == frb_report(upload(latest=record.first), SENDER)


def test_older_servers_have_other_names_and_a_group_around_what_was_measured() -> None:
    told = frb_report(upload(), Sender(**{**vars(SENDER), "keys": KEYS["old"]}))
    assert (told["reporting_group_id"], told["discovery_data_source_id"]) == (58, 59)
    assert told["proprietary_period_groups"] == [58, 86]
    measured = told["photometry"]["photometry_group"]["0"]
    assert (measured["flux_units"], measured["filter_value"], measured["instrument_value"]) == (8, 129, 101)


def test_any_field_can_have_another_name_or_be_left_out_with_its_unit() -> None:
    told = frb_report(upload(), Sender(**{**vars(SENDER), "keys": {"region_ellipse": "", "dm": "DM", "rm": ""}}))
    assert told.keys().isdisjoint({"region_ellipse", "region_ellipse_unitid", "dm"})
    assert told["DM"] == 411.0
    assert renamed({"a": {"b": {"c": 1}}}, {"b": ""}) == {"a": {"c": 1}}


def test_the_galactic_model_is_told_when_the_tns_knows_it() -> None:
    told = frb_report(an_example("frb_event/chime-notice"), SENDER)
    assert (told["galactic_max_dm"], told["galactic_max_dm_model"]) == (37.78909399600771, "NE2001")


def test_without_a_flux_a_limit_is_told_only_when_there_is_one() -> None:
    record = of_first(flux_jy=None)
    without = frb_report(record, SENDER)["photometry"]["0"]
    assert without.keys().isdisjoint({"flux", "flux_error", "limiting_flux", "flux_unitid"})
    limited = frb_report(record, Sender(**{**vars(SENDER), "limiting_flux_jy": 0.0}))["photometry"]["0"]
    assert (limited["limiting_flux"], limited["flux_unitid"]) == (0.0, 8)


def test_a_time_at_infinite_frequency_is_said_to_be_one() -> None:
    record = upload(time_of_arrival=None)
    told = frb_report(record, SENDER)
    assert told["discovery_datetime"] == "2017-11-17 12:21:37.999901"
    assert told["remarks"].startswith("Time of arrival at infinite frequency.")


NUMBERS = st.none() | st.floats()


@given(
    measured=st.fixed_dictionaries(
        {
            name: NUMBERS
            for name in FrbMeasurement.model_fields
            if name.endswith(("_jy", "_ms", "_m2", "_cm3")) or name in ("snr", "redshift")
        }
        | {"dm_pc_cm3": st.floats(allow_nan=False, allow_infinity=False)}
    ),
    observed=st.fixed_dictionaries(
        {name: NUMBERS for name in FrbObservation.model_fields if name.endswith(("_ms", "_mhz"))}
    ),
    reference_mhz=NUMBERS,
)
def test_nothing_unknown_is_ever_written(
    measured: dict[str, Any], observed: dict[str, Any], reference_mhz: float | None
) -> None:
    record = of_first(**measured).model_copy(
        update={
            "observation": FrbObservation().model_copy(update=observed),
            "reference_frequency_mhz": reference_mhz,
            "repeater_of": None,
        }
    )
    assert is_reportable(record)
    text = json.dumps(bulk_report([frb_report(record, SENDER)]), allow_nan=False)
    assert "null" not in text
    assert "nan" not in text
    assert "None" not in text
    told = json.loads(text)["frb_report"]["0"]
    assert TnsStandIn().errors_of(told) == {}
    point = told["photometry"]["0"]
    for fields in (told, point):
        for name in fields:
            if name.endswith("_unitid") and name != "flux_unitid":
                assert name.removesuffix("_unitid") in fields


def test_errors_of_a_position_are_those_that_were_uploaded() -> None:
    # 68 % ellipses come from uploaded errors; north is position angle 0.
    tilted = FrbLocalisation(
        ra_deg=10, dec_deg=20, semi_major_deg=0.3, semi_minor_deg=0.1, position_angle_deg=90, confidence_level=0.68
    )
    assert axis_errors_deg(tilted) == pytest.approx((0.3, 0.1))
    assert axis_errors_deg(tilted.model_copy(update={"position_angle_deg": 0})) == pytest.approx((0.1, 0.3))


def test_wider_ellipses_are_reduced_as_a_gaussian_is() -> None:
    # In two dimensions the level is 1 - exp(-r^2 / 2): 95 % is at 2.4477 sigma, 68 % at 1.5096.
    wide = FrbLocalisation(
        ra_deg=0, dec_deg=0, semi_major_deg=2.4477, semi_minor_deg=2.4477, position_angle_deg=30, confidence_level=0.95
    )
    assert axis_errors_deg(wide) == pytest.approx((1.5096, 1.5096), rel=1e-4)
    assert all(map(math.isfinite, axis_errors_deg(wide.model_copy(update={"confidence_level": 1.0}))))


@pytest.mark.parametrize(
    "changes",
    [
        {"status": FrbStatus.REJECTED},
        {"status": FrbStatus.WITHDRAWN},
        {"tns_name": "FRB 20171117A"},
        {"first": None, "latest": None},
    ],
)
def test_what_is_no_burst_any_more_has_a_name_or_was_not_measured_is_not_reportable(changes: dict[str, Any]) -> None:
    assert is_reportable(upload())
    assert not is_reportable(upload(**changes))


@pytest.mark.parametrize("changes", [{"localisation": None}, {"dm_pc_cm3": None}, {"dm_pc_cm3": math.nan}])
def test_a_burst_needs_a_place_and_a_dispersion(changes: dict[str, Any]) -> None:
    assert not is_reportable(of_first(**changes))


# What comes back.


def reply(*entries: dict[str, Any]) -> dict[str, Any]:
    return {"feedback": {"frb_report": list(entries)}}


@pytest.mark.parametrize("number", ["100", "101"])
def test_a_created_object_and_one_that_was_there_are_named(number: str) -> None:
    feedback = read_feedback(reply({}, {number: {"objname": "20171117A"}, "110": {"message": "Remarks added"}}), 1)
    assert (feedback.name, feedback.errors, feedback.notes) == ("20171117A", (), ("Remarks added",))


def test_reports_may_be_numbered_by_name() -> None:
    data = {"feedback": {"frb_report": {"0": {"100": {"objname": "20171117A"}}}}}
    assert read_feedback(data, 0).name == "20171117A"


def test_a_refused_field_is_told_with_its_message() -> None:
    wrong = {"photometry": {"0": {"flux": [{"message": "Invalid value", "message_id": 4}]}}, "dm": [{"message": "No"}]}
    assert read_feedback(reply(wrong), 0).errors == ("photometry.flux: Invalid value", "dm: No")


def test_information_alone_is_no_answer_yet() -> None:
    said = {"102": {"message": "Being processed"}, "at_rep": {"ra": {"value": 1}}}
    assert read_feedback(reply(said), 0).is_empty
    assert read_feedback(reply({}), 0).is_empty


def test_a_bare_status_code_is_an_error() -> None:
    assert read_feedback(reply({"status_code": "Bad request"}), 0).errors == ("status_code: Bad request",)


@pytest.mark.parametrize(
    "text",
    [
        "An identical AT report (sender, RA/DEC, discovery date) already exists.",
        "An identical AT report (sender, RA/DEC, discovery date, internal_name) already exists",
    ],
)
def test_an_identical_report_is_no_error(text: str) -> None:
    feedback = read_feedback(reply({"at_rep": [{"message": text, "message_id": 5}]}), 0)
    assert feedback.is_identical
    assert feedback.errors == ()


@pytest.mark.parametrize("data", [None, [], {}, {"feedback": None}, {"feedback": {"frb_report": []}}, "text"])
def test_a_reply_that_says_nothing_of_the_report_is_refused(data: Any) -> None:
    with pytest.raises(PermanentError, match="says nothing"):
        read_feedback(data, 0)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["100", "101", "message", "message_id", "objname", "at_rep", "x"]), inner)
    ),
    max_leaves=20,
)


@given(entry=st.dictionaries(st.sampled_from(["100", "101", "121", "message", "at_rep", "ra"]), json_values))
def test_any_entry_is_read(entry: dict[str, Any]) -> None:
    read_feedback(reply(entry), 0)


@pytest.mark.parametrize(
    ("objname", "name"),
    [
        ("20171117A", "FRB 20171117A"),
        ("FRB 20171117A", "FRB 20171117A"),
        ("FRB20171117abc", "FRB 20171117abc"),
        ("2018cow", None),
    ],
)
def test_names_have_their_prefix(objname: str, name: str | None) -> None:
    assert frb_name(objname) == name


def test_a_search_finds_the_burst_of_its_day_only() -> None:
    found = [{"objname": "2018cow"}, {"objname": "20180301A"}, {"objname": "20171117B"}]
    for data in ({"reply": found}, found):
        assert named_of_day(objects_of(data), "2017-11-17 12:21:38.870000") == "FRB 20171117B"
    assert named_of_day(found, "2019-01-01 00:00:00.000000") is None
    assert objects_of("nothing") == objects_of({"reply": None}) == []
