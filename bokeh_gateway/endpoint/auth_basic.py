"""[auth.basic]: names and passwords.  Hashing is slow by intent, so it is done in threads, and once for a while.

Wrong ones are counted by client and by user, and nobody gets more tries than those by trying many at once.  What is
remembered of a verified password is a hash under a key that ends with the process.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

from tornado.httputil import HTTPMessageDelegate

from bokeh_gateway.endpoint.auth_gate import Known
from bokeh_gateway.endpoint.auth_guard import Guard, Try
from bokeh_gateway.endpoint.auth_users import Users
from bokeh_gateway.http.forwarded import network
from bokeh_gateway.policy.credentials import authorization, basic
from bokeh_gateway.policy.identity import Identity, Requirement, without
from bokeh_gateway.policy.password import scrypt_hash, verify
from bokeh_gateway.policy.verdict import Deny

if TYPE_CHECKING:
    from bokeh_gateway.config.auth import Basic
    from bokeh_gateway.policy.limits import Counts
    from bokeh_gateway.wire.exchange import Exchange

REMEMBERED: Final = 4096
"""Verified passwords; the oldest are forgotten first."""
THREADS: Final = 2
"""One hash takes 32 MiB and 50 ms of a core: more at once would starve the event loop."""
MOST_WAITING: Final = 64
"""Passwords that wait for a thread; what is above is refused for now, or guesses would pile up."""
_LONGEST_USER: Final = 100
"""Characters of a name under which failures are counted: guesses may name anybody."""
_AUTHORIZATION: Final = frozenset({b"authorization"})


class BasicMethod:
    """Knows who sent a request by name and password."""

    name = "basic"

    def __init__(self, settings: Basic, users: Users, wrong: Counts) -> None:
        """`wrong`: where wrong passwords are counted."""
        realm = settings.realm.replace("\\", "\\\\").replace('"', '\\"')
        self.challenge = f'WWW-Authenticate: Basic realm="{realm}", charset="UTF-8"\r\n'.encode()
        self._users = users
        self._groups = settings.groups
        self._cache = settings.cache
        self._key = os.urandom(32)
        self._known: dict[bytes, tuple[Identity, float]] = {}
        self._running: dict[bytes, asyncio.Task[bool]] = {}
        # Somebody who does not exist takes as long as somebody who does.
        self._nobody = scrypt_hash(os.urandom(8).hex(), os.urandom(16))
        self._threads = ThreadPoolExecutor(THREADS, "password")
        limit = settings.failures_per_minute
        self._guard = None if limit is None else Guard(limit, wrong)

    def look(self, exchange: Exchange, wanted: Requirement, now: float) -> Known | Coroutine[None, None, Known]:
        credentials = authorization(exchange.head, b"basic")
        if credentials is None or isinstance(credentials, Deny):
            return credentials
        pair = basic(credentials)
        if pair is None:
            return Deny(401, "auth-malformed", "the Basic credential is no base64 of name:password")
        clock = exchange.connection.edge.sweep.now
        if self._users.refresh(clock):
            self._known.clear()
        digest = hashlib.blake2b(credentials, key=self._key, digest_size=32).digest()
        known = self._known.get(digest)
        if known is not None and clock < known[1]:
            return known[0]
        if len(self._running) >= MOST_WAITING and digest not in self._running:
            return Deny(503, "auth-busy", f"{MOST_WAITING} passwords are being verified already")
        return self._verify(exchange, *pair, digest)

    async def _verify(self, exchange: Exchange, user: str, password: str, digest: bytes) -> Known:
        # What was right before is no guess: its user is not kept out by somebody else's guesses.
        names = [network(exchange.client), *([] if digest in self._known else [f"user {user[:_LONGEST_USER]}"])]
        sweep, guard = exchange.connection.edge.sweep, self._guard
        task: asyncio.Task[bool] | None = self._running.get(digest)
        admitted: Try | None = None
        if task is None and guard is not None:
            found = await guard.admit(names, sweep)
            if isinstance(found, Deny):
                return found
            admitted, task = found, self._running.get(digest)
            if task is not None:
                guard.unused(found, sweep)
        hashes = self._users.hashes
        if task is None:
            task = asyncio.get_running_loop().create_task(self._hash(password, hashes.get(user, self._nobody)))
            self._running[digest] = task
            task.add_done_callback(lambda _: self._running.pop(digest, None))
            if guard is not None and admitted is not None:
                guard.follow(admitted, task, user in hashes, sweep)
        good = await asyncio.shield(task)
        if not good or hashes.get(user) is None:
            self._known.pop(digest, None)
            return Deny(401, "auth-password", f"wrong name or password for {user!r}")
        groups = frozenset(group for group, members in self._groups.items() if user in members)
        identity = Identity(user, self.name, groups)
        if hashes is self._users.hashes:
            self._remember(digest, identity, sweep.now + self._cache)
        return identity

    def _remember(self, digest: bytes, identity: Identity, until: float) -> None:
        if digest not in self._known and len(self._known) >= REMEMBERED:
            del self._known[next(iter(self._known))]
        self._known[digest] = (identity, until)

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
