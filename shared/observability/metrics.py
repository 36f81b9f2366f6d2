"""Every metric of the event runtime, named once, with its unit and meaning."""

from prometheus_client import Counter, Gauge, Histogram

AGE_BUCKETS_S = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300, 1800, 3600)
# From an idle local broker (10 ms) to an outage over lunch.

MESSAGES = Counter(
    "tocsin_messages",
    "Messages by what became of them: handled, duplicate, skipped (no event in it) or dead_lettered.",
    ["consumer", "topic", "outcome"],
)
HANDLING = Histogram(
    "tocsin_handling_seconds",
    "Time from a batch's arrival in the process to its commit, per batch.",
    ["consumer"],
    buckets=AGE_BUCKETS_S,
)
EVENT_AGE = Histogram(
    "tocsin_event_age_seconds",
    "Age of a message (since the broker took it) when its effects were committed.",
    ["consumer"],
    buckets=AGE_BUCKETS_S,
)
TRANSIENT_FAILURES = Counter(
    "tocsin_transient_failures", "Tries that ended in an outage and will be repeated.", ["consumer", "error"]
)
CONSUMER_LAG = Gauge(
    "tocsin_consumer_lag_messages", "Messages waiting in the partitions this member holds.", ["consumer"]
)
CONSUMER_PAUSED = Gauge("tocsin_consumer_paused", "1 while the consumer waits for an outage to pass.", ["consumer"])
CONSUMER_HALTED = Gauge(
    "tocsin_consumer_halted", "1 when the consumer takes nothing until an operator acts.", ["consumer"]
)
CONSUMER_PARTITIONS = Gauge("tocsin_consumer_partitions", "Partitions this member holds.", ["consumer"])
CONSUMER_CONNECTED = Gauge("tocsin_consumer_connected", "1 while a broker of this consumer is connected.", ["consumer"])
LAST_EVENT = Gauge("tocsin_last_event_timestamp_seconds", "When the last message was taken (Unix time).", ["consumer"])
LAST_HEARTBEAT = Gauge(
    "tocsin_source_heartbeat_timestamp_seconds", "When the source last showed life (Unix time).", ["source"]
)
OUTBOX_DEPTH = Gauge("tocsin_outbox_depth", "Committed events that the broker has not acknowledged.")
OUTBOX_DELAY = Histogram(
    "tocsin_outbox_delay_seconds",
    "Time from an event's transaction to the broker's acknowledgement.",
    buckets=AGE_BUCKETS_S,
)
PUBLISHED = Counter("tocsin_published", "Events acknowledged by the broker.", ["topic"])
