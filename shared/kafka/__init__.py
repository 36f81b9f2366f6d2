"""Kafka through confluent-kafka's plain clients, behind asyncio.

One thread owns each consumer and is never starved or cancelled (invariant 7); the producer's delivery
reports resolve futures on the event loop.
"""
