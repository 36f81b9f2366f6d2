"""PostgreSQL: one schema per service, effects through one unit of work, each event once."""
