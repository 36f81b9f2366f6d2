"""Hears gravitational-wave alerts, keeps them, announces each once on `gw.alerts`."""
