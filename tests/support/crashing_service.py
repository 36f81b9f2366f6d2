"""A service that kills itself at one point: `python -m tests.support.crashing_service SERVICE POINT AFTER`.

The runtime has no hooks for this; its seams are wrapped from outside. The process dies by SIGKILL when the point is
passed for the AFTER-th time, so nothing of it gets a chance to tidy up.
"""

import asyncio
import functools
import os
import runpy
import signal
import sys
from collections.abc import Callable
from typing import Any


def points() -> dict[str, Callable[[Callable[[], None]], None]]:
    """How to have a function called at each point, by the point's name."""
    from services.notifier.dispatcher import Dispatcher
    from services.notifier.handlers import NotifierHandler
    from shared.db.unit_of_work import UnitOfWork
    from shared.kafka.consumer import ConsumerLoop, _Batch
    from shared.kafka.producer import EventProducer

    return {
        # Everything is written, nothing committed.
        "before_commit": functools.partial(_after, UnitOfWork, "_finish"),
        # The transaction is committed; the consumer does not know it yet.
        "after_commit": functools.partial(_before, _Batch, "mark_done"),
        # librdkafka knows what is done, and commits it within a second.
        "before_offset_commit": functools.partial(_after, ConsumerLoop, "_store"),
        # The broker has the events; they are still in the outbox.
        "after_produce": functools.partial(_after, EventProducer, "send"),
        # Partitions come, or go to another member of the group.
        "on_assign": functools.partial(_before, ConsumerLoop, "_on_assign"),
        "on_revoke": functools.partial(_before, ConsumerLoop, "_on_revoke"),
        # A notice is decided, not committed; is SENDING, and has not left; has left and was answered.
        "decided": functools.partial(_after, NotifierHandler, "on_happening"),
        "before_request": functools.partial(_before, Dispatcher, "_send"),
        "answered": functools.partial(_before, Dispatcher, "_answered"),
    }


def _before(owner: type, name: str, reached: Callable[[], None]) -> None:
    original = getattr(owner, name)

    @functools.wraps(original)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        reached()
        return original(*args, **kwargs)

    setattr(owner, name, wrapped)


def _after(owner: type, name: str, reached: Callable[[], None]) -> None:
    original = getattr(owner, name)

    @functools.wraps(original)
    async def awaited(*args: Any, **kwargs: Any) -> Any:
        result = await original(*args, **kwargs)
        reached()
        return result

    @functools.wraps(original)
    def called(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        reached()
        return result

    setattr(owner, name, awaited if asyncio.iscoroutinefunction(original) else called)


def main(service: str, point: str, after: str) -> None:
    left = int(after)

    def reached() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    points()[point](reached)
    runpy.run_module(f"services.{service}", run_name="__main__")


if __name__ == "__main__":
    main(*sys.argv[1:])
