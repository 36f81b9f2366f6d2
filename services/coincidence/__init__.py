"""Finds which fast radio burst belongs to which gravitational wave."""
