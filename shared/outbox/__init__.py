"""The outbound half of the event runtime: what a transaction announced reaches its topic, in order, once."""
