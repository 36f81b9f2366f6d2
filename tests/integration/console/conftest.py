"""One console for all its tests: they make bursts of their own where they change anything."""

from collections.abc import Iterator
from typing import Any

import pytest

from cli.stack.install import find_chromium
from tests.support.browser import BrowserUnderTest, Visit, Window, running_browser
from tests.support.console import ConsoleUnderTest, running_console
from tests.support.console_pages import find_places


@pytest.fixture(scope="package")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsoleUnderTest]:
    with running_console(tmp_path_factory.mktemp("console")) as running:
        yield running


@pytest.fixture(scope="package")
def browser() -> Iterator[BrowserUnderTest]:
    path = find_chromium()
    if path is None:
        pytest.skip("no Chromium on this machine: `make test` installs it as root on Debian")
    with running_browser(path) as running:
        yield running


@pytest.fixture
def visit(console: ConsoleUnderTest, browser: BrowserUnderTest) -> Iterator[Visit]:
    """Opens windows of people; whatever goes wrong in one fails the test."""

    def window(user: str | None = None, **options: Any) -> Window:
        cookies = console.browser(user).cookies if user is not None else None
        return browser.window(console.address, cookies=cookies, **options)

    try:
        yield window
    finally:
        faults = browser.close_windows()
    assert faults == []


@pytest.fixture(scope="module")
def places(console: ConsoleUnderTest) -> dict[str, int]:
    return find_places(console)


@pytest.fixture(scope="module")
def reader(console: ConsoleUnderTest) -> str:
    """Somebody with all roles."""
    return console.add_user()
