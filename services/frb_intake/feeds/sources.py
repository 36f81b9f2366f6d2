"""Where notices come from: NASA GCN, another Kafka, files, a VOEvent broker. Any number at once, each by its `name`."""

from typing import Annotated, Literal

from pydantic import Field

from services.frb_intake.feeds.gcn import CHIME_TOPIC, DSA_110_TOPIC
from services.frb_intake.feeds.voevent import VOEVENT_TOPIC
from shared.inbox import sources
from shared.inbox.sources import FilesSource
from shared.settings import Section

OWN_SOURCE = "local"
OWN_TOPICS = (CHIME_TOPIC, DSA_110_TOPIC, VOEVENT_TOPIC)
GROUP = "tocsin-frb"
# gw_listener may read the same broker with the same credential; one group would make each rebalance the other.


class GcnSource(sources.GcnSource):
    """NASA GCN: the notices of CHIME and DSA-110, with a client id and secret from the GCN web site."""

    topics: tuple[str, ...] = (CHIME_TOPIC, DSA_110_TOPIC)
    group_id: str = GROUP


class KafkaSource(sources.KafkaSource):
    """Any other Kafka, with or without TLS and SASL; GCN's JSON or VOEvent, told by the bytes."""

    topics: tuple[str, ...] = OWN_TOPICS
    group_id: str = GROUP


class VoeventSource(Section):
    """A VOEvent broker, such as Comet, by the VOEvent Transport Protocol."""

    type: Literal["voevent"] = "voevent"
    name: str = Field("voevent", min_length=1, max_length=64)
    host: str = Field(min_length=1)
    port: int = Field(8099, ge=1, le=65535, description="Where the broker serves subscribers.")
    ivorn: str = Field("ivo://tocsin/frb_intake", pattern=r"^ivo://\S+$", description="How we answer the broker.")
    silence_s: float = Field(
        180.0,
        gt=0,
        description="A broker that has sent nothing so long is taken for dead; a live one sends each minute.",
    )


FrbSource = Annotated[GcnSource | KafkaSource | FilesSource | VoeventSource, Field(discriminator="type")]
