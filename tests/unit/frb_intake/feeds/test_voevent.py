"""VOEvent packets: the standard's six types, CHIME's form, what is about something else, and what is hostile."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.frb_intake.feeds.notice import FrbNotice, NoticeKind
from services.frb_intake.feeds.voevent import read_voevent
from shared.errors import InvalidInputError
from shared.events.frb import FrbObservation
from shared.voevent.packet import MAX_PACKET_BYTES
from tests.support.data import SAMPLES, SHARED_DATA, needs_shared_data
from tests.support.voevents import (
    CHIME_IVORN,
    PARAMS,
    STANDARD_IVORN,
    a_chime_packet,
    a_chime_retraction,
    a_packet,
)

ARRIVAL = datetime(2022, 3, 20, 10, 0, 28, 960760, UTC)
BURST = "ivo://org.example/dish#FRB2203201000"


def read(data: bytes, **how: Any) -> FrbNotice:
    notice = read_voevent(data, **how)
    assert notice is not None
    return notice


def sample(name: str) -> FrbNotice:
    return read((SAMPLES / "voevent" / f"{name}.xml").read_bytes())


# The standard


def test_a_detection_of_the_standard_is_read_in_full() -> None:
    """Values of FRB 20180916B in the catalogue that is shipped beside the packet."""
    notice = sample("FRB20180916B-detection")

    assert (notice.origin, notice.kind, notice.is_test) == ("samples.tocsin", NoticeKind.DETECTION, True)
    assert notice.observation == FrbObservation(
        sampling_time_ms=0.983, bandwidth_mhz=400, nchan=16384, centre_frequency_mhz=600, npol=2, bits_per_sample=8,
        tsys_k=50, backend="CHIME/FRB",
    )  # fmt: skip
    measured = notice.measurement
    assert measured is not None
    assert (measured.dm_pc_cm3, measured.dm_err_pc_cm3, measured.snr) == (349.3491, 0.0058, 36.7)
    assert (measured.width_ms, measured.flux_jy) == (0.765, 1.84)
    assert (measured.dm_mw_ism_pc_cm3, measured.dm_mw_ism_model) == (198.9, "NE2001")
    assert notice.time_of_arrival == datetime(2018, 9, 16, 10, 15, 14, 804569, UTC)
    assert notice.reference_frequency_mhz == 600
    assert notice.issued_at == datetime(2018, 9, 16, 10, 16, 5, tzinfo=UTC)
    assert (notice.tns_name, notice.importance) == ("FRB 20180916B", 0.98)
    assert notice.note == "Detection of a new burst"
    assert notice.unmapped == {"gl": "129.71", "gb": "3.73"}


def test_another_burst_of_a_source_is_a_burst_of_its_own() -> None:
    first, second = sample("FRB20180916B-detection"), sample("FRB20181019A-subsequent")

    assert second.kind is NoticeKind.SUBSEQUENT
    assert second.origin_id != first.origin_id
    assert second.cites[0] in first.names
    assert (second.repeater, second.known_source, second.tns_name) == (True, "FRB 20180916B", None)


def test_an_update_is_about_the_burst_that_it_supersedes() -> None:
    first, update = sample("FRB20180916B-detection"), sample("FRB20180916B-update")

    assert (update.kind, update.origin_id) == (NoticeKind.UPDATE, first.origin_id)
    assert set(first.names) < set(update.names)
    assert update.importance is None, "the standard fixes it at 0"
    measured = update.measurement
    assert measured is not None
    assert (measured.redshift, measured.fluence_jy_ms, measured.fluence_err_jy_ms) == (0.0337, 6.1, 1.7)
    assert (measured.flux_err_jy, measured.rm_rad_m2, measured.rm_err_rad_m2) == (0.72, -114.6, 0.6)
    assert update.unmapped["scattering"] == "1.05"


def test_a_retraction_needs_neither_what_nor_where() -> None:
    retraction = sample("FRB20180916B-retraction")

    assert retraction.kind is NoticeKind.RETRACTION
    assert retraction.origin_id == sample("FRB20180916B-detection").origin_id
    assert (retraction.measurement, retraction.time_of_arrival, retraction.observation) == (None, None, None)


def test_the_burst_is_named_by_the_ivorn_without_the_date_of_the_packet() -> None:
    notice = read(a_packet())

    assert notice.names == (BURST, STANDARD_IVORN)


@pytest.mark.parametrize("how", ["supersedes", "retraction"])
def test_an_update_of_an_update_is_about_the_first_burst(how: str) -> None:
    changed = a_packet(
        ivorn=f"{BURST}/59660.5", role="utility", cites={f"{BURST}/59659.25": how}, why='<Why importance="None"/>'
    )

    assert read(changed).origin_id == BURST


def test_nobody_can_take_back_another_observatorys_burst() -> None:
    """The origin is whoever speaks: the cited burst of another one is not found under it."""
    stranger = a_packet(ivorn="ivo://net.elsewhere/dish#FRB2203201000/59660.5", cites={STANDARD_IVORN: "retraction"})

    assert read(stranger).origin != read(a_packet()).origin


def test_parameters_may_stand_outside_of_groups() -> None:
    assert read(a_packet(grouped=False)).measurement == read(a_packet()).measurement


@pytest.mark.parametrize("absent", ["", "None", "  "])
def test_what_is_written_out_as_nothing_is_absent(absent: str) -> None:
    notice = read(a_packet(params=PARAMS | {"width": absent, "nchan": absent, "beam": absent, "colour": absent}))

    assert notice.measurement is not None
    assert notice.measurement.width_ms is None
    assert notice.observation is not None
    assert (notice.observation.nchan, notice.observation.beam) == (None, None)
    assert notice.unmapped == {}


def test_a_whole_number_may_be_written_as_a_float() -> None:
    notice = read(a_packet(params=PARAMS | {"nchan": "336.0"}))

    assert notice.observation is not None
    assert notice.observation.nchan == 336


def test_an_error_radius_is_a_circle_and_zero_means_unknown() -> None:
    circle, unknown = read(a_packet()).measurement, read(a_packet(place=("10", "20", "0"))).measurement

    assert circle is not None
    assert circle.semi_major_deg == circle.semi_minor_deg == 0.5392466329194251
    assert circle.confidence_level == 0.68
    assert unknown is not None
    assert (unknown.ra_deg, unknown.semi_major_deg, unknown.confidence_level) == (10, None, None)


@pytest.mark.parametrize("system", ["UTC-ICRS-TOPO", "UTC-ICRS-GEO", "UTC-FK5-TOPO", "UTC-FK5-GEO"])
def test_systems_that_differ_by_less_than_anyone_measures_are_read_alike(system: str) -> None:
    assert read(a_packet(system=system)).measurement == read(a_packet()).measurement


@pytest.mark.parametrize("system", ["TT-ICRS-TOPO", "UTC-FK4-TOPO", "UTC-GAL-GEO", "TDB-ICRS-BARY"])
def test_another_system_is_refused(system: str) -> None:
    """A barycentric time is up to 500 s away, B1950 coordinates up to a degree."""
    with pytest.raises(InvalidInputError, match=f"^AstroCoordSystem is {system}; expected UTC-ICRS-TOPO"):
        read(a_packet(system=system))


def test_a_test_is_known_by_its_role_or_by_its_message() -> None:
    assert read(a_packet(role="test")).is_test
    assert read(a_packet(), marked_test=True).is_test
    assert not read(a_packet()).is_test


# CHIME's form


def test_a_detection_of_chime_states_both_times_and_its_number() -> None:
    notice = read(a_chime_packet())

    assert (notice.origin, notice.names) == ("CHIME", (CHIME_IVORN, "217097677"))
    assert (notice.time_of_arrival, notice.reference_frequency_mhz) == (ARRIVAL, 400)
    assert notice.time_of_arrival_inf == datetime(2022, 3, 20, 10, 0, 20, 969754, UTC)
    assert (notice.time_of_arrival_err_s, notice.time_of_arrival_inf_err_s) == (
        0.007864319719374001,
        0.02239969915578273,
    )
    assert notice.repeater is False
    measured = notice.measurement
    assert measured is not None
    assert (measured.dm_mw_ism_pc_cm3, measured.dm_mw_ism_model) == (26.284419129901345, "NE2001")
    assert measured.pipeline == "real-time"


def test_chimes_axis_along_declination_is_called_the_major_one_also_when_it_is_shorter() -> None:
    measured = read(a_chime_packet()).measurement

    assert measured is not None
    assert (measured.semi_major_deg, measured.semi_minor_deg) == (0.5392466329194251, 0.38229381212162405)
    assert (measured.position_angle_deg, measured.confidence_level) == (90, 0.95)


def test_a_subsequent_packet_of_chime_cites_nothing_by_name() -> None:
    data = a_chime_packet(known_source_name="60792403").replace(
        b"</Why>",
        b'<Inference probability="0.99" relation="Known source association probability"/></Why>'
        b'<Citations><EventIVORN cite="followup"/></Citations>',
    )

    notice = read(data)

    assert (notice.kind, notice.cites) == (NoticeKind.SUBSEQUENT, ())
    assert (notice.repeater, notice.known_source) == (True, "60792403")
    assert notice.unmapped["association_probability"] == 0.99


def test_a_retraction_of_chime_has_zeros_for_a_position_and_no_namespace() -> None:
    notice = read(a_chime_retraction())

    assert (notice.kind, notice.origin) == (NoticeKind.RETRACTION, "CHIME")
    assert notice.origin_id == read(a_chime_packet()).origin_id
    assert (notice.measurement, notice.time_of_arrival, notice.importance) == (None, None, None)


# What is about something else is passed over.


@needs_shared_data
def test_a_gravitational_wave_is_passed_over() -> None:
    assert SHARED_DATA is not None
    assert read_voevent((SHARED_DATA / "voevent" / "MS181101ab-2-Preliminary.xml").read_bytes()) is None


@pytest.mark.parametrize(
    "packet",
    [
        a_packet(ivorn="ivo://nasa.gsfc.gcn/SWIFT#BAT_Trig_Test", params={"TrigID": "1"}),
        a_packet(ivorn="ivo://ca.chimenet.frb/TestEvent#2022", role="test", params={}),
        a_packet(ivorn="ivo://org.example/dish#OBS2203201000/59658.4", role="utility", params={"scan_type": "Fixed"}),
        a_packet(
            ivorn="ivo://org.example/dish#OBS2203201000/59658.4",
            role="utility",
            params={"target_name": "FRB 20180916B"},
            cites={STANDARD_IVORN: "followup"},
        ),
        a_packet(role="prediction"),
        a_packet(
            ivorn="ivo://gwnet/LVC#S1-2-Retraction", params={}, cites={"ivo://gwnet/LVC#S1-1-Initial": "retraction"}
        ),
    ],
    ids=["gamma rays", "a broker's test", "a search", "an observing plan", "a prediction", "a wave taken back"],
)
def test_what_is_not_about_a_burst_is_passed_over(packet: bytes) -> None:
    assert read_voevent(packet) is None


def test_a_burst_that_follows_a_gravitational_wave_is_a_detection() -> None:
    notice = read(a_packet(cites={"ivo://gwnet/LVC#S230518h-2-Preliminary": "followup"}))

    assert (notice.kind, notice.repeater) == (NoticeKind.DETECTION, False)
    assert notice.cites == ("ivo://gwnet/LVC#S230518h-2-Preliminary",)


# The same packet twice is one.


def test_a_packet_has_the_same_identity_however_it_is_written_down() -> None:
    plain = a_packet()
    indented = plain.replace(b"><", b">\n  <").replace(b"<Who>", b"<!-- passed on --><Who>")

    assert read(indented).notice_id == read(plain).notice_id
    assert read(plain, marked_test=True).notice_id != read(plain).notice_id
    assert read(a_packet(params=PARAMS | {"dm": "308.2"})).notice_id != read(plain).notice_id


# What is wrong is told by the packet's own name for it.


@pytest.mark.parametrize(
    ("packet", "complaint"),
    [
        (a_packet(ivorn="dish-7"), "ivorn is dish-7; expected ivo://authority/name"),
        (a_packet(ivorn=""), "ivorn is missing"),
        (a_packet(time=None), "ISOTime is missing; expected the time of arrival of the burst"),
        (a_packet(time="soon"), "ISOTime is soon; expected an ISO 8601 date and time"),
        (a_packet(params=PARAMS | {"dm": "much"}), "dm is much; expected a number"),
        (a_packet(params=PARAMS | {"dm": "nan"}), "dm is nan; expected a number"),
        (a_packet(params=PARAMS | {"snr": "inf"}), "snr is inf; expected a number"),
        (a_packet(params=PARAMS | {"width": "-1"}), "width is -1; expected a number of at least 0"),
        (a_packet(params=PARAMS | {"npol": "2.5"}), "npol is 2.5; expected a whole number"),
        (a_packet(place=("361", "0", "1")), "C1 is 361; expected a number from 0 to 360"),
        (a_packet(place=("0", "north", "1")), "C2 is north; expected a number from -90 to 90"),
        (a_packet(place=("0", "0", "wide")), "Error2Radius is wide; expected a number"),
        (a_packet(why='<Why importance="2"/>'), "importance is 2; expected a number from 0 to 1"),
        (a_chime_packet(timestamp_utc_inf_freq="10:00"), "timestamp_utc_inf_freq is 10:00; expected an ISO 8601"),
        (b"<Transport/>", "packet is Transport; expected a VOEvent"),
        (a_packet(ivorn=f"ivo://{'x' * 300}/FRB"), "ivorn is ivo://xxx"),
        (a_packet(params=PARAMS | {"backend": "x" * 300}), "backend is xxx"),
        (a_packet(why=f"<Why><Description>{'x' * 20_000}</Description></Why>"), "Description is xxx"),
        (a_packet(cites={f"ivo://a/FRB{n}": "supersedes" for n in range(20)}), "Citations is 20 packets; expected at"),
    ],
)
def test_a_packet_that_breaks_its_contract_is_told_so(packet: bytes, complaint: str) -> None:
    with pytest.raises(InvalidInputError) as refusal:
        read_voevent(packet)

    assert str(refusal.value).startswith(complaint)


def test_what_is_not_known_is_kept_as_long_as_there_is_room() -> None:
    many = {f"colour_{number}": "x" * 100 for number in range(5000)}

    notice = read(a_packet(params=PARAMS | {"essay": "x" * 5000} | many))

    assert "essay" not in notice.unmapped
    assert 500 < len(notice.unmapped) < 600, "64 KiB of about 112 characters each"


# What is hostile is refused, and costs nothing.

BOMB = b"".join(
    [
        b'<!DOCTYPE x [<!ENTITY a "ha">',
        *(b'<!ENTITY a%d "%s">' % (n, b"&a%d;" % (n - 1) * 10 if n else b"ha") for n in range(12)),
        b"]>",
    ]
)


def test_a_document_type_is_refused(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hush")
    entity = b'<!DOCTYPE x [<!ENTITY e SYSTEM "%s">]>' % secret.as_uri().encode()

    for prolog in (entity, BOMB, b'<!DOCTYPE x SYSTEM "http://127.0.0.1:9/x.dtd">'):
        for inside in (b"&e;", b"&a11;", b"text"):
            packet = a_packet().replace(b"?>\n", b"?>" + prolog).replace(b"A burst", inside)
            with pytest.raises(InvalidInputError, match="^packet is") as refusal:
                read_voevent(packet)
            assert "hush" not in str(refusal.value)


def test_a_bomb_in_an_attribute_is_refused() -> None:
    packet = a_packet().replace(b"?>\n", b"?>" + BOMB).replace(b'role="observation"', b'role="&a11;"')

    with pytest.raises(InvalidInputError, match="^packet is"):
        read_voevent(packet)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<",
        b"dear observatory",
        b"A sample detection\n" + a_packet(),
        a_packet()[:-20],
        b"<a>" * 100_000,
        b"\x00" * 100,
        a_packet().replace(b"UTF-8", b"UTF-77"),
        a_packet() + b"<more/>",
    ],
)
def test_what_is_no_xml_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidInputError, match="^packet is"):
        read_voevent(data)


def test_a_packet_larger_than_any_is_refused_unread() -> None:
    with pytest.raises(InvalidInputError, match=f"^packet is {MAX_PACKET_BYTES + 1} bytes"):
        read_voevent(b" " * (MAX_PACKET_BYTES + 1))


def test_blanks_before_the_prolog_do_no_harm() -> None:
    assert read(b"\n  " + a_packet()).notice_id == read(a_packet()).notice_id


@given(st.binary(max_size=200))
def test_any_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(InvalidInputError):
        read_voevent(data)


texts = st.text(st.characters(exclude_categories=["Cc", "Cs"], exclude_characters='<>&"￾￿'), max_size=12)


@given(st.sampled_from([*PARAMS, "nchan", "beam", "rm", "event_no"]), texts, texts, texts)
def test_any_text_in_any_place_is_read_or_refused(name: str, value: str, ra: str, time: str) -> None:
    packet = a_packet(params=PARAMS | {name: value}, place=(ra, "0", "1"), time=time)
    try:
        read_voevent(packet)
    except InvalidInputError:
        return
