"""How many wrong passwords a client, and the guesses at one user, may have in a minute.

Those that are being verified count as wrong until they are known to be right: a client with few tries left waits for
them, so that a hundred guesses at once are not a hundred tries, and a hundred people of one office all get in.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from bokeh_gateway.endpoint.auth_gate import Refused
from bokeh_gateway.policy.limits import PerMinute

if TYPE_CHECKING:
    from bokeh_gateway.policy.verdict import Deny
    from bokeh_gateway.wire.sweep import Sweep


class Guard:
    """Counts failures by name: a client's address or a user's."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._failures = PerMinute(limit)
        self._running: dict[str, set[asyncio.Task[bool]]] = {}

    async def admit(self, names: Sequence[str], sweep: Sweep) -> Deny | None:
        """None as soon as one more try is allowed to all of `names`; else what to answer."""
        while True:
            wait = max(self._failures.wait(name, sweep.now) for name in names)
            if wait:
                setting = f"[auth.basic] failures_per_minute = {self._limit}"
                detail = f"{self._limit} wrong passwords in a minute; tries for this client or user wait {wait} s"
                return Refused(429, "auth-failures", detail, setting, headers=b"Retry-After: %d\r\n" % wait)
            pending: set[asyncio.Task[bool]] = set()
            for name in names:
                running = self._running.get(name, ())
                if len(running) >= self._failures.left(name, sweep.now):
                    pending.update(running)
            if not pending:
                return None
            await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)

    def follow(self, names: Sequence[str], task: asyncio.Task[bool], exists: bool, sweep: Sweep) -> None:
        """`task` verifies a password for all of `names`; it cannot be right where the user does not exist."""
        for name in names:
            self._running.setdefault(name, set()).add(task)

        def done(task: asyncio.Task[bool]) -> None:
            wrong = not exists or task.cancelled() or task.exception() is not None or not task.result()
            for name in names:
                running = self._running[name]
                running.discard(task)
                if not running:
                    del self._running[name]
                if wrong:
                    self._failures.count(name, sweep.now)

        # Before anybody who waits for the task goes on.
        task.add_done_callback(done)
