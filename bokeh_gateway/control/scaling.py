"""As many workers as a pool should have: more under load, fewer by draining when there is little to do.

How many that is is decided in `balance.recycle`.  Also what a reload changes of `workers` comes about here, so that the
workers that stay are not touched.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

from bokeh_gateway.balance.board import PAGES, TUNNELS, Board
from bokeh_gateway.balance.pool import Worker
from bokeh_gateway.balance.recycle import workers_wanted
from bokeh_gateway.config.schema import Pool
from bokeh_gateway.control.leaving import Leaving
from bokeh_gateway.control.pools import Group, Pools, seat
from bokeh_gateway.control.worker_life import why_worn_out

log = logging.getLogger(__name__)

CALM: Final = 10.0
"""Seconds for which a worker fewer must do before one is drained: a page that is loaded again is no lull."""


class Scaling:
    """Of all pools.

    Args:
        linger: gives the seconds that sessions have to end at a worker that is one too many.
        passed_over: gives a pool's worker that is there in another one's place and does not count.
    """

    def __init__(
        self,
        pools: Pools,
        board: Board,
        leaving: Leaving,
        linger: Callable[[], float],
        passed_over: Callable[[str], Worker | None],
    ) -> None:
        self._pools = pools
        self._board = board
        self._leaving = leaving
        self._linger = linger
        self._passed_over = passed_over
        self._calm_since: dict[str, float] = {}
        self._crowded: set[str] = set()
        """Pools for which no further worker could be started; said once."""

    def look(self) -> None:
        """Once a second."""
        for settings, group in self._pools.tended():
            self._fit(settings, group)

    def _fit(self, settings: Pool, group: Group) -> None:
        members = self._members(group)
        sessions = sum(self._sessions(worker) for worker in members)
        factor = settings.load_factor
        wanted = settings.at_start
        if factor is not None:
            wanted = workers_wanted(sessions, len(members), factor, settings.fewest, settings.most)
        if wanted >= len(members):
            self._calm_since.pop(group.pool, None)
        if wanted == len(members):
            return
        load = "" if factor is None else f", {sessions} sessions, load_factor = {factor}"
        why = f"[pool.{group.pool}] {len(members)} workers, {wanted} wanted{load}"
        if wanted > len(members):
            for _ in range(wanted - len(members)):
                self._more(group, why)
        elif factor is None or self._is_calm(group.pool):
            for _ in range(len(members) - wanted):
                self._fewer(settings, group, why)

    def _members(self, group: Group) -> list[Worker]:
        """Those that stay: without what drains, and without a successor whose predecessor still counts."""
        passed_over = self._passed_over(group.pool)
        return [w for w in group.workers if w.name not in group.departing and w is not passed_over]

    def _sessions(self, worker: Worker) -> int:
        return self._board.total(TUNNELS, worker.index) + self._board.total(PAGES, worker.index)

    def _is_calm(self, pool: str) -> bool:
        now = time.monotonic()
        if now - self._calm_since.setdefault(pool, now) < CALM:
            return False
        del self._calm_since[pool]
        return True

    def _more(self, group: Group, why: str) -> None:
        """Takes back a worker that drains, where one is as good as new; else starts one."""
        for worker in group.workers:
            if self._as_good_as_new(group, worker) and self._leaving.recall(group, worker):
                log.warning("worker %s drains no longer: %s", worker.name, why)
                return
        taken = {seat(worker.name)[0] for worker in group.workers}
        number = next(number for number in range(1, len(taken) + 2) if number not in taken)
        fresh = self._pools.add(group, number)
        if fresh is not None:
            self._crowded.discard(group.pool)
            log.warning("worker %s is started: %s", fresh.name, why)
        elif group.pool not in self._crowded:
            self._crowded.add(group.pool)
            log.error("pool %s: no further worker can be started: %s", group.pool, why)

    def _as_good_as_new(self, group: Group, worker: Worker) -> bool:
        drains = worker.name in group.departing and worker in self._pools.ready
        return drains and self._worn_out(group, worker) is None

    def _worn_out(self, group: Group, worker: Worker) -> str | None:
        if group.supervisor is None:
            return None
        slot = group.supervisor.slots[group.workers.index(worker)]
        return why_worn_out(self._pools.settings(group.pool), worker, slot, self._board)

    def _fewer(self, settings: Pool, group: Group, why: str) -> None:
        """Drains the worker that is missed least: one that does not serve, or is worn out, or has the fewest sessions.

        Never the last one that is ready.
        """
        members = self._members(group)
        serving = [worker for worker in members if worker in self._pools.ready]

        def missed(worker: Worker) -> tuple[bool, bool, int, int]:
            worn = self._worn_out(group, worker) is not None
            return worker in self._pools.ready, not worn, self._sessions(worker), -seat(worker.name)[0]

        worker = min(members, key=missed)
        if serving == [worker]:
            return
        log.warning("worker %s drains: %s", worker.name, why)
        self._leaving.begin(group, worker, self._linger())
