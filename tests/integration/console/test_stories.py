"""What people do in the console, as they do it: by reading, clicking and typing in a browser."""

from __future__ import annotations

from tests.support.browser import Visit
from tests.support.console import ConsoleUnderTest
from tests.support.frb_intake import PASSWORD


def test_somebody_logs_in_and_out_again(console: ConsoleUnderTest, visit: Visit) -> None:
    name = console.add_user("read")
    window = visit()

    assert window.open("/") == 200
    window.click("Log in", "link")
    window.fill("Name", name)
    window.fill("Password", PASSWORD)
    window.click("Log in")
    window.sees(name, "header")
    window.is_live()

    window.click("Log out")
    window.sees("Log in", "header")


def test_a_wrong_password_is_told_beside_the_form(console: ConsoleUnderTest, visit: Visit) -> None:
    window = visit()
    window.open("/login")
    window.fill("Name", console.add_user("read"))
    window.fill("Password", "not this one")
    with window.refused(401):
        window.click("Log in")
        window.sees("name or password is wrong", '[role="alert"]')
