"""What a notice says becomes a burst, and nothing that it leaves out is made up or lost."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.frb_intake import domain
from services.frb_intake.feeds.bursts import as_submitted, corrections, measured, measured_anew, new_burst
from services.frb_intake.feeds.gcn import CHIME_TOPIC, read_gcn
from services.frb_intake.feeds.notice import FrbNotice, NoticeKind
from services.frb_intake.feeds.voevent import read_voevent
from shared.errors import InvalidInputError
from shared.events.blob import BlobRef
from shared.events.frb import FrbEvent
from shared.schema.codec import encode
from tests.support.data import SAMPLES
from tests.support.voevents import CHIME_PARAMS, STANDARD_IVORN, a_chime_packet, a_packet

NOW = datetime(2026, 1, 1, tzinfo=UTC)
RAW = BlobRef(uri="file:///raw", sha256="0" * 64, size=1, media_type="application/json")
DETECTION = json.loads((SAMPLES / "gcn" / "chime-frb-detection.json").read_bytes())


def a_notice(**changes: Any) -> FrbNotice:
    """CHIME's example, changed; None leaves a key out."""
    content = {name: value for name, value in (DETECTION | changes).items() if value is not None}
    return read_gcn(json.dumps(content).encode())


def an_update(**said: Any) -> FrbNotice:
    """An update that says only this."""
    return read_gcn(
        json.dumps({"$schema": DETECTION["$schema"], "alert_type": "update", "id": DETECTION["id"]} | said).encode()
    )


def created(notice: FrbNotice) -> FrbEvent:
    return domain.create(
        new_burst(notice, by=CHIME_TOPIC, raw=RAW),
        frb_id=7,
        observatory="TOCSIN",
        now=NOW,
        measured=measured(notice),
    )


def after(burst: FrbEvent, notice: FrbNotice) -> FrbEvent:
    """The burst after a further notice that measures."""
    told = burst.model_copy(update=corrections(notice, raw=RAW))
    anew = measured_anew(notice, burst)
    assert anew is not None
    return domain.with_measurement(told, anew, by=CHIME_TOPIC, now=NOW)


def test_a_burst_is_what_its_first_notice_says() -> None:
    burst = created(a_notice())
    assert (burst.origin, burst.origin_id, burst.submitted_by) == ("CHIME", "427325191", CHIME_TOPIC)
    assert (burst.importance, burst.raw, burst.repeater) == (0.9871308604784662, RAW, False)
    assert burst.first is not None
    assert burst.first.dm_budget is not None
    assert burst.first.dm_budget.dm_mw_ism_model == "NE2001 (given)"


def test_chimes_time_is_at_the_bottom_of_its_band() -> None:
    """The delay between its two times is that of its DM at 400 MHz; elsewhere in the band it would be seconds less."""
    burst = created(a_notice(trigger_time_inf_freq=None, trigger_time_inf_freq_error=None))
    stated = datetime(2024, 9, 18, 7, 19, 3, 518831, UTC)
    assert burst.first is not None
    assert burst.first.time_of_arrival_inf is not None
    # CHIME's own DM for the time differs a little from the one it states: 0.4 pc cm^-3 are 10 ms.
    assert abs(burst.first.time_of_arrival_inf - stated) < timedelta(milliseconds=15)


def test_a_position_without_an_error_is_kept_as_a_point() -> None:
    burst = created(a_notice(ra_dec_error=None))
    assert burst.first is not None
    assert burst.first.localisation is not None
    assert burst.first.localisation.semi_major_deg == domain.SMALLEST_AXIS_DEG


def test_a_burst_without_a_position_has_a_distance_by_the_senders_galaxy() -> None:
    burst = created(a_notice(ra=None, dec=None, ra_dec_error=None))
    assert burst.first is not None
    assert burst.first.localisation is None
    assert burst.first.dm_budget is not None
    assert burst.first.dm_budget.dm_excess_pc_cm3 == pytest.approx(279.422607421875 - 37.78909399600771 - 50)


def test_a_notice_that_measures_nothing_makes_no_measurement() -> None:
    assert created(an_update(trigger_time=DETECTION["trigger_time"])).latest is None
    assert measured_anew(an_update(update_message="better than we thought"), created(a_notice())) is None


def test_an_update_corrects_what_it_names_alone() -> None:
    burst = created(a_notice())
    changed = after(burst, an_update(snr=20.0))
    assert changed.first == burst.first
    assert burst.latest is not None
    assert changed.latest == burst.latest.model_copy(update={"snr": 20.0, "number": 2})
    assert (changed.importance, changed.observation) == (burst.importance, burst.observation)


def test_a_value_that_comes_anew_without_its_error_does_not_keep_the_old_error() -> None:
    changed = after(created(a_notice()), an_update(dm=300.0))
    assert changed.latest is not None
    assert (changed.latest.dm_pc_cm3, changed.latest.dm_err_pc_cm3) == (300.0, None)


def test_another_time_of_arrival_moves_the_one_at_infinite_frequency() -> None:
    burst = created(a_notice(trigger_time_inf_freq=None))
    later = (datetime.fromisoformat(DETECTION["trigger_time"]) + timedelta(seconds=2)).isoformat()
    changed = after(burst, an_update(trigger_time=later))
    assert burst.latest is not None
    assert changed.latest is not None
    assert burst.latest.time_of_arrival_inf is not None
    assert changed.latest.time_of_arrival_inf is not None
    assert changed.latest.time_of_arrival_inf - burst.latest.time_of_arrival_inf == timedelta(seconds=2)


def test_a_milky_way_that_we_looked_up_follows_a_new_position() -> None:
    burst = created(a_notice(dm_gal_ne_2001_max=None))
    changed = after(burst, an_update(ra=255.72, dec=21.52, ra_dec_error=0.1))
    assert burst.latest is not None
    assert changed.latest is not None
    before, now = burst.latest.dm_budget, changed.latest.dm_budget
    assert before is not None
    assert now is not None
    assert now.dm_mw_ism_pc_cm3 != before.dm_mw_ism_pc_cm3
    assert (before.dm_mw_ism_model, now.dm_mw_ism_model) == ("NE2001", "NE2001")


def test_a_burst_that_cites_an_earlier_one_repeats_it_by_its_notice_where_the_source_has_no_name() -> None:
    notice = read_voevent(
        a_packet(ivorn="ivo://org.example/dish#FRB2204010000/1", cites={STANDARD_IVORN: "followup"}, why="")
    )
    assert notice is not None
    assert notice.kind is NoticeKind.SUBSEQUENT
    burst = new_burst(notice, by="voevent.frb", raw=RAW)
    assert (burst.repeater, burst.repeater_of) == (True, STANDARD_IVORN)


def test_what_was_submitted_is_ready_for_json_and_holds_nothing_that_was_not() -> None:
    said = as_submitted(a_notice(snr=None, importance=None))
    assert json.loads(json.dumps(said)) == said
    assert said["time_of_arrival"] == "2024-09-18T07:19:10.765268+00:00"
    assert "snr" not in said
    assert None not in said.values()


EXTREMES = st.sampled_from([0, 1e-320, 1e-9, 1, 1.5, 45, 90, 180, 359.999999, 360, 1e4, 1e18, 1e300, 1.7e308, -1e300])
FIGURES = [
    "snr", "ra", "dec", "dm", "dm_error", "dm_gal_ne_2001_max", "trigger_time_error", "trigger_time_inf_freq_error",
    "importance", "sampling_time", "tsys", "npol", "event_duration", "redshift", "containment_probability",
]  # fmt: skip
TIMES = st.sampled_from(
    ["0001-01-01T00:00:00Z", "1970-01-01T00:00:00Z", "2024-09-18T07:19:10Z", "9999-12-31T23:59:59Z"]
)
NOTICES = st.fixed_dictionaries(
    {},
    optional={name: st.one_of(st.none(), EXTREMES) for name in FIGURES}
    | {name: st.one_of(st.none(), TIMES) for name in ("trigger_time", "trigger_time_inf_freq")}
    | {
        "ra_dec_error": st.one_of(st.none(), EXTREMES, st.lists(EXTREMES, min_size=1, max_size=3)),
        "spectral_band": st.one_of(st.none(), st.lists(EXTREMES, min_size=2, max_size=2)),
    },
)


@given(changes=NOTICES, further=NOTICES)
def test_whatever_a_notice_states_is_a_record_or_is_refused_by_name(
    changes: dict[str, Any], further: dict[str, Any]
) -> None:
    try:
        burst = created(a_notice(**changes))
        encode(burst)
        update = an_update(**{name: value for name, value in further.items() if value is not None})
        if measured_anew(update, burst) is not None:
            encode(after(burst, update))
    except InvalidInputError as error:
        assert error.field


@given(changes=st.dictionaries(st.sampled_from(sorted(CHIME_PARAMS)), EXTREMES.map(str), max_size=4))
def test_whatever_a_packet_states_is_a_record_or_is_refused_by_name(changes: dict[str, str]) -> None:
    try:
        notice = read_voevent(a_chime_packet(**changes))
        assert notice is not None
        encode(created(notice))
    except InvalidInputError as error:
        assert error.field
