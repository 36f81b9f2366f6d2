"""Notices for GCN: every burst is a valid one, every coincidence goes as it came, and each is read back."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import AwareDatetime

from services.frb_intake.feeds.gcn import read_gcn
from services.notifier.channels.channel import Prepared, UncertainError
from services.notifier.channels.gcn import GcnChannel, GcnSettings, Place
from services.notifier.channels.gcn_notice import NOTICE_SCHEMA, burst_notice, coincidence_notice
from shared.blobs.store import FolderBlobs
from shared.errors import InvalidInputError, PermanentError
from shared.events.blob import BlobRef
from shared.events.frb import (
    FrbChange,
    FrbDmBudget,
    FrbEvent,
    FrbLocalisation,
    FrbMeasurement,
    FrbObservation,
    FrbStatus,
    FrbVotes,
)
from shared.events.notices import ChannelMode, DeliveryAction
from shared.kafka.message import Message, OutgoingMessage
from tests.support.gcn import validate, validator
from tests.support.jobs import EXAMPLES, a_job, an_example, happening_of

BURSTS = [name for name in EXAMPLES if name.startswith("frb_event/")]
PRODUCTION, SANDBOX = ChannelMode.PRODUCTION, ChannelMode.SANDBOX


def notice(
    record: FrbEvent, action: DeliveryAction = DeliveryAction.NEW, *, number: int = 1, is_test: bool = False
) -> dict[str, Any]:
    """The notice, read back after the schemas have had their say."""
    content = burst_notice(record, action=action, number=number, mission="TOCSIN", is_test=is_test)
    told: dict[str, Any] = json.loads(content, parse_constant=pytest.fail)
    validate("frb", told)
    return told


# Bursts.


@pytest.mark.parametrize("name", BURSTS)
@pytest.mark.parametrize("action", [DeliveryAction.NEW, DeliveryAction.UPDATE, DeliveryAction.RETRACTION])
def test_every_example_is_a_valid_notice(name: str, action: DeliveryAction) -> None:
    told = notice(an_example(name), action, number=3)
    assert (told["$schema"], told["mission"], told["messenger"]) == (NOTICE_SCHEMA, "TOCSIN", "EM")
    assert told["record_number"] == 3
    assert told["id"] == an_example(name).internal_name


def test_a_burst_of_chime_is_told_in_chimes_own_words() -> None:
    told = notice(an_example("frb_event/chime-notice"))
    published = json.loads((Path(__file__).parents[3] / "samples" / "gcn" / "chime-frb-detection.json").read_text())
    same = published.keys() - {"$schema", "id", "description", "ra_dec_error", "trigger_time_inf_freq"}
    assert {key: told[key] for key in same} == {key: published[key] for key in same}
    assert told["ra_dec_error"] == [0.598921231135782, 0.503806986334273, 90.0], "the longer axis first"
    assert told["trigger_time_inf_freq"] == "2024-09-18T07:19:03.518831Z"


def test_the_observatory_that_found_a_burst_is_named() -> None:
    told = notice(an_example("frb_event/chime-notice"))
    assert (told["ref_instrument"], told["ref_ID"]) == ("CHIME", "427325190")
    assert told["reference"] == {"gcn.notices.chime.frb": "427325190"}


@pytest.mark.parametrize(
    ("action", "repeater", "alert_type"),
    [
        (DeliveryAction.NEW, False, "initial"),
        (DeliveryAction.NEW, True, "subsequent"),
        (DeliveryAction.UPDATE, True, "update"),
        (DeliveryAction.RETRACTION, True, "retraction"),
    ],
)
def test_the_alert_type_says_what_a_notice_does(action: DeliveryAction, repeater: bool, alert_type: str) -> None:
    assert notice(an_example("frb_event/chime-notice", repeater=repeater), action)["alert_type"] == alert_type


def test_a_retraction_says_why_and_repeats_no_measurement() -> None:
    told = notice(an_example("frb_event/chime-withdrawn"), DeliveryAction.RETRACTION)
    assert told["update_message"] == "The burst is now withdrawn: Retracted by CHIME."
    assert told.keys().isdisjoint({"ra", "dec", "ra_dec_error", "dm", "snr", "redshift_range", "spectral_band"})


def test_a_test_is_called_one() -> None:
    assert notice(an_example("frb_event/chime-notice"), is_test=True)["alert_tense"] == "test"


def test_a_later_measurement_does_not_take_away_what_the_first_one_said() -> None:
    record = an_example("frb_event/upload-measured-twice")
    partial = record.latest.model_copy(update={"localisation": None, "dm_pc_cm3": None, "dm_err_pc_cm3": 9.0})
    told = notice(record.model_copy(update={"latest": partial}))
    assert told["ra"] == record.first.localisation.ra_deg
    assert (told["dm"], told["dm_error"]) == (record.first.dm_pc_cm3, record.first.dm_err_pc_cm3)


@pytest.mark.parametrize("name", BURSTS)
def test_another_tocsin_reads_our_notices(name: str) -> None:
    record = an_example(name)
    chime = notice(record) | {"$schema": "https://gcn.nasa.gov/schema/main/gcn/notices/chime/frb.schema.json"}
    read = read_gcn(json.dumps(chime).encode())
    assert read.origin_id == record.internal_name


def test_our_schema_refuses_what_it_does_not_describe() -> None:
    for change in ({"surprise": 1}, {"dm": None}, {"trigger_time": "2024-09-18 07:19:03+00:00"}):
        with pytest.raises(jsonschema.ValidationError):
            validator("frb", published=False).validate(notice(an_example("frb_event/chime-notice")) | change)


text = st.text(max_size=12)
KINDS: dict[Any, Any] = {
    bool: st.booleans(),
    int: st.integers(min_value=1, max_value=2**31 - 1),
    float: st.floats(),
    str: text,
    AwareDatetime: st.datetimes(timezones=st.just(UTC)),
    FrbChange: st.sampled_from(FrbChange),
    FrbStatus: st.sampled_from(FrbStatus),
}


def any_of(model: Any, **fixed: Any) -> Any:
    """Any value of a model, any optional part there or not."""
    fields = dict(fixed)
    for name, info in model.model_fields.items():
        if name not in fixed:
            annotation = get_args(info.annotation)[0] if get_args(info.annotation) else info.annotation
            kind = KINDS[getattr(annotation, "__origin__", annotation)]
            fields[name] = kind if info.is_required() else st.none() | kind
    return st.builds(model, **fields)


for part in (FrbLocalisation, FrbDmBudget, FrbMeasurement, FrbObservation):
    KINDS[part] = any_of(part)
records = any_of(
    FrbEvent,
    event_id=st.uuids(),
    images=st.just(()),
    votes=st.just(FrbVotes(confirm=0, reject=0, unsure=0)),
    raw=st.none(),
)
ACTIONS = [action for action in DeliveryAction if action is not DeliveryAction.UNKNOWN]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(record=records, action=st.sampled_from(ACTIONS), is_test=st.booleans())
def test_any_record_is_a_valid_notice(record: FrbEvent, action: DeliveryAction, is_test: bool) -> None:
    assert notice(record, action, is_test=is_test)["alert_tense"] == ("test" if is_test else "current")


# Coincidences.

READY = json.dumps({"id": "S190425z-42", "alert_tense": "current", "far": 8.704e-14}).encode()
NAMED = json.dumps({"id": "S190425z-42", "healpix_url": "s3://private/1a/16/1a1662"}).encode()


def test_a_coincidence_goes_as_it_came_byte_for_byte() -> None:
    assert coincidence_notice(READY, is_test=False, blobs_url=None) is READY


def test_a_test_changes_nothing_but_the_tense() -> None:
    told = json.loads(coincidence_notice(READY, is_test=True, blobs_url=None))
    assert told == json.loads(READY) | {"alert_tense": "test"}


@pytest.mark.parametrize(
    ("blobs_url", "address"), [(None, None), ("https://blobs.example/", "https://blobs.example/1a/16/1a1662")]
)
def test_no_notice_names_a_map_where_nobody_can_read_it(blobs_url: str | None, address: str | None) -> None:
    told = json.loads(coincidence_notice(NAMED, is_test=False, blobs_url=blobs_url))
    assert told.get("healpix_url") == address


def test_a_public_address_stays() -> None:
    public = NAMED.replace(b"s3://private", b"https://public.example")
    assert coincidence_notice(public, is_test=False, blobs_url=None) is public


# The channel.


@dataclass
class FakeBroker:
    """A topic in memory. `change` is done to what is kept, `error` raised instead of an acknowledgement."""

    kept: list[OutgoingMessage] = field(default_factory=list)
    change: Callable[[bytes], bytes] = bytes
    error: Exception | None = None
    is_connected: bool = False

    def connect(self) -> None:
        self.is_connected = True

    def produce(self, message: OutgoingMessage) -> Place:
        self.kept.append(message)
        if self.error is not None:
            raise self.error
        return Place(0, len(self.kept) - 1)

    def at(self, topic: str, place: Place) -> Message | None:
        if place.offset >= len(self.kept):
            return None
        kept = self.kept[place.offset]
        return Message(topic, 0, place.offset, kept.key, self.change(kept.value), tuple(kept.headers))

    def find(self, topic: str, message_id: bytes, *, since: datetime) -> Message | None:
        assert since < datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
        offsets = range(len(self.kept))
        found = (self.at(topic, Place(0, offset)) for offset in offsets)
        return next((each for each in found if each and each.header("_id") == message_id), None)


@dataclass
class Fixture:
    own: FakeBroker
    gcn: FakeBroker
    blobs: FolderBlobs
    channel: GcnChannel

    def keep(self, content: bytes) -> BlobRef:
        return self.blobs.put(content, "application/json")


@pytest.fixture
def on(tmp_path: Path) -> Fixture:
    own, gcn, blobs = FakeBroker(), FakeBroker(), FolderBlobs(tmp_path, max_bytes=10**6)
    channel = GcnChannel(GcnSettings(name="gcn"), own=own, gcn=gcn, blobs=blobs, observatory="TOCSIN")
    return Fixture(own, gcn, blobs, channel)


def from_database(prepared: Prepared) -> Prepared:
    """As it comes back from a column of JSON."""
    return Prepared(json.loads(json.dumps(prepared.request)))


def prepared(on: Fixture, name: str = "frb_event/chime-notice", **kwargs: Any) -> Prepared:
    made = on.channel.prepare(a_job(name, **kwargs))
    assert made is not None
    return from_database(made)


async def test_a_notice_is_confirmed_when_the_broker_gives_the_same_bytes_back(on: Fixture) -> None:
    told = prepared(on)
    answer = await on.channel.send(told, mode=PRODUCTION)
    assert (answer.is_confirmed, answer.ask_again_s) == (False, 0.0)
    assert answer.reference == "gcn.notices.tocsin.frb/0/0"
    confirmed = await on.channel.confirm(told, answer, mode=PRODUCTION)
    assert confirmed.is_confirmed
    assert confirmed.answer["compared"] == "equal"


async def test_other_bytes_than_were_sent_are_a_failure(on: Fixture) -> None:
    on.gcn.change = lambda value: value.replace(b"CHIME", b"chime")
    told = prepared(on)
    answer = await on.channel.send(told, mode=PRODUCTION)
    with pytest.raises(PermanentError, match="not what was sent"):
        await on.channel.confirm(told, answer, mode=PRODUCTION)


async def test_a_notice_that_is_kept_no_longer_is_not_called_confirmed(on: Fixture) -> None:
    told = prepared(on)
    answer = await on.channel.send(told, mode=PRODUCTION)
    on.gcn.kept.clear()
    checked = await on.channel.confirm(told, answer, mode=PRODUCTION)
    assert (checked.is_confirmed, checked.ask_again_s) == (False, None)


async def test_a_notice_without_an_acknowledgement_is_found_by_its_id(on: Fixture) -> None:
    on.gcn.error = UncertainError("no acknowledgement came")
    told = prepared(on)
    with pytest.raises(UncertainError):
        await on.channel.send(told, mode=PRODUCTION)
    found = await on.channel.check(told, mode=PRODUCTION)
    assert found is not None
    assert found.reference == "gcn.notices.tocsin.frb/0/0"
    on.gcn.kept.clear()
    assert await on.channel.check(told, mode=PRODUCTION) is None


async def test_production_goes_to_gcn_and_sandbox_to_our_own_broker_as_a_test(on: Fixture) -> None:
    for mode in (PRODUCTION, SANDBOX):
        await on.channel.send(prepared(on, mode=mode), mode=mode)
    (real,), (trial,) = on.gcn.kept, on.own.kept
    assert json.loads(real.value)["alert_tense"] == "current"
    assert json.loads(trial.value)["alert_tense"] == "test"
    assert ("_test", b"true") in trial.headers
    assert "_test" not in dict(real.headers)


async def test_without_a_credential_production_is_our_own_broker(on: Fixture) -> None:
    channel = GcnChannel(GcnSettings(name="gcn"), own=on.own, gcn=None, blobs=on.blobs, observatory="TOCSIN")
    await channel.send(prepared(on), mode=PRODUCTION)
    assert len(on.own.kept) == 1


@pytest.mark.parametrize(
    ("mode", "connected"),
    [(ChannelMode.DRY_RUN, (False, False)), (SANDBOX, (True, False)), (PRODUCTION, (False, True))],
)
async def test_only_the_broker_that_is_sent_to_is_reached(
    on: Fixture, mode: ChannelMode, connected: tuple[bool, bool]
) -> None:
    settings = GcnSettings(name="gcn", mode=mode)
    await GcnChannel(settings, own=on.own, gcn=on.gcn, blobs=on.blobs, observatory="TOCSIN").run()
    assert (on.own.is_connected, on.gcn.is_connected) == connected


async def test_a_coincidence_is_fetched_from_the_blob_store_and_confirmed(on: Fixture) -> None:
    record = an_example("coincidence/initial", gcn_notice=on.keep(READY))
    told = prepared(on, record)
    answer = await on.channel.send(told, mode=PRODUCTION)
    (message,) = on.gcn.kept
    assert (message.topic, message.key) == ("gcn.notices.tocsin.coincidence", b"S190425z-42")
    assert message.value == READY
    assert (await on.channel.confirm(told, answer, mode=PRODUCTION)).is_confirmed


def test_a_coincidence_without_a_notice_is_not_told(on: Fixture) -> None:
    assert on.channel.prepare(a_job(an_example("coincidence/initial", gcn_notice=None))) is None


def test_the_id_is_the_deliverys(on: Fixture) -> None:
    once, again, later = prepared(on), prepared(on), prepared(on, revision=2)
    assert once.request["id"] == again.request["id"] != later.request["id"]


@pytest.mark.parametrize("name", EXAMPLES)
def test_bursts_and_coincidences_are_wanted(on: Fixture, name: str) -> None:
    happening = happening_of(an_example(name))
    if happening is not None:
        wanted = on.channel.wants(happening, told_before=True)
        assert wanted == name.startswith(("frb_event/", "coincidence/"))


def test_votes_are_no_news(on: Fixture) -> None:
    happening = happening_of(an_example("frb_event/chime-notice", change=FrbChange.RATED))
    assert happening is not None
    assert not on.channel.wants(happening, told_before=True)


def test_half_a_credential_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="client_id and client_secret"):
        GcnSettings(name="gcn", client_id="me")
