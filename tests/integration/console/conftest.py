"""One console for all its tests: they make bursts of their own where they change anything."""

from collections.abc import Iterator

import pytest

from tests.support.console import ConsoleUnderTest, running_console


@pytest.fixture(scope="session")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsoleUnderTest]:
    with running_console(tmp_path_factory.mktemp("console")) as running:
        yield running
