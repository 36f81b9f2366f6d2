"""What the published IGWN schema lets a sender write is read without loss."""

import json
from importlib import resources
from typing import Any

import pytest

from services.gw_listener.alerts import content_id, read_alert
from shared.events.gw import AlertType
from tests.support.alerts import a_burst, a_coincidence, alert_content, an_alert, an_event, as_avro

pytest.importorskip("igwn_gwalert_schema", reason="the published schemas are not installed (igwn-gwalert-schema)")


def published() -> Any:
    return json.loads((resources.files("igwn_gwalert_schema") / "igwn.alerts.Alert.avsc").read_text())


HISTOGRAM = {"bin_edges": [0.1, 1.2, 2.5], "probabilities": [0.25, 0.75]}


@pytest.mark.parametrize("alert_type", ["EARLYWARNING", "PRELIMINARY", "INITIAL", "UPDATE", "RETRACTION"])
def test_every_type_of_alert_is_read(alert_type: str) -> None:
    content = alert_content(alert_type=alert_type, event=an_event(mchirp_source=HISTOGRAM), skymap=b"SIMPLE")

    alert = read_alert(as_avro(content, published()))

    assert alert.alert_type is AlertType(alert_type)
    assert alert.upstream_schema == "igwn.alerts.Alert"
    assert not alert.unknown_fields
    assert (alert.skymap == b"SIMPLE") == (alert_type != "RETRACTION")


@pytest.mark.parametrize(
    "event", [an_event(mchirp_source=HISTOGRAM), a_burst(mchirp_source=None)], ids=["CBC", "Burst"]
)
@pytest.mark.parametrize("notice", [524666471, "FRB20261121A"])
def test_the_newest_schema_and_ours_say_the_same(event: dict[str, Any], notice: int | str) -> None:
    content = alert_content(event=event, external_coinc=a_coincidence(gcn_notice_id=notice, combined_skymap=b"SIMPLE"))

    alert = read_alert(as_avro(content, published()))

    assert alert.event is not None
    assert (alert.event.mchirp_source is None) == (event["mchirp_source"] is None)
    assert alert.external_coinc is not None
    assert alert.external_coinc.gcn_notice_id == str(notice)
    if isinstance(notice, int):
        assert content_id(alert) == content_id(
            read_alert(an_alert(event=content["event"], external_coinc=content["external_coinc"]))
        )
