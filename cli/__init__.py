"""The operators' command line: the only code that may see all services."""
