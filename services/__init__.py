"""One package per service, one process each; no service imports another."""
