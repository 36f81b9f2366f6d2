"""What every test may use, and the order in which files of tests are given to the processes that run them."""

from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadFileScheduling

pytest_plugins = ["tests.support.stack"]

settings.register_profile("tocsin", deadline=None)
settings.load_profile("tocsin")
# How long an example takes is no matter of right or wrong.

CONSOLE = "tests/integration/console/"
SAMPLES_ALONE = CONSOLE + "test_now.py"
# It looks at what the samples left, and comes before those that add to it.
FIRST = ("tests/e2e/", CONSOLE, "crash", "outage", "openapi")
# What takes long is begun first, so that the processes end together.


class Scheduling(LoadFileScheduling):
    """By files; all tests of the console are one, for they share a running system that takes long to start."""

    def _split_scope(self, nodeid: str) -> str:
        return CONSOLE if nodeid.startswith(CONSOLE) else super()._split_scope(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Scheduling:
    return Scheduling(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Sorting keeps the random order within both parts.
    items.sort(
        key=lambda item: (
            not any(part in item.nodeid for part in FIRST),
            not item.nodeid.startswith(CONSOLE),
            not item.nodeid.startswith(SAMPLES_ALONE),
        )
    )
