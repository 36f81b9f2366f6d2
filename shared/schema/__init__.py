"""The contracts in Python: schemas, topics, and records to bytes and back."""
