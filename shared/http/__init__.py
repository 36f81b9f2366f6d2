"""The HTTP face of every service: health, readiness, metrics, status; a service adds its own routes."""
