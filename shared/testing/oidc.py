"""An OpenID provider on the loopback address where everybody is logged in already, and that lies when told to.

`python -m shared.testing.oidc --port 8092 --user ada` runs one. Its own reading of OpenID Connect Core 1.0 and of
RFC 7636, not the console's or the intake's.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import hashlib
import json
import secrets
import time
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any
from urllib.parse import parse_qsl, unquote_plus, urlencode, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

from shared.testing.connections import serving

CLIENT_ID, CLIENT_SECRET = "tocsin-console", "a secret for trials"
EXPIRES_S = 300
_HEADER_LINES = 100


class Lie(StrEnum):
    """What is wrong with the next login."""

    REFUSED = "refused"
    UNAVAILABLE = "unavailable"
    NO_TOKEN = "no token"  # noqa: S105
    OTHER_NONCE = "other nonce"
    NO_NONCE = "no nonce"
    OTHER_AUDIENCE = "other audience"
    OTHER_CLIENT = "other client"
    OTHER_ISSUER = "other issuer"
    EXPIRED = "expired"
    OLD = "old"
    FROM_THE_FUTURE = "from the future"
    UNSIGNED = "unsigned"
    SHARED_SECRET = "signed with what everybody knows"  # noqa: S105
    OTHER_KEY = "other key"
    UNKNOWN_KEY = "unknown key"
    NO_NAME = "no name"
    NAME_IS_A_LIST = "name is a list"
    GARBAGE = "garbage"


class _RefusedError(Exception):
    """What OAuth says of a wrong request."""


@dataclass
class OpenIdProvider:
    """A provider; `standing_provider` starts one.

    Attributes
    ----------
    user
        Who is logged in there, by the name that tokens call preferred_username.
    lies
        What is wrong with the next logins, one each.
    problems
        What was wrong with requests, in words.
    fetched_keys
        How often somebody asked for the keys.
    """

    user: str = "ada"
    client_secret: str | None = CLIENT_SECRET
    port: int = 0
    lies: deque[Lie] = field(default_factory=deque)
    problems: list[str] = field(default_factory=list)
    fetched_keys: int = 0
    _codes: dict[str, dict[str, str]] = field(default_factory=dict)
    _key: rsa.RSAPrivateKey = field(default_factory=lambda: _new_key())
    _key_id: str = "first"

    @property
    def issuer(self) -> str:
        """What it calls itself."""
        return f"http://127.0.0.1:{self.port}"

    def rotate(self) -> None:
        """Sign with a new key from now on."""
        self._key, self._key_id = _new_key(), secrets.token_hex(4)

    def id_token(self, nonce: str, lie: Lie | None = None, **changes: Any) -> str:
        """Return an identity token, as it would be told or as a liar would."""
        now = int(time.time())
        claims: dict[str, Any] = {
            "iss": self.issuer,
            "sub": f"subject of {self.user}",
            "aud": CLIENT_ID,
            "iat": now,
            "exp": now + EXPIRES_S,
            "nonce": nonce,
            "preferred_username": self.user,
            **changes,
        }
        match lie:
            case Lie.OTHER_NONCE:
                claims["nonce"] = secrets.token_urlsafe(32)
            case Lie.NO_NONCE:
                del claims["nonce"]
            case Lie.OTHER_AUDIENCE:
                claims["aud"] = "another-client"
            case Lie.OTHER_CLIENT:
                claims |= {"aud": [CLIENT_ID, "another-client"], "azp": "another-client"}
            case Lie.OTHER_ISSUER:
                claims["iss"] = "https://another.example"
            case Lie.EXPIRED:
                claims |= {"iat": now - 2 * EXPIRES_S, "exp": now - EXPIRES_S}
            case Lie.OLD:
                claims |= {"iat": now - 86_400}
            case Lie.FROM_THE_FUTURE:
                claims |= {"iat": now + 3600, "exp": now + 7200}
            case Lie.NO_NAME:
                del claims["preferred_username"]
            case Lie.NAME_IS_A_LIST:
                claims["preferred_username"] = [self.user]
            case _:
                pass
        headers = {"kid": self._key_id}
        if lie is Lie.GARBAGE:
            return "not.a.token"
        if lie is Lie.UNSIGNED:
            return jwt.encode(claims, "", algorithm="none", headers=headers)
        if lie is Lie.SHARED_SECRET:
            return jwt.encode(claims, CLIENT_SECRET.ljust(32, "."), algorithm="HS256", headers=headers)
        if lie is Lie.UNKNOWN_KEY:
            headers["kid"] = "unknown"
        key = _new_key() if lie in (Lie.OTHER_KEY, Lie.UNKNOWN_KEY) else self._key
        return jwt.encode(claims, key, algorithm="RS256", headers=headers)

    # ---- requests ----

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection's requests."""
        while True:
            method, target, headers, body = await _read_request(reader)
            path, query = urlsplit(target).path, dict(parse_qsl(urlsplit(target).query))
            try:
                if path == "/.well-known/openid-configuration":
                    answer = _json(self._metadata())
                elif path == "/jwks":
                    self.fetched_keys += 1
                    public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self._key.public_key()))
                    answer = _json({"keys": [{**public, "kid": self._key_id, "use": "sig", "alg": "RS256"}]})
                elif path == "/authorize":
                    answer = _response("302 Found", "", f"Location: {self._authorize(query)}\r\n")
                elif path == "/token" and method == "POST":
                    answer = self._token(headers, dict(parse_qsl(body.decode())))
                else:
                    answer = _response("404 Not Found", "")
            except _RefusedError as error:
                self.problems.append(f"{path}: {error}")
                answer = _json({"error": str(error).partition(":")[0]}, "400 Bad Request")
            writer.write(answer)
            await writer.drain()

    def _metadata(self) -> dict[str, Any]:
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/jwks",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "code_challenge_methods_supported": ["S256"],
        }

    def _authorize(self, asked: dict[str, str]) -> str:
        """Return where a browser is sent: back, with a code."""
        for name, value in (("client_id", CLIENT_ID), ("response_type", "code"), ("code_challenge_method", "S256")):
            if asked.get(name) != value:
                raise _RefusedError(f"invalid_request: {name}")
        for name in ("redirect_uri", "state", "nonce", "code_challenge"):
            if not asked.get(name):
                raise _RefusedError(f"invalid_request: no {name}")
        if "openid" not in asked.get("scope", "").split():
            raise _RefusedError("invalid_scope: no openid")
        told = {"state": asked["state"], "iss": self.issuer}
        if self.lies and self.lies[0] is Lie.REFUSED:
            self.lies.popleft()
            told["error"] = "access_denied"
        else:
            told["code"] = secrets.token_urlsafe(16)
            self._codes[told["code"]] = asked
        return f"{asked['redirect_uri']}?{urlencode(told)}"

    def _token(self, headers: dict[str, str], form: dict[str, str]) -> bytes:
        if self.client_secret is not None:
            scheme, _, credential = headers.get("authorization", "").partition(" ")
            name, _, secret = base64.b64decode(credential).decode().partition(":")
            if (scheme, unquote_plus(name), unquote_plus(secret)) != ("Basic", CLIENT_ID, self.client_secret):
                raise _RefusedError("invalid_client: its secret")
        elif form.get("client_id") != CLIENT_ID:
            raise _RefusedError("invalid_client: its name")
        asked = self._codes.pop(form.get("code", ""), None)
        if form.get("grant_type") != "authorization_code" or asked is None:
            raise _RefusedError("invalid_grant: its code")
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        if base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != asked["code_challenge"]:
            raise _RefusedError("invalid_grant: its code verifier")
        if form.get("redirect_uri") != asked["redirect_uri"]:
            raise _RefusedError("invalid_grant: its address")
        lie = self.lies.popleft() if self.lies else None
        if lie is Lie.UNAVAILABLE:
            return _response("503 Service Unavailable", "<html>later</html>")
        told = {"access_token": secrets.token_urlsafe(16), "token_type": "Bearer", "expires_in": EXPIRES_S}
        if lie is not Lie.NO_TOKEN:
            told["id_token"] = self.id_token(asked["nonce"], lie)
        return _json(told)


def _new_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


async def _read_request(reader: asyncio.StreamReader) -> tuple[str, str, dict[str, str], bytes]:
    method, target, _ = (await reader.readuntil(b"\r\n")).decode("latin-1").split(" ")
    headers: dict[str, str] = {}
    for _ in range(_HEADER_LINES):
        line = (await reader.readuntil(b"\r\n")).decode("latin-1").strip()
        if not line:
            break
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    return method, target, headers, await reader.readexactly(int(headers.get("content-length", "0")))


def _json(told: dict[str, Any], status: str = "200 OK") -> bytes:
    return _response(status, json.dumps(told), "Content-Type: application/json\r\n")


def _response(status: str, text: str, extra: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\n{extra}Content-Length: {len(text.encode())}\r\n\r\n{text}".encode()


@contextlib.asynccontextmanager
async def standing_provider(port: int = 0, **attributes: Any) -> AsyncIterator[OpenIdProvider]:
    """Return a provider, at a free port unless one is given, while the block runs."""
    provider = OpenIdProvider(**attributes)
    async with serving(provider.serve, port) as provider.port:
        yield provider


async def _run(port: int, user: str) -> None:
    async with standing_provider(port, user=user) as provider:
        print(f"{provider.issuer}: client {CLIENT_ID}, secret {CLIENT_SECRET}", flush=True)  # noqa: T201
        await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8092, help="where to listen")
    parser.add_argument("--user", default="ada", help="who is logged in there")
    options = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_run(options.port, options.user))
