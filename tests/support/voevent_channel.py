"""A VOEvent channel, deliveries for it, and the schema that its packets have to fit."""

from __future__ import annotations

from functools import cache
from typing import Any

from lxml import etree

from services.notifier.channels.channel import Earlier
from services.notifier.channels.voevent import VoeventChannel, VoeventSettings
from shared.events.notices import ChannelMode, DeliveryAction
from shared.schema.records import SCHEMAS

SITE = "https://site.test"


def a_channel(**fields: Any) -> VoeventChannel:
    """A channel of an observatory of its own."""
    given: dict[str, Any] = {
        "name": "voevent", "mode": ChannelMode.PRODUCTION, "institute": "org.example", "instrument": "dish",
    }  # fmt: skip
    return VoeventChannel(VoeventSettings(**(given | fields)), site_url=SITE, observatory="TOCSIN")


def told(ivorn: str, packet_type: str = "detection", *, role: str = "observation", revision: int = 1) -> Earlier:
    """What is known of an earlier packet."""
    action = DeliveryAction.RETRACTION if packet_type == "retraction" else DeliveryAction.NEW
    return Earlier(revision, action, ivorn, {"ivorn": ivorn, "type": packet_type, "role": role})


@cache
def schema() -> etree.XMLSchema:
    """The schema of VOEvent 2.0."""
    return etree.XMLSchema(etree.parse(SCHEMAS / "external/voevent/VOEvent-v2.0.xsd"))


def valid(xml: str) -> etree._Element:
    """Return a packet's root, once it fits the schema."""
    root = etree.fromstring(xml.encode())
    schema().assertValid(root)
    return root


def params(root: etree._Element) -> dict[str, str]:
    """The parameters of a packet, whatever group they are in."""
    return {param.get("name", ""): param.get("value", "") for param in root.iterfind("What//Param")}
