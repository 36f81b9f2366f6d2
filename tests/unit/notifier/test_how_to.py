"""What the page on mail and webhooks shows works as it stands there."""

import re
from pathlib import Path
from typing import Any

import yaml

from services.notifier.channels.email import EmailSettings
from services.notifier.channels.gcn import GcnSettings
from services.notifier.channels.webhook import WebhookSettings
from services.notifier.channels.webhook_message import read_secret, signed_headers

PAGE = (Path(__file__).parents[3] / "docs" / "how-to-tell-by-mail-and-webhook.md").read_text("utf-8")
KINDS = {"email": EmailSettings, "webhook": WebhookSettings, "gcn": GcnSettings}


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    return found[1]


def test_the_settings_are_ones() -> None:
    section = yaml.safe_load(block("yaml"))["notifier"]
    for channel in section["channels"]:
        KINDS[channel["kind"]].model_validate(channel)
    assert {rule["channel"] for rule in section["rules"]} == {channel["name"] for channel in section["channels"]}


def test_the_receiver_takes_what_is_genuine_and_nothing_else() -> None:
    names: dict[str, Any] = {}
    exec(block("python"), names)
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    now = int(names["time"].time())
    headers = signed_headers([b"x" * 24, read_secret(secret)], message_id="msg_1", timestamp=now, body=b"{}")
    assert names["is_genuine"](headers, b"{}", secret)
    assert not names["is_genuine"](headers, b"[]", secret)
    late = signed_headers([read_secret(secret)], message_id="msg_1", timestamp=now - 301, body=b"{}")
    assert not names["is_genuine"](late, b"{}", secret)
