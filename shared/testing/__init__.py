"""Stand-ins for outside services."""
