"""Which offsets may be stored after a batch, and how a consumer is set up."""

from hypothesis import given
from hypothesis import strategies as st

from shared.kafka.consumer import _Batch, consumer_config
from shared.kafka.message import Message
from shared.settings import MAX_MESSAGE_BYTES, ConsumerSettings


def a_batch(*positions: tuple[int, int]) -> _Batch:
    return _Batch([Message("t", partition, offset, None, b"") for partition, offset in positions])


def test_nothing_is_stored_of_a_batch_of_which_nothing_is_done() -> None:
    assert a_batch((0, 5), (0, 6)).split() == ({}, {("t", 0): 5})


def test_the_offset_after_the_last_one_done_is_stored() -> None:
    batch = a_batch((0, 5), (0, 9))  # a gap is what compaction and transactions leave
    for message in batch.messages:
        batch.mark_done(message)
    assert batch.split() == ({("t", 0): 10}, {})


def test_partitions_are_told_apart() -> None:
    batch = a_batch((0, 5), (1, 70), (0, 6))
    batch.mark_done(batch.messages[0])
    assert batch.split() == ({("t", 0): 6}, {("t", 0): 6, ("t", 1): 70})
    assert batch.touches({("t", 1)})
    assert not batch.touches({("t", 2), ("other", 1)})


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=30))
def test_no_message_is_passed_over_and_none_done_before_the_first_undone_is_lost(steps: list[tuple[int, bool]]) -> None:
    batch = a_batch(*((partition, offset) for offset, (partition, _) in enumerate(steps)))
    for message, (_, is_done) in zip(batch.messages, steps, strict=True):
        if is_done:
            batch.mark_done(message)

    store, undone = batch.split()

    for message, (_, is_done) in zip(batch.messages, steps, strict=True):
        next_offset = store.get(("t", message.partition), 0)
        # What was not done comes again...
        assert is_done or message.offset >= next_offset
        assert is_done or undone[("t", message.partition)] <= message.offset
        # ...and of what was done, only what stands behind something undone.
        assert not is_done or message.offset < next_offset or message.offset > undone[("t", message.partition)]


def test_a_consumer_commits_only_what_it_is_told_is_done() -> None:
    for protocol in ("consumer", "classic"):
        config = consumer_config(
            {"bootstrap.servers": "b"},
            group="g",
            start_at="earliest",
            group_protocol=protocol,
            settings=ConsumerSettings(),
        )
        assert config["enable.auto.offset.store"] is False
        assert config["enable.auto.commit"] is True
        assert config["bootstrap.servers"] == "b"
        assert config["fetch.message.max.bytes"] >= MAX_MESSAGE_BYTES
        # The KIP-848 protocol leaves the session time-out to the broker and refuses the client's.
        assert ("session.timeout.ms" in config) == (protocol == "classic")
