"""Finds out who asks: Basic for both doors, Bearer for the proper one; limits how much one caller asks for."""

import base64
import binascii
import math
from dataclasses import dataclass
from typing import NoReturn

from fastapi import Request

from services.frb_intake.accounts import Accounts, Caller, Role, Session
from services.frb_intake.intake import Asker
from services.frb_intake.oidc import BadIdentityError, IdentityVerifier
from shared.http.problems import ProblemError
from shared.http.rate_limit import RateLimiter, network_of

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
class NoAccountError(AccessError):
    """The provider knows who asks, and nobody here does."""

    name: str


@dataclass
class NoSessionError(AccessError):
    """The caller shows a token of a program, which does not log out."""

    caller: str


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
        caller = await self._caller(request)
        if not caller.roles & {*roles} and not (Role.READ in roles and self._public_reading):
            raise RoleMissingError(caller.name, roles[0])
        return Asker(caller, _address(request))

    async def admit_reader(self, request: Request) -> None:
        """Return when the caller may read."""
        if not (self._public_reading and "authorization" not in request.headers):
            await self.admit(request, Role.READ)

    async def identify(self, request: Request) -> Caller:
        """Return who asks, whatever the roles; a token is looked up anew, so that nobody hears of one that ended."""
        return await self._caller(request, trusts_tokens=False)

    async def begin_session(self, request: Request, name: str, password: str, *, hours: float) -> Session:
        """Return a session for who has this password.

        Raises
        ------
        AccessError
            Nobody has it, or too many are tried from there.
        """
        caller = await self._by_password(request, name, password)
        session = await self._accounts.begin_session(caller.name, hours=hours, address=_address(request))
        if session is None:
            raise WrongCredentialsError
        return session

    async def begin_session_by_identity(
        self, request: Request, verifier: IdentityVerifier, id_token: str, *, nonce: str, hours: float
    ) -> Session:
        """Return a session for who logged in at the OpenID provider.

        Raises
        ------
        AccessError
            There is no such account, or it is disabled; or too many are tried from there.
        BadIdentityError
            The provider does not say so.
        """
        self._count_guess(request)
        name = await verifier.name(id_token, nonce=nonce)
        if not await self._accounts.is_open(name):
            raise NoAccountError(name)
        session = await self._accounts.begin_session(name, hours=hours, address=_address(request), nonce=nonce)
        if session is None:
            raise BadIdentityError("it began a session already")
        return session

    async def end_session(self, request: Request) -> None:
        """End the session whose token is shown.

        Raises
        ------
        AccessError
            No token is shown, or nobody's, or of no session.
        """
        scheme, credential = _shown(request)
        if scheme != "bearer":
            raise NoCredentialsError
        if not await self._accounts.end_session(*credential, address=_address(request)):
            raise NoSessionError((await self._caller(request, trusts_tokens=False)).name)

    async def end_sessions(self, request: Request) -> None:
        """End all sessions of who asks.

        Raises
        ------
        AccessError
            Nobody is known to ask.
        """
        caller = await self.identify(request)
        await self._accounts.end_sessions(caller.name, address=_address(request))

    async def _caller(self, request: Request, *, trusts_tokens: bool = True) -> Caller:
        scheme, credential = _shown(request)
        if scheme == "basic":
            caller = await self._by_password(request, *credential)
        else:
            verify = self._accounts.by_token if trusts_tokens else self._accounts.by_token_now
            found = await verify(*credential)
            if found is None:
                # A lookup costs little, and nobody guesses 32 random bytes: only wrong tokens count.
                self._count_guess(request)
                raise WrongCredentialsError
            caller = found
        if (wait_s := self._requests.check(caller.name)) > 0:
            raise TooManyRequestsError(wait_s)
        return caller

    async def _by_password(self, request: Request, name: str, password: str) -> Caller:
        caller = self._accounts.trusted(name, password)
        if caller is None:
            # Who asks again what is being verified costs no further hash.
            if not self._accounts.is_verifying(name, password):
                self._count_guess(request)
            caller = await self._accounts.by_password(name, password)
            if caller is None:
                raise WrongCredentialsError
        return caller

    def _count_guess(self, request: Request) -> None:
        if (wait_s := self._verifications.check(network_of(_address(request)))) > 0:
            raise TooManyRequestsError(wait_s)


def turn_away(error: AccessError) -> NoReturn:
    """Raise the problem that tells somebody why they may not."""
    if isinstance(error, TooManyRequestsError):
        raise ProblemError(
            429, "Too many requests", f"wait {error.retry_after} s", headers={"Retry-After": error.retry_after}
        ) from error
    if isinstance(error, NoAccountError):
        raise ProblemError(403, "Forbidden", f"{error.name} has no account here, or it is disabled") from error
    if isinstance(error, NoSessionError):
        detail = f"this token of {error.caller} is for programs; `tocsin token revoke` ends it"
        raise ProblemError(403, "Forbidden", detail) from error
    if isinstance(error, RoleMissingError):
        raise ProblemError(403, "Forbidden", f"{error.caller} has not the role {error.role}") from error
    raise ProblemError(
        401,
        "Unauthorized",
        "a token (Authorization: Bearer) or name and password (Basic) of an account is needed",
        headers={"WWW-Authenticate": 'Basic realm="tocsin", Bearer'},
    ) from error


def _address(request: Request) -> str | None:
    return request.client.host if request.client else None


def _shown(request: Request) -> tuple[str, tuple[str, ...]]:
    scheme, _, credential = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":
        return "basic", _basic(credential)
    if scheme.lower() == "bearer" and 0 < len(credential) <= MAX_CREDENTIAL_CHARACTERS:
        return "bearer", (credential.strip(),)
    raise NoCredentialsError


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
