"""One pass a second over everything that has a deadline: no timer per request, connection or message."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

NEVER: Final = float("inf")


class Due(Protocol):
    """Something with a deadline on the loop's clock (seconds, monotonic)."""

    due: float

    def expire(self, now: float) -> None:
        """`due` has passed: act, or set a later `due`."""


class Sweep:
    """Calls `expire` on what is due: never early, and within two periods after the deadline passed."""

    def __init__(self, loop: asyncio.AbstractEventLoop, period: float = 1.0) -> None:
        self.now = loop.time()
        """The loop's time at the last pass: near enough for deadlines, and free to read."""
        self._loop = loop
        self._period = period
        self._items: set[Due] = set()
        self._jobs: list[Callable[[float], None]] = []
        self._handle: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self._handle = self._loop.call_later(self._period, self._run)

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def watch(self, item: Due) -> None:
        self._items.add(item)

    def forget(self, item: Due) -> None:
        self._items.discard(item)

    def every(self, job: Callable[[float], None]) -> None:
        """Runs `job(now)` at each pass."""
        self._jobs.append(job)

    def _run(self) -> None:
        self._handle = self._loop.call_later(self._period, self._run)
        # Deadlines were set by `self.now`, which is up to one period old: what was due by then has had its time.
        latest, now = self.now, self._loop.time()
        self.now = now
        for item in [item for item in self._items if item.due <= latest]:
            item.expire(now)
        for job in self._jobs:
            job(now)
