"""Stand-ins for outside services: they speak the documented protocol, check what they are sent, and fail when told."""
