"""[auth.basic]: names and passwords.  Hashing is slow by intent, so it is done in threads, and once for a while.

What is remembered of a verified password is a hash under a key that ends with the process.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tornado.httputil import HTTPMessageDelegate

from bokeh_gateway.endpoint.auth_gate import Known
from bokeh_gateway.errors import ConfigError
from bokeh_gateway.policy.credentials import authorization, basic
from bokeh_gateway.policy.identity import Identity, Requirement, valid_user, without
from bokeh_gateway.policy.password import BadHash, check_form, scrypt_hash, verify
from bokeh_gateway.policy.verdict import Deny

if TYPE_CHECKING:
    from bokeh_gateway.config.auth import Basic
    from bokeh_gateway.wire.exchange import Exchange

REMEMBERED: Final = 4096
"""Verified passwords; the oldest are forgotten first."""
THREADS: Final = 2
"""One hash takes 32 MiB and 50 ms of a core: more at once would starve the event loop."""
MOST_WAITING: Final = 64
"""Passwords that wait for a thread; what is above is refused for now, or guesses would pile up."""
_AUTHORIZATION: Final = frozenset({b"authorization"})


def read_users(settings: Basic) -> dict[str, str]:
    """Name and hash of everybody.

    Raises:
        ConfigError: a hash or a line is no good; shows no hash.
    """
    users = {name: hashed.get_secret_value() for name, hashed in settings.users.items()}
    for name, hashed in users.items():
        _check(f"auth.basic.users.{name}", hashed)
    if settings.file is not None:
        users |= _read_file(settings.file)
    return users


def _read_file(path: Path) -> dict[str, str]:
    users: dict[str, str] = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError("auth.basic.file", str(path), f"a text file that can be read: {exc}") from None
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        name, colon, hashed = line.strip().partition(":")
        key = f"auth.basic.file line {number}"
        if not colon or valid_user(name) is None:
            raise ConfigError(key, "***", "name:hash")
        _check(key, hashed)
        users[name] = hashed
    return users


def _check(key: str, hashed: str) -> None:
    try:
        check_form(hashed)
    except BadHash as bad:
        raise ConfigError(key, "***", str(bad)) from None


class BasicMethod:
    """Knows who sent a request by name and password."""

    name = "basic"

    def __init__(self, settings: Basic, users: Mapping[str, str]) -> None:
        realm = settings.realm.replace("\\", "\\\\").replace('"', '\\"')
        self.challenge = f'WWW-Authenticate: Basic realm="{realm}", charset="UTF-8"\r\n'.encode()
        self._users = users
        self._groups: dict[str, frozenset[str]] = {
            user: frozenset(group for group, members in settings.groups.items() if user in members) for user in users
        }
        self._cache = settings.cache
        self._key = os.urandom(32)
        self._known: dict[bytes, tuple[Identity, float]] = {}
        self._running: dict[bytes, asyncio.Task[bool]] = {}
        # Somebody who does not exist takes as long as somebody who does.
        self._nobody = scrypt_hash(os.urandom(8).hex(), os.urandom(16))
        self._threads = ThreadPoolExecutor(THREADS, "password")

    def look(self, exchange: Exchange, wanted: Requirement, now: float) -> Known | Coroutine[None, None, Known]:
        credentials = authorization(exchange.head, b"basic")
        if credentials is None or isinstance(credentials, Deny):
            return credentials
        pair = basic(credentials)
        if pair is None:
            return Deny(401, "auth-malformed", "the Basic credential is no base64 of name:password")
        clock = exchange.connection.edge.sweep.now
        digest = hashlib.blake2b(credentials, key=self._key, digest_size=32).digest()
        known = self._known.get(digest)
        if known is not None:
            identity, until = known
            if clock < until:
                return identity
            del self._known[digest]
        if len(self._running) >= MOST_WAITING and digest not in self._running:
            return Deny(503, "auth-busy", f"{MOST_WAITING} passwords are being verified already")
        return self._verify(*pair, digest, clock)

    async def _verify(self, user: str, password: str, digest: bytes, clock: float) -> Known:
        task = self._running.get(digest)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._hash(password, self._users.get(user, self._nobody)))
            self._running[digest] = task
            task.add_done_callback(lambda _: self._running.pop(digest, None))
        good = await asyncio.shield(task)
        if not good or user not in self._users:
            return Deny(401, "auth-password", f"wrong name or password for {user!r}")
        identity = Identity(user, self.name, self._groups[user])
        if len(self._known) >= REMEMBERED:
            del self._known[next(iter(self._known))]
        self._known[digest] = (identity, clock + self._cache)
        return identity

    async def _hash(self, password: str, hashed: str) -> bool:
        return await asyncio.get_running_loop().run_in_executor(self._threads, verify, password, hashed)

    def login(self, exchange: Exchange, wanted: Requirement, host: bytes) -> str | None:
        return None

    def settle(self, exchange: Exchange, identity: Identity) -> HTTPMessageDelegate | None:
        return None

    def strip(self, exchange: Exchange) -> None:
        head = exchange.head
        if authorization(head, b"basic") is not None:
            head.plain = without(head.plain, _AUTHORIZATION)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
