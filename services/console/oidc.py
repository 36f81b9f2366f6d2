"""Logging in at an OpenID provider: the authorization code flow with PKCE (OpenID Connect Core 1.0, RFC 7636).

A browser keeps one secret while it is away. What the provider is asked with is made from it, so nothing is kept here;
what comes back counts in that browser alone. Whether the identity token is good is for the intake to say.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from base64 import b64encode, urlsafe_b64decode, urlsafe_b64encode
from urllib.parse import quote_plus

import httpx
from fastapi import Request

from services.console.access import same_code
from services.console.settings import OidcSettings
from shared.http.oidc import TIMEOUT_S, Discovery, ProviderError

CALLBACK = "/login/oidc/callback"
MAX_STATE_CHARACTERS, MAX_CODE_CHARACTERS = 2000, 2000
_SAID = re.compile(r"[a-z_]{1,50}")


class LoginFailedError(Exception):
    """Somebody came back from the provider, and is not logged in; says why."""


class Provider:
    """Where people are sent to log in, and what they come back with."""

    def __init__(self, http: httpx.AsyncClient, settings: OidcSettings) -> None:
        self._http = http
        self._settings = settings
        self._discovery = Discovery(http, settings.issuer)

    async def address(self, request: Request, secret: str, next_path: str) -> str:
        """Return where to send a browser that keeps `secret`, and is to see `next_path` in the end.

        Raises
        ------
        ProviderError
            The provider does not answer.
        """
        asked = {
            "response_type": "code",
            "client_id": self._settings.client_id,
            "redirect_uri": self._callback(request),
            "scope": "openid profile email",
            "state": _state(secret, next_path),
            "nonce": nonce_of(secret),
            "code_challenge": _base64(hashlib.sha256(_verifier(secret).encode()).digest()),
            "code_challenge_method": "S256",
        }
        endpoint = await self._discovery.endpoint("authorization_endpoint")
        return str(httpx.URL(endpoint).copy_merge_params(asked))

    def next_path(self, request: Request, secret: str | None) -> str:
        """Return what a browser that came back is to see.

        Raises
        ------
        LoginFailedError
            It did not leave from here, or another provider sent it.
        """
        state = request.query_params.get("state", "")
        told = _next_path(state) if len(state) <= MAX_STATE_CHARACTERS else None
        if secret is None or told is None or not same_code(state, _state(secret, told)):
            raise LoginFailedError("it took too long, or began in another window; try again")
        if request.query_params.get("iss", self._settings.issuer) != self._settings.issuer:
            raise LoginFailedError("another provider answered")
        return told

    async def id_token(self, request: Request, secret: str) -> str:
        """Return the identity token of who came back.

        Raises
        ------
        LoginFailedError
            The provider refused.
        ProviderError
            It does not answer.
        """
        if "error" in request.query_params:
            raise LoginFailedError(_refusal(request.query_params["error"]))
        code = request.query_params.get("code", "")
        if not 0 < len(code) <= MAX_CODE_CHARACTERS:
            raise LoginFailedError("the provider sent no code")
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._callback(request),
            "code_verifier": _verifier(secret),
            "client_id": self._settings.client_id,
        }
        endpoint = await self._discovery.endpoint("token_endpoint")
        try:
            answer = await self._http.post(endpoint, data=form, headers=self._authorization(), timeout=TIMEOUT_S)
            told = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise ProviderError(f"{endpoint} does not answer: {str(error) or type(error).__name__}") from error
        if answer.is_server_error or not isinstance(told, dict):
            raise ProviderError(f"{endpoint} answers {answer.status_code}")
        if answer.is_error:
            raise LoginFailedError(_refusal(str(told.get("error", ""))))
        if not isinstance(told.get("id_token"), str):
            raise ProviderError(f"{endpoint} sent no identity token")
        return str(told["id_token"])

    def _authorization(self) -> dict[str, str]:
        """Return how the console proves who it is (RFC 6749, section 2.3.1); nothing for a public client."""
        if self._settings.client_secret is None:
            return {}
        shown = (self._settings.client_id, self._settings.client_secret.get_secret_value())
        credential = ":".join(quote_plus(part) for part in shown)
        return {"Authorization": f"Basic {b64encode(credential.encode()).decode()}"}

    def _callback(self, request: Request) -> str:
        return self._settings.redirect_uri or str(request.url.replace(path=CALLBACK, query="", fragment=""))


def nonce_of(secret: str) -> str:
    """Return what the identity token must say to be for this browser and this try."""
    return _made(secret, "nonce")


def _state(secret: str, next_path: str) -> str:
    return f"{_base64(next_path.encode())}.{_made(secret, 'state ' + next_path)}"


def _next_path(state: str) -> str | None:
    try:
        text = state.partition(".")[0]
        return urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
    except ValueError:
        return None


def _verifier(secret: str) -> str:
    return _made(secret, "code verifier")


def _made(secret: str, purpose: str) -> str:
    return _base64(hmac.digest(secret.encode(), f"tocsin console {purpose}".encode(), "sha256"))


def _base64(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _refusal(error: str) -> str:
    if error == "access_denied":
        return "you, or the provider, said no there"
    if error == "invalid_grant":
        return "it took too long, or was done already; try again"
    return f"the provider refused: {error if _SAID.fullmatch(error) else 'it did not say why'}"
