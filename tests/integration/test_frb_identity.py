"""An identity token counts only if the provider made it, for us, now, and for this very login."""

from collections.abc import AsyncIterator

import httpx
import pytest

from services.frb_intake.oidc import KEYS_KEPT_S, NEW_KEYS_S, BadIdentityError, IdentityVerifier
from services.frb_intake.settings import OidcSettings
from shared.http.oidc import ProviderError
from shared.testing.oidc import CLIENT_ID, Lie, OpenIdProvider, standing_provider

NONCE = "what this login was asked with"
AT_THE_PROVIDER = (Lie.REFUSED, Lie.UNAVAILABLE, Lie.NO_TOKEN)
# Before there is an identity token.


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
async def provider() -> AsyncIterator[OpenIdProvider]:
    async with standing_provider() as standing:
        yield standing


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient() as client:
        yield client


def a_verifier(http: httpx.AsyncClient, provider: OpenIdProvider, clock: Clock, **settings: str) -> IdentityVerifier:
    known = OidcSettings.model_validate({"issuer": provider.issuer, "client_id": CLIENT_ID, **settings})
    return IdentityVerifier(http, known, clock=clock)


async def test_a_good_token_tells_a_name(http: httpx.AsyncClient, provider: OpenIdProvider) -> None:
    verifier = a_verifier(http, provider, Clock())
    assert [await verifier.name(provider.id_token(NONCE), nonce=NONCE) for _ in range(3)] == ["ada"] * 3
    assert provider.fetched_keys == 1


@pytest.mark.parametrize("lie", [lie for lie in Lie if lie not in AT_THE_PROVIDER])
async def test_a_lie_is_nobody(http: httpx.AsyncClient, provider: OpenIdProvider, lie: Lie) -> None:
    with pytest.raises(BadIdentityError):
        await a_verifier(http, provider, Clock()).name(provider.id_token(NONCE, lie), nonce=NONCE)


async def test_an_address_of_mail_counts_once_it_is_verified(http: httpx.AsyncClient, provider: OpenIdProvider) -> None:
    verifier, mail = a_verifier(http, provider, Clock(), name_claim="email"), "ada@example.org"
    for verified in (False, "true", None):
        with pytest.raises(BadIdentityError):
            await verifier.name(provider.id_token(NONCE, email=mail, email_verified=verified), nonce=NONCE)
    assert await verifier.name(provider.id_token(NONCE, email=mail, email_verified=True), nonce=NONCE) == mail


async def test_new_keys_are_found_and_made_up_ones_cost_nothing(
    http: httpx.AsyncClient, provider: OpenIdProvider
) -> None:
    clock = Clock()
    verifier = a_verifier(http, provider, clock)
    await verifier.name(provider.id_token(NONCE), nonce=NONCE)
    for _ in range(5):
        with pytest.raises(BadIdentityError):
            await verifier.name(provider.id_token(NONCE, Lie.UNKNOWN_KEY), nonce=NONCE)
    assert provider.fetched_keys == 1

    old = provider.id_token(NONCE)
    provider.rotate()
    clock.now_s += NEW_KEYS_S
    assert await verifier.name(provider.id_token(NONCE), nonce=NONCE) == "ada"
    with pytest.raises(BadIdentityError):
        await verifier.name(old, nonce=NONCE)
    assert provider.fetched_keys == 2

    clock.now_s += KEYS_KEPT_S
    await verifier.name(provider.id_token(NONCE), nonce=NONCE)
    assert provider.fetched_keys == 3


async def test_a_provider_that_speaks_for_somebody_else_or_not_at_all_is_an_outage(
    http: httpx.AsyncClient, provider: OpenIdProvider
) -> None:
    token = provider.id_token(NONCE)
    for issuer in (f"http://localhost:{provider.port}", f"{provider.issuer}/elsewhere", "http://127.0.0.1:1"):
        with pytest.raises(ProviderError):
            await a_verifier(http, provider, Clock(), issuer=issuer).name(token, nonce=NONCE)


@pytest.mark.parametrize("issuer", ["http://provider.example", "http://127.0.0.1.evil.example", "ftp://x", ""])
def test_a_provider_is_reached_safely(issuer: str) -> None:
    with pytest.raises(ValueError, match="issuer"):
        OidcSettings(issuer=issuer, client_id=CLIENT_ID)
