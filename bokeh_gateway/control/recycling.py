"""Replaces worn-out workers, one at a time in a pool: start a successor, wait until it is ready, drain the old one.

When a worker is worn out is decided in `balance.recycle`.  A successor that does not get ready is ended, the old worker
serves on, and it is tried again later: a worker that is worn out still serves better than none.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from bokeh_gateway.balance.board import Board
from bokeh_gateway.balance.pool import Worker
from bokeh_gateway.config.schema import Pool
from bokeh_gateway.control.leaving import Leaving
from bokeh_gateway.control.pools import Group, Pools, seat
from bokeh_gateway.control.restart import RestartSettings, restart_delay
from bokeh_gateway.control.worker_life import why_worn_out
from bokeh_gateway.control.workers import EventKind, Slot
from bokeh_gateway.units import format_duration

log = logging.getLogger(__name__)

AGAIN: Final = RestartSettings(first_delay=5.0, max_delay=300.0)
"""When a successor is tried again after those before it did not get ready."""
LOOK_EVERY: Final = 5
"""Seconds between two looks at what workers have used up: the kernel is asked about every process for it."""
LINGERING: Final = 2
"""Replaced workers that may still have sessions, for each worker that serves; then it waits until one of them ends."""


@dataclass(slots=True)
class Succession:
    """One that is under way."""

    group: Group
    old: Worker
    new: Worker
    slot: Slot


class Recycling:
    """Of all pools.

    Args:
        linger: gives the seconds that sessions have to end at a worker that was replaced.
        replaced: told the pool of each worker that was.
    """

    def __init__(
        self,
        pools: Pools,
        board: Board,
        leaving: Leaving,
        linger: Callable[[], float],
        replaced: Callable[[str], None],
    ) -> None:
        self._pools = pools
        self._board = board
        self._leaving = leaving
        self._linger = linger
        self._replaced = replaced
        self._under_way: dict[str, Succession] = {}
        self._failures: dict[str, int] = {}
        self._not_before: dict[str, float] = {}
        self._turn = 0
        self._waits: set[str] = set()
        """Pools of which it was said that they wait."""

    def successor(self, pool: str) -> Worker | None:
        """A worker that starts in another one's place."""
        succession = self._under_way.get(pool)
        return None if succession is None else succession.new

    def look(self) -> None:
        """Once a second."""
        for pool in list(self._under_way):
            self._follow(pool)
        self._turn += 1
        if self._turn % LOOK_EVERY:
            return
        for settings, group in self._pools.tended():
            if group.pool not in self._under_way and time.monotonic() >= self._not_before.get(group.pool, 0.0):
                self._begin(settings, group)

    def _begin(self, settings: Pool, group: Group) -> None:
        """Starts the successor of the first worker that is worn out."""
        worn = next(self._worn_out(settings, group), None)
        if worn is None or self._too_many(group):
            return
        old, why = worn
        new = self._pools.add(group, seat(old.name)[0])
        if new is None or group.supervisor is None:
            self._try_again(group.pool)
            return
        log.warning("worker %s: %s ([pool.%s]); %s is started in its place", old.name, why, group.pool, new.name)
        self._under_way[group.pool] = Succession(group, old, new, group.supervisor.slots[-1])

    def _worn_out(self, settings: Pool, group: Group) -> Iterator[tuple[Worker, str]]:
        if group.supervisor is None:
            return
        for worker, slot in zip(group.workers, group.supervisor.slots, strict=True):
            if worker in self._pools.ready and not worker.draining:
                why = why_worn_out(settings, worker, slot, self._board)
                if why is not None:
                    yield worker, why

    def _too_many(self, group: Group) -> bool:
        """Each that drains is a process with its memory, and sessions can last for a working day."""
        pool, leaving = group.pool, len(group.departing)
        if leaving < LINGERING * (len(group.workers) - leaving):
            self._waits.discard(pool)
            return False
        if pool not in self._waits:
            self._waits.add(pool)
            log.warning(
                "pool %s: %d replaced workers still have sessions; no further one is replaced until one of them ends"
                " ([timeouts] reload_linger = %s)",
                pool,
                leaving,
                format_duration(self._linger()),
            )
        return True

    def _follow(self, pool: str) -> None:
        succession = self._under_way[pool]
        group, old, new = succession.group, succession.old, succession.new
        if group not in self._pools.all_groups() or new not in group.workers or new.draining:
            del self._under_way[pool]  # another generation takes over from both
        elif succession.slot.state == EventKind.READY:
            del self._under_way[pool]
            self._failures.pop(pool, None)
            self._replaced(pool)
            if old in group.workers and not old.draining:
                log.warning(
                    "worker %s is ready; %s drains: its sessions have [timeouts] reload_linger = %s to end",
                    new.name,
                    old.name,
                    format_duration(self._linger()),
                )
                self._leaving.begin(group, old, self._linger())
        elif succession.slot.first_outcome.is_set():
            del self._under_way[pool]
            wait = self._try_again(pool)
            log.error(
                "worker %s did not get ready; %s serves on, another successor is tried in %.0f s",
                new.name,
                old.name,
                wait,
            )
            self._leaving.begin(group, new, 0.0)

    def _try_again(self, pool: str) -> float:
        failures = self._failures[pool] = self._failures.get(pool, 0) + 1
        wait = restart_delay(failures, AGAIN, random.random())
        self._not_before[pool] = time.monotonic() + wait
        return wait
