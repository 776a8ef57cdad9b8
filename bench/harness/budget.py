"""When a run of load ends: after some seconds, after some units, whichever is set first."""

from __future__ import annotations

import time


class Budget:
    """Hands out units of work until time or count is used up."""

    __slots__ = ("_left", "_seconds", "_until")

    def __init__(self, *, seconds: float = 60.0, count: int | None = None) -> None:
        self._seconds = seconds
        self._until = time.perf_counter_ns() + int(seconds * 1e9)
        self._left = count if count is not None else 1 << 62

    def take(self) -> bool:
        """Whether one more unit may begin."""
        if self._left <= 0 or time.perf_counter_ns() > self._until:
            return False
        self._left -= 1
        return True

    def units(self, rate: float) -> int:
        """How many units fit, for work that comes at `rate` a second whatever the load does."""
        return min(self._left, round(self._seconds * rate))
