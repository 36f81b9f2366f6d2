"""Computing handlers run in processes of their own, and outlive each other."""

import os
import signal
from collections.abc import Iterator

import pytest

from shared.compute import ComputePool, WorkerDiedError
from shared.errors import InvalidInputError


@pytest.fixture
def pool() -> Iterator[ComputePool]:
    opened = ComputePool(workers=1, preload=("json",))
    yield opened
    opened.close()


def end_at_once() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def refuse(value: str) -> None:
    raise InvalidInputError("PROBDENSITY", value, "a probability density")


def interrupt_oneself() -> int:
    # As a Ctrl-C does, which goes to every process of the group.
    os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGTERM)
    return os.getpid()


async def test_work_is_done_in_another_process(pool: ComputePool) -> None:
    await pool.warm_up()
    assert await pool.run(os.getpid) != os.getpid()


async def test_a_complaint_arrives_as_it_was_raised(pool: ComputePool) -> None:
    with pytest.raises(InvalidInputError) as caught:
        await pool.run(refuse, "-1")
    assert (caught.value.field, caught.value.value) == ("PROBDENSITY", "-1")


async def test_a_worker_that_dies_is_replaced(pool: ComputePool) -> None:
    with pytest.raises(WorkerDiedError, match="end_at_once"):
        await pool.run(end_at_once)
    assert await pool.run(abs, -1) == 1


async def test_a_worker_leaves_it_to_its_parent_what_to_do_about_a_signal(pool: ComputePool) -> None:
    first = await pool.run(interrupt_oneself)
    assert await pool.run(os.getpid) == first
