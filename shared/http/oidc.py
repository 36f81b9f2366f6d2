"""What an OpenID provider says of itself (OpenID Connect Discovery 1.0), asked now and then."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import httpx

from shared.errors import TransientError

ISSUER = r"^(https://|http://(127\.0\.0\.1|localhost|\[::1\])[:/]|http://(127\.0\.0\.1|localhost|\[::1\])$)"
# What it says is as safe as the way it comes.
TIMEOUT_S = 5.0
KEPT_S = 3600.0


class ProviderError(TransientError):
    """The provider does not answer, or not as OpenID Connect wants it."""


class Discovery:
    """The endpoints of a provider."""

    def __init__(self, http: httpx.AsyncClient, issuer: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._http = http
        self._issuer = issuer
        self._clock = clock
        self._found: tuple[dict[str, Any], float] | None = None

    async def endpoint(self, name: str) -> str:
        """Return an address, as `token_endpoint`.

        Raises
        ------
        ProviderError
            The provider does not say it.
        """
        address = (await self.metadata()).get(name)
        if not isinstance(address, str) or not address.startswith(("https://", "http://")):
            raise ProviderError(f"{self._issuer} names no {name}")
        return address

    async def metadata(self) -> dict[str, Any]:
        """Return all that it says.

        Raises
        ------
        ProviderError
            It says nothing, or speaks for somebody else.
        """
        if self._found is None or self._found[1] <= self._clock():
            found = await fetch_json(self._http, self._issuer.rstrip("/") + "/.well-known/openid-configuration")
            if found.get("issuer") != self._issuer:
                raise ProviderError(f"{self._issuer} calls itself {str(found.get('issuer'))[:200]!r}")
            self._found = found, self._clock() + KEPT_S
        return self._found[0]


async def fetch_json(http: httpx.AsyncClient, address: str) -> dict[str, Any]:
    """Return the JSON object at an address.

    Raises
    ------
    ProviderError
        There is none.
    """
    try:
        answer = await http.get(address, timeout=TIMEOUT_S)
        found = answer.raise_for_status().json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise ProviderError(f"{address} does not answer: {str(error) or type(error).__name__}") from error
    if not isinstance(found, dict):
        raise ProviderError(f"{address} is no JSON object")
    return found
