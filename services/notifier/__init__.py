"""Tells people and machines, once, and takes back what no longer holds."""
