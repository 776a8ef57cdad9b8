"""Requests that wait for a worker instead of failing: for one that starts, or that was up a moment ago.

They are tried again, in the order of their arrival, whenever a worker comes into use.
"""

from __future__ import annotations

import logging
from typing import Protocol

from bokeh_gateway.balance.pool import Pool

log = logging.getLogger(__name__)


class Waiter(Protocol):
    """A request that found no worker."""

    def try_again(self) -> bool:
        """A worker came into use: whether this request found one now."""
        ...

    def waited_in_vain(self, why: str) -> None:
        """Its time is over."""
        ...


class WaitingRoom:
    """All requests that wait, of one gateway process."""

    __slots__ = ("_pools", "_said")

    def __init__(self) -> None:
        # A dict keeps the order of arrival, and forgets one in the middle at once.
        self._pools: dict[Pool, dict[Waiter, float]] = {}
        self._said: set[Pool] = set()

    def __len__(self) -> int:
        return sum(map(len, self._pools.values()))

    def enter(self, pool: Pool, waiter: Waiter, now: float) -> bool:
        """Whether `waiter` may wait; it will be tried again, or told that it waited in vain."""
        if not pool.hold or not pool.worth_waiting(now):
            return False
        self._pools.setdefault(pool, {})[waiter] = now + pool.hold
        if pool not in self._said:
            self._said.add(pool)
            log.warning(
                "pool %s: no worker can be used now; requests wait for one up to [pool.%s] hold = %g s",
                pool.name,
                pool.name,
                pool.hold,
            )
        return True

    def leave(self, pool: Pool, waiter: Waiter) -> None:
        """Its client is gone."""
        self._pools.get(pool, {}).pop(waiter, None)

    def worker_came(self, pool: Pool) -> None:
        """A worker came into use: all try again, until one finds none."""
        waiting = self._pools.get(pool)
        if not waiting:
            self._said.discard(pool)
            return
        for waiter in list(waiting):
            deadline = waiting.pop(waiter, None)
            if deadline is not None and not waiter.try_again():
                self._pools[pool] = {waiter: deadline} | waiting
                return
        self._said.discard(pool)
        log.warning("pool %s: a worker can be used again", pool.name)

    def expire(self, now: float) -> None:
        """Sends away whose time is over, and all that wait for nothing any more."""
        for pool, waiting in self._pools.items():
            if not waiting:
                continue
            hopeless = not pool.worth_waiting(now)
            why = (
                "no worker is about to come"
                if hopeless
                else f"none came within [pool.{pool.name}] hold = {pool.hold:g} s"
            )
            for waiter, deadline in list(waiting.items()):
                if hopeless or deadline <= now:
                    del waiting[waiter]
                    waiter.waited_in_vain(why)
