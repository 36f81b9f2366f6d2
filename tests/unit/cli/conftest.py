"""A burst intake for the commands that speak to one."""

import httpx
import pytest

from tests.support.frb_client import FakeIntake


@pytest.fixture
def intake(monkeypatch: pytest.MonkeyPatch) -> FakeIntake:
    server = FakeIntake()
    monkeypatch.setattr("cli.frb.client._transport", lambda: httpx.MockTransport(server))
    monkeypatch.setattr("cli.frb.client.sleep", server.pauses_s.append)
    monkeypatch.setattr("cli.frb.following.sleep", server.pauses_s.append)
    return server
