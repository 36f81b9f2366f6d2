"""How a measurement is told: the peer, ours, their ratio, the aim."""

import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter


@dataclass(frozen=True)
class Row:
    """One comparison. `ratio` is what the aim speaks of."""

    what: str
    peer: str
    ours: str
    ratio: float
    aim: str

    def as_markdown(self) -> str:
        return f"| {self.what} | {self.peer} | {self.ours} | {self.ratio:.2f} | {self.aim} |"


HEAD = "| what | peer or bare operation | Tocsin | ratio | aim |\n| --- | --- | --- | --- | --- |"


def machine() -> str:
    """Return the machine's name for the head of a table."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    system = f"{platform.system()}, Python {platform.python_version()}"
    return f"{os.cpu_count()} cores of {model}, {memory_gib:.0f} GiB, {system}"


def interleaved_medians_s(actions: Sequence[Callable[[], object]], *, rounds: int, warm_up: int = 3) -> list[float]:
    """Return the median duration (s) of each action, taken in turns so that a busy moment hits all alike."""
    durations: list[list[float]] = [[] for _ in actions]
    for number in range(warm_up + rounds):
        for action, taken in zip(actions, durations, strict=True):
            began = perf_counter()
            action()
            if number >= warm_up:
                taken.append(perf_counter() - began)
    return [median(taken) for taken in durations]
