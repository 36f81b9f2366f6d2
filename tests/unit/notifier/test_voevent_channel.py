"""What is told as VOEvents, as what, and where it goes."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from services.notifier.channels.channel import Earlier, Job, Prepared
from services.notifier.channels.voevent import VoeventBroker, VoeventSettings
from shared.errors import PermanentError
from shared.events.frb import FrbChange, FrbEvent, FrbStatus
from shared.events.notices import ChannelMode, DeliveryAction
from shared.schema.records import SCHEMAS
from tests.support.jobs import EXAMPLES, a_job, an_example, happening_of
from tests.support.voevent_channel import SITE, a_channel, told, valid

OUR_OWN = "frb_event/upload-measured-twice"
FIRST = "ivo://org.example/dish#FRB1711171221/58074.51500000000007"


def ours(**changes: Any) -> FrbEvent:
    record: FrbEvent = an_example(
        OUR_OWN, **({"change": FrbChange.CREATED, "repeater": False, "repeater_of": None} | changes)
    )
    return record


def request(job: Job, **fields: Any) -> dict[str, Any]:
    prepared = a_channel(**fields).prepare(job)
    assert prepared is not None
    valid(prepared.request["xml"])
    return prepared.request


# What is wanted


def wanted(record: Any, *, told_before: bool, **fields: Any) -> bool:
    happening = happening_of(record)
    assert happening is not None
    return a_channel(**fields).wants(happening, told_before=told_before)


@pytest.mark.parametrize(
    ("change", "told_before", "expected"),
    [
        (FrbChange.CREATED, False, True),
        (FrbChange.MEASURED, False, True),
        (FrbChange.NAMED, False, True),
        (FrbChange.MEASURED, True, True),
        (FrbChange.CORRECTED, True, True),
        (FrbChange.STATUS_CHANGED, True, True),
        (FrbChange.RATED, True, False),
        (FrbChange.NAMED, True, False),
        (FrbChange.IMAGE_DROPPED, True, False),
    ],
)
def test_what_changes_a_packet_is_told(change: FrbChange, told_before: bool, expected: bool) -> None:
    assert wanted(ours(change=change), told_before=told_before) is expected


@pytest.mark.parametrize("status", [FrbStatus.WITHDRAWN, FrbStatus.REJECTED])
def test_what_is_over_is_told_to_those_who_heard_of_it(status: FrbStatus) -> None:
    record = ours(status=status, change=FrbChange.STATUS_CHANGED)

    assert wanted(record, told_before=True)
    assert not wanted(record, told_before=False)


def test_a_burst_is_told_once_its_time_and_dispersion_measure_are_known() -> None:
    assert not wanted(an_example("frb_event/upload-without-measurement"), told_before=False)
    assert not wanted(ours(time_of_arrival=None), told_before=False)


def test_other_observatories_tell_their_bursts_themselves() -> None:
    record = an_example("frb_event/chime-notice")

    assert not wanted(record, told_before=False)
    assert wanted(record, told_before=False, origins=("upload", "CHIME"))


def test_gravitational_waves_are_not_told_again() -> None:
    for name in EXAMPLES:
        if name.startswith("gw_") and (happening := happening_of(an_example(name))):
            assert not a_channel().wants(happening, told_before=False)


def test_coincidences_are_told_and_taken_back() -> None:
    assert wanted(an_example("coincidence/initial"), told_before=False)
    assert wanted(an_example("coincidence/update"), told_before=True)
    assert wanted(an_example("coincidence/retraction"), told_before=True)
    assert not wanted(an_example("coincidence/retraction"), told_before=False)


# What is prepared


def test_a_new_burst_is_a_detection_with_all_that_sending_needs() -> None:
    broker = VoeventBroker(host="broker.test")

    prepared = request(a_job(ours()), production_brokers=(broker,), sandbox_brokers=(VoeventBroker(host="sand.test"),))

    assert json.loads(json.dumps(prepared)) == prepared
    assert (prepared["type"], prepared["role"], prepared["subject"]) == ("detection", "observation", "frb/17")
    assert prepared["brokers"] == ["broker.test:8098"]
    assert f'uri="{SITE}/frb/17"' in prepared["xml"]


def test_a_burst_of_a_source_that_repeats_is_a_subsequent_one() -> None:
    assert request(a_job(ours(repeater=True)))["type"] == "subsequent"
    assert request(a_job(ours(repeater_of="FRB 20180916B")))["type"] == "subsequent"


@pytest.mark.parametrize("mode", [ChannelMode.SANDBOX, ChannelMode.DRY_RUN])
def test_only_production_makes_observations(mode: ChannelMode) -> None:
    prepared = request(
        a_job(ours(), mode=mode),
        sandbox_brokers=(VoeventBroker(host="sand.test", port=9),),
        production_brokers=(VoeventBroker(host="broker.test"),),
    )

    assert (prepared["role"], prepared["brokers"]) == ("test", ["sand.test:9"])
    assert 'role="test"' in prepared["xml"]


def test_a_test_burst_is_never_an_observation() -> None:
    assert request(a_job(ours(is_test=True)))["role"] == "test"


async def test_a_test_packet_is_not_sent_in_production_whatever_happens() -> None:
    prepared = a_channel().prepare(a_job(ours(is_test=True)))
    assert prepared is not None

    with pytest.raises(PermanentError, match="a test packet never goes to production"):
        await a_channel().send(prepared, mode=ChannelMode.PRODUCTION)


def test_the_same_delivery_makes_the_same_bytes() -> None:
    """Brokers drop what they have had by its bytes: a second try must not differ."""
    assert request(a_job(ours())) == request(a_job(ours()))


def test_a_further_measurement_supersedes_what_was_told() -> None:
    prepared = request(a_job(ours(change=FrbChange.MEASURED), revision=2, earlier=[told(FIRST)]))

    root = valid(prepared["xml"])
    assert prepared["type"] == "update"
    cited = root.find("Citations/EventIVORN")
    assert cited is not None
    assert (cited.get("cite"), cited.text) == ("supersedes", FIRST)


@pytest.mark.parametrize("status", [FrbStatus.WITHDRAWN, FrbStatus.REJECTED])
def test_a_burst_that_is_over_is_retracted_once(status: FrbStatus) -> None:
    record = ours(status=status, change=FrbChange.STATUS_CHANGED)

    assert request(a_job(record, revision=2, earlier=[told(FIRST)]))["type"] == "retraction"
    again = a_job(record, revision=3, earlier=[told(FIRST), told(FIRST + "1", "retraction", revision=2)])
    assert a_channel().prepare(again) is None


def test_nothing_is_taken_back_that_nobody_heard_of() -> None:
    record = ours(status=FrbStatus.REJECTED, change=FrbChange.STATUS_CHANGED)

    assert a_channel().prepare(a_job(record)) is None


def test_a_burst_that_is_a_candidate_again_replaces_its_retraction() -> None:
    record = ours(status=FrbStatus.CANDIDATE, change=FrbChange.STATUS_CHANGED)
    earlier = [told(FIRST), told(FIRST + "1", "retraction", revision=2)]

    prepared = request(a_job(record, revision=3, earlier=earlier))

    assert prepared["type"] == "update"
    assert [each.text for each in valid(prepared["xml"]).iterfind("Citations/EventIVORN")] == [FIRST, FIRST + "1"]


def test_what_was_told_in_the_sandbox_is_new_in_production() -> None:
    record = ours(change=FrbChange.MEASURED)

    prepared = request(a_job(record, revision=2, earlier=[told(FIRST, role="test")]))

    assert prepared["type"] == "detection"


def test_a_dry_run_shows_updates_and_retractions_too_with_what_they_would_cite() -> None:
    first = request(a_job(ours(), mode=ChannelMode.DRY_RUN))
    earlier = [Earlier(1, DeliveryAction.NEW, None, {}, request=first)]

    update = request(a_job(ours(), DeliveryAction.UPDATE, mode=ChannelMode.DRY_RUN, earlier=earlier))
    retraction = request(a_job(ours(status=FrbStatus.WITHDRAWN), mode=ChannelMode.DRY_RUN, earlier=earlier))

    assert [update["type"], retraction["type"]] == ["update", "retraction"]
    cited = [each.text for each in valid(retraction["xml"]).iterfind("Citations/EventIVORN")]
    assert cited == [first["ivorn"]]


@pytest.mark.parametrize(
    ("stated", "status", "expected"),
    [
        (None, FrbStatus.CANDIDATE, "0.5"),
        (0.7, FrbStatus.CANDIDATE, "0.7"),
        (0.7, FrbStatus.CONFIRMED, "0.99"),
        (0.999, FrbStatus.CONFIRMED, "0.999"),
        (None, FrbStatus.CONFIRMED, "0.99"),
    ],
)
def test_the_importance_is_the_origins_or_that_of_the_status(
    stated: float | None, status: FrbStatus, expected: str
) -> None:
    why = valid(request(a_job(ours(importance=stated, status=status)))["xml"]).find("Why")

    assert why is not None
    assert why.get("importance") == expected
    judged_by_origin = "as its origin judged it" in (why.findtext("Concept") or "")
    assert judged_by_origin == (expected == repr(stated))


@pytest.mark.parametrize("name", [name for name in EXAMPLES if name.split("/")[0] in ("frb_event", "coincidence")])
@pytest.mark.parametrize("earlier", [(), (told(FIRST),)])
def test_every_example_is_prepared_without_text_for_nothing(name: str, earlier: tuple[Any, ...]) -> None:
    prepared = a_channel().prepare(a_job(name, earlier=earlier))

    if prepared is not None:
        valid(prepared.request["xml"])
        for nothing in ('"None"', '"nan"', ">None<", '""'):
            assert nothing not in prepared.request["xml"]


# Settings


@pytest.mark.parametrize("institute", ["", "a", "org example", "org/example", "ivo://org"])
def test_an_institute_must_fit_an_ivorn(institute: str) -> None:
    with pytest.raises(ValidationError, match="institute"):
        VoeventSettings(name="voevent", institute=institute, instrument="dish")


def test_the_settings_of_the_guide_are_settings() -> None:
    guide = (SCHEMAS.parent / "docs/how-to-subscribe-to-voevents.md").read_text("utf-8")
    (text,) = re.findall(r"```yaml\n(.*?)```", guide, re.DOTALL)

    (channel,) = yaml.safe_load(text)["notifier"]["channels"]

    assert VoeventSettings.model_validate(channel).serve_port == 8099


async def test_what_was_not_answered_may_always_be_sent_again() -> None:
    assert await a_channel().check(Prepared({}), mode=ChannelMode.SANDBOX) is None


async def test_nobody_is_served_without_a_port_or_in_a_dry_run() -> None:
    await a_channel().run()
    await a_channel(mode=ChannelMode.DRY_RUN, serve_port=0).run()
