"""Limits how much one caller asks for: a bucket of tokens for each key, in memory."""

import time
from collections import OrderedDict
from collections.abc import Callable

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
