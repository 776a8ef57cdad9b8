"""How many wrong passwords a client, and the guesses at one user, may have in a minute, in all processes together.

Those that are being verified count as wrong until they are known to be right: a client with few tries left waits for
them, so that a hundred guesses at once are not a hundred tries, and a hundred people of one office all get in.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bokeh_gateway.endpoint.auth_gate import Refused
from bokeh_gateway.policy.limits import Counts, PerMinute

if TYPE_CHECKING:
    from bokeh_gateway.policy.verdict import Deny
    from bokeh_gateway.wire.sweep import Sweep

LOOK: Final = 0.1
"""Seconds between two looks at what other processes verify."""
PATIENCE: Final = 10.0
"""Seconds for others to end; then one of them was killed, and what it verified counts until the minute is over."""


@dataclass(frozen=True, slots=True)
class Try:
    """One that was admitted."""

    names: Sequence[str]
    begun: Sequence[float]


class Guard:
    """Counts failures by name: a client's address or a user's."""

    def __init__(self, limit: int, counts: Counts) -> None:
        self._limit = limit
        self._failures = PerMinute(limit, counts)
        self._running: dict[str, set[asyncio.Task[bool]]] = {}

    async def admit(self, names: Sequence[str], sweep: Sweep) -> Try | Deny:
        """As soon as one more try is allowed to all of `names`; else what to answer.

        Whoever gets a `Try` gives it to `follow` or to `unused`, at once.
        """
        looks = int(PATIENCE / LOOK)
        while True:
            begun = self._failures.begin(names, sweep.now)
            if begun is not None:
                return Try(names, begun)
            wait = self._failures.wait(names, sweep.now)
            pending = set[asyncio.Task[bool]]().union(*(self._running.get(name, ()) for name in names))
            if wait or not (pending or looks):
                return self._refused(max(wait, 1))
            if pending:
                await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            else:
                looks -= 1
                await asyncio.sleep(LOOK)

    def _refused(self, wait: int) -> Deny:
        setting = f"[auth.basic] failures_per_minute = {self._limit}"
        detail = f"{self._limit} wrong passwords in a minute; tries for this client or user wait {wait} s"
        return Refused(429, "auth-failures", detail, setting, headers=b"Retry-After: %d\r\n" % wait)

    def unused(self, admitted: Try, sweep: Sweep) -> None:
        """Nothing is verified."""
        self._failures.end(admitted.names, admitted.begun, False, sweep.now)

    def follow(self, admitted: Try, task: asyncio.Task[bool], exists: bool, sweep: Sweep) -> None:
        """`task` verifies the password; it cannot be right where the user does not exist."""
        for name in admitted.names:
            self._running.setdefault(name, set()).add(task)

        def done(task: asyncio.Task[bool]) -> None:
            # A reload that ends the verifying has told nobody whether it was right.
            wrong = not task.cancelled() and (not exists or task.exception() is not None or not task.result())
            for name in admitted.names:
                running = self._running[name]
                running.discard(task)
                if not running:
                    del self._running[name]
            self._failures.end(admitted.names, admitted.begun, wrong, sweep.now)

        # Before anybody who waits for the task goes on.
        task.add_done_callback(done)
