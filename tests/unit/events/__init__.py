"""Identities of events."""
