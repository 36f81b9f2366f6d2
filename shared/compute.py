"""A pool of processes for handlers that compute, so that the event loop and the consumer's thread stay free."""

import asyncio
import multiprocessing
import os
import resource
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from importlib import import_module
from typing import ParamSpec, TypeVar

from shared.errors import TocsinError

MEMORY_LIMIT_BYTES = 4 * 1024**3
# Address space of a worker: hostile input that slips through every check fails here with MemoryError.
PARENT_CHECK_S = 1.0

P = ParamSpec("P")
R = TypeVar("R")


class WorkerDiedError(TocsinError):
    """A worker was killed (out of memory, a crash in native code) while it computed."""


class ComputePool:
    """Runs functions in worker processes that were warmed up by importing `preload`.

    Parameters
    ----------
    niceness
        How far the workers step back behind other processes; for work that nobody waits for.
    """

    def __init__(self, *, workers: int, preload: tuple[str, ...], niceness: int = 0) -> None:
        self._workers = workers
        self._preload = preload
        self._niceness = niceness
        self._executor = self._new_executor()

    def _new_executor(self) -> ProcessPoolExecutor:
        # spawn: a fork would copy librdkafka's threads in whatever state they are.
        return ProcessPoolExecutor(
            self._workers,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_prepare_worker,
            initargs=(self._preload, os.getpid(), self._niceness),
        )

    async def warm_up(self) -> None:
        """Start the workers now, so that the first event does not pay for their imports."""
        await asyncio.gather(*(self.run(_idle) for _ in range(self._workers)))

    async def run(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Return `function(*args, **kwargs)`, computed in a worker.

        Raises
        ------
        WorkerDiedError
            The worker did not survive it; the pool has a new one.
        """
        executor = self._executor
        try:
            return await asyncio.wrap_future(executor.submit(function, *args, **kwargs))
        except BrokenProcessPool as error:
            if self._executor is executor:
                self._executor = self._new_executor()
                executor.shutdown(wait=False)
            raise WorkerDiedError(f"the process that ran {function.__name__} died") from error

    def close(self) -> None:
        """End the workers."""
        self._executor.shutdown(wait=True, cancel_futures=True)


def _idle() -> None:
    time.sleep(0.05)  # long enough that every worker gets one of the warm-up calls


def _prepare_worker(modules: tuple[str, ...], parent: int, niceness: int) -> None:
    # A Ctrl-C reaches the whole process group; the parent decides what is finished first.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.nice(niceness)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT_BYTES, MEMORY_LIMIT_BYTES))
    threading.Thread(target=_die_with_parent, args=(parent,), daemon=True).start()
    for module in modules:
        import_module(module)


def _die_with_parent(parent: int) -> None:
    # A killed parent leaves its workers waiting on their queue for ever.
    while os.getppid() == parent:
        time.sleep(PARENT_CHECK_S)
    os._exit(1)
