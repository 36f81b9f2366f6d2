"""Every form in which an alert has travelled says the same."""

import hashlib
from datetime import UTC, datetime
from pathlib import Path

import pytest

from services.gw_listener.alerts import UpstreamAlert, alert_from_content, read_alert
from shared.events.gw import AlertType, RawFormat, SupereventKind
from tests.support.alerts import (
    EVENT_FIELDS,
    EVENT_TIME,
    a_burst,
    a_coincidence,
    a_json_alert,
    a_skymap,
    alert_content,
    alert_schema,
    an_alert,
    an_event,
    as_avro,
    as_json,
    iso,
)
from tests.support.data import SAMPLES, SHARED_DATA, needs_shared_data

OFFICIAL = {
    "earlywarning": AlertType.EARLYWARNING,
    "preliminary": AlertType.PRELIMINARY,
    "initial": AlertType.INITIAL,
    "update": AlertType.UPDATE,
    "ext-update": AlertType.UPDATE,
    "retraction": AlertType.RETRACTION,
}


def official(stage: str) -> UpstreamAlert:
    return read_alert((SAMPLES / f"igwn/MS181101ab-{stage}.avro").read_bytes())


@pytest.mark.parametrize(("stage", "alert_type"), OFFICIAL.items())
def test_every_official_sample_is_read(stage: str, alert_type: AlertType) -> None:
    alert = official(stage)

    assert (alert.superevent_id, alert.kind, alert.alert_type) == ("MS181101ab", SupereventKind.MOCK, alert_type)
    assert (alert.raw_format, alert.upstream_schema) == (RawFormat.AVRO, "igwn.alerts.v1_0.Alert")
    assert alert.urls == {"gracedb": "https://example.org/superevents/MS181101ab/view/"}
    assert not alert.unknown_fields


def test_the_event_is_taken_over_field_by_field() -> None:
    """The figures are those of the record printed in the public alerts user guide."""
    alert = official("preliminary")

    assert alert.time_created == datetime(2018, 11, 1, 22, 34, 49, tzinfo=UTC)
    assert alert.event is not None
    assert alert.event.model_dump() == {
        "time": datetime(2018, 11, 1, 22, 22, 46, 654000, tzinfo=UTC),
        "far_hz": 9.11069936486e-14,
        "significant": True,
        "instruments": ("H1", "L1", "V1"),
        "group": "CBC",
        "pipeline": "gstlal",
        "search": "MDC",
        "classification": {"BBH": 0.03, "BNS": 0.95, "NSBH": 0.01, "Terrestrial": 0.01},
        "properties": {"HasMassGap": 0.01, "HasNS": 0.95, "HasRemnant": 0.91},
        "duration_s": None,
        "central_frequency_hz": None,
        "mchirp_source": None,
    }
    assert alert.skymap is not None
    assert (len(alert.skymap), alert.skymap[:9]) == (777600, b"SIMPLE  =")
    assert (alert.external_coinc, alert.combined_skymap) == (None, None)


def test_a_coincidence_comes_with_its_combined_sky_map() -> None:
    alert = official("ext-update")

    assert alert.external_coinc is not None
    assert alert.external_coinc.model_dump(exclude_none=True) == {
        "gcn_notice_id": "524666471",
        "ivorn": "ivo://nasa.gsfc.gcn/Fermi#GBM_Fin_Pos2017-08-17T12:41:06.47_524666471_0-389",
        "observatory": "Fermi",
        "search": "GRB",
        "time_difference_s": 2.02,
        "time_coincidence_far_hz": 2.14387838137e-14,
        "time_sky_position_coincidence_far_hz": 6.410749524018777e-16,
    }
    assert alert.combined_skymap is not None
    assert len(alert.combined_skymap) == 777600
    assert alert.combined_skymap != alert.skymap


def test_a_retraction_has_neither_event_nor_sky_map() -> None:
    alert = official("retraction")

    assert (alert.event, alert.external_coinc, alert.skymap, alert.combined_skymap) == (None, None, None, None)


@pytest.mark.parametrize("stage", ["Preliminary", "Initial", "Update"])
def test_the_real_event_is_read_from_json(stage: str) -> None:
    alert = read_alert((SAMPLES / f"igwn/S230518h-{stage}_alert.json").read_bytes())

    assert (alert.kind, alert.alert_type) == (SupereventKind.REAL, AlertType(stage.upper()))
    assert (alert.raw_format, alert.upstream_schema) == (RawFormat.JSON, "")
    assert alert.event is not None
    assert (alert.event.pipeline, alert.event.instruments) == ("pycbc", ("H1", "L1"))
    assert alert.skymap is not None
    assert alert.skymap.startswith(b"SIMPLE  =")


@needs_shared_data
@pytest.mark.parametrize("stage", OFFICIAL)
def test_the_json_form_of_a_sample_equals_its_avro_form(stage: str) -> None:
    assert SHARED_DATA is not None
    json_form = read_alert((SHARED_DATA / f"igwn_json/MS181101ab-{stage}.json").read_bytes())

    assert differences(official(stage), json_form) == {"raw_format", "upstream_schema"}


@needs_shared_data
@pytest.mark.parametrize("path", sorted((SHARED_DATA or SAMPLES).glob("igwn_avro_old/*.avro")), ids=lambda p: p.name)
def test_every_older_revision_of_a_sample_is_read(path: Path) -> None:
    old = read_alert(path.read_bytes())
    new = official(path.stem.split("MS181101ab-")[1])

    # The drafts lacked `significant`, the first ones HasMassGap; nothing else of the content has changed.
    assert differences(old, new) <= {"upstream_schema", "event"}
    assert (old.event is None) == (new.event is None)
    if old.event and new.event:
        assert old.event.significant is None
        assert old.event.model_dump(exclude={"significant", "properties"}) == new.event.model_dump(
            exclude={"significant", "properties"}
        )


@pytest.mark.parametrize("name", ["20221101-MS181101ab-retraction.avro", "20230327a-MS181101ab-retraction.avro"])
def test_a_retraction_that_is_a_bare_map_equals_the_record(name: str) -> None:
    bare = read_alert((SAMPLES / "igwn" / name).read_bytes())

    assert bare.upstream_schema == ""
    assert differences(bare, official("retraction")) == {"upstream_schema"}


def test_the_avro_and_json_form_of_a_built_alert_are_equal() -> None:
    content = {
        "skymap": a_skymap(),
        "event": a_burst(),
        "external_coinc": a_coincidence(combined_skymap=a_skymap(peak=5)),
    }

    assert differences(read_alert(an_alert(**content)), read_alert(a_json_alert(**content))) == {
        "raw_format",
        "upstream_schema",
    }


def test_a_burst_has_a_duration_and_a_frequency() -> None:
    event = read_alert(an_alert(event=a_burst())).event

    assert event is not None
    assert (event.group, event.duration_s, event.central_frequency_hz) == ("Burst", 0.25, 153.5)
    assert event.classification == {}


@pytest.mark.parametrize(
    ("superevent_id", "kind"),
    [
        ("S230518h", SupereventKind.REAL),
        ("S190425z", SupereventKind.REAL),
        ("MS181101ab", SupereventKind.MOCK),
        ("TS260605abc", SupereventKind.TEST),
        ("M1234567", SupereventKind.MOCK),
    ],
)
def test_the_first_letter_tells_the_kind(superevent_id: str, kind: SupereventKind) -> None:
    assert read_alert(an_alert(superevent_id=superevent_id)).kind is kind


@pytest.mark.parametrize(
    "spelling",
    [
        "2018-11-01T22:34:20Z",
        "2018-11-01 22:34:20",
        "2018-11-01 22:34:20 UTC",
        "2018-11-01T22:34:20",
        "2018-11-01T22:34:20.000Z",
        "2018-11-01T22:34:20+00:00",
        "2018-11-01T23:34:20+01:00",
    ],
)
def test_times_are_understood_in_every_spelling(spelling: str) -> None:
    content = alert_content() | {"time_created": spelling}

    assert read_alert(as_json(content)).time_created == datetime(2018, 11, 1, 22, 34, 20, tzinfo=UTC)


def test_times_keep_their_microseconds_and_are_utc() -> None:
    content = alert_content(event=an_event(time="2026-11-21T03:04:05.123456Z"))

    event = read_alert(as_json(content)).event

    assert event is not None
    assert event.time == datetime(2026, 11, 21, 3, 4, 5, 123456, tzinfo=UTC)
    assert event.time.tzinfo is UTC


@pytest.mark.parametrize("spelling", ["EARLY_WARNING", "EARLYWARNING", "EarlyWarning"])
def test_early_warnings_are_known_in_every_spelling(spelling: str) -> None:
    assert read_alert(as_json(alert_content(alert_type=spelling))).alert_type is AlertType.EARLYWARNING


def test_an_alert_type_that_is_new_to_us_is_kept_and_not_fatal() -> None:
    alert = read_alert(as_json(alert_content(alert_type="POSTMORTEM")))

    assert (alert.alert_type, alert.upstream_type) == (AlertType.UNKNOWN, "POSTMORTEM")
    assert alert.unknown_fields == {"alert_type": "POSTMORTEM"}


def test_a_new_alert_type_in_a_new_avro_schema_is_kept_too() -> None:
    later = {"type": "enum", "name": "igwn.alerts.AlertType", "symbols": ["PRELIMINARY", "POSTMORTEM"]}

    alert = read_alert(as_avro(alert_content(alert_type="POSTMORTEM"), alert_schema(alert_type=later)))

    assert alert.alert_type is AlertType.UNKNOWN


@pytest.mark.parametrize(("sent", "read"), [(524666471, "524666471"), ("icecube_1-2", "icecube_1-2"), (None, None)])
def test_a_notice_id_may_be_a_number_or_a_text(sent: object, read: str | None) -> None:
    alert = read_alert(a_json_alert(external_coinc=a_coincidence(gcn_notice_id=sent)))

    assert alert.external_coinc is not None
    assert alert.external_coinc.gcn_notice_id == read


def test_the_chirp_mass_of_schema_1_2_is_read() -> None:
    histogram = {"bin_edges": [0.1, 1.2, 2.5], "probabilities": [0.25, 0.75]}
    later = {
        "type": "record",
        "name": "igwn.alerts.McSource",
        "fields": [{"name": name, "type": {"type": "array", "items": "double"}} for name in histogram],
    }
    schema = alert_schema(event={**EVENT_FIELDS, "mchirp_source": ["null", later]})

    event = read_alert(as_avro(alert_content(event=an_event(mchirp_source=histogram)), schema)).event

    assert event is not None
    assert event.mchirp_source is not None
    assert (event.mchirp_source.bin_edges, event.mchirp_source.probabilities) == ((0.1, 1.2, 2.5), (0.25, 0.75))


def test_content_may_be_a_list_of_one_record() -> None:
    """hop-client before 0.11 gave lists."""
    content = alert_content(skymap=a_skymap())

    in_list = alert_from_content([content], raw_format=RawFormat.AVRO)

    assert in_list == alert_from_content(content, raw_format=RawFormat.AVRO)
    assert in_list.skymap == a_skymap()


def test_what_schema_1_0_does_not_promise_may_be_missing() -> None:
    sparse = {"time": iso(EVENT_TIME), "far": 1e-9, "group": "CBC", "pipeline": "aframe"}
    content = {"superevent_id": "S261121a", "alert_type": "INITIAL", "time_created": iso(EVENT_TIME), "event": sparse}

    alert = read_alert(as_json(content))

    assert alert.event is not None
    assert (alert.event.significant, alert.event.search, alert.event.instruments) == (None, None, ())
    assert (alert.event.classification, alert.event.properties, alert.urls) == ({}, {}, {})
    assert (alert.skymap, alert.external_coinc) == (None, None)


def test_nulls_in_maps_and_in_their_place_are_absences() -> None:
    content = alert_content(event=an_event(classification=None, properties={"HasNS": 1.0, "HasSSM": None}))

    event = read_alert(as_json(content | {"urls": None})).event

    assert event is not None
    assert (event.classification, event.properties) == ({}, {"HasNS": 1.0})


def test_unknown_fields_are_kept_where_they_stood() -> None:
    event = an_event(eccentricity=0.1, mchirp_source={"bin_edges": [1], "probabilities": [], "model": "x"})
    content = alert_content(event=event, external_coinc=a_coincidence(redshift=[0.1, None]))

    alert = read_alert(as_json(content | {"$schema": "https://example.org/v9", "revision": 3}))

    assert alert.unknown_fields == {
        "$schema": "https://example.org/v9",
        "revision": 3,
        "event": {"eccentricity": 0.1, "mchirp_source": {"model": "x"}},
        "external_coinc": {"redshift": [0.1, None]},
    }


def test_long_unknown_values_are_kept_as_digests() -> None:
    """A second sky map in a later schema must not swell our own events; the raw message is in the blob store."""
    schema = alert_schema(event={**EVENT_FIELDS, "volume": "bytes", "story": "string"})
    content = alert_content(event=an_event(volume=b"abc", story="x" * 5000))

    unknown = read_alert(as_avro(content, schema)).unknown_fields

    assert unknown["event"] == {
        "volume": {"size": 3, "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
        "story": {
            "characters": 5000,
            "sha256": hashlib.sha256(b"x" * 5000).hexdigest(),
        },
    }


def test_unknown_fields_beyond_all_measure_are_counted() -> None:
    content = alert_content() | {f"field_{number}": "x" * 4000 for number in range(100)}

    unknown = read_alert(as_json(content)).unknown_fields

    assert set(unknown["omitted"]) == {"fields", "characters"}
    assert unknown["omitted"]["fields"] == 100


def test_unknown_values_that_databases_refuse_are_made_harmless() -> None:
    data = as_json(alert_content())[:-1] + rb', "odd": ["\u0000", "\ud800", NaN, 1e999, -1]}'

    assert read_alert(data).unknown_fields == {"odd": ["\ufffd", "?", "nan", "inf", -1]}


def differences(one: UpstreamAlert, other: UpstreamAlert) -> set[str]:
    return {name for name in vars(one) if getattr(one, name) != getattr(other, name)}
