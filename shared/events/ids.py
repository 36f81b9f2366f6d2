"""Identities that any process computes alike, so that the same thing seen twice is known as one."""

from uuid import UUID, uuid5

NAMESPACE = UUID("c9f63c8f-2f4b-5c0e-9a57-6f0c3d1b7e42")
# Made up once for Tocsin; a different value would give every known event a new identity.


def event_id(*parts: str) -> UUID:
    """Identity of the event that `parts` describe, in their order (UUID version 5, RFC 9562).

    Each part enters with its length, so that ("ab", "c") and ("a", "bc") are different events.
    Write times as ISO 8601 in UTC and contents as their sha256.

    Raises
    ------
    ValueError
        When there is nothing to identify.
    """
    if not parts:
        raise ValueError("an event id needs at least one part")
    return uuid5(NAMESPACE, "".join(f"{len(part)}:{part}" for part in parts))
