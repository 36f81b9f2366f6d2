"""Limits how much one caller asks for: a bucket of tokens for each key, in memory."""

import time
from collections import OrderedDict
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address

IPV6_NETWORK_BITS = 64
# What one customer of a provider has at least: addresses within it cost nothing.

_WHOLE = 1 - 1e-9
# A caller that waited as long as it was told has earned its token, whatever rounding says.


class RateLimiter:
    """Token buckets.

    Parameters
    ----------
    rate_per_s
        Tokens that come back to a bucket.
    burst
        Tokens of a full one.
    max_keys
        Buckets that are remembered; the one asked for longest ago is forgotten first, and is full when it comes again.
    """

    def __init__(
        self,
        *,
        rate_per_s: float,
        burst: int,
        max_keys: int = 100_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rate_per_s = rate_per_s
        self._burst = burst
        self._max_keys = max_keys
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def check(self, key: str) -> float:
        """Take a token; return how long to wait (s) when there is none, 0 when it was taken."""
        now = self._clock()
        tokens, at = self._buckets.pop(key, (float(self._burst), now))
        tokens = min(self._burst, tokens + (now - at) * self._rate_per_s)
        wait_s = 0.0 if tokens >= _WHOLE else (1 - tokens) / self._rate_per_s
        self._buckets[key] = (tokens - 1 if wait_s == 0 else tokens, now)
        while len(self._buckets) > self._max_keys:
            self._buckets.popitem(last=False)
        return wait_s

    def give_back(self, key: str) -> None:
        """Return a token that was taken for something that turned out well."""
        tokens, at = self._buckets.get(key, (float(self._burst), self._clock()))
        self._buckets[key] = min(float(self._burst), tokens + 1), at


def network_of(address: str | None) -> str:
    """Return what an address counts as: itself, or its network if it is one of IPv6."""
    try:
        parsed = ip_address(address or "")
    except ValueError:
        return address or ""
    if not isinstance(parsed, IPv6Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(IPv6Address(int(parsed) >> (128 - IPV6_NETWORK_BITS) << (128 - IPV6_NETWORK_BITS)))
