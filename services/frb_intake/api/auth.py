"""Finds out who asks: Basic for both doors, Bearer for the proper one; limits how much one caller asks for."""

import base64
import binascii
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from fastapi import Request

from services.frb_intake.accounts import Accounts, Caller, Role
from services.frb_intake.intake import Asker
from shared.http.rate_limit import RateLimiter

MAX_CREDENTIAL_CHARACTERS = 1024


class AccessError(Exception):
    """Who asks may not; subclasses say why."""


class NoCredentialsError(AccessError):
    """None were sent, or none that can be read."""


class WrongCredentialsError(AccessError):
    """Nobody has these."""


@dataclass
class RoleMissingError(AccessError):
    """The caller has another role."""

    caller: str
    role: Role


@dataclass
class TooManyRequestsError(AccessError):
    """The caller, or somebody who guesses passwords, has to wait."""

    wait_s: float

    @property
    def retry_after(self) -> str:
        """Whole seconds to wait."""
        return str(max(1, math.ceil(self.wait_s)))


class Doorkeeper:
    """Lets callers in.

    Parameters
    ----------
    requests
        Limits the requests of each account.
    verifications
        Limits how many unknown credentials an address may show: a guess costs a hash.
    """

    def __init__(
        self, accounts: Accounts, *, requests: RateLimiter, verifications: RateLimiter, public_reading: bool
    ) -> None:
        self._accounts = accounts
        self._requests = requests
        self._verifications = verifications
        self._public_reading = public_reading

    async def admit(self, request: Request, *roles: Role) -> Asker:
        """Return who asks.

        Raises
        ------
        AccessError
            Nobody who may do what one of `roles` may.
        """
        address = request.client.host if request.client else None
        caller = await self._caller(request, address)
        if not caller.roles & {*roles} and not (Role.READ in roles and self._public_reading):
            raise RoleMissingError(caller.name, roles[0])
        return Asker(caller, address)

    async def admit_reader(self, request: Request) -> None:
        """Return when the caller may read."""
        if not (self._public_reading and "authorization" not in request.headers):
            await self.admit(request, Role.READ)

    async def identify(self, request: Request) -> Caller:
        """Return who asks, whatever the roles."""
        return await self._caller(request, request.client.host if request.client else None)

    async def _caller(self, request: Request, address: str | None) -> Caller:
        scheme, _, credential = request.headers.get("authorization", "").partition(" ")
        shown: tuple[str, ...]
        verify: Callable[..., Awaitable[Caller | None]]
        if scheme.lower() == "basic":
            shown = _basic(credential)
            verify = self._accounts.by_password
        elif scheme.lower() == "bearer" and 0 < len(credential) <= MAX_CREDENTIAL_CHARACTERS:
            shown = (credential.strip(),)
            verify = self._accounts.by_token
        else:
            raise NoCredentialsError
        caller = self._accounts.trusted(*shown)
        if caller is None:
            # Who asks again what is being verified costs no further hash.
            is_guess = not self._accounts.is_verifying(*shown)
            if is_guess and (wait_s := self._verifications.check(address or "")) > 0:
                raise TooManyRequestsError(wait_s)
            caller = await verify(*shown)
            if caller is None:
                raise WrongCredentialsError
        if (wait_s := self._requests.check(caller.name)) > 0:
            raise TooManyRequestsError(wait_s)
        return caller


def _basic(credential: str) -> tuple[str, str]:
    if len(credential) > MAX_CREDENTIAL_CHARACTERS:
        raise NoCredentialsError
    try:
        text = base64.b64decode(credential, validate=True).decode()
    except (binascii.Error, ValueError):
        raise NoCredentialsError from None
    name, colon, password = text.partition(":")
    if not colon:
        raise NoCredentialsError
    return name, password
