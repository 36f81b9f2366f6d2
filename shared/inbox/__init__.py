"""The inbound half of the event runtime: each event handled once, each failure put where it belongs."""
