"""Verifies identity tokens of an OpenID provider (OpenID Connect Core 1.0, section 3.1.3.7)."""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable
from typing import Any

import httpx
import jwt

from services.frb_intake.settings import OidcSettings
from shared.http.oidc import Discovery, ProviderError, fetch_json

ALGORITHMS = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"})
# Signed with a key that only the provider has; with a shared one, whoever verifies could sign.
CLAIMS = ["iss", "aud", "exp", "iat", "sub", "nonce"]
MAX_AGE_S = 600.0
# From its making to a session. A day later the nonce is forgotten, which keeps it from beginning a second one.
LEEWAY_S = 60.0
# Clocks differ.
KEYS_KEPT_S, NEW_KEYS_S = 3600.0, 30.0
# Keys are fetched again after that; for a key that is not among them, no sooner than after the other.
MAX_NAME_CHARACTERS = 64


class BadIdentityError(Exception):
    """An identity token proves nothing; says why."""


class IdentityVerifier:
    """Tells whom an identity token is about."""

    def __init__(
        self, http: httpx.AsyncClient, settings: OidcSettings, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._http = http
        self._settings = settings
        self._clock = clock
        self._discovery = Discovery(http, settings.issuer)
        self._keys: list[dict[str, Any]] = []
        self._fetched_at: float | None = None

    async def name(self, token: str, *, nonce: str) -> str:
        """Return the name that the provider gives to who logged in.

        Raises
        ------
        BadIdentityError
            It is not from there, not for us, not of now, or not what `nonce` was for.
        ProviderError
            The provider cannot be asked for its keys.
        """
        try:
            header = jwt.get_unverified_header(token)
            algorithm = header.get("alg")
            if algorithm not in ALGORITHMS:
                raise BadIdentityError(f"it is signed with {str(algorithm)[:20]}")
            key = jwt.PyJWK(await self._key(header.get("kid"), algorithm), algorithm)
            claims = jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                issuer=self._settings.issuer,
                audience=self._settings.client_id,
                leeway=LEEWAY_S,
                options={"require": CLAIMS},
            )
        except jwt.PyJWTError as error:
            raise BadIdentityError(str(error)) from error
        return self._claimed(claims, nonce)

    def _claimed(self, claims: dict[str, Any], nonce: str) -> str:
        if claims.get("azp", self._settings.client_id) != self._settings.client_id:
            raise BadIdentityError("it was made for another client")
        made_at = claims["iat"]
        if not isinstance(made_at, int | float) or made_at < time.time() - MAX_AGE_S:
            raise BadIdentityError("it is too old")
        if not hmac.compare_digest(str(claims["nonce"]).encode(), nonce.encode()):
            raise BadIdentityError("it is from another try to log in")
        name = claims.get(self._settings.name_claim)
        if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME_CHARACTERS or not name.isprintable():
            raise BadIdentityError(f"it has no name in {self._settings.name_claim}")
        if self._settings.name_claim == "email" and claims.get("email_verified") is not True:
            raise BadIdentityError("its address of mail is not verified")
        return name

    async def _key(self, key_id: object, algorithm: str) -> dict[str, Any]:
        """Return the key of this id; the only one, if a token names none."""
        age_s = float("inf") if self._fetched_at is None else self._clock() - self._fetched_at
        found = self._fitting(key_id, algorithm) if age_s < KEYS_KEPT_S else []
        if not found and age_s >= NEW_KEYS_S:
            answer = await fetch_json(self._http, await self._discovery.endpoint("jwks_uri"))
            keys = answer.get("keys")
            if not isinstance(keys, list):
                raise ProviderError(f"{self._settings.issuer} has no keys")
            self._keys = [key for key in keys if isinstance(key, dict)]
            self._fetched_at = self._clock()
            found = self._fitting(key_id, algorithm)
        if len(found) != 1:
            raise BadIdentityError("it is signed with no key of the provider")
        return found[0]

    def _fitting(self, key_id: object, algorithm: str) -> list[dict[str, Any]]:
        return [
            key
            for key in self._keys
            if (key_id is None or key.get("kid") == key_id)
            and key.get("use", "sig") == "sig"
            and key.get("alg", algorithm) == algorithm
        ]
