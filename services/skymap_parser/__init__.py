"""Parses the sky maps of alerts and announces what they say on `gw.skymaps`."""
