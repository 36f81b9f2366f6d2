"""A real browser, for tests of pages as people use them; it runs in a thread of its own.

Playwright's own blocking interface would leave its event loop running in the thread of the tests, where every other
test that has a loop of its own would then fail.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Locator, Page, Request, async_playwright
from playwright.async_api import expect as expect_that

DEADLINE_S = 20.0
WIDE, PHONE = (1280, 900), (390, 844)
T = TypeVar("T")


@dataclass
class Window:
    """A window of somebody's browser, with cookies of its own.

    Attributes
    ----------
    faults
        What a person would see in the developer's tools: errors of scripts, refused or failed requests, violations of
        the Content-Security-Policy, dialogs. A test ends with none.
    """

    page: Page
    browser: BrowserUnderTest
    address: str
    faults: list[str] = field(default_factory=list)

    def do(self, work: Callable[[Page], Awaitable[T]]) -> T:
        """Have something done with the page, in the browser's thread."""

        async def done() -> T:
            return await work(self.page)

        return self.browser.run(done())

    def open(self, path: str) -> int:
        """Go to a page and return the answer's status."""

        async def opened(page: Page) -> int:
            answer = await page.goto(self.address + path, wait_until="load")
            assert answer is not None
            return answer.status

        return self.do(opened)

    def find(self, look: Callable[[Page], Locator], act: Callable[[Locator], Awaitable[T]]) -> T:
        """Do something with what is found; wait for it to be there."""
        return self.do(lambda page: act(look(page)))

    def click(self, name: str, role: Any = "button", within: str = "body", *, exact: bool = True) -> None:
        """Click the button, or what else, that a person reads this name on."""
        self.find(lambda page: page.locator(within).get_by_role(role, name=name, exact=exact), lambda it: it.click())

    def fill(self, label: str, value: str, within: str = "body", *, exact: bool = False) -> None:
        """Type into the field with this label."""
        self.find(lambda page: page.locator(within).get_by_label(label, exact=exact), lambda it: it.fill(value))

    def choose(self, label: str, option: str, within: str = "body") -> None:
        """Choose from a list."""
        self.find(lambda page: page.locator(within).get_by_label(label), lambda it: it.select_option(option))

    def press(self, *keys: str) -> None:
        """Press keys, one after the other."""
        for key in keys:
            self.do(lambda page, key=key: page.keyboard.press(key))  # type: ignore[misc]

    def type(self, text: str) -> None:
        """Type where the focus is."""
        self.do(lambda page: page.keyboard.type(text))

    def sees(self, text: str, within: str = "body", *, deadline_s: float = DEADLINE_S) -> None:
        """Wait until this text stands somewhere in the first element that a selector names."""
        self.do(lambda page: expect_that(page.locator(within).first).to_contain_text(text, timeout=deadline_s * 1000))

    def waits_for(self, selector: str, *, count: int | None = None) -> None:
        """Wait until something is to be seen, or is there so many times."""
        if count is None:
            self.do(lambda page: expect_that(page.locator(selector).first).to_be_visible(timeout=DEADLINE_S * 1000))
        else:
            self.do(lambda page: expect_that(page.locator(selector)).to_have_count(count, timeout=DEADLINE_S * 1000))

    def is_live(self) -> None:
        """Wait until the page follows what happens."""
        self.waits_for('#connection[data-state="live"]')

    def is_at(self, pattern: Any) -> None:
        """Wait until the address is this one."""
        self.do(lambda page: expect_that(page).to_have_url(pattern, timeout=DEADLINE_S * 1000))

    def text(self, selector: str = "body") -> str:
        """What is written in the first such element."""
        return self.find(lambda page: page.locator(selector).first, lambda it: it.inner_text())

    def texts(self, selector: str) -> list[str]:
        """What is written in all such elements."""
        return self.find(lambda page: page.locator(selector), lambda it: it.all_inner_texts())

    def count(self, selector: str) -> int:
        """How many there are."""
        return self.find(lambda page: page.locator(selector), lambda it: it.count())

    def evaluate(self, script: str) -> Any:
        """What JavaScript returns in the page."""
        return self.do(lambda page: page.evaluate(script))

    def mark(self) -> None:
        """Remember this very page: `is_the_same` is false once it was loaded anew."""
        self.evaluate("window.sameAsBefore = true")

    @property
    def is_the_same(self) -> bool:
        """Whether the page was not loaded anew since `mark`."""
        return bool(self.evaluate("window.sameAsBefore === true"))

    def resize(self, size: tuple[int, int]) -> None:
        """Give the window another size."""
        self.do(lambda page: page.set_viewport_size({"width": size[0], "height": size[1]}))

    def prefer_dark(self, dark: bool) -> None:
        """Have the person prefer dark colours, or light ones."""
        self.do(lambda page: page.emulate_media(color_scheme="dark" if dark else "light"))

    def picture(self, path: Path) -> None:
        """Take a picture of the page, all of it."""
        self.do(lambda page: page.screenshot(path=path, full_page=True))

    @property
    def focus(self) -> str:
        """The name of what the keyboard acts on."""
        return str(self.evaluate("(e => e.labels?.[0]?.innerText || e.innerText || e.tagName)(document.activeElement)"))

    @property
    def cookies(self) -> list[Any]:
        """The person's cookies."""
        return self.do(lambda page: page.context.cookies())

    def keep(self, cookies: list[Any]) -> None:
        """Give the person these cookies, too."""
        self.do(lambda page: page.context.add_cookies(cookies))

    def another(self) -> Window:
        """Open another window of the same person."""
        return self.browser.another(self)

    @property
    def overflow(self) -> int:
        """How far the page can be scrolled sideways (px)."""
        found = self.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        return int(found)

    @contextmanager
    def refused(self, status: int) -> Iterator[None]:
        """Something is answered with this status while the block runs, and the developer's tools say so."""
        before = len(self.faults)
        yield
        found, self.faults[before:] = self.faults[before:], []
        assert found, f"nothing was answered with {status}"
        assert all(f"{status}" in each for each in found), found


class BrowserUnderTest:
    """One browser for all tests; each test has windows of its own."""

    def __init__(self, browser: Browser, loop: asyncio.AbstractEventLoop) -> None:
        self._browser = browser
        self._loop = loop
        self._contexts: list[BrowserContext] = []
        self.windows: list[Window] = []

    def run(self, work: Awaitable[T]) -> T:
        """Have something done in the browser's thread."""

        async def awaited() -> T:
            return await work

        return asyncio.run_coroutine_threadsafe(awaited(), self._loop).result(DEADLINE_S * 3)

    def window(
        self,
        address: str,
        *,
        cookies: httpx.Cookies | None = None,
        size: tuple[int, int] = WIDE,
        dark: bool = False,
        script: str | None = None,
        **options: Any,
    ) -> Window:
        """Open a window of somebody else, who has these cookies.

        Parameters
        ----------
        script
            Runs in every page before its own.
        options
            Of Playwright's contexts: `java_script_enabled`...
        """
        jar = cookies.jar if cookies is not None else ()
        kept: list[Any] = [{"name": each.name, "value": each.value, "url": address} for each in jar]

        async def opened() -> Window:
            context = await self._browser.new_context(
                viewport={"width": size[0], "height": size[1]}, color_scheme="dark" if dark else "light", **options
            )
            self._contexts.append(context)
            context.set_default_timeout(DEADLINE_S * 1000)
            await context.add_cookies(kept)
            if script is not None:
                await context.add_init_script(script)
            return await self._watched(context, address)

        return self.run(opened())

    def another(self, window: Window) -> Window:
        """Open another window of the same person."""
        return self.run(self._watched(window.page.context, window.address))

    async def _watched(self, context: BrowserContext, address: str) -> Window:
        window = Window(await context.new_page(), self, address)
        _watch(window)
        self.windows.append(window)
        return window

    def close_windows(self) -> list[str]:
        """Close all, and return what went wrong in them."""
        for context in self._contexts:
            self.run(context.close())
        faults = [fault for window in self.windows for fault in window.faults]
        self._contexts.clear()
        self.windows.clear()
        return faults


Visit = Callable[..., Window]
"""`visit(user=None, **options)`: a new window of a user who is logged in, or of nobody; `BrowserUnderTest.window`."""


def _watch(window: Window) -> None:
    def said(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            window.faults.append(f"{message.type}: {message.text} ({message.location.get('url', '')})")

    def failed(request: Request) -> None:
        # What is under way when a page is left is aborted, the feed always.
        if request.failure != "net::ERR_ABORTED":
            window.faults.append(f"failed: {request.method} {request.url}: {request.failure}")

    async def asked(dialog: Any) -> None:
        window.faults.append(f"dialog: {dialog.message}")
        await dialog.dismiss()

    page = window.page
    page.on("console", said)
    page.on("pageerror", lambda error: window.faults.append(f"error: {error}"))
    page.on("requestfailed", failed)
    page.on("dialog", asked)


@contextmanager
def running_browser(path: str) -> Iterator[BrowserUnderTest]:
    """Start the browser at a path, without a screen; end it at the end."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="browser")
    thread.start()

    def run(work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, loop).result(DEADLINE_S * 3)

    try:
        manager = async_playwright()
        playwright = run(manager.__aenter__())
        try:
            arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
            browser = run(playwright.chromium.launch(executable_path=path, args=arguments))
            try:
                yield BrowserUnderTest(browser, loop)
            finally:
                run(browser.close())
        finally:
            run(manager.__aexit__())
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(DEADLINE_S)
        loop.close()
