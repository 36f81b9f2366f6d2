"""Packets: every record makes one that fits the schema, and our own reader reads back what was put in."""

from __future__ import annotations

import dataclasses
import math
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from services.frb_intake.feeds.notice import NoticeKind
from services.frb_intake.feeds.voevent import read_voevent
from services.notifier.channels.voevent_packet import (
    MAX_CITED,
    Heading,
    PacketType,
    Station,
    burst_packet,
    can_be_told,
    cited_first,
    coincidence_packet,
    creation_mjd,
    error_radius_deg,
)
from shared.events.frb import FrbDmBudget, FrbEvent, FrbLocalisation, FrbMeasurement, FrbObservation, FrbStatus
from shared.events.mma import Coincidence, CoincidenceType
from shared.physics.dispersion import K_DM_S_MHZ2
from tests.support.jobs import EXAMPLES, an_example
from tests.support.voevent_channel import params, valid

MADE_AT = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
STATION = Station(institute="org.example", instrument="dish", observatory="TOCSIN")
HEADING = Heading(role="observation", made_at=MADE_AT, number=7, url="https://site.test/frb/7")
FIRST = "ivo://org.example/dish#FRB2203201000/59658.41701389"

non_negative = st.floats(min_value=0, max_value=1e12, allow_nan=False)
maybe = st.none() | non_negative
rotations = st.none() | st.floats(min_value=-1e6, max_value=1e6)
whole = st.none() | st.integers(min_value=0, max_value=2**31 - 1)
# What the reader takes for text: one line, and not the word with which some senders write nothing.
words = (
    st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=40)
    .filter(lambda text: text != "None")
)  # fmt: skip
times = st.datetimes(datetime(1970, 1, 1), datetime(2060, 1, 1), timezones=st.just(UTC))
frequencies = st.floats(min_value=100, max_value=10_000)
observations = st.builds(
    FrbObservation,
    beam_semi_major_axis_arcmin=maybe, beam_semi_minor_axis_arcmin=maybe,
    beam_rotation_angle_deg=st.none() | st.floats(min_value=-360, max_value=360),
    sampling_time_ms=maybe, bandwidth_mhz=maybe, nchan=whole, centre_frequency_mhz=st.none() | frequencies,
    npol=whole, bits_per_sample=whole, gain_k_jy=maybe, tsys_k=maybe, backend=st.none() | words, beam=st.none() | words,
)  # fmt: skip
places = st.builds(
    FrbLocalisation,
    ra_deg=st.floats(min_value=0, max_value=360, exclude_max=True), dec_deg=st.floats(min_value=-90, max_value=90),
    semi_major_deg=st.floats(min_value=1e-6, max_value=90), semi_minor_deg=st.floats(min_value=1e-6, max_value=90),
    position_angle_deg=st.floats(min_value=0, max_value=180),
    confidence_level=st.floats(min_value=0.01, max_value=0.999),
)  # fmt: skip
budgets = st.builds(
    FrbDmBudget,
    dm_mw_ism_pc_cm3=non_negative, dm_mw_ism_model=st.sampled_from(["NE2001", "YMW16", "NE2025"]),
    dm_mw_halo_pc_cm3=non_negative, dm_excess_pc_cm3=non_negative, redshift_low=non_negative,
    redshift_mean=non_negative, redshift_high=non_negative, cosmology=st.just("Planck18"),
)  # fmt: skip
measurements = st.builds(
    FrbMeasurement,
    number=st.just(1), made_at=times, made_by=words, pipeline=words, pipeline_version=words,
    dm_pc_cm3=st.none() | st.floats(min_value=0, max_value=10_000), dm_err_pc_cm3=maybe, snr=maybe, width_ms=maybe,
    flux_jy=maybe, flux_err_jy=maybe, fluence_jy_ms=maybe, fluence_err_jy_ms=maybe, rm_rad_m2=rotations,
    rm_err_rad_m2=maybe, redshift=maybe, time_of_arrival_inf=st.none() | times, time_of_arrival_inf_err_s=maybe,
    localisation=st.none() | places, gl_deg=maybe, gb_deg=rotations, dm_budget=st.none() | budgets,
)  # fmt: skip


@st.composite
def bursts(draw: st.DrawFn, *, text: st.SearchStrategy[str] = words) -> FrbEvent:
    return FrbEvent.model_validate(
        an_example("frb_event/upload-without-measurement").model_dump()
        | {
            "internal_name": draw(text), "status_reason": draw(st.none() | text), "tns_name": draw(st.none() | text),
            "repeater": draw(st.booleans()), "repeater_of": draw(st.none() | text),
            "time_of_arrival": draw(st.none() | times), "time_of_arrival_err_s": draw(maybe),
            "reference_frequency_mhz": draw(st.none() | frequencies),
            "importance": draw(st.none() | st.floats(min_value=0, max_value=1)),
            "status": draw(st.sampled_from(FrbStatus)),
            "observation": draw(st.none() | observations), "first": draw(st.none() | measurements),
            "latest": draw(st.none() | measurements),
        }
    )  # fmt: skip


def burst(**changes: Any) -> FrbEvent:
    record: FrbEvent = an_example("frb_event/chime-notice", **changes)
    return record


def a_packet(record: FrbEvent, packet_type: PacketType = PacketType.DETECTION, **heading: Any) -> etree._Element:
    about = Heading(**({"role": "observation", "made_at": MADE_AT, "number": 7} | heading))
    return valid(burst_packet(record, packet_type=packet_type, station=STATION, heading=about, importance=0.9).xml)


# Every record


@settings(deadline=None)
@given(bursts(text=st.text()), st.sampled_from(PacketType), st.booleans())
def test_every_burst_makes_packets_that_fit_the_schema_and_say_nothing_unknown(
    record: FrbEvent, packet_type: PacketType, is_first: bool
) -> None:
    heading = Heading("test", MADE_AT, 7, () if is_first else (FIRST,))

    packet = burst_packet(record, packet_type=packet_type, station=STATION, heading=heading, importance=0.5)

    root = valid(packet.xml)
    assert root.get("ivorn") == packet.ivorn
    for value in params(root).values():
        assert value.strip()
        assert value not in ("nan", "inf", "-inf")


@settings(deadline=None)
@given(bursts())
def test_our_reader_reads_back_what_a_packet_was_made_of(record: FrbEvent) -> None:
    if not can_be_told(record):
        return
    packet = burst_packet(
        record, packet_type=PacketType.DETECTION, station=STATION, heading=HEADING, importance=record.importance
    )

    notice = read_voevent(packet.xml.encode())

    assert notice is not None
    assert (notice.kind, notice.is_test, notice.issued_at) == (NoticeKind.DETECTION, False, MADE_AT)
    assert packet.ivorn in notice.names
    if record.observation is None or record.observation == FrbObservation():
        assert notice.observation is None
    else:
        assert notice.observation == record.observation
    assert notice.time_of_arrival_err_s == record.time_of_arrival_err_s
    measured, latest, first = notice.measurement, record.latest, record.first
    assert measured is not None
    for ours, theirs in {
        "dm_pc_cm3": "dm_pc_cm3", "snr": "snr", "width_ms": "width_ms", "flux_jy": "flux_jy",
        "fluence_jy_ms": "fluence_jy_ms", "rm_rad_m2": "rm_rad_m2", "redshift": "redshift",
    }.items():  # fmt: skip
        values = [getattr(each, ours) for each in (latest, first) if each is not None]
        known = next((value for value in values if value is not None), None)
        assert getattr(measured, theirs) == known, ours
    place = next((each.localisation for each in (latest, first) if each and each.localisation), None)
    assert (measured.ra_deg, measured.dec_deg) == ((place.ra_deg, place.dec_deg) if place else (None, None))
    if place:
        assert measured.semi_major_deg == error_radius_deg(place)
        assert measured.confidence_level == 0.68
    budget = next((each.dm_budget for each in (latest, first) if each and each.dm_budget), None)
    if budget:
        listed = budget.dm_mw_ism_model in ("NE2001", "YMW16")
        assert measured.dm_mw_ism_pc_cm3 == budget.dm_mw_ism_pc_cm3
        assert measured.dm_mw_ism_model == (budget.dm_mw_ism_model if listed else "other")


@pytest.mark.parametrize("name", [name for name in EXAMPLES if name.startswith("frb_event/")])
def test_packets_of_the_examples_fit_the_schema(name: str) -> None:
    for packet_type in PacketType:
        a_packet(an_example(name), packet_type)


@pytest.mark.parametrize("name", [name for name in EXAMPLES if name.startswith("coincidence/")])
@pytest.mark.parametrize("cites", [(), ("ivo://org.example/coincidences#S190425z-42/60000.1",)])
def test_packets_of_coincidences_fit_the_schema_and_are_not_read_as_bursts(name: str, cites: tuple[str, ...]) -> None:
    packet = coincidence_packet(
        an_example(name),
        station=dataclasses.replace(STATION, instrument="FRB-survey"),
        heading=Heading("observation", MADE_AT, 7, cites, "https://site.test/mma/x"),
    )

    valid(packet.xml)
    assert read_voevent(packet.xml.encode()) is None


# What they say


def test_a_detection_is_read_as_the_notice_that_it_came_from() -> None:
    """CHIME's time is that at 400 MHz; the standard has it at the centre of the band, 600 MHz."""
    record = burst()
    root = a_packet(record, url="https://site.test/frb/18")

    notice = read_voevent(etree.tostring(root))

    assert notice is not None
    delay_s = K_DM_S_MHZ2 * 279.422607421875 * (1 / 400**2 - 1 / 600**2)
    assert notice.reference_frequency_mhz == 600
    assert notice.time_of_arrival is not None
    assert record.time_of_arrival is not None
    # To the microsecond, in which times are kept.
    shift_s = (record.time_of_arrival - notice.time_of_arrival).total_seconds()
    assert shift_s == pytest.approx(delay_s, abs=1e-6)
    assert record.latest is not None
    assert notice.time_of_arrival_inf == record.latest.time_of_arrival_inf
    assert notice.time_of_arrival_inf_err_s == record.latest.time_of_arrival_inf_err_s
    assert notice.importance == 0.9
    assert root.findtext("How/Description") == "The time of arrival is topocentric at 600 MHz. Measured by CHIME."
    reference = root.find("How/Reference")
    assert reference is not None
    assert reference.get("uri") == "https://site.test/frb/18"


def test_parameters_have_the_units_and_meanings_of_the_standard() -> None:
    """Of the standard's parameter list."""
    root = a_packet(burst())
    expected = {
        "sampling_time": ("float", "ms", "time.resolution"),
        "bandwidth": ("float", "MHz", "instr.bandwidth"),
        "centre_frequency": ("float", "MHz", "em.freq;instr"),
        "npol": ("int", None, None),
        "tsys": ("float", "K", "phot.antennaTemp"),
        "dm": ("float", "pc/cm^3", "phys.dispMeasure"),
        "dm_error": ("float", "pc/cm^3", "stat.error;phys.dispMeasure"),
        "snr": ("float", None, "stat.snr"),
        "gl": ("float", "Degrees", "pos.galactic.lon"),
        "gb": ("float", "Degrees", "pos.galactic.lat"),
        "MW_dm_limit": ("float", "pc/cm^3", None),
        "redshift_inferred": ("float", None, "src.redshift"),
    }

    written = {
        param.get("name"): (param.get("dataType"), param.get("unit"), param.get("ucd"))
        for param in root.iterfind("What/Group/Param")
    }

    assert {name: written[name] for name in expected} == expected
    assert [group.get("name") for group in root.iterfind("What/Group")] == [
        "observatory parameters", "event parameters", "advanced parameters",
    ]  # fmt: skip


def test_what_a_later_measurement_leaves_out_is_taken_from_the_first() -> None:
    record = burst()
    first = record.first
    assert first is not None
    later = FrbMeasurement(
        number=2, made_at=MADE_AT, made_by="ann", pipeline="HT", pipeline_version="v1", rm_rad_m2=-114.6, snr=20.0
    )

    written = params(a_packet(record.model_copy(update={"latest": later}), PacketType.UPDATE, cites=(FIRST,)))

    assert (written["rm"], written["snr"]) == ("-114.6", "20.0")
    assert (written["dm"], written["dm_error"]) == (repr(first.dm_pc_cm3), repr(first.dm_err_pc_cm3))


def test_an_error_goes_with_its_own_value_only() -> None:
    record = burst()
    later = FrbMeasurement(number=2, made_at=MADE_AT, made_by="a", pipeline="HT", pipeline_version="", dm_pc_cm3=280.0)

    written = params(a_packet(record.model_copy(update={"latest": later}), PacketType.UPDATE))

    assert written["dm"] == "280.0"
    assert "dm_error" not in written


def test_a_burst_of_a_known_source_is_a_subsequent_one() -> None:
    by_name = a_packet(burst(repeater=True, repeater_of="FRB 20180916B"), PacketType.SUBSEQUENT)
    by_ivorn = a_packet(burst(repeater=True, repeater_of=FIRST), PacketType.SUBSEQUENT)

    notices = [read_voevent(etree.tostring(root)) for root in (by_name, by_ivorn)]

    assert [notice.kind for notice in notices if notice] == [NoticeKind.SUBSEQUENT] * 2
    assert [notice.cites for notice in notices if notice] == [(), (FIRST,)]
    assert notices[0] is not None
    assert notices[0].known_source == "FRB 20180916B"


def test_an_update_is_about_the_burst_that_was_told_even_when_its_time_has_changed() -> None:
    record = burst(status=FrbStatus.CONFIRMED, status_reason="2 confirmations")

    root = a_packet(record, PacketType.UPDATE, cites=(FIRST,))

    notice = read_voevent(etree.tostring(root))
    assert notice is not None
    assert (notice.kind, notice.cites) == (NoticeKind.UPDATE, (FIRST,))
    assert notice.origin_id == "ivo://org.example/dish#FRB2203201000"
    why = root.find("Why")
    assert why is not None
    assert why.get("importance") == "0.0", "the standard fixes it"
    assert root.findtext("Why/Inference/Description") == "Confirmed by people."


def test_a_retraction_says_why_and_nothing_of_the_burst() -> None:
    record = burst(status=FrbStatus.REJECTED, status_reason="Interference of a mobile telephone")

    root = a_packet(record, PacketType.RETRACTION, cites=(FIRST, FIRST + "1"))

    notice = read_voevent(etree.tostring(root))
    assert notice is not None
    assert (notice.kind, notice.cites) == (NoticeKind.RETRACTION, (FIRST, FIRST + "1"))
    assert root.find("What") is None
    assert root.find("WhereWhen") is None
    assert "Interference of a mobile telephone" in (root.findtext("Why/Description") or "")


def test_what_was_told_where_nobody_keeps_ivorns_is_cited_by_the_name_of_the_burst() -> None:
    root = a_packet(burst(), PacketType.UPDATE)

    assert root.findtext("Citations/EventIVORN") == "ivo://org.example/dish#FRB2409180719"


def test_the_error_radius_holds_68_percent_and_the_ellipse_is_told_in_words() -> None:
    """A Gaussian holds 1 - exp(-r^2 / 2): 95 % within 2.4477 sigma, 68 % within 1.5096 (tables of Rayleigh's)."""
    place = FrbLocalisation(
        ra_deg=10, dec_deg=20, semi_major_deg=0.598921, semi_minor_deg=0.503807, position_angle_deg=90,
        confidence_level=0.95,
    )  # fmt: skip
    latest = burst().latest
    assert latest is not None

    assert error_radius_deg(place) == pytest.approx(0.598921 * 1.5096 / 2.4477, rel=1e-4)
    text = a_packet(burst(latest=latest.model_copy(update={"localisation": place}))).findtext("WhereWhen/Description")
    assert text is not None
    assert "holds 0.95: semi-axes 0.598921 and 0.503807 deg" in text


def test_the_observatory_is_where_the_settings_say() -> None:
    station = Station(
        institute="org.example", instrument="dish", observatory="MOUNTAIN", longitude_deg=116.63, latitude_deg=-26.7,
        contact_name="The person on call", contact_email="call@example.org",
    )  # fmt: skip

    packet = burst_packet(burst(), packet_type=PacketType.DETECTION, station=station, heading=HEADING, importance=0.5)

    root = valid(packet.xml)
    site = root.find("WhereWhen/ObsDataLocation/ObservatoryLocation")
    assert site is not None
    assert site.get("id") == "MOUNTAIN"
    assert [site.findtext(f".//C{number}") for number in (1, 2, 3)] == ["116.63", "-26.7", "0.0"]
    assert root.findtext("Who/Author/contactEmail") == "call@example.org"
    notice = read_voevent(packet.xml.encode())
    assert notice is not None
    assert notice.measurement is not None
    assert notice.measurement.ra_deg == 346.77850859547, "the burst's position, not the telescope's"


def test_a_coincidence_names_both_and_gives_their_probability() -> None:
    record: Coincidence = an_example("coincidence/initial")

    root = valid(coincidence_packet(record, station=STATION, heading=HEADING).xml)

    written = params(root)
    assert (written["superevent_id"], written["internal_name"]) == ("S190425z", "TOCSIN-FRB-42")
    assert written["far_space_time"] == "8.704e-14"
    inference = root.find("Why/Inference")
    assert inference is not None
    assert float(inference.get("probability", "")) == pytest.approx(0.1827 / 1.1827)
    assert root.find("Citations") is None, "a gravitational wave is told by others"
    system = root.find(".//ObservationLocation/AstroCoordSystem")
    assert system is not None
    assert system.get("id") == "UTC-ICRS-GEO"


def test_coincidences_are_updated_and_taken_back_by_citing_their_own_packets() -> None:
    cited = "ivo://org.example/coincidences#S190425z-42/60000.1"
    heading = Heading("observation", MADE_AT, 7, (cited,))

    for name, how in (("update", "supersedes"), ("retraction", "retraction")):
        root = valid(coincidence_packet(an_example(f"coincidence/{name}"), station=STATION, heading=heading).xml)
        event = root.find("Citations/EventIVORN")
        assert event is not None
        assert (event.get("cite"), event.text) == (how, cited)


def test_an_update_of_a_coincidence_that_was_never_told_is_its_first_packet() -> None:
    record: Coincidence = an_example("coincidence/update")
    assert record.coincidence_type is CoincidenceType.UPDATE

    packet = coincidence_packet(record, station=STATION, heading=HEADING)

    assert packet.type is PacketType.DETECTION


# Names


@given(st.integers(0, 10**15), st.integers(0, 2000), st.integers(-3, 3), st.integers(0, 2000))
def test_no_two_packets_have_the_same_date(microseconds: int, number: int, later: int, other: int) -> None:
    made_at = datetime(1990, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)
    one = creation_mjd(Heading("test", made_at, number))
    two = creation_mjd(Heading("test", made_at + timedelta(microseconds=later), other))

    assert (one == two) == (later == 0 and number % 1000 == other % 1000)


def test_the_date_is_a_modified_julian_date() -> None:
    """J2000.0 less 12 h: MJD 51544 (Explanatory Supplement to the Astronomical Almanac)."""
    date = creation_mjd(Heading("test", datetime(2000, 1, 1, 18, tzinfo=UTC), 5))

    assert date == "51544.75000000000005"
    assert math.isclose(float(date), 51544.75, rel_tol=1e-15)


def test_no_more_packets_are_cited_than_readers_take() -> None:
    many = [f"{FIRST}{number}" for number in range(40)]

    assert cited_first(many) == [many[0], *many[-15:]]
    notice = read_voevent(etree.tostring(a_packet(burst(), PacketType.RETRACTION, cites=many)))
    assert notice is not None
    assert len(notice.cites) == MAX_CITED
