"""Who may use the doors: users with roles, passwords (argon2id) and tokens (random, stored as sha256)."""

import asyncio
import hashlib
import hmac
import math
import os
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import asyncpg
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerifyMismatchError

from shared.db.errors import translated_errors
from shared.db.pool import borrowed
from shared.errors import InvalidInputError

TOKEN_PREFIX = "tocsin"  # noqa: S105  (tells a leaked token for what it is)
CONCURRENT_HASHES = 2
# A verification takes 64 MiB and 50 ms; more at once than cores only cost memory.
MAX_CACHED = 10_000
MIN_PASSWORD_CHARACTERS = 8
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,63}")

_hasher = PasswordHasher()


class Role(StrEnum):
    """What an account may do."""

    SUBMIT = "submit"
    RATE = "rate"
    OPERATE = "operate"
    READ = "read"


@dataclass(frozen=True)
class Caller:
    """Who asks."""

    name: str
    roles: frozenset[Role]


@dataclass(frozen=True)
class Session:
    """A token that ends by itself, for a person who logged in."""

    token: str
    caller: Caller
    expires_at: datetime


@dataclass(frozen=True)
class _Verified:
    caller: Caller
    left_s: float = math.inf
    """How long the credential holds."""


Clock = Callable[[], float]


class Accounts:
    """Verifies credentials, and trusts what it verified for a while so that a hash is not paid on every request."""

    def __init__(self, pool: asyncpg.Pool, *, trust_s: float, clock: Clock = time.monotonic) -> None:
        self._pool = pool
        self._trust_s = trust_s
        self._clock = clock
        self._key = os.urandom(32)  # what is remembered is of no use outside this process
        self._known: OrderedDict[bytes, tuple[Caller, float]] = OrderedDict()
        self._asked: dict[bytes, asyncio.Future[_Verified | None]] = {}
        self._ended = 0
        self._hashing = asyncio.Semaphore(CONCURRENT_HASHES)
        self._nobody = _hasher.hash(secrets.token_hex())

    def trusted(self, *credential: str) -> Caller | None:
        """Return who showed this credential a moment ago."""
        found = self._known.get(self._fingerprint(credential))
        return found[0] if found is not None and found[1] > self._clock() else None

    def is_verifying(self, *credential: str) -> bool:
        """Whether somebody showed this credential a moment ago, and nobody knows yet whether it is right."""
        return self._fingerprint(credential) in self._asked

    async def by_password(self, name: str, password: str) -> Caller | None:
        """Return the user with this password; None when there is none, or it is disabled."""
        return await self._once((name, password), lambda: self._verify(name, password))

    async def by_token(self, token: str) -> Caller | None:
        """Return whom a token stands for; None when it is unknown, revoked or expired, or its user disabled."""
        return await self._once((token,), lambda: self._look_up(token))

    async def by_token_now(self, token: str) -> Caller | None:
        """Return whom a token stands for at this very moment, whatever was verified before."""
        verified = await self._look_up(token)
        if verified is None:
            self._known.pop(self._fingerprint((token,)), None)
            return None
        return verified.caller

    async def is_open(self, name: str) -> bool:
        """Whether there is a user of this name who is not disabled."""
        return await self._fetch_row("SELECT FROM users WHERE name = $1 AND disabled_at IS NULL", name) is not None

    async def begin_session(
        self, name: str, *, hours: float, address: str | None, nonce: str | None = None
    ) -> Session | None:
        """Return a new session of a user who proved to be it.

        Parameters
        ----------
        nonce
            Begins one session, and no second.

        Returns
        -------
        None when there is no such user, or it is disabled, or the nonce began one.
        """
        token = _new_token()
        row = await self._fetch_row(
            "WITH session AS (INSERT INTO tokens (user_id, digest, expires_at, is_session, nonce_digest)"
            " SELECT id, $2, now() + make_interval(secs => $3), true, $5 FROM users"
            " WHERE name = $1 AND disabled_at IS NULL"
            " ON CONFLICT (nonce_digest) DO NOTHING RETURNING user_id, expires_at),"
            " audited AS (INSERT INTO audit_log (actor, action, subject, address)"
            " SELECT $1, 'LOGGED_IN', $1, $4 FROM session)"
            " SELECT users.roles, session.expires_at FROM session JOIN users ON users.id = session.user_id",
            name,
            _digest(token),
            hours * 3600,
            address,
            None if nonce is None else _digest(nonce),
        )
        return None if row is None else Session(token, _caller(name, row["roles"]), row["expires_at"])

    async def end_session(self, token: str, *, address: str | None) -> bool:
        """End the session that a token stands for, at once in this process; return whether there was one."""
        ended = await self._end(
            " AND tokens.digest = $1 AND users.disabled_at IS NULL", "LOGGED_OUT", _digest(token), address
        )
        self._known.pop(self._fingerprint((token,)), None)
        return ended

    async def end_sessions(self, name: str, *, address: str | None) -> None:
        """End all sessions of a user, at once in this process."""
        await self._end(" AND users.name = $1", "LOGGED_OUT_EVERYWHERE", name, address)
        for fingerprint in [fingerprint for fingerprint, (caller, _) in self._known.items() if caller.name == name]:
            del self._known[fingerprint]

    async def _end(self, which: str, action: str, *arguments: object) -> bool:
        # Counted twice: what was verified before or while it ended is not remembered.
        self._ended += 1
        row = await self._fetch_row(
            "WITH ended AS (UPDATE tokens SET revoked_at = now() FROM users WHERE users.id = tokens.user_id"  # noqa: S608  (ours)
            f"{which} AND tokens.is_session AND tokens.revoked_at IS NULL AND tokens.expires_at > now()"
            " RETURNING users.name),"
            " audited AS (INSERT INTO audit_log (actor, action, subject, address)"
            f" SELECT DISTINCT name, '{action}', name, $2 FROM ended)"
            " SELECT FROM ended LIMIT 1",
            *arguments,
        )
        self._ended += 1
        return row is not None

    async def _once(
        self, credential: tuple[str, ...], verify: Callable[[], Awaitable[_Verified | None]]
    ) -> Caller | None:
        """Verify a credential that many requests show at once only once."""
        if (caller := self.trusted(*credential)) is not None:
            return caller
        fingerprint = self._fingerprint(credential)
        if (asked := self._asked.get(fingerprint)) is not None:
            verified = await asyncio.shield(asked)
            return None if verified is None else verified.caller
        ended = self._ended
        asked = asyncio.ensure_future(verify())
        self._asked[fingerprint] = asked
        try:
            verified = await asyncio.shield(asked)
        finally:
            del self._asked[fingerprint]
        if verified is None:
            return None
        # What was verified while a session ended may be that session.
        if self._trust_s > 0 and ended == self._ended:
            self._known[fingerprint] = (verified.caller, self._clock() + min(self._trust_s, verified.left_s))
            while len(self._known) > MAX_CACHED:
                self._known.popitem(last=False)
        return verified.caller

    async def _verify(self, name: str, password: str) -> _Verified | None:
        row = await self._fetch_row(
            "SELECT password_hash, roles FROM users WHERE name = $1 AND disabled_at IS NULL", name
        )
        async with self._hashing:
            # An unknown name, or one without a password, takes as long as a wrong password.
            matches = await asyncio.to_thread(_matches, (row and row["password_hash"]) or self._nobody, password)
        return _Verified(_caller(name, row["roles"])) if row is not None and matches else None

    async def _look_up(self, token: str) -> _Verified | None:
        row = await self._fetch_row(
            "SELECT users.name, users.roles,"
            " coalesce(extract(epoch FROM tokens.expires_at - now())::float8, 'Infinity') AS left_s"
            " FROM tokens JOIN users ON users.id = tokens.user_id"
            " WHERE tokens.digest = $1 AND tokens.revoked_at IS NULL AND users.disabled_at IS NULL"
            " AND (tokens.expires_at IS NULL OR tokens.expires_at > now())",
            _digest(token),
        )
        return None if row is None else _Verified(_caller(row["name"], row["roles"]), row["left_s"])

    async def _fetch_row(self, query: str, *arguments: object) -> asyncpg.Record | None:
        if any(isinstance(argument, str) and "\x00" in argument for argument in arguments):
            return None  # PostgreSQL's text holds no NUL, so nobody has such a name
        async with borrowed(self._pool) as connection:
            with translated_errors():
                return await connection.fetchrow(query, *arguments)

    def _fingerprint(self, credential: Sequence[str]) -> bytes:
        text = "\x00".join(credential).encode("utf-8", "surrogatepass")
        return hmac.digest(self._key, text, "sha256")


def _matches(password_hash: str, password: str) -> bool:
    try:
        return _hasher.verify(password_hash, password.encode("utf-8", "surrogatepass"))
    except (VerifyMismatchError, InvalidHashError):
        return False


def _caller(name: str, roles: Sequence[str]) -> Caller:
    return Caller(name, frozenset(Role(role) for role in roles))


def _new_token() -> str:
    return f"{TOKEN_PREFIX}_{secrets.token_urlsafe(32)}"


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


async def add_user(connection: asyncpg.Connection, *, name: str, roles: Sequence[str], password: str | None) -> None:
    """Create a user; one without a password logs in at an OpenID provider, or has tokens.

    Raises
    ------
    InvalidInputError
        The name is taken or no name, a role is unknown, the password too short.
    """
    if not _NAME.fullmatch(name):
        raise InvalidInputError("NAME", name, "letters, digits, _ . @ + - (at most 64, none of . @ + - first)")
    unknown = sorted(set(roles) - set(Role))
    if unknown or not roles:
        raise InvalidInputError("--role", ",".join(unknown) or "empty", f"some of {', '.join(Role)}")
    if password is not None and len(password) < MIN_PASSWORD_CHARACTERS:
        raise InvalidInputError(
            "password", f"{len(password)} characters long", f"at least {MIN_PASSWORD_CHARACTERS} characters"
        )
    hashed = "" if password is None else await asyncio.to_thread(_hasher.hash, password)
    with translated_errors():
        row = await connection.fetchrow(
            "INSERT INTO users (name, password_hash, roles) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING RETURNING id",
            name,
            hashed,
            sorted(set(roles)),
        )
    if row is None:
        raise InvalidInputError("NAME", name, "a name that no user has yet")


async def list_users(connection: asyncpg.Connection) -> list[dict[str, Any]]:
    """Return all users: name, roles, created_at, disabled_at."""
    with translated_errors():
        rows = await connection.fetch("SELECT name, roles, created_at, disabled_at FROM users ORDER BY name")
    return [dict(row) for row in rows]


async def set_disabled(connection: asyncpg.Connection, *, name: str, disabled: bool) -> None:
    """Close or reopen an account; running services notice within their `credential_cache_s`. Its sessions end for good.

    Raises
    ------
    InvalidInputError
        There is no such user.
    """
    with translated_errors():
        row = await connection.fetchrow(
            "WITH account AS (UPDATE users SET disabled_at = $2 WHERE name = $1 RETURNING id),"
            " ended AS (UPDATE tokens SET revoked_at = now() FROM account"
            " WHERE user_id = account.id AND is_session AND revoked_at IS NULL)"
            " SELECT id FROM account",
            name,
            datetime.now(UTC) if disabled else None,
        )
    if row is None:
        raise InvalidInputError("NAME", name, "the name of a user")


async def create_token(connection: asyncpg.Connection, *, name: str, expires_at: datetime | None) -> str:
    """Return a new token of a user; it is stored as a hash and cannot be shown again.

    Raises
    ------
    InvalidInputError
        There is no such user.
    """
    token = _new_token()
    with translated_errors():
        row = await connection.fetchrow(
            "INSERT INTO tokens (user_id, digest, expires_at) SELECT id, $2, $3 FROM users WHERE name = $1"
            " RETURNING id",
            name,
            _digest(token),
            expires_at,
        )
    if row is None:
        raise InvalidInputError("NAME", name, "the name of a user")
    return token


async def list_tokens(connection: asyncpg.Connection) -> list[dict[str, Any]]:
    """Return all tokens of programs: id, name of the user, created_at, expires_at, revoked_at."""
    with translated_errors():
        rows = await connection.fetch(
            "SELECT tokens.id, users.name, tokens.created_at, expires_at, revoked_at"
            " FROM tokens JOIN users ON users.id = user_id WHERE NOT is_session ORDER BY tokens.id"
        )
    return [dict(row) for row in rows]


async def revoke_token(connection: asyncpg.Connection, *, token_id: int) -> None:
    """End a token.

    Raises
    ------
    InvalidInputError
        There is no such token.
    """
    with translated_errors():
        row = await connection.fetchrow(
            "UPDATE tokens SET revoked_at = coalesce(revoked_at, now()) WHERE id = $1 RETURNING id", token_id
        )
    if row is None:
        raise InvalidInputError("ID", token_id, "the number of a token")
