"""Measurements against peers and bare operations, side by side in one process run."""
