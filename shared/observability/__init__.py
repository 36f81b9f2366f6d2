"""Logs, metrics and traces: told the same way by every service, never in the way of an alert."""
